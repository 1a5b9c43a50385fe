#!/usr/bin/env bats
# 20-listen.bats: which sockets a server opens, what it does about Unix
# sockets and their files, and what it says when it cannot have an address.

load helper

listening() { ss -Hltn "sport = :$1" | awk '{print $4}'; }
inode() { stat -c %i "$1"; }

# refused WHAT ARGUMENT...: exit 1, one line that begins with WHAT, and nothing
# started.  Beside the server of $M, if there is one.
refused() {
	local first=$M STATUS=$D/refused LOG=$D/refused.log
	local expect="preforkd: listen $1"
	shift
	: > "$LOG"
	start_quietly "$@"
	ended 1
	unset "STARTED[-1]"
	M=$first
	[ "$(wc -l < "$LOG")" -eq 1 ] &&
	    [[ $(< "$LOG") == "$expect"* ]] && [ ! -s "$D/addresses" ] &&
	    [ -z "$(compgen -G "$STATUS*" | grep -v '\.log$')" ] &&
	    [ -z "$(ps -o pid= --sid "$ENDED")" ] && return
	echo "not refused as wanted: $expect" >&2
	cat "$LOG" "$D/addresses" >&2
	compgen -G "$STATUS*" >&2
	return 1
}

# As somebody who may not bind low ports; D is theirs then.
as_nobody() {
	if [ "$(id -u)" -eq 0 ]; then
		chmod 711 "$BATS_RUN_TMPDIR" "$BATS_FILE_TMPDIR" \
		    "$BATS_SUITE_TMPDIR" "${D%/*}"
		chown 65534 "$D"
		cp "$PREFORKD" "$D/preforkd"
		PREFORKD=$D/preforkd
		# setsid(1) runs what is in PROGRAM, and that is a word.
		printf '#!/bin/sh\nexec setpriv --reuid 65534 --regid 65534 %s' \
		    "--clear-groups '$D/preforkd' \"\$@\"" > "$D/run"
		chmod 755 "$D/run"
		PROGRAM=$D/run
	fi
}

@test "-1 prints the address of every listen, in order, with the port it got" {
	start -l 127.0.0.1:0 -l 127.0.0.2:0 -l '[::1]:0' -l "unix:$D/s" greet
	[ "${#ADDRESSES[@]}" -eq 4 ]
	[[ ${ADDRESSES[0]} =~ ^127\.0\.0\.1:[1-9][0-9]*$ ]]
	[[ ${ADDRESSES[1]} =~ ^127\.0\.0\.2:[1-9][0-9]*$ ]]
	[[ ${ADDRESSES[2]} =~ ^\[::1\]:[1-9][0-9]*$ ]]
	[ "${ADDRESSES[3]}" = "unix:$D/s" ]
	for address in "${ADDRESSES[@]}"; do
		"$TOOLS/storm" -g -n 5 "$address"
		wait_for logged "notice: serving ${address//[\[\]]/.} service=greet"
	done
}

@test "the same listen twice with port 0 is two sockets, if spelt apart" {
	start -l 127.0.0.1:0 -l 127.0.0.1:00 greet
	[ "${#ADDRESSES[@]}" -eq 2 ]
	[ "${ADDRESSES[0]}" != "${ADDRESSES[1]}" ]
}

@test "several services listen each for itself" {
	cat > "$D/two.conf" <<-END
	service one
		listen 127.0.0.1:0
		run greet
	service two
		listen 127.0.0.1:0
		run daytime
	END
	start -f "$D/two.conf"
	"$TOOLS/storm" -g -n 3 "${ADDRESSES[0]}"
	"$TOOLS/storm" -l 1 -s '' -x 26 -n 3 "${ADDRESSES[1]}"
}

@test "*:PORT is two sockets, IPv4 and IPv6, each for its family alone" {
	start -l '*:0' greet
	[ "${#ADDRESSES[@]}" -eq 2 ]
	port4=${ADDRESSES[0]##*:} port6=${ADDRESSES[1]##*:}
	[ "${ADDRESSES[0]}" = "0.0.0.0:$port4" ]
	[ "${ADDRESSES[1]}" = "[::]:$port6" ]
	ask l "$port4" | grep -q 'connected to 127.0.0.1 on'
	printf l | nc -N ::1 "$port6" | grep -q 'connected to ::1 on'
	not nc -z ::1 "$port4"
	not nc -z 127.0.0.1 "$port6"
	[ "$(listening "$port6")" = "[::]:$port6" ]
}

@test "*:PORT and :PORT take the same port in both families" {
	for form in '*' ''; do
		start -l '*:0' greet
		port=$PORT
		stop
		start -l "$form:$port" greet
		[ "${ADDRESSES[*]}" = "0.0.0.0:$port [::]:$port" ]
		[ "$(listening "$port" | sort | paste -sd' ')" = \
		    "0.0.0.0:$port [::]:$port" ]
		stop
	done
}

@test "a workers-max below all spares is shared out among the sockets" {
	start -l '*:0' -l "unix:$D/s" -o 'workers-max 7' greet
	wait_for has_workers 7
	for address in "${ADDRESSES[@]}"; do
		[ "$(workers_of "$address")" -ge 2 ]
	done
	"$TOOLS/storm" -n 20 -c 5 "127.0.0.1:$PORT"
	"$TOOLS/storm" -n 20 -c 5 "[::1]:${ADDRESSES[1]##*:}"
	"$TOOLS/storm" -n 20 -c 5 "unix:$D/s"
}

workers_of() { ps -o args= --ppid "$M" | grep -cF " $1 slot "; }

@test "*:PORT without IPv6 in the kernel is IPv4 alone, with a line" {
	[ "$(id -u)" -eq 0 ] || skip 'needs root, for strace to trace setsid'
	# Looking for users opens sockets, too: which one is that of IPv6?
	which=$(timeout 20 strace -qq -e trace=socket "$PREFORKD" -d \
	    -o "status-file $STATUS" -l '*:0' -l "unix:/$D/no/such" greet 2>&1 |
	    grep -a '^socket' | grep -an AF_INET6 | cut -d: -f1)
	cat > "$D/run" <<-END
	#!/bin/sh
	exec strace -f -qq -o "$D/trace" -e trace=socket \
	    -e 'inject=socket:error=EAFNOSUPPORT:when=$which' "$PREFORKD" "\$@"
	END
	chmod 755 "$D/run"
	PROGRAM=$D/run
	# Under ptrace there is no looking for leaks.
	export ASAN_OPTIONS=$ASAN_OPTIONS:detect_leaks=0
	start_quietly -l '*:0' greet
	wait_for started
	mapfile -t ADDRESSES < "$D/addresses"
	[ "${#ADDRESSES[@]}" -eq 1 ]
	[[ ${ADDRESSES[0]} == 0.0.0.0:* ]]
	wait_for logged 'listen \[::\]:0: socket: Address family not supported'
	kill -INT "$(ps -o pid= --ppid "$M")"
	ended 0
}

@test "a connection that is left does not keep the port from the next server" {
	start_greet
	exec {client}<> "/dev/tcp/127.0.0.1/$PORT"
	wait_for slots_are busy 1
	stop INT 2
	start -l "127.0.0.1:$PORT" greet
	exec {client}>&-
}

@test "a Unix socket is for everybody unless it says otherwise" {
	umask 077
	start -l "unix:$D/s" greet
	[ "$(stat -c '%F %a' "$D/s")" = 'socket 666' ]
}

@test "a Unix socket has the mode it was given, whatever the umask" {
	umask 022
	start -l "unix:$D/a mode=0660" -l "unix:$D/b mode=0600" greet
	[ "$(stat -c '%a' "$D/a")" = 660 ]
	[ "$(stat -c '%a' "$D/b")" = 600 ]
}

@test "a Unix socket has the owner and group it was given" {
	[ "$(id -u)" -eq 0 ] || skip 'needs root, to give a file away'
	start -l "unix:$D/a owner=nobody" -l "unix:$D/b owner=1234:4321" \
	    -l "unix:$D/c owner=daemon:nogroup mode=0600" greet
	[ "$(stat -c '%U:%g' "$D/a")" = nobody:0 ]
	[ "$(stat -c '%u:%g' "$D/b")" = 1234:4321 ]
	[ "$(stat -c '%U:%G %a' "$D/c")" = 'daemon:nogroup 600' ]
}

@test "the file of a Unix socket goes when the server stops, at once or not" {
	for signal in TERM INT QUIT; do
		start -l "unix:$D/s" greet
		[ -S "$D/s" ]
		stop "$signal"
		[ ! -e "$D/s" ]
	done
}

@test "a stale Unix socket of a server that was killed is replaced" {
	start -l "unix:$D/s" greet
	EXPECT_DEAD=yes
	kill -KILL "$M"
	wait_for no_members
	wait "$M" || true
	[ -S "$D/s" ]
	EXPECT_DEAD=no
	start -l "unix:$D/s" greet
	printf l | nc -NU "$D/s" | grep -q 'client #1 '
	stop
	[ ! -e "$D/s" ]
}

@test "a Unix socket that another server listens on is refused" {
	nc -lkU "$D/s" > /dev/null 2>&1 3>&- &
	other=$!
	wait_for test -S "$D/s"
	before=$(inode "$D/s")
	refused "unix:$D/s: bind: Address already in use by another process" \
	    -l "unix:$D/s" greet
	[ "$(inode "$D/s")" = "$before" ]
	not gone "$other"
	kill "$other"
}

@test "a file that is no socket is refused and stays as it is" {
	echo precious > "$D/file"
	ln -s "$D/file" "$D/link"
	mkdir "$D/dir"
	for file in file link dir; do
		refused "unix:$D/$file: bind: Address already in use by a file that is not a socket" \
		    -l "unix:$D/$file" greet
	done
	[ "$(cat "$D/file")" = precious ]
	[ -L "$D/link" ]
	[ -d "$D/dir" ]
}

@test "a link to a live Unix socket is refused, and its target stays" {
	start -l "unix:$D/s" greet
	ln -s "$D/s" "$D/link"
	refused "unix:$D/link: bind: Address already in use" \
	    -l "unix:$D/link" greet
	printf l | nc -NU "$D/s" | grep -q Welcome
}

@test "a file that somebody put there meanwhile is not removed at the stop" {
	start -l "unix:$D/s" greet
	rm "$D/s"
	echo mine > "$D/s"
	stop
	[ "$(cat "$D/s")" = mine ]
}

@test "a socket that another server put there meanwhile is not removed" {
	start -l "unix:$D/s" greet
	rm "$D/s"
	nc -lkU "$D/s" > /dev/null 2>&1 3>&- &
	other=$!
	wait_for test -S "$D/s"
	stop
	[ -S "$D/s" ]
	kill "$other"
}

@test "a Unix socket in a directory that is not there is refused" {
	refused "unix:$D/no/s: bind: No such file or directory" \
	    -l "unix:$D/no/s" greet
}

@test "a port in use is refused with its address" {
	start_greet
	refused "$ADDRESS: bind: Address already in use" \
	    -l "$ADDRESS" greet
	ask l | grep -q 'client #1 '
}

@test "a start that fails leaves the status of the last server as it was" {
	start_greet
	stop
	cksum "$STATUS"* > "$D/before"
	for i in 1 2; do
		start_quietly -l "unix:$D/no/s" greet
		ended 1
	done
	cksum "$STATUS"* | diff "$D/before" -
	status | grep -x 'state:  *stopped'
}

@test "a port in use leaves nothing of the sockets opened before it" {
	start_greet
	nc -lk 127.0.0.1 0 2> "$D/free" > /dev/null 3>&- -v &
	holder=$!
	wait_for grep -qE 'Listening|Bound' "$D/free"
	free=$(grep -oE '[0-9]+$' "$D/free" | tail -n 1)
	kill "$holder"
	wait_for gone "$holder"
	STATUS=$D/second LOG=$D/log2 \
	    refused "$ADDRESS: bind: Address already in use" \
	    -l "unix:$D/s" -l "127.0.0.1:$free" -l "$ADDRESS" greet
	[ ! -e "$D/s" ]
	[ -z "$(listening "$free")" ]
}

@test "a privileged port is refused to a user, with its address" {
	as_nobody
	grep -qx 1024 /proc/sys/net/ipv4/ip_unprivileged_port_start ||
	    skip 'low ports are open to all here'
	refused '127.0.0.1:81: bind: Permission denied (ports below 1024 need root)' \
	    -l 127.0.0.1:81 greet
}

@test "a user needs no root for other ports" {
	as_nobody
	start_greet
	ask l | grep -q 'client #1 '
}

@test "an address of another machine is refused with a hint" {
	refused '192.0.2.1:0: bind: Cannot assign requested address (must be an address of this machine)' \
	    -l 192.0.2.1:0 greet
}

@test "a backlog above somaxconn is warned about, and one below is not" {
	limit=$(cat /proc/sys/net/core/somaxconn)
	[ "$limit" -lt 65535 ] || skip 'somaxconn allows every backlog'
	start_greet -o "backlog $((limit + 1))"
	wait_for logged "backlog $((limit + 1)) of $ADDRESS is cut to $limit "
	stop
	rm "$LOG"
	start_greet -o "backlog $limit"
	not logged 'backlog'
	status | grep -E "^$ADDRESS +greet +0 +$limit$"
}

@test "a backlog is warned about at a reload too, once for each" {
	limit=$(cat /proc/sys/net/core/somaxconn)
	[ "$limit" -lt 65535 ] || skip 'somaxconn allows every backlog'
	printf '%s\n' 'service greet' 'listen 127.0.0.1:0' 'run greet' > "$D/conf"
	start -f "$D/conf"
	echo "backlog $((limit + 1))" >> "$D/conf"
	status reload
	wait_for logged "backlog $((limit + 1)) of $ADDRESS is cut to $limit "
	status reload
	[ "$(count_logged 'is cut to')" -eq 1 ]
}

@test "a cut backlog that was warned about is not said again by the program that an upgrade brings" {
	limit=$(cat /proc/sys/net/core/somaxconn)
	[ "$limit" -lt 65535 ] || skip 'somaxconn allows every backlog'
	start_greet -o "backlog $((limit + 1))"
	status upgrade
	wait_for logged 'notice: upgraded from='
	[ "$(count_logged 'is cut to')" -eq 1 ]
}

@test "the options of TCP are for TCP: a Unix socket of the same service does without" {
	start -l 127.0.0.1:0 -l "unix:$D/s" -o 'tcp-nodelay yes' \
	    -o 'tcp-keepalive 1m 10s 6' -o 'tcp-defer-accept 5s' \
	    -o 'tcp-user-timeout 30s' echo
	[ "$(ask x)" = x ]
	[ "$(echo x | timeout "$DEADLINE" nc -NU "$D/s")" = x ]
}

@test "bad options of TCP are told by line" {
	lines_refused <<-'END'
	tcp-nodelay 1|tcp-nodelay 1: must be one of no, yes
	tcp-keepalive 60s|tcp-keepalive 60s: must be IDLE INTERVAL COUNT, durations of 1s to 32767s
	tcp-keepalive 60s 10s|tcp-keepalive 60s 10s: must be IDLE
	tcp-keepalive 500ms 1s 6|tcp-keepalive 500ms 1s 6: must be IDLE
	tcp-keepalive 9h 10h 6|tcp-keepalive 9h 10h 6: must be IDLE
	tcp-keepalive 60s 10s 128|tcp-keepalive 60s 10s 128: must be IDLE
	tcp-keepalive 60s 10s 6 7|tcp-keepalive: 7 is too much
	tcp-defer-accept 2h|tcp-defer-accept 2h: must be 0 to 1h
	tcp-user-timeout 25h|tcp-user-timeout 25h: must be 0 to 24h
	END
}
