#!/usr/bin/env bats
# 60-scoreboard.bats: what a running server shows, and what a worker that has
# been taken over can do with what it shares (RULES R1 to R9, E09, E10); what
# a worker has of its parent (E11, E12) and what a handler may call (F08).

load helper
load clients

# Two services side by side: greet on $GREET, and one of tests/faults/ on
# $PORT.
start_beside() {
	PROGRAM=$FAULTY
	cat > "$D/conf" <<-END
		log-level debug
		log-connections no
		drain-timeout 2s
		service greet
			listen 127.0.0.1:0
			run greet
			workers-spare 4
			workers-max 12
		service $1
			listen 127.0.0.1:0
			run $1
			workers-min 2
			workers-spare 2
			workers-max 8
	END
	shift
	start -f "$D/conf" "$@"
	GREET=${ADDRESSES[0]}
	PORT=${ADDRESSES[1]##*:}
}

# scribble WORDS: the worker writes, and says so.
scribble() {
	ask "$1" > "$D/scribbled"
	grep -q '^written [2-9] resisted [1-9]' "$D/scribbled"
}

greeted() { ask x "${GREET##*:}" | grep -q '^Welcome'; }
born() { count_logged ' worker born '; }
burials() { count_logged ' worker (died|left) '; }

# Whatever the files hold, preforkctl shows a server that is alive, perhaps
# degraded (1), or cannot tell (3), and says nothing raw.
shows_something() {
	local command rc
	for command in status workers deaths; do
		rc=0
		status $command > "$D/shown" 2>&1 || rc=$?
		[ $rc -eq 0 ] || [ $rc -eq 1 ] || [ $rc -eq 3 ] || return 1
		! LC_ALL=C grep -aq '[^ -~]' "$D/shown" || return 1
	done
}

# Under ptrace there is no looking for leaks.
without_leak_check() {
	export ASAN_OPTIONS=$ASAN_OPTIONS:detect_leaks=0
}

trace_signals() {
	strace -qq -o "$D/signals" -p "$M" \
	    -e trace=kill,tkill,tgkill,pidfd_send_signal 3>&- &
	TRACER=$!
	wait_for traced
}

traced() { grep -q '^TracerPid:.[1-9]' "/proc/$M/status"; }

# Every signal that was sent went to a worker that the log saw born.
signals_are_ours() {
	local pid
	sed -nE 's/^kill\((-?[0-9]+), .*/\1/p' "$D/signals" | sort -u > "$D/to"
	! grep -vE '^kill\(|^---' "$D/signals" || return 1
	while read -r pid; do
		wait_for logged " worker born pid=$pid " || return 1
	done < "$D/to"
}

@test "E09 a worker that writes over all it can reach leaves the status as it is, byte for byte" {
	start_beside scribble
	kill -STOP "$M"
	cp "$STATUS" "$D/before"
	for how in 'random 1' 'fill 0' 'fill 255' 'fill 127' 'random 2'; do
		scribble "$how"
		cmp "$STATUS" "$D/before"
	done
	kill -CONT "$M"
	wait_for greeted
}

@test "E09 scribbling under load: the master lives, clients are served, signals go to workers alone" {
	without_leak_check
	start_beside scribble
	trace_signals
	"$TOOLS/storm" -t 4 -c 4 "$GREET" > "$D/storm" 2>&1 3>&- &
	storm=$!
	for how in 'fill 0' 'fill 255' 'fill 127' 'fill 128' 'fill 1' \
	    'random '{1..20}; do
		scribble "$how"
		shows_something
		[ "$(worker_count)" -le 20 ]
	done
	wait "$storm"
	grep -q ' reset=0 ' "$D/storm"
	[ "$(born)" -le $((20 + $(burials))) ]
	scribble 'random 99'
	stop TERM
	wait "$TRACER"
	signals_are_ours
	[ "$(wc -l < "$D/to")" -ge 6 ]
	EXPECT_DEAD=yes
}

@test "E09 all is right again when the workers have been replaced" {
	start_beside scribble
	for how in 'random 3' 'fill 255'; do
		scribble "$how"
	done
	mapfile -t all < <(workers)
	kill -KILL "${all[@]}"
	for p in "${all[@]}"; do wait_for gone "$p"; done
	wait_for has_workers 6
	wait_for slots_are idle 6
	wait_for eval '[ "$(status workers | wc -l)" -eq 7 ]'
	wait_for greeted
	status deaths | grep -E ' scribble +SIGKILL'
	stop TERM
}

@test "E10 slots that all claim to be busy make the pools grow to workers-max, not beyond" {
	start_beside scribble
	for i in {1..10}; do
		scribble 'claim 3'
		shows_something
		[ "$(worker_count)" -le 20 ]
	done
	[ "$(born)" -gt 6 ]
	[ "$(born)" -le 20 ]
	wait_for greeted
}

@test "E10 slots that all claim to be idle leave the pools no smaller than they must be" {
	start_beside scribble -o 'workers-idle-time 100ms'
	for i in {1..20}; do
		scribble 'claim 2'
		shows_something
		[ "$(worker_count)" -ge 4 ]
		[ "$(worker_count)" -le 20 ]
		sleep 0.05
	done
	# none is retired for being idle as long as it is a spare
	[ "$(burials)" -le 10 ]
	wait_for greeted
}

@test "E10 absurd numbers are shown within their bounds" {
	start_beside scribble
	scribble 'claim 2'
	status workers > "$D/shown"
	grep -qE '^ +[0-9]+ idle +0 ' "$D/shown"
	not grep -qE -- ' -[0-9]' "$D/shown"
	# not 0, which two lies of 2^63 add up to; nor when a liar has gone
	status | grep -qE '^greet +999999999999 '
	w=$(one_worker)
	[ "$w" -gt 1 ] && kill -KILL "$w"
	wait_for logged 'worker died'
	status | grep -qE '^greet +999999999999 '
	for how in 'fill 255' 'fill 127'; do
		scribble "$how"
		wait_for status > "$D/shown" 2>&1
		status workers >> "$D/shown"
		not grep -qE -- ' -[0-9]' "$D/shown"
		grep -q '^state:       running' "$D/shown"
		grep -qE '^greet .* 12$' "$D/shown"
	done
}

@test "R4 workers that flood the wake-up pipe do not make the master deaf" {
	without_leak_check
	start_beside command
	w=$(status workers | awk '/ idle .* greet$/ {print $3; exit}')
	for i in 1 2 3 4 5 6; do
		ask poke > "$D/poke$i" 3>&- &
		wait_for grep -q pid "$D/poke$i"
	done
	# so slow that the pipe is never empty
	strace -qq -o "$D/trace" -p "$M" 3>&- &
	tracer=$!
	wait_for test -s "$D/trace"
	kill -KILL "$w"
	DEADLINE=5 wait_for logged "worker died pid=$w "
	kill -TERM "$M"
	DEADLINE=5 wait_for logged 'stopping, clients finish'
	kill -INT "$tracer"
	ended 2
}

@test "R4 a worker that floods the wake-up pipe costs the master little processor time" {
	start_beside command
	ask poke > "$D/poke" 3>&- &
	wait_for grep -q pid "$D/poke"
	before=$(cpu "$M")
	sleep 1
	[ $(($(cpu "$M") - before)) -le 15 ]
	# and no time to see a signal, or a death
	kill -TERM "$M"
	DEADLINE=2 wait_for logged 'stopping, clients finish'
	ended 2
}

@test "R22 workers that make their pipes blocking, and fill them, make nobody else wait" {
	start_beside command
	l=$(logger_pid)
	kill -STOP "$l"
	for fd in 3 4; do
		ask "block $fd" > "$D/block$fd" 3>&- &
		wait_for grep -q pid "$D/block$fd"
	done
	# the master has something to say, and drops it
	wait_for master_drops
	"$TOOLS/storm" -n 200 -c 4 "$GREET"
	t=$EPOCHREALTIME
	kill -TERM "$M"
	ended 2
	took "$t" 2000 8000
}
master_drops() {
	kill -KILL "$(status workers | awk '/ idle .* greet$/ {print $3; exit}')" || true
	[ "$(status | awk '/^log dropped:/ { print $3 }')" -gt 0 ]
}

# wrapped COMMAND: the program, started by this line of shell.
wrapped() {
	printf '#!/bin/bash\n%s "%s" "$@"\n' "$1" "$PROGRAM" > "$D/wrapped"
	chmod +x "$D/wrapped"
	PROGRAM=$D/wrapped
}

same_workers() {
	diff <(status workers | awk 'NR > 1 {print $3}' | sort) \
	    <(workers | sort)
}

# descriptors_of PID: `NUMBER KIND' a line.
descriptors_of() {
	find "/proc/$1/fd" -mindepth 1 -printf '%f %l\n' | sed 's/:.*//' |
	    sort -n
}

# What a worker has open while it is idle.
worker_descriptors() {
	cat <<-END
		0 /dev/null
		1 $D/addresses
		2 $LOG
		3 pipe
		4 pipe
		5 /dev/null
		6 socket
	END
}

@test "a status file on a disk is warned of, one in memory is not" {
	kind() { stat -f -c %T "$1"; }
	[ "$(kind "$D")" != tmpfs ] || skip 'no disk here'
	[ "$(kind /dev/shm)" = tmpfs ] || skip 'no memory here'
	start_greet
	wait_for logged "warning: status-file $STATUS: on a disk, which may hold up workers\$"
	stop
	: > "$LOG"
	memory=$(mktemp -d /dev/shm/preforkd-XXXXXX)
	STATUS=$memory/status start_greet
	stop
	rm -r "$memory"
	not logged 'on a disk'
	wait_for logged 'notice: serving'
}

@test "preforkctl shows a running server as it is" {
	start_greet -o 'workers-spare 3'
	ask hello
	printf '' | nc 127.0.0.1 "$PORT" > "$D/reply" 3>&- &
	wait_for slots_are busy 1
	wait_for slots_are idle 3
	status > "$D/shown"
	grep -x 'state:       running' "$D/shown"
	grep -x "pid:         $M" "$D/shown"
	grep -x 'generation:  1' "$D/shown"
	grep -x 'log dropped: 0' "$D/shown"
	grep -qE '^greet +2 +1 +3 +0 +0 +0 +512$' "$D/shown"
	grep -qE "^$ADDRESS +greet +0 +[0-9]+$" "$D/shown"
	wait_for same_workers
	status workers | grep -E \
	    '^ +[0-9]+ busy +[0-9]+ +1 +[01] +2 +[0-9]+ 127\.0\.0\.1:[0-9]+ +greet$'
	kill -ABRT "$(one_worker)"
	wait_for eval 'status deaths | grep -E " greet +SIGABRT"'
}

@test "preforkctl shows a server whose master is stopped, and counts on" {
	start_greet
	kill -STOP "$M"
	ask hello
	run status
	[ "$status" -eq 0 ]
	[[ ${lines[0]} == 'preforkd OK: greet '* ]]
	grep -qE '^greet +1 ' <<< "$output"
	status workers | grep -E '^ +[0-9]+ idle '
	status deaths
	kill -CONT "$M"
}

@test "preforkctl shows what a dead master left" {
	start_greet
	ask hello
	EXPECT_DEAD=yes
	kill -KILL "$M"
	wait_for no_members
	run status
	[ "$status" -eq 2 ]
	[[ ${lines[0]} == 'preforkd DOWN: dead, last seen '*', running' ]]
	grep -qE '^greet +1 ' <<< "$output"
	run status workers
	[ "$status" -eq 2 ]
	run status deaths
	[ "$status" -eq 2 ]
}

@test "preforkctl shows a server that has stopped as stopped, without workers" {
	start_greet
	stop
	run status
	[ "$status" -eq 2 ]
	[ "${lines[0]}" = 'preforkd DOWN: stopped in order' ]
	run status workers
	not grep -E 'idle|busy|starting|draining' <<< "$output"
}

@test "ps shows what each process is" {
	start_greet -o 'workers-spare 2'
	ps -o args= -p "$M" | grep -E '^preforkd: master *\.?$'
	ps -o args= -p "$(logger_pid)" | grep -E '^preforkd: logger *\.?$'
	[ "$(workers | wc -l)" -eq 2 ]
	for w in $(workers); do
		ps -o args= -p "$w" |
		    grep -E "^preforkd: greet $ADDRESS slot [01]: idle"
	done
	hold 1
	wait_for titled 'slot [01]: client 1'
	release
	wait_for not titled 'slot [01]: client 1'
}

titled() { ps -o args= --ppid "$M" | grep -E "$1"; }

@test "E11 a worker and the logger have the descriptors they need and no other" {
	wrapped 'exec 11</dev/null 12>/dev/null 57</etc/passwd 999</dev/null;
	    exec 3>/dev/null 4</etc/passwd; exec'
	start_greet
	logger=$(logger_pid)
	for w in $(workers); do
		diff <(descriptors_of "$w") <(worker_descriptors)
	done
	diff <(descriptors_of "$logger") <(printf '%s\n' '0 pipe' "2 $LOG")
	[ "$(master_fds)" -le 16 ]
	not grep -E '^(57|999) |passwd' <(descriptors_of "$M")
}

@test "R3 neither a worker nor the logger can write the status" {
	start_greet
	writes "$M"
	for p in "$(one_worker)" "$(logger_pid)"; do
		writes "$p" .slots
		not writes "$p"
	done
}

@test "E11 a worker that serves has its client besides, also after others" {
	PROGRAM=$FAULTY
	start -l 127.0.0.1:0 -o 'workers-min 1' -o 'workers-spare 1' \
	    -o 'workers-max 1' command
	for i in {1..20}; do
		ask hello > /dev/null
	done
	# its own view, without the descriptor of the listing
	ask descriptors | grep -E '^[0-9]+ ' | grep -v ' /proc/' |
	    sed 's/:\[.*//' | sort -n > "$D/seen"
	diff <(head -n 7 "$D/seen") <(worker_descriptors)
	not grep -vE '^([0-6] |[0-9]+ socket$)' "$D/seen"
	wait_for one_socket
}

# All that lingered is closed.
one_socket() { diff <(descriptors_of "$(one_worker)") <(worker_descriptors); }

@test "R21 started without standard descriptors, it serves with /dev/null for them" {
	wrapped 'exec 0<&- 1>&- 2>&-; exec'
	start_quietly -l 127.0.0.1:0 greet
	wait_for slots_are idle 8
	PORT=$(status | sed -nE 's/^127.0.0.1:([0-9]+) .*/\1/p')
	[[ $(ask x) == Welcome* ]]
	[ "$(descriptors_of "$(one_worker)" | head -n 3 | uniq -f 1)" = \
	    '0 /dev/null' ]
	BASE_FDS=$(master_fds)
}

@test "E12 ignored and blocked signals of the caller are not inherited" {
	PROGRAM=$FAULTY
	wrapped 'exec env --ignore-signal=INT,QUIT,PIPE,CHLD,ALRM,USR1 \
	    --block-signal=TERM,CHLD,HUP'
	start -l 127.0.0.1:0 command
	ask signals > "$D/signals"
	grep -x 'SigBlk:	0000000000000000' "$D/signals"
	# HUP INT QUIT USR1 USR2 XFSZ, and handled: PIPE TERM VTALRM; 18: the C
	# library's own two signals, which its posix_spawn(3) leaves ignored
	grep -xE 'SigIgn:	0000000001000207' "$D/signals"
	grep -x 'SigCgt:	0000000002005800' "$D/signals"
	# the master, asleep in ppoll: only XFSZ is ignored
	wait_for grep -x 'SigBlk:	0000000000000000' "/proc/$M/status"
	grep -xE 'SigIgn:	0000000(00|18)1000000' "/proc/$M/status"
	stop TERM
}

@test "F08 the signal handlers call nothing but what is allowed" {
	nm -u "$SRC/handler.o" | awk '{print $2}' |
	    sed 's/@.*//' | grep -vE '^(_GLOBAL_OFFSET_TABLE_$|__stack_chk|__(a|ub)san_)' |
	    sort > "$D/called"
	grep -q '^dup2$' "$D/called"
	not grep -vxE 'write|dup2|close|getppid|alarm|__errno_location' \
	    "$D/called"
}
