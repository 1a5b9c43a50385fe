#!/usr/bin/env bats
# preforkctl on crafted files: no server runs here.  tests/tools/board.c writes
# them; flock(1) holds the lock as a living master would.  What it guards:
# the exit codes, one clear line for whatever is wrong with a file, and that
# nothing in a file reaches the terminal raw or makes it crash.

load helper

board() { "$TOOLS/board" "$STATUS" "$@"; }
ctl() { "$PREFORKCTL" -s "$STATUS" "$@"; }
alive() { flock "$STATUS" "$PREFORKCTL" -s "$STATUS" "$@"; }

# refused [.slots: ]WORDS: exit 3 and one line that begins with the file's name.
refused() {
	local prefix=': '
	[ "${1#.slots}" = "$1" ] || prefix=''
	run ctl status
	[ "$status" -eq 3 ] && [ "${#lines[@]}" -eq 1 ] &&
	    [[ $output == "preforkctl: $STATUS${prefix}$1"* ]] && return
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

@test "status of a living master shows it, its services and its listeners" {
	board
	run alive status
	[ "$status" -eq 0 ]
	[ "${lines[0]}" = 'state:       running' ]
	[[ ${lines[1]} =~ ^uptime:\ +[0-9]+d\ [0-9]{2}:[0-9]{2}:[0-9]{2}$ ]]
	[ "${lines[2]}" = 'generation:  3' ]
	[ "${lines[3]}" = 'pid:         4711' ]
	[ "${lines[4]}" = 'version:     9.9' ]
	[ "${lines[6]}" = 'log dropped: 13' ]
	# 1000 by the dead, 10 by each of 7 that are not free.
	grep -qE '^greet +1070 +1 +4 +1 +1 +2 +512$' <<<"$output"
	grep -qE '^127\.0\.0\.1:8001 +greet +7 +128$' <<<"$output"
	not grep -q unstable <<<"$output"
}

@test "status of a dead master says so, with what it left, and exits 2" {
	board
	run ctl status
	[ "$status" -eq 2 ]
	[ "${lines[0]}" = \
	    'state:       dead (last seen 2023-11-14T22:14:20Z, state running)' ]
	[ "${lines[1]}" = 'uptime:      0d 00:01:00' ]
	grep -qE '^greet +1070 ' <<<"$output"
}

@test "status of a master that has stopped says stopped and exits 2" {
	board state=4
	run ctl status
	[ "$status" -eq 2 ]
	[ "${lines[0]}" = 'state:       stopped' ]
}

@test "each outcome of a reload has its words" {
	board reload=0
	ctl status | grep -x 'reload:      none'
	board reload=1
	ctl status | grep -x 'reload:      running since 2023-11-14T22:14:20Z'
	board reload=2
	ctl status | grep -x 'reload:      done 2023-11-14T22:14:20Z'
	board reload=99
	ctl status | grep -x 'reload:      ?'
}

@test "text in the files is escaped before it reaches the terminal" {
	board
	run ctl status
	[[ $output == *'a.conf:3: bad\033[31m value'* ]]
}

@test "workers has a row for each used slot, within 80 columns" {
	board stuck=6
	run alive workers
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
	board deaths=70
	run alive deaths
	[ "$status" -eq 0 ]
	[ "${#lines[@]}" -eq 65 ]
	[ "${lines[1]%% *}" = 2023-11-14T22:13:26Z ]
	[[ ${lines[64]} =~ ^2023-11-14T22:14:29Z\ +169\ +2\ +3\ +1\ +41\ +42\ greet\ +SIGSEGV\+core$ ]]
	not grep -q '.\{81\}' <<<"$output"
}

@test "deaths says how in words" {
	local how killed wait
	while read -r wait killed how; do
		board deaths=1 wait-status="$wait" killed="$killed"
		run alive deaths
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
	run alive deaths
	[[ ${lines[1]} =~ \ 3\ +0\ +41\  ]]
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
	refused 'layout version 7, this preforkctl reads 1'
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

@test "10,000 slots: status in under 20 ms" {
	local best=1000000000 began limit=20000000 took
	grep -q __asan_init "$PREFORKCTL" && limit=200000000
	board slots=10000
	for _ in 1 2 3 4 5 6 7 8 9 10; do
		began=$(date +%s%N)
		alive status > /dev/null
		took=$(($(date +%s%N) - began))
		[ $took -ge $best ] || best=$took
	done
	echo "best of 10: $((best / 1000)) us"
	[ $best -lt $limit ]
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
	[ "${#lines[@]}" -eq 3 ]
	[[ ${lines[0]} == *'several status files'* ]]
	[ "${lines[1]}" = "$D/preforkd/a.status" ]
	[ "${lines[2]}" = "$D/preforkd/b.status" ]
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

@test "output that cannot be written is exit 3" {
	board
	run bash -c "'$PREFORKCTL' -s '$STATUS' status > /dev/full"
	[ "$status" -eq 3 ]
	[[ $output == *'standard output: No space left'* ]]
}
