#!/usr/bin/env bats
# soak/67-upgrade.bats: what 67-upgrade does a few times, as often as the
# matrix of faults wants it; and at full length what an upgrade promises.

load ../helper
load ../clients
load ../upgrade

@test "G07 G09 fifty upgrades, one a second, under 32 clients at once and 50 that stay: none lost, same pid, numbers without a gap, no leak" {
	start_installed "$PREFORKD" -l 127.0.0.1:0 -o 'drain-timeout 10m' \
	    -o 'log-connections both' -o "log file $LOG" greet
	hold 50
	upgraded_to "$PREFORKD" "$VERSION"
	used=()
	storm_begin -t 600 -c 32 -u
	for i in {1..50}; do
		t=$EPOCHREALTIME
		upgraded_in_turn "$i"
		until [ "$(since "$t")" -ge 1000000 ]; do sleep 0.05; done
		used+=("$(kilobytes RssAnon)")
	done
	storm_end
	stormed_well
	[ "$(stormed refused)" -eq 0 ]
	[ "$(stormed duplicates)" -eq 0 ]
	release
	wait_for same_fds	# a generation that drains has two of its own
	# Up to four pages more or less, by where the kernel puts the stack, by
	# the build, and by what was in the heap when it grew; but no more of them.
	echo "private kB: ${used[*]}"
	most=$(printf '%s\n' "${used[@]:0:10}" | sort -n | tail -n 1)
	least=$(printf '%s\n' "${used[@]: -10}" | sort -n | head -n 1)
	[[ -n ${SANITIZE:-} ]] || [ "$least" -le "$most" ]
	grep 'closed=50 early=0 reset=0' "$D/held"
	[ "$(count_logged 'notice: upgraded from=')" -eq 51 ]
	numbers_without_gap
}

@test "G09 fifty upgrades that change the layout of the scoreboard, under 32 clients at once" {
	start_installed "$PREFORKD" -l 127.0.0.1:0 greet
	storm_begin -t 600 -c 32 -u
	for i in {1..25}; do
		upgraded_to "$LAYOUT" 0.layout
		upgraded_to "$OTHER" 0.other
	done
	storm_end
	stormed_well
	[ "$(stormed refused)" -eq 0 ]
	[ "$(stormed duplicates)" -eq 0 ]
	wait_for same_fds
}

@test "a master killed at each millisecond of an upgrade leaves nothing" {
	killed_in_upgrades 60 1
}

@test "each system call of an upgrade fails in turn, as often as it is made" {
	ASAN_OPTIONS=$ASAN_OPTIONS:detect_leaks=0	# none under ptrace
	start_installed "$PREFORKD" -l 127.0.0.1:0 -o 'workers-spare 2' greet
	EXPECT_ALERT=yes	# of a new program that cannot go on
	BOUND=60
	for call in openat memfd_create pipe2 clone,clone3,fork execveat fcntl \
	    write fstat,newfstatat mmap pread64 flock madvise prctl kill; do
		fails_in_turn '' $call
	done
	BOUND=12
	for call in openat dup2 dup3 execveat mmap pread64 fcntl read write; do
		fails_in_turn -f $call
	done
}

@test "G12 an upgrade of a server with 250 sockets" {
	{
		printf '%s\n' 'service greet' 'run greet' 'workers-spare 1'
		printf 'listen 127.1.0.%d:0\n' {1..250}
	} > "$D/conf"
	start_installed "$PREFORKD" -f "$D/conf"
	upgraded_to "$OTHER" 0.other
	upgraded_to "$LAYOUT" 0.layout
	for address in "${ADDRESSES[@]}"; do
		answer=$(echo x | nc -N "${address%:*}" "${address##*:}")
		[[ $answer == Welcome*"${address%:*} "* ]]
	done
	wait_for same_fds
}

# SIGTERM at the end always wins.
@test "F03 G14 SIGUSR1, SIGHUP, SIGUSR2 and SIGTERM at random, 500 runs with a seed" {
	seed=${SEED:-$RANDOM}
	echo "SEED=$seed"
	RANDOM=$seed
	mix=(HUP USR1 USR2 USR2)
	for i in {1..500}; do
		start_installed "$PREFORKD" -l 127.0.0.1:0 \
		    -o 'workers-spare 1' -o 'drain-timeout 5s' greet
		storm_begin -t 60 -c 4
		ACCEPTED=0
		for ((n = RANDOM % 20; n > 0; n--)); do
			case $((RANDOM % 3)) in
			0) installed "$OTHER" ;;
			1) installed "$LAYOUT" ;;
			2) installed "$PREFORKD" ;;
			esac
			kill -"${mix[RANDOM % ${#mix[@]}]}" "$M"
			sleep "0.0$((RANDOM % 4))"
		done
		wait_for serves
		storm_end
		stormed_well
		[ "$(stormed refused)" -eq 0 ]
		t=$EPOCHREALTIME
		kill -TERM "$M"
		ended 0
		took "$t" 0 8000
		[[ $(tail -n 1 "$LOG") == *'stopped clients-cut=0 '* ]]
		wait_for no_members
		STARTED=()
		rm -f "$STATUS"*
	done
}
serves() { [[ $(ask x) == Welcome* ]]; }
