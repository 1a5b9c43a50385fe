# 44-crowds.bats: limits against crowds: many addresses, one that floods, and
# workers that are killed meanwhile.  With the full counts: soak/44-crowds.

load helper
load clients
load crowds

@test "D10 one address that holds its limit and comes again and again: 50 others are served" {
	start_greet -o 'per-source 20' -o 'log-connections no'
	one_address_floods 500 500
	[ "$(refusals_logged)" -le 20 ]
}

@test "D02 silent clients of 500 addresses fill the pool: who speaks at once is served" {
	start_greet -o 'workers-max 50' -o 'per-source 20' \
	    -o 'when-full drop-silent' -o 'log-connections no'
	a_silent_crowd 500 100
}

@test "D13 5,000 sources pass through a table of 1,024: none is refused, nothing is left" {
	start_greet -o 'per-source 2' -o 'log-connections no' -o 'workers-max 64'
	sources_pass 5000
}

@test "workers are killed while limits are at work: the counts are right, and 0 in the end" {
	start_greet -o 'per-source 20' -o 'log-connections no' -o 'workers-max 100'
	workers_killed 20
}

@test "D15 a rate that is exceeded: service is back within 2 s of the flood's end" {
	start_greet -o 'per-source-rate 50/1s burst 10' -o 'log-connections no'
	rate_exceeded 1
}

@test "D10 two networks: one floods, and the other is served, 100 of 100" {
	network server attacker other
	join server attacker 1
	join server other 2
	start -l 0.0.0.0:0 -o 'per-source 4' -o 'log-connections no' greet
	nsenter "$(net attacker)" "$TOOLS/hold" -k 600 100 "10.9.1.1:$PORT" > "$D/held" 2>&1 3>&- &
	HOLD=$!
	wait_for grep -q 'greeted=4 failed=96' "$D/held"
	nsenter "$(net attacker)" "$TOOLS/storm" -t 60 -c 16 "10.9.1.1:$PORT" > "$D/flood" 2>&1 3>&- &
	FLOOD=$!
	begin=$SECONDS
	nsenter "$(net other)" "$TOOLS/storm" -g -c 4 -n 100 "10.9.2.1:$PORT" > "$D/storm" 2>> "$D/storm.err"
	all_served 100
	flood_end
	flood_refused
	kill -TERM "$HOLD"
	wait "$HOLD" || true
	# a line a second: ten in ten seconds, and how many more
	[ "$(refusals_logged)" -le $(((SECONDS - begin) / 10 * 11 + 21)) ]
}

@test "D13 IPv6: sources of a /64 each, in a namespace of their own" {
	network one
	all_of_ipv6
	start -l '[::1]:0' -o 'per-source 2' -o 'log-connections no' \
	    -o 'workers-max 64' greet
	sources_pass 3000
	memory_has_not_grown
}
