#!/usr/bin/env bats
# 80-hostile.bats: clients that mean harm, rows D of the fault matrix as far as
# the built-in services go, at about a twentieth of its counts.

load helper
load clients

abuse() { timeout 60 "$TOOLS/abuse" "$@"; }

# A pool that neither grows nor shrinks, so that pids are to compare.
start_fixed() {
	start -o "workers-min $1" -o "workers-max $1" -l 127.0.0.1:0 "${@:2}"
}

# start_all WORKERS [SETTING ...]: each built-in service with as many; their
# ports in P.
start_all() {
	local i names=(greet echo discard chargen daytime time)
	{
		printf '%s\n' "${@:2}"
		for i in "${names[@]}"; do
			printf 'service %s\nlisten 127.0.0.1:0\nrun %s\n' \
			    "$i" "$i"
		done
	} > "$D/all.conf"
	start -f "$D/all.conf" -o "workers-min $1" -o "workers-max $1" \
	    -o 'log-connections no'
	declare -gA P
	for i in "${!names[@]}"; do
		P[${names[i]}]=${ADDRESSES[i]##*:}
	done
}

# Every service does what it is for.
all_serve() {
	"$TOOLS/storm" -g -n 8 -c 4 "127.0.0.1:${P[greet]}" &&
	    "$TOOLS/storm" -l 0 -s some -e -x 4 -n 8 "127.0.0.1:${P[echo]}" &&
	    "$TOOLS/storm" -l 0 -s some -e -x 0 -n 8 "127.0.0.1:${P[discard]}" &&
	    "$TOOLS/storm" -l 0 -s '' -x 26 -n 8 "127.0.0.1:${P[daytime]}" &&
	    "$TOOLS/storm" -l 0 -s '' -x 4 -n 8 "127.0.0.1:${P[time]}" &&
	    timeout "$DEADLINE" nc -d 127.0.0.1 "${P[chargen]}" |
	    head -c 10000 | wc -c | grep -qx 10000
}

# same_workers: those of $D/workers, none of them busy any more.
note_workers() { workers | sort > "$D/workers"; }
same_workers() {
	wait_for slots_are busy 0
	workers | sort | diff "$D/workers" -
	not logged 'worker died'
}

@test "D01 clients that reset before they are accepted: no stall, no flood" {
	start_fixed 4 -o 'log-connections no' greet
	note_workers
	abuse rst 500 "$ADDRESS" > "$D/rst" 3>&- &
	storm -n 200 -c 4 -g -T 2000
	wait $!
	cat "$D/rst" "$D/storm"
	grep -q '^rst=500 failed=0' "$D/rst"
	[ "$(stormed ok)" -eq 200 ]
	[ "$(stormed total_max)" -lt 3000000 ]
	storm -n 100 -c 8 -g
	[ "$(wc -l < "$LOG")" -lt 20 ]
	same_workers
}

@test "D02 silent clients, twice the pool: first-byte-timeout frees the workers" {
	start_fixed 4 -o 'first-byte-timeout 1s' greet
	for i in {1..8}; do
		abuse -T 15000 silent "$ADDRESS" > "$D/silent.$i" 3>&- &
		pids+=($!)
	done
	wait_for slots_are busy 4
	wait_for eval '[ "$(queued)" -eq 4 ]'
	t=$EPOCHREALTIME
	storm -n 1 -T 15000 -g
	took "$t" 0 5000
	wait "${pids[@]}"
	[ "$(cat "$D"/silent.? | grep -c ' lines=3 end=eof ')" -eq 8 ]
	[ "$(count_logged 'closed .* in=0 .* end=first-byte-timeout ')" -eq 8 ]
}

# Clients that wait in the queue, as the kernel counts them.
queued() { ss -Hltn "sport = :$PORT" | awk '{ print $2 }'; }

@test "D03 a byte now and then does not outlive connection-timeout" {
	start_fixed 1 -o 'connection-timeout 2s' -o 'idle-timeout 1s' echo
	abuse -T 15000 drip 200 "$ADDRESS" > "$D/drip"
	cat "$D/drip"
	ms=$(sed -n 's/.* ms=//p' "$D/drip")
	[ "$ms" -ge 2000 ] && [ "$ms" -le 5000 ]
	wait_for logged 'closed .* end=connection-timeout '
	[ "$(ask back)" = back ]
}

@test "D04 clients that take nothing: the workers are free at the deadline" {
	start_fixed 3 -o 'connection-timeout 1s' chargen
	note_workers
	for i in 1 2 3; do
		abuse -T 15000 zerowindow "$ADDRESS" > /dev/null 3>&- &
		pids+=($!)
	done
	wait_for slots_are busy 3
	t=$EPOCHREALTIME
	timeout "$DEADLINE" nc -d 127.0.0.1 "$PORT" | head -c 1000 |
	    wc -c | grep -qx 1000
	took "$t" 0 4500
	wait_for eval '[ "$(count_logged "end=connection-timeout ")" -ge 3 ]'
	kill "${pids[@]}"
	wait_for eval '[ "$(count_logged "closed ")" -eq 4 ]'
	same_workers
}

@test "D05 half-closed clients get the whole reply" {
	start_all 4
	storm_to() { "$TOOLS/storm" -e -n 100 -c 8 "$@"; }
	storm_to -g -l 0 -s '' "127.0.0.1:${P[greet]}"
	storm_to -g -l 0 -s l "127.0.0.1:${P[greet]}"
	storm_to -l 0 -s '' -x 26 "127.0.0.1:${P[daytime]}"
	storm_to -l 0 -s '' -x 4 "127.0.0.1:${P[time]}"
	storm_to -l 0 -s 'every byte' -x 10 "127.0.0.1:${P[echo]}"
	abuse halfclose "127.0.0.1:${P[greet]}" | grep ' lines=3 end=eof '
	timeout "$DEADLINE" nc -N 127.0.0.1 "${P[chargen]}" < /dev/null |
	    head -c 740000 | wc -c | grep -qx 740000
}

@test "D08 noise of a hundred kinds: each service survives, in the same workers" {
	start_all 2
	note_workers
	for seed in {1..100}; do
		for service in greet echo discard chargen daytime time; do
			abuse -T 5000 noise "$seed" "127.0.0.1:${P[$service]}" \
			    >> "$D/noise.$service" 3>&- &
			pids+=($!)
		done
		if [ $((seed % 10)) -eq 0 ]; then
			wait "${pids[@]}"
			pids=()
		fi
	done
	for service in greet echo discard chargen daytime time; do
		[ "$(grep -c '^sent=' "$D/noise.$service")" -eq 100 ]
	done
	same_workers
	all_serve
	same_workers
}

@test "D08 lines and noise of 10 MB: each service survives, in the same workers" {
	start_all 2 'idle-timeout 2s'
	note_workers
	head -c 10000000 /dev/zero > "$D/nul"
	tr '\0' '\377' < "$D/nul" > "$D/ff"
	tr '\0' 'x' < "$D/nul" > "$D/line"
	head -c 10000000 /dev/urandom > "$D/random"
	for service in greet echo discard daytime time; do
		for kind in nul ff line random; do
			timeout "$DEADLINE" nc -N 127.0.0.1 "${P[$service]}" \
			    < "$D/$kind" > "$D/$service.$kind" 2>/dev/null 3>&- &
			pids+=($!)
		done
	done
	wait "${pids[@]}" || true
	for kind in nul ff line random; do
		cmp "$D/$kind" "$D/echo.$kind"
		[ ! -s "$D/discard.$kind" ]
		[ "$(wc -l < "$D/greet.$kind")" -eq 3 ]
		[ "$(wc -c < "$D/daytime.$kind")" -eq 26 ]
		[ "$(wc -c < "$D/time.$kind")" -eq 4 ]
	done
	same_workers
	all_serve
}

@test "D08 whatever a client sends is shown in the log as text" {
	start_fixed 1 greet
	printf '\033[2J\a\0\377\302\233"\\\n alert: fake' |
	    nc -N 127.0.0.1 "$PORT" > /dev/null
	wait_for logged 'closed '
	[ "$(grep -c ' closed ' "$LOG")" -eq 1 ]
	LC_ALL=C not grep -q $'[\001-\011\013-\037\177-\377]' "$LOG"
	grep -oE 'first=".*"$' "$LOG" |
	    grep -xF 'first="\033[2J\a\000\377\302\233\"\\\n alert: fake"'
}

@test "D09 urgent data, resets in mid stream, FIN and RST: no worker dies" {
	start_all 2
	note_workers
	for service in greet echo discard chargen; do
		case $service in echo | discard) s=x ;; *) s=l ;; esac
		for i in {1..10}; do
			abuse -s $s -T 100 oob rst "127.0.0.1:${P[$service]}"
			abuse -s $s -T 100 oob finrst "127.0.0.1:${P[$service]}"
		done
	done > "$D/oob"
	for i in {1..10}; do
		abuse -s l oob read "127.0.0.1:${P[greet]}"
	done >> "$D/oob"
	[ "$(grep -c ' end=ours ' "$D/oob")" -eq 80 ]
	[ "$(grep -c ' lines=3 end=eof ' "$D/oob")" -eq 10 ]
	same_workers
	all_serve
	same_workers
}

@test "D14 two hundred clients at once and four workers: all are served" {
	start_fixed 4 -o 'log-connections no' greet
	storm -n 200 -c 200 -u
	cat "$D/storm"
	[ "$(stormed ok)" -eq 200 ]
	[ "$(stormed duplicates)" -eq 0 ] && [ "$(stormed gaps)" -eq 0 ]
	[ "$(stormed total_max)" -lt 5000000 ]
}

@test "clients that hold the pool do not keep the queue from being served later" {
	start_fixed 4 greet
	hold 4
	queue 20
	[ "$(queued)" -eq 20 ]
	release
	queue_served 20
}
