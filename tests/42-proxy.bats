# 42-proxy.bats: connections that a proxy hands on, with a header (PROXY
# protocol).  Each header and each fault of one is in unit/proxyproto.c; here is
# what becomes of the connection.

load helper
load clients

V4='PROXY TCP4 192.0.2.1 192.0.2.2 4000 80\r\n'
V6='PROXY TCP6 2001:db8::1 2001:db8::2 4000 80\r\n'
SIGNATURE='\r\n\r\n\0\r\nQUIT\n'
V2="$SIGNATURE"'\x21\x11\0\x0c\xc0\0\2\1\xc0\0\2\2\x0f\xa0\0\x50'

# proxied FROM LINE...: a service with proxy-protocol, and with these lines.
proxied() {
	local from=$1 addresses=${LISTEN:-127.0.0.1:0}
	shift
	printf '%s\n' 'service p' "listen $addresses" "proxy-protocol from $from" \
	    "$@" > "$D/conf"
	start -f "$D/conf"
}

# through HEADER TEXT [SOURCE]: what is answered to both.
through() {
	printf "$1%s\n" "$2" | timeout "$DEADLINE" \
	    nc -N -s "${3:-127.0.0.1}" 127.0.0.1 "$PORT"
}

refused() { wait_for logged "warning: client refused peer=$1 service=p why=proxy-protocol header=$2\$"; }

@test "the addresses of the header are the client's: greeting, log, scoreboard" {
	proxied 127.0.0.1 'run greet'
	[[ $(through "$V4" x) == *'connected to 192.0.2.2 on port 80'* ]]
	wait_for logged 'connected 192.0.2.1:4000 client=1 service=p$'
	wait_for logged 'closed 192.0.2.1:4000 client=1 .*in=2 .*first="x'
	[[ $(through "$V6" x) == *'connected to 2001:db8::2 on port 80'* ]]
	wait_for logged 'connected \[2001:db8::1\]:4000 client=2 '
	[[ $(through "$V2" x) == *'connected to 192.0.2.2 on port 80'* ]]
	wait_for logged 'connected 192.0.2.1:4000 client=3 '
	mkfifo "$D/in"
	nc -N 127.0.0.1 "$PORT" < "$D/in" > "$D/out" 3>&- &
	exec 7> "$D/in"
	printf '%b' "$V4" >&7
	wait_for grep -q 'client #4' "$D/out"
	status workers | grep -E ' busy .* 4 +[0-9]+ 192\.0\.2\.1:4000 +p$'
	exec 7>&-
	wait $!
}

@test "exec: the program is told the addresses of the header, and gets the rest" {
	proxied 127.0.0.1 'exec /bin/sh -c "env; cat"'
	through "$V4" 'the rest' > "$D/out"
	for line in PROTO=TCP TCPREMOTEIP=192.0.2.1 TCPREMOTEPORT=4000 \
	    TCPLOCALIP=192.0.2.2 TCPLOCALPORT=80 'the rest'; do
		grep -qx "$line" "$D/out"
	done
	through "$V6" x | grep -x 'TCPREMOTEIP=2001:db8::1'
	through "$V2" 'the rest' | grep -x 'the rest'
}

@test "LOCAL and UNKNOWN are the connection's own addresses" {
	proxied 127.0.0.1 'exec /bin/sh -c "env; cat"'
	for header in 'PROXY UNKNOWN\r\n' 'PROXY UNKNOWN ::1 ::2 1 2\r\n' \
	    "$SIGNATURE\\x20\\0\\0\\0" "$SIGNATURE\\x21\\0\\0\\3abc"; do
		through "$header" 'the rest' > "$D/out"
		grep -qx TCPREMOTEIP=127.0.0.1 "$D/out"
		grep -qx "TCPLOCALPORT=$PORT" "$D/out"
		grep -qx 'the rest' "$D/out"
	done
	not logged refused
}

@test "a header torn into bytes is waited for, busy but without a number" {
	proxied 127.0.0.1 'workers-max 2' 'run echo'
	mkfifo "$D/in"
	nc -N 127.0.0.1 "$PORT" < "$D/in" > "$D/out" 3>&- &
	exec 7> "$D/in"
	printf 'PRO' >&7
	wait_for slots_are busy 1
	[ "$(through "$V4" other)" = other ]
	wait_for logged 'connected 192.0.2.1:4000 client=1 '
	status workers | grep -E ' busy .* - +[0-9]+ 127\.0\.0\.1:[0-9]+ +p$'
	for ((i = 3; i < 38; i++)); do printf '%s' "${V4:i:1}" >&7; done
	printf '\r' >&7
	printf '\nthe rest' >&7
	exec 7>&-
	wait $!
	[ "$(< "$D/out")" = 'the rest' ]
	wait_for logged 'closed 192.0.2.1:4000 client=2 .*in=8 out=8'
}

@test "a header has 3 s to arrive, and then the worker serves others" {
	proxied 127.0.0.1 'workers-max 1' 'workers-spare 1' 'run echo'
	begin=$EPOCHREALTIME
	(printf 'PROXY TCP4 192'; while printf ' ' && sleep 0.1; do :; done) 2>/dev/null 3>&- |
	    nc 127.0.0.1 "$PORT" > "$D/out" 3>&- &
	wait_for slots_are busy 1
	[ "$(through "$V4" next)" = next ]
	took "$begin" 3000 6000
	refused '127.0.0.1:[0-9]+' missing
	[ ! -s "$D/out" ]
	kill $! 2>/dev/null || true
}

@test "who is not trusted is refused, header or not" {
	proxied '127.0.0.2 127.0.1.0/24' 'run greet'
	for header in "$V4" "$V2" ''; do
		[ -z "$(through "$header" x)" ]
	done
	refused '127.0.0.1:[0-9]+' untrusted
	[[ $(through "$V4" x 127.0.0.2) == *'client #1 '* ]]
	[[ $(through "$V4" x 127.0.1.7) == *'client #2 '* ]]
	[ -z "$(through "$V4" x 127.0.2.7)" ]
}

@test "what is no header is refused: nothing is guessed" {
	proxied 127.0.0.1 'run greet'
	for header in 'GET / HTTP/1.0\r\n' 'PROXY TCP4 1.2.3.4 1.2.3.5 1 2\n' \
	    'PROXY TCP4 1.2.3.4 1.2.3.5 01 2\r\n' 'PROXY UNKNOWN\rx\r\n' \
	    'PROXY UNKNOWN \0\r\n' "${V4/192/1920}" "PROXY UNKNOWN $(printf %0100d 0)\r\n"; do
		begin=$EPOCHREALTIME
		[ -z "$(through "$header" x)" ]
		took "$begin" 0 2000
	done
	refused '127.0.0.1:[0-9]+' wrong
	[ -z "$(printf PROXY | timeout "$DEADLINE" nc -N 127.0.0.1 "$PORT")" ]
	refused '127.0.0.1:[0-9]+' missing
	[[ $(through "$V4" x) == *'client #1 '* ]]
	status | grep -E '^p .* 9 '
}

# visits TEXT END: 20 connections that send this, and then a FIN or an RST,
# before anybody has accepted one of them.
visits() {
	local -a w
	mapfile -t w < <(workers)
	kill -STOP "${w[@]}"
	python3 - "$PORT" "$(printf '%b.' "$1" | od -An -v -tx1 | tr -d ' \n')" "$2" <<-'END'
	import socket, struct, sys
	for i in range(20):
	    s = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
	    s.sendall(bytes.fromhex(sys.argv[2])[:-1])
	    if sys.argv[3] == "RST":
	        s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
	    s.close()
	END
	kill -CONT "${w[@]}"
}
all_accepted() { [ "$(accepted)" -eq "$1" ]; }

@test "who leaves before the first byte, as health checks do, is not refused, and no client" {
	proxied 127.0.0.1 'workers-max 2' 'workers-spare 2' 'run echo'
	visits '' FIN
	wait_for all_accepted 20
	visits '' RST
	wait_for all_accepted 40
	[ "$(through "$V4" x)" = x ]
	wait_for logged 'closed 192.0.2.1:4000 client=1 '
	not logged refused
	status metrics | grep -qx 'preforkd_refused_total{service="p",reason="proxy-protocol"} 0'
	visits PRO FIN
	wait_for all_accepted 61
	status metrics | grep -qx 'preforkd_refused_total{service="p",reason="proxy-protocol"} 20'
}

@test "a header is read though the reset behind it came first" {
	proxied 127.0.0.1 'workers-max 2' 'workers-spare 2' 'run echo'
	visits 'PROXY UNKNOWN\r\n' RST
	visits "$SIGNATURE\\x20\\0\\0\\0" RST
	wait_for eval '[ "$(count_logged "closed 127.0.0.1:[0-9]+ client=.* in=0 ")" -eq 40 ]'
	not logged refused
}

@test "refuse says its message to who sends no header" {
	proxied 127.0.0.1 'refuse message "no header"' 'run echo'
	[ "$(through 'hello ' x)" = $'no header\r' ]
}

@test "limits see the address of the header" {
	proxied 127.0.0.1 'per-source 1' 'run echo'
	mkfifo "$D/in"
	nc -N 127.0.0.1 "$PORT" < "$D/in" > "$D/out" 3>&- &
	exec 7> "$D/in"
	printf "$V4"'one\n' >&7
	wait_for grep -q one "$D/out"
	[ -z "$(through "$V4" x)" ]
	wait_for logged 'client refused peer=192.0.2.1:4000 service=p why=per-source$'
	[ "$(through "${V4/192.0.2.1/192.0.2.3}" x)" = x ]
	exec 7>&-
	wait $!
	wait_for eval '[ "$(through "$V4" x)" = x ]'
}

@test "unix trusts who comes by a Unix socket" {
	LISTEN=unix:$D/socket proxied unix 'exec /bin/sh -c "env; cat"'
	printf "$V4%s" 'the rest' | timeout "$DEADLINE" nc -NU "$D/socket" > "$D/out"
	grep -qx PROTO=TCP "$D/out"
	grep -qx TCPREMOTEIP=192.0.2.1 "$D/out"
	grep -qx 'the rest' "$D/out"
	stop
	LISTEN=unix:$D/socket proxied 127.0.0.1 'run echo'
	[ -z "$(printf "$V4" | timeout "$DEADLINE" nc -NU "$D/socket")" ]
	refused unix:- untrusted
}

@test "a worker that waits for a header dies without a client, and leaves when it is over" {
	proxied 127.0.0.1 'workers-max 2' 'run echo'
	mkfifo "$D/in"
	nc -N 127.0.0.1 "$PORT" < "$D/in" > "$D/out" 3>&- &
	exec 7> "$D/in"
	printf 'PROXY' >&7
	wait_for slots_are busy 1
	kill -KILL "$(status workers | awk '$2 == "busy" { print $3 }')"
	exec 7>&-
	wait $! || true
	wait_for logged 'worker died .*SIGKILL'
	status deaths | grep -E 'SIGKILL' | grep -E ' - +p '
	nc -N 127.0.0.1 "$PORT" < "$D/in" > "$D/out" 3>&- &
	exec 7> "$D/in"
	printf 'PROXY' >&7
	wait_for slots_are busy 1
	kill -TERM "$M"
	wait_for logged stopping
	printf "${V4#PROXY}"last >&7
	exec 7>&-
	wait $!
	[ "$(< "$D/out")" = last ]
	ended 0
}

@test "when-full drop-silent: who has sent no header makes room" {
	proxied 127.0.0.1 'workers-max 3' 'when-full drop-silent' 'run echo'
	for i in 1 2 3; do
		nc -d 127.0.0.1 "$PORT" 3>&- &
		PESTS+=($!)
	done
	wait_for slots_are busy 3
	begin=$EPOCHREALTIME
	[ "$(through "$V4" x)" = x ]
	took "$begin" 0 2500
	kill "${PESTS[@]}" 2>/dev/null || true
	wait "${PESTS[@]}" || true
}

# header_only: a client that has sent one and stays, until descriptor 8 closes.
header_only() {
	rm -f "$D/only"
	mkfifo "$D/only"
	nc 127.0.0.1 "$PORT" < "$D/only" > /dev/null 3>&- &
	exec 8> "$D/only"
	printf "$V4" >&8
}

@test "exec: a header alone is no first byte: silent, late, and not counted" {
	proxied 127.0.0.1 'workers-max 2' 'log-connections end' \
	    'when-full drop-silent' 'exec cat'
	header_only
	wait_for slots_are busy 1
	mkfifo "$D/in"
	nc -N 127.0.0.1 "$PORT" < "$D/in" > "$D/out" 3>&- 8>&- &
	exec 7> "$D/in"
	printf "${V4}spoken" >&7
	wait_for grep -q spoken "$D/out"
	[ "$(through "$V4" x)" = x ]
	wait_for logged 'closed 192.0.2.1:4000 client=1 .* in=0 .*end=made-room'
	wait_for logged 'closed 192.0.2.1:4000 client=3 .* in=2 out=2 end=served'
	exec 7>&- 8>&-
	wait_for logged 'client=2 .* in=6 out=6 end=served'
	sed -i "s/^when-full.*/first-byte-timeout 200ms/; s/^listen .*/listen $ADDRESS/" "$D/conf"
	status reload
	header_only
	wait_for logged 'closed .* client=4 .* in=0 .*end=first-byte-timeout'
	exec 8>&-
}

@test "a reload changes who is trusted" {
	proxied 127.0.0.1 'run echo'
	[ "$(through "$V4" x)" = x ]
	sed -i "s/^proxy-protocol.*/proxy-protocol from 10.0.0.0\\/8 ::1/; s/^listen .*/listen $ADDRESS/" "$D/conf"
	"$PREFORKD" -nn -f "$D/conf" > "$D/dump"
	grep -A1 -x "	proxy-protocol from 10.0.0.0/8" "$D/dump" |
	    grep -x "	proxy-protocol from ::1"
	status reload
	[ -z "$(through "$V4" x)" ]
	sed -i '/^proxy-protocol/d' "$D/conf"
	status reload
	[[ $(through 'no header ' x) == 'no header x' ]]
}

@test "bad proxy-protocol lines are told by line and word" {
	lines_refused <<-'END'
	proxy-protocol|proxy-protocol "": must be from PREFIX ..., each ADDRESS/LENGTH, an address or unix
	proxy-protocol from|proxy-protocol from: must be from PREFIX ...
	proxy-protocol 10.0.0.0/8|proxy-protocol 10.0.0.0/8: must be from PREFIX ...
	proxy-protocol from 10.0.0.0/8 10.0.0.1/8|proxy-protocol 10.0.0.1/8: must have no bits behind
	proxy-protocol from ::ffff:10.0.0.1|proxy-protocol ::ffff:10.0.0.1: must be written as the IPv4
	proxy-protocol from localhost|proxy-protocol localhost: must be ADDRESS/LENGTH, or an address
	proxy-protocol from 10.0.0.0/33|proxy-protocol 10.0.0.0/33: must be ADDRESS/LENGTH
	END
	printf '%s\n' 'service a' 'listen :0' 'resident cat' \
	    'proxy-protocol from ::1' > "$D/conf"
	run -1 "$PREFORKD" -n -f "$D/conf"
	[[ $output == *"$D/conf:4: service a: proxy-protocol: must not be there"* ]]
}
