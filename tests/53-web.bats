# 53-web.bats: run metrics and run status: HTTP, what they show, and that they
# answer whatever state the other services are in.  How text is escaped, and the
# size of the page, is in unit/page.c; which requests there are in unit/http.c.

load helper
load clients
load web

@test "run metrics answers GET /metrics with what preforkctl metrics prints" {
	with_web
	http "$METRICS" /metrics | tr -d '\r' > "$D/answer"
	[ "$(head -n 1 "$D/answer")" = 'HTTP/1.1 200 OK' ]
	for each in 'Content-Type: text/plain; version=0.0.4; charset=utf-8' \
	    'Connection: close' 'Cache-Control: no-store' \
	    'X-Content-Type-Options: nosniff' \
	    "Content-Length: $(sed '1,/^$/d' "$D/answer" | wc -c)"; do
		grep -qxF "$each" "$D/answer"
	done
	sed '1,/^$/d; /^#/d; s/ [^ ]*$//' "$D/answer" > "$D/ours"
	status metrics | sed '/^#/d; s/ [^ ]*$//' | diff "$D/ours" -
	grep -qx 'preforkd_up' "$D/ours"
}

@test "run status answers GET / with a page that is whole without scripts" {
	with_web
	hold 3
	http "$PAGE" / | tr -d '\r' > "$D/page"
	grep -qx 'Content-Type: text/html; charset=utf-8' "$D/page"
	grep -qE '^<title>[^<]+ preforkd: running</title>$' "$D/page"
	grep -qF "<p id=verdict role=status class=ok>OK</p>" "$D/page"
	grep -qE '^<tr><td class=t>web<td>3<td>' "$D/page"
	grep -qE '<h3>web <small>3 of [0-9]+ workers in use</small>' "$D/page"
	[ "$(grep -oE '<i class=b></i>' "$D/page" | wc -l)" -ge 3 ]
	# who came first in the same ms need not be the first of the rows
	grep -qE '<tr><td>1<td class=t>web<td class=t>127.0.0.1:[0-9]+<td>' \
	    "$D/page"
	not grep -qi 'unsafe\|src=.http\|//[a-z]' "$D/page"
	release
}

@test "the policy of the page allows its own style and script, once" {
	with_web
	for i in 1 2; do
		http "$PAGE" / | tr -d '\r' > "$D/page$i"
		policy=$(grep '^Content-Security-Policy: ' "$D/page$i")
		nonce=$(sed -n 's/^<script nonce=\([0-9a-f]\{32\}\)>$/\1/p' "$D/page$i")
		[[ $policy == *": default-src 'none'; "*"; script-src 'nonce-$nonce'; style-src 'nonce-$nonce'" ]]
		grep -qx "<style nonce=$nonce>" "$D/page$i"
		[ "$(grep -c '<s\(cript\|tyle\)' "$D/page$i")" -eq 2 ]
	done
	not cmp -s "$D/page1" "$D/page2"
	not grep -q "$nonce" "$D/page1"
}

@test "/status.json is what preforkctl json prints" {
	with_web
	body "$PAGE" /status.json > "$D/ours"
	status json > "$D/theirs"
	timeout 20 python3 - "$D/ours" "$D/theirs" <<-'END'
	import json, sys
	a, b = (json.load(open(name)) for name in sys.argv[1:])
	assert a.keys() == b.keys(), (a.keys(), b.keys())
	assert a["pid"] == b["pid"] and a["alive"] and a["verdict"] == "ok"
	assert [s["name"] for s in a["services"]] == ["web", "page", "numbers"]
	END
}

@test "HEAD has no body; what is not there, and no request, is refused" {
	with_web
	http "$PAGE" / HEAD | tr -d '\r' > "$D/head"
	[ "$(head -n 1 "$D/head")" = 'HTTP/1.1 200 OK' ]
	[ "$(tail -n 1 "$D/head")" = '' ]
	[ "$(sed -n 's/^Content-Length: //p' "$D/head")" -gt 5000 ]
	http "$PAGE" / POST | tr -d '\r' > "$D/post"
	[ "$(head -n 1 "$D/post")" = 'HTTP/1.1 405 Method Not Allowed' ]
	grep -qx 'Allow: GET, HEAD' "$D/post"
	for each in '404|GET /metrics HTTP/1.0\n\n' '404|GET /index.html HTTP/1.0\n\n' \
	    '400|nonsense\n\n' '400|GET / HTTP/1.1\n\n' '505|GET / HTTP/3.0\n\n' \
	    "414|GET /$(printf '%09000d' 0)" \
	    "431|GET / HTTP/1.0\na: $(printf '%09000d' 0)"; do
		[[ $(raw "$PAGE" "${each#*|}") == "HTTP/1.1 ${each%%|*} "* ]]
	done
	[ -n "$(body "$PAGE" /)" ]
}

@test "metrics and page answer when other services are full, and the master stopped" {
	with_web 'workers-max 3'
	hold_begin 5
	wait_for slots_are busy 3
	kill -STOP "$M"
	body "$METRICS" /metrics > "$D/metrics"
	grep -qx 'preforkd_workers{service="web",state="busy"} 3' "$D/metrics"
	body "$PAGE" / > "$D/page"
	grep -qF 'DEGRADED: web is full' "$D/page"
	kill -CONT "$M"
	kill -KILL "$HOLD"
}

@test "metrics and page answer in a stop, and say so" {
	with_web
	hold 1
	kill -TERM "$M"
	wait_for eval 'body "$METRICS" /metrics | grep -qx "preforkd_state{state=\"draining\"} 1"'
	body "$PAGE" / | grep -qF 'DEGRADED: draining'
	release
	ended 0
}

@test "who connects and says nothing keeps a worker of them for five seconds" {
	with_web
	T=$EPOCHREALTIME
	mkfifo "$D/in"
	for i in 1 2; do nc 127.0.0.1 "$METRICS" < "$D/in" 3>&- & done
	exec 7> "$D/in"
	wait_for slots_are busy 2
	body "$METRICS" /metrics | grep -qx 'preforkd_up 1'
	took "$T" 4900 8000
	wait_for logged 'service=numbers .* end=connection-timeout'
	exec 7>&-
}

@test "what a configuration says is text on the page, in JSON and in metrics" {
	with_web
	echo '<script>alert(1)</script>' >> "$D/conf"
	run -1 status reload
	body "$PAGE" / > "$D/page"
	grep -qF 'unknown keyword &#34;&#60;script&#62;alert(1)&#60;/script&#62;' "$D/page"
	[ "$(grep -c '<script' "$D/page")" -eq 1 ]
	body "$PAGE" /status.json > "$D/json"
	not grep -q '<script' "$D/json"
	timeout 20 python3 - "$D/json" <<-'END'
	import json, sys
	j = json.load(open(sys.argv[1]))
	assert "<script>alert(1)</script>" in j["reload"]["why"]
	END
}

@test "a service that is full: 100 of 100 scrapes are answered, within 50 ms" {
	scrapes_of_full 200 50
}

@test "they take no argument" {
	for each in metrics status; do
		printf 'service a\nlisten :0\nrun %s x\n' $each > "$D/conf"
		run -1 "$PREFORKD" -n -f "$D/conf"
		[[ $output == *":3: run $each x: must be one of "* ]]
	done
}
