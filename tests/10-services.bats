#!/usr/bin/env bats
# 10-services.bats: what the built-in services send, byte for byte, that they
# lose none of it, and that the timeouts hold for each of them.

load helper

# greeting ADDRESS PORT NUMBER: what a client must see.
greeting() {
	printf 'Welcome ! You have connected to %s on port %s\r\n' "$1" "$2"
	printf 'You are client #%s to connect to this server !\r\n' "$3"
	printf 'Please press any key in your console, after that this server '
	printf 'socket will close\r\n'
}

# greeted ADDRESS PORT NUMBER NC-ARGUMENT...: and nothing else.
greeted() {
	greeting "$1" "$2" "$3" > "$D/wanted"
	printf l | timeout "$DEADLINE" nc -N "${@:4}" > "$D/got"
	cmp "$D/wanted" "$D/got"
}

# start_all SETTING...: the built-in services, their ports in P.
start_all() {
	local i names=(greet echo discard chargen daytime time)
	for i in "${names[@]}"; do
		printf 'service %s\n\tlisten 127.0.0.1:0\n\trun %s\n' "$i" "$i"
	done > "$D/all.conf"
	printf '%s\n' 'log-connections both' "$@" > "$D/head.conf"
	cat "$D/head.conf" "$D/all.conf" > "$D/preforkd.conf"
	start -f "$D/preforkd.conf" -o 'workers-spare 2'
	declare -gA P
	PIDS=()
	for i in "${!names[@]}"; do
		P[${names[i]}]=${ADDRESSES[i]##*:}
	done
}

one_worker_of() { start -l 127.0.0.1:0 -o 'workers-max 1' "${@:2}" "$1"; }

abuse() { timeout 60 "$TOOLS/abuse" "$@"; }

# Half a second of silence is a bounded wait for what must not come.
silent_client() { timeout 0.5 nc -d 127.0.0.1 "$1" || [ $? -eq 124 ]; }

random_file() { head -c "$2" /dev/urandom > "$1"; }

@test "greet, byte for byte, to nc over IPv4" {
	start_greet
	greeted 127.0.0.1 "$PORT" 1 127.0.0.1 "$PORT"
	greeted 127.0.0.1 "$PORT" 2 127.0.0.1 "$PORT"
	wait_for logged "closed 127\.0\.0\.1:[0-9]+ client=2 service=greet seconds=[0-9.]+ in=1 out=$(wc -c < "$D/got") end=served first=\"l\""
}

@test "greet to nc over IPv6 shows the address without brackets" {
	start -l '[::1]:0' greet
	greeted ::1 "$PORT" 1 ::1 "$PORT"
}

@test "greet to nc over a Unix socket shows its path and port 0" {
	start -l "unix:$D/s" greet
	greeted "$D/s" 0 1 -U "$D/s"
}

@test "greet on every address shows the one that the client reached" {
	start -l '*:0' greet
	port4=${ADDRESSES[0]##*:} port6=${ADDRESSES[1]##*:}
	greeted 127.0.0.1 "$port4" 1 127.0.0.1 "$port4"
	greeted 127.0.0.2 "$port4" 2 127.0.0.2 "$port4"
	greeted 127.1.2.3 "$port4" 3 127.1.2.3 "$port4"
	greeted ::1 "$port6" 4 ::1 "$port6"
}

@test "telnet on a terminal is greeted, and a key press ends it" {
	start_greet
	mkfifo "$D/keys"
	TERM=dumb timeout "$DEADLINE" script -qefc "telnet 127.0.0.1 $PORT" \
	    "$D/screen" < "$D/keys" > /dev/null 2>&1 3>&- &
	client=$!
	exec 8> "$D/keys"
	wait_for grep -q 'socket will close' "$D/screen"
	sleep 0.3
	not gone "$client"
	not logged 'closed '
	printf 'l\r' >&8
	wait_for grep -q 'Connection closed by foreign host' "$D/screen"
	exec 8>&-
	wait "$client" || true
	tr -d '\r' < "$D/screen" > "$D/lines"
	greeting 127.0.0.1 "$PORT" 1 | tr -d '\r' > "$D/wanted"
	sed -n '/^Welcome/,/will close$/p' "$D/lines" | diff "$D/wanted" -
	wait_for logged 'closed .* client=1 .* end=served first="l'
}

@test "a client that only waits is not ended, nor does it keep others out" {
	one_worker_of greet -o 'workers-max 2'
	exec {waiting}<> "/dev/tcp/127.0.0.1/$PORT"
	read -r -u "$waiting" line
	[[ $line == 'Welcome ! '* ]]
	greeted 127.0.0.1 "$PORT" 2 127.0.0.1 "$PORT"
	not logged 'closed .* client=1 '
	[ "$(state_count busy)" -eq 1 ]
	printf k >&"$waiting"
	timeout "$DEADLINE" cat <&"$waiting" | grep -q 'socket will close'
	exec {waiting}>&-
}

@test "client numbers are unique and without a gap over all workers" {
	start -l 127.0.0.1:0 -o 'workers-min 8' -o 'workers-max 8' \
	    -o 'log-connections no' greet
	"$TOOLS/storm" -u -n 3000 -c 24 "$ADDRESS" > "$D/storm"
	grep -q ' numbers=3000 duplicates=0 min=1 max=3000 gaps=0' "$D/storm"
	status workers | awk 'NR > 1 && $5 > 0' > "$D/served"
	[ "$(wc -l < "$D/served")" -eq 8 ]
}

@test "client numbers go on over several sockets and services" {
	start_all
	greeted 127.0.0.1 "${P[greet]}" 1 127.0.0.1 "${P[greet]}"
	nc -d 127.0.0.1 "${P[time]}" > /dev/null
	nc -d 127.0.0.1 "${P[daytime]}" > /dev/null
	greeted 127.0.0.1 "${P[greet]}" 4 127.0.0.1 "${P[greet]}"
}

@test "echo sends a megabyte back, to a client that half-closes" {
	start -l 127.0.0.1:0 echo
	random_file "$D/sent" 1048576
	timeout "$DEADLINE" nc -N 127.0.0.1 "$PORT" < "$D/sent" > "$D/back"
	cmp "$D/sent" "$D/back"
	wait_for logged 'closed .* in=1048576 out=1048576 end=client-closed '
}

@test "echo sends every byte at once, before the client has finished" {
	start -l 127.0.0.1:0 echo
	exec {client}<> "/dev/tcp/127.0.0.1/$PORT"
	for byte in a b c; do
		printf %s "$byte" >&"$client"
		read -r -t "$DEADLINE" -N 1 -u "$client" back
		[ "$back" = "$byte" ]
	done
	exec {client}>&-
}

@test "discard takes a megabyte and says nothing" {
	start -l 127.0.0.1:0 discard
	random_file "$D/sent" 1048576
	timeout "$DEADLINE" nc -N 127.0.0.1 "$PORT" < "$D/sent" > "$D/back"
	[ ! -s "$D/back" ]
	wait_for logged 'closed .* in=1048576 out=0 end=client-closed '
}

# Ninety-six lines, so that the ring has come round.
chargen_lines() {
	LC_ALL=C awk 'BEGIN {
		for (i = 0; i < 95; i++)
			ring = ring sprintf("%c", 32 + i)
		ring = ring ring
		for (i = 0; i < 96; i++)
			printf("%s\r\n", substr(ring, 1 + i % 95, 72))
	}'
}

@test "chargen sends the lines of RFC 864, and begins again after 95" {
	start -l 127.0.0.1:0 chargen
	chargen_lines > "$D/wanted"
	[ "$(wc -c < "$D/wanted")" -eq $((96 * 74)) ]
	timeout "$DEADLINE" nc -d 127.0.0.1 "$PORT" 2>/dev/null |
	    head -c $((96 * 74)) > "$D/got"
	cmp "$D/wanted" "$D/got"
}

@test "chargen goes on for a client that has finished sending" {
	start -l 127.0.0.1:0 chargen
	abuse -T 500 -s 'no more' halfclose "$ADDRESS" > "$D/half"
	grep -E '^sent=7 received=[0-9]{6,} .* end=timeout ' "$D/half"
}

@test "chargen survives clients that break off, with the same worker" {
	one_worker_of chargen
	worker=$(one_worker)
	abuse oob rst "$ADDRESS"
	abuse oob finrst "$ADDRESS"
	timeout "$DEADLINE" nc -d 127.0.0.1 "$PORT" | head -c 100000 |
	    wc -c | grep -qx 100000
	wait_for eval '[ "$(count_logged "closed ")" -eq 3 ]'
	[ "$(count_logged 'closed .* end=(reset|client-closed) ')" -eq 3 ]
	[ "$(one_worker)" = "$worker" ]
}

@test "daytime sends one line with the date and closes" {
	start -l 127.0.0.1:0 daytime
	before=$(date +%s)
	timeout "$DEADLINE" nc -d 127.0.0.1 "$PORT" > "$D/got"
	after=$(date +%s)
	[ "$(wc -c < "$D/got")" -eq 26 ]
	tail -c 2 "$D/got" | cmp - <(printf '\r\n')
	line=$(tr -d '\r' < "$D/got")
	[[ $line =~ ^[A-Z][a-z]{2}\ [A-Z][a-z]{2}\ [\ 1-3][0-9]\ [0-9:]{8}\ [0-9]{4}$ ]]
	then=$(date -d "$line" +%s)
	[ "$before" -le "$then" ] && [ "$then" -le "$after" ]
	[ "$(LC_ALL=C date -d "@$then" '+%a %b %e %H:%M:%S %Y')" = "$line" ]
}

@test "time sends four bytes, the seconds since 1900, and closes" {
	start -l 127.0.0.1:0 time
	before=$(date +%s)
	timeout "$DEADLINE" nc -d 127.0.0.1 "$PORT" > "$D/got"
	after=$(date +%s)
	[ "$(wc -c < "$D/got")" -eq 4 ]
	then=$((0x$(od -An -tx1 "$D/got" | tr -d ' ') - 2208988800))
	[ "$before" -le "$then" ] && [ "$then" -le "$after" ]
}

# eager SERVICE BYTES LINES REPLY: 20 clients that send before they read.
eager() {
	local i pids=()
	for i in {1..20}; do
		abuse unread "$2" "127.0.0.1:${P[$1]}" > "$D/eager.$i" 3>&- &
		pids+=($!)
		[ "$2" -gt 1000000 ] || wait $!
	done
	wait "${pids[@]}"
	cat "$D"/eager.* > "$D/eager"
	echo "$1:" "$(grep -vE "^sent=$2 received=$4 lines=$3 end=eof " "$D/eager")"
	[ "$(grep -cE "^sent=$2 received=$4 lines=$3 end=eof " "$D/eager")" -eq 20 ]
}

# The greeting of a client whose number has one digit, or two.
greeting_sizes() {
	local n
	n=$(greeting 127.0.0.1 "${P[greet]}" 1 | wc -c)
	echo "($n|$((n + 1)))"
}

@test "clients that send 30 kB before they read get the whole reply" {
	start_all
	eager greet 30000 3 "$(greeting_sizes)"
	eager daytime 30000 1 26
	eager time 30000 '[0-4]' 4
}

@test "clients that send 10 MB before they read get the whole reply" {
	start_all
	eager greet 10000000 3 "$(greeting_sizes)"
	eager daytime 10000000 1 26
	eager time 10000000 '[0-4]' 4
	[ "$(count_logged 'closed .* end=served ')" -eq 60 ]
}

# greeted_fd: one more client, greeted to its end but not closed: in FDS.
greeted_fd() {
	local fd
	exec {fd}<> "/dev/tcp/127.0.0.1/$PORT"
	FDS+=("$fd")
	printf l >&"$fd"
	timeout "$DEADLINE" cat <&"$fd" | tail -n 1 | grep -q 'will close'
}

close_fds() {
	local fd
	for fd in "${FDS[@]}"; do exec {fd}>&-; done
	FDS=()
}

# Waiting in place would cost 2 s each: a client 100 ms away, written large.
@test "clients that close late do not hold the only worker" {
	one_worker_of greet
	FDS=()
	began=$SECONDS
	for i in {1..12}; do greeted_fd; done
	took=$((SECONDS - began))
	close_fds
	echo "12 clients in $took s"
	[ "$took" -lt 12 ]
	[ "$(count_logged 'closed ')" -eq 12 ]
}

client_sockets() { find "/proc/$1/fd" -lname 'socket:*' | wc -l; }
has_sockets() { [ "$(client_sockets "$1")" -eq "$2" ]; }

@test "clients that never close are gone after 2 s, and the worker sleeps" {
	one_worker_of greet
	worker=$(one_worker)
	idle=$(client_sockets "$worker")
	FDS=()
	for i in {1..3}; do greeted_fd; done
	began=$EPOCHREALTIME
	[ "$(client_sockets "$worker")" -gt "$idle" ]
	before=$(cpu "$worker")
	[ "$(state_count idle)" -eq 1 ]
	wait_for has_sockets "$worker" "$idle"
	took=$((${EPOCHREALTIME/./} - ${began/./}))
	echo "gone after $took us, cpu $before $(cpu "$worker")"
	[ "$took" -ge 1500000 ] && [ "$took" -le 5000000 ]
	[ "$(($(cpu "$worker") - before))" -le 2 ]
	close_fds
}

@test "what comes from a client that never closes is reset after 2 s" {
	one_worker_of greet
	abuse -T 15000 noclose 3500 "$ADDRESS" > "$D/noclose"
	cat "$D/noclose"
	grep -q '^sent=1 .*lines=3 end=eof ' "$D/noclose"
	grep -q '^gone=reset ' "$D/noclose"
	ms=$(sed -n 's/.*gone_ms=//p' "$D/noclose")
	[ "$ms" -ge 3500 ] && [ "$ms" -le 10000 ]
}

# ended_as SERVICE END MIN: the line of a client of this service, and its
# seconds: not before MIN, and by 3 s more.
ended_as() {
	wait_for logged "closed .* service=$1 .* end=$2 "
	sed -nE "s/.*closed .* service=$1 seconds=([0-9.]+) .* end=$2 .*/\\1/p" \
	    "$LOG" > "$D/seconds"
	awk -v min="$3" -v what="$1" '
	    $1 < min || $1 > min + 3 { print what " took " $1; bad = 1 }
	    END { exit bad || NR == 0 }' "$D/seconds"
}

# clients KIND [ARGUMENT] SERVICE...: one of each at once, what they saw in
# $D/KIND.SERVICE.
clients() {
	local service kind=$1 argument=()
	case $2 in [0-9]*) argument=("$2"); set -- "$1" "${@:3}" ;; esac
	for service in "${@:2}"; do
		abuse -T 10000 "$kind" "${argument[@]}" \
		    "127.0.0.1:${P[$service]}" > "$D/$kind.$service" 3>&- &
		PIDS+=($!)
	done
}

@test "first-byte-timeout ends who says nothing, in each service that listens" {
	start_all 'first-byte-timeout 1s'
	clients silent greet echo discard
	wait "${PIDS[@]}"
	for service in greet echo discard; do
		grep -q ' end=eof ' "$D/silent.$service"
		ended_as "$service" first-byte-timeout 1
	done
	[ "$(count_logged 'closed ')" -eq 3 ]
}

# served_for N SECONDS: so many clients for so long at least.
served_for() {
	[ "$(status workers | awk -v s="$2" '$2 == "busy" && $7 >= s' |
	    wc -l)" -eq "$1" ]
}

@test "first-byte-timeout is over with the first byte" {
	start_all 'first-byte-timeout 1s'
	clients drip 400 echo discard
	wait_for eval '[ "$(count_logged connected)" -eq 2 ]'
	wait_for served_for 2 2	# seconds, twice the timeout
	not logged 'closed '
	[ "$(state_count busy)" -eq 2 ]
	kill "${PIDS[@]}"
}

@test "idle-timeout ends who is silent, or takes nothing, in each service" {
	start_all 'idle-timeout 1s'
	clients silent greet echo discard
	clients zerowindow chargen
	for service in greet echo discard; do
		ended_as "$service" idle-timeout 1
		wait_for grep -q ' end=eof ' "$D/silent.$service"
	done
	wait_for logged 'closed .* service=chargen .* end=idle-timeout '
	wait_for slots_are busy 0
	kill "${PIDS[@]}" || true
}

@test "idle-timeout lets go on who does something now and then" {
	start_all 'idle-timeout 1s'
	clients drip 300 echo discard
	wait_for eval '[ "$(count_logged connected)" -eq 2 ]'
	wait_for served_for 2 2	# seconds, twice the timeout
	not logged 'closed '
	kill "${PIDS[@]}"
}

@test "connection-timeout ends a busy client too, in each service" {
	start_all 'connection-timeout 1s'
	clients silent greet
	clients drip 100 echo discard
	timeout "$DEADLINE" nc -d 127.0.0.1 "${P[chargen]}" 3>&- |
	    { read -r _; sleep 0.2; cat > /dev/null; } &
	PIDS+=($!)
	for service in greet echo discard chargen; do
		ended_as "$service" connection-timeout 1
	done
	wait "${PIDS[@]}"
	grep -q ' end=eof ' "$D/silent.greet"
	for service in echo discard; do
		grep -qE ' end=(eof|reset) ' "$D/drip.$service"
	done
}

@test "daytime and time are over at once, whatever the timeouts" {
	start_all 'first-byte-timeout 1s' 'idle-timeout 1s' \
	    'connection-timeout 1s'
	clients silent daytime time
	wait "${PIDS[@]}"
	for service in daytime time; do
		grep -q ' end=eof ' "$D/silent.$service"
		ended_as "$service" served 0
	done
}

@test "without timeouts a client may stay as long as it likes" {
	start_all
	for service in greet echo discard; do
		silent_client "${P[$service]}" > /dev/null &
	done
	wait_for slots_are busy 3
	not logged 'closed .* end=.*timeout'
	wait_for slots_are busy 0
	[ "$(count_logged 'closed .* end=client-closed ')" -eq 3 ]
}

@test "ps shows each worker's service, address and slot" {
	start -l 127.0.0.1:0 -o 'workers-max 2' -o 'workers-min 2' greet
	# libbsd puts a dot where the name of the program ended, if behind it.
	ps -o args= -p "$M" --ppid "$M" | sed 's/ *\.$//' | sort > "$D/titles"
	printf 'preforkd: %s\n' "greet $ADDRESS slot 0: idle" \
	    "greet $ADDRESS slot 1: idle" logger master |
	    diff - "$D/titles"
}
