# 53-page.bats: the status page in a real browser, headless.

load helper
load clients
load programs
load web

# browse [MS]: the page after so many of its own, as HTML in $D/dom, and what it
# says on its console in $D/console.
browse() {
	need chromium
	HOME=$D timeout 60 chromium --headless=new --no-sandbox --disable-gpu \
	    --user-data-dir="$D/profile" --enable-logging=stderr \
	    --virtual-time-budget="${1:-9000}" --dump-dom \
	    "http://127.0.0.1:$PAGE/" > "$D/dom" 2> "$D/err" < /dev/null 3>&-
	grep CONSOLE "$D/err" > "$D/console" || true
	[ -s "$D/dom" ]
}

# Its time is not ours: on a busy machine the first answers may come as one.
browse_charts() {
	for ms in 9000 30000 90000; do
		browse "$ms"
		! has_charts || return 0
	done
	return 1
}

has_charts() {
	for each in rate busy queue; do
		grep -qE "<polyline id=\"$each-line\" points=\"[0-9.]+,[0-9.]+ [0-9.]+,[0-9.]+ " "$D/dom" ||
		    return 1
	done
}

@test "in a browser the page refreshes itself, and its policy has nothing to refuse" {
	with_web
	hold 3
	browse_charts
	cat "$D/console"
	[ ! -s "$D/console" ]
	grep -qE '<section id="charts">' "$D/dom"
	grep -qE '<b id="busy">[4-9], at most [4-9]</b>' "$D/dom"
	grep -qE '<h3>web <small>3 of [0-9]+ workers in use</small></h3>' "$D/dom"
	grep -qE '<p id="verdict" role="status" class="ok">OK</p>' "$D/dom"
	release
}

# points: of the first chart, X,Y each on a line.
points() {
	sed -nE 's/.* id="rate-line" points="([^"]*)".*/\1/p' "$D/dom" |
	    tr ' ' '\n'
}

@test "its charts go back to when it was opened, however long ago that is" {
	with_web
	hold 3
	browse 650000		# 320 answers
	[ ! -s "$D/console" ]
	n=$(points | wc -l)
	[ "$n" -ge 150 ] && [ "$n" -lt 300 ]
	[ "$(points | sed -n '1s/\..*//p')" -le 3 ]
	[ "$(points | tail -n 1 | cut -d , -f 1)" = 300.0 ]
	release
}

# A busy one; the master, which would put its slot right, is stopped.
@test "a worker whose slot cannot be read has its cell, and keeps it" {
	with_web
	hold 1
	kill -STOP "$M"
	busy=$(status workers | awk '$2 == "busy" { print $3 }')
	python3 - "$STATUS.slots" "$busy" <<-'END'
	import re, struct, sys
	with open(sys.argv[1], "r+b") as f:
	    at = [m.start() for m in re.finditer(re.escape(
	        struct.pack("i", int(sys.argv[2]))), f.read())]
	    f.seek([n for n in at if n % 64 == 40][0] - 40)	# struct slot
	    f.write(struct.pack("I", 1))
	END
	body "$PAGE" / > "$D/page"
	[ "$(grep -o '<i class=u></i>' "$D/page" | wc -l)" -eq 2 ]	# and the key
	browse
	[ "$(grep -o '<i class="u"></i>' "$D/dom" | wc -l)" -eq 2 ]
	kill -CONT "$M"
	release
}

# rename FROM SIZE TO: a text of the status file, by whoever may write it.
rename() {
	python3 - "$STATUS" "$@" <<-'END'
	import sys
	name, old, size, new = sys.argv[1:]
	with open(name, "r+b") as f:
	    at = f.read().index(old.encode().ljust(int(size), b"\0"))
	    f.seek(at)
	    f.write(new.encode("utf-8", "surrogateescape").ljust(int(size), b"\0"))
	END
}

@test "no name and no address becomes a script, nor anything but text" {
	with_web
	hold 1
	rename web 32 "<svg onload=document.title=7>"
	rename page 32 "\"'><b onfocus=alert(1) autofocus>"
	rename numbers 32 $'\xff\e[31m</script>\x01&lt;'
	rename "${ADDRESSES[0]}" 128 \
	    "<script>document.title=7</script><img src=x onerror='document.title=7'>"
	echo '<iframe srcdoc="<script>parent.document.title=7</script>">' >> "$D/conf"
	run -1 status reload
	browse
	cat "$D/console"
	[ ! -s "$D/console" ]
	grep -qE '<title>[^<]+ preforkd: degraded</title>' "$D/dom"
	[ "$(grep -oE '<(script|svg|img|iframe|b)[ >]' "$D/dom" | sort | uniq -c |
	    tr -s ' \n' ' ')" = ' 3 <b 1 <script 3 <svg ' ]
	grep -qF '&lt;svg onload=document.title=7&gt;' "$D/dom"
	release
}
