# 68-generations.bats: old generations, while there is no room beside them and
# until they are gone, and how the status shows them (rows G and C08 of the
# fault matrix).

load helper
load clients
load reload

# The rows of the table of generations, the newest first.
generations() { status | awk '/^GENERATION/ { on = 1; next } /^$/ { on = 0 } on'; }
# generation_is NUMBER STATE WORKERS CLIENTS: as a row.
generation_is() {
	generations | awk -v n="$1" '$1 == n { print $2, $4, $5 }' |
	    grep -qx "$2 $3 $4"
}

# Four workers in all: two of each generation.
SMALL=('workers-spare 1' 'workers-max 2' 'workers-surge 2')

# hold_apart NAME N: clients that are held until end_apart NAME, or are cut.
hold_apart() {
	"$TOOLS/hold" -k 600 "$2" "$ADDRESS" > "$D/held.$1" 2>&1 3>&- &
	APART[$1]=$!
	wait_for grep -q "greeted=$2 " "$D/held.$1"
}
declare -gA APART
end_apart() {
	kill -TERM "${APART[$1]}"
	wait "${APART[$1]}"
}

# fill: a generation that leaves with two clients, one that serves two.
fill() {
	greet_conf "${SMALL[@]}" "$@"
	start_conf
	hold_apart old 2
	reload
	hold_apart new 2
}

waits() { status | grep -qE '^reload: +running since .*, waits for '"$1"' old connections of generation 1$'; }

@test "a reload without room waits, says for what in log, status and preforkctl, and goes on by itself" {
	fill
	"$PREFORKCTL" -s "$STATUS" reload > "$D/ctl" 2>&1 &
	ctl=$!
	wait_for waits 2
	wait_for logged 'notice: the reload waits for old connections to end connections=2 generation=1'
	generation_is 3 starting 0 0
	generation_is 2 serving 2 2
	generation_is 1 leaving 2 2
	wait_for grep -qx 'the reload waits for 2 old connections of generation 1' "$D/ctl"
	for i in 1 2 3; do kill -HUP "$M"; done
	end_apart old
	wait "$ctl"
	grep -xE 'reloaded, generation [34], 2 old clients finish' "$D/ctl"
	# What came meanwhile is one more reload; it finds room when these end.
	end_apart new
	wait_for logged 'reloaded generation=4'
	[ "$(count_logged 'notice: reloading')" -eq 3 ]
	[ "$(count_logged 'the reload waits')" -le 2 ]
	not logged 'reload failed'
	wait_for has_workers 1
}

@test "a reload that waits goes on when drain-timeout has cut what it waits for" {
	fill 'drain-timeout 2s'
	t=$EPOCHREALTIME
	kill -HUP "$M"
	wait_for waits 2
	wait_for reloaded_since 2
	took "$t" 500 4000
	[ "$(count_logged 'drain-timeout passed')" -eq 2 ]
	end_apart old || true
	end_apart new
}

@test "SIGTERM ends a reload that waits" {
	fill
	kill -HUP "$M"
	wait_for waits 2
	kill -TERM "$M"
	wait_for logged 'reload failed, .*: the server was told to stop'
	end_apart old
	end_apart new
	ended 0
}

@test "a full pool is reloaded with a surge of one" {
	greet_conf 'workers-spare 2' 'workers-max 4' 'workers-surge 1'
	start_conf
	hold 4
	wait_for has_workers 4
	reload
	not logged 'the reload waits'
	wait_for has_workers 5
	release
	wait_for slots_are draining 0
	wait_for slots_are idle 2
}

@test "a full pool is reloaded to a smaller one" {
	greet_conf 'workers-spare 2' 'workers-max 20'
	start_conf
	hold 20
	greet_conf 'workers-spare 2' 'workers-max 3' 'workers-surge 2'
	reload
	workers_max_is 3
	ask x
	release
	wait_for slots_are draining 0
}

@test "the status shows each generation, its age, workers, clients and until when it drains" {
	greet_conf 'workers-spare 2' 'drain-timeout 1h'
	start_conf
	status | grep -qx 'GENERATION STATE        AGE WORKERS CLIENTS DRAINS-UNTIL'
	wait_for generation_is 1 serving 2 0
	generations | grep -qE '^ +1 serving +[0-9]+ +2 +0 -$'
	hold 1
	reload
	wait_for generation_is 1 leaving 1 1
	wait_for generation_is 2 serving 2 0
	[ "$(generations | awk '{ print $1 }' | xargs)" = '2 1' ]
	until=$(generations | awk '$1 == 1 { print $6 }')
	left=$(($(date -d "$until" +%s) - $(date +%s)))
	[ $left -gt 3500 ] && [ $left -le 3601 ]
	release
	wait_for eval '[ "$(generations | wc -l)" -eq 1 ]'
	wait_for generation_is 2 serving 2 0
}

@test "G15 however many generations have clients, two accept and each goes with its own" {
	greet_conf 'workers-spare 1' 'workers-max 60'
	start_conf
	for i in {1..40}; do
		hold_apart "$i" 1
		reload
	done
	[ "$(generations | grep -c serving)" -eq 1 ]
	[ "$(generations | grep -c leaving)" -eq 31 ]
	status | grep -qx 'and 9 older ones'
	for i in {1..40}; do end_apart "$i"; done
	wait_for eval '[ "$(generations | wc -l)" -eq 1 ]'
	wait_for has_workers 1
}
