#!/usr/bin/env bats
# 57-init.bats: the init script (row J12 of the fault matrix), from `make
# install' on.  The file has a build of its own, whose sbindir, sysconfdir and
# runstatedir are in a private directory: what runs is what an administrator
# would have, with the same paths in programs and scripts.  What it prints goes
# to a file, $D/out.

# shellcheck disable=SC2034  # what the helper reads

load helper

setup_file() {
	ROOT=$(mktemp -d)
	export ROOT
	chmod 755 "$ROOT"	# for the tests with another user
	mkdir "$ROOT/build" "$ROOT/run"
	(cd "$ROOT/build" && "$TOP/configure" -q --prefix="$ROOT/usr" \
	    --sysconfdir="$ROOT/etc" --runstatedir="$ROOT/run" CFLAGS=-O1 &&
	    env -u MAKEFLAGS make -s -j2 install SANITIZE="${SANITIZE-}") \
	    > "$ROOT/build.log" 2>&1 3>&- ||
	    { cat "$ROOT/build.log" >&2; return 1; }
	cp -a "$ROOT/etc" "$ROOT/etc.installed"
}

teardown_file() {
	rm -rf "$ROOT"
}

eval "helper_$(declare -f setup)"
setup() {
	helper_setup
	ETC=$ROOT/etc
	RUN=$ROOT/run/preforkd
	[ "$(id -u)" -eq 0 ] || export XDG_RUNTIME_DIR=$ROOT/run
	rm -rf "$ETC" "$RUN"
	cp -a "$ROOT/etc.installed" "$ETC"
	conf preforkd
	STRANGERS=()
}

# Ends what a test has left running; servers that do not stop have failed it.
teardown() {
	local bad=0 p
	DEADLINE=10
	for p in "${STRANGERS[@]}"; do
		kill -KILL "$p" 2>/dev/null || true
		wait_for gone "$p" || bad=1
	done
	for p in $(masters); do
		kill -INT "$p" 2>/dev/null || true
	done
	wait_for no_servers || bad=1
	for p in $(servers); do
		kill -KILL "$p"
	done
	check_invariants || bad=1
	return $bad
}

as_root() { [ "$(id -u)" -eq 0 ] || skip "needs root: $1"; }

# conf NAME [LINE...]: a configuration, with global settings.
conf() {
	printf '%s\n' "log file $D/log" "${@:2}" 'service greet' \
	    '	listen 127.0.0.1:0' '	run greet' > "$ETC/$1.conf"
}

# init EXIT ACTION [NAME]: runs the script, which must exit so.
init() {
	local rc=0
	"${SCRIPT:-$ETC/init.d/${3:-preforkd}}" "$2" > "$D/out" 2>&1 3>&- ||
	    rc=$?
	[ "$rc" -eq "$1" ] && return
	echo "$2: exit status $rc, not $1" >&2
	cat "$D/out" >&2
	return 1
}

said() { grep -qE -- "$1" "$D/out" || { cat "$D/out" >&2; return 1; }; }

pid() { cat "$RUN/${1:-preforkd}.pid"; }
servers() {
	find /proc/[0-9]*/exe -maxdepth 0 -lname "$ROOT/*" 2>/dev/null |
	    cut -d / -f 3
}
masters() {
	local p
	for p in $(servers); do
		! grep -qs '^preforkd: master' "/proc/$p/cmdline" || echo "$p"
	done
}
no_servers() { [ -z "$(servers)" ]; }
ctl() { "$ROOT/usr/sbin/preforkctl" -s "$RUN/$1.status" status; }
port() { ctl "$1" | sed -n 's/^127\.0\.0\.1:\([0-9]*\) .*/\1/p'; }
greets() { ask x "$(port "${1:-preforkd}")" | grep -q 'Welcome !'; }
generation() { ctl preforkd | grep -qE "^generation: +$1\$"; }

# stranger: a process that a signal would end, in $STRANGER.
stranger() {
	sleep 1000 3>&- &
	STRANGER=$!
	STRANGERS+=("$STRANGER")
}

# The table of J12, for the server NAME.
table() {
	init 3 status "$1"
	init 0 start "$1"
	greets "$1"
	M=$(pid "$1")
	init 0 start "$1"
	said "already running, pid $M\$"
	init 0 status "$1"
	said "running, pid $M\$"
	init 0 reload "$1"
	init 0 stop "$1"
	wait_for gone_or_zombie "$M"
	M=''
	init 0 stop "$1"
	said 'not running'
	init 3 status "$1"
	[ ! -e "$RUN/$1.pid" ]
}

@test "J12 start, start, status, reload, stop, stop, status" {
	table preforkd
}

@test "J12 the same without start-stop-daemon" {
	mkdir "$D/bin"
	ln -s /usr/bin/* /usr/sbin/* /bin/* /sbin/* "$D/bin" 2>/dev/null || true
	rm -f "$D/bin/start-stop-daemon"
	PATH=$D/bin
	run -127 start-stop-daemon --version
	table preforkd
}

@test "the sample configuration, as installed, serves a greeting" {
	cp "$ROOT/etc.installed/preforkd.conf" "$ETC"
	init 0 configtest
	# Port 8001 may be taken here.
	sed -i 's/127.0.0.1:8001/127.0.0.1:0/' "$ETC/preforkd.conf"
	printf '%s\n' "OPTIONS='-o \"log file $D/log\"'" > "$ETC/default/preforkd"
	printf '%s\n' 'service more' 'listen 127.0.0.1:0' 'run echo' \
	    > "$ETC/preforkd.d/more.conf"
	init 0 start
	[ "$(ask x "$(port preforkd | head -n 1)" | wc -l)" -eq 3 ]
	[ "$(ask x "$(port preforkd | tail -n 1)")" = x ]
}

@test "whoever reads what start says sees its end" {
	"$ETC/init.d/preforkd" start 2>&1 3>&- |
	    timeout "$DEADLINE" cat > "$D/out"
	said 'preforkd: started'
	init 0 status
}

@test "restart brings a new master, also when there was none" {
	init 0 restart
	old=$(pid)
	greets
	init 0 restart
	[ "$(pid)" -ne "$old" ]
	gone_or_zombie "$old"
	greets
	init 0 status
}

@test "reload and force-reload put the file to work, by the same master" {
	init 0 start
	old=$(pid)
	init 0 reload
	wait_for generation 2
	init 0 force-reload
	wait_for generation 3
	[ "$(pid)" -eq "$old" ]
	greets
}

@test "upgrade puts the installed program to work, in the same master" {
	init 0 start
	old=$(pid)
	init 0 upgrade
	wait_for logged 'notice: upgraded from='
	wait_for generation 2
	[ "$(pid)" -eq "$old" ]
	greets
	init 0 stop
}

@test "what does not run is not reloaded or rotated: exit 7" {
	for action in reload force-reload rotate upgrade; do
		init 7 $action
		said 'not running'
	done
	no_servers
}

@test "J12 without a configuration: exit 6, and a server that runs stays" {
	mv "$ETC/preforkd.conf" "$D/conf"
	for action in start restart configtest; do
		init 6 $action
		said "$ETC/preforkd.conf: not there"
	done
	no_servers
	init 3 status
	cp "$D/conf" "$ETC/preforkd.conf"
	init 0 start
	M=$(pid)
	rm "$ETC/preforkd.conf"
	for action in restart reload force-reload upgrade; do
		init 6 $action
	done
	init 0 status
	[ "$(pid)" -eq "$M" ]
	generation 1
	greets
	M=''
	init 0 stop
	no_servers
}

@test "J12 a wrong configuration never takes a running server down: exit 6" {
	init 0 start
	M=$(pid)
	sed -i 's/run greet/run fast/' "$ETC/preforkd.conf"
	for action in configtest restart reload force-reload upgrade; do
		init 6 $action
		said "^preforkd: $ETC/preforkd.conf:4: run fast: must be"
		said 'wrong, so nothing was done'
	done
	[ "$(pid)" -eq "$M" ]
	generation 1
	greets
	not logged 'stopping|reload'
	conf preforkd
	init 0 reload
	wait_for generation 2
	[ "$(pid)" -eq "$M" ]
	echo nonsense >> "$ETC/preforkd.conf"
	M=''
	init 0 stop
	no_servers
	init 6 start
	no_servers
}

@test "configtest says that a file is right, and changes nothing" {
	init 0 configtest
	said "$ETC/preforkd.conf: right"
	no_servers
	[ ! -e "$RUN" ]
}

@test "J12 without the program: exit 5" {
	mv "$ROOT/usr/sbin/preforkd" "$D/preforkd"
	for action in start restart configtest; do
		init 5 $action || bad=1
	done
	mv "$D/preforkd" "$ROOT/usr/sbin/preforkd"
	[ -z "${bad-}" ]
	said "$ROOT/usr/sbin/preforkd: not installed"
}

@test "a start that fails is exit 1, with the reason" {
	init 0 start
	conf preforkd.other
	sed -i "s/:0\$/:$(port preforkd)/" "$ETC/preforkd.other.conf"
	ln -s preforkd "$ETC/init.d/preforkd.other"
	init 1 start preforkd.other
	said 'Address already in use'
	said 'not started'
	init 3 status preforkd.other
}

@test "J12 a pid file that names a stranger: he gets no signal" {
	stranger
	mkdir -p "$RUN"
	printf %s "$STRANGER" > "$RUN/preforkd.pid"
	init 1 status
	said 'dead, and has left'
	init 7 reload
	init 7 rotate
	init 0 stop
	said 'not running'
	init 0 start
	init 0 restart
	[ "$(pid)" -ne "$STRANGER" ]
	greets
	not gone "$STRANGER"
}

@test "a pid file whose lock is another's than its pid: no signal" {
	stranger
	mkdir -p "$RUN"
	printf %s "$STRANGER" > "$RUN/preforkd.pid"
	exec 7< "$RUN/preforkd.pid"
	flock 7
	init 1 status
	init 0 stop
	# Nor does the lock of another file make him the master.
	exec 7>&-
	flock -F "$D/other" sleep 1000 3>&- &
	STRANGERS+=($!)
	wait_for grep -q " WRITE $! " /proc/locks
	printf %s "$!" > "$RUN/preforkd.pid"
	init 1 status
	init 0 stop
	not gone $!
	not gone "$STRANGER"
}

@test "a pid file with anything but the pid of a master means nothing" {
	mkdir -p "$RUN"
	: > "$RUN/preforkd.pid"
	init 1 status
	# Even with a lock.
	exec 7< "$RUN/preforkd.pid"
	flock 7
	for text in 0 1 -1 -$$ none '.*' '1 2' $'1\n2' 99999999999; do
		printf %s "$text" > "$RUN/preforkd.pid"
		init 1 status
		init 7 reload
		init 0 stop
	done
	exec 7>&-
	init 0 start
	greets
}

@test "a master that is starting can neither be told nor stopped: exit 4" {
	mkdir -p "$RUN"
	: > "$RUN/preforkd.pid"
	exec 7< "$RUN/preforkd.pid"
	flock 7
	for action in status stop reload rotate; do
		init 4 $action
		said 'cannot tell whether it runs'
	done
	exec 7>&-
	init 1 status
}

@test "without /proc nobody can tell: exit 4, and nobody is signalled" {
	as_root 'a mount namespace'
	init 0 start
	M=$(pid)
	cat > "$D/script" <<-END
	#!/bin/sh
	mount -t tmpfs none /proc
	exec $ETC/init.d/preforkd "\$1"
	END
	chmod +x "$D/script"
	for action in status stop reload; do
		rc=0
		unshare -m "$D/script" $action > "$D/out" 2>&1 3>&- || rc=$?
		[ "$rc" -eq 4 ]
		said 'cannot tell whether it runs'
	done
	greets
	M=''
}

@test "B06 what a killed master has left: status 1, and a start works" {
	init 0 start
	old=$(pid)
	kill -KILL "$old"
	wait_for gone_or_zombie "$old"
	init 1 status
	init 0 stop
	wait_for no_servers
	init 0 start
	[ "$(pid)" -ne "$old" ]
	init 0 status
	greets
}

@test "rotate opens the log anew" {
	init 0 start
	old=$(pid)
	mv "$D/log" "$D/log.1"
	init 0 rotate
	wait_for [ -e "$D/log" ]
	[ "$(pid)" -eq "$old" ]
	init 0 stop
	wait_for logged 'stopped clients-cut=0'
}

@test "J12 two servers by one script: a link, and files of its name" {
	ln -s preforkd "$ETC/init.d/preforkd.web"
	conf preforkd.web
	init 0 start
	init 3 status preforkd.web
	table preforkd.web
	init 0 start preforkd.web
	[ "$(pid)" -ne "$(pid preforkd.web)" ]
	[ "$(port preforkd)" -ne "$(port preforkd.web)" ]
	init 0 stop
	init 0 status preforkd.web
	said '^preforkd.web: running'
	greets preforkd.web
	echo "CONFIG=$D/none" > "$ETC/default/preforkd.web"
	init 0 configtest
	init 6 reload preforkd.web
	said "$D/none: not there"
}

@test "a link in a runlevel's directory is the same server" {
	mkdir "$ETC/rc2.d"
	ln -s ../init.d/preforkd "$ETC/rc2.d/S01preforkd"
	ln -s ../init.d/preforkd "$ETC/rc2.d/K20preforkd"
	SCRIPT=$ETC/rc2.d/S01preforkd init 0 start
	init 0 status
	SCRIPT=$ETC/rc2.d/K20preforkd init 0 stop
	init 3 status
}

@test "the defaults say which file, which pid file, and options with blanks" {
	conf other
	cat > "$ETC/default/preforkd" <<-END
	CONFIG=$ETC/other.conf
	PIDFILE='$ROOT/run/preforkd/other one.pid'
	OPTIONS='-v -o "workers-min 3" -o "workers-max 3"'
	END
	rm "$ETC/preforkd.conf"
	init 0 start
	[ ! -e "$RUN/preforkd.pid" ]
	init 0 status
	said "pid $(pid 'other one')\$"
	ctl other | grep -qE '^greet +.* 3$'
	wait_for logged 'debug: worker born'
	init 0 reload
	init 0 stop
	sed -i 's/workers-max/workers-mux/' "$ETC/default/preforkd"
	init 6 start
	said 'did you mean workers-max'
}

# What the manual's promise to clients is worth to a stop.
@test "stop waits for the clients" {
	init 0 start
	exec 8<> "/dev/tcp/127.0.0.1/$(port preforkd)"
	read -r -u 8 line
	"$ETC/init.d/preforkd" stop > "$D/stop" 2>&1 3>&- 8>&- &
	stop=$!
	wait_for logged 'stopping, clients finish'
	not gone $stop
	init 0 status
	echo x >&8
	wait $stop
	exec 8>&-
	wait_for logged 'stopped clients-cut=0 clients=1'
	init 3 status
}

@test "J12 what does not stop in 35 seconds is killed" {
	mkdir "$D/bin"
	cat > "$D/bin/sleep" <<-END
	#!/bin/sh
	echo "\$1" >> "$D/slept"
	exec /bin/sleep 0.001
	END
	chmod +x "$D/bin/sleep"
	init 0 start
	old=$(pid)
	kill -STOP "$old"
	PATH=$D/bin:$PATH
	init 0 stop
	said 'does not stop, so it is killed'
	wait_for gone_or_zombie "$old"
	awk '{ ms += $1 * 1000 } END { print ms; exit !(ms > 34900 && ms < 39900) }' \
	    "$D/slept"
	wait_for no_servers
	init 3 status
	[ ! -e "$RUN/preforkd.pid" ]
}

@test "J12 another action, or none, is exit 3 with the usage" {
	for action in '' update Start; do
		init 3 "$action"
		said '^usage: .*\{start\|stop\|restart\|reload\|force-reload\|status\|configtest\|rotate\|upgrade\}$'
	done
}

@test "J12 a user may ask, but neither start nor stop: exit 4" {
	as_root 'another user'
	cat > "$D/script" <<-END
	#!/bin/sh
	exec setpriv --reuid 65534 --regid 65534 --clear-groups \
	    $ETC/init.d/preforkd "\$@"
	END
	chmod +x "$D/script"
	export SCRIPT=$D/script
	init 3 status
	init 4 start
	mkdir "$RUN"
	init 4 start
	said 'not allowed'
	SCRIPT='' init 0 start
	M=$(pid)
	init 0 status
	said "running, pid $M\$"
	init 0 start	# as it runs
	for action in stop restart reload rotate upgrade; do
		init 4 $action
		said 'not allowed'
	done
	init 0 configtest
	[ "$(pid)" -eq "$M" ]
	generation 1
	greets
	M=''
}

@test "J12 a user's own server, by a link and files of his" {
	as_root 'another user'
	user=$ROOT/user
	mkdir "$user"
	ln -s preforkd "$ETC/init.d/preforkd.own"
	printf '%s\n' "CONFIG=$user/own.conf" \
	    "PIDFILE=$user/run/preforkd.own.pid" > "$ETC/default/preforkd.own"
	RUN=$user/run
	printf '%s\n' "log file $user/log" "status-file $RUN/preforkd.own.status" \
	    'service greet' 'listen 127.0.0.1:0' 'run greet' > "$user/own.conf"
	chown -R 65534:65534 "$user"
	cat > "$D/script" <<-END
	#!/bin/sh
	exec setpriv --reuid 65534 --regid 65534 --clear-groups \
	    $ETC/init.d/preforkd.own "\$@"
	END
	chmod +x "$D/script"
	SCRIPT=$D/script table preforkd.own
	rm -rf "$user"
}

@test "J12 the script is plain sh, and lint finds nothing" {
	dash -n "$TOP/etc/init.d/preforkd"
	shellcheck -s sh "$TOP/etc/init.d/preforkd"
	head -n 20 "$TOP/etc/init.d/preforkd" > "$D/head"
	for field in Provides Required-Start Required-Stop Default-Start \
	    Default-Stop Short-Description Description; do
		grep -q "^# $field: " "$D/head"
	done
}
