# 68-supervisors.bats: what systemd, s6 and the like are told, and the files
# that systemd is given.

load helper
load clients

SUPERVISOR=$TOP/tests/tools/supervisor

# hear [@]: somebody listens, as NOTIFY_SOCKET; what is said is in $D/heard.
hear() {
	export NOTIFY_SOCKET=$D/notify
	[ "${1-}" != @ ] || NOTIFY_SOCKET=@preforkd-test-$BASHPID
	: > "$D/heard"
	setsid "$SUPERVISOR" hear "$NOTIFY_SOCKET" "$D/heard" 3>&- &
	LISTENER=$!
	STARTED+=("$LISTENER")
	wait_for grep -q -- "$NOTIFY_SOCKET\$" /proc/net/unix
}

teardown() {
	local p
	for p in "${LISTENER-}" "${HOLDER-}"; do
		[ -z "$p" ] || kill "$p" || true
	done
	DEADLINE=10
	check_invariants
}

heard() { grep -qE -- "$1" "$D/heard"; }
times() { grep -oE -- "$1" "$D/heard" | wc -l; }
heard_times() { [ "$(times "$1")" -ge "$2" ]; }
# in_order PATTERN...: heard one after another.
in_order() {
	local p at=0 n
	for p; do
		n=$(sed "1,${at}d" "$D/heard" | grep -nE -m 1 -- "$p" | cut -d: -f1)
		[ -n "$n" ] || { echo "not after line $at: $p" >&2; cat "$D/heard" >&2; return 1; }
		at=$((at + n))
	done
}

@test "a supervisor is told when the server is ready, reloads and stops, and its pid" {
	hear
	start_greet
	wait_for heard '^READY=1\|MAINPID='
	heard "^READY=1\|MAINPID=$M\|STATUS=running: 0 workers busy, [1-9][0-9]* idle"
	"$PREFORKCTL" -s "$STATUS" reload
	wait_for in_order 'READY=1\|MAINPID' RELOADING=1 '^READY=1'
	[ "$(times RELOADING=1)" -eq 1 ]
	stop
	wait_for heard STOPPING=1
	[ "$(times 'READY=1')" -eq 2 ]
	heard 'EXTEND_TIMEOUT_USEC=15000000'
	not logged NOTIFY_SOCKET
}

@test "RELOADING has the time of its begin, and a reload that fails ends it, too" {
	printf 'service greet\nlisten 127.0.0.1:0\nrun greet\n' > "$D/conf"
	hear
	start -f "$D/conf"
	echo nonsense >> "$D/conf"
	read -r before _ < /proc/uptime
	before=${before/./}0000
	run -1 "$PREFORKCTL" -s "$STATUS" reload
	wait_for in_order MAINPID RELOADING=1 '^READY=1'
	usec=$(sed -n 's/.*MONOTONIC_USEC=\([0-9]*\).*/\1/p' "$D/heard")
	[ "$usec" -ge "$before" ] && [ "$usec" -le $((before + 20000000)) ]
}

@test "STATUS counts, at most once a second, and an idle server makes no system call" {
	[ "$(id -u)" -eq 0 ] || skip 'needs root to trace'
	hear @
	start_greet -o 'workers-min 4' -o 'workers-max 4'
	wait_for heard 'STATUS=running: 0 workers busy, 4 idle, 0 clients queued, 0 so far$'
	hold 3
	wait_for heard '^STATUS=running: 3 workers busy, 1 idle, 0 clients queued, 3 so far$'
	release
	t=$EPOCHREALTIME
	storm -g -n 2000 -c 2
	wait_for heard '^STATUS=running: 0 workers busy, [1-4] idle, 0 clients queued, 2003 so far$'
	[ "$(times STATUS)" -le $((6 + $(since "$t") / 1000000)) ]
	wait_for asleep
}

# Not one system call of the master in a second.
asleep() {
	timeout 1 strace -o "$D/trace" -p "$M" 2>/dev/null || true
	! grep -vE '^(strace|restart_syscall|ppoll)|SIG' "$D/trace" &&
	    [ "$(wc -l < "$D/trace")" -le 1 ]
}

@test "the watchdog hears twice in its time of an idle server, unless it is another's" {
	hear
	WATCHDOG_USEC=400000 start_greet
	wait_for heard_times WATCHDOG=1 5
	stop
	: > "$D/heard"
	WATCHDOG_USEC=20000 WATCHDOG_PID=1 start_greet
	stop
	wait_for heard STOPPING=1
	[ "$(times WATCHDOG=1)" -eq 0 ]
}

@test "in the background the master tells its own pid, before the command ends" {
	hear
	start_daemon -l 127.0.0.1:0 greet
	heard "^READY=1\|MAINPID=$M\b" || wait_for heard MAINPID
	heard "MAINPID=$M\b"
	stop_daemon
}

@test "services see nothing of it" {
	hear
	export LISTEN_FDNAMES=x LISTEN_PID=1 LISTEN_FDS=3 WATCHDOG_USEC=1000000
	start_greet
	for p in $(one_worker) $M; do
		tr '\0' '\n' < "/proc/$p/environ" > "$D/environ"
	done
	PROGRAM=$FAULTY
	stop
	start -l 127.0.0.1:0 -- /usr/bin/env
	ask '' > "$D/env"
	grep PREFORKD_SERVICE "$D/env"
	not grep -E 'NOTIFY|WATCHDOG|LISTEN_' "$D/env"
}

@test "nobody there, or nonsense, is a warning and no more" {
	NOTIFY_SOCKET=$D/nobody start_greet
	wait_for logged 'warning: NOTIFY_SOCKET: No such file'
	[[ $(ask l) == Welcome* ]]
	stop
	[ "$(count_logged NOTIFY_SOCKET)" -eq 1 ]
	for bad in nonsense @ '' "/$(printf %0200d 0)"; do
		NOTIFY_SOCKET=$bad start_greet
		wait_for logged '^preforkd: NOTIFY_SOCKET: must be an absolute path or @NAME'
		stop
		: > "$LOG"
	done
}

@test "a supervisor that is stuck is waited for by nobody, and told in the end" {
	hear
	kill -STOP "$LISTENER"
	# Its queue is short: see max_dgram_qlen of unix(7).
	python3 - "$NOTIFY_SOCKET" <<-'END'
	import socket, sys
	s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
	s.setblocking(False)
	try:
	    while True:
	        s.sendto(b"x", sys.argv[1])
	except BlockingIOError:
	    pass
	END
	start_greet
	[[ $(ask l) == Welcome* ]]
	wait_for logged 'warning: NOTIFY_SOCKET: Resource temporarily unavailable'
	kill -CONT "$LISTENER"
	wait_for heard "READY=1\|MAINPID=$M"
}

@test "-1 is the readiness of s6: a line on notification-fd, and nothing before" {
	mkfifo "$D/ready"
	cat > "$D/script" <<-END
	#!/bin/sh
	exec 3> '$D/ready'
	exec '$PREFORKD' -d -1 -o 'status-file $STATUS' -l 127.0.0.1:0 greet 2>&1 >&3 3>&-
	END
	chmod 755 "$D/script"
	setsid "$D/script" > "$LOG" 3>&- &
	M=$!
	STARTED+=("$M")
	IFS= read -r line < "$D/ready"
	[[ $line =~ ^127\.0\.0\.1:[0-9]+$ ]]
	[[ $(ask l "${line##*:}") == Welcome* ]]
	BASE_FDS=$(master_fds)
	stop
	wait_for logged 'notice: stopped clients-cut=0 clients=1'
}

# install_units: as make install does, for the programs of this tree.
install_units() {
	mkdir "$D/sbin"
	ln -s "$PREFORKD" "$PREFORKCTL" "$D/sbin"
	DESTDIR='' sbindir=$D/sbin sysconfdir=$D/etc runstatedir=/run \
	    datadir=$D/share systemdsystemunitdir=$D/units INSTALL=install \
	    "$TOP/build-aux/sysconf" "$1"
}

@test "systemd finds nothing wrong with its units, as they are installed" {
	command -v systemd-analyze || skip 'no systemd-analyze'
	install_units install
	grep "^ExecStart=$D/sbin/preforkd -d -f $D/etc/preforkd.conf\$" "$D/units/preforkd.service"
	SYSTEMD_UNIT_PATH=$D/units:/lib/systemd/system systemd-analyze \
	    --man=no --recursive-errors=yes verify "$D"/units/preforkd{,@}.service \
	    "$D/units/preforkd.socket" > "$D/said" 2>&1
	cat "$D/said"
	[ ! -s "$D/said" ]
}

@test "instances differ from the one service in their names alone" {
	cd "$TOP/etc/systemd"
	body() { sed '/^#/d; s/\.%i\././; s/ %i$//; /./,$!d' "$1"; }
	diff <(body preforkd.service) <(body preforkd@.service)
	grep 'preforkd.%i.conf$' preforkd@.service
}

@test "what the units run works: the sample file, and the reload" {
	[ "$(id -u)" -eq 0 ] || skip 'the units are for root'
	unit=$TOP/etc/systemd/preforkd.service
	sed "s/127.0.0.1:8001/127.0.0.1:0/; s|^include .*||" "$TOP/etc/preforkd.conf" > "$D/preforkd.conf"
	read -ra run < <(sed -n "s|^ExecStart=/usr/sbin/preforkd||; T
	    s|/etc/preforkd.conf|$D/preforkd.conf|; p" "$unit")
	hear
	start "${run[@]}"
	wait_for heard 'READY=1'
	read -ra run < <(sed -n "s|^ExecReload=/usr/sbin/preforkctl||; T
	    s|/run/preforkd/preforkd.status|$STATUS|; p" "$unit")
	"$PREFORKCTL" "${run[@]}"
	wait_for logged 'reloaded generation=2'
	grep -qx 'KillMode=mixed' "$unit"
	drain=$("$PREFORKD" -nn -f "$D/preforkd.conf" | sed -n 's/.*drain-timeout \([0-9]*\)s/\1/p')
	[ "$(sed -n 's/^TimeoutStopSec=\([0-9]*\)s/\1/p' "$unit")" -gt "$drain" ]
	stop
}

# start_loop WHAT: a service whose workers die from now on, with this
# on-crash-loop, which a reload has brought, and beside another.
start_loop() {
	export FAULT_FILE=$D/fault.$1
	PROGRAM=$FAULTY
	{
		printf '%s\n' 'workers-spare 1' 'workers-max 2'
		printf 'service %s\nlisten 127.0.0.1:0\nrun %s\n' \
		    abort abort command command
	} > "$D/conf"
	start -o 'user root' -f "$D/conf"
	sed -i "1i on-crash-loop $1" "$D/conf"
	"$PREFORKCTL" -s "$STATUS" reload
	wait_for has_workers 2
	touch "$FAULT_FILE"
	mapfile -t all < <(ps -o pid=,args= --ppid "$M" | awk '/: abort /{print $1}')
	kill -9 "${all[@]}"
	wait_for logged 'starting them one at a time'
}

# The other way, in a server beside: six tries take as long in both.
start_other_loop() {
	STATUS=$D/other.status LOG=$D/other.log
	start_loop "$1"
	OTHER_MASTER=$M STATUS=$D/status LOG=$D/log
}

@test "on-crash-loop: after six tries exit ends the server in order, with status 70, and says why; keep-trying goes on" {
	[ "$(id -u)" -eq 0 ] || skip 'as user root'
	start_other_loop keep-trying
	hear
	start_loop exit
	t=$EPOCHREALTIME
	wait_for eval "status | grep -E '^abort .*  next try in [1-9] s\$'"
	wait_for logged 'error: no worker lives to serve a client, the server ends service=abort'
	took "$t" 4000 12000
	[ "$(count_logged 'error: a last death pid=[0-9]+ slot=[0-9]+ age=[0-9.]+ how="SIGABRT"')" -eq 5 ]
	# three that began it, and six tries
	[ "$(count_logged 'worker died .*service=abort.* how="SIGABRT')" -eq 9 ]
	wait_for logged 'stopping, clients finish'
	ended 70
	wait_for logged 'notice: stopped clients-cut=0'
	wait_for heard STOPPING=1
	log_grammar "$LOG"
	M=$OTHER_MASTER STATUS=$D/other.status LOG=$D/other.log
	wait_for eval "status | grep -E '^abort .*  next try in ([7-9]|1[0-9]) s\$'"
	not logged 'the server ends'
	stop
}
