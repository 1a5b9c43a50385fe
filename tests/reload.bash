# reload.bash: configurations, reloads and what comes of them, to be loaded
# after helper and clients.

# shellcheck disable=SC2034,SC2154  # shared with helper.bash and the tests

conf() { cat > "$D/conf"; }
start_conf() { start -f "$D/conf" "$@"; }

# greet_conf LINE...: one service on one address, with these settings.
greet_conf() {
	{
		echo 'service greet'
		echo 'listen 127.0.0.1:0'
		echo 'run greet'
		[ $# -eq 0 ] || printf '%s\n' "$@"
	} | conf
}

generation() { status | awk '$1 == "generation:" { print $2 }'; }
workers_max_is() {
	[ "$(status | awk '$1 == "greet" { print $8; exit }')" -eq "$1" ]
}
reloaded_since() {
	status | awk -v g="$1" '$1 == "generation:" { now = $2 }
	    $1 == "reload:" { how = $2 } END { exit !(now > g && how == "done") }'
}

# reload: and it has taken effect.
reload() {
	local g
	g=$(generation)
	kill -HUP "$M"
	wait_for reloaded_since "$g"
}

# reload_refused REASON: in the log and in the status; nothing has changed.
reload_refused() {
	local n before
	before=$(workers)
	n=$(count_logged 'error: reload failed')
	kill -HUP "$M"
	wait_for eval "[ \$(count_logged 'error: reload failed') -gt $n ]"
	grep 'error: reload failed' "$LOG" | tail -n 1 | tee "$D/refusal" |
	    grep -E -- "everything stays as it was: .*$1"
	status | grep -E -- "^reload: +failed .*$1"
	[ "$(workers)" = "$before" ]
	[[ $(ask x) == Welcome* ]]
	wait_for same_fds
}

# What the status says of listeners: the address of a service's Nth.
listeners() { status | awk '/^LISTENER/ { on = 1; next } /^$/ { on = 0 } on'; }
address_of() { listeners | awk -v s="$1" '$2 == s { print $1 }' |
    sed -n "${2:-1}p"; }
has_listeners() { [ "$(listeners | wc -l)" -eq "$1" ]; }

# answers ADDRESS TEXT: what is served there begins so.
answers() {
	local reply
	reply=$(printf 'x\n' | timeout "$DEADLINE" nc -N "${1%:*}" "${1##*:}")
	[[ $reply == "$2"* ]]
}
refuses() { ! nc -z "${1%:*}" "${1##*:}"; }

# A service that can be told to fail, or to be slow, at its start.
start_faulty() {
	export FAULT_FILE=$D/fault
	PROGRAM=$FAULTY
	printf '%s\n' 'service abort' 'listen 127.0.0.1:0' 'run abort' \
	    'workers-spare 2' 'user root' | conf
	start_conf
}

# never_ready MS: the generation that a reload brings is rolled back when so much
# time is over; meanwhile and then the old one serves, and no worker of it went.
never_ready() {
	local before p t=$EPOCHREALTIME
	mapfile -t before < <(workers)
	kill -HUP "$M"
	wait_for slots_are starting 1
	[ -n "$(ask x)" ]
	DEADLINE=60 wait_for logged 'reload failed, everything stays as it was: its workers are not ready in time'
	took "$t" "$1" $(($1 + 5000))
	status | grep '^reload: *failed .*: its workers are not ready in time'
	[ -n "$(ask x)" ]
	wait_for same_fds
	for p in "${before[@]}"; do not gone "$p"; done
}

# The master's listening sockets: the same ones have the same numbers.
sockets() { find "/proc/$M/fd" -lname 'socket:*' -printf '%l\n' | sort; }

# free_address: of no other test, with a port that no client has.
free_address() {
	echo "127.$((RANDOM % 100 + 100)).$((RANDOM % 250)).$((RANDOM % 250 + 1)):$((RANDOM % 12000 + 20000))"
}

# two_confs: $D/a and $D/b, which differ in every setting that a reload may
# change, but for those that would cut a client or fill the disk.
two_confs() {
	local address=$1 root=''
	[ "$(id -u)" -ne 0 ] || root=yes
	local -A other=([a]=127.0.0.2:0 [b]=127.0.0.3:0)
	two_lines() { # SETTING A B
		echo "$1 $2" >> "$D/a"
		echo "$1 $3" >> "$D/b"
	}
	: > "$D/a"
	: > "$D/b"
	two_lines log-level info notice
	two_lines workers-max 300 320
	two_lines workers-surge 300 310
	two_lines workers-min 2 3
	two_lines workers-spare 8 12
	two_lines workers-idle-time 1m 2m
	two_lines max-connections-per-worker 5000 7000
	two_lines first-byte-timeout 1h 2h
	two_lines idle-timeout 1h 2h
	two_lines connection-timeout 1h 2h
	two_lines drain-timeout 10m 11m
	two_lines backlog 1000 2000
	two_lines rlimit-as 1g 2g
	two_lines rlimit-core 0 1k
	two_lines rlimit-cpu 1000 2000
	two_lines rlimit-data 1g 2g
	two_lines rlimit-fsize 1g 2g
	two_lines rlimit-nofile 100 200
	two_lines rlimit-nproc 5000 6000
	two_lines rlimit-stack 1m 2m
	[ -z "$root" ] || two_lines user 65534:65534 1:1
	[ -z "$root" ] || two_lines group 1 2
	[ -z "$root" ] || two_lines chroot /etc /usr
	two_lines new-privileges no yes
	two_lines service greet greet
	two_lines listen "$address" "$address"
	two_lines listen "${other[a]}" "${other[b]}"
	two_lines run greet greet
	two_lines include included.a included.b
	printf '%s\n' 'service extra' 'listen 127.0.0.1:0' 'run echo' \
	    'log-connections both' > "$D/included.a"
	printf '%s\n' 'service other' 'listen 127.0.0.1:0' \
	    'exec /bin/cat' 'env X=1' 'log-connections end' > "$D/included.b"
}

# put FILE: it is the configuration now, whole at any moment.
put() {
	cp "$D/$1" "$D/next"
	mv "$D/next" "$D/conf"
}

# reloads_under_load SECONDS LEAST: SIGHUP every 50 ms, a storm, and 50 clients
# that stay; nobody is let down, and so many reloads are completed.
reloads_under_load() {
	local end n=0 completed
	greet_conf
	start_conf
	ADDRESS=127.0.0.1:$PORT
	two_confs "$ADDRESS"
	put a
	reload
	hold 50
	storm_begin -t $(($1 + 60)) -c 32 -u
	end=$((${EPOCHREALTIME/./} + $1 * 1000000))
	while [ "${EPOCHREALTIME/./}" -lt $end ]; do
		if [ $((n++ % 2)) -eq 0 ]; then put b; else put a; fi
		kill -HUP "$M"
		sleep 0.05
	done
	storm_end
	stormed_well
	[ "$(stormed refused)" -eq 0 ]
	[ "$(stormed error)" -eq 0 ]
	[ "$(stormed duplicates)" -eq 0 ]
	release
	grep 'closed=50 early=0 reset=0' "$D/held"
	completed=$(count_logged 'notice: reloaded')
	echo "$n signals, $completed reloads completed"
	not logged 'reload failed'
	[ "$completed" -ge "$2" ]
	put a
	reload
	wait_for settled_reload
	BASE_FDS=$(master_fds)
}

# reloads_leave_nothing WARM N: descriptors and memory are as they were N
# reloads ago; the heap has found its size after some hundreds of WARM ones.
reloads_leave_nothing() {
	local i fds before after
	greet_conf
	start_conf
	two_confs "127.0.0.1:$PORT"
	for ((i = 0; i < $1; i += 2)); do put b; reload; put a; reload; done
	wait_for settled_reload
	fds=$(master_fds)
	before=$(kilobytes VmRSS)
	for ((i = 0; i < $2; i += 2)); do put b; reload; put a; reload; done
	wait_for settled_reload
	after=$(kilobytes VmRSS)
	echo "descriptors $fds and $(master_fds), VmRSS $before kB and $after kB"
	[ "$(master_fds)" -eq "$fds" ]
	BASE_FDS=$fds
	[[ -n ${SANITIZE:-} || $1 -lt 100 ]] ||
	    [ $((after * 100)) -le $((before * 101)) ]
}
settled_reload() {
	slots_are draining 0 && [ "$(status | grep -c ' leaving ')" -eq 0 ] &&
	    [ "$(status | grep -c ' serving ')" -eq 1 ]
}

# big_reload N: of a pool of N workers, in at most a second, with at most 2.2
# times the memory.
big_reload() {
	local before most t us
	memory_group
	greet_conf "workers-min $1" "workers-max $1" 'workers-spare 8'
	PROGRAM=$D/in_group
	start_conf -o 'log-connections no'
	wait_for slots_are idle "$1"
	sleep 0.5
	before=$(< "$MEMORY/memory.usage_in_bytes")
	echo 0 > "$MEMORY/memory.max_usage_in_bytes"
	t=$EPOCHREALTIME
	kill -HUP "$M"
	wait_for logged 'notice: reloaded'
	us=$(since "$t")
	ask x > "$D/reply"
	grep Welcome "$D/reply"
	wait_for slots_are idle "$1"
	wait_for settled_reload
	most=$(< "$MEMORY/memory.max_usage_in_bytes")
	echo "$1 workers: $us us, memory $before and at most $most bytes"
	[ "$us" -le 1000000 ]
	[ $((most * 10)) -le $((before * 22)) ]
	stop
	wait_for rmdir "$MEMORY"
}

# memory_group: $MEMORY is a control group, $D/in_group starts a server in it.
memory_group() {
	local at
	at=$(awk -F : '$2 == "memory" { print $3 }' /proc/self/cgroup)
	MEMORY=/sys/fs/cgroup/memory$at/preforkd-$$
	mkdir "$MEMORY" 2>/dev/null || MEMORY=/sys/fs/cgroup/memory/preforkd-$$
	[ -d "$MEMORY" ] || mkdir "$MEMORY" 2>/dev/null ||
	    skip 'no control group of version 1 for memory can be made here'
	printf '#!/bin/sh\necho $$ > %s/cgroup.procs\nexec %s "$@"\n' \
	    "$MEMORY" "$PREFORKD" > "$D/in_group"
	chmod 755 "$D/in_group"
}

# The system calls of the master that a system can let fail, and how; its writes
# are log lines and pokes.
can_fail() {
	case $1 in
	pipe2 | socket | openat | dup3 | fcntl) echo EMFILE ;;
	clone | clone3 | fork | vfork) echo EAGAIN ;;
	brk | mmap | setsockopt | listen | bind | getsockname) echo ENOMEM ;;
	getrandom) echo ENOSYS ;;
	read) echo EIO ;;
	newfstatat | lstat | stat | lchown | fchownat | unlink) echo EACCES ;;
	esac
}

# traced OPTION...: the master, in the background, until untraced.
traced() {
	strace -qq -o "$D/trace" "$@" -p "$M" 3>&- 8>&- &
	STRACE=$!
	wait_for has_tracer
}
has_tracer() {
	[ "$(awk '$1 == "TracerPid:" { print $2 }' "/proc/$M/status")" != 0 ]
}
untraced() {
	kill "$STRACE"
	wait "$STRACE" || true
}

outcomes() { count_logged 'notice: reloaded|error: reload failed'; }
more_outcomes() { [ "$(outcomes)" -gt "$1" ]; }

# The configuration with what makes a reload call the most, and without.
sweep_confs() {
	printf '%s\n' 'service greet' "listen $ADDRESS" 'run greet' \
	    'workers-spare 1' > "$D/a"
	{ cat "$D/a"; printf '%s\n' 'service more' 'listen 127.0.0.2:0' \
	    "listen unix:$D/socket mode=600" 'run greet'; } > "$D/b"
}

# faulty_reload CALL N: the Nth of these fails; nothing is the worse for it.
faulty_reload() {
	local n
	n=$(outcomes)
	put b
	traced -e "trace=$1" -e "inject=$1:error=$(can_fail "$1"):when=$2"
	kill -HUP "$M"
	wait_for more_outcomes "$n"
	untraced
	[[ $(ask x) == Welcome* ]]
	put a
	reload
	wait_for settled_reload
	has_listeners 1
	wait_for same_fds
	[[ $(ask x) == Welcome* ]]
}

# fault_sweep MOST: each call that a reload makes fails at its first MOST times.
fault_sweep() {
	local call count i tried=0
	greet_conf 'workers-spare 1'
	start_conf -o 'log-connections no'
	sweep_confs
	put b
	traced
	reload
	untraced
	put a
	reload
	wait_for settled_reload
	grep -oE '^[a-z0-9_]+\(' "$D/trace" | tr -d '(' | sort | uniq -c > "$D/calls"
	while read -r count call; do
		[ -n "$(can_fail "$call")" ] || continue
		for ((i = 1; i <= count && i <= $1; i++)); do
			echo "$call, at $i of $count"
			faulty_reload "$call" $i < /dev/null
			tried=$((tried + 1))
		done
	done < "$D/calls"
	echo "$tried reloads with a call that failed," \
	    "$(count_logged 'reload failed') of them refused"
	[ $tried -ge 10 ]
}
