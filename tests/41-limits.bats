# 41-limits.bats: how many clients may come in, from where, and how fast.

load helper
load clients
load reload

# A name that is another source: any address of 127.0.0.0/8 can connect.
from() { timeout "$DEADLINE" nc -N -s "$1" 127.0.0.1 "$PORT"; }
greets() { [[ $(echo x | from "$1") == Welcome* ]]; }
refuses() { [ -z "$(echo x | from "$1")" ]; }

@test "D10 per-source: an address has so many connections at once, and another its own" {
	start_greet -o 'per-source 2'
	hold 2
	refuses 127.0.0.1
	greets 127.0.0.2
	wait_for logged 'warning: client refused peer=127.0.0.1:[0-9]+ service=greet why=per-source$'
	release
	wait_for greets 127.0.0.1
	[ "$(status | awk '/^SERVICE/ { getline; print $2 }')" -eq 5 ]
}

@test "per-source holds over all workers, and for what a killed one held" {
	start_greet -o 'per-source 3' -o 'workers-spare 2'
	hold 3
	refuses 127.0.0.1
	for w in $(workers); do kill -KILL "$w"; done
	wait_for greets 127.0.0.1
	release_cut
	hold 3
	refuses 127.0.0.1
	release
}

@test "per-source-prefix makes one source of a network" {
	start_greet -o 'per-source 1' -o 'per-source-prefix 30 64'
	hold 1
	for i in 1 2 3; do refuses 127.0.0.$i; done
	greets 127.0.0.4
	release
}

@test "per-source-for has another limit for an address, the longest prefix wins" {
	printf '%s\n' 'service greet' 'listen 127.0.0.1:0' 'run greet' \
	    'per-source 1' 'per-source-for 127.0.0.0/24 2' \
	    'per-source-for 127.0.0.1 0' > "$D/conf"
	start -f "$D/conf"
	hold 20
	greets 127.0.0.1
	release
}

@test "D15 per-source-rate lets in a burst, refuses, and is good again by itself" {
	start_greet -o 'per-source-rate 1/1s burst 3'
	for i in 1 2 3; do greets 127.0.0.1; done
	for i in 1 2 3 4 5 6; do from 127.0.0.1 <<< x; done > "$D/more"
	[ "$(grep -c Welcome "$D/more")" -le 3 ]
	greets 127.0.0.2
	wait_for logged 'client refused peer=127.0.0.1:[0-9]+ service=greet why=per-source-rate'
	wait_for greets 127.0.0.1
}

@test "per-source-for has another rate too, or none" {
	printf '%s\n' 'service greet' 'listen 127.0.0.1:0' 'run greet' \
	    'per-source-rate 1/1h' 'per-source-for 127.0.0.2 0 0' \
	    'per-source-for 127.0.0.3 0 1/1h burst 3' \
	    'per-source-for 127.0.0.4 5' > "$D/conf"
	start -f "$D/conf"
	for i in 2 2 2 3 3 3 1 4; do greets 127.0.0.$i; done
	for i in 3 1 4; do refuses 127.0.0.$i; done
	greets 127.0.0.2
	"$PREFORKD" -nn -f "$D/conf" > "$D/dump"
	"$PREFORKD" -nn -f "$D/dump" | diff - "$D/dump"
	grep 'per-source-for 127.0.0.3 0 1/1h burst 3' "$D/dump"
}

@test "refuse says a message, closes, or resets" {
	start_greet -o 'per-source 1' -o 'refuse message "too many of you"'
	hold 1
	[ "$(echo x | from 127.0.0.1)" = $'too many of you\r' ]
	release
	stop
	start_greet -o 'per-source 1' -o 'refuse reset'
	hold 1
	run "$TOOLS/abuse" silent "$ADDRESS"	# it may be seen in connect
	[[ $output == *reset* ]]
	release
	stop
	start_greet -o 'per-source 1'
	hold 1
	"$TOOLS/abuse" silent "$ADDRESS" | grep end=eof
	release
}

# pest: a client of 127.0.0.1 that sends on, whatever is said; number N.
pest() {
	yes 2>/dev/null 3>&- 8>&- | nc 127.0.0.1 "$PORT" > "$D/pest.$1" 3>&- 8>&- &
	PESTS+=($!)
}

@test "a client that is refused and sends on keeps nobody waiting" {
	start_greet -o 'per-source 1' -o 'refuse message no' -o 'workers-max 3' \
	    -o 'workers-spare 1'
	hold 1
	for i in 1 2 3 4 5 6; do
		pest $i
		wait_for grep -q no "$D/pest.$i"
		begin=$EPOCHREALTIME
		greets 127.0.0.2
		took "$begin" 0 1000
	done
	release
	kill "${PESTS[@]}" 2>/dev/null || true
	wait "${PESTS[@]}" || true
}

@test "clients that were served and send on count for per-source as long as they keep a worker" {
	start_greet -o 'per-source 2' -o 'workers-max 4' -o 'workers-spare 1'
	for i in 1 2; do
		pest $i
		wait_for grep -q Welcome "$D/pest.$i"
	done
	wait_for slots_are closing 2
	refuses 127.0.0.1
	for i in 1 2 3 4 5 6; do
		begin=$EPOCHREALTIME
		greets 127.0.0.2
		took "$begin" 0 1000
	done
	kill "${PESTS[@]}" 2>/dev/null || true
	wait "${PESTS[@]}" || true
	wait_for greets 127.0.0.1
}

@test "rate: clients wait in the queue, none is refused, and it is logged once" {
	start_greet -o 'rate 50/1s burst 10' -o 'workers-spare 2'
	begin=$EPOCHREALTIME
	storm -n 40 -c 4
	# 40 less the burst and the idle workers, 20 ms each
	us=$(since "$begin")
	[ "$us" -ge 500000 ] || { echo "$us us"; false; }
	grep -E 'ok=40 ' "$D/storm"
	[ "$(count_logged 'accepting pauses, the rate is reached')" -eq 1 ]
	not logged refused
}

rated() { greet_conf 'workers-spare 1' "$@"; }

@test "a faster rate is in force at once after a reload, for the service and for a source" {
	rated 'rate 2/1h' 'per-source-rate 1/1h'
	start -f "$D/conf"
	greets 127.0.0.1
	refuses 127.0.0.1	# and has taken the second turn
	rated 'rate 1000/1s' 'per-source-rate 10/1s'
	reload
	wait_for greets 127.0.0.1
}

@test "a worker that leaves gives back the turn of the rate that it waited for" {
	rated 'rate 5/10s' 'workers-min 8' 'workers-max 8'
	start -f "$D/conf"
	for i in 1 2 3 4 5; do greets 127.0.0.1; done
	for i in 1 2 3; do reload; done
	# the first of the eight that wait has its turn in 2 s, not in 18
	begin=$EPOCHREALTIME
	greets 127.0.0.1
	took "$begin" 0 6000
}

has_descriptors() { [ "$(find "/proc/$1/fd" -mindepth 1 | wc -l)" -eq "$2" ]; }

@test "a worker that rests for the rate closes what lingers, and leaves at once" {
	start_greet -o 'rate 1/1h' -o 'workers-max 1' -o 'workers-spare 1'
	W=$(one_worker)
	before=$(find "/proc/$W/fd" -mindepth 1 | wc -l)
	mkfifo "$D/in"
	nc 127.0.0.1 "$PORT" < "$D/in" > "$D/out" 3>&- &
	exec 7> "$D/in"
	echo x >&7
	wait_for logged 'accepting pauses'
	[ "$(one_worker)" -eq "$W" ]
	has_descriptors "$W" $((before + 1))
	wait_for has_descriptors "$W" "$before"
	begin=$EPOCHREALTIME
	stop
	took "$begin" 0 1500
	exec 7>&-
}

@test "D02 when-full drop-silent: the most silent clients make room" {
	start_greet -o 'workers-max 4' -o 'when-full drop-silent' \
	    -o 'log-connections end'
	hold_begin 20
	wait_for logged 'workers-max is reached'
	for i in 1 2 3; do greets 127.0.0.1; done
	wait_for logged 'closed .*end=made-room'
	[ "$(count_logged 'closed .*end=made-room')" -ge 16 ]
	[ "$(count_logged 'closed .*end=served')" -eq 3 ]
	release_cut
}

@test "a client that has spoken makes no room" {
	start -l 127.0.0.1:0 -o 'workers-max 1' -o 'workers-spare 1' \
	    -o 'when-full drop-silent' echo
	mkfifo "$D/in"
	nc -N 127.0.0.1 "$PORT" < "$D/in" > "$D/out" 3>&- &
	exec 7> "$D/in"
	echo one >&7
	wait_for grep -q one "$D/out"
	ask two > "$D/two" 3>&- 7>&- &
	waiting=$!
	wait_for logged 'workers-max is reached'
	# the master looks again and again; so it has, after two more lines
	echo three >&7
	wait_for grep -q three "$D/out"
	[ ! -s "$D/two" ]
	exec 7>&-
	wait_for grep -q two "$D/two"
	wait "$waiting"
}

@test "D03 min-rate ends a client that drips, not one that keeps pace" {
	start -l 127.0.0.1:0 -o 'min-rate 1000/500ms' -o 'log-connections end' echo
	begin=$EPOCHREALTIME
	(while echo x; do sleep 0.05; done) 2>/dev/null 3>&- |
	    nc 127.0.0.1 "$PORT" > "$D/out" 3>&- &
	wait_for logged 'closed .*end=too-slow'
	took "$begin" 500 3500
	kill $!
	head -c 200000 /dev/zero | ask x > /dev/null
}

@test "D02 exec: a silent client of a program makes room, one that has spoken does not" {
	start -l 127.0.0.1:0 -o 'workers-max 2' -o 'when-full drop-silent' \
	    -o 'log-connections end' -- sh -c 'read -r x; echo "$x $PREFORKD_STRESS"; read -r y'
	mkfifo "$D/in"
	nc -N 127.0.0.1 "$PORT" < "$D/in" > "$D/out" 3>&- &
	exec 7> "$D/in"
	echo one >&7
	wait_for grep -q one "$D/out"
	nc -d 127.0.0.1 "$PORT" 3>&- 7>&- &
	silent=$!
	wait_for slots_are busy 2
	[ "$(ask two)" = 'two 1' ]
	wait_for logged 'client=2 .*end=made-room'
	exec 7>&-
	wait_for logged 'client=1 .*end=served'
	kill "$silent" 2>/dev/null || true
}

@test "D03 exec: min-rate ends the program of a client that drips" {
	start -l 127.0.0.1:0 -o 'min-rate 1000/500ms' -o 'log-connections end' -- cat
	begin=$EPOCHREALTIME
	(while echo x; do sleep 0.05; done) 2>/dev/null 3>&- |
	    nc 127.0.0.1 "$PORT" > "$D/out" 3>&- &
	wait_for logged 'closed .*end=too-slow'
	took "$begin" 500 3500
	kill $!
	head -c 200000 /dev/zero | timeout "$DEADLINE" nc -N 127.0.0.1 "$PORT" |
	    wc -c | grep -qx 200000
}

@test "bad limits are told by line" {
	lines_refused <<-'END'
	per-source 121|per-source 121: must be 0 to 120
	per-source-prefix 33 64|per-source-prefix 33 64: must be two numbers
	per-source-prefix 32|per-source-prefix 32: must be two numbers
	per-source-rate 10|per-source-rate 10: must be NUMBER/DURATION
	per-source-rate 10/0|per-source-rate 10/0: must be NUMBER/DURATION
	per-source-rate 10/1s often 3|per-source-rate 10/1s often 3: must be
	rate 0/1s|rate 0/1s: must be NUMBER/DURATION
	rate 1/8760h burst 300000|rate 1/8760h burst 300000: must be NUMBER/DURATION
	min-rate 10/1s burst 2|min-rate 10/1s burst 2: must be NUMBER/DURATION, a
	per-source-for 10.0.0.1/8 3|per-source-for 10.0.0.1/8: must have no bits behind
	per-source-for ::ffff:10.0.0.1 3|per-source-for ::ffff:10.0.0.1: must be written as the IPv4
	per-source-for 10.0.0.1 121|per-source-for 10.0.0.1: must be ADDRESS/LENGTH, or an address, and a number, 0 to 120
	per-source-for 10.0.0.0/8 1 1/0|per-source-for 10.0.0.0/8: must be ADDRESS
	per-source-for 10.0.0.0/8 1 2/1s burst|per-source-for 10.0.0.0/8: must be ADDRESS
	per-source-for 10.0.0.0/8|per-source-for 10.0.0.0/8: must be ADDRESS
	refuse politely|refuse politely: must be close, reset or message
	refuse message|refuse message: must be
	when-full panic|when-full panic: must be one of queue, drop-silent
	END
	{ printf 'service a\nlisten :0\nrun greet\n'
	    printf 'per-source-for 10.0.0.%d 3\n' {1..65}; } > "$D/conf"
	run -1 "$PREFORKD" -n -f "$D/conf"
	[[ $output == "preforkd: $D/conf:68: per-source-for 10.0.0.65: one too many: must be at most 64 of a service" ]]
	sed -i '$ s/.*/per-source-for 10.0.0.9\/32 4/' "$D/conf"
	run -1 "$PREFORKD" -n -f "$D/conf"
	[[ $output == "preforkd: $D/conf:68: per-source-for 10.0.0.9/32: must be there once" ]]
	sed -i '$ s/.*/per-source-for 10.0.0.0\/31 4/' "$D/conf"
	sed -i 4d "$D/conf"
	"$PREFORKD" -n -f "$D/conf"
}
