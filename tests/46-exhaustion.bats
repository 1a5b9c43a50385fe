#!/usr/bin/env bats
# 46-exhaustion.bats: what happens when the system says no: rows C of the fault
# matrix, and starts that are short of something or interrupted (J05, J10).

load helper

# Root's limits are root's to change, and looking for a user's name would open
# files and sockets of the C library's among the calls that are made to fail.
USER_OPTION=(-o 'user 0:0')

# Under ptrace there is no looking for leaks.
export ASAN_OPTIONS=$ASAN_OPTIONS:detect_leaks=0

sanitized() { grep -q __asan_init "$PREFORKD"; }
fixed() {
	start -o "workers-min $1" -o "workers-max $1" -o 'workers-spare 1' \
	    -l 127.0.0.1:0 greet
}
greeted() { [[ $(ask x) == Welcome* ]]; }
since() { echo $(((${EPOCHREALTIME/./} - ${1/./}) / 1000)); }

# inject WHAT PID...: strace, attached to each, makes WHAT fail.
inject() {
	local what=$1 p
	local -a attach=()
	shift
	for p; do attach+=(-p "$p"); done
	strace -qq -o "$D/trace" -e "trace=${what%%:*}" -e "inject=$what" \
	    "${attach[@]}" 3>&- &
	TRACER=$!
	wait_for all_traced_or_gone "$@"
}

all_traced_or_gone() {
	local p
	for p; do
		gone "$p" || grep -q '^TracerPid:.[1-9]' "/proc/$p/status" ||
		    return 1
	done
}

no_more_faults() {
	kill -INT "$TRACER"
	wait "$TRACER" || true
}

failed_forks() { [ "$(grep -c EAGAIN "$D/forks")" -ge "$1" ]; }
# How often a process has slept so far.
sleeps() { awk '/^voluntary_ctxt_switches/ { print $2 }' "/proc/$1/status"; }
has_slept() { [ "$(sleeps "$2")" -ge "$1" ]; }
injected() { grep -c INJECTED "$D/trace"; }
injected_so_often() { [ "$(injected)" -ge "$1" ]; }

# The accept that it sleeps in has its descriptor already.
short_of_descriptors() {
	prlimit --pid "$1" --nofile=7:
	greeted
}

@test "C01 a worker that may not open a descriptor waits, and serves once it may" {
	fixed 1
	w=$(one_worker)
	short_of_descriptors "$w"
	ask x > "$D/reply" &
	wait_for logged 'warning: accept waits .*Too many open files'
	before=$(cpu "$w")
	t=$EPOCHREALTIME
	# 10 ms have begun; then 20, 40, 80, 160, 320, 640
	wait_for has_slept $(($(sleeps "$w") + 7)) "$w"
	[ "$(since "$t")" -ge 1200 ]
	[ "$(($(cpu "$w") - before))" -le 10 ]
	[ "$(count_logged 'accept waits')" -eq 1 ]
	[ ! -s "$D/reply" ]
	t=$EPOCHREALTIME
	prlimit --pid "$w" --nofile=1024:
	wait_for grep -q Welcome "$D/reply"
	[ "$(since "$t")" -le 4500 ]
	[ "$(one_worker)" = "$w" ]
	# the next episode is told again
	short_of_descriptors "$w"
	ask x > "$D/reply" &
	wait_for eval '[ "$(count_logged "accept waits")" -eq 2 ]'
	prlimit --pid "$w" --nofile=1024:
	wait_for grep -q Welcome "$D/reply"
}

@test "C01 a worker that waits for descriptors can be told to leave" {
	fixed 1
	w=$(one_worker)
	short_of_descriptors "$w"
	ask x > "$D/reply" &
	wait_for logged 'warning: accept waits'
	kill -TERM "$w"
	wait_for gone "$w"
	# its successor has the limit of the master
	wait_for grep -q Welcome "$D/reply"
}

@test "C02 EMFILE, ENFILE, ENOBUFS and ENOMEM from accept are waited out" {
	for e in EMFILE ENFILE ENOBUFS ENOMEM; do
		fixed 1
		w=$(one_worker)
		inject "accept4:error=$e:when=1..200" "$w"
		ask x > "$D/reply" &
		wait_for injected_so_often 1
		t=$EPOCHREALTIME
		# 10, 20, 40, 80, 160, 320, 640 ms
		wait_for injected_so_often 8
		[ "$(since "$t")" -ge 1100 ]
		no_more_faults
		wait_for grep -q Welcome "$D/reply"
		[ "$(one_worker)" = "$w" ]
		[ "$(count_logged 'accept waits')" -eq 1 ]
		: > "$LOG"
		stop INT
	done
}

@test "C03 errors of the network are retried at once and in silence" {
	start -l 127.0.0.1:0 -o 'workers-min 1' -o 'workers-spare 1' \
	    -o 'workers-max 1' -o 'log-level debug' greet
	w=$(one_worker)
	for e in ECONNABORTED EPROTO EINTR ENETDOWN EHOSTUNREACH ENETUNREACH \
	    ENONET EHOSTDOWN ENOPROTOOPT EOPNOTSUPP; do
		inject "accept4:error=$e:when=1..100" "$w"
		ask x > "$D/reply" 3>&-
		no_more_faults
		[ "$(injected)" -eq 100 ]
		grep -q Welcome "$D/reply"
	done
	[ "$(one_worker)" = "$w" ]
	# not a line of this worker but those of its clients
	grep -F "preforkd[$w]" "$LOG" > "$D/said"
	not grep -v ' info: \(connected\|closed\) ' "$D/said"
}

@test "C04 a worker whose listener is of no use leaves, is replaced, and the others serve" {
	fixed 3
	greeted
	for e in EBADF ENOTSOCK EINVAL; do
		w=$(one_worker)
		inject "accept4:error=$e:when=1" "$w"
		for i in 1 2 3 4; do greeted; done
		wait_for logged "worker died pid=$w .*exit 92 \(its listener is unusable\)"
		wait "$TRACER" || true
		wait_for logged "error: accept on $ADDRESS"
		wait_for has_workers 3
	done
	greeted
}

@test "C05 a fork that fails once for a replacement is tried again" {
	fixed 2
	inject clone,clone3,fork,vfork:error=EAGAIN:when=1 "$M"
	kill -KILL "$(one_worker)"
	wait_for logged 'warning: fork: Resource temporarily unavailable'
	wait_for has_workers 2
	wait_for logged 'fork works again'
	no_more_faults
	# nothing has been counted twice
	wait_for slots_are idle 2
	greeted
}

@test "C05 while fork fails the master waits, and serves with what it has" {
	fixed 3
	inject clone,clone3,fork,vfork:error=EAGAIN "$M"
	mapfile -t all < <(workers)
	kill -KILL "${all[0]}" "${all[1]}"
	wait_for logged 'fork: Resource'
	t=$EPOCHREALTIME
	n=$(injected)
	# 0.1, 0.2, 0.4, 0.8 s
	wait_for injected_so_often $((n + 4))
	[ "$(since "$t")" -ge 1300 ]
	[ "$(count_logged 'fork: Resource')" -eq 1 ]
	greeted
	has_workers 1
	no_more_faults
	wait_for has_workers 3
	wait_for slots_are idle 3
	[ "$(count_logged 'fork works again')" -eq 1 ]
}

@test "C05 a fork that fails once for a new logger is tried again" {
	fixed 1
	inject clone,clone3,fork,vfork:error=EAGAIN:when=1 "$M"
	kill -KILL "$(logger_pid)"
	wait_for injected_so_often 1
	wait_for logged 'the logger died and was replaced'
	no_more_faults
}

@test "A07 early deaths of workers started together are one step of the back-off, not many" {
	export FAULT_FILE=$D/fault
	PROGRAM=$FAULTY
	start -o 'workers-min 16' -o 'workers-max 16' \
	    -l 127.0.0.1:0 abort
	touch "$FAULT_FILE"
	mapfile -t all < <(workers)
	# so that they are replaced together
	kill -STOP "$M"
	wait_for grep -q '^State:.T' "/proc/$M/status"
	kill -KILL "${all[@]}"
	for p in "${all[@]}"; do wait_for gone_or_zombie "$p"; done
	kill -CONT "$M"
	wait_for eval '[ "$(count_logged SIGABRT)" -ge 16 ]'
	rm "$FAULT_FILE"
	# a step is 0.1 s, and sixteen of them were 30
	DEADLINE=8 wait_for eval '[ "$(worker_count)" -ge 1 ]'
	[[ $(ask x) == hello* ]]
	wait_for has_workers 16
}

# A user that nobody else is: RLIMIT_NPROC counts all that a user runs.
LONELY=64123

need_root() { [ "$(id -u)" -eq 0 ] || skip 'only root can become another user'; }

as_lonely() {
	setpriv --reuid $LONELY --regid $LONELY --clear-groups "$@"
}

# start_lonely PROCESSES ARG...: as that user, with at most so many of them.
start_lonely() {
	local n=$1
	shift
	mkdir "$D/run"
	chown $LONELY "$D/run"
	chmod a+rx "$BATS_RUN_TMPDIR" "$BATS_RUN_TMPDIR/test" "$D"
	STATUS=$D/run/status
	printf '#!/bin/sh\nexec setpriv --reuid %s --regid %s --clear-groups %s "%s" "$@"\n' \
	    $LONELY $LONELY "prlimit --nproc=$n:100" "$PROGRAM" > "$D/lonely"
	chmod 755 "$D/lonely"
	PROGRAM=$D/lonely
	start "$@"
}

@test "C07 a limit on processes leaves the pool as large as it may be, and is outlived" {
	need_root
	as_lonely test -x "$PREFORKD" ||
	    skip "another user cannot reach $PREFORKD"
	# the master, the logger and four workers
	start_lonely 6 -o 'workers-spare 4' -o 'workers-max 20' \
	    -l 127.0.0.1:0 greet
	mkfifo "$D/release"
	"$TOOLS/hold" 8 "$ADDRESS" < "$D/release" > "$D/held" 2>&1 3>&- &
	hold=$!
	exec 8> "$D/release"
	wait_for logged 'warning: fork: Resource temporarily unavailable'
	wait_for slots_are busy 4
	has_workers 4
	strace -qq -o "$D/forks" -e trace=clone,clone3,fork,vfork -p "$M" 3>&- 8>&- &
	TRACER=$!
	wait_for failed_forks 2
	kill "$TRACER"
	wait "$TRACER" || true
	[ "$(count_logged 'warning: fork')" -eq 1 ]
	as_lonely prlimit --pid "$M" --nproc=100:
	wait_for grep -q 'greeted=8 ' "$D/held"
	wait_for slots_are busy 8
	exec 8>&-
	wait "$hold"
	wait_for logged 'fork works again'
}

# try_start CALLS ERROR N: a start with the N-th of these calls failing, in a
# directory of its own.  It serves and can be stopped, or ends with 1 and one
# line that says why; and leaves no process and no temporary file.  Prints
# what is not so, and keeps its outcome.
try_start() {
	local call=$1 error=$2 n=$3 d=$D/$1.$3 rc=0 pid
	mkdir "$d"
	setsid strace -qq -o "$d/trace" -e "trace=$call" \
	    -e "inject=$call:error=$error:when=$n" "$PREFORKD" -d -1 \
	    -o 'workers-spare 1' -o "status-file $d/status" \
	    "${USER_OPTION[@]}" -l 127.0.0.1:0 greet > "$d/out" 2> "$d/log" < /dev/null 3>&- &
	pid=$!
	echo "$pid" >> "$D/sessions"
	wait_for decided "$d" "$pid"
	if [ -s "$d/out" ]; then
		echo serves > "$d/outcome"
		ps -o pid= --ppid "$pid" | xargs kill -TERM
		wait "$pid" || echo "$call $n: served, then exit $?"
	else
		wait "$pid" || rc=$?
		echo "exit $rc" > "$d/outcome"
		[ $rc -eq 1 ] || echo "$call $n: exit $rc"
		[ "$(grep -c '^preforkd: ' "$d/log")" -eq 1 ] ||
		    echo "$call $n: not one line: $(< "$d/log")"
	fi
	find "$d" -name 'status*.new-*' -printf "$call $n: left %f\n"
	wait_for session_over "$pid" 2> /dev/null || echo "$call $n: processes left"
}

session_over() { ! ps -o stat= --sid "$1" | grep -q '^[^Z]'; }

decided() { [ -s "$1/out" ] || gone_or_zombie "$2"; }

# The number of CALLs before main's first, which is for /dev/null.
before_main() {
	strace -qq -o "$D/loading" -e "trace=openat,${1//,*}" "$PREFORKD" -V \
	    > /dev/null
	grep -c "^$1(" "$D/loading" || true
}

# sweep CALLS ERROR LAST: each of the first that main makes, four at a time.
sweep() {
	local n first
	first=${FIRST:-$(before_main "$1")}
	for ((n = 1; n <= $3; n++)); do
		try_start "$1" "$2" $((first + n)) 3>&- &
		[ $((n % 4)) -ne 0 ] || wait
	done >> "$D/wrong"
	wait
}

swept() {
	local s
	while read -r s; do STARTED+=("$s"); done < "$D/sessions"
	cat "$D/wrong"
	[ ! -s "$D/wrong" ]
}

refused_starts() { cat "$D"/*/outcome | grep -c 'exit 1$'; }

@test "C08 a start that may not map memory ends with its reason or serves" {
	! sanitized || skip 'the allocator of the sanitizer does not survive it'
	sweep mmap ENOMEM 24
	swept
	[ "$(refused_starts)" -ge 4 ]
}

@test "C08 a start that gets no descriptor ends with its reason or serves" {
	# Looking for users opens what it likes; after it come four /dev/null.
	FIRST=$(timeout 5 strace -qq -e trace=openat "$PREFORKD" -d \
	    -o "status-file $D/s" "${USER_OPTION[@]}" -l 127.0.0.1:0 greet 2>&1 |
	    grep -a openat | grep -anF '"/dev/null", O_RDWR|O_CLOEXEC' |
	    sed -n '1s/:.*//p')
	FIRST=$((FIRST - 1)) sweep openat EMFILE 12
	sweep pipe2 EMFILE 3
	sweep socket EMFILE 6
	sweep dup3 EMFILE 2
	swept
	[ "$(refused_starts)" -ge 9 ]
}

@test "C08 a start that can write no status ends with its reason" {
	sweep fallocate ENOSPC 3
	sweep link,rename EIO 3
	swept
	[ "$(refused_starts)" -eq 6 ]
}

@test "C08 a start that may not fork ends with its reason, or serves a little later" {
	sweep clone,clone3,fork,vfork EAGAIN 3
	swept
	[ "$(refused_starts)" -eq 1 ]
}

@test "C13 a caller with thousands of open files is no hindrance" {
	cat > "$D/wrapped" <<-END
		#!/usr/bin/env python3
		import os, resource, sys
		resource.setrlimit(resource.RLIMIT_NOFILE, (8192, 8192))
		for i in range(3000):
		    os.set_inheritable(os.dup(0), True)
		os.execv("$PREFORKD", sys.argv)
	END
	chmod +x "$D/wrapped"
	start_greet
	n=$BASE_FDS
	stop
	PROGRAM=$D/wrapped
	start_greet
	greeted
	[ "$(master_fds)" -eq "$n" ]
	for p in $(workers) $(logger_pid); do
		wait_for has_few "$p"
	done
}

has_few() { [ "$(find "/proc/$1/fd" -mindepth 1 | wc -l)" -le 7 ]; }

@test "C13 no select(2) anywhere: a descriptor may have any number" {
	nm -u "$PREFORKD" "$PREFORKCTL" | awk '{print $NF}' > "$D/called"
	grep -qE '^ppoll(@|$)' "$D/called"
	not grep -E '^(__)?p?select(@|$)' "$D/called"
}

# quick ARG...: a start that is given two seconds; $rc, output in $D/log.
quick() {
	rc=0
	start_quietly -l 127.0.0.1:0 "$@" greet
	wait_for started
	if [ -s "$D/addresses" ]; then
		PORT=$(sed 's/.*://' "$D/addresses")
		greeted
		stop INT
	else
		wait "$M" || rc=$?
		M=''
	fi
}

limited() {
	printf '#!/bin/bash\n%s\nexec "%s" "$@"\n' "$1" "$PREFORKD" > "$D/wrapped"
	chmod +x "$D/wrapped"
	PROGRAM=$D/wrapped
	: > "$LOG"
}

@test "C17 with too little address space it says so and ends, with enough it serves" {
	! sanitized || skip 'the sanitizer takes terabytes'
	served=0 refused=0
	for kb in 2500 2900 3100 3500 3900 4300 4700 5500 9000 100000; do
		limited "ulimit -v $kb"
		quick
		case $rc in
		0)	served=$((served + 1))
			wait_for logged 'notice: serving ' ;;
		1|127)	refused=$((refused + 1))
			grep -E 'Cannot allocate|out of memory|shared' "$LOG" ;;
		*)	echo "$kb kB: exit $rc"
			return 1 ;;
		esac
	done
	[ "$served" -ge 1 ] && [ "$refused" -ge 1 ]
	: > "$LOG"
}

@test "J10 with few descriptors it says so and ends, or serves" {
	for n in {6..20}; do
		limited "ulimit -n $n"
		quick
		[ $rc -eq 0 ] && served=$n && continue
		[ $rc -eq 1 ] || [ $rc -eq 127 ]
		grep -E 'Too many open files|Bad file|Invalid' "$LOG"
	done
	[ "$served" -eq 20 ]
	limited 'ulimit -n 16'
	quick
	[ $rc -eq 0 ]
	: > "$LOG"
}

@test "J10 with a small stack it serves" {
	limited 'ulimit -s 256'
	quick
	[ $rc -eq 0 ]
}

@test "J05 SIGTERM at any time of the start ends it in order" {
	for i in {0..7}; do
		start_quietly -o 'workers-spare 4' -l 127.0.0.1:0 greet
		sleep "$(printf '0.%03d' $((i * 4)))"
		kill -TERM "$M"
		rc=0
		wait_for gone_or_zombie "$M"
		wait "$M" || rc=$?
		M=''
		# 143: before there was anything to put in order
		[ $rc -eq 0 ] || [ $rc -eq 143 ]
		wait_for no_members
		not has_temporary_files
	done
}

has_temporary_files() {
	find "$D" -name 'status*.new-*' | grep .
}

# told_at CALL[:when=N]: a start whose SIGTERM comes with that call; it leaves
# $rc.
told_at() {
	local call=${1%%:*} when=${1#"${1%%:*}"} pid
	rc=0
	: > "$LOG"
	setsid strace -qq -o "$D/trace" -e "trace=$call" \
	    -e "inject=$call:signal=TERM$when" "$PREFORKD" -d \
	    -o 'workers-spare 2' -o "status-file $STATUS" -l 127.0.0.1:0 \
	    "${USER_OPTION[@]}" greet 2>> "$LOG" < /dev/null 3>&- &
	pid=$!
	STARTED+=("$pid")
	wait_for gone_or_zombie "$pid"
	wait "$pid" || rc=$?
}

@test "J05 SIGTERM at each step of the start ends it in order" {
	for step in pipe2 fallocate flock link rename bind listen \
	    clone:when=1 clone:when=2; do
		told_at "$step"
		grep -q 'SIGTERM' "$D/trace"
		[ $rc -eq 0 ]
		wait_for logged ' notice: stopped '
		wait_for no_members
		not has_temporary_files
	done
}

@test "J05 SIGTERM while the workers are starting is not forgotten" {
	export FAULT_FILE=$D/fault
	PROGRAM=$FAULTY
	touch "$FAULT_FILE.slow"
	start_quietly -l 127.0.0.1:0 -o 'log-level debug' abort
	wait_for logged ' worker born '
	kill -TERM "$M"
	ended 0
	[ ! -s "$D/addresses" ]
}
