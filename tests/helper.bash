# helper.bash: what every test of a running server shares.
#
# `start ARG...' runs a server in the foreground of a private session, with a
# private status file, and waits until it has said where it serves; `stop'
# ends it and checks how it ended.  teardown holds the invariants of the fault
# matrix (I1 ...) for whatever the test started.  Facts are waited for with a
# deadline (wait_for), never slept for.

# shellcheck disable=SC2034  # for the tests that load this file

bats_require_minimum_version 1.7.0

TOP=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
BUILDDIR=${BUILDDIR:-$TOP}
SRC=$BUILDDIR/src
TOOLS=$BUILDDIR/tests/build
PREFORKD=$SRC/preforkd
PREFORKCTL=$SRC/preforkctl
FAULTY=$TOOLS/preforkd-faulty
DEADLINE=${DEADLINE:-20}	# seconds that a fact may take
USER_OPTION=()			# of every server that start starts
unset XDG_RUNTIME_DIR NOTIFY_SOCKET LISTEN_FDS LISTEN_PID

setup() {
	D=$BATS_TEST_TMPDIR
	STATUS=$D/status
	PIDFILE=$D/pid
	LOG=$D/log
	M=''
	EXPECT_ALERT=no		# a test that provokes one says yes
	EXPECT_DEAD=no		# a test that kills the master says yes
	PROGRAM=$PREFORKD
	STARTED=()
}

# wait_for COMMAND...: until it succeeds.
wait_for() {
	local end=$((SECONDS + DEADLINE))
	until "$@"; do
		if [ $SECONDS -ge $end ]; then
			echo "waited in vain for: $*" >&2
			return 1
		fi
		sleep 0.02
	done
}

logged() { grep -qE -- "$1" "$LOG"; }
not() { ! "$@"; }
# open_directory: $D, for files that whoever serves can read.
open_directory() {
	chmod 711 "$BATS_RUN_TMPDIR" "$BATS_FILE_TMPDIR" "${D%/*}"
	chmod 755 "$D"
}

gone() { ! kill -0 "$1" 2>/dev/null; }
count_logged() { grep -cE -- "$1" "$LOG" || true; }
has_logged() { [ "$(count_logged "$2")" -ge "$1" ]; }

# start ARG...: $M the master, $PORT and $ADDRESS of the first socket, $ADDRESSES.
start() {
	start_quietly "$@"
	wait_for started
	[ -s "$D/addresses" ] || {
		cat "$LOG" >&2
		return 1
	}
	mapfile -t ADDRESSES < "$D/addresses"
	ADDRESS=${ADDRESSES[0]}
	PORT=${ADDRESS##*:}
	BASE_FDS=$(master_fds)
}

start_quietly() {
	: > "$D/addresses"
	setsid "$PROGRAM" -d -1 -o "status-file $STATUS" \
	    "${USER_OPTION[@]}" "$@" \
	    > "$D/addresses" 2>> "$LOG" < /dev/null 3>&- &
	M=$!
	STARTED+=("$M")
}

started() { [ -s "$D/addresses" ] || gone "$M"; }

# start_daemon ARG...: the same in the background, by its pid file $PIDFILE and
# with its log in $LOG; what the command says is in $D/addresses and $D/err.
start_daemon() {
	daemon "$@" || {
		cat "$D/err" >&2
		return 1
	}
	M=$(< "$PIDFILE")
	STARTED+=("$M")
	mapfile -t ADDRESSES < "$D/addresses"
	ADDRESS=${ADDRESSES[0]}
	PORT=${ADDRESS##*:}
	BASE_FDS=$(master_fds)
}

# daemon ARG...: the command alone, which ends by itself.
daemon() {
	"$PROGRAM" -1 -o "status-file $STATUS" -o "pidfile $PIDFILE" \
	    -o "log file $LOG" "$@" > "$D/addresses" 2> "$D/err" \
	    < /dev/null 3>&-
}

# stop_daemon [SIGNAL]: it is gone, with its pid file.
stop_daemon() {
	kill -"${1:-TERM}" "$M"
	wait_for gone_or_zombie "$M"
	[ ! -e "$PIDFILE" ]
	M=''
}

# greet: a server of the greeting on a free port, with these settings.
start_greet() { start -l 127.0.0.1:0 "$@" greet; }

# stop [SIGNAL [EXIT]]: and the exit status must be EXIT.
stop() {
	kill -"${1:-TERM}" "$M"
	ended "${2:-0}"
}

# ended EXIT: the master ends by itself, with this exit status.
ended() {
	local rc=0
	wait_for gone_or_zombie "$M"
	wait "$M" || rc=$?
	if [ "$rc" != "$1" ]; then
		echo "exit status $rc, not $1" >&2
		return 1
	fi
	ENDED=$M
	M=''
}

gone_or_zombie() {
	local state
	state=$(ps -o stat= -p "$1") || return 0
	[ "${state:0:1}" = Z ]
}

# The pids of the live workers, from the process table; of the logger.
workers() { ps -o pid=,args= --ppid "$M" | awk '/: .* slot [0-9]+: /{print $1}'; }
logger_pid() { ps -o pid=,args= --ppid "$M" | awk '/logger/{print $1}'; }
worker_count() { workers | wc -l; }
has_workers() { [ "$(worker_count)" -eq "$1" ]; }
one_worker() { workers | head -n 1; }
master_fds() { find "/proc/$M/fd" -mindepth 1 2>/dev/null | wc -l; }
status() { "$PREFORKCTL" -s "$STATUS" "${1:-status}"; }

# writes PID [SUFFIX]: it has a writable view of the status file, of .slots; by
# its name or the one that it was created under.
writes() {
	grep -qE "rw-s.* $STATUS${2-}(\.new-[^ ]*)?( \(deleted\))?\$" \
	    "/proc/$1/maps"
}

# often SHORT FULL: how often; FULL in `make soak', which runs what uses this.
often() { if [ -n "${SOAK-}" ]; then echo "$2"; else echo "$1"; fi; }
times() { seq "$(often "$1" "$2")"; }

# state_count STATE: slots in this state.
state_count() { status workers | awk -v s="$1" '$2 == s' | wc -l; }
slots_are() { [ "$(state_count "$1")" -eq "$2" ]; }

# kilobytes FIELD: of the master.
kilobytes() { awk -v f="$1:" '$1 == f { print $2 }' "/proc/$M/status"; }

# cpu PID...: hundredths of a second spent so far.
cpu() {
	local p total=0
	local -a field
	for p; do
		read -ra field < <(sed 's/.*) //' "/proc/$p/stat")
		total=$((total + field[11] + field[12]))
	done
	echo $total
}

# lines_refused [KIND]: LINE|WHY on standard input, the former as line 4 of a
# service that says what it runs in line 3, or greets.
lines_refused() {
	local line why
	while IFS='|' read -r line why; do
		printf 'service a\nlisten :0\n%s\n%s\n' "${1:-run greet}" \
		    "$line" > "$D/conf"
		"$PREFORKD" -n -f "$D/conf" 2> "$D/err" && return 1
		[[ $(< "$D/err") == "preforkd: $D/conf:4: $why"* ]] || {
			cat "$D/err"
			return 1
		}
	done
}

# ask TEXT [PORT]: send a line, print the whole reply.
ask() { printf '%s\n' "$1" | timeout "$DEADLINE" nc -N 127.0.0.1 "${2:-$PORT}"; }

session_members() {
	local p
	for p in "${STARTED[@]}"; do
		ps -o pid=,stat=,args= --sid "$p" | awk '$2 !~ /^Z/'
	done
}

no_members() { [ -z "$(session_members)" ]; }

# Every line of the log parses and is clean (I9).
log_grammar() {
	local time='[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:]{8}\.[0-9]{3}Z'
	local head="$time preforkd\\[[0-9]+\\] (alert|error|warning|notice|info|debug):"
	local words='( [^ "=]+)+' value='("([^"\\]|\\.)*"|[^ "]*[^ ":])'
	! LC_ALL=C.UTF-8 grep -avE "^$head$words( [a-z-]+=$value)*(: .*)?\$|^preforkd: |^strace: " "$1" &&
	    ! LC_ALL=C.UTF-8 grep -a '[[:cntrl:]]' "$1"
}

check_invariants() {
	local p bad=0
	if [ -n "$M" ] && [ "$EXPECT_DEAD" = no ]; then
		gone "$M" && { echo 'the master has died' >&2; bad=1; }
		wait_for same_fds || { echo "I3 descriptors: $(master_fds), not $BASE_FDS" >&2; bad=1; }
		wait_for no_zombies || { echo 'I2 zombies' >&2; bad=1; }
		kill -INT "$M" 2>/dev/null
		kill -CONT "$M" 2>/dev/null	# a test may have stopped it
		wait_for gone_or_zombie "$M" || { kill -KILL "$M"; bad=1; }
		wait "$M" 2>/dev/null
	fi
	wait_for no_members || { echo 'I1 left behind:' >&2; session_members >&2; bad=1; }
	for p in $(session_members | awk '{print $1}'); do kill -KILL "$p"; done
	if [ -e "$LOG" ]; then
		grep -aE 'Sanitizer|runtime error' "$LOG" >&2 && bad=1
		[ "$EXPECT_ALERT" = yes ] || ! grep -aE '^[^ ]+ [^ ]+ alert: ' "$LOG" >&2 || bad=1
		log_grammar "$LOG" >&2 || { echo 'I9 log grammar' >&2; bad=1; }
	fi
	return $bad
}

same_fds() { [ "$(master_fds)" = "$BASE_FDS" ]; }
no_zombies() { [ -z "$(ps -o stat= --ppid "$M" | sed -n '/^Z/p')" ]; }

teardown() {
	DEADLINE=10
	check_invariants
}
