# 67-upgrade.bats: another program takes the place of the one that runs, under
# its pid, and nobody notices; one that cannot is refused, and nothing changes
# (rows G07 to G14 of the fault matrix).

load helper
load clients

load upgrade

@test "G09 five upgrades under a storm: same pid, no client lost, another version each time" {
	start_installed "$PREFORKD" -l 127.0.0.1:0 -o 'workers-spare 4' \
	    -o 'log-connections both' greet
	hold 5
	storm_begin -t 30 -c 8 -u
	for i in 1 2 3 4 5; do
		upgraded_in_turn $i
		wait_for accepted_more
	done
	version_is 0.other
	status | grep '^upgrade: *done '
	status | grep '^generation: *6$'
	status | grep "^pid: *$M\$"
	storm_end
	stormed_well
	[ "$(stormed refused)" -eq 0 ]
	[ "$(stormed duplicates)" -eq 0 ]
	release
	grep 'closed=5 early=0 reset=0' "$D/held"
	[ "$(count_logged 'notice: upgraded from=')" -eq 5 ]
	not logged 'error: '
	numbers_without_gap
}

@test "G09 a scoreboard of another layout is carried over by value, and back, under a storm" {
	start_installed "$PREFORKD" -l 127.0.0.1:0 -o 'workers-spare 4' greet
	kill -KILL "$(one_worker)"
	wait_for logged 'worker died'
	hold 3
	storm_begin -t 30 -c 8 -u
	for i in 1 2 3; do
		upgraded_to "$LAYOUT" 0.layout
		upgraded_to "$PREFORKD" "$VERSION"
	done
	wait_for accepted_more
	storm_end
	stormed_well
	[ "$(stormed refused)" -eq 0 ]
	[ "$(stormed duplicates)" -eq 0 ]
	slots_are draining 3
	status deaths | grep SIGKILL
	release
	grep 'closed=3 early=0 reset=0' "$D/held"
	wait_for slots_are draining 0
	[ "$(count_logged 'worker died')" -eq 1 ]
	same_fds
	stop
	wait_for logged "stopped clients-cut=0 clients=$(($(stormed ok) + 3))\$"
}

@test "a full pool finds room for its successors when the layout changes" {
	start_installed "$PREFORKD" -l 127.0.0.1:0 -o 'workers-min 8' \
	    -o 'workers-max 8' -o 'workers-surge 8' greet
	hold 8
	upgraded_to "$LAYOUT" 0.layout
	has_workers 16
	release
	wait_for has_workers 8
	grep 'closed=8 early=0 reset=0' "$D/held"
}

@test "G08 old workers that the new program cannot see are killed at their deadline" {
	start_installed "$PREFORKD" -l 127.0.0.1:0 -o 'drain-timeout 1s' greet
	hold 1
	t=$EPOCHREALTIME
	upgraded_to "$LAYOUT" 0.layout
	wait_for logged 'killing a worker .*why="drain-timeout passed"'
	took "$t" 1000 4000
	release_cut
}

@test "G10 a program that is missing, no file, or not executable is refused" {
	start_installed "$PREFORKD" -l 127.0.0.1:0 greet
	rm "$PROGRAM"
	refused 'bin/preforkd: No such file or directory'
	mkdir "$PROGRAM"
	refused 'bin/preforkd: must be a regular file'
	rmdir "$PROGRAM"
	mkfifo "$PROGRAM"
	refused 'bin/preforkd: must be a regular file'
	rm "$PROGRAM"
	cp "$OTHER" "$PROGRAM"
	chmod -x "$PROGRAM"
	refused 'bin/preforkd: Permission denied'
	works_again
}

@test "G10 a program of another architecture, a script and garbage are refused" {
	start_installed "$PREFORKD" -l 127.0.0.1:0 greet
	# the machine, in an ELF header
	cp "$OTHER" "$PROGRAM.new"
	printf '\377\377' | dd of="$PROGRAM.new" bs=1 seek=18 conv=notrunc status=none
	mv "$PROGRAM.new" "$PROGRAM"
	refused 'bin/preforkd: Exec format error'
	printf '#!/bin/sh\nexit 0\n' > "$D/script"
	chmod +x "$D/script"
	installed "$D/script"
	refused 'bin/preforkd: must be a program, not a script'
	head -c 100000 /dev/urandom > "$D/script"
	installed "$D/script"
	refused 'bin/preforkd: Exec format error'
	: > "$D/script"
	installed "$D/script"
	refused 'bin/preforkd: Exec format error'
	works_again
}

# impostor WORD...: a program that does this is in the place of preforkd.
impostor() {
	echo "$*" > "$IMPOSTOR"
	installed "$IMPOSTOR_PROGRAM"
}

@test "G10 a program that fails, crashes, floods, or is no preforkd is refused" {
	export IMPOSTOR=$D/impostor
	ulimit -c 0
	start_installed "$PREFORKD" -l 127.0.0.1:0 greet
	impostor exit 1
	refused 'bin/preforkd: exit 1: no preforkd that can take over'
	impostor exit 0
	refused 'bin/preforkd: exit 0: no preforkd that can take over'
	impostor say 1 preforkd: it does \"not\" want to
	refused 'it does .*not.* want to'
	impostor signal 11
	refused 'the check died of SIGSEGV'
	impostor flood
	refused 'the check died of SIGPIPE'
	impostor arguments "$D/arguments"
	refused 'bin/preforkd: exit 0: no preforkd that can take over'
	# A release that knows nothing of upgrades only checks.
	[ "$(head -n 2 "$D/arguments" | tr '\n' ' ')" = '-n -d ' ]
	cp /bin/true "$D/true"
	installed "$D/true"
	refused 'bin/preforkd: exit 0: no preforkd that can take over'
	works_again
}

@test "G10 a program that hangs is refused at its deadline; meanwhile reload and upgrade wait their turn" {
	export IMPOSTOR=$D/impostor
	start_installed "$LAYOUT" -l 127.0.0.1:0 greet
	impostor hang
	t=$EPOCHREALTIME
	kill -USR2 "$M"
	wait_for logged 'notice: upgrading'
	kill -HUP "$M"
	kill -USR2 "$M"
	kill -USR2 "$M"
	[[ $(ask x) == Welcome* ]]
	not logged reloading
	wait_for logged 'upgrade failed, everything stays as it was: the check took too long'
	took "$t" 1500 5000
	wait_for logged 'notice: reloaded generation=2'
	wait_for eval '[ "$(count_logged "upgrade failed")" -eq 2 ]'
	[ "$(count_logged 'notice: upgrading')" -eq 2 ]
	upgraded_to "$OTHER" 0.other
}

conf() { cat > "$D/conf"; }
greet_conf() {
	printf '%s\n' 'service greet' 'listen 127.0.0.1:0' 'run greet' "$@" |
	    conf
}

@test "G10 a configuration that the new program rejects is refused, with file and line" {
	greet_conf
	start_installed "$PREFORKD" -f "$D/conf"
	installed "$OTHER"
	echo 'workers-mix 3' >> "$D/conf"
	refused 'conf:4: unknown keyword'
	greet_conf 'workers-max 30000'
	refused 'need 60000 slots'
	{ echo "log file $D/elsewhere"; greet_conf; cat "$D/conf"; } > "$D/new"
	mv "$D/new" "$D/conf"
	refused 'log: a new value needs a restart'
	rm "$D/conf"
	refused 'conf: No such file'
	greet_conf 'workers-min 5' 'workers-spare 1'
	works_again
	wait_for has_workers 5
}

@test "G08 a new generation that cannot start is rolled back, and the old workers go on under the new program" {
	export FAULT_FILE=$D/fault
	printf '%s\n' 'service abort' 'listen 127.0.0.1:0' 'run abort' \
	    'workers-spare 2' 'user root' | conf
	start_installed "$FAULTY" -f "$D/conf"
	before=$(workers)
	touch "$FAULT_FILE"
	run -1 ctl upgrade
	[[ $output == *'but the old workers go on: its workers die (service abort)' ]]
	wait_for logged 'error: upgraded, but the old workers go on from=.* to=.*: its workers die'
	status | grep '^upgrade: *failed .*: its workers die'
	wait_for same_fds
	wait_for has_workers 2
	[ "$(workers)" = "$before" ]
	rm "$FAULT_FILE"
	kill -KILL "$(one_worker)"
	wait_for has_workers 2
	[ "$(workers)" != "$before" ]
	[[ $(ask x) == hello* ]]
	ctl upgrade
	wait_for has_workers 2
}

@test "G12 an upgrade that the system refuses at the last step leaves all as it was" {
	start_installed "$PREFORKD" -l 127.0.0.1:0 greet
	installed "$OTHER"
	strace -qq -o "$D/trace" -e trace=execveat \
	    -e inject=execveat:error=E2BIG:when=1 -p "$M" 3>&- &
	STRACE=$!
	wait_for traced
	refused 'bin/preforkd: Argument list too long'
	all_close_on_exec
	kill "$STRACE"
	wait "$STRACE" || true
	works_again
}
# Near where execve(2) says E2BIG, found by halving: a fourth of the limit of the
# stack, and no less than 128 kB, is for arguments and environment.
@test "G12 with an environment near the limit an upgrade works or is refused, and it serves on" {
	export LARGE LARGER
	LARGE=$(printf %0100000d 0)
	LARGER=$LARGE
	start_installed "$PREFORKD" -l 127.0.0.1:0 -o 'workers-spare 1' greet
	unset LARGE LARGER
	low=700000 high=1000000 done=0 refused=0
	while [ $((high - low)) -gt 4 ]; do
		middle=$(((low + high) / 2))
		prlimit --pid "$M" --stack=$middle:
		if ctl upgrade > "$D/out" 2>&1; then
			high=$middle done=$((done + 1))
		else
			grep -q 'upgrade failed: .*: Argument list too long$' "$D/out"
			low=$middle refused=$((refused + 1))
		fi
		[[ $(ask x) == Welcome* ]]
	done
	echo "$high bytes"
	[ $low -gt 700000 ] && [ $high -lt 1000000 ]
	wait_for has_logged $done 'notice: upgraded from'
	wait_for has_logged $refused 'upgrade failed, everything stays as it was'
	wait_for same_fds
}

# Since the old program knows them, and after execve(2) there is no way back.
@test "the new program asks no name service, and looks at no directory of a service, in the place of the old one" {
	[ "$(id -u)" -eq 0 ] || skip 'for a server of root'
	mkdir "$D/root" && open_directory
	greet_conf "chroot $D/root"
	start_installed "$PREFORKD" -f "$D/conf"
	hold 1
	greet_conf
	ctl reload
	rmdir "$D/root"		# of the generation that still has a client
	strace -qq -o "$D/trace" -e trace=%file,%network,execveat \
	    -p "$M" 3>&- 8>&- &
	STRACE=$!
	wait_for traced
	upgraded_to "$OTHER" 0.other
	kill "$STRACE"
	wait "$STRACE" || true
	sed '1,/^execveat/d' "$D/trace" > "$D/after"
	grep /proc/self/fd "$D/after"
	not grep -E "nsswitch|passwd|group|libnss|connect|$D/root" "$D/after"
	release
}

traced() { [ "$(awk '$1 == "TracerPid:" { print $2 }' "/proc/$M/status")" != 0 ]; }

@test "relative paths, and a directory that has gone since the start" {
	installed "$PREFORKD"
	mkdir "$D/start"
	greet_conf 'workers-spare 2'
	cp "$D/conf" "$D/start/conf"
	cp "$PROGRAM" "$D/start/preforkd"
	cd "$D/start"
	PROGRAM=./preforkd
	start -f conf
	cd "$D"
	cp "$OTHER" "$D/start/new"
	mv "$D/start/new" "$D/start/preforkd"
	ctl upgrade | grep 'to 0.other$'
	wait_for has_workers 2
	sed -i 's/spare 2/spare 3/' "$D/start/conf"
	kill -HUP "$M"
	wait_for has_workers 3
	rm -r "$D/start"
	run -1 ctl upgrade
	[[ $output == *"$D/start/preforkd: No such file or directory" ]]
	mkdir "$D/start"
	greet_conf 'workers-spare 4'
	cp "$D/conf" "$D/start/conf"
	cp "$LAYOUT" "$D/start/preforkd"
	ctl upgrade | grep 'to 0.layout$'
	wait_for has_workers 4
}

@test "a program found by PATH, and one that is a link to the one of this release" {
	mkdir "$D/a" "$D/b" "$D/path"
	cp "$PREFORKD" "$D/a/preforkd"
	cp "$OTHER" "$D/b/preforkd"
	ln -s ../a/preforkd "$D/path/preforkd"
	PATH=$D/path:$PATH
	PROGRAM=preforkd
	start_greet
	ln -sfn ../b/preforkd "$D/path/preforkd"
	ctl upgrade | grep 'to 0.other$'
}

@test "G18 several services on TCP and Unix sockets, one of them changed by the upgrade" {
	printf '%s\n' 'service greet' 'listen *:0' "listen unix:$D/sock" \
	    'run greet' 'service echo' 'listen 127.0.0.1:0' 'run echo' | conf
	start_installed "$PREFORKD" -f "$D/conf"
	n=${#ADDRESSES[@]}
	status | sed -n '/^LISTENER/,/^$/p' | awk '{ print $1, $2 }' > "$D/before"
	inode=$(stat -c %i "$D/sock")
	sed -i 's/run echo/run daytime/' "$D/conf"
	upgraded_to "$OTHER" 0.other
	status | sed -n '/^LISTENER/,/^$/p' | awk '{ print $1, $2 }' |
	    diff "$D/before" -
	[ "$(stat -c %i "$D/sock")" = "$inode" ]
	[[ $(echo x | timeout 5 nc -NU "$D/sock") == Welcome* ]]
	[[ $(ask x "${ADDRESSES[n - 1]##*:}") == "$(LC_ALL=C date -u +%a)"* ]]
	upgraded_to "$LAYOUT" 0.layout
	[[ $(echo x | timeout 5 nc -NU "$D/sock") == Welcome* ]]
	same_fds
	stop
	[ ! -e "$D/sock" ]
}

@test "in the background: the lock of the pid file is held on, and the file goes at the end" {
	installed "$PREFORKD"
	start_daemon -l 127.0.0.1:0 greet
	for each in "$OTHER" "$LAYOUT"; do
		upgraded_to "$each" "0.${each##*-}"
		[ "$(< "$PIDFILE")" = "$M" ]
		run -1 "$PREFORKD" -o "pidfile $PIDFILE" -l 127.0.0.1:0 greet
		[[ $output == *"running already, pid $M" ]]
		ask x
	done
	kill -KILL "$(one_worker)"
	wait_for logged 'worker died'
	wait_for eval '[ "$(worker_count)" -ge 8 ]'
	mv "$LOG" "$LOG.old"
	wait_for ctl_reopens
	wait_for [ -s "$LOG" ]
	stop_daemon
}
ctl_reopens() { kill -USR1 "$M"; [ -e "$LOG" ]; }

@test "a worker of before the upgrade that dies is replaced, and one that is told to leave is none" {
	greet_conf 'workers-min 3' 'workers-spare 1'
	start_installed "$PREFORKD" -f "$D/conf"
	upgraded_to "$OTHER" 0.other
	wait_for has_workers 3
	kill -KILL "$(one_worker)"
	wait_for logged 'worker died .*how="SIGKILL \(possible OOM\)"'
	wait_for has_workers 3
	hold 1
	upgraded_to "$PREFORKD" "$VERSION"
	wait_for slots_are draining 1
	old=$(status workers | awk '$2 == "draining" { print $3 }')
	kill -KILL "$old"
	wait_for logged "worker died pid=$old .*client=1 "
	release_cut
	wait_for has_workers 3
}

# What a worker says of itself, without what differs between any two.
audit() {
	ask descriptors | sort | sed -E 's/\[[0-9]+\]//; s/^pid .*//; s|/proc/[0-9]+/||'
	ask signals | grep '^Sig[BIC]'
}

@test "E11 E12 a worker of the new program has the descriptors and signals of any other" {
	PROGRAM=$FAULTY
	start -l 127.0.0.1:0 -o 'user root' command
	audit > "$D/before"
	for i in 1 2; do
		ctl upgrade
		wait_for has_workers 8
		audit | diff "$D/before" -
		all_close_on_exec
	done
}

# Every descriptor of the master but 0, 1 and 2 (O_CLOEXEC, as /proc shows it).
all_close_on_exec() {
	local fd flags
	for fd in "/proc/$M/fdinfo/"*; do
		[ "${fd##*/}" -gt 2 ] || continue
		flags=$(awk '$1 == "flags:" { print $2 }' "$fd")
		(((flags & 02000000) != 0)) || {
			echo "descriptor ${fd##*/}: $flags" >&2
			return 1
		}
	done
}

@test "the logger is replaced in order, and lines before and after are there" {
	start_installed "$PREFORKD" -l 127.0.0.1:0 greet
	old=$(logger_pid)
	upgraded_to "$OTHER" 0.other
	wait_for gone "$old"
	wait_for logged 'notice: upgraded from='
	new=$(logger_pid)
	[ -n "$new" ] && [ "$new" != "$old" ]
	wait_for logged 'notice: serving '
	not logged 'the logger died'
	kill -KILL "$new"
	wait_for logged 'the logger died and was replaced'
}

@test "a worker that leaves already keeps its deadline over an upgrade" {
	start_installed "$PREFORKD" -l 127.0.0.1:0 -o 'drain-timeout 2s' greet
	hold 1
	t=$EPOCHREALTIME
	ctl reload
	upgraded_to "$OTHER" 0.other
	wait_for logged 'killing a worker .*why="drain-timeout passed"'
	took "$t" 2000 5000
	release_cut
	grep 'closed=0 ' "$D/held"
}

@test "G07 twenty upgrades (fifty in make soak) leave descriptors and memory as they were" {
	upgrades_leave_nothing "$(often 20 50)"
}

@test "G14 SIGTERM, SIGHUP and SIGUSR2 at once: a stop always wins" {
	for i in 1 2 3 4; do
		start_installed "$PREFORKD" -l 127.0.0.1:0 greet
		ask x
		kill -USR2 "$M"
		[ $((i % 2)) -eq 0 ] || kill -HUP "$M"
		[ "$i" -le 2 ] || sleep 0.00"$i"
		stop
	done
	[ "$(count_logged 'notice: stopped clients-cut=0')" -eq 4 ]
}

# Pending when the new program begins, whose logger has just been told to leave.
@test "G14 SIGTERM and SIGINT as the new program begins end it in order, with all lines in the log" {
	for s in TERM INT; do
		: > "$LOG"
		start_installed "$PREFORKD" -l 127.0.0.1:0 -o 'workers-spare 1' greet
		installed "$OTHER"
		strace -qq -o "$D/trace" -e trace=execveat \
		    -e "inject=execveat:signal=SIG$s:when=1" -p "$M" 3>&- &
		STRACE=$!
		wait_for traced
		logger=$(logger_pid)
		kill -STOP "$logger"	# so that it leaves last
		kill -USR2 "$M"
		wait_for grep 'execveat.* = 0' "$D/trace"
		wait_for has_workers 0
		kill -CONT "$logger"
		ended 0
		wait "$STRACE" || true
		wait_for logged 'notice: stopping'
		[[ $(tail -n 1 "$LOG") == *'notice: stopped clients-cut=0 clients=0' ]]
	done
}

@test "a master killed at any instant of an upgrade leaves nothing" {
	killed_in_upgrades 5 3
}

@test "each system call of an upgrade fails in turn: the old state serves on, nothing leaks, the next try works" {
	ASAN_OPTIONS=$ASAN_OPTIONS:detect_leaks=0	# none under ptrace
	start_installed "$PREFORKD" -l 127.0.0.1:0 -o 'workers-spare 2' greet
	BOUND=1
	for call in openat memfd_create pipe2 clone,clone3,fork fcntl; do
		fails_in_turn '' $call
	done
	for call in dup2 execveat; do
		fails_in_turn -f $call
	done
}

@test "a SIGHUP that comes during an upgrade is acted on by the new program" {
	start_installed "$PREFORKD" -l 127.0.0.1:0 greet
	installed "$OTHER"
	for i in 1 2 3; do
		kill -USR2 "$M"
		kill -HUP "$M"
		wait_for eval "[ \$(count_logged 'notice: upgraded from') -eq $i ]"
		wait_for eval "[ \$(count_logged 'notice: reloaded gen') -eq $i ]"
	done
}

@test "a check that is killed is a failed upgrade, and the next one works" {
	export IMPOSTOR=$D/impostor
	start_installed "$PREFORKD" -l 127.0.0.1:0 greet
	impostor hang
	kill -USR2 "$M"
	wait_for eval '[ -n "$(check_child)" ]'
	kill -KILL "$(check_child)"
	wait_for logged 'upgrade failed, .*: the check died of SIGKILL'
	wait_for same_fds
	works_again
}

# The master's children but workers and logger.
check_child() { ps -o pid=,args= --ppid "$M" |
    awk '!/: .* slot [0-9]+: / && !/logger/ { print $1 }'; }

@test "a stop does not wait for a check that hangs, and leaves none behind" {
	export IMPOSTOR=$D/impostor
	for how in 'TERM 0' 'INT 0' 'KILL 137'; do
		start_installed "$PREFORKD" -l 127.0.0.1:0 greet
		impostor hang
		kill -USR2 "$M"
		wait_for eval '[ -n "$(check_child)" ]'
		# shellcheck disable=SC2086  # two words
		stop $how
		wait_for no_members
	done
}

@test "without a status file the scoreboard is kept in memory, also when its layout changes" {
	[ "$(id -u)" -eq 0 ] || skip 'a user has to be changed'
	dir=$(mktemp -d)	# where another user can be
	chmod 755 "$dir"
	cp "$PREFORKD" "$dir/preforkd"
	: > "$D/addresses"
	setsid setpriv --reuid 65534 --regid 65534 --clear-groups \
	    "$dir/preforkd" -d -1 -l 127.0.0.1:0 -o 'workers-spare 2' greet \
	    > "$D/addresses" 2>> "$LOG" < /dev/null 3>&- &
	M=$!
	STARTED+=("$M")
	wait_for started
	PORT=$(sed 's/.*://' "$D/addresses")
	BASE_FDS=$(master_fds)
	for each in "$OTHER" "$LAYOUT" "$PREFORKD"; do
		ask x
		cp "$each" "$dir/new"
		mv "$dir/new" "$dir/preforkd"
		kill -USR2 "$M"
		wait_for logged "upgraded from=.* to=$("$each" -V | sed 's/.* //') "
	done
	[[ $(ask x) == *"client #4 "* ]]
	rm -r "$dir"
}

@test "programs for each client serve on through an upgrade" {
	installed "$PREFORKD"
	start -l 127.0.0.1:0 -- /bin/cat
	exec 7<> "/dev/tcp/127.0.0.1/$PORT"
	echo before >&7
	read -r reply <&7
	upgraded_to "$OTHER" 0.other
	echo after >&7
	read -r again <&7
	exec 7>&-
	[ "$reply $again" = 'before after' ]
	[ "$(ask x)" = x ]
}
