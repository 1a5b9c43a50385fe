# 34-handlers.bats: programs that mean harm, or know no better, behind exec.

load helper
load clients
load mischief

USER_OPTION=(-o 'workers-spare 2')

# serve COMMAND OPTION...: a shell program for each client.
serve() {
	local program=$1 o
	shift
	for o; do
		set -- "$@" -o "$o"
		shift
	done
	start -l 127.0.0.1:0 "$@" -- sh -c "$program"
}

# client [PORT]: a connection, as descriptor $C.
client() { exec {C}<> "/dev/tcp/127.0.0.1/${1:-$PORT}"; }

# ends_in MIN MAX: and the client meets the end so many ms after $BEGIN.
ends_in() {
	timeout "$DEADLINE" cat <&"$C" > "$D/rest" 2> "$D/rest.err" || true
	exec {C}<&-
	took "$BEGIN" "$1" "$2"
}

no_session() { [ -z "$(ps -o pid= --sid "$1" | tr -d ' ')" ]; }
is_dead() { ! kill -0 "$1" 2> /dev/null; }

@test "E01 a program that does not read is ended at connection-timeout" {
	serve 'exec sleep 300' 'connection-timeout 1s'
	BEGIN=$EPOCHREALTIME
	client
	head -c 10000000 /dev/zero 1>&"$C" 2> "$D/err" &
	ends_in 1000 4000
	wait_for logged 'end=connection-timeout first="" signal=SIGTERM'
	wait_for no_children
}

@test "E05 a program that ignores SIGTERM is killed a second later, with its children" {
	serve 'trap "" TERM; echo $$; sleep 300 & sleep 300; sleep 300' \
	    'connection-timeout 500ms'
	BEGIN=$EPOCHREALTIME
	client
	read -r pid <&"$C"
	ends_in 1500 4500
	wait_for logged 'end=connection-timeout first="" signal=SIGKILL'
	no_session "$pid"
	no_children
}

@test "a program whose time has passed is told, and so are its children" {
	serve 'trap : TERM; '\
'sh -c "trap \"echo told; exit\" TERM; echo here; sleep 300 & wait"; exit 4' \
	    'connection-timeout 500ms'
	client
	read -r here <&"$C"
	read -r -t "$DEADLINE" told <&"$C"
	[ "$here $told" = 'here told' ]
	wait_for logged 'end=connection-timeout first="" exit=4'
	exec {C}<&-
}

@test "idle-timeout is kept when no byte moves, and not before" {
	serve 'echo $$; exec cat' 'idle-timeout 1s'
	client
	read -r pid <&"$C"
	for i in 1 2 3; do
		sleep 0.6
		BEGIN=$EPOCHREALTIME
		echo "$i" >&"$C"
		read -r back <&"$C"
		[ "$back" = "$i" ]
	done
	ends_in 1000 4000
	wait_for logged 'in=6 out=.* end=idle-timeout first="" signal=SIGTERM'
}

@test "idle-timeout counts from the last byte, not from when that was seen" {
	serve 'echo $$; exec cat' 'idle-timeout 2s'
	client
	read -r pid <&"$C"
	BEGIN=$EPOCHREALTIME
	echo x >&"$C"
	ends_in 2000 3500
}

@test "idle-timeout is kept for a client that takes nothing of what is sent" {
	serve 'exec yes' 'idle-timeout 1s'
	BEGIN=$EPOCHREALTIME
	client
	wait_for logged 'end=idle-timeout first="" signal=SIGTERM'
	took "$BEGIN" 1000 4500
	exec {C}<&-
}

@test "first-byte-timeout ends the program of a silent client, and only that" {
	serve 'exec cat' 'first-byte-timeout 1s'
	BEGIN=$EPOCHREALTIME
	client
	speaker=$C
	echo x >&"$speaker"
	client
	ends_in 1000 4000
	wait_for logged 'in=0 .* end=first-byte-timeout first="" signal=SIGTERM'
	echo y >&"$speaker"
	read -r x <&"$speaker"
	read -r y <&"$speaker"
	[ "$x$y" = xy ]
	exec {speaker}<&-
}

@test "a Unix connection has its connection-timeout, and no idle-timeout" {
	open_directory
	start -l "unix:$D/socket" -o 'idle-timeout 200ms' \
	    -o 'connection-timeout 1s' -- sleep 300
	BEGIN=$EPOCHREALTIME
	timeout "$DEADLINE" nc -U "$D/socket" < /dev/null
	took "$BEGIN" 1000 4000
	wait_for logged 'closed .*in=0 out=0 end=connection-timeout'
}

# in_session N PID: N members or more.
in_session() { [ "$(ps -o pid= --sid "$2" | wc -l)" -ge "$1" ]; }

@test "R52 what is left of the session of a program ends with it" {
	serve 'echo $$; sleep 300 & (sleep 300 &); '\
'bash -c "set -m; sleep 300 & (sleep 300 &)"; read x'
	client
	read -r pid <&"$C"
	wait_for in_session 5 "$pid"
	BEGIN=$EPOCHREALTIME
	echo >&"$C"
	ends_in 0 2000
	no_session "$pid"
	no_children
}

# Programs that wait for a client may be there.
no_child_sleeps() {
	local w
	for w in $(workers); do
		not grep -q sleep <<<"$(ps -o comm= --ppid "$w")" || return 1
	done
}

# As recordio does, whose other half is the program's child.
last_words_arrive() {
	serve 'read -r x; { sleep 0.1; head -c 3000000 /dev/zero; echo last; exec sleep 300; } & exit 3' "$@"
	for i in 1 2 3; do
		client
		BEGIN=$EPOCHREALTIME
		echo >&"$C"
		ends_in 100 2000
		[ "$(wc -c < "$D/rest")" -eq 3000005 ]
	done
	wait_for logged 'client=3 .* out=3000005 .*exit=3'
	no_child_sleeps
}

@test "who hands the last words of a program on may do so when it has ended" {
	last_words_arrive
}

@test "the same of a program that was started before its client came" {
	last_words_arrive 'prespawn 1'
}

@test "what has left the session of a program is its own, and no zombie when it ends" {
	serve 'setsid sh -c "echo \$\$; exec sleep 300" & read x'
	for n in 1 2 3 4; do	# whoever watches it can still watch others
		client
		read -r pid <&"$C"
		BEGIN=$EPOCHREALTIME
		echo >&"$C"
		ends_in 0 2000		# although it has the connection
		wait_for logged "client=$n .*exit=0"
		kill "$pid"
		wait_for is_dead "$pid"
		wait_for no_children
	done
}

@test "R31 a grandchild that keeps the connection does not keep the client" {
	# it has left the session when it says its pid
	serve 'setsid sh -c "echo \$\$; exec sleep 300" & read -r x; exit 0'
	client
	read -r pid <&"$C"
	BEGIN=$EPOCHREALTIME
	echo >&"$C"
	ends_in 0 2000
	kill "$pid"
}

@test "R30 a reply of 1 MB arrives, with the request unread and descriptor 0 closed" {
	serve 'exec 0<&-; head -c 1000000 /dev/zero'
	for i in 1 2 3; do
		n=$(head -c 100000 /dev/zero | nc -N 127.0.0.1 "$PORT" | wc -c)
		[ "$n" -eq 1000000 ]
	done
	# in: what had come by the end of the program
	wait_for logged 'in=[0-9]+ out=1000000 end=served first="" exit=0'
}

@test "a program cannot keep its worker by what it does to the connection" {
	open_directory
	cat > "$D/prog" <<-'END'
import os, socket, struct
s = socket.socket(fileno=0)
s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 3600))
s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, 100000)
os.set_blocking(0, False)
s.send(b"x" * 10000000)
os._exit(0)
	END
	start -l 127.0.0.1:0 -o 'workers-max 1' -o 'workers-spare 1' \
	    -- python3 "$D/prog"
	client		# and reads nothing
	BEGIN=$EPOCHREALTIME
	second=$(head -c 1 < "/dev/tcp/127.0.0.1/$PORT")
	[ "$second" = x ]
	took "$BEGIN" 0 4000
	# when it has closed the first one, which might wait for the client
	wait_for has_few_descriptors "$(workers)"
	for i in 1 2; do
		[ "$(timeout "$DEADLINE" head -c 1 < "/dev/tcp/127.0.0.1/$PORT")" = x ]
	done
	exec {C}<&-
}

@test "E16 what a program does to itself is not there for the next one" {
	open_directory
	cat > "$D/prog" <<-'END'
	#!/bin/bash
	# no pipe, whose ends this shell has for a moment
	{ pwd; umask; ulimit -a; nice; set; ls /proc/$$/fd
	grep -E '^(Sig[A-Z]..|Cap...|NoNewPrivs|Seccomp):' /proc/$$/status; } > "$0.said"
	grep -vE '^(BASHPID|PPID|PREFORKD_CLIENT|PREFORKD_STRESS|TCPREMOTEPORT)=|^_=' "$0.said"
	cd /tmp
	umask 777
	ulimit -n 20 -s 100
	renice 19 $$ > /dev/null
	trap '' TERM HUP INT
	exec {a}> /dev/null
	END
	chmod 755 "$D/prog"
	: > "$D/prog.said"
	chmod 666 "$D/prog.said"
	start -l 127.0.0.1:0 -o 'workers-max 1' -o 'workers-spare 1' -- "$D/prog"
	ask x > "$D/first"
	ask x > "$D/second"
	[ "$(wc -l < "$D/first")" -gt 30 ]
	diff "$D/first" "$D/second"
}

@test "a stop gives a program drain-timeout, then ends it; nobody is killed" {
	serve 'echo $$; sleep 300 & wait' 'drain-timeout 1s'
	client
	read -r pid <&"$C"
	BEGIN=$EPOCHREALTIME
	kill -TERM "$M"
	ends_in 1000 4000
	ended 0
	wait_for logged 'end=drain-timeout first="" signal=SIGTERM'
	run -1 grep 'killing a worker' "$LOG"
	no_session "$pid"
}

@test "J13 a stop ends at drain-timeout although a program ignores SIGTERM" {
	serve 'trap "" TERM; echo $$; sleep 300; sleep 300' 'drain-timeout 1s'
	client
	read -r pid <&"$C"
	BEGIN=$EPOCHREALTIME
	kill -TERM "$M"
	ended 0
	took "$BEGIN" 1000 4000
	no_session "$pid"
	exec {C}<&-
}

@test "F11 a stop at once kills the programs, their children too" {
	for sig in INT QUIT; do
		serve 'trap "" TERM INT QUIT; echo $$; sleep 300 & (sleep 300 &); wait'
		client
		read -r pid <&"$C"
		wait_for in_session 3 "$pid"
		BEGIN=$EPOCHREALTIME
		stop $sig 2
		took "$BEGIN" 0 1000
		no_session "$pid"
		exec {C}<&-
	done
}

@test "F11 a second SIGTERM kills the programs, their children too" {
	serve 'trap "" TERM; echo $$; sleep 300 & wait'
	client
	read -r pid <&"$C"
	kill -TERM "$M"
	wait_for logged 'stopping, clients finish'
	BEGIN=$EPOCHREALTIME
	stop TERM 2
	took "$BEGIN" 0 1000
	no_session "$pid"
	exec {C}<&-
}

@test "A02 a worker that is killed takes its program with it, not what that has started" {
	serve 'sleep 300 & echo $$ $PPID $!; exec sleep 300'
	client
	read -r pid worker child <&"$C"
	kill -KILL "$worker"
	wait_for gone_or_zombie "$pid"
	wait_for has_workers 2
	kill "$child"
	exec {C}<&-
}

@test "B02 when the master has died a program has drain-timeout, then it ends" {
	EXPECT_DEAD=yes
	serve 'trap "" TERM; echo $$; sleep 300 & wait; sleep 300' 'drain-timeout 1s'
	client
	read -r pid <&"$C"
	BEGIN=$EPOCHREALTIME
	kill -KILL "$M"
	ends_in 1000 5000
	wait_for no_session "$pid"
	wait_for no_members
}

# serves_as UID: a program of one of the workers.
serves_as() {
	local w
	for w in $(workers); do
		ps -o euid= --ppid "$w"
	done | grep -qx " *$1"
}

@test "E14 a program with privileges of its own ends as any other" {
	[ "$(id -u)" -eq 0 ] || skip 'needs root'
	EXPECT_DEAD=yes
	open_directory
	cp "$(command -v sleep)" "$D/sleep"
	chmod 4755 "$D/sleep"
	if findmnt -n -o OPTIONS -T "$D" | grep -qw nosuid; then
		skip 'no set-user-ID programs here'
	fi
	start -l 127.0.0.1:0 -o 'new-privileges yes' -o 'drain-timeout 1s' \
	    -- "$D/sleep" 300
	client
	wait_for slots_are busy 1
	wait_for serves_as 0
	BEGIN=$EPOCHREALTIME
	kill -KILL "$M"
	ends_in 1000 5000
	wait_for no_members
}

@test "E15 a fork bomb with limits stays where it is, and a stop ends all of it" {
	[ "$(id -u)" -eq 0 ] || skip 'needs a user of its own'
	start -l 127.0.0.1:0 -o 'user 64123:64123' -o 'rlimit-nproc 100' \
	    -o 'drain-timeout 1s' -- \
	    bash -c 'f() { f & f & }; trap "" TERM; f; sleep 300' 
	client
	crowded() { [ "$(ps -o pid= -u 64123 | wc -l)" -ge 60 ]; }
	wait_for crowded
	BEGIN=$EPOCHREALTIME
	kill -TERM "$M"
	ended 0
	took "$BEGIN" 1000 4500
	nobody() { [ -z "$(ps -o pid= -u 64123)" ]; }
	wait_for nobody
	exec {C}<&-
}

@test "500 programs that crash, hang, flee and ignore: nothing of them is left" {
	mischief 500
}
