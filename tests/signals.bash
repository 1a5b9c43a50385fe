# signals.bash: signals at random moments, to be loaded after helper and clients.

# shellcheck disable=SC2034,SC2154  # shared with helper.bash and the tests

last_line() { tail -n 1 "$LOG"; }
stopping() { logged 'notice: stopping, clients finish'; }

# The next server of a test has a log of its own.
next_log() {
	cat "$LOG" >> "$D/earlier" 2>/dev/null || true
	: > "$LOG"
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
		[[ $(last_line) == *'stopped clients-cut=0 clients=0' ]]
		log_grammar "$LOG"
	done
	no_members
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
	local i ms
	for ((i = 0; i < $1; i++)); do
		next_log
		ms=$((i * 40 / $1))
		mkdir -p "$D/$i"
		start_greet -o 'workers-spare 4'
		# In this order, or the storm would hold the clients of hold.
		D=$D/$i ACCEPTED=0 storm_begin -r -t 20 -c 8
		hold 2
		kill -HUP "$M"
		sleep "$(printf '0.%03d' $ms)"
		kill -TERM "$M"
		wait_for logged 'stopping, clients finish'
		release
		ended 0
		[[ $(last_line) == *'stopped clients-cut=0 '* ]]
		wait "$STORM" || true
		D=$D/$i stormed_well
	done
}
