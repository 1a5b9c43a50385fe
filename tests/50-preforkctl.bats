#!/usr/bin/env bats
# preforkctl on crafted files: no server runs here.  tests/tools/board.c writes
# them, holds the lock as a living master would, and notes what signals it
# gets.  What it guards: the exit codes, one clear line for whatever is wrong
# with a file, that nothing in a file reaches the terminal raw or makes it
# crash, and that whoever is not certainly the master is sent nothing (R34).

# shellcheck disable=SC2053  # patterns

load helper

board() { "$TOOLS/board" "$STATUS" "$@"; }
ctl() { "$PREFORKCTL" -s "$STATUS" "$@"; }
# alive [NAME=NUMBER ...] COMMAND...: the same while its master lives.
alive() {
	local fields=()
	while [[ $1 == *=* ]]; do
		fields+=("$1")
		shift
	done
	"$TOOLS/board" "$STATUS" "${fields[@]}" -- \
	    "$PREFORKCTL" -t 1 -s "$STATUS" "$@"
}

# refused [.slots: ]WORDS: exit 3 and one line that begins with the file's name.
refused() {
	local prefix=': '
	[ "${1#.slots}" = "$1" ] || prefix=''
	run ctl status
	[ "$status" -eq 3 ] && [ "${#lines[@]}" -eq 1 ] &&
	    [[ $output == "preforkd UNKNOWN: $STATUS${prefix}$1"* ]] && return
	echo "exit $status: $output, not: $1" >&2
	return 1
}

# As somebody else than root, with root's files still in reach.
as_user() {
	if [ "$(id -u)" -ne 0 ]; then
		"$@"
	else
		unshare -U true 2>/dev/null || skip 'no user namespaces'
		unshare -U "$@"
	fi
}

# verdict CODE LINE [NAME=NUMBER ...]: of a living master.
verdict() {
	run alive "${@:3}" status
	[ "$status" -eq "$1" ] && [[ ${lines[0]} == $2 ]] && return
	echo "exit $status: ${lines[0]}" >&2
	return 1
}

@test "status of a living master shows it, its services and its listeners" {
	run alive pid-file=0 status
	[ "$status" -eq 0 ]
	[ "${lines[0]}" = \
	    'preforkd OK: greet 1 of 512 busy, generation 3, up 1m' ]
	[ "${lines[1]}" = 'state:       running' ]
	[[ ${lines[2]} =~ ^uptime:\ +[0-9]+d\ [0-9]{2}:[0-9]{2}:[0-9]{2}$ ]]
	[ "${lines[3]}" = 'generation:  3' ]
	[ "${lines[4]}" = "pid:         $(< "$D/status.pid")" ]
	[ "${lines[5]}" = 'version:     9.9' ]
	[ "${lines[7]}" = 'upgrade:     none' ]
	[ "${lines[8]}" = 'clients cut: 0' ]
	[ "${lines[9]}" = 'log dropped: 13' ]
	# 1000 by the dead, 10 by each of 7 that are not free.
	grep -qE '^greet +1070 +1 +4 +1 +1 +0 +512$' <<<"$output"
	grep -qE '^127\.0\.0\.1:8001 +greet +7 +128$' <<<"$output"
	not grep -q unstable <<<"$output"
}

@test "the first line of status is a verdict, and the exit code agrees" {
	serving='greet 1 of 512 busy, generation 3, up 1m'
	verdict 0 "preforkd OK: $serving"
	verdict 1 "preforkd DEGRADED: starting; $serving" state=0
	verdict 1 "preforkd DEGRADED: draining; $serving" state=2
	verdict 1 "preforkd DEGRADED: killing; $serving" state=3
	verdict 1 "preforkd DEGRADED: the last reload failed (a.conf:3: bad\\\\033\\[31m value); $serving" \
	    reload=2
	verdict 1 'preforkd DEGRADED: greet is throttled; greet *' retry-at=1
	verdict 1 'preforkd DEGRADED: greet lacks workers; greet *' delayed=2
	verdict 1 'preforkd DEGRADED: greet is full; greet 1 of 1 busy, *' \
	    workers-max=1
	verdict 1 'preforkd DEGRADED: starting; the last reload failed (*); greet is throttled; greet is full; *' \
	    state=0 reload=2 retry-at=1 workers-max=1
	# a reload that runs does not make up for the one that failed
	verdict 1 'preforkd DEGRADED: the last reload failed (*' \
	    reload=2 reloads-begun=2
	verdict 3 "preforkd UNKNOWN: $STATUS: locked by process [1-9]*, written by process 4711" \
	    pid=4711
}

@test "status of a dead master says so, with what it left, and exits 2" {
	board
	run ctl status
	[ "$status" -eq 2 ]
	[ "${lines[0]}" = \
	    'preforkd DOWN: dead, last seen 2023-11-14T22:14:20Z, running' ]
	[ "${lines[1]}" = 'state:       dead' ]
	[ "${lines[2]}" = 'uptime:      0d 00:01:00' ]
	grep -qE '^greet +1070 ' <<<"$output"
}

@test "status of a master that has stopped says stopped and exits 2" {
	board state=4
	run ctl status
	[ "$status" -eq 2 ]
	[ "${lines[0]}" = 'preforkd DOWN: stopped in order' ]
	[ "${lines[1]}" = 'state:       stopped' ]
}

@test "the lock is not taken to see whether a master lives" {
	export ASAN_OPTIONS=detect_leaks=0	# it cannot look when traced
	"$TOOLS/board" "$STATUS" -- strace -qq -e trace=flock -o "$D/trace" \
	    "$PREFORKCTL" -s "$STATUS" status
	[ ! -s "$D/trace" ]
	board state=4
	strace -qq -e trace=flock -o "$D/trace" \
	    "$PREFORKCTL" -s "$STATUS" status || [ $? -eq 2 ]
	[ ! -s "$D/trace" ]
}

@test "each outcome of a reload has its words" {
	board reload=0
	ctl status | grep -x 'reload:      none'
	board reload=1
	ctl status | grep -x 'reload:      done 2023-11-14T22:14:20Z'
	board reload=2
	ctl status | grep -x 'reload:      failed 2023-11-14T22:14:20Z: a.conf:3: .*'
	board reloads-begun=2
	ctl status | grep -x 'reload:      running since 2023-11-14T22:14:20Z'
	board reload=99
	ctl status | grep -x 'reload:      none'
}

@test "text in the files is escaped before it reaches the terminal" {
	board reload=2
	run ctl status
	[[ $output == *'a.conf:3: bad\033[31m value'* ]]
}

@test "workers has a row for each used slot, within 80 columns" {
	run alive stuck=6 workers
	[ "$status" -eq 0 ]
	[ "${#lines[@]}" -eq 8 ]
	[[ ${lines[1]} =~ ^\ +1\ starting\ +5001\ +3\ +9\ +-\ +[0-9]+\ -\ +greet$ ]]
	[[ ${lines[2]} =~ ^\ +2\ idle\ +5002\ +3\ +9\ +-\ +[0-9]+\ -\ +greet$ ]]
	[[ ${lines[3]} =~ ^\ +3\ busy\ +5003\ +3\ +9\ +103\ +[0-9]+\ 127\.0\.0\.1:59823\ +greet$ ]]
	[[ ${lines[4]} =~ ^\ +4\ draining\ +5004\ +3\ +9\ +104\ +[0-9]+\ 127\.0\.0\.1:59823\ +greet$ ]]
	[ "${lines[6]}" = '    6 unstable' ]
	not grep -q '.\{81\}' <<<"$output"
}

@test "workers of a dead master come with a warning and exit 2" {
	board
	run ctl workers
	[ "$status" -eq 2 ]
	[[ $output == *'preforkctl: no master is alive'* ]]
}

@test "deaths shows the last 64, newest last, within 80 columns" {
	run alive deaths=70 deaths
	[ "$status" -eq 0 ]
	[ "${#lines[@]}" -eq 65 ]
	[ "${lines[1]%% *}" = 2023-11-14T22:13:26Z ]
	[[ ${lines[64]} =~ ^2023-11-14T22:14:29Z\ +169\ +2\ +3\ +1\ +41\ +42\ greet\ +SIGSEGV\+core$ ]]
	not grep -q '.\{81\}' <<<"$output"
}

@test "deaths says how in words" {
	local how killed wait
	while read -r wait killed how; do
		run alive deaths=1 wait-status="$wait" killed="$killed" deaths
		[ "${lines[1]##*greet   }" = "$how" ]
	done <<-END
	9 0 SIGKILL
	9 1 killed
	6 0 SIGABRT
	139 0 SIGSEGV+core
	19712 0 exit 77
	4991 0 ?
	END
}

@test "a negative age and an absurd pid are shown as 0" {
	board pid=-1 started=-5 updated=99 deaths=1 age=-9000000000000000000
	ctl status | grep -x 'pid:         0'
	ctl status | grep -x 'uptime:      0d 00:00:00'
	run ctl deaths
	[[ ${lines[2]} =~ \ 3\ +0\ +41\  ]]
}

@test "a file that is missing, cut, garbage or of another version: exit 3" {
	refused 'No such file'
	: > "$STATUS"
	refused 'truncated'
	mkfifo "$D/fifo"
	STATUS=$D/fifo refused 'not a regular file'
	head -c 100000 /dev/zero > "$STATUS"
	refused 'not a status file'
	board size=3
	refused 'truncated'
	board size=5000
	refused 'truncated: 5000 bytes instead of'
	board size=999999
	refused 'too long'
	board version=7
	refused 'layout version 7, this preforkctl reads 3'
	board says-size=8
	refused 'says it has 8 bytes'
	board nslots=4294967295
	refused '4294967295 slots'
	board nslots=0
	refused '0 slots'
	board seq=1
	refused 'unstable'
}

@test "slots that are missing, cut, garbage or of another version: exit 3" {
	board
	rm "$STATUS.slots"
	refused '.slots: No such file'
	board slots-size=0
	refused '.slots: truncated'
	board slots-size=10000
	refused '.slots: truncated: 10000 bytes instead of'
	board slots-version=7
	refused '.slots: layout version 7'
	board slots-magic=1
	refused '.slots: not a status file'
	board slots-nslots=9
	refused '.slots: 9 slots, but the status file has 8'
}

@test "500 images of noise: no crash, nothing raw on the terminal" {
	local seed rc out=$D/out commands=(status workers deaths)
	for seed in {1..500}; do
		board seed="$seed"
		rc=0
		ctl "${commands[seed % 3]}" >> "$out" 2>&1 || rc=$?
		[ "$rc" -eq 2 ]
	done
	[ "$(wc -l < "$out")" -gt 10000 ]
	iconv -f UTF-8 -t UTF-8 "$out" > /dev/null
	not env LC_ALL=C grep -aq $'[\001-\011\013-\037\177]' "$out"
	not env LC_ALL=C grep -aqP '\xc2[\x80-\x9f]' "$out"
}

@test "10,000 slots: status is no matter of seconds" {
	local best=1000000000 began limit=1000000000 took
	board slots=10000 state=4
	for _ in 1 2 3 4 5 6 7 8 9 10; do
		began=$(date +%s%N)
		ctl status > /dev/null || [ $? -eq 2 ]
		took=$(($(date +%s%N) - began))
		[ $took -ge $best ] || best=$took
	done
	echo "best of 10: $((best / 1000)) us"
	[ $best -lt $limit ]
}

@test "without -s: of several status files, the one whose server lives is read" {
	mkdir "$D/preforkd"
	export XDG_RUNTIME_DIR=$D
	for each in a b c; do
		STATUS=$D/preforkd/$each.status board
	done
	run as_user "$PREFORKCTL" status
	[ "$status" -eq 3 ]
	exec 8< "$D/preforkd/b.status"
	flock -x 8
	run as_user "$PREFORKCTL" status
	[[ $output == "preforkd DOWN: "* ]]	# whoever took the lock has gone
	exec 9< "$D/preforkd/c.status"
	flock -x 9
	run as_user "$PREFORKCTL" status
	[ "$status" -eq 3 ]
	[[ $output == *'several status files, choose one with -s: a.status b.status c.status' ]]
	exec 8<&- 9<&-
}

@test "without -s: the only status file of the directory is read" {
	mkdir "$D/preforkd"
	export XDG_RUNTIME_DIR=$D
	run as_user "$PREFORKCTL" status
	[ "$status" -eq 3 ]
	[[ $output == *"$D/preforkd: no status file"* ]]
	STATUS=$D/preforkd/a.status board
	run as_user "$PREFORKCTL" status
	[ "$status" -eq 2 ]
	cp "$D/preforkd/a.status" "$D/preforkd/a.status.last"
	cp "$D/preforkd/a.status" "$D/preforkd/b.status"
	run as_user "$PREFORKCTL" status
	[ "$status" -eq 3 ]
	[ "$output" = "preforkd UNKNOWN: $D/preforkd: several status files, choose one with -s: a.status b.status" ]
	unset XDG_RUNTIME_DIR
	run as_user "$PREFORKCTL" status
	[ "$status" -eq 3 ]
	[[ $output == *XDG_RUNTIME_DIR* ]]
}

@test "wrong usage is exit 64, and usage is the SYNOPSIS of the manual" {
	local synopsis
	synopsis=$(mandoc -Tascii "$TOP/man/preforkctl.8" | col -bx |
	    sed -n '/^SYNOPSIS/,/^DESCRIPTION/s/^     preforkctl/preforkctl/p')
	for arguments in '' 'nonsense' 'status status' '-x status' '-s'; do
		# shellcheck disable=SC2086  # words
		run "$PREFORKCTL" $arguments
		[ "$status" -eq 64 ]
		[ "$(sed -n 's/^usage: //p; s/^       preforkctl/preforkctl/p' \
		    <<<"$output")" = "$synopsis" ]
	done
	run "$PREFORKCTL" -V
	[ "$status" -eq 0 ]
	[[ $output == preforkctl\ [0-9]* ]]
}

@test "a timeout is a number of seconds" {
	board
	for arguments in '-t x' '-t -1' '--timeout 1s' '--timeout=86401' -t; do
		# shellcheck disable=SC2086  # words
		run "$PREFORKCTL" -s "$STATUS" reload $arguments
		[ "$status" -eq 64 ]
	done
	for arguments in '-t 0' '--timeout 1' '--timeout=86400'; do
		# shellcheck disable=SC2086  # words
		run "$PREFORKCTL" -s "$STATUS" reload $arguments
		[ "$status" -eq 2 ]
		[ "$output" = 'preforkctl: reload: no master is alive' ]
	done
}

@test "what the logger says of a reopened log is the outcome of reopen" {
	run alive reopen=1 reopen
	[ "$status" -eq 0 ]
	[ "$output" = reopened ]
	[ "$(< "$STATUS.signals")" = USR1 ]
	run alive reopen=2 reopen
	[ "$status" -eq 1 ]
	[[ $output == 'preforkctl: the log could not be reopened'* ]]
	run alive reopen
	[ "$status" -eq 1 ]
	[[ $output == 'preforkctl: reopen: no outcome within 1 s'* ]]
}

# spared CODE WORDS [NAME=NUMBER ...] [ARGUMENT ...]: a stop is refused with
# this line, and whoever holds the lock is sent nothing.
spared() {
	run alive "${@:3}" stop
	[ "$status" -eq "$1" ] && [[ $output == preforkctl:\ $2 ]] &&
	    [ ! -s "$STATUS.signals" ] && return
	echo "exit $status: $output" >&2
	cat "$STATUS.signals" >&2
	return 1
}

@test "R34 a signal goes to the process that holds the lock and wrote the file" {
	run alive stop
	[ "$status" -eq 1 ]
	[[ $output == *'stop: no outcome within 1 s'* ]]
	[ "$(< "$STATUS.signals")" = TERM ]
	sleep "$DEADLINE" 3>&- &
	spared 3 "stop: nothing sent: $STATUS: locked by process [1-9]*, written by process $!" \
	    pid=$!
	for pid in 1 0 -1 4711 2147483647; do
		spared 3 "stop: nothing sent: $STATUS: locked by *" pid=$pid
	done
	gone "$!" && return 1
	kill "$!"
}

@test "R34 no signal goes to whoever has got the pid of a dead master" {
	sleep "$DEADLINE" 3>&- &
	board pid=$!
	for each in stop reload reopen; do
		run ctl "$each"
		[ "$status" -eq 2 ]
		[ "$output" = "preforkctl: $each: no master is alive" ]
	done
	gone "$!" && return 1
	kill "$!"
}

@test "R34 a pid file must name the same process, and be locked by it" {
	STATUS=$D/x.status
	PIDS=$D/x.pid
	run "$TOOLS/board" "$STATUS" pid-file=0 -- "$PREFORKCTL" -t 1 -p "$PIDS" stop
	[ "$status" -eq 1 ]
	[ "$(< "$STATUS.signals")" = TERM ]
	spared 3 "stop: nothing sent: $PIDS: names process 1, the status file process *" \
	    pid-file=1 -p "$PIDS"
	rm "$PIDS"
	spared 3 "stop: nothing sent: $PIDS: No such file or directory" -p "$PIDS"
	ln -s "$STATUS" "$PIDS"
	spared 3 "stop: nothing sent: $PIDS: Too many levels of symbolic links" -p "$PIDS"
	rm "$PIDS"
	mkfifo "$PIDS"
	spared 3 "stop: nothing sent: $PIDS: not a regular file" -p "$PIDS"
	rm "$PIDS"
	for text in '' 0 -1 1x '1 1' 0x10 4294967297 99999999999999999999 \
	    "$(printf '%040d' 1)" $'12\e[31m'; do
		printf %s "$text" > "$PIDS"
		spared 3 "stop: nothing sent: $PIDS: the pid in it is *" -p "$PIDS"
	done
}

@test "R34 a pid file that is right but not locked by its process is refused" {
	STATUS=$D/x.status
	PIDS=$D/x.pid
	run "$TOOLS/board" "$STATUS" -- bash -c \
	    "printf %d \$PPID > '$PIDS'; '$PREFORKCTL' -p '$PIDS' stop"
	[ "$status" -eq 3 ]
	[ "$output" = "preforkctl: stop: nothing sent: $PIDS: not seen to be locked" ]
	run "$TOOLS/board" "$STATUS" -- bash -c \
	    "printf %d \$PPID > '$PIDS'; flock '$PIDS' '$PREFORKCTL' -p '$PIDS' stop"
	[ "$status" -eq 3 ]
	[[ $output == "preforkctl: stop: nothing sent: $PIDS: locked by process "* ]]
	[ ! -s "$STATUS.signals" ]
}

@test "R34 files of another user are refused" {
	[ "$(id -u)" -eq 0 ] || skip 'not root'
	STATUS=$D/x.status
	PIDS=$D/x.pid
	run "$TOOLS/board" "$STATUS" pid-file=0 -- bash -c \
	    "chown 12345 '$PIDS'; '$PREFORKCTL' -p '$PIDS' stop"
	[ "$status" -eq 3 ]
	[ "$output" = "preforkctl: stop: nothing sent: $PIDS: file of another user" ]
	run "$TOOLS/board" "$STATUS" -- bash -c \
	    "chown 12345 '$STATUS'; '$PREFORKCTL' -s '$STATUS' stop"
	[ "$status" -eq 3 ]
	[ "$output" = "preforkctl: stop: nothing sent: $STATUS: file of another user" ]
	[ ! -s "$STATUS.signals" ]
}

@test "-p finds the status file beside the pid file" {
	STATUS=$D/x.status
	run "$TOOLS/board" "$STATUS" pid-file=0 -- "$PREFORKCTL" -p "$D/x.pid" status
	[ "$status" -eq 0 ]
	run "$TOOLS/board" "$STATUS" pid-file=1 -- "$PREFORKCTL" -p "$D/x.pid" status
	[ "$status" -eq 3 ]
	[[ ${lines[0]} == "preforkd UNKNOWN: $D/x.pid: names process 1, "* ]]
	# a pid file that is left over means nothing
	board
	run "$PREFORKCTL" -p "$D/x.pid" status
	[ "$status" -eq 2 ]
	for name in x .pid pid; do
		run "$PREFORKCTL" -p "$name" status
		[ "$status" -eq 3 ]
		[[ $output == "preforkd UNKNOWN: $name: no name that ends in .pid: "* ]]
	done
}

@test "output that cannot be written is exit 3" {
	board
	run bash -c "'$PREFORKCTL' -s '$STATUS' status > /dev/full"
	[ "$status" -eq 3 ]
	[[ $output == *'standard output: No space left'* ]]
}
