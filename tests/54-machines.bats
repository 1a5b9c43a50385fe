# 54-machines.bats: several machines behind HAProxy, with the configuration that
# is in etc/haproxy: who is sent where, and that nobody notices what is done to
# one of them.

# shellcheck disable=SC2034  # what the helper reads

load helper
load clients
load programs
load upgrade
load machines

# holds NAME N: clients of one machine, past HAProxy, until the end of the test.
holds() {
	cat > "$D/holds" <<-END
	import socket, time
	held = []
	for i in range($2):
	    s = socket.create_connection(("$(address "$1")", $WEB))
	    s.sendall(b"PROXY UNKNOWN\r\n")
	    held.append(s)
	time.sleep(60)
	END
	background python3 "$D/holds"
}

# draining NAME: HAProxy was told so; its own check may call it down as well.
draining() {
	[ "$(hap 'show servers state web' |
	    awk -v name="$1" '$4 == name { print $7 }')" = 8 ]
}

@test "haproxy accepts the example" {
	need haproxy
	env "LD_LIBRARY_PATH=$(echo "$TOOLS"/fetched/usr/lib/*-linux-gnu)" \
	    haproxy -c -f "$EXAMPLE" > "$D/out" 2>&1
	cat "$D/out"
	not grep -i 'warning\|alert' "$D/out"
}

@test "a machine at half its capacity gets half the clients" {
	machines
	holds one 8
	wait_for seen one UP 50
	before=$(stat one stot)
	on proxy "$TOOLS/storm" -e -l 0 -s x -x 1 -c 1 -n 500 \
	    "$(address proxy):$FRONT"
	one=$(($(stat one stot) - before))
	two=$(stat two stot) three=$(stat three stot)
	echo "one=$one two=$two three=$three"
	[ $((one + two + three)) -eq 500 ]
	# a fifth of them
	[ "$one" -ge 80 ] && [ "$one" -le 120 ]
}

@test "one is upgraded, one stopped, one drained, one killed, and nobody notices but whom that one served" {
	machines
	under_load 0 upgraded "$OTHER" one
	under_load 0 drained two
	under_load 0 stopped three
	under_load "$AT_ONCE" killed two
}

@test "a machine that stops is seen to drain, serves its clients to the end, and is ready again" {
	local fd=() i line
	machines
	for i in 1 2 3; do
		exec {fd[i]}<> "/dev/tcp/$(address proxy)/$FRONT"
	done
	wait_for seen two UP 93
	kill -TERM "${MASTER[two]}"
	wait_for draining two
	for i in 1 2 3; do
		echo "line $i" >&"${fd[i]}"
		read -r -t "$DEADLINE" line <&"${fd[i]}"
		[ "$line" = "line $i" ]
		exec {fd[i]}>&-
	done
	M=${MASTER[two]}
	ended 0
	machine two
	wait_for seen two UP 100
	not draining two
}
