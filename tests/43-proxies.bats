# 43-proxies.bats: real proxies before a server with proxy-protocol.

load helper
load clients
load programs

# behind WORD...: a server that trusts its proxy, with these lines; $FRONT is
# for the proxy's own port.
behind() {
	printf '%s\n' 'service p' 'listen 127.0.0.1:0' 'workers-spare 4' \
	    'proxy-protocol from 127.0.0.1' "$@" > "$D/conf"
	start -f "$D/conf"
	free_ports 1
	FRONT=${PORTS[0]}
}

# haproxy OPTION...: of the one server behind it.
haproxy_with() {
	need haproxy
	cat > "$D/haproxy.conf" <<-END
	global
	    stats socket $D/stats level admin
	defaults
	    mode tcp
	    timeout connect 10s
	    timeout client 60s
	    timeout server 60s
	listen front
	    bind 127.0.0.1:$FRONT
	    ${CHECK-}
	    server one 127.0.0.1:$PORT source 127.0.0.1 $*
	END
	background env "LD_LIBRARY_PATH=$(echo "$TOOLS"/fetched/usr/lib/*-linux-gnu)" \
	    "$(type -P haproxy)" -db -f "$D/haproxy.conf"
	wait_for listening "$FRONT"
}

# The state of the server, as HAProxy sees it.
checked() {
	[ "$(echo 'show stat' | timeout 5 nc -U "$D/stats" |
	    awk -F , '$2 == "one" { print $18 }')" = "$1" ]
}

nginx_with() {
	need nginx
	local module=$TOOLS/fetched/usr/lib/nginx/modules/ngx_stream_module.so
	[ -e "$module" ] || module=/usr/lib/nginx/modules/ngx_stream_module.so
	[ -e "$module" ] || skip 'the stream module of nginx is not here'
	cat > "$D/nginx.conf" <<-END
	load_module $module;
	daemon off;
	pid $D/nginx.pid;
	$([ "$(id -u)" -ne 0 ] || echo 'user root;')
	events { }
	stream { server {
	    listen 127.0.0.1:$FRONT;
	    proxy_pass 127.0.0.1:$PORT;
	    $1
	} }
	END
	background nginx -p "$D" -c "$D/nginx.conf" -e "$D/nginx.log"
	wait_for listening "$FRONT"
}

# A client of the proxy, from an address and a port of its own.
visit() { echo "$2" | timeout "$DEADLINE" nc -N -s "$1" 127.0.0.1 "$FRONT"; }

# The client's address has come through, and the port that it called.
comes_through() {
	visit 127.0.0.9 'the rest' > "$D/out"
	grep -qx TCPREMOTEIP=127.0.0.9 "$D/out"
	grep -qx TCPLOCALIP=127.0.0.1 "$D/out"
	grep -qx "TCPLOCALPORT=$FRONT" "$D/out"
	grep -qx 'the rest' "$D/out"
	wait_for logged 'connected 127.0.0.9:[0-9]+ client='
}

holds_under_load() {
	"$TOOLS/storm" -n "$(often 1000 20000)" -c 16 -l 0 -e -T 20000 -a 20 \
	    -s 'the rest' -x 8 "127.0.0.1:$FRONT" > "$D/storm" 2> "$D/storm.err"
	stormed_well
	[ "$(stormed ok)" -eq "$(often 1000 20000)" ]
	not logged refused
}

@test "HAProxy send-proxy: the program sees the client, and so under load" {
	behind 'exec /bin/sh -c "env; cat"'
	haproxy_with send-proxy
	comes_through
	sed -i 's/^exec.*/run echo/; s/^listen.*/listen '"$ADDRESS"'/' "$D/conf"
	status reload
	holds_under_load
}

@test "HAProxy send-proxy-v2, with TLVs: the same" {
	behind 'exec /bin/sh -c "env; cat"'
	haproxy_with send-proxy-v2 proxy-v2-options crc32c,unique-id
	comes_through
	sed -i 's/^exec.*/run echo/; s/^listen.*/listen '"$ADDRESS"'/' "$D/conf"
	status reload
	holds_under_load
}

@test "HAProxy's health checks are clients from the proxy itself, and nobody is refused" {
	for version in send-proxy send-proxy-v2; do
		: > "$LOG"
		behind 'run echo'
		haproxy_with "$version" check check-send-proxy inter 100ms
		wait_for checked UP
		wait_for logged 'closed 127.0.0.1:[0-9]+ client=3 .* in=0 '
		[ "$(visit 127.0.0.9 x)" = x ]
		not logged refused
		stop
		wait_for checked DOWN
	done
}

# What HAProxy sends by itself is an RST, before the handshake is over, if it can.
@test "HAProxy's health checks that send no header, and so the server refuses nobody" {
	CHECK='option tcp-check
	    tcp-check connect
	    tcp-check connect linger'
	behind 'run echo'
	haproxy_with send-proxy-v2 check port "$PORT" inter 50ms
	wait_for checked UP
	wait_for eval '[ "$(accepted)" -ge 20 ]'
	[ "$(visit 127.0.0.9 x)" = x ]
	wait_for logged 'closed 127.0.0.9:[0-9]+ client=1 '
	not logged refused
}

@test "nginx with proxy_protocol: the program sees the client, and so under load" {
	behind 'exec /bin/sh -c "env; cat"'
	nginx_with 'proxy_protocol on; proxy_half_close on;'
	comes_through
	sed -i 's/^exec.*/run echo/; s/^listen.*/listen '"$ADDRESS"'/' "$D/conf"
	status reload
	holds_under_load
}

@test "limits per source are of the clients, not of the proxy" {
	behind 'per-source 1' 'run echo'
	haproxy_with send-proxy-v2
	mkfifo "$D/in"
	nc -N -s 127.0.0.8 127.0.0.1 "$FRONT" < "$D/in" > "$D/one" 3>&- &
	exec 7> "$D/in"
	echo one >&7
	wait_for grep -q one "$D/one"
	[ -z "$(visit 127.0.0.8 x)" ]
	wait_for logged 'client refused peer=127.0.0.8:[0-9]+ service=p why=per-source$'
	for i in 1 2 3; do [ "$(visit 127.0.0.$i x)" = x ]; done
	exec 7>&-
	wait $!
}
