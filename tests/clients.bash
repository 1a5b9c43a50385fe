# clients.bash: clients that run beside a test, to be loaded after helper.
#
# storm: many, one after another; hold: silent ones, that stay until they are
# released; queue: complete requests that nobody has accepted yet.  Each
# leaves its lines in a file of $D.

# shellcheck disable=SC2034,SC2154  # shared with helper.bash and the tests

# storm ARG...: against $ADDRESS, in the foreground; its line in $D/storm.
storm() { "$TOOLS/storm" "$@" "$ADDRESS" > "$D/storm" 2>> "$D/storm.err"; }

# storm_begin ARG...: the same in the background, until storm_end.
storm_begin() {
	storm "$@" 3>&- 8>&- &
	STORM=$!
	wait_for accepted_more
}

# The storm has its own process below the shell that waits for it.
storm_end() {
	kill -TERM "$(ps -o pid= --ppid "$STORM")" 2>/dev/null || true
	wait "$STORM"
}

# stormed KEY: what the storm counted; stormed_well: nobody was let down.
stormed() { sed -nE "s/.*\\b$1=([0-9]+).*/\\1/p" "$D/storm"; }
stormed_well() {
	local key
	cat "$D/storm" "$D/storm.err"
	[ "$(stormed ok)" -gt 0 ] || return 1
	for key in reset short wrong timeout; do
		[ "$(stormed $key)" -eq 0 ] || return 1
	done
}

# Clients accepted since the start; 100 more than at the last call.
accepted() { status | awk '/^SERVICE/ { on = 1; next } /^$/ { on = 0 }
    on { n += $2 } END { print n + 0 }'; }
accepted_more() {
	local n
	n=$(accepted)
	[ "$n" -ge $((${ACCEPTED:-0} + 100)) ] || return 1
	ACCEPTED=$n
}

# hold N [TARGET]: N silent clients, greeted, until release.
hold() {
	hold_begin "$@"
	wait_for grep -q "greeted=$1 " "$D/held"
}

hold_begin() {
	rm -f "$D/release"
	mkfifo "$D/release"
	: > "$D/held"	# what an earlier one said
	"$TOOLS/hold" "$1" "${2:-$ADDRESS}" < "$D/release" > "$D/held" 2>&1 3>&- &
	HOLD=$!
	exec 8> "$D/release"
}

# All were closed in order.
release() {
	exec 8>&-
	wait "$HOLD"
}

# The holder, when its clients were cut; what became of them is in $D/held.
release_cut() { release || true; }

# queue N [TARGET [NAME]]: N complete requests, read by queue_served N [NAME].
queue() {
	local name=${3:-queue}
	rm -f "$D/$name.go"
	mkfifo "$D/$name.go"
	: > "$D/$name"
	"$TOOLS/abuse" -l "${REPLY_LINES:-3}" queue "$1" "${2:-$ADDRESS}" < "$D/$name.go" \
	    > "$D/$name" 2>&1 3>&- 8>&- &
	QUEUE[$name]=$!
	exec {GO[$name]}> "$D/$name.go"
	wait_for grep -q "queued=$1 refused=0" "$D/$name"
}

declare -gA QUEUE GO

# queue_read [NAME]: have it read what it got; queue_served N [NAME]: all did.
queue_read() {
	local name=${1:-queue} fd
	fd=${GO[$name]}
	exec {fd}>&-
	wait "${QUEUE[$name]}"
	cat "$D/$name"
}

queue_served() {
	queue_read "${2:-queue}"
	grep -q "^ok=$1 refused=0 reset=0 short=0 timeout=0" "$D/${2:-queue}"
}

# since T: microseconds since T, an earlier $EPOCHREALTIME.
since() { echo $((${EPOCHREALTIME/./} - ${1/./})); }

# took T MIN MAX: between MIN and MAX milliseconds have passed since T.
took() {
	local us
	us=$(since "$1")
	echo "took $us us" >&2
	[ "$us" -ge $(($2 * 1000)) ] && [ "$us" -le $(($3 * 1000)) ]
}
