#!/usr/bin/env bats
# soak/44-crowds.bats: what 44-crowds does, with the counts that are promised;
# and the tools that people attack with: nmap, hping3, slowhttptest.

load ../helper
load ../clients
load ../crowds

need() { command -v "$1" > /dev/null || skip "$1 is not here"; }

# p99 of 50 honest addresses, in microseconds, the best of three.
p99() {
	local i
	for i in 1 2 3; do
		honest -n 20000
		all_served 20000 >&2
		stormed total_p99
	done | sort -n | head -n 1
}

@test "D10 500 connections of one address that hold: p99 of 50 others within 3 times" {
	start_greet -o 'per-source 20' -o 'log-connections no'
	before=$(p99)
	hold_begin 500
	wait_for grep -q 'greeted=20 failed=480 ' "$D/held"
	during=$(p99)
	echo "p99 $before us before, $during us during"
	[ "$during" -le $((before * 3)) ]
	release_cut
	wait_for no_cells
}

@test "D10 the same address comes again and again, as fast as it can: 50 others are served" {
	start_greet -o 'per-source 20' -o 'log-connections no'
	one_address_floods 500 50000
}

@test "D02 5,000 silent addresses against workers-max 200, drop-silent: who speaks at once is served" {
	start_greet -o 'workers-max 200' -o 'per-source 20' \
	    -o 'when-full drop-silent' -o 'log-connections no'
	a_silent_crowd 5000 2000
}

@test "D13 100,000 sources pass through a table of 1,024: none is refused, nothing is left" {
	start_greet -o 'per-source 2' -o 'log-connections no' -o 'workers-max 64'
	sources_pass 100000
}

@test "D13 100,000 sources of IPv6, a /64 each: the same, and memory does not grow" {
	network one
	all_of_ipv6
	start -l '[::1]:0' -o 'per-source 2' -o 'log-connections no' \
	    -o 'workers-min 64' -o 'workers-max 64' greet
	sources_pass 100000
	after=$(resident_kb)
	echo "$BEFORE kB before, $after kB after"
	[ "$after" -le $((BEFORE + 4096)) ]
}

@test "1,000 workers are killed while limits are at work: the counts are right, and 0 in the end" {
	start_greet -o 'per-source 20' -o 'log-connections no' -o 'workers-max 100'
	workers_killed 1000
}

@test "D15 a rate is exceeded for 10 s: service is back within 2 s of the flood's end" {
	start_greet -o 'per-source-rate 50/1s burst 10' -o 'log-connections no'
	rate_exceeded 10
}

@test "D15 the same of the rate of the service: the queue is served, and service is back" {
	start_greet -o 'rate 100/1s' -o 'log-connections no'
	flood_begin 10 8
	wait "$FLOOD" || true
	cat "$D/flood"
	begin=$EPOCHREALTIME
	wait_for eval '[[ $(ask x) == Welcome* ]]'
	took "$begin" 0 2000
	not logged refused
}

@test "D11 nmap, ports, versions, operating system and scripts: no crash, the log is clean" {
	need nmap
	start_greet
	nmap -n -Pn -sT -sV -sC -p "$PORT" 127.0.0.1 > "$D/nmap"
	[ "$(id -u)" -ne 0 ] || nmap -n -Pn -O -p "$PORT" 127.0.0.1 >> "$D/nmap"
	cat "$D/nmap"
	grep -q "^$PORT/tcp open" "$D/nmap"
	[[ $(ask x) == Welcome* ]]
	not logged 'died| (error|alert): '
}

@test "D12 a SYN flood in a network of its own: 20 clients that are there stay" {
	need hping3
	network server client
	join server client 1
	start -l 0.0.0.0:0 greet
	nsenter "$(net client)" "$TOOLS/hold" -k 15 20 "10.9.1.1:$PORT" > "$D/held" 2>&1 3>&- &
	HOLD=$!
	wait_for grep -q 'greeted=20 ' "$D/held"
	nsenter "$(net client)" timeout 5 hping3 -q --flood --rand-source -S -p "$PORT" \
	    10.9.1.1 > "$D/hping" 2>&1 3>&- || true
	cat "$D/hping"
	wait "$HOLD"
	grep 'closed=20 early=0 reset=0' "$D/held"
	[[ $(echo x | nsenter "$(net client)" timeout 60 nc -N 10.9.1.1 "$PORT") == Welcome* ]]
}

# slow PATH OPTION...: against a web server behind exec, which others use
# meanwhile.
slow() {
	local path=$1
	shift
	need slowhttptest
	mkdir -p "$D/www/cgi-bin"
	head -c 50000000 /dev/zero > "$D/www/large"
	printf '#!/bin/sh\ncat > /dev/null\nprintf "\\r\\ndone\\n"\n' > "$D/www/cgi-bin/take"
	chmod 755 "$D/www/cgi-bin/take"
	echo 'the page' > "$D/www/index.html"
	open_directory
	start -l 127.0.0.1:0 -o 'workers-max 100' -o 'per-source 40' \
	    -o 'first-byte-timeout 5s' -o 'idle-timeout 5s' -o 'connection-timeout 20s' \
	    -o 'min-rate 100/5s' -o 'log-connections end' -- busybox httpd -i -h "$D/www"
	slowhttptest -c 300 -r 100 -l 30 -u "http://127.0.0.1:$PORT/$path" "$@" \
	    > "$D/slow" 2>&1 3>&- &
	attack=$!
	wait_for logged 'client refused'
	for i in {1..100}; do
		printf 'GET /index.html HTTP/1.0\r\n\r\n' |
		    timeout "$DEADLINE" nc -N -s 127.0.0.2 127.0.0.1 "$PORT" > "$D/page"
		grep -qx 'the page' "$D/page"
	done
	wait "$attack" || true
	tail -n 12 "$D/slow"
	wait_for slots_are busy 0
	wait_for no_cells
	[ "$(status deaths | grep -c SIG)" -eq 0 ]
}

@test "slowhttptest, slow headers: others have the page, and all workers are free in the end" {
	slow '' -H -i 1
}

@test "slowhttptest, slow bodies: others have the page, and all workers are free in the end" {
	slow cgi-bin/take -B -i 1 -s 100000
}

@test "slowhttptest, slow reading: others have the page, and all workers are free in the end" {
	slow large -X -n 1 -w 10 -y 20 -z 1
}
