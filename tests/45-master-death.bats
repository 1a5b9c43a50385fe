#!/usr/bin/env bats
# 45-master-death.bats: what is left when the master dies without a word, and
# what the next start makes of it (rows B of the fault matrix, J03).

load helper

# Under ptrace there is no looking for leaks.
export ASAN_OPTIONS=$ASAN_OPTIONS:detect_leaks=0

# The master dies of this signal and is nobody's zombie.
kill_master() {
	EXPECT_DEAD=yes
	kill -"$1" "$M"
	wait "$M" || true
}

# All that it had started is gone, in a second and some slack.
nothing_left() { DEADLINE=4 wait_for no_members; }

restart() {
	start "$@"
	EXPECT_DEAD=no
}

refused() { not nc -z 127.0.0.1 "$PORT"; }
size_of() { stat -c %s "$1"; }

# Milliseconds from $1, an earlier $EPOCHREALTIME.
since() { echo $(((${EPOCHREALTIME/./} - ${1/./}) / 1000)); }

@test "B01 a killed idle master leaves no process and no listener" {
	start_greet -o 'workers-spare 20'
	kill_master KILL
	nothing_left
	refused
	[ "$(status | head -n 1 | grep -c dead)" -eq 1 ]
}

@test "B01 a restart in the same instant works" {
	start_greet -o 'workers-spare 40'
	for i in $(times 4 10); do
		kill_master KILL
		restart -o 'workers-spare 40' -l "127.0.0.1:$PORT" greet
	done
	[[ $(ask x) == *"client #1 "* ]]
}

@test "B02 replies under way when the master is killed end complete, and no new client is taken" {
	PROGRAM=$FAULTY
	start -o 'workers-spare 4' -l 127.0.0.1:0 slow
	for i in 1 2 3; do
		nc -N 127.0.0.1 "$PORT" < /dev/null > "$D/reply$i" &
	done
	wait_for slots_are busy 3
	kill_master KILL
	wait_for refused
	[ "$(size_of "$D/reply1")" -lt 1048600 ]
	wait_for no_members
	for i in 1 2 3; do
		wait_for eval '[ "$(size_of "$D/reply$i")" -eq 1048600 ]'
	done
}

@test "B02 a client that waits is held for the drain time after the master's death" {
	start_greet -o 'drain-timeout 1s'
	printf '' | nc 127.0.0.1 "$PORT" > "$D/reply" 3>&- &
	wait_for grep -q 'press any key' "$D/reply"
	t=$EPOCHREALTIME
	kill_master KILL
	wait_for no_members
	took=$(since "$t")
	echo "took $took ms"
	[ "$took" -ge 900 ] && [ "$took" -le 4000 ]
}

@test "B02 a worker that spins dies within the drain time after the master's death" {
	PROGRAM=$FAULTY
	start -l 127.0.0.1:0 -o 'drain-timeout 1s' command
	ask spin > /dev/null &
	wait_for slots_are busy 1
	t=$EPOCHREALTIME
	kill_master KILL
	wait_for no_members
	[ "$(since "$t")" -le 4000 ]
}

@test "B02 a worker told to leave before the master's death ends in time as well" {
	start_greet -o 'drain-timeout 1s'
	printf '' | nc 127.0.0.1 "$PORT" > "$D/reply" 3>&- &
	wait_for slots_are busy 1
	kill -TERM "$(status workers | awk '$2 == "busy" {print $3}')"
	wait_for slots_are draining 1
	kill_master KILL
	nothing_left
}

@test "B03 a master killed at any time of its start leaves no process" {
	EXPECT_DEAD=yes
	for i in {0..19}; do
		start_quietly -l 127.0.0.1:0 greet
		sleep "$(printf '0.%03d' $((i * 2)))"
		kill_master KILL
		nothing_left
		STARTED=()
	done
	restart -l 127.0.0.1:0 greet
	[[ $(ask x) == *"client #1 "* ]]
}

# start_and_die_at_fork N: the N-th fork is the master's last act, and the
# child learns of it too late for the signal of its parent's death.
start_and_die_at_fork() {
	setsid strace -f -qq -o "$D/trace" -e trace=clone,clone3,fork,vfork,prctl \
	    -e "inject=clone,clone3,fork,vfork:signal=KILL:when=$1" \
	    -e inject=prctl:delay_enter=100000 \
	    "$PREFORKD" -d -o "status-file $STATUS" -l 127.0.0.1:0 greet \
	    2>> "$LOG" < /dev/null 3>&- &
	M=$!
	STARTED+=("$M")
}

@test "B03 a master killed as it forks leaves no process" {
	EXPECT_DEAD=yes
	for i in $(often '1 2 5 9' '1 2 3 4 5 6 7 8 9'); do
		start_and_die_at_fork "$i"
		wait_for gone_or_zombie "$M"
		grep -q 'killed by SIGKILL' "$D/trace"
		nothing_left
	done
}

@test "B04 a master that dies of SIGSEGV or SIGABRT leaves no process" {
	start_greet
	for s in SEGV ABRT; do
		kill_master $s
		nothing_left
		restart -l "127.0.0.1:$PORT" greet
	done
}

@test "B06 a start over the status of a killed master works and keeps that as .last" {
	start_greet
	first=$M
	ask x
	kill -SEGV "$(one_worker)"
	wait_for logged 'worker died'
	kill_master KILL
	restart -l 127.0.0.1:0 greet
	status | grep -x "pid:         $M"
	status deaths | not grep SIGSEGV
	cp "$STATUS.last" "$D/then"
	cp "$STATUS.slots.last" "$D/then.slots"
	run "$PREFORKCTL" -s "$D/then" status
	[ "$status" -eq 2 ]
	grep -x "pid:         $first" <<< "$output"
	run "$PREFORKCTL" -s "$D/then" deaths
	grep SIGSEGV <<< "$output"
}

@test "B06 a second server with the same status file is refused with the pid of the first" {
	start_greet
	before=$(stat -c %i "$STATUS" "$STATUS.slots" "$STATUS.counter")
	run timeout "$DEADLINE" "$PREFORKD" -d -1 -o "status-file $STATUS" \
	    -l 127.0.0.1:0 greet 3>&-
	[ "$status" -eq 1 ]
	[[ $output == *"in use by preforkd $M" ]]
	[ "$(stat -c %i "$STATUS" "$STATUS.slots" "$STATUS.counter")" = \
	    "$before" ]
	only_status_files
	[[ $(ask x) == *"client #1 "* ]]
}

# No temporary file is left beside the status.
only_status_files() {
	local f
	for f in "$STATUS"*; do
		case ${f#"$STATUS"} in
		''|.slots|.counter|.last|.slots.last|.counter.last) ;;
		*)	echo "left: $f" >&2
			return 1 ;;
		esac
	done
}

@test "B03 what a start that was killed has left is removed by a later one, and nothing else" {
	strace -qq -o "$D/trace" -e trace=link,linkat,rename \
	    -e inject=link,linkat,rename:signal=KILL "$PREFORKD" -d \
	    -o "status-file $STATUS" -l 127.0.0.1:0 greet 2> "$D/killed" || true
	[ "$(compgen -G "$STATUS*.new-??????" | wc -l)" -eq 3 ]
	touch "$STATUS.new-linked"
	ln "$STATUS.new-linked" "$D/theirs"
	touch "$STATUS.new-backup1" "$STATUS.backup" "$STATUS.new-young1"
	ln -s nowhere "$STATUS.new-symlnk"
	mkdir "$STATUS.new-direct"
	find "$D" -not -name '*young1' -exec touch -h -d '1 minute ago' {} +
	start_greet
	for left in linked backup1 young1 symlnk direct; do
		[ -e "$STATUS.new-$left" ] || [ -L "$STATUS.new-$left" ]
	done
	[ -e "$STATUS.backup" ]
	rm -r "$STATUS".new-{linked,backup1,young1,symlnk,direct} "$STATUS.backup"
	only_status_files
	stop
}

# race I: two starts on one status file, each with a directory of its own.
race() {
	local top=$D j
	STATUS=$top/$1/status
	mkdir "$top/$1"
	for j in 1 2; do
		local D=$top/$1.$j LOG=$top/$1.$j/log
		mkdir "$D"
		start_quietly -o 'workers-spare 1' -l 127.0.0.1:0 greet
		echo "$M" > "$D/pid"
	done
}

# settled I: one of them has ended ($LOST) and the other serves ($WON).
settled() {
	local one=$D/$1.1 two=$D/$1.2
	if gone_or_zombie "$(< "$one/pid")"; then
		LOST=$one WON=$two
	elif gone_or_zombie "$(< "$two/pid")"; then
		LOST=$two WON=$one
	else
		return 1
	fi
	M=$(< "$WON/pid")
	[ -s "$WON/addresses" ] || gone_or_zombie "$M"
}

@test "J03 of two starts at once exactly one serves" {
	for i in $(times 5 50); do
		race "$i"
	done
	for i in $(times 5 50); do
		wait_for settled "$i"
		STATUS=$D/$i/status
		rc=0
		wait "$(< "$LOST/pid")" || rc=$?
		[ "$rc" -eq 1 ]
		[ ! -s "$LOST/addresses" ]
		tail -n 1 "$LOST/log" | grep "in use by preforkd $M\$"
		PORT=$(sed 's/.*://' "$WON/addresses")
		[[ $(ask x) == *"client #1 "* ]]
		stop INT
		only_status_files
	done
}
