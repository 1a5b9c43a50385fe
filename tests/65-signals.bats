# 65-signals.bats: what signals do to the master, and how it stops: with
# clients, with a queue, under load, at the deadline and at once (rows F, G02
# and J of the fault matrix).

load helper
load clients

last_line() { tail -n 1 "$LOG"; }
stopping() { logged 'notice: stopping, clients finish'; }

# The next server of a test has a log of its own.
next_log() {
	cat "$LOG" >> "$D/earlier" 2>/dev/null || true
	: > "$LOG"
}

# refuses ADDRESS: nobody listens there.
refuses() { ! "$TOOLS/storm" -n 1 -c 1 "$1" > "$D/refused" 2>&1 &&
    grep -q 'refused=1' "$D/refused"; }

@test "a stop serves a busy pool and the 100 clients in its queue" {
	for i in $(times 3 5); do
		next_log
		start_greet -o 'workers-spare 1' -o 'workers-max 4'
		hold 4
		queue 100
		kill -TERM "$M"
		wait_for stopping
		release
		queue_served 100
		ended 0
		[[ $(last_line) == *'stopped clients-cut=0 clients=104' ]]
	done
}

@test "G02 a stop under a connect storm resets no established connection" {
	storms=()
	for i in $(times 5 10); do
		mkdir "$D/$i"
		start_greet -o 'workers-spare 4'
		ACCEPTED=0
		D=$D/$i storm_begin -r -t 20 -c 16
		storms+=("$STORM")
		stop TERM
	done
	# Each has met its first refusal, a second later.
	for i in $(times 5 10); do
		wait "${storms[i - 1]}" || true
		D=$D/$i stormed_well
	done
}

@test "the stop of an idle server takes no time, leaves no process and no listener" {
	start_greet
	t=$EPOCHREALTIME
	stop TERM
	took "$t" 0 3000
	[[ $(last_line) == *'notice: stopped clients-cut=0 clients=0' ]]
	no_members
	refuses "$ADDRESS"
	status | grep -q '^state: *stopped'
}

@test "a stop waits for a client that finishes within the drain time" {
	start_greet
	hold 3
	kill -TERM "$M"
	wait_for stopping
	wait_for slots_are draining 3
	release
	ended 0
	[[ $(last_line) == *'stopped clients-cut=0 clients=3' ]]
}

@test "J13 clients that never end are cut at drain-timeout, not before" {
	start_greet -o 'drain-timeout 2s'
	hold 2
	t=$EPOCHREALTIME
	kill -TERM "$M"
	ended 2
	took "$t" 2000 5000
	[[ $(last_line) == *'stopped clients-cut=2 clients=2' ]]
	release_cut
	grep -q 'closed=0 ' "$D/held"
}

# clock_at OFFSET: the clock of the day, for servers of `faketime_server'.
clock_at() {
	echo "$1" > "$D/offset.new"
	mv "$D/offset.new" "$D/offset"
}

faketime_server() {
	cat > "$D/server" <<-END
		#!/bin/sh
		export LD_PRELOAD=\$(faketime 0 printenv LD_PRELOAD)
		exec "$PREFORKD" "\$@"
	END
	chmod +x "$D/server"
	PROGRAM=$D/server
	USER_OPTION=(-o "user $(id -un)")	# who can read the offset
	export FAKETIME_TIMESTAMP_FILE=$D/offset FAKETIME_NO_CACHE=1 \
	    FAKETIME_DONT_FAKE_MONOTONIC=1
	clock_at +0
}

@test "J08 when the clock jumps by a day or by forty years, no timeout does" {
	[ -z "${SANITIZE-}" ] || skip 'sanitizers want to be preloaded first'
	faketime_server
	start_greet -o 'first-byte-timeout 400ms' -o 'drain-timeout 2s' \
	    -o 'log-connections both'
	for jump in +1d -1d +40y -40y; do
		clock_at "$jump"
		t=$EPOCHREALTIME
		"$TOOLS/abuse" silent "$ADDRESS"
		took "$t" 360 3400
	done
	year=$(date -u +%Y)
	wait_for logged "^$((year + 40)).* end=first-byte-timeout"
	wait_for logged "^$((year - 40)).* end=first-byte-timeout"
	stop
	next_log
	start_greet -o 'drain-timeout 2s'
	hold 1
	t=$EPOCHREALTIME
	kill -TERM "$M"
	wait_for stopping
	clock_at +40y
	ended 2
	took "$t" 1900 5000
	release_cut
}

@test "F11 a second SIGTERM stops at once, and tells of the clients it cut" {
	start_greet
	hold 3
	kill -TERM "$M"
	wait_for stopping
	t=$EPOCHREALTIME
	kill -TERM "$M"
	ended 2
	took "$t" 0 4000
	[[ $(last_line) == *'stopped clients-cut=3 clients=3' ]]
	release_cut
}

@test "F11 a second SIGTERM without a client is a stop in order" {
	start_greet -o 'workers-spare 2'
	w=$(one_worker)
	kill -STOP "$w"		# so that the stop has to wait for it
	kill -TERM "$M"
	wait_for stopping
	t=$EPOCHREALTIME
	kill -TERM "$M"
	ended 0
	took "$t" 0 4000
	wait_for logged 'stopping at once why="a second SIGTERM"'
}

@test "SIGINT and SIGQUIT stop at once, with clients and without" {
	for s in INT QUIT; do
		next_log
		start_greet
		stop $s
		[[ $(last_line) == *'stopped clients-cut=0 clients=0' ]]
		next_log
		start_greet
		hold 2
		t=$EPOCHREALTIME
		stop $s 2
		took "$t" 0 4000
		[[ $(last_line) == *'stopped clients-cut=2 clients=2' ]]
		release_cut
	done
}

@test "SIGINT while it drains stops at once" {
	start_greet
	hold 1
	kill -TERM "$M"
	wait_for stopping
	stop INT 2
	release_cut
}

@test "clients left in the queue by a stop at once are told as cut" {
	start_greet -o 'workers-spare 1' -o 'workers-max 1'
	hold 1
	queue 7
	stop INT 2
	[[ $(last_line) == *'stopped clients-cut=8 clients=1' ]]
	queue_read
	release_cut
}

@test "F12 Ctrl-C at a terminal is one stop at once, which kills no worker twice" {
	mkfifo "$D/keys"
	: > "$D/addresses"
	setsid script -qec "exec '$PREFORKD' -d -1 -o 'status-file $STATUS' \
	    -l 127.0.0.1:0 greet > '$D/addresses' 2>> '$LOG'" /dev/null \
	    < "$D/keys" > "$D/terminal" 2>&1 3>&- &
	terminal=$!
	STARTED+=("$terminal")
	exec 7> "$D/keys"
	wait_for test -s "$D/addresses"
	ADDRESS=$(< "$D/addresses")
	hold 2
	printf '\003' >&7
	rc=0
	wait "$terminal" || rc=$?
	exec 7>&-
	[ "$rc" -eq 2 ]
	[ "$(count_logged 'stopping')" -eq 1 ]
	wait_for logged 'stopping at once why="SIGINT or SIGQUIT"'
	not logged 'worker died'
	[[ $(last_line) == *'stopped clients-cut=2 clients=2' ]]
	release_cut
}

# Not close(2), which strace leaves out when it lets it fail.
@test "F07 calls that are interrupted are made again, in master, workers and logger" {
	export ASAN_OPTIONS=detect_leaks=0	# it cannot look when traced
	calls=poll,ppoll,read,write,wait4,accept4,recvfrom,sendto,recvmsg,sendmsg
	start_greet -o 'workers-spare 4' -o 'workers-idle-time 200ms'
	mapfile -t all < <({ workers; logger_pid; } | sed 's/^/-p/')
	strace -qq -o "$D/trace" -e "trace=$calls" \
	    -e "inject=$calls:error=EINTR:when=1+3" -p "$M" \
	    "${all[@]}" 3>&- &
	STRACE=$!
	wait_for traced
	storm -n "$(often 300 3000)" -c 4
	stormed_well
	[ "$(stormed refused)" -eq 0 ]
	kill -HUP "$M"
	wait_for logged 'reloaded generation=2'
	storm -n 100 -c 4
	stormed_well
	kill "$STRACE"
	wait "$STRACE" || true
	stop
	for call in accept4 ppoll read wait4; do
		grep -q "$call(.*INJECTED" "$D/trace"
	done
	[[ $(last_line) == *'stopped clients-cut=0 '* ]]
}
traced() { [ "$(awk '$1 == "TracerPid:" { print $2 }' "/proc/$M/status")" != 0 ]; }

# Masks of signals, as /proc/PID/status shows them.
mask() {
	local m=0 s
	for s; do m=$((m | 1 << ($(kill -l "$s") - 1))); done
	printf '%016x' "$m"
}
# Signals 32 and 33 are the C library's: its posix_spawn(3), by which make
# starts us, leaves them ignored, and its sigaction(2) does not let them be set.
shown() {
	local m
	m=$(awk -v f="$1:" '$1 == f { print $2 }' "/proc/$M/status")
	printf '%016x' $((0x$m & ~0x180000000))
}
blocks_nothing() { [ "$(shown SigBlk)" = "$(mask)" ]; }

dispositions_hold() {
	wait_for blocks_nothing
	[ "$(shown SigCgt)" = "$(mask TERM INT QUIT HUP USR1 USR2 CHLD PIPE)" ]
	[ "$(shown SigIgn)" = "$(mask XFSZ)" ]
}

@test "F04 the master catches and ignores the documented signals and no other, running and draining" {
	start_greet
	dispositions_hold
	hold 1
	kill -TERM "$M"
	wait_for stopping
	dispositions_hold
	release
	ended 0
}

HARMLESS='HUP USR1 USR2 CHLD PIPE XFSZ CONT URG WINCH'
DEADLY='ILL TRAP ABRT BUS FPE KILL SEGV ALRM STKFLT VTALRM PROF IO PWR SYS'

@test "F04 signals that do not end the master leave it serving, and draining" {
	start_greet
	for s in $HARMLESS; do
		kill -"$s" "$M"
		[[ $(ask x) == Welcome* ]]
	done
	kill -STOP "$M"
	[[ $(ask x) == Welcome* ]]
	kill -CONT "$M"
	wait_for logged 'reloaded generation='
	wait_for logged 'upgraded from='
	hold 2
	kill -TERM "$M"
	wait_for stopping
	for s in $HARMLESS STOP CONT; do
		kill -"$s" "$M"
	done
	sleep 0.3
	not gone_or_zombie "$M"
	[ "$(count_logged 'stopping')" -eq 1 ]
	release
	ended 0
}

@test "F04 signals without a meaning end the master, and its workers leave" {
	ulimit -c 0
	start_greet -o 'workers-spare 1'
	for s in $DEADLY; do
		kill -"$s" "$M"
		ended $((128 + $(kill -l "$s")))
		wait_for no_members
		start_greet -o 'workers-spare 1'
	done
}

@test "F04 so they do while it drains, and clients are served to the end" {
	ulimit -c 0
	for s in SEGV ALRM KILL; do
		next_log
		start_greet -o 'workers-spare 1'
		hold 1
		kill -TERM "$M"
		wait_for stopping
		kill -"$s" "$M"
		ended $((128 + $(kill -l "$s")))
		release
		wait_for no_members
	done
}

# random_signals N: at short and random distances.
random_signals() {
	local n=$1 mix=(HUP HUP USR1 USR2 CHLD WINCH)
	while [ $((n -= 1)) -ge 0 ]; do
		kill -"${mix[RANDOM % ${#mix[@]}]}" "$M" 2>/dev/null || return 0
		[ $((RANDOM % 3)) -ne 0 ] || sleep "0.0$((RANDOM % 4))"
	done
}

# random_runs N: start, signals, SIGTERM, signals; it always wins.  SEED=N
# repeats a run that failed.
random_runs() {
	local seed i t
	seed=${SEED:-$RANDOM}
	echo "SEED=$seed"
	RANDOM=$seed
	for ((i = 0; i < $1; i++)); do
		next_log
		start_greet -o 'workers-spare 1' -o 'drain-timeout 5s'
		random_signals $((RANDOM % 8))
		t=$EPOCHREALTIME
		kill -TERM "$M"
		random_signals $((RANDOM % 8))
		ended 0
		took "$t" 0 8000
		[[ $(last_line) == *'stopped clients-cut=0 clients=0' ]] || {
			cat "$LOG"
			return 1
		}
		log_grammar "$LOG"
	done
	wait_for no_members	# the tracer of slow_system ends a little later
}

# slow_system: every fourth of these calls of the next servers takes longer.
slow_system() {
	export ASAN_OPTIONS=detect_leaks=0	# it cannot look when traced
	printf '#!/bin/sh\nexec strace -D -f -qq -o %s %s %s "$@"\n' \
	    "$D/slow.trace" \
	    '-e inject=clone,fork,vfork,wait4,bind,listen,kill,dup2,setsockopt,pipe2:delay_enter=100000:when=2+3' \
	    "$PREFORKD" > "$D/slow"
	chmod 755 "$D/slow"
	PROGRAM=$D/slow
}

# term_in_reload N: SIGTERM so many times, at moments spread over a reload,
# with clients that stay and others that come.
term_in_reload() {
	local i ms storms=()
	for ((i = 0; i < $1; i++)); do
		next_log
		ms=$((i * 40 / $1))
		mkdir -p "$D/$i"
		start_greet -o 'workers-spare 4'
		hold 2
		D=$D/$i ACCEPTED=0 storm_begin -r -t 20 -c 8
		storms+=("$STORM")
		kill -HUP "$M"
		sleep "$(printf '0.%03d' $ms)"
		kill -TERM "$M"
		wait_for logged 'stopping, clients finish'
		release
		ended 0
		[[ $(last_line) == *'stopped clients-cut=0 '* ]]
	done
	# Each has met its first refusal, a second later.
	for ((i = 0; i < $1; i++)); do
		wait "${storms[i]}" || true
		D=$D/$i stormed_well
	done
}

@test "F03 SIGTERM wins over any mix of other signals" {
	random_runs "$(often 8 500)"
	refuses "$ADDRESS"
}

@test "F10 so it does when forks, waits, binds and signals are slow" {
	slow_system
	random_runs "$(often 3 50)"
}

@test "SIGTERM at any moment of a reload ends the server in order, and resets nobody" {
	term_in_reload "$(often 5 80)"
}

@test "F04 signals that do not end the master leave it starting, and reloading" {
	REPLY_LINES=1
	export FAULT_FILE=$D/fault
	PROGRAM=$FAULTY
	touch "$FAULT_FILE.slow"
	start_quietly -l 127.0.0.1:0 -o 'workers-spare 1' -o 'user root' abort
	wait_for slots_are starting 1
	dispositions_hold
	for s in USR1 USR2 CHLD PIPE XFSZ CONT URG WINCH; do kill -"$s" "$M"; done
	rm "$FAULT_FILE.slow"
	wait_for started
	ADDRESS=$(< "$D/addresses") PORT=${ADDRESS##*:}
	BASE_FDS=$(master_fds)
	touch "$FAULT_FILE.slow"
	kill -HUP "$M"
	wait_for slots_are starting 1
	dispositions_hold
	for s in $HARMLESS; do kill -"$s" "$M"; done
	[[ $(ask x) == hello* ]]
	rm "$FAULT_FILE.slow"
	wait_for logged 'reloaded generation=3'
	[[ $(ask x) == hello* ]]
	stop
}

@test "F14 a flood of SIGCHLD hides no death and costs no client" {
	start -l 127.0.0.1:0 -o 'workers-min 6' -o 'workers-max 6' greet
	storm_begin -t 20 -c 4
	for i in {1..10}; do
		for n in {1..200}; do kill -CHLD "$M"; done
		kill -TERM "$(one_worker)" 2>/dev/null || true
	done
	storm_end
	stormed_well
	wait_for has_workers 6
	wait_for no_zombies
}

@test "J04 stops and starts on one address, with clients active" {
	# An address of its own: no other test's client can have the port.
	host=127.$((RANDOM % 100 + 100)).$((RANDOM % 250)).$((RANDOM % 250 + 1))
	start -l "$host:0" -o 'workers-spare 2' greet
	fixed=$ADDRESS
	for i in $(times 5 200); do
		hold 2
		storm -n 5 -c 2
		kill -TERM "$M"
		wait_for stopping
		release
		ended 0
		next_log
		start -l "$fixed" -o 'workers-spare 2' greet
		[ "$ADDRESS" = "$fixed" ]
	done
}

start_throttled() {
	REPLY_LINES=1
	export FAULT_FILE=$D/fault
	PROGRAM=$FAULTY
	start -o 'workers-min 2' -o 'workers-max 2' -o 'drain-timeout 1s' \
	    -o 'user root' -l 127.0.0.1:0 abort
	touch "$FAULT_FILE"
	mapfile -t all < <(workers)
	kill -9 "${all[@]}"
	wait_for logged 'starting them one at a time'
}

@test "J14 a stop while throttled serves the queue when the service heals" {
	start_throttled
	queue 5
	kill -TERM "$M"
	wait_for stopping
	rm "$FAULT_FILE"
	queue_served 5
	ended 0
}

@test "J14 a stop while throttled ends at drain-timeout, and its queue is told as cut" {
	start_throttled
	queue 5
	t=$EPOCHREALTIME
	kill -TERM "$M"
	ended 2
	took "$t" 1000 4000
	[[ $(last_line) == *'stopped clients-cut=5 clients=0' ]]
	queue_read
}

@test "the queue of a Unix socket is served at a stop, and its path goes at once" {
	start -l "unix:$D/sock" -o 'workers-max 1' greet
	hold 1
	queue 50
	kill -TERM "$M"
	wait_for stopping
	[ ! -e "$D/sock" ]
	release
	queue_served 50
	ended 0
}

@test "both sockets of *:PORT serve their queues at a stop and go" {
	[ -e /proc/net/if_inet6 ] || skip 'this kernel has no IPv6'
	start -l '*:0' -o 'workers-spare 1' -o 'workers-max 2' greet
	four=127.0.0.1:${ADDRESSES[0]##*:}
	six="[::1]:"${ADDRESSES[1]##*:}
	[[ ${ADDRESSES[0]} == 0.0.0.0:* && ${ADDRESSES[1]} == \[::\]:* ]]
	hold 1 "$four"
	queue 20 "$four" four
	queue 20 "$six" six
	kill -TERM "$M"
	wait_for stopping
	queue_served 20 six
	release
	queue_served 20 four
	ended 0
	refuses "$four"
	refuses "$six"
}

# guarded: servers run with module-guard.so, which counts in $D/runs.
guarded() {
	[[ -z ${SANITIZE:-} ]] || skip 'sanitizers have a malloc of their own'
	head -c 4 /dev/zero > "$D/runs"
	printf '#!/bin/sh\nexec env LD_PRELOAD=%s GUARD_RUNS=%s %s "$@"\n' \
	    "$TOOLS/module-guard.so" "$D/runs $1" "$PREFORKD" > "$D/guarded"
	chmod +x "$D/guarded"
	PROGRAM=$D/guarded
}
handled() { od -An -tu4 "$D/runs" | tr -d ' '; }

@test "F09 no handler asks for memory, stdio, syslog or the calendar: 10,000 signals" {
	guarded
	start_greet -o 'workers-spare 4'
	storm_begin -c 4 -t 60
	while [ "$(handled)" -lt 10000 ]; do
		mapfile -t all < <(workers)
		for i in {1..100}; do
			kill -CHLD "$M"
			kill -PIPE "$M" "${all[@]}" || true
			kill -VTALRM "${all[@]}" || true
			kill -USR2 "${all[@]}" || true
		done 2> "$D/gone"
		kill -USR1 "$M"
		kill -HUP "$M"
		kill -TERM "${all[0]}" || true
	done
	storm_end
	stormed_well
	not logged 'in a handler|worker died'
	status reload
	wait_for logged 'notice: reloaded'
}

@test "F09 the guard sees a handler that asks for memory" {
	guarded GUARD_CONTROL=1
	EXPECT_DEAD=yes
	start_greet -o 'workers-spare 1'
	kill -CHLD "$M"
	ended 134	# SIGABRT
	logged '^malloc in a handler$'
	sed -i '/in a handler$/d' "$LOG"
}
