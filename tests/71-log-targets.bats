#!/usr/bin/env bats
# 71-log-targets.bats: where the log goes: file, syslogd, standard error; what
# becomes of lines when these fail, and of the clients meanwhile (nothing).
# Rows I02, I04 to I06, I10, C10 and H08 of the fault matrix; the others, about
# the lines themselves, are in 70-log.bats.

# shellcheck disable=SC2034  # what the helpers read

load helper
load clients


eval "helper_$(declare -f setup)"
setup() {
	helper_setup
	mkdir "$D/logs"
	FILE=$D/logs/l
	HELPERS=()
}

# The log files hold the invariants too, above all I9.
teardown() {
	local f bad=0
	[ ${#HELPERS[@]} -eq 0 ] || kill -KILL "${HELPERS[@]}" 2>/dev/null || true
	DEADLINE=10
	check_invariants || bad=1
	for f in "$D"/logs/*; do
		[ ! -f "$f" ] || log_grammar "$f" >&2 || bad=1
	done
	return $bad
}

as_root() { [ "$(id -u)" -eq 0 ] || skip "needs root: $1"; }

has() { grep -aqE -- "$2" "$1"; }
count() { cat "${@:2}" | grep -acE -- "$1" || true; }
dropped() { status | sed -n 's/^log dropped: //p'; }
some_dropped() { [ "$(dropped)" -gt 0 ]; }
# The sum of what the log says was lost.
said_dropped() {
	sed -nE 's/.*log lines dropped count=([0-9]+).*/\1/p' "$@" |
	    awk '{ n += $1 } END { print n + 0 }'
}

start_file() { start_greet -o "log file $FILE" "$@"; }

# refused PATH WHY: a start that logs there fails, with the reason.
refused() {
	: > "$LOG"
	start_quietly -l 127.0.0.1:0 -o "log file $1" greet
	ended 1
	cat "$LOG"
	grep -qxF "preforkd: log $2" "$LOG"
	[ ! -s "$D/addresses" ]
}

start_fixed() {
	local n=$1
	shift
	start -o "workers-min $n" -o "workers-max $n" -l 127.0.0.1:0 "$@"
}

# own_mounts COMMAND: the server gets a mount namespace of its own, in which
# this runs first; $ROOT is its root as seen from here.
own_mounts() {
	as_root 'a mount namespace'
	cat > "$D/server" <<-END
		#!/bin/sh -e
		exec unshare -m sh -ec '$1; exec "\$@"' sh "$PREFORKD" "\$@"
	END
	chmod +x "$D/server"
	PROGRAM=$D/server
}

# A /dev with little but the socket of a syslogd, which is ours.
own_dev() {
	local f
	as_root 'a mount namespace'
	mkdir "$D/dev"
	for f in null zero random urandom; do
		: > "$D/dev/$f"
	done
	own_mounts "for f in null zero random urandom; do
		mount --bind /dev/\$f $D/dev/\$f; done
		mount --rbind $D/dev /dev"
}

# A syslogd: each datagram a line of $D/syslog.
syslogd_begin() {
	: >> "$D/syslog"
	rm -f "$D/dev/log"
	python3 - "$D/dev" >> "$D/syslog" 3>&- <<-'END' &
		import os, socket, sys
		os.chdir(sys.argv[1])
		s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
		s.bind("log")
	os.chmod("log", 0o666)
		while True:
		    os.write(1, s.recv(65536) + b"\n")
	END
	SYSLOGD=$!
	HELPERS+=("$SYSLOGD")
	wait_for test -S "$D/dev/log"
}

syslogd_end() {
	kill -KILL "$SYSLOGD"
	wait "$SYSLOGD" || true
	rm -f "$D/dev/log"
}

# rotate N: rename and SIGUSR1; returns when the new file is in use.
rotate() {
	mv "$FILE" "$FILE.$1"
	kill -USR1 "$M"
	wait_for has "$FILE" 'notice: log reopened'
}

# every_line_once: the lines about clients are those of the clients, 1 to N.
every_line_once() {
	[ "$(said_dropped "$@")" -eq 0 ] || return 1
	cat "$@" | grep -aoE 'info: closed .* client=[0-9]+' | sed 's/.*=//' |
	    sort -n > "$D/numbers"
	seq "$(stormed ok)" | cmp - "$D/numbers"
}

@test "the default is syslog, and standard error with -d" {
	"$PREFORKD" -nn -l :80 greet | grep -qx 'log syslog daemon'
	"$PREFORKD" -d -nn -l :80 greet | grep -qx 'log stderr'
}

@test "lines go to the file alone, which is not for everybody" {
	umask 0
	start_file
	ask x > /dev/null
	wait_for has "$FILE" 'info: closed .*first="x'
	has "$FILE" 'notice: serving '
	[ ! -s "$LOG" ]
	[ "$(stat -c %a "$FILE")" = 640 ]
	# Whoever reads the caller's standard error is not kept waiting.
	[ "$(readlink "/proc/$(logger_pid)/fd/2")" = /dev/null ]
	stop
	has "$FILE" 'notice: stopped '
}

@test "a check of the configuration touches no log" {
	"$PREFORKD" -n -l :80 -o "log file $FILE" greet
	[ ! -e "$FILE" ]
}

@test "a start says why a log file cannot be opened" {
	if [ "$(id -u)" -eq 0 ]; then
		refused "$D/none/l" "directory $D/none: No such file or directory"
	else
		refused "$D/none/l" "file $D/none/l: No such file or directory"
	fi
	mkdir "$D/logs/dir"
	refused "$D/logs/dir" "file $D/logs/dir: Is a directory"
	mkfifo "$D/logs/fifo"
	refused "$D/logs/fifo" "file $D/logs/fifo: must be a regular file"
	ln -s "$D/target" "$D/logs/link"
	refused "$D/logs/link" "file $D/logs/link: must not be a symbolic link"
	[ ! -e "$D/target" ]
	rm -r "$D/logs"
}

@test "H08 I06 root refuses a log that another user could replace" {
	as_root 'other users'
	mkdir "$D/w"
	chown 65534 "$D/w"
	refused "$D/w/l" "directory $D/w: must belong to root"
	mkdir "$D/w/below"
	refused "$D/w/below/l" "directory $D/w: must belong to root"
	ln -s "$D/w/below" "$D/link"
	refused "$D/link/l" "directory $D/w: must belong to root"
	chown 0 "$D/w"
	chmod 1777 "$D/w"
	refused "$D/w/l" "directory $D/w: must be writable by root alone"
	chmod 775 "$D/w"
	chgrp 65534 "$D/w"
	refused "$D/w/l" "directory $D/w: must be writable by root alone"
	mkdir "$D/safe"
	ln -s "$D/safe" "$D/w/link"
	refused "$D/w/link/l" "directory $D/w: must be writable by root alone"
	[ -z "$(find "$D/w" "$D/safe" -name l)" ]
	echo theirs > "$FILE"
	chown 65534 "$FILE"
	refused "$FILE" "file $FILE: must belong to root or to the user of the server"
	[ "$(cat "$FILE")" = theirs ]
	rm "$FILE"
	# What is sticky may be on the way, such as /tmp.
	chmod 1777 "$D/w"
	start_greet -o "log file $D/w/below/l"
	wait_for has "$D/w/below/l" 'notice: serving'
}

@test "what a user starts logs where the user may write" {
	as_root 'another user'
	local u
	u=$(mktemp -d "/tmp/preforkd-test.XXXXXX")
	cp "$PREFORKD" "$u/preforkd"
	chown 65534 "$u"
	cat > "$D/server" <<-END
		#!/bin/sh
		exec setpriv --reuid 65534 --regid 65534 --clear-groups \
		    "$u/preforkd" "\$@" -o "status-file $u/status" greet
	END
	chmod +x "$D/server"
	PROGRAM=$D/server
	start -l 127.0.0.1:0 -o "log file $u/l"
	wait_for has "$u/l" 'notice: serving'
	mv "$u/l" "$u/l.1"
	kill -USR1 "$M"
	wait_for has "$u/l" 'notice: log reopened'
	stop
	rm -r "$u"
}

@test "a file that ends within a line gets a new one" {
	echo "2026-11-23T14:50:01.123Z preforkd[7] info: half a l" > "$FILE"
	truncate -s -1 "$FILE"
	start_file
	wait_for has "$FILE" 'notice: serving'
	[ "$(head -n 1 "$FILE")" = '2026-11-23T14:50:01.123Z preforkd[7] info: half a l' ]
}

@test "a reload to another log is refused, and everything stays" {
	start_file
	cat > "$D/conf" <<-END
		log file $FILE
		service greet
		listen 127.0.0.1:0
		run greet
	END
	stop
	start -f "$D/conf"
	sed -i "s|^log .*|log file $FILE.2|" "$D/conf"
	kill -HUP "$M"
	wait_for has "$FILE" 'error: reload failed, .*: log: a new value needs a restart'
	[ ! -e "$FILE.2" ]
	sed -i "s|^log .*|log file $FILE|" "$D/conf"
	kill -HUP "$M"
	wait_for has "$FILE" 'notice: reloaded'
}

@test "SIGUSR1 is nothing to a log that is no file" {
	start_greet
	kill -USR1 "$M"
	ask x > /dev/null
	wait_for logged 'info: closed '
	kill -USR1 "$(logger_pid)"
	ask y > /dev/null
	wait_for logged 'info: closed .*first="y'
	not logged 'log reopened|logger died'
}

@test "I04 rotations under load: every line whole, and once" {
	start_fixed 8 -o "log file $FILE" -o 'log-connections end' greet
	rotations=$(often 15 50)
	storm_begin -t 60 -c 32
	for ((i = 1; i <= rotations; i++)); do
		rotate "$i"
		sleep 0.04
	done
	storm_end
	stormed_well
	stop
	every_line_once "$FILE"*
	[ "$(count ' preforkd\[' "$FILE".*)" -gt $((rotations * 20)) ]
}

@test "I04 logrotate rotates with the file that comes with preforkd" {
	as_root 'logrotate does'
	sed -e "s|/var/log/preforkd/|$D/logs/|; s|/run/preforkd/|$D/|" \
	    -e 's/ adm$/ root/' "$TOP/etc/logrotate.d/preforkd" > "$D/logrotate"
	FILE=$D/logs/l.log
	start_fixed 4 -o "log file $FILE" -o 'log-connections end' greet
	printf %s "$M" > "$D/server.pid"
	echo 1 > "$D/stale.pid"
	# In place of the server, until it writes and locks one.
	exec 7<> "$D/server.pid"
	flock 7
	storm_begin -t 60 -c 8
	for i in 1 2 3 4 5; do
		logrotate -f -s "$D/state" "$D/logrotate"
		wait_for has "$FILE" 'notice: log reopened'
	done
	exec 7>&-
	storm_end
	stormed_well
	stop
	[ -e "$FILE.1" ]
	[ -e "$FILE.5.gz" ]
	gunzip "$FILE".*.gz
	every_line_once "$FILE"*
	[ "$(stat -c %a "$FILE")" = 640 ]
}

@test "I05 a directory that is gone: the old file goes on, with an error" {
	start_file
	mv "$D/logs" "$D/away"
	kill -USR1 "$M"
	wait_for has "$D/away/l" 'error: log not reopened, the old file goes on'
	has "$D/away/l" 'error: log .*: No such file or directory'
	ask x > /dev/null
	wait_for has "$D/away/l" 'info: closed .*first="x'
	mv "$D/away" "$D/logs"
	rotate 1
}

@test "I05 a disk without room for a new file: the old file goes on" {
	own_mounts "mkdir $D/small && mount -t tmpfs -o nr_inodes=3,mode=755 tmpfs $D/small"
	FILE=$D/small/l
	start_file
	ROOT=/proc/$M/root
	: > "$ROOT$D/small/filler"
	mv "$ROOT$FILE" "$ROOT$FILE.1"
	kill -USR1 "$M"
	wait_for has "$ROOT$FILE.1" 'error: log file .*: No space left on device'
	rm "$ROOT$D/small/filler"
	kill -USR1 "$M"
	wait_for has "$ROOT$FILE" 'notice: log reopened'
}

@test "I06 a symbolic link swapped in is not followed, and nothing is chowned" {
	as_root 'other users'
	start_file
	echo precious > "$D/target"
	ls -ln "$D/target" > "$D/before"
	mv "$FILE" "$FILE.1"
	ln -s "$D/target" "$FILE"
	kill -USR1 "$M"
	wait_for has "$FILE.1" 'error: log file .*: must not be a symbolic link'
	rm "$FILE"
	chown 65534 "$D/logs"
	kill -USR1 "$M"
	wait_for has "$FILE.1" 'error: log directory .*: must belong to root'
	[ ! -e "$FILE" ]
	ask x > /dev/null
	wait_for has "$FILE.1" 'info: closed '
	ls -ln "$D/target" | cmp - "$D/before"
}

@test "C10 a full disk costs lines, which are counted, and no client" {
	own_mounts "mkdir $D/small && mount -t tmpfs -o size=64k,mode=755 tmpfs $D/small"
	FILE=$D/small/l
	start_file -o 'log-connections end'
	ROOT=/proc/$M/root
	FILE=$ROOT$FILE
	head -c 40k /dev/zero > "$ROOT$D/small/filler"
	storm -n 2000 -c 8
	stormed_well
	wait_for some_dropped
	rm "$ROOT$D/small/filler"
	ask x > /dev/null
	wait_for has "$FILE" 'info: closed .*first="x'
	cp "$FILE" "$D/logs/l"
	FILE=$D/logs/l
	[ "$(said_dropped "$FILE")" -eq "$(dropped)" ]
	# The other lines: serving, and warnings of the pool.
	n=$(($(count 'info: closed ' "$FILE") + $(dropped)))
	[ "$n" -ge 2001 ] && [ "$n" -le 2010 ]
}

@test "a killed logger is replaced, with the same file" {
	start_file
	local l
	l=$(logger_pid)
	kill -KILL "$l"
	wait_for has "$FILE" 'error: the logger died and was replaced'
	[ "$(logger_pid)" != "$l" ]
	ask x > /dev/null
	wait_for has "$FILE" 'info: closed .*first="x'
	rotate 1
}

@test "the successor of a killed logger waits for the directory, and so do the lines" {
	start_file
	mv "$D/logs" "$D/away"
	kill -KILL "$(logger_pid)"
	ask x > /dev/null
	wait_for logger_pid_there
	ask y > /dev/null
	mv "$D/away" "$D/logs"
	wait_for has "$FILE" 'info: closed .*first="y'
	[ "$(dropped)" -eq 0 ]
	has "$FILE" 'info: closed .*first="x'
	has "$FILE" 'error: log .*: No such file or directory'
	[ "$(count 'error: the logger died' "$FILE")" -eq 1 ]
}
logger_pid_there() { [ -n "$(logger_pid)" ]; }

@test "syslogd gets each line with its priority, time and process" {
	own_dev
	syslogd_begin
	start_greet -o 'log syslog local3'
	ask x > /dev/null
	wait_for has "$D/syslog" "^<158>[A-Z][a-z]{2} [ 1-3][0-9] [0-9:]{8} preforkd\\[[0-9]+\\]: info: closed .*first=\"x"
	has "$D/syslog" "^<157>.* preforkd\\[$M\\]: notice: serving "
	w=$(one_worker)
	kill -STOP "$w"
	wait_for has "$D/syslog" "^<156>.* preforkd\\[$M\\]: warning: worker stopped"
	kill -KILL "$w"
	wait_for has "$D/syslog" "^<155>.* preforkd\\[$M\\]: error: worker died"
	stop
	has "$D/syslog" "notice: stopped "
	[ ! -s "$LOG" ]
	syslogd_end
}

@test "a real syslogd understands it" {
	own_dev
	start_greet -o 'log syslog'
	nsenter -m -t "$M" busybox syslogd -n -O "$D/messages" 3>&- &
	SYSLOGD=$!
	HELPERS+=("$SYSLOGD")
	wait_for test -S "$D/dev/log"
	ask x > /dev/null
	wait_for has "$D/messages" "daemon.info preforkd\\[[0-9]+\\]: info: closed .*first=\"x"
	syslogd_end
}

@test "I02 without syslogd lines are counted, and come when it is back" {
	own_dev
	start_greet -o 'log syslog' -o 'log-connections end'
	storm -n 100 -c 4
	wait_for some_dropped
	syslogd_begin
	ask x > /dev/null
	wait_for has "$D/syslog" 'info: closed .*first="x'
	syslogd_end
	storm -n 100 -c 4
	wait_for lost 201
	syslogd_begin
	ask y > /dev/null
	DEADLINE=5 wait_for has "$D/syslog" 'info: closed .*first="y'
	[ "$(said_dropped "$D/syslog")" -eq "$(dropped)" ]
	[ "$(count 'info: closed' "$D/syslog")" -eq 2 ]
}

@test "I02 a syslogd that was restarted misses no line" {
	own_dev
	syslogd_begin
	start_greet -o 'log syslog' -o 'log-connections end'
	wait_for has "$D/syslog" 'notice: serving'
	syslogd_end
	syslogd_begin
	ask x > /dev/null
	wait_for has "$D/syslog" 'info: closed .*first="x'
	[ "$(dropped)" -eq 0 ]
	syslogd_end
}

@test "I02 a syslogd that is stuck is left for one that has taken its place" {
	own_dev
	syslogd_begin
	start_greet -o 'log syslog' -o 'log-connections end'
	wait_for has "$D/syslog" 'notice: serving'
	kill -STOP "$SYSLOGD"
	old=$SYSLOGD
	syslogd_begin
	storm -n 2000 -c 4
	DEADLINE=5 wait_for answered
	kill -KILL "$old"
	syslogd_end
}
lost() { [ "$(dropped)" -ge "$1" ]; }
answered() { ask z > /dev/null; has "$D/syslog" 'first="z'; }

@test "I02 a stuck syslogd costs lines and no client, and does not hold a stop" {
	own_dev
	syslogd_begin
	start_greet -o 'log syslog' -o 'log-connections end'
	kill -STOP "$SYSLOGD"
	storm -n 5000 -c 8
	stormed_well
	wait_for some_dropped
	kill -CONT "$SYSLOGD"
	DEADLINE=5 wait_for answered
	kill -STOP "$SYSLOGD"
	storm -n 2000 -c 8
	t=$EPOCHREALTIME
	stop
	took "$t" 0 6000
	kill -CONT "$SYSLOGD"
	syslogd_end
}

@test "I10 a slow disk does not slow the clients" {
	start_fixed 4 -o "log file $FILE" -o 'log-connections end' greet
	storm -n 2000 -c 4
	base=$(stormed first_p99)
	strace -qq -o "$D/trace" -P "$FILE" -e trace=write \
	    -e inject=write:delay_enter=1500000 -p "$(logger_pid)" 3>&- &
	STRACE=$!
	HELPERS+=("$STRACE")
	wait_for grep -q "TracerPid:.[1-9]" "/proc/$(logger_pid)/status"
	storm -n 2000 -c 4
	stormed_well
	cat "$D/storm"
	[ "$(stormed first_p99)" -lt $((2 * base + 20000)) ]
	[ "$(stormed first_max)" -lt 1000000 ]
	kill "$STRACE"
	wait "$STRACE" || true
	stop
	[ "$(count 'info: closed' "$FILE")" -eq 4000 ]
}
