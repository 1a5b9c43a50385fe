# daemon.bash: servers in the background, each of a copy of the program of its
# own, so that whatever a start has left behind is found by its executable, in
# whichever session it is; and what is done to them a few times in 55-daemon
# and many times in soak/55-daemon.  To be loaded after helper and clients.

# shellcheck disable=SC2034,SC2154  # shared with helper.bash and the tests

eval "helper_$(declare -f setup)"
setup() {
	helper_setup
	PUBLIC=''
	MOUNTED=''
	own "$PREFORKD"
}

# own FILE: run this program, as a copy.
own() {
	cp "$1" "$D/preforkd"
	PROGRAM=$D/preforkd
}

teardown() {
	local p bad=0
	DEADLINE=10
	if [ -n "$M" ]; then
		kill -INT "$M"
		wait_for gone_or_zombie "$M" || bad=1
		[ ! -e "$PIDFILE" ] || { echo 'I8 pid file' >&2; bad=1; }
		M=''
	fi
	check_invariants || bad=1
	wait_for none_left || { echo 'I1 left behind' >&2; bad=1; }
	for p in $(mine); do kill -KILL "$p"; done
	[ -z "$MOUNTED" ] || umount "$MOUNTED" || bad=1
	[ -z "$PUBLIC" ] || rm -rf "$PUBLIC"
	return $bad
}

# Processes that run this test's program.
mine() {
	find /proc -maxdepth 2 -path '/proc/[0-9]*/exe' \
	    \( -lname "$PROGRAM" -o -lname "$PROGRAM (deleted)" \) 2>/dev/null |
	    cut -d/ -f 3
}
masters() { for p in $(mine); do [ "$(stat_field "$p" 4)" != "$p" ] || echo "$p"; done; }
none_left() { [ -z "$(mine)" ]; }

told() { cat "$D/err"; grep -qE -- "$1" "$D/err"; }

# races N: of two starts at once exactly one serves, N times.
races() {
	local i lost
	for i in $(seq "$1"); do
		race "$i" 1
		race "$i" 2
	done
	for i in $(seq "$1"); do
		wait_for raced "$i"
		[ "$(cat "$D/$i".?/rc | sort | tr -d '\n')" = 01 ]
		lost=$(grep -lx 1 "$D/$i".?/rc)
		grep -E "running already, pid|another preforkd is starting" \
		    "${lost%/rc}/err"
		PIDFILE=$D/race.$i
		M=$(< "$PIDFILE")
		STARTED+=("$M")
		stop_daemon INT
	done
}
race() {
	local dir=$D/$1.$2
	mkdir "$dir"
	(
		rc=0
		PIDFILE=$D/race.$1 STATUS=$dir/status LOG=$dir/log
		D=$dir
		daemon -o 'workers-spare 1' -l 127.0.0.1:0 greet || rc=$?
		echo $rc > "$dir/rc"
	) 3>&- &
}
raced() { [ -s "$D/$1.1/rc" ] && [ -s "$D/$1.2/rc" ]; }

# starts_and_stops N: with clients active.
starts_and_stops() {
	local i storms=()
	start_daemon -l 127.0.0.1:0 greet
	for ((i = 0; i < $1; i++)); do
		"$TOOLS/storm" -T 3000 -t 30 -r -c 4 "$ADDRESS" \
		    > "$D/storm$i" 2>&1 3>&- &
		storms+=($!)
		"$TOOLS/storm" -n 60 -c 6 "$ADDRESS"
		kill -TERM "$M"
		wait_for gone_or_zombie "$M"
		[ ! -e "$PIDFILE" ]
		kill -TERM "${storms[-1]}" 2>/dev/null || true
		start_daemon -l "$ADDRESS" greet
	done
	# a SYN that came between two servers may find the end of the next one
	for i in "${!storms[@]}"; do
		wait "${storms[i]}" || true
		cat "$D/storm$i"
		grep -qE ' reset=0 .* short=0 wrong=0 timeout=([0-9]+) timeout_unconnected=\1 ' \
		    "$D/storm$i"
	done
}

# sweep FUNCTION N STEP: SIGTERM to the process of $! at more and more of its
# start: at 0, STEP, 2 STEP ... microseconds.
sweep() {
	local i
	for ((i = 0; i < $2; i++)); do
		rm -f "$PIDFILE"
		"$1"
		sleep "$(printf '0.%06d' $((i * $3)))"
		kill -TERM "$!" 2>/dev/null || true
		RC=0
		wait $! || RC=$?
		"$1_ended"
		wait_for none_left
		[ ! -e "$PIDFILE" ]
	done
}

in_background() {
	"$PROGRAM" -o "status-file $STATUS" -o "pidfile $PIDFILE" \
	    -o 'workers-spare 50' -o "log file $LOG" -l 127.0.0.1:0 greet \
	    < /dev/null 2> "$D/err" 3>&- &
}
# 143: before it had done anything; 0: after it was done.
in_background_ended() {
	case $RC in
	0)	kill -TERM "$(< "$PIDFILE")" ;;
	1)	told 'the server was told to stop while it started' ;;
	143)	[ ! -s "$D/err" ] ;;
	*)	echo "exit status $RC"
		return 1 ;;
	esac
}

in_foreground() {
	"$PROGRAM" -d -o "status-file $STATUS" -o "pidfile $PIDFILE" \
	    -o 'workers-spare 50' -l 127.0.0.1:0 greet \
	    < /dev/null 2>> "$LOG" 3>&- &
}
in_foreground_ended() { [ "$RC" -eq 0 ] || [ "$RC" -eq 143 ]; }
