#!/usr/bin/env bats
# 55-daemon.bats: background with readiness, the pid file, and everything that
# can go wrong at a start and at a stop (rows J, H08, C11, A13, B06).
#
# Each test runs a copy of the program of its own, so that whatever a start has
# left behind is found by its executable, in whichever session it is.

# shellcheck disable=SC2034  # what the helpers read

load helper
load clients
load daemon

as_root() { [ "$(id -u)" -eq 0 ] || skip "needs root: $1"; }

# fails WHY ARG...: the start fails, says why, and leaves nothing.
fails() {
	local why=$1 rc=0
	shift
	daemon "$@" || rc=$?
	echo "exit status $rc"
	[ "$rc" -eq 1 ] && told "$why" && wait_for none_left &&
	    [ ! -s "$D/addresses" ]
}

# A directory that every user can reach, with the program in it.
public() {
	PUBLIC=$(mktemp -d "${TMPDIR:-/tmp}/preforkd-XXXXXX")
	cp "$PREFORKD" "$PUBLIC/preforkd"
	PROGRAM=$PUBLIC/preforkd
	chown 65534:65534 "$PUBLIC"
	chmod 755 "$PUBLIC"
}
as_nobody() { setpriv --reuid 65534 --regid 65534 --clear-groups "$@"; }

fault_service() {
	own "$FAULTY"
	export FAULT_FILE=$D/fault
}

serves() { [ -n "$(ask x)" ]; }
free_port() { not nc -z 127.0.0.1 "$PORT"; }
field() { sed -n "s/^$2:[[:blank:]]*//p" "/proc/$1/status"; }

# fields of /proc/PID/stat after the name: 1 is the state.
stat_field() { sed 's/.*) //' "/proc/$1/stat" | cut -d' ' -f "$2"; }

@test "J02 exit 0 means that it serves: pid file, lock, 100 clients of 100" {
	for i in 1 2 3; do
		start_daemon -l 127.0.0.1:0 greet
		[ "$(worker_count)" -eq 8 ]
		"$TOOLS/storm" -n 100 -c 25 -u "$ADDRESS"
		[ "$(< "$PIDFILE")" = "$M" ]
		not flock -n "$PIDFILE" true
		[ ! -s "$D/err" ] || told 'serving as nobody'
		stop_daemon
	done
}

@test "J02 the command waits for a service that is slow to start" {
	fault_service
	touch "$FAULT_FILE.slow"
	t=$EPOCHREALTIME
	daemon -o 'user root' -l 127.0.0.1:0 abort &
	wait_for test -e "$PIDFILE"
	sleep 0.5
	[ ! -s "$PIDFILE" ]
	[ ! -s "$D/addresses" ]
	wait $!
	took "$t" 2000 9000
	M=$(< "$PIDFILE")
	PORT=$(sed 's/.*://' "$D/addresses")
	serves
}

@test "J02 a port in use is said with the address, and nothing is started" {
	start_daemon -l 127.0.0.1:0 greet
	PIDFILE=$D/pid2 STATUS=$D/status2 fails_beside
	serves
}

# Like fails, with a server of the same program there.
fails_beside() {
	local rc=0
	daemon -l "127.0.0.1:$PORT" greet || rc=$?
	[ "$rc" -eq 1 ]
	told "^preforkd: listen 127.0.0.1:$PORT: bind: Address already in use"
	[ ! -e "$PIDFILE" ]
	wait_for only_server
}
only_server() { [ "$(mine | wc -l)" -eq 10 ]; }

@test "J02 a service that cannot start makes the command fail and say so" {
	fault_service
	touch "$FAULT_FILE.fail"
	fails 'cannot start: its workers die' -o 'user root' -l 127.0.0.1:0 abort
	told '^preforkd: service abort cannot start'
	[ ! -e "$PIDFILE" ]
}

@test "J02 workers that crash at their start make the command fail and say how" {
	fault_service
	touch "$FAULT_FILE"
	fails 'worker died .*how="SIGABRT"' -o 'user root' -l 127.0.0.1:0 abort
	[ ! -e "$PIDFILE" ]
}

@test "J02 a wrong configuration is said before anything else happens" {
	fails '^preforkd: -o: backlog 0: must be' -o 'backlog 0' \
	    -l 127.0.0.1:0 greet
	[ ! -e "$PIDFILE" ]
	[ ! -e "$STATUS" ]
}

@test "a master that is killed while it starts makes the command fail" {
	fault_service
	touch "$FAULT_FILE.slow"
	daemon -o 'user root' -l 127.0.0.1:0 abort &
	wait_for test -e "$PIDFILE"
	kill -KILL "$(masters)"
	rc=0
	wait $! || rc=$?
	[ "$rc" -eq 1 ]
	told 'preforkd: the server died while it started: SIGKILL'
}

@test "a second start is refused with the running pid" {
	start_daemon -l 127.0.0.1:0 greet
	STATUS=$D/status2 run -1 daemon -l 127.0.0.1:0 greet
	told "^preforkd: pidfile $PIDFILE: preforkd is running already, pid $M\$"
	[ "$(< "$PIDFILE")" = "$M" ]
	serves
}

@test "J03 of two starts at once exactly one serves" {
	races 10
}

@test "J04 start and stop with clients active" {
	starts_and_stops 15
}

@test "J05 SIGTERM at any time of a start in the background leaves nothing" {
	sweep in_background 9 2500
}

@test "J05 SIGTERM at any time of a start in the foreground leaves nothing" {
	sweep in_foreground 9 2500
}

@test "J05 SIGTERM to the command that waits ends what it has started" {
	fault_service
	touch "$FAULT_FILE.slow"
	for s in TERM INT; do
		"$PROGRAM" -o "status-file $STATUS" -o "pidfile $PIDFILE" \
		    -o "log file $LOG" -o 'user root' -l 127.0.0.1:0 abort \
		    < /dev/null 2> "$D/err" 3>&- &
		wait_for test -e "$PIDFILE"
		kill -$s "$!"
		rc=0
		wait $! || rc=$?
		[ "$rc" -eq 1 ]
		told 'the server was told to stop while it started'
		wait_for none_left
		[ ! -e "$PIDFILE" ]
	done
}

@test "a start waits for a server that is just about to end" {
	start_daemon -l 127.0.0.1:0 greet
	kill -TERM "$M"
	start_daemon -l "$ADDRESS" greet
	serves
}

@test "B06 a start after kill -9 works, over the pid file that was left" {
	start_daemon -l 127.0.0.1:0 greet
	first=$M
	kill -KILL "$M"
	wait_for gone_or_zombie "$M"
	[ "$(< "$PIDFILE")" = "$first" ]
	start_daemon -l "$ADDRESS" greet
	[ "$M" != "$first" ]
	[ "$(< "$PIDFILE")" = "$M" ]
	serves
}

@test "J06 the pid of a stranger in a stale pid file is no obstacle, and no victim" {
	sleep 300 3>&- &
	stranger=$!
	printf '%d' "$stranger" > "$PIDFILE"
	start_daemon -l 127.0.0.1:0 greet
	[ "$(< "$PIDFILE")" = "$M" ]
	stop_daemon
	kill "$stranger"
}

# pid_file WHY: a start with $PIDFILE fails before it serves.
pid_file() { fails "^preforkd: pidfile [^ ]*: $1" -l 127.0.0.1:0 greet; }

@test "H08 a pid file that is a symbolic link is refused and its target untouched" {
	echo precious > "$D/target"
	ln -s "$D/target" "$PIDFILE"
	pid_file 'must be a regular file'
	[ "$(< "$D/target")" = precious ]
	[ -L "$PIDFILE" ]
	ln -f "$D/target" "$D/linked"
	PIDFILE=$D/linked pid_file 'must be a regular file'
	[ "$(< "$D/target")" = precious ]
}

@test "H08 a pid file that is a directory, a FIFO or nowhere is refused at once" {
	mkdir "$D/dir"
	mkfifo "$D/fifo"
	PIDFILE=$D/dir pid_file 'must be a regular file'
	PIDFILE=$D/fifo pid_file 'must be a regular file'
	PIDFILE=$D/none/pid pid_file 'No such file or directory'
	PIDFILE=$D/target/pid pid_file 'No such file or directory'
}

@test "H08 a pid file of another user, or where another user could replace it, is refused" {
	as_root 'to be another user'
	echo 1 > "$D/theirs"
	chown 65534 "$D/theirs"
	PIDFILE=$D/theirs pid_file 'must not belong to another user'
	[ "$(< "$D/theirs")" = 1 ]
	mkdir -p "$D/open" "$D/theirdir" "$D/theirdir/mine" "$D/group"
	chmod 1777 "$D/open"
	chown 65534 "$D/theirdir"
	chgrp 65534 "$D/group"
	chmod 775 "$D/group"
	for dir in open theirdir theirdir/mine group; do
		PIDFILE=$D/$dir/pid pid_file 'must (belong to|be writable by) root'
		[ ! -e "$D/$dir/pid" ]
	done
}

@test "H08 a pid file that this user may not write is refused" {
	as_root 'to become a user who may not'
	public
	mkdir "$PUBLIC/roots"
	chown 0 "$PUBLIC/roots"
	rc=0
	as_nobody "$PROGRAM" -o "pidfile $PUBLIC/roots/pid" \
	    -l 127.0.0.1:0 greet 2> "$D/err" 3>&- || rc=$?
	[ "$rc" -eq 1 ]
	told 'pidfile .*/roots/pid: Permission denied'
}

@test "C11 a pid file on a full disk fails the start, and leaves no empty file" {
	as_root 'to mount a small disk'
	mkdir "$D/small"
	mount -t tmpfs -o size=16k tmpfs "$D/small"
	MOUNTED=$D/small
	chmod 755 "$D/small"
	dd if=/dev/zero of="$D/small/full" bs=4k count=9 2>/dev/null || true
	PORT=$(start_daemon -l 127.0.0.1:0 greet >&2; echo "$PORT"; stop_daemon)
	PIDFILE=$D/small/pid fails 'write of the pid file: No space left' \
	    -l "127.0.0.1:$PORT" greet
	[ ! -e "$D/small/pid" ]
	free_port
	rm "$D/small/full"
}

@test "without a place for a pid file the command says so" {
	as_root 'to become a user without a place'
	public
	run -1 as_nobody "$PROGRAM" -l 127.0.0.1:0 greet 3>&-
	[[ $output == *'no place for a pid file: name one by -o'* ]]
}

@test "a user's server has its files in XDG_RUNTIME_DIR" {
	as_root 'to become a user'
	public
	mkdir "$PUBLIC/run"
	chown 65534 "$PUBLIC/run"
	export XDG_RUNTIME_DIR=$PUBLIC/run
	as_nobody "$PROGRAM" -l 127.0.0.1:0 greet 3>&-
	PIDFILE=$PUBLIC/run/preforkd/greet.pid
	M=$(< "$PIDFILE")
	[ -s "$PUBLIC/run/preforkd/greet.status" ]
	[ "$(stat -c %U "$PIDFILE")" = nobody ]
	stop_daemon
}

@test "R21 whichever of 0, 1 and 2 the caller has closed, they are /dev/null in all processes" {
	for shut in '' '0' '1' '2' '0 1' '0 2' '1 2' '0 1 2'; do
		rm -f "$PIDFILE"
		(
			for fd in $shut; do eval "exec $fd>&-"; done
			exec "$PROGRAM" -o "status-file $STATUS" \
			    -o "pidfile $PIDFILE" -o "log file $LOG" \
			    -l 127.0.0.1:0 greet 3>&- || exit
		)
		M=$(< "$PIDFILE")
		STARTED+=("$M")
		null_devices "$M" 0 1 2
		null_devices "$(one_worker)" 0 1 2
		null_devices "$(logger_pid)" 2
		stop_daemon INT
	done
}
null_devices() {
	local fd
	for fd in "${@:2}"; do
		[ "$(readlink "/proc/$1/fd/$fd")" = /dev/null ]
	done
}

@test "R20 no process has a descriptor that the caller left open" {
	(
		exec {a}< /etc/passwd {b}<> "$D/stray" 200> "$D/stray2"
		start_daemon -l 127.0.0.1:0 greet
	)
	M=$(< "$PIDFILE")
	STARTED+=("$M")
	for p in $(mine); do
		ls -l "/proc/$p/fd" > "$D/fds"
		not grep -E 'passwd|stray' "$D/fds"
	done
	ls -l "/proc/$(one_worker)/fd" | not grep "$PIDFILE"
	ls -l "/proc/$(logger_pid)/fd" | not grep "$PIDFILE"
}

@test "whoever reads what the command says sees its end" {
	mkfifo "$D/pipe"
	cat "$D/pipe" > "$D/read" 3>&- &
	reader=$!
	"$PROGRAM" -1 -o "status-file $STATUS" -o "pidfile $PIDFILE" \
	    -o "log file $LOG" -o 'workers-spare 20' -l 127.0.0.1:0 greet \
	    > "$D/pipe" 2>&1 < /dev/null 3>&-
	M=$(< "$PIDFILE")
	STARTED+=("$M")
	wait_for gone_or_zombie "$reader"
	grep -q '^127.0.0.1:' "$D/read"
}

@test "a log on standard error goes on there after the start" {
	"$PROGRAM" -o 'log stderr' -o "status-file $STATUS" \
	    -o "pidfile $PIDFILE" -o 'log-connections end' -1 \
	    -l 127.0.0.1:0 greet > "$D/addresses" 2>> "$LOG" < /dev/null 3>&-
	M=$(< "$PIDFILE")
	STARTED+=("$M")
	PORT=$(sed 's/.*://' "$D/addresses")
	serves
	wait_for logged 'closed .*client=1 '
	kill -KILL "$(logger_pid)"
	wait_for logged 'the logger died and was replaced'
	not grep -q '^preforkd: listen' "$LOG"
}

@test "R14 the caller's signal state is forgotten" {
	env --ignore-signal --block-signal=TERM --block-signal=CHLD \
	    --block-signal=HUP "$PROGRAM" -1 -o "status-file $STATUS" \
	    -o "pidfile $PIDFILE" -o "log file $LOG" -l 127.0.0.1:0 greet \
	    > "$D/addresses" < /dev/null 3>&-
	M=$(< "$PIDFILE")
	STARTED+=("$M")
	[ "$(field "$M" SigBlk)" = 0000000000000000 ]
	# 18: the C library's own two signals (60-scoreboard tells); SIGXFSZ
	[[ $(field "$M" SigIgn) =~ ^0000000(00|18)1000000$ ]]
	w=$(one_worker)
	[ "$(field "$w" SigBlk)" = 0000000000000000 ]
	# HUP, INT, QUIT, USR1, USR2, XFSZ
	[[ $(field "$w" SigIgn) =~ ^0000000001000207$ ]]
	kill -KILL "$w"
	wait_for logged "worker died pid=$w"
	stop_daemon
}

@test "it is a session of its own, without a terminal, in / and with its own umask" {
	printf '#!/bin/sh\numask 077; cd %s; exec %s "$@"\n' "$D" "$PROGRAM" \
	    > "$D/run"
	chmod 755 "$D/run"
	script -qec "$D/run -o 'status-file $STATUS' -o 'pidfile $PIDFILE' \
	    -o 'log file $LOG' -l 127.0.0.1:0 greet" "$D/typescript" \
	    < /dev/null > /dev/null 3>&-
	M=$(< "$PIDFILE")
	STARTED+=("$M")
	for p in $(mine); do
		[ "$(stat_field "$p" 4)" -eq "$M" ]	# session
		[ "$(stat_field "$p" 5)" -eq 0 ]	# terminal
		[ "$(readlink "/proc/$p/cwd")" = / ]
		[ "$(field "$p" Umask)" = 0022 ]
	done
	[ "$(stat -c %a "$PIDFILE")" = 644 ]
	not logged reload
}

@test "in the foreground there is a pid file when one is asked for" {
	start_greet -o "pidfile $PIDFILE"
	[ "$(< "$PIDFILE")" = "$M" ]
	stop
	[ ! -e "$PIDFILE" ]
	start_greet
	[ ! -e "$PIDFILE" ]
}

@test "A13 J09 as pid 1 of a container it reaps strangers, and SIGTERM stops it" {
	as_root 'to make a pid namespace'
	: > "$D/addresses"
	setsid unshare -pf --kill-child --mount-proc bash -c '
		for code in 0 90 91 94; do (sleep 0.3; exit $code) & done
		( (sleep 0.4; exit 91) & )
		exec "$@"' - "$PROGRAM" -d -1 -o "status-file $STATUS" \
	    -l 127.0.0.1:0 greet > "$D/addresses" 2>> "$LOG" < /dev/null 3>&- &
	outer=$!
	wait_for test -s "$D/addresses"
	PORT=$(sed 's/.*://' "$D/addresses")
	M=$(pgrep -P "$outer")
	[ "$(field "$M" NSpid | awk '{print $NF}')" -eq 1 ]
	strangers() { [ "$(count_logged "$1")" -eq 5 ]; }
	wait_for strangers 'info: reaped a stranger pid='
	no_zombies
	not logged 'worker died'
	serves
	kill -TERM "$M"
	wait "$outer"
	M=''
}

# limited LIMITS: it serves, or the start fails with a message.
limited() {
	local rc=0
	rm -f "$PIDFILE"
	prlimit "$@" "$PROGRAM" -1 -o "status-file $STATUS" \
	    -o "pidfile $PIDFILE" -o "log file $LOG" -o 'workers-spare 2' \
	    -l 127.0.0.1:0 greet > "$D/addresses" 2> "$D/err" < /dev/null \
	    3>&- || rc=$?
	echo "$*: exit status $rc: $(< "$D/err")"
	if [ "$rc" -eq 0 ]; then
		M=$(< "$PIDFILE")
		STARTED+=("$M")
		PORT=$(sed 's/.*://' "$D/addresses")
		serves && stop_daemon INT
	else
		[ "$rc" -eq 1 ] && grep -q '^preforkd: ' "$D/err" &&
		    wait_for none_left && [ ! -e "$PIDFILE" ]
	fi
}

@test "J10 with few descriptors, little stack or small files it works, or says what it lacks" {
	for n in 4 8 12 14 16 24; do
		limited --nofile=$n:$n
	done
	limited --stack=131072:131072
	limited --fsize=4096:4096
	limited --memlock=0:0
}

@test "J10 where no process can be started the command fails within seconds" {
	as_root 'to become a user with few processes'
	public
	for n in 1 2 3; do
		rc=0
		setpriv --reuid 64999 --regid 64999 --clear-groups \
		    prlimit --nproc=$n:$n "$PROGRAM" -d -l 127.0.0.1:0 greet \
		    2> "$D/err" 3>&- || rc=$?
		cat "$D/err"
		[ "$rc" -eq 1 ]
		grep -qE 'Resource temporarily unavailable' "$D/err"
	done
	grep -q 'cannot start: no process can be started' "$D/err"
}

# elsewhere COMMANDS: a start in a mount namespace that these have changed.
elsewhere() {
	local rc=0
	unshare -m bash -ec "$1
		exec \"\$@\"" - "$PROGRAM" -1 -o "status-file $STATUS" \
	    -o "pidfile $PIDFILE" -o "log file $LOG" -l 127.0.0.1:0 greet \
	    > "$D/addresses" 2> "$D/err" < /dev/null 3>&- || rc=$?
	[ "$rc" -eq 0 ] || return $rc
	M=$(< "$PIDFILE")
	STARTED+=("$M")
	PORT=$(sed 's/.*://' "$D/addresses")
}

@test "J11 without /proc it serves" {
	as_root 'to unmount things'
	elsewhere 'mount -t tmpfs none /proc'
	serves
	stop_daemon
}

@test "J11 without /dev/null it says so" {
	as_root 'to hide it'
	run -1 elsewhere 'mount -t tmpfs none /dev'
	told '^preforkd: open /dev/null: No such file'
	none_left
}

@test "J11 with a root that is read-only it serves from a directory in memory" {
	as_root 'to remount it'
	mkdir "$D/memory"
	mount -t tmpfs none "$D/memory"
	MOUNTED=$D/memory
	chmod 755 "$D/memory"
	STATUS=$D/memory/status PIDFILE=$D/memory/pid LOG=$D/memory/log
	elsewhere 'mount -o remount,bind,ro /'
	serves
	stop_daemon
	run -1 grep -E '\] (alert|error)' "$LOG"
	LOG=$D/log
}

# stuck_log: a log that nobody reads and that is full, in $D/stuck.
stuck_log() {
	mkfifo "$D/stuck"
	exec 9<> "$D/stuck"
	dd if=/dev/zero bs=4096 count=16 >&9 2>/dev/null
}

@test "J14 SIGTERM works while throttled, with the log stalled and fork failing" {
	fault_service
	stuck_log
	: > "$D/addresses"
	# or it would say, into the log, that it cannot look for leaks
	ASAN_OPTIONS=detect_leaks=0 \
	    setsid "$PROGRAM" -d -1 -o "status-file $STATUS" \
	    -o "pidfile $PIDFILE" -o 'user root' -o 'drain-timeout 1s' \
	    -l 127.0.0.1:0 abort > "$D/addresses" 2>&9 < /dev/null 3>&- 9>&- &
	M=$!
	STARTED+=("$M")
	wait_for test -s "$D/addresses"
	touch "$FAULT_FILE"
	mapfile -t all < <(workers)
	kill -KILL "${all[@]}"
	wait_for throttled
	strace -qq -o /dev/null -e trace=clone,clone3,fork,vfork \
	    -e inject=clone,clone3,fork,vfork:error=EAGAIN -p "$M" 3>&- 9>&- &
	tracer=$!
	wait_for traced
	t=$EPOCHREALTIME
	kill -TERM "$M"
	wait_for gone_or_zombie "$M"
	took "$t" 0 7000
	wait "$tracer" || true
	rc=0
	wait "$M" || rc=$?
	[ "$rc" -eq 0 ]
	M=''
	[ ! -e "$PIDFILE" ]
	exec 9>&-
}
throttled() { status | awk '/^abort/ && $7 >= 1 { found = 1 } END { exit !found }'; }
traced() { [ "$(field "$M" TracerPid)" -ne 0 ]; }
