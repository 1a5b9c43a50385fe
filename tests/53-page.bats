# 53-page.bats: the status page in a real browser, headless.

load helper
load clients
load programs
load web

# browse OPTION...: the page after some seconds of it, as HTML in $D/dom, and
# what it says on its console in $D/console.
browse() {
	need chromium
	HOME=$D timeout 60 chromium --headless=new --no-sandbox --disable-gpu \
	    --user-data-dir="$D/profile" --enable-logging=stderr \
	    --virtual-time-budget=9000 "$@" --dump-dom \
	    "http://127.0.0.1:$PAGE/" > "$D/dom" 2> "$D/err" < /dev/null 3>&-
	grep CONSOLE "$D/err" > "$D/console" || true
	[ -s "$D/dom" ]
}

@test "in a browser the page refreshes itself, and its policy has nothing to refuse" {
	with_web
	hold 3
	browse
	cat "$D/console"
	[ ! -s "$D/console" ]
	grep -qE '<section id="charts">' "$D/dom"
	for each in rate busy queue; do
		grep -qE "<polyline id=\"$each-line\" points=\"[0-9.]+,[0-9.]+ [0-9.]+,[0-9.]+ " "$D/dom"
	done
	grep -qE '<b id="busy">[4-9]</b>' "$D/dom"
	grep -qE '<h3>web <small>3 of [0-9]+ workers in use</small></h3>' "$D/dom"
	grep -qE '<button id="pause">Pause</button>' "$D/dom"
	grep -qE '<p id="verdict" role="status" class="ok">OK</p>' "$D/dom"
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
