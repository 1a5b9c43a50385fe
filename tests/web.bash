# web.bash: servers with run metrics and run status, and clients of them; to be
# loaded after helper.

# shellcheck disable=SC2034,SC2154  # shared with helper.bash and the tests

# with_web LINE...: a service web with these lines, $PORT; run status at $PAGE,
# and run metrics at $METRICS.
with_web() {
	printf '%s\n' 'service web' 'listen 127.0.0.1:0' 'run greet' "$@" \
	    'service page' 'listen 127.0.0.1:0' 'run status' \
	    'workers-min 2' 'workers-spare 2' 'workers-max 8' \
	    'service numbers' 'listen 127.0.0.1:0' 'run metrics' \
	    'workers-min 2' 'workers-spare 1' 'workers-max 2' > "$D/conf"
	start -f "$D/conf"
	PAGE=${ADDRESSES[1]##*:}
	METRICS=${ADDRESSES[2]##*:}
}

# http PORT PATH [METHOD]: the whole answer, with its head.
http() {
	printf '%s %s HTTP/1.1\r\nHost: a\r\n\r\n' "${3:-GET}" "$2" |
	    timeout "$DEADLINE" nc -N 127.0.0.1 "$1"
}
# body PORT PATH: what is behind the head.
body() { http "$@" | sed '1,/^\r$/d'; }
# raw PORT FORMAT: these bytes, and the first line of the answer.
raw() {
	# shellcheck disable=SC2059  # that is what it is for
	printf "$2" | timeout "$DEADLINE" nc -N 127.0.0.1 "$1" | head -n 1 |
	    tr -d '\r'
}

# scrapes N PORT: so many, one after another: how many were whole, and how many
# ms they took.
scrapes() {
	timeout 100 python3 - "$1" "$2" <<-'END'
	import http.client, sys, time
	n, took = 0, []
	for i in range(int(sys.argv[1])):
	    began = time.monotonic()
	    c = http.client.HTTPConnection("127.0.0.1", int(sys.argv[2]), timeout=10)
	    c.request("GET", "/metrics")
	    r = c.getresponse()
	    text = r.read()
	    n += r.status == 200 and text.endswith(b"\n") and b"preforkd_up 1" in text
	    c.close()
	    took.append((time.monotonic() - began) * 1000)
	took.sort()
	print("answered=%d median=%.1f slowest=%.1f" % (n, took[len(took) // 2], took[-1]))
	END
}

# scrapes_of_full WORKERS MS: with a service that is full of so many, 100 of 100
# are answered, each within MS; in `make check', where others have the
# processors as well, half of them.
scrapes_of_full() {
	with_web "workers-max $1" 'workers-surge 1' 'log-connections no'
	hold_begin "$1"
	wait_for full_said || { cat "$D/held" >&2; return 1; }
	scrapes 100 "$METRICS" | tee "$D/scrapes" >&2
	grep -q '^answered=100 ' "$D/scrapes"
	[ "$(sed -E "s/.* $(often median slowest)=([0-9]+).*/\1/" "$D/scrapes")" -lt "$2" ]
	body "$METRICS" /metrics > "$D/metrics"
	grep -q "^preforkd_workers{service=\"web\",state=\"busy\"} $1\$" \
	    "$D/metrics"
	release
}
full_said() { logged 'all workers are busy and workers-max is reached service=web'; }
