# 52-agent.bats: run agent, as HAProxy asks it: a line about how much room there
# is, whatever state the other pools are in.  What it says of which scoreboard
# is in unit/agent.c; HAProxy itself is asked in 54-machines.

load helper
load clients

# with_agent LINE...: a service web with these lines, and an agent at $AGENT.
with_agent() {
	printf '%s\n' 'service web' 'listen 127.0.0.1:0' 'run greet' "$@" \
	    'service agent' 'listen 127.0.0.1:0' 'run agent' \
	    'workers-min 2' 'workers-max 2' > "$D/conf"
	start -f "$D/conf"
	AGENT=${ADDRESSES[1]##*:}
}

agent() { timeout "$DEADLINE" nc 127.0.0.1 "$AGENT" < /dev/null; }
says() { [ "$(agent)" = "$1" ]; }
web_workers() { ps -o pid=,args= --ppid "$M" | awk '/: web /{print $1}'; }

@test "the agent says how much room is left, also when there is none" {
	with_agent 'workers-max 8' 'workers-spare 2'
	says 'up ready 100%'
	hold 2
	wait_for says 'up ready 75%'
	release
	wait_for says 'up ready 100%'
	hold_begin 11
	wait_for slots_are busy 8
	wait_for says 'up ready 1%'
	kill -KILL "$HOLD"
	wait_for says 'up ready 100%'
}

@test "clients that the agent has do not take room" {
	with_agent 'workers-max 4'
	mkfifo "$D/in"
	nc 127.0.0.1 "$AGENT" < "$D/in" > "$D/out" 3>&- &
	exec 7> "$D/in"
	wait_for test -s "$D/out"
	says 'up ready 100%'
	exec 7>&-
	wait $!
}

@test "the agent says drain in a stop until the last client has left, and then goes" {
	with_agent
	hold 1
	kill -TERM "$M"
	wait_for says drain
	run -1 nc -w 1 127.0.0.1 "$PORT"
	says drain
	says drain
	release
	ended 0
	run -1 nc 127.0.0.1 "$AGENT" < /dev/null
}

@test "a stop that runs out of time does not wait for the agent" {
	with_agent 'drain-timeout 300ms'
	sed -i '1i drain-timeout 300ms' "$D/conf"
	status reload
	hold 1
	kill -TERM "$M"
	wait_for says drain
	ended 2
	release_cut
}

# The workers of web die of a signal that is no request to leave.
web_dies() {
	web_workers | xargs -r kill -SEGV 2> /dev/null || true
	says 'down # web is throttled'
}

@test "the agent says down while a service is throttled, and up again after it" {
	with_agent 'workers-min 1' 'workers-spare 1' 'workers-max 2'
	wait_for web_dies
	wait_for says 'up ready 100%'
	[ -n "$(ask x)" ]
}

@test "the agent answers when the master is stopped" {
	with_agent
	kill -STOP "$M"
	says 'up ready 100%'
	kill -CONT "$M"
}

@test "run agent SERVICE is about that one, which must be there; a reload keeps it" {
	printf '%s\n' 'service a' 'listen 127.0.0.1:0' 'run greet' \
	    'workers-max 2' 'service b' 'listen 127.0.0.1:0' 'run greet' \
	    'service one' 'listen 127.0.0.1:0' 'run agent b' \
	    'service all' 'listen 127.0.0.1:0' 'run agent' > "$D/conf"
	start -f "$D/conf"
	status reload
	hold 1
	AGENT=${ADDRESSES[3]##*:}
	wait_for says 'up ready 50%'
	AGENT=${ADDRESSES[2]##*:}
	says 'up ready 100%'
	release
	"$PREFORKD" -nn -f "$D/conf" | grep -q '^	run agent b$'
	for each in c one all; do
		sed -i "s/^run agent ..*/run agent $each/" "$D/conf"
		run -1 "$PREFORKD" -n -f "$D/conf"
		[[ $output == *":10: service one: run agent $each: must be about another service that is there" ]]
	done
	for each in 'greet a|run greet a: must be one of greet,' \
	    'agent a b|run: b is too much'; do
		printf 'service a\nlisten :0\nrun %s\n' "${each%|*}" > "$D/conf"
		run -1 "$PREFORKD" -n -f "$D/conf"
		[[ $output == *":3: ${each#*|}"* ]]
	done
}
