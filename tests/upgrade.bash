# upgrade.bash: programs put in the place of others, for 67-upgrade, and for
# soak/67-upgrade, which does the same more often.  To be loaded after helper
# and clients.

# shellcheck disable=SC2034,SC2154  # shared with helper.bash and the tests

OTHER=$TOOLS/preforkd-other	# of version 0.other
LAYOUT=$TOOLS/preforkd-layout	# and with a scoreboard of another layout
IMPOSTOR_PROGRAM=$TOOLS/impostor
VERSION=$("$PREFORKD" -V | sed 's/.* //')

# installed PROGRAM: it has the place of the program that runs.
installed() {
	mkdir -p "$D/bin"
	cp "$1" "$D/bin/new"
	mv "$D/bin/new" "$D/bin/preforkd"
	PROGRAM=$D/bin/preforkd
}

# start_installed PROGRAM ARG...
start_installed() {
	installed "$1"
	shift
	start "$@"
}

ctl() { "$PREFORKCTL" -s "$STATUS" "$@"; }

# upgraded_to PROGRAM VERSION: and all is as it was.
upgraded_to() {
	installed "$1"
	ctl upgrade | grep "^upgraded from .* to $2\$"
	has_comm preforkd
}
has_comm() { [ "$(< "/proc/$M/comm")" = "$1" ]; }
version_is() { status | grep -qx "version:     $1"; }

# refused REASON: as the log, the status and preforkctl say; nothing changed.
refused() {
	local before n
	before=$(workers)
	n=$(count_logged 'error: upgrade failed')
	run -1 ctl upgrade
	echo "$output"
	[[ $output =~ ^preforkctl:\ upgrade\ failed:\ .*$1 ]]
	wait_for eval "[ \$(count_logged 'error: upgrade failed') -eq $((n + 1)) ]"
	wait_for logged "error: upgrade failed, everything stays as it was: .*$1"
	status | grep -E -- "^upgrade: +failed .*$1"
	[ "$(workers)" = "$before" ]
	[[ $(ask x) == Welcome* ]]
	wait_for same_fds
	wait_for no_zombies
}

# works_again: the next try does.
works_again() {
	upgraded_to "$OTHER" 0.other
	[[ $(ask x) == Welcome* ]]
}

# upgraded_in_turn N: to one build, then to another.
upgraded_in_turn() {
	if [ $(($1 % 2)) -eq 1 ]; then
		upgraded_to "$OTHER" 0.other
	else
		upgraded_to "$PREFORKD" "$VERSION"
	fi
}

# fixed_addresses: of the program that is installed, and of what takes its place.
# Else VmRSS is up to 4 % more or less each time, by how much of the libraries
# the kernel maps around a page that is touched.
fixed_addresses() {
	printf '#!/bin/sh\nexec setarch -R %s "$@"\n' "$PROGRAM" > "$D/fixed"
	chmod 755 "$D/fixed"
	PROGRAM=$D/fixed
}

one_generation() { [ "$(status | grep -cE ' (serving|leaving) ')" -eq 1 ]; }

# upgrades_leave_nothing N: between two builds; memory is as at the start, or
# less, for the new program asks no name service; and as after the first of
# the same build, whose pages of data may be one more than the other's.
upgrades_leave_nothing() {
	local i field
	local -A start second
	installed "$PREFORKD"
	fixed_addresses
	start -l 127.0.0.1:0 -o 'workers-spare 2' greet
	for field in VmRSS RssAnon; do start[$field]=$(kilobytes $field); done
	upgraded_in_turn 1
	upgraded_in_turn 2
	wait_for one_generation
	for field in VmRSS RssAnon; do second[$field]=$(kilobytes $field); done
	for ((i = 3; i <= $1; i++)); do upgraded_in_turn $i; done
	wait_for one_generation
	wait_for has_workers 2
	same_fds
	status | grep "^generation: *$(($1 + 1))\$"
	for field in VmRSS RssAnon; do
		echo "$field ${start[$field]} kB, ${second[$field]} kB after the" \
		    "second, $(kilobytes $field) kB after $1"
		[ -z "${SANITIZE:-}" ] || continue
		[ $(($(kilobytes $field) * 100)) -le $((start[$field] * 101)) ]
		[ $(($(kilobytes $field) * 100)) -le $((second[$field] * 101)) ]
	done
}

# Every client that came has its own line, and there is none between.
numbers_without_gap() {
	local n
	status | grep '^log dropped: *0$'
	stop
	sed -nE 's/.* connected .*client=([0-9]+) .*/\1/p' "$LOG" | sort -n \
	    > "$D/numbers"
	n=$(sed -nE 's/.* stopped .*clients=([0-9]+)$/\1/p' "$LOG")
	[ "$n" -gt 500 ]
	seq "$n" | cmp - "$D/numbers"
	[ "$(count_logged ' closed .*client=')" -eq "$n" ]
}

# killed_in_upgrades N MS: the master, N times, each MS later than the last.
killed_in_upgrades() {
	local i
	EXPECT_DEAD=yes
	for ((i = 0; i < $1; i++)); do
		start_installed "$PREFORKD" -l 127.0.0.1:0 \
		    -o 'workers-spare 2' greet
		[ $((i % 2)) -eq 0 ] && installed "$OTHER" || installed "$LAYOUT"
		kill -USR2 "$M"
		sleep "$(printf 0.%03d $((i * $2)))"
		kill -KILL "$M"
		wait "$M" || true
		DEADLINE=4 wait_for no_members
		STARTED=()
		rm -f "$STATUS"*
	done
}

traced() { [ "$(awk '$1 == "TracerPid:" { print $2 }' "/proc/$M/status")" != 0 ]; }
not_traced() { ! traced; }

# fails_in_turn FLAG CALL: its first, second ... use in an upgrade fails, in the
# master, or with -f in its children, too; until none is left, or BOUND times.
fails_in_turn() {
	local error=ENOMEM n
	case $2 in
	openat | pipe2 | dup*) error=EMFILE ;;
	clone*) error=EAGAIN ;;
	write) error=ENOSPC ;;
	esac
	for ((n = 1; n <= BOUND; n++)); do
		installed "$OTHER"
		# shellcheck disable=SC2086  # none, or one
		strace $1 -qq -o "$D/trace" -e "trace=$2,execveat" \
		    -e "inject=$2:error=$error:when=$n" -p "$M" 3>&- &
		STRACE=$!
		wait_for traced
		ctl -t 20 upgrade > "$D/out" 2>&1 && rc=0 || rc=$?
		kill "$STRACE" 2>/dev/null || true
		wait "$STRACE" || true
		grep -q INJECTED "$D/trace" || break
		echo "$2 $n: exit $rc: $(< "$D/out")"
		old_or_new_serves || return 1
	done
}

# After execve(2) there is no way back: then it ends as a whole.
old_or_new_serves() {
	if gone_or_zombie "$M"; then
		grep -q 'execveat.*= 0' "$D/trace" || return 1
		wait "$M" || true
		wait_for no_members
		# What a program without memory says is no line of the log.
		sed -i '/error while loading shared libraries/d' "$LOG"
		start -l 127.0.0.1:0 -o 'workers-spare 2' greet
	fi
	wait_for not_traced
	wait_for same_fds
	[[ $(ask x) == Welcome* ]] || return 1
	installed "$PREFORKD"
	ctl upgrade > "$D/out" || return 1
	wait_for has_workers 2
	same_fds
}
