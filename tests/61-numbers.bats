#!/usr/bin/env bats
# 61-numbers.bats: what is counted, and how it is shown: metrics, JSON, rates,
# sources, workers selected and sorted.  What it guards: the numbers are right
# when workers die, settings are reloaded and programs upgraded; whoever reads
# them can parse them, whatever a name holds.

# shellcheck disable=SC2154  # `run' sets it

load helper
load clients
load programs
load upgrade

board() { "$TOOLS/board" "$STATUS" "$@"; }
ctl() { timeout "$DEADLINE" "$PREFORKCTL" -s "$STATUS" "$@"; }

# metric NAME[{LABELS}]: of the service greet when it has labels at all.
metric() { ctl metrics | awk -v n="preforkd_$1" '$1 == n { print $2 }'; }
number() { metric "$1_total{service=\"greet\"}"; }
metric_is() { [ "$(metric "$1")" = "$2" ]; }
number_is() { [ "$(number "$1")" = "$2" ]; }

# json EXPRESSION: a filter of jq.
json() { ctl json | jq -r "$1"; }

# on_terminal ARG...: what preforkctl shows there.
on_terminal() {
	script -qec "$PREFORKCTL -s $STATUS $*" /dev/null < /dev/null |
	    tr -d '\r'
}

# raw [FILE...]: prints lines with bytes that are not printable ASCII.
raw() { LC_ALL=C grep -a '[^ -~]' "$@"; }

@test "clients, bytes and times are counted in metrics and JSON alike" {
	start_greet
	storm -n 50
	wait_for number_is served 50
	number_is accepted 50
	number_is received_bytes 50
	[ "$(number sent_bytes)" -gt $((50 * 170)) ]
	metric_is 'service_seconds_count{service="greet"}' 50
	metric_is 'wait_seconds_count{service="greet"}' 50
	metric_is 'service_seconds_bucket{service="greet",le="+Inf"}' 50
	[ "$(json '.services[0] | [.accepted, .served, .bytes_in,
	    (.service_us.counts | add), (.wait_us.counts | add)] |
	    join(" ")')" = '50 50 50 50 50' ]
	[ "$(json '(.bounds_us | length) + 1 -
	    (.services[0].wait_us.counts | length)')" = 0 ]
	status | grep -E '^greet +50 +0 +50 +[0-9]+ +0\.[0-9]{6} +0\.[0-9]{6}$'
}

@test "how long a client is served falls between the right bounds" {
	start_greet
	hold 1
	sleep 0.35	# the time that is measured
	release
	wait_for number_is served 1
	metric_is 'service_seconds_bucket{service="greet",le="0.3"}' 0
	metric_is 'service_seconds_bucket{service="greet",le="3"}' 1
	[[ $(metric 'service_seconds_sum{service="greet"}') == [01].* ]]
}

@test "who waits for the only worker has waited, who finds one idle has not" {
	start_greet -o 'workers-max 1'
	hold 1
	queue 3
	sleep 0.35	# the time that is measured
	release
	queue_served 3
	wait_for number_is served 4
	metric_is 'wait_seconds_bucket{service="greet",le="0.3"}' 1
	metric_is 'wait_seconds_bucket{service="greet",le="3"}' 4
	metric_is 'wait_seconds_count{service="greet"}' 4
	stop
	start_greet -o 'workers-min 8' -o 'workers-spare 8'
	for _ in 1 2 3 4 5; do
		ask x > "$D/reply"
	done
	wait_for number_is served 5
	metric_is 'wait_seconds_bucket{service="greet",le="0.0001"}' 5
}

@test "who is turned away is counted by what refused it" {
	start_greet -o 'per-source 1' -o 'workers-spare 4'
	hold 1
	for _ in 1 2 3; do
		ask x > "$D/reply" || true
	done
	wait_for metric_is 'refused_total{service="greet",reason="per-source"}' 3
	metric_is 'refused_total{service="greet",reason="deny"}' 0
	number_is accepted 4
	[ "$(json '.services[0].refused["per-source"]')" = 3 ]
	release
	stop
	printf 'service greet\nlisten 127.0.0.1:0\nrun greet\ndeny 127.0.0.0/8\n' \
	    > "$D/conf"
	start -f "$D/conf"
	ask x > "$D/reply" || true
	wait_for metric_is 'refused_total{service="greet",reason="deny"}' 1
	metric_is 'wait_seconds_count{service="greet"}' 0
}

@test "deaths are counted by cause" {
	start_greet -o 'workers-min 4' -o 'workers-spare 4'
	slots_are idle 4
	kill -SEGV "$(one_worker)"
	wait_for metric_is 'deaths_total{service="greet",cause="signal"}' 1
	wait_for slots_are idle 4
	kill -KILL "$(one_worker)"
	wait_for metric_is 'deaths_total{service="greet",cause="sigkill"}' 1
	wait_for slots_are idle 4
	kill -TERM "$(one_worker)"
	wait_for metric_is forks_total 7
	wait_for slots_are idle 4
	[ "$(json '.services[0].deaths | add')" = 2 ]
}

@test "reloads are counted by their outcome, and change no number" {
	printf 'service greet\nlisten 127.0.0.1:0\nrun greet\n' > "$D/conf"
	start -f "$D/conf"
	storm -n 20
	ctl reload
	number_is served 20
	storm -n 20
	echo nonsense >> "$D/conf"
	run -1 ctl reload
	metric_is 'reloads_total{result="done"}' 1
	metric_is 'reloads_total{result="failed"}' 1
	metric_is reload_failed 1
	metric_is generation 2
	number_is served 40
	number_is accepted 40
	[ "$(json '[.reload.done, .reload.failed, .verdict] | join(" ")')" = \
	    '1 1 degraded' ]
}

@test "an upgrade changes no number, be it to another layout" {
	start_installed "$PREFORKD" -l 127.0.0.1:0 -o 'per-source 1' greet
	hold 1
	ask x > "$D/reply" || true
	release
	kill -SEGV "$(one_worker)"
	wait_for metric_is 'deaths_total{service="greet",cause="signal"}' 1
	storm -c 1 -n 30
	wait_for number_is served 31
	before=$(ctl metrics | grep -E '_(total|bucket|sum|count)\b' |
	    grep -vE 'upgrades|forks|reloads')
	upgraded_to "$OTHER" 0.other
	[ "$(ctl metrics | grep -E '_(total|bucket|sum|count)\b' |
	    grep -vE 'upgrades|forks|reloads')" = "$before" ]
	metric_is 'upgrades_total{result="done"}' 1
	# there and back: the state has been text twice
	upgraded_to "$LAYOUT" 0.layout
	upgraded_to "$PREFORKD" "$VERSION"
	[ "$(ctl metrics | grep -E '_(total|bucket|sum|count)\b' |
	    grep -vE 'upgrades|forks|reloads')" = "$before" ]
}

# counts_agree: clients of the storm, metrics and log, but for those killed.
counts_agree() {
	local ok kills each
	ok=$(stormed ok)
	kills=$(count_logged 'worker died')
	wait_for log_has_come_to_rest
	echo "ok=$ok kills=$kills accepted=$(number accepted)" \
	    "served=$(number served) closed=$(count_logged ': closed ')" \
	    "dropped=$(metric log_dropped_total)"
	metric_is log_dropped_total 0
	[ "$kills" -ge "$1" ]
	for each in "$(number accepted)" "$(number served)" \
	    "$(metric 'service_seconds_count{service="greet"}')" \
	    "$(metric 'wait_seconds_count{service="greet"}')" \
	    "$(count_logged ': closed ')"; do
		[ "$each" -ge $((ok - kills)) ]
		[ "$each" -le $((ok + kills)) ]
	done
	# nobody else was let down
	[ $(($(stormed reset) + $(stormed short))) -le "$kills" ]
}
log_has_come_to_rest() {
	local before
	before=$(stat -c %s "$LOG")
	sleep 0.1
	[ "$(stat -c %s "$LOG")" = "$before" ] &&
	    [ "$(status | awk '$1 == "greet" && NF >= 8 { print $3 }' |
	    head -n 1)" = 0 ]
}

@test "accepted, served and the log agree with the clients, but for those killed" {
	printf 'workers-spare 4\nservice greet\nlisten 127.0.0.1:0\nrun greet\n' \
	    > "$D/conf"
	start -f "$D/conf"
	storm -c 16 -n "$(often 20000 1000000)" 3>&- &
	STORM=$!
	wait_for accepted_more
	for i in $(times 6 200); do
		kill -KILL "$(workers | shuf -n 1)" 2> /dev/null || true
		[ $((i % 2)) -ne 0 ] || ctl reload > "$D/out"
		wait_for accepted_more
	done
	wait "$STORM" || true
	counts_agree 3
}

@test "numbers only grow, whenever they are read while workers come and go" {
	start_greet -o 'max-connections-per-worker 10' -o 'workers-spare 8' \
	    -o 'log-connections no'
	storm_begin -c 8 -t 3
	for _ in $(seq 40); do
		number accepted
	done > "$D/numbers"
	storm_end
	sort -n -c "$D/numbers"
	[ "$(head -n 1 "$D/numbers")" -lt "$(tail -n 1 "$D/numbers")" ]
	wait_for number_is served "$(stormed ok)"
}

@test "metrics are what promtool wants, also of a full pool, a stopped master, a dead one" {
	need promtool
	EXPECT_DEAD=yes
	start_greet -o 'workers-max 2' -o 'workers-spare 2'
	hold 2
	queue 2
	wait_for eval 'ctl metrics | grep -E "^preforkd_queue_clients.* 2$"'
	ctl metrics > "$D/full"
	promtool check metrics < "$D/full"
	kill -STOP "$M"
	ctl metrics > "$D/stopped"
	promtool check metrics < "$D/stopped"
	[ "$(json .verdict)" = degraded ]
	ctl -c 1 -i 1 status
	kill -KILL "$M"
	wait_for gone_or_zombie "$M"
	run -2 ctl metrics
	run -2 ctl json
	run -2 ctl sources
	metric_is up 0
	[ "$(json .verdict)" = down ]
	run ctl metrics
	grep -v ^preforkctl: <<<"$output" | promtool check metrics
	M=''
	release_cut
	queue_read || true
}

# A web server of one page, which is preforkd.
page() {
	cat > "$D/page" <<-END
	#!/bin/sh
	while read -r line && [ "\${#line}" -gt 1 ]; do :; done
	printf 'HTTP/1.0 200 OK\r\nContent-Type: text/plain; version=0.0.4\r\n\r\n'
	exec '$PREFORKCTL' -s '$STATUS' metrics
	END
	chmod 755 "$D/page"
}

# query EXPRESSION: what Prometheus answers.
query() {
	python3 - "$PROMETHEUS" "$1" <<-'END'
	import json, sys, urllib.parse, urllib.request
	url = "http://127.0.0.1:%s/api/v1/query?query=%s" % (
	    sys.argv[1], urllib.parse.quote(sys.argv[2]))
	for each in json.load(urllib.request.urlopen(url))["data"]["result"]:
	    print(each["value"][1])
	END
}
query_is() { [ "$(query "$1" 2> /dev/null)" = "$2" ]; }
free_port() {
	python3 -c 'import socket; s = socket.socket()
s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'
}

@test "a real Prometheus scrapes the numbers, and its rules load" {
	need prometheus
	USER_OPTION=()
	page
	printf 'service greet\nlisten 127.0.0.1:0\nrun greet\nworkers-max 3\nservice page\nlisten 127.0.0.1:0\nexec %s\nuser root\n' \
	    "$D/page" > "$D/conf"
	[ "$(id -u)" -eq 0 ] || sed -i '/^user/d' "$D/conf"
	start -f "$D/conf"
	storm -n 25
	PROMETHEUS=$(free_port)
	cp "$TOP/etc/prometheus/preforkd.rules.yml" "$D"
	cat > "$D/prometheus.yml" <<-END
	global: {scrape_interval: 200ms, evaluation_interval: 200ms}
	rule_files: [preforkd.rules.yml]
	scrape_configs:
	  - job_name: preforkd
	    static_configs: [{targets: ['127.0.0.1:${ADDRESSES[1]##*:}']}]
	END
	setsid prometheus --config.file="$D/prometheus.yml" --log.level=error \
	    --storage.tsdb.path="$D/tsdb" \
	    --web.listen-address="127.0.0.1:$PROMETHEUS" \
	    > "$D/prometheus.log" 2>&1 3>&- &
	PEERS+=($!)
	wait_for query_is 'preforkd_served_total{service="greet"}' 25
	query_is 'preforkd_up' 1
	query_is 'preforkd_workers_max{service="greet"}' 3
	query_is 'sum(preforkd_service_seconds_bucket{service="greet",le="+Inf"})' 25
	kill -KILL "$!"
	wait_for gone_or_zombie "$!"
}

@test "the alerts are rules, each fires when it should, and none without need" {
	need promtool
	cp "$TOP/etc/prometheus/preforkd.rules.yml" \
	    "$TOP/tests/prometheus/preforkd.rules.test.yml" "$D"
	promtool check rules "$D/preforkd.rules.yml"
	promtool test rules "$D/preforkd.rules.test.yml"
	# each alert is looked at, and each metric that is asked for is there
	for each in $(sed -n 's/.*- alert: //p' "$D/preforkd.rules.yml"); do
		[ "$(grep -c "$each" "$D/preforkd.rules.test.yml")" -ge 2 ]
	done
	board
	ctl metrics 2> /dev/null > "$D/metrics" || true
	for each in $(grep -v description "$D/preforkd.rules.yml" |
	    grep -oE 'preforkd_[a-z_]+'); do
		grep -q "^${each}[ {]" "$D/metrics"
	done
}

@test "hostile bytes in names and reasons are harmless in metrics" {
	need promtool
	board deaths=3 hostile=1
	run ctl metrics
	[ "$status" -eq 2 ]
	not raw <<<"$output"
	grep -v ^preforkctl: <<<"$output" > "$D/metrics"
	promtool check metrics < "$D/metrics"
	grep -qF 'service="a\\\"b\\\\c\\n\\033[31m\\377{}=,\\302\\233\\r</s>"' \
	    "$D/metrics"
	# as many samples as with harmless ones: no line was added
	board deaths=3
	[ "$(grep -c ^preforkd_ "$D/metrics")" -eq \
	    "$(ctl metrics 2> /dev/null | grep -c ^preforkd_)" ]
}

@test "hostile bytes in names and reasons are harmless in JSON, which parses" {
	board deaths=3 hostile=1
	ctl json > "$D/json" 2> /dev/null || [ $? -eq 2 ]
	not raw "$D/json"
	not grep -q '[<>&]' "$D/json"
	timeout 20 python3 - "$D/json" <<-'END'
	import json, sys
	def once(pairs):
	    assert len(dict(pairs)) == len(pairs), "a name twice"
	    return dict(pairs)
	j = json.load(open(sys.argv[1]), object_pairs_hook=once)
	name = 'a"b\\c\n\x1b[31m\ufffd{}=,\ufffd\ufffd\r</s>'
	assert j["services"][0]["name"] == name, j["services"][0]["name"]
	assert j["preforkd"] == name
	assert j["last_deaths"][0]["service"] == name
	assert j["workers"][0]["service"] == name
	assert "</script><script>alert(1)</script>" in j["listeners"][0]["address"]
	assert "\x1b]0;t\x07\ufffd\x7f end" in j["reload"]["why"]
	END
}

@test "hostile bytes in names and reasons are harmless on a terminal" {
	board deaths=3 hostile=1
	for command in status workers deaths sources metrics json; do
		ctl $command > "$D/out" 2>&1 || true
		on_terminal $command > "$D/terminal"
		[ -s "$D/out" ]
		[ -s "$D/terminal" ]
		not raw "$D/out" "$D/terminal"
	done
}

@test "random files are shown as JSON and metrics that parse" {
	need promtool
	for seed in $(times 5 200); do
		board seed="$seed" slots=20
		ctl json > "$D/json" 2> /dev/null || true
		timeout 20 python3 -c 'import json, sys; json.load(sys.stdin)' \
		    < "$D/json"
		ctl metrics 2> /dev/null > "$D/metrics" || true
		not env LC_ALL=C.UTF-8 grep -a '[[:cntrl:]]' "$D/metrics"
		not env LC_ALL=C.UTF-8 grep -av '^.*$' "$D/metrics"
		[ "$seed" -gt 3 ] || promtool check metrics < "$D/metrics"
	done
}

@test "workers are selected by state, age and service, and sorted" {
	printf 'service greet\nlisten 127.0.0.1:0\nrun greet\nworkers-spare 2\nservice echo\nlisten 127.0.0.1:0\nrun echo\nworkers-spare 2\n' \
	    > "$D/conf"
	start -f "$D/conf"
	hold 1
	wait_for eval '[ "$(ctl -S busy workers | wc -l)" -eq 2 ]'
	ctl -S busy workers | grep -E ' busy .* greet$'
	[ "$(ctl -n echo workers | grep -c 'echo$')" -eq 2 ]
	[ "$(ctl -n echo workers | wc -l)" -eq 3 ]
	run -64 ctl -n ech workers
	[ "$(ctl -a 1h workers | wc -l)" -eq 1 ]
	storm -n 30
	wait_for slots_are busy 1
	wait_for eval '[ "$(ctl -a 1 -S busy workers | wc -l)" -eq 2 ]'
	ctl -o age workers | awk 'NR > 1 { print $7 }' | sort -rn -c
	ctl -o served workers | awk 'NR > 1 { print $5 }' | sort -rn -c
	ctl -o service workers | awk 'NR > 1 { print $9 }' | sort -c
	ctl -o state workers | awk 'NR > 1 { print $2 }' | sort -c
	ctl workers | awk 'NR > 1 { print $1 }' | sort -n -c
	release
}

@test "sources shows who has how many clients, and what is allowed" {
	printf 'per-source 9\nper-source-prefix 24 64\nservice greet\nlisten 127.0.0.1:0\nrun greet\nservice other\nlisten unix:%s\nrun greet\nper-source 0\n' \
	    "$D/s" > "$D/conf"
	start -f "$D/conf"
	hold 3
	timeout 20 nc -dU "$D/s" > "$D/reply" 3>&- 8>&- &
	PEERS+=($!)
	wait_for eval 'ctl sources | grep -q ^unix'
	run ctl sources
	[ "${#lines[@]}" -eq 3 ]
	[[ ${lines[1]} =~ ^127\.0\.0\.0/24\ +3\ +9\ +[0-9]+\ greet$ ]]
	[[ ${lines[2]} =~ ^unix\ +1\ +-\ +[0-9]+\ other$ ]]
	[ "$(ctl -n other sources | wc -l)" -eq 2 ]
	kill "$!"
	release
}

@test "-i prints a line of rates for each interval" {
	start_greet
	storm_begin -c 4 -t 4
	run ctl -c 3 -i 400ms status
	storm_end
	[ "$status" -eq 0 ]
	[ "${#lines[@]}" -eq 4 ]
	[[ ${lines[0]} =~ ^\ *ACCEPT\ .*\ DIED$ ]]
	for each in 1 2 3; do
		read -r -a field <<<"${lines[$each]}"
		[ "${#field[@]}" -eq 11 ]
		[ "${#lines[$each]}" -le 80 ]
		[ "${field[2]}" -gt 10 ]
	done
	# per second, and not per interval
	echo "$output; $(cat "$D/storm")"
	[ "${field[0]}" -gt $(($(stormed rate) / 3)) ]
	[ "${field[0]}" -lt $(($(stormed rate) * 3)) ]
	# nothing goes on
	run ctl -c 2 -i 100ms -n greet status
	[[ ${lines[2]} =~ ^\ +0\ +0\ +0\ +0\ +0\ +-\ +-\ +0\ +[0-9]+\ +0\ +0$ ]]
}

@test "-i follows a server that is started again" {
	start_greet
	storm -n 500
	wait_for number_is served 500
	"$PREFORKCTL" -s "$STATUS" -c 2 -i 2s status > "$D/out" 2>&1 3>&- &
	local rates=$!
	wait_for eval '[ "$(wc -l < "$D/out")" -eq 2 ]'
	kill -STOP "$rates"	# it cannot look before the new one is there
	stop
	start_greet
	storm -n 20
	wait_for number_is served 20
	kill -CONT "$rates"
	wait "$rates"
	read -r -a field < <(tail -n 1 "$D/out")
	[ "${field[0]}" -gt 0 ]
	[ "${field[0]}" -le $(($(stormed rate) + 1)) ]
}

@test "-i ends when there is no master" {
	EXPECT_DEAD=yes
	start_greet
	ctl -i 50ms status > "$D/out" 2>&1 3>&- &
	local rates=$! rc=0
	wait_for eval '[ "$(wc -l < "$D/out")" -ge 3 ]'
	kill -KILL "$M"
	wait "$rates" || rc=$?
	[ "$rc" -eq 2 ]
	grep -q 'no master is alive' "$D/out"
	M=''
}

@test "durations, counts and sizes are rounded on a terminal, and exact elsewhere" {
	board
	ctl workers 2> /dev/null | grep -E '^ +3 busy .* 9 +[0-9]+ +(9|1[0-9]) 127'
	on_terminal workers | grep -E '^ +3 busy .* (9|1[0-9])s 127'
	ctl status | grep -E '^greet +1070 '
	board accepted=1234567 bytes-in=5000000
	ctl status | grep -E '^greet +1234637 '
	ctl status | grep -E '^greet .* 5000000 '
	on_terminal status | grep -E '^greet +1\.23M '
	on_terminal status | grep -E '^greet .* 4\.77M '
	[ "$(json '.services[0] | [.accepted, .bytes_in] | join(" ")' \
	    2> /dev/null)" = '1234637 5000000' ]
}

@test "options that mean nothing to a command, or hold nonsense, are refused" {
	board
	for args in '-i 0 status' '-i x status' '-c 0 status' '-o size workers' \
	    '-S sleepy workers' '-a old workers' '-i 1 workers' '-c 3 workers' \
	    '-n greet deaths' '-o age sources' '-S busy status' '-a 1 json' \
	    '-n greet status' '-n nosuch workers' nonsense; do
		echo "$args"
		# shellcheck disable=SC2086
		run -64 ctl $args
		[[ ${lines[0]} == 'preforkctl: '* ]]	# says which one
	done
}
