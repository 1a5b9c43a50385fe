# 51-preforkctl-live.bats: reload, reopen and stop of a server that runs: the
# outcome that is told is the right one, and comes when it has come about; and
# nobody but the master is signalled (R34).

# shellcheck disable=SC2034,SC2154  # what the helpers read, and `run' sets
# shellcheck disable=SC2053  # patterns

load helper
load clients

# ctl ARG...: of the server of this test.
ctl() { timeout "$DEADLINE" "$PREFORKCTL" -s "$STATUS" "$@"; }

# begin NAME ARG...: the same beside the test, its exit status in $D/NAME.rc.
begin() {
	{
		ctl "${@:2}" > "$D/$1.out" 2>&1 && rc=0 || rc=$?
		echo "$rc" > "$D/$1.rc"
	} 3>&- 8>&- &
}

# outcome NAME CODE LINE: of what was begun.
outcome() {
	wait_for test -s "$D/$1.rc"
	[ "$(< "$D/$1.rc")" = "$2" ] && [[ $(< "$D/$1.out") == $3 ]] && return
	echo "$1: exit $(< "$D/$1.rc"): $(< "$D/$1.out")" >&2
	return 1
}

# told CODE LINE ARG...: a command has this outcome.
told() {
	run ctl "${@:3}"
	[ "$status" -eq "$1" ] && [[ $output == $2 ]] && return
	echo "exit $status: $output" >&2
	return 1
}

# serve LINE...: start a server of this file; its settings are $CONF.
serve() {
	CONF=$D/a.conf
	write_conf "$@"
	start -f "$CONF"
}

write_conf() {
	printf '%s\n' "$@" 'service greet' 'run greet' \
	    'listen 127.0.0.1:0' > "$CONF"
}

in_state() { status | grep -qx "state: *$1"; }
reload_runs() { status | grep -q '^reload: *running'; }
verdict() { [[ $(status) == "preforkd $1"* ]]; }

@test "columns of status fit the longest name, and tell nothing of a Unix socket's queue" {
	printf '%s\n' 'service a-name-of-thirty-one-characters' 'run greet' \
	    "listen unix:$D/s" 'service b' 'run greet' 'listen 127.0.0.1:0' \
	    > "$D/conf"
	start -f "$D/conf"
	status > "$D/shown"
	grep -qE '^unix:.* a-name-of-thirty-one-characters +- +-$' "$D/shown"
	for each in SERVICE NUMBERS; do
		sed -n "/^$each/,/^\$/p" "$D/shown" | sed '$d' |
		    awk '{ print length }' | sort | uniq -c > "$D/lengths"
		[ "$(awk '{ print $1 }' "$D/lengths")" = 3 ]
	done
}

@test "reload returns when the new configuration is at work, and says so" {
	serve 'workers-spare 2'
	write_conf 'workers-spare 5'
	told 0 'reloaded, generation 2, 0 old clients finish' reload
	slots_are idle 5
	verdict 'OK: greet 0 of 512 busy, generation 2, up '
	told 0 'reloaded, generation 3, *' reload --timeout 20
}

@test "reload says how many clients of the old generation finish" {
	serve
	hold 3
	told 0 'reloaded, generation 2, 3 old clients finish' reload
	release
}

@test "reload of a broken file gives file and line, and status tells of it until it is mended" {
	serve
	write_conf 'workers-spare many'
	told 1 "preforkctl: reload failed: $CONF:1: workers-spare many: *" reload
	run status
	[ "$status" -eq 1 ]
	[[ ${lines[0]} == "preforkd DEGRADED: the last reload failed ($CONF:1: "* ]]
	# what the line shows of the file is escaped once
	write_conf 'log-level a\b'
	run ctl reload
	grep -qF "preforkctl: reload failed: $CONF:1: log-level a\\\\b: " <<<"$output"
	status > "$D/status.out" || true
	[ "$(grep -cF "$CONF:1: log-level a\\\\b: " "$D/status.out")" -eq 2 ]
	write_conf
	told 0 'reloaded, generation 2, *' reload
	run status
	[ "$status" -eq 0 ]
}

slow_reloads() {
	export FAULT_FILE=$D/fault
	PROGRAM=$FAULTY
	USER_OPTION=(-o 'user 0:0')	# it looks at a file of this test
	CONF=$D/a.conf
	# as this user, who can see the file
	printf '%s\n' "user $(id -un)" 'service abort' 'run abort' \
	    'listen 127.0.0.1:0' > "$CONF"
	start -f "$CONF"
	touch "$FAULT_FILE.slow"	# each takes 2 s
}

comes_up() { status workers | awk '$2 == "starting"' | grep -q ' 2 '; }

@test "status shows the generation that serves while another comes up" {
	slow_reloads
	begin first reload
	wait_for comes_up
	status | grep -x 'generation:  1'
	outcome first 0 'reloaded, generation 2, *'
	status | grep -x 'generation:  2'
}

@test "reload during a reload waits for the one that begins after it" {
	slow_reloads
	begin first reload
	wait_for comes_up		# it has read the file
	echo 'nonsense 1' >> "$CONF"
	begin second reload
	outcome first 0 'reloaded, generation 2, *'
	outcome second 1 "preforkctl: reload failed: $CONF:5: *"
}

@test "reloads that fold all get the outcome of one that began after them" {
	slow_reloads
	begin first reload
	wait_for reload_runs
	for i in 1 2 3; do begin "folded$i" reload; done
	outcome first 0 'reloaded, generation 2, *'
	for i in 1 2 3; do
		outcome "folded$i" 0 'reloaded, generation [34], *'
	done
	[ "$(count_logged 'notice: reloaded ')" -le 3 ]
}

@test "a reload that does not become ready fails with its reason" {
	slow_reloads
	rm "$FAULT_FILE.slow"
	touch "$FAULT_FILE"
	told 1 'preforkctl: reload failed: its workers die (service abort)' reload
	rm "$FAULT_FILE"
	verdict 'DEGRADED: the last reload failed (its workers die (service abort)); '
	[ -n "$(ask x)" ]
}

@test "a command gives up at its timeout, and says that it goes on" {
	serve
	kill -STOP "$M"
	t=$EPOCHREALTIME
	told 1 'preforkctl: reload: no outcome within 1 s, but it goes on: state running, 0 clients' \
	    reload --timeout 1
	took "$t" 1000 8000
	kill -CONT "$M"
	wait_for logged 'notice: reloaded '
}

@test "stop returns when the master is gone" {
	serve
	told 0 'stopped, 0 clients cut' stop
	gone_or_zombie "$M"
	ended 0
	told 2 'preforkctl: stop: no master is alive' stop
	told 2 'preforkctl: reload: no master is alive' reload
	run status
	[ "$status" -eq 2 ]
	[ "${lines[0]}" = 'preforkd DOWN: stopped in order' ]
}

@test "stop says how many clients were cut" {
	serve 'drain-timeout 1s'
	hold 2
	told 0 'stopped, 2 clients cut' stop
	release_cut
	ended 2
}

@test "stop waits for clients, a second one does not cut them" {
	serve
	hold 2
	begin first stop
	wait_for in_state draining
	verdict 'DEGRADED: draining; greet '
	told 1 *'being stopped already'*'no outcome within 1 s, but it goes on: state draining, 2 clients' \
	    stop --timeout 1
	told 1 'preforkctl: the server is being stopped' reload
	release
	outcome first 0 'stopped, 0 clients cut'
	ended 0
}

@test "a master that is killed while it is waited for is told" {
	serve 'drain-timeout 1s'
	hold 1
	begin stop stop
	wait_for in_state draining
	EXPECT_DEAD=yes
	kill -KILL "$M"
	outcome stop 1 'preforkctl: the master has died'
	release_cut
}

@test "a master that stops while a reload is waited for is told" {
	slow_reloads
	begin reload reload
	wait_for reload_runs
	kill -TERM "$M"
	outcome reload 1 'preforkctl: reload failed: the server was told to stop'
	ended 0
}

@test "the master that is waited for is not mistaken for its successor" {
	serve
	hold 1
	begin stop stop
	wait_for in_state draining
	mv "$STATUS" "$D/moved"	# as a start does, when the lock is free
	cp "$D/moved" "$STATUS"
	release
	outcome stop 0 'stopped, 0 clients cut'
	ended 0
}

@test "a server in the background is controlled by its pid file" {
	PIDFILE=$D/x.pid
	STATUS=$D/x.status
	start_daemon -l 127.0.0.1:0 greet
	run "$PREFORKCTL" -p "$PIDFILE" reload
	[ "$status" -eq 0 ]
	run "$PREFORKCTL" -p "$PIDFILE" stop
	[ "$status" -eq 0 ]
	[ "$output" = 'stopped, 0 clients cut' ]
	wait_for gone_or_zombie "$M"
	M=''
	[ ! -e "$PIDFILE" ]
	run "$PREFORKCTL" -p "$PIDFILE" stop
	[ "$status" -eq 2 ]
}

@test "reopen returns when the log has a new file, or says that it has not" {
	start_daemon -l 127.0.0.1:0 greet
	mv "$LOG" "$D/old"
	told 0 reopened reopen
	[ -e "$LOG" ]
	wait_for logged 'notice: log reopened'
	mv "$LOG" "$D/older"
	mkdir "$LOG"
	told 1 'preforkctl: the log could not be reopened *' reopen
	grep -q 'error: log not reopened' "$D/older"
	rmdir "$LOG"
	told 0 reopened reopen
	told 0 'stopped, 0 clients cut' stop
	M=''
}

@test "reopen of a log that is no file succeeds" {
	serve
	told 0 reopened reopen
}

@test "without pidfd the signal is sent as well" {
	serve
	export ASAN_OPTIONS=detect_leaks=0	# it cannot look when traced
	run strace -qq -o "$D/trace" -e trace=kill,pidfd_open,pidfd_send_signal \
	    -e inject=pidfd_open:error=ENOSYS "$PREFORKCTL" -s "$STATUS" reload
	[ "$status" -eq 0 ]
	grep "kill($M, SIGHUP)" "$D/trace"
	run strace -qq -o "$D/trace" -e trace=kill,pidfd_open,pidfd_send_signal \
	    "$PREFORKCTL" -s "$STATUS" reload
	[ "$status" -eq 0 ]
	grep 'pidfd_send_signal(.*, SIGHUP' "$D/trace"
	not grep kill "$D/trace"
	run strace -qq -o "$D/trace" -e trace=kill,pidfd_open,pidfd_send_signal \
	    -e inject=pidfd_open:error=ESRCH "$PREFORKCTL" -s "$STATUS" reload
	[ "$status" -eq 1 ]
	not grep kill "$D/trace"
}

@test "a user who may not signal the master is told so" {
	[ "$(id -u)" -eq 0 ] || skip 'not root'
	serve
	chmod 755 "$D" "$BATS_RUN_TMPDIR" "$BATS_RUN_TMPDIR/test"
	chmod 644 "$STATUS" "$STATUS.slots"
	cp "$PREFORKCTL" "$D/ctl"
	run setpriv --reuid 65534 --regid 65534 --clear-groups \
	    "$D/ctl" -s "$STATUS" reload
	[ "$status" -eq 1 ]
	[ "$output" = "preforkctl: reload: process $M: Operation not permitted" ]
}

root_namespace() {
	[ "$(id -u)" -eq 0 ] || skip 'not root'
	unshare -pf --mount-proc true 2>/dev/null || skip 'no pid namespaces'
}

# Another process has the pid, in a namespace where nobody else takes one.
@test "J06 a stale pid that is a foreign process's is not signalled, and a start works" {
	root_namespace
	cat > "$D/script" <<-'END'
	serve() {
		: > "$2"
		"$PREFORKD" -d -1 -o "status-file $1" -l 127.0.0.1:0 greet \
		    > "$2" 2>> "$LOG" &
		M=$!
		until [ -s "$2" ]; do kill -0 $M || exit 10; sleep 0.02; done
	}
	serve "$STATUS" "$D/first"
	OLD=$M
	kill -KILL $M
	wait $M
	while ps --ppid 1 -o args= | grep -q '^preforkd'; do sleep 0.02; done
	echo $((OLD - 1)) > /proc/sys/kernel/ns_last_pid
	sleep 600 &
	[ $! -eq $OLD ] || exit 11
	printf $OLD > "$D/status.pid"
	cp "$STATUS" "$D/status.status"
	cp "$STATUS.slots" "$D/status.status.slots"
	for each in stop reload reopen; do
		"$PREFORKCTL" -s "$STATUS" $each
		[ $? -eq 2 ] || exit 12
		"$PREFORKCTL" -p "$D/status.pid" $each
		[ $? -eq 2 ] || exit 12
	done
	kill -0 $OLD || exit 13
	serve "$STATUS" "$D/second"
	"$PREFORKCTL" -s "$STATUS" stop || exit 14
	wait $M || exit 15
	kill -0 $OLD || exit 16
	kill $OLD
	END
	export PREFORKD PREFORKCTL STATUS LOG D
	run timeout "$DEADLINE" unshare -pf --mount-proc bash "$D/script" 3>&-
	echo "$output"
	[ "$status" -eq 0 ]
}

@test "a master that is process 1 of a container is signalled, from inside" {
	root_namespace
	: > "$D/addresses"
	unshare -pf --mount-proc "$PREFORKD" -d -1 -o "status-file $STATUS" \
	    -l 127.0.0.1:0 greet > "$D/addresses" 2>> "$LOG" 3>&- &
	unshare=$!
	wait_for test -s "$D/addresses"
	one=$(pgrep -P $unshare)
	# outside, the holder of the lock is another number: it may be anybody
	run status
	[ "$status" -eq 3 ]
	[[ ${lines[0]} == "preforkd UNKNOWN: $STATUS: locked by process $one, written by process 1" ]]
	told 3 "preforkctl: stop: nothing sent: $STATUS: locked by process $one, *" stop
	run nsenter -t "$one" -p -m "$PREFORKCTL" -s "$STATUS" reload
	[ "$status" -eq 0 ]
	# with its process 1 ends all of the container
	run nsenter -t "$one" -p -m "$PREFORKCTL" -s "$STATUS" stop
	wait $unshare
	wait_for logged 'notice: stopped clients-cut=0'
}

@test "a master of another pid namespace is seen to live, and not signalled" {
	root_namespace
	serve
	run unshare -pf --mount-proc "$PREFORKCTL" -s "$STATUS" status
	[ "$status" -eq 0 ]
	run unshare -pf --mount-proc "$PREFORKCTL" -s "$STATUS" stop
	[ "$status" -eq 3 ]
	[[ $output == "preforkctl: stop: nothing sent: $STATUS: cannot tell which process "* ]]
}
