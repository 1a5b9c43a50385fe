# 40-pool.bats: growth, retirement, recycling, throttle, and the death of
# workers (rows A of the fault matrix).

# shellcheck disable=SC2034  # what the helper reads

load helper
load clients

accepted_more_than() {
	[ "$(accepted)" -gt "$1" ]
}
queue_shown() { status | grep -E "^$ADDRESS +greet +$1 "; }
greeted_again() { [ -n "$(ask x)" ]; }

storm_for() {
	storm -t "$1" -c 16 -u 3>&- &
	STORM=$!
}

start_fixed() {
	local n=$1
	shift
	start -o "workers-min $n" -o "workers-max $n" -l 127.0.0.1:0 "$@"
}

# The service looks at a file of ours, which nobody cannot.
faulty_file() {
	export FAULT_FILE=$D/fault
	PROGRAM=$FAULTY
}

@test "a pool begins with its spares and has the master asleep" {
	start_greet -o 'workers-spare 5'
	wait_for has_workers 5
	[ "$(state_count idle)" -eq 5 ]
}

@test "silent clients make the pool grow, and all are greeted" {
	start_greet -o 'workers-spare 4' -o 'workers-max 100'
	hold 60
	[ "$(state_count busy)" -eq 60 ]
	wait_for slots_are idle 4
	release
}

@test "workers-max bounds the pool, and the rest are served later" {
	start_greet -o 'workers-spare 2' -o 'workers-max 6'
	hold_begin 20
	wait_for slots_are busy 6
	has_workers 6
	wait_for logged 'warning: all workers are busy and workers-max is reached .*queued=[0-9]'
	wait_for queue_shown 14
	kill "$HOLD"
}

@test "the spares of two sockets that workers-max has no room for are shared" {
	start -l 127.0.0.1:0 -l 127.0.0.2:0 -o 'workers-spare 8' \
	    -o 'workers-max 10' greet
	has_workers 10
	[ "$(workers | xargs ps -o args= -p | grep -c "${ADDRESSES[1]} ")" -eq 5 ]
}

@test "surplus spares retire slowly, down to the spares" {
	start_greet -o 'workers-spare 3' -o 'workers-idle-time 300ms'
	hold 30
	release
	wait_for has_workers 3
	[ "$(count_logged 'worker died')" -eq 0 ]
}

@test "workers-min is kept when there is nothing to do" {
	start_greet -o 'workers-spare 1' -o 'workers-min 7' \
	    -o 'workers-idle-time 100ms'
	hold 10
	release
	wait_for has_workers 7
	sleep 0.5
	has_workers 7
}

@test "an idle server makes no system call" {
	start_greet -o 'workers-idle-time 100ms'
	"$TOOLS/storm" -n 50 -c 5 "$ADDRESS"
	wait_for asleep
	l=$(logger_pid)
	before=$(cpu "$M" "$l")
	timeout 3 strace -f -qq -o "$D/trace" -p "$M" -p "$l" || true
	# the first line is the call that strace found it in
	[ "$(grep -cv 'ppoll.*<\(unfinished\|detached\)' "$D/trace")" -eq 0 ]
	[ "$(wc -l < "$D/trace")" -ge 2 ]
	[ "$(cpu "$M" "$l")" -eq "$before" ]
}

# The master is asleep without a deadline.
asleep() {
	timeout 1 strace -qq -o "$D/asleep" -p "$M" || true
	grep -q 'ppoll(.*, NULL, \[\], 8' "$D/asleep"
}

@test "A01 an idle worker killed under load is replaced, one client lost at most" {
	start_fixed 8 -o 'log-connections no' greet
	storm_for 3
	wait_for accepted_more_than 1000
	kill -9 "$(one_worker)"
	wait_for logged 'worker died .*SIGKILL'
	wait_for has_workers 8
	wait "$STORM" || [ "$(stormed reset)" -le 1 ]
	[ "$(($(stormed reset) + $(stormed short)))" -le 1 ]
	[ "$(stormed duplicates)" -eq 0 ]
}

@test "A02 a busy worker killed in mid reply costs its client alone" {
	PROGRAM=$FAULTY
	start_fixed 4 slow
	for i in 1 2 3; do
		nc -N 127.0.0.1 "$PORT" < /dev/null > "$D/reply$i" &
	done
	wait_for slots_are busy 3
	kill -9 "$(status workers | awk '$2 == "busy" {print $3; exit}')"
	wait_for logged 'worker died .*client=[1-3] how="SIGKILL'
	wait_for slots_are busy 2
	wait_for slots_are busy 0
	[ "$(find "$D" -name 'reply?' -size 1048600c | wc -l)" -eq 2 ]
	wait_for has_workers 4
}

@test "A03 SIGSEGV, SIGABRT and SIGBUS of a worker are told and do not throttle one that had served" {
	PROGRAM=$FAULTY
	start_fixed 1 command
	for s in SEGV ABRT BUS; do
		ask nothing > "$D/reply"
		grep -q "done" "$D/reply"
		ask "signal $(kill -l $s)" > "$D/reply"
		wait_for logged "worker died .*served=1 .*how=\"SIG$s.*core="
		wait_for has_workers 1
	done
	[ "$(count_logged 'worker died')" -eq 3 ]
	not logged 'one at a time'
}

@test "A04 all workers killed at once, again and again, and the pool comes back" {
	start_fixed 10 greet
	rounds=$(often 6 20)
	for ((i = 0; i < rounds; i++)); do
		mapfile -t all < <(workers)
		kill -9 "${all[@]}"
		for p in "${all[@]}"; do wait_for gone "$p"; done
		wait_for has_workers 10
		wait_for slots_are idle 10
	done
	[ "$(count_logged 'worker died')" -eq $((rounds * 10)) ]
	not logged 'one at a time'
}

@test "A06 recycling after few connections loses none" {
	start_fixed 8 -o 'max-connections-per-worker 3' \
	    -o 'log-connections no' -o 'log-level debug' greet
	storm -n 3000 -c 16 -u
	[ "$(stormed ok)" -eq 3000 ]
	n=$(count_logged 'worker left .*served=3')
	[ "$n" -ge 990 ] && [ "$n" -le 1000 ]
	[ "$(count_logged 'worker died')" -eq 0 ]
}

@test "recycling is staggered: no two neighbours fall due together" {
	start_fixed 8 -o 'max-connections-per-worker 100' \
	    -o 'log-connections no' -o 'log-level debug' greet
	storm -n 2000 -c 8
	wait_for has_workers 8
	grep -o 'worker left .*' "$LOG" | sed 's/.*slot=\([0-9]*\).*served=\([0-9]*\).*/\1 \2/' |
	    sort -u > "$D/left"
	[ "$(cut -d' ' -f2 "$D/left" | sort -u | wc -l)" -ge 6 ]
	awk '{ if ($2 != 100 - $1) exit 1 }' "$D/left"
}

@test "A07 a service that dies at its start is throttled, and heals when mended" {
	faulty_file
	start_fixed 4 -o 'user root' abort
	touch "$FAULT_FILE"
	mapfile -t all < <(workers)
	kill -9 "${all[@]}"
	wait_for logged 'starting them one at a time'
	[ "$(count_logged 'starting them one at a time')" -eq 1 ]
	before=$(cpu "$M")
	n=$(count_logged 'how="SIGABRT')
	begin=$EPOCHREALTIME
	# after 0.1 s at the most, and then 0.2, 0.4, 0.8, 1.6 s
	wait_for has_logged $((n + 5)) 'how="SIGABRT'
	[ "$(since "$begin")" -ge 2800000 ]
	[ "$(($(cpu "$M") - before))" -le 15 ]
	status | awk '/^abort/ && $7 >= 1 { found = 1 } END { exit !found }'
	rm "$FAULT_FILE"
	wait_for has_workers 1
	wait_for greeted_again
	wait_for logged 'no longer throttled'
	wait_for has_workers 4
}

@test "A07 SIGTERM works at once while throttled" {
	faulty_file
	start_fixed 4 -o 'user root' abort
	touch "$FAULT_FILE"
	mapfile -t all < <(workers)
	kill -9 "${all[@]}"
	wait_for logged 'starting them one at a time'
	t=$EPOCHREALTIME
	stop TERM
	[ "$((${EPOCHREALTIME/./} - ${t/./}))" -lt 1500000 ]
}

@test "J02 a service that cannot start makes the start fail" {
	faulty_file
	touch "$FAULT_FILE.fail"
	start_quietly -o 'user root' -l 127.0.0.1:0 abort
	ended 1
	wait_for logged 'error: cannot start: its workers die'
	wait_for logged 'how="exit 94 \(the service cannot start\)"'
	[ ! -s "$D/addresses" ]
}

@test "A08 a stopped idle worker is reported and the others serve" {
	start_fixed 4 greet
	w=$(one_worker)
	kill -STOP "$w"
	wait_for logged "warning: worker stopped pid=$w .*SIGSTOP"
	storm -n 40 -c 3 -T 5000
	kill -CONT "$w"
	storm -n 20 -c 2
}

@test "A09 a stopped busy worker is killed at its deadline, not before" {
	start_fixed 2 -o 'connection-timeout 1s' greet
	hold 1
	w=$(status workers | awk '$2 == "busy" {print $3}')
	kill -STOP "$w"
	t=$EPOCHREALTIME
	wait_for logged "killing a worker pid=$w .*connection-timeout"
	took=$((${EPOCHREALTIME/./} - ${t/./}))
	[ "$took" -ge 900000 ] && [ "$took" -le 4000000 ]
	wait_for has_workers 2
	release || true
}

@test "A10 an endless loop in a service is ended at its deadline" {
	PROGRAM=$FAULTY
	start_fixed 2 -o 'connection-timeout 1s' command
	ask spin > /dev/null &
	wait_for slots_are busy 1
	[[ $(ask hello) == *done* ]]
	wait_for logged 'worker died .*how="SIGKILL \(by the master\)"'
	wait_for has_workers 2
}

@test "A14 whatever a worker exits with is told as it is" {
	PROGRAM=$FAULTY
	start_fixed 1 command
	for code in 0 1 90 91 92 93 94 111 255; do
		[[ $(ask hello) == *done* ]]
		ask "exit $code" > /dev/null
		wait_for logged "how=\"exit ${code}[\" ]"
		wait_for has_workers 1
	done
	not logged 'one at a time'
}

@test "every death is told by preforkctl deaths" {
	start_fixed 3 greet
	w=$(one_worker)
	kill -SEGV "$w"
	wait_for logged "worker died pid=$w"
	status deaths | grep -E " $w .*greet +SIGSEGV"
}

@test "workers killed fifty times a second under load: the master lives, numbers stay unique" {
	start_fixed 8 -o 'log-connections no' greet
	storm_for 3
	for i in $(times 50 100); do
		kill -9 "$(workers | shuf -n 1)" 2>/dev/null || true
		sleep 0.02
	done
	wait "$STORM" || true
	DEADLINE=2 wait_for has_workers 8
	kills=$(count_logged 'worker died')
	[ "$kills" -ge 25 ]
	lost=$(($(stormed reset) + $(stormed short)))
	echo "kills=$kills lost=$lost $(cat "$D/storm")"
	[ "$lost" -le "$kills" ]
	[ "$(stormed refused)" -eq 0 ]
	[ "$(stormed timeout)" -eq 0 ]
	[ "$(stormed duplicates)" -eq 0 ]
}

@test "workers ended by SIGTERM fifty times a second under load: nothing is lost" {
	start_fixed 8 -o 'log-connections no' -o 'log-level debug' greet
	storm_for 3
	for i in $(times 50 100); do
		kill -TERM "$(workers | shuf -n 1)" 2>/dev/null || true
		sleep 0.02
	done
	wait "$STORM"
	DEADLINE=2 wait_for has_workers 8
	[ "$(count_logged 'worker left')" -ge 25 ]
	[ "$(count_logged 'worker died')" -eq 0 ]
}

# drippers N: clients that are served, then go on sending for ever; prints a
# line when all are there, then after how many ms each of 8 others is greeted.
drippers() {
	timeout 60 python3 - "$1" "$PORT" <<-'END'
	import socket, sys, threading, time
	count, port = int(sys.argv[1]), int(sys.argv[2])
	def greeted():
	    s = socket.create_connection(("127.0.0.1", port))
	    text = b""
	    while text.count(b"\n") < 3:
	        text += s.recv(1000)
	    return s
	def drip():
	    while not done:
	        for s in rude:
	            try:
	                s.sendall(b"z" * 10)
	            except OSError:
	                pass
	        time.sleep(0.2)
	done, rude = False, [greeted() for i in range(count)]
	for s in rude:
	    s.sendall(b"x" * 20000)
	dripping = threading.Thread(target=drip)
	dripping.start()
	time.sleep(3)	# past the first nudge of the master
	for i in range(8):
	    began = time.monotonic()
	    greeted()
	    print(int((time.monotonic() - began) * 1000))
	done = True
	dripping.join()
	END
}

@test "clients that go on sending after their end keep nobody else waiting" {
	start_greet -o 'workers-spare 4' -o 'workers-max 100'
	drippers 12 > "$D/ms"
	[ "$(wc -l < "$D/ms")" -eq 8 ]
	awk '$1 > 5000 { exit 1 }' "$D/ms"
}

@test "a worker that is recycled over such clients is replaced at once" {
	start_greet -o 'workers-spare 4' -o 'workers-max 100' \
	    -o 'max-connections-per-worker 1'
	drippers 12 > "$D/ms"
	[ "$(wc -l < "$D/ms")" -eq 8 ]
	awk '$1 > 5000 { exit 1 }' "$D/ms"
}

@test "connection-timeout of a client that goes on sending costs no worker" {
	start_fixed 1 -o 'connection-timeout 500ms' discard
	w=$(one_worker)
	timeout 10 "$TOOLS/abuse" -l 0 drip 50 "$ADDRESS" > "$D/drip" || true
	wait_for logged 'closed .*end=connection-timeout'
	[ "$(one_worker)" = "$w" ]
	not logged 'killing a worker'
}

@test "a slot that lies about its client costs idle workers nothing" {
	start_fixed 3 -o 'connection-timeout 300ms' greet
	python3 - "$STATUS.slots" <<-'END'
	import mmap, os, struct, sys
	# every 128 bytes from the end: a slot; its second word is the state
	fd = os.open(sys.argv[1], os.O_RDWR)
	m = mmap.mmap(fd, 0)
	count = struct.unpack_from("I", m, 12)[0]
	first = len(m) - count * 128
	for i in range(3):
	    struct.pack_into("I", m, first + i * 128 + 4, 3)	# busy
	    struct.pack_into("q", m, first + i * 128 + 16, -2**63)
	END
	ask x > /dev/null		# has the master look
	wait_for has_workers 3
	storm -n 50 -c 3
	[ "$(count_logged 'how="SIGKILL')" -eq 0 ]
}
