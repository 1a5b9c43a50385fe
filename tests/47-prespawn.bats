# 47-prespawn.bats: programs that wait for their clients.

load helper
load clients

USER_OPTION=(-o 'workers-spare 1' -o 'workers-min 1')

# serve COMMAND OPTION...: a shell program that waits, in one worker.
serve() {
	local program=$1 o
	local -a options=(-o 'workers-max 1' -o 'prespawn 1')
	shift
	for o; do options+=(-o "$o"); done
	start -l 127.0.0.1:0 "${options[@]}" -- sh -c "$program"
}

client() { exec {C}<> "/dev/tcp/127.0.0.1/$PORT"; }
programs() { ps -o pid= --ppid "$(one_worker)" | tr -d ' '; }
waiting() { [ "$(programs | wc -l)" -eq "$1" ]; }
other_than() { waiting 1 && [ "$(programs)" != "$1" ]; }
descriptors() { find "/proc/$(one_worker)/fd" -mindepth 1 | wc -l; }

# slow CALL PID [OPTION]: each takes a second longer, until fast.
slow() {
	strace "${@:3}" -qq -o "$D/trace" -e "trace=$1" \
	    -e "inject=$1:delay_enter=1000000" -p "$2" 3>&- 8>&- &
	SLOW=$!
	wait_for traced "$2"
}
fast() { kill "$SLOW" || true; wait "$SLOW" || true; }
traced() { ! grep -q '^TracerPid:	0$' "/proc/$1/status"; }

# A program with a child, whose sessions are in $D/sessions.
family() { echo 'echo $$ >> '"$D/sessions; sleep 300 & ${1:-exec cat}"; }
open_family() { open_directory; : > "$D/sessions"; chmod 666 "$D/sessions"; }
families() { paste -sd , "$D/sessions"; }
families_are() { [ "$(wc -l < "$D/sessions")" -ge "$1" ]; }

has_children() { [ "$(ps -o pid= --ppid "$2" | wc -l)" -eq "$1" ]; }

@test "a program waits in each idle worker, gets the next client, and has a successor" {
	start -l 127.0.0.1:0 -o 'workers-spare 3' -o 'workers-min 3' \
	    -o 'workers-max 3' -o 'prespawn 2' -- cat
	wait_for has_workers 3
	for w in $(workers); do
		wait_for has_children 2 "$w"
	done
	ps -o pid= --ppid "$(workers | paste -sd ,)" > "$D/before"
	client
	echo hello >&"$C"
	read -r back <&"$C"
	[ "$back" = hello ]
	exec {C}<&-
	wait_for logged 'closed .* in=6 out=6 end=served .* exit=0$'
	all_wait() { [ "$(ps -o pid= --ppid "$(workers | paste -sd ,)" | wc -l)" -eq 6 ]; }
	wait_for all_wait
	[ "$(ps -o pid= --ppid "$(workers | paste -sd ,)" |
	    grep -cxFf "$D/before")" -eq 5 ]
}

@test "E11 E12 E13 it has a socket as 0 and 1, its log as 2, no signal ignored, and no peer" {
	serve 'ls -l /proc/$$/fd; env; exec grep -E "^Sig(Blk|Ign)" /proc/self/status'
	ask x > "$D/reply"
	[ "$(grep -cE ' [01] -> socket:' "$D/reply")" -eq 2 ]
	[ "$(grep -cE ' 2 -> pipe:' "$D/reply")" -eq 1 ]
	[ "$(grep -cE ' [0-9]+ -> ' "$D/reply")" -eq 3 ]
	[ "$(awk '/^Sig/ { print $2 }' "$D/reply" | sort -u)" = 0000000000000000 ]
	grep -E '^[A-Z_]+=' "$D/reply" | grep -vE '^(PWD|OLDPWD|SHLVL|_)=' |
	    sort > "$D/env"
	printf '%s\n' PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
	    PREFORKD_SERVICE=sh | diff - "$D/env"
	stop
	# without a shell, which unblocks all
	start -l 127.0.0.1:0 -o 'prespawn 1' -- grep ^SigBlk /proc/self/status
	[ "$(ask x | xargs)" = 'SigBlk: 0000000000000000' ]
}

@test "what it says before its client comes is kept for the client" {
	serve 'echo early; echo complaint >&2; read x; echo "late $x"'
	client
	read -r first <&"$C"
	[ "$first" = early ]
	echo now >&"$C"
	read -r second <&"$C"
	[ "$second" = 'late now' ]
	exec {C}<&-
	wait_for logged 'program says service=sh client=1 pid=[0-9]* text="complaint"'
}

@test "one that has said all and ended well waits on as its words, without a process" {
	: > "$D/count"
	chmod 666 "$D/count"
	open_directory
	serve "echo >> '$D/count'; echo \$\$ said"
	all_said() { [ "$(wc -l < "$D/count")" -eq "$1" ] && waiting 0; }
	for i in 1 2 3 4; do
		wait_for all_said "$i"	# each for a client, none in vain
		ask x
	done > "$D/replies"
	[ "$(grep -c said "$D/replies")" -eq 4 ]
	[ "$(sort -u "$D/replies" | wc -l)" -eq 4 ]
	wait_for logged 'client=4 .*end=served .* exit=0$'
	wait_for all_said 5
	[ "$(count_logged error)" -eq 0 ]
}

@test "so it does when that was while another had a client, for as long as it may be" {
	open_directory
	serve "echo \$\$; until [ -e '$D/go.'\$\$ ]; do sleep 0.1; done; echo said" \
	    'prespawn 2'
	wait_for waiting 2
	client
	read -r busy <&"$C"
	other=$(programs | grep -vx "$busy")
	touch "$D/go.$other"
	wait_for gone "$other"
	sleep 5			# more than the life of a program that has said all
	touch "$D/go.$busy"
	timeout "$DEADLINE" cat <&"$C"
	exec {C}<&-
	[ "$(ask x | xargs)" = "$other said" ]
}

@test "one that is killed while it waits is replaced, and told of in the log" {
	serve 'exec cat'
	wait_for waiting 1
	p=$(programs)
	kill -KILL "$p"
	wait_for other_than "$p"
	wait_for logged 'error: exec sh service=sh failures=1: signal=SIGKILL while it waited'
	[ "$(ask x)" = x ]
}

@test "those that are killed together are replaced together, and held back as one" {
	serve 'exec cat' 'prespawn 16'
	for i in 1 2 3; do
		wait_for waiting 16
		mapfile -t killed < <(programs)
		kill -KILL "${killed[@]}"
		for p in "${killed[@]}"; do wait_for gone "$p"; done
	done
	wait_for waiting 16	# 0.1 s for each now; not 30 s for the first
	[ "$(ask x)" = x ]
}

@test "A07 programs that die at once are tried less and less often; clients are served" {
	open_directory
	cat > "$D/prog" <<-END
	#!/bin/sh
	echo >> $D/count
	echo why >&2
	test -e $D/ready && exec cat
	exit 3
	END
	chmod 755 "$D/prog"
	: > "$D/count"
	chmod 666 "$D/count"
	BEGIN=$EPOCHREALTIME
	start -l 127.0.0.1:0 -o 'workers-max 1' -o 'prespawn 1' -- "$D/prog"
	wait_for logged 'exec .*prog service=prog failures=[0-9]+: exit=3 while it waited'
	many() { [ "$(wc -l < "$D/count")" -ge 6 ]; }
	wait_for many			# 3 at once, then 0.1, 0.2, 0.4 s, less a quarter
	took "$BEGIN" 500 20000
	[ "$(count_logged 'exit=3 while')" -le $(($(since "$BEGIN") / 1000000 + 2)) ]
	wait_for logged 'client=0 pid=[0-9]* text="why"'
	[ -z "$(ask x)" ]
	wait_for logged 'client=1 .*exit=3$'
	touch "$D/ready"
	served() { [ "$(ask x)" = x ]; }
	wait_for served		# the first may get one that was dying
	wait_for waiting 1
}

@test "C15 a program that is gone costs a line a second, and each client an end" {
	open_directory
	cp "$(type -P cat)" "$D/prog"
	start -l 127.0.0.1:0 -o 'workers-max 1' -o 'prespawn 1' -- "$D/prog"
	w=$(workers)
	BEGIN=$SECONDS
	rm "$D/prog"
	[ "$(ask x)" = x ]		# by the one that was waiting
	for i in 2 3 4 5; do [ -z "$(ask x)" ]; done
	wait_for logged 'exec .*/prog service=prog failures=[0-9]+: No such file'
	[ "$(count_logged 'error: exec')" -le $((SECONDS - BEGIN + 1)) ]
	cp "$(type -P cat)" "$D/prog"
	[ "$(ask x)" = x ]
	[ "$(workers)" = "$w" ]
}

@test "D05 the end of the input reaches the program, and its answer the client" {
	serve 'wc -c; echo done'
	[ "$(head -c 1000000 /dev/zero | timeout 20 nc -N 127.0.0.1 "$PORT" | xargs)" = \
	    '1000000 done' ]
}

@test "the end of the output reaches the client, who still can send" {
	open_directory
	cat > "$D/prog.py" <<-'END'
	import socket, sys
	s = socket.socket(fileno=0)
	s.sendall(b"all\n")
	s.shutdown(socket.SHUT_WR)
	n = 0
	while True:
	    b = s.recv(65536)
	    if not b: break
	    n += len(b)
	print(n, file=sys.stderr)
	END
	serve "exec python3 $D/prog.py"
	timeout 20 python3 - "$PORT" <<-'END'
	import socket, sys
	c = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
	assert c.recv(10) == b"all\n"
	assert c.recv(10) == b""
	c.sendall(b"x" * 500000)
	END
	wait_for logged 'program says .* text="500000"'
	wait_for logged 'in=500000 out=4 end=served .* exit=0'
}

@test "100 MB go both ways at once, and each byte arrives" {
	serve 'exec cat'
	timeout 60 python3 - "$PORT" "$(often 20 100)" <<-'END'
	import hashlib, os, socket, sys, threading
	c = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
	block = os.urandom(1000003)
	sent = hashlib.sha1()
	def send():
	    for i in range(int(sys.argv[2])):
	        piece = block[i:] + block[:i]
	        sent.update(piece)
	        c.sendall(piece)
	    c.shutdown(socket.SHUT_WR)
	t = threading.Thread(target=send)
	t.start()
	got = hashlib.sha1()
	while True:
	    b = c.recv(1 << 20)
	    if not b: break
	    got.update(b)
	t.join()
	assert got.digest() == sent.digest()
	END
	n=$(($(often 20 100) * 1000003))
	wait_for logged "in=$n out=$n end=served"
}

@test "what a program has written when it ends is not lost on a slow client" {
	open_directory
	# until all is full between it and a client that reads nothing
	cat > "$D/prog.py" <<-'END'
	import os, socket, subprocess, sys, time
	stray = subprocess.Popen(["sleep", "300"], start_new_session=True)
	s = socket.socket(fileno=0)
	s.sendall(b"%6d %6d\n" % (os.getpid(), stray.pid))
	s.recv(1)
	s.setblocking(False)
	n = full = 0
	while full < 20:
	    try:
	        n += s.send(b"x" * 50000)
	        full = 0
	    except BlockingIOError:
	        full += 1
	        time.sleep(0.01)
	print(n, file=sys.stderr, flush=True)
	os._exit(5)
	END
	serve "exec python3 $D/prog.py"
	timeout 30 python3 - "$PORT" > "$D/got" <<-'END'
	import os, socket, sys, time
	c = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
	program, stray = c.recv(14, socket.MSG_WAITALL).decode().split()
	print(stray)
	c.sendall(b"go\nand more that nobody reads")
	while os.path.exists("/proc/" + program): time.sleep(0.01)
	n = 0
	while True:
	    b = c.recv(65536)
	    if not b: break
	    n += len(b)
	print(n)
	END
	{ read -r stray; read -r n; } < "$D/got"
	wait_for logged "program says .* text=\"$n\""
	wait_for logged "out=$((n + 14)) end=served .* exit=5"
	kill "$stray"
}

@test "D04 a client that takes nothing holds the program up, and meets idle-timeout" {
	serve 'exec yes' 'idle-timeout 1s'
	BEGIN=$EPOCHREALTIME
	client
	wait_for logged 'end=idle-timeout first="" signal=SIG(TERM|PIPE)'
	took "$BEGIN" 1000 5000
	exec {C}<&-
	rss=$(awk '/^VmRSS/ { print $2 }' "/proc/$(one_worker)/status")
	[ -n "${SANITIZE:-}" ] || [ "$rss" -lt 8000 ]
}

@test "D09 a client that resets the connection is the end of both ways" {
	serve 'cat > /dev/null; echo over >&2; exec yes'
	timeout 20 python3 - "$PORT" <<-'END'
	import socket, struct, sys
	c = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
	c.sendall(b"x" * 100000)
	c.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
	c.close()
	END
	wait_for logged 'end=reset .* signal=SIGPIPE'
	wait_for logged 'text="over"'
}

# The program's next word meets a reset while much is on its way to it.
@test "what a client has sent that left without reading is still the program's" {
	: > "$D/got"
	chmod 666 "$D/got"
	open_directory
	serve "echo hello; sleep 0.5; echo again; sleep 0.1; cat > '$D/got'"
	timeout "$DEADLINE" python3 - "$PORT" <<-'END'
	import fcntl, socket, struct, sys, termios, time
	s = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
	s.sendall(b"x" * 450000)
	while struct.unpack("i", fcntl.ioctl(s, termios.TIOCOUTQ, b"1234"))[0]:
	    time.sleep(0.001)
	s.recv(1)
	s.close()	# with bytes unread: a reset
	END
	wait_for logged 'closed .*in=450000 .*end=reset'
	[ "$(stat -c %s "$D/got")" -eq 450000 ]
}

@test "first-byte-timeout and connection-timeout end a program that has a client" {
	serve 'trap "" TERM; cat; sleep 300' 'first-byte-timeout 500ms' \
	    'connection-timeout 1s'
	BEGIN=$EPOCHREALTIME
	client
	timeout 10 cat <&"$C" > "$D/rest" || true
	took "$BEGIN" 1500 5000
	exec {C}<&-
	wait_for logged 'in=0 out=0 end=first-byte-timeout .*signal=SIGKILL'
	client
	echo x >&"$C"
	timeout 10 cat <&"$C" > "$D/rest" || true
	exec {C}<&-
	wait_for logged 'in=2 out=2 end=connection-timeout .*signal=SIGKILL'
}

@test "D03 min-rate ends a program whose client drips, and not one that keeps pace" {
	serve 'exec cat' 'min-rate 1000/500ms'
	BEGIN=$EPOCHREALTIME
	client
	while echo x >&"$C"; do sleep 0.05; done 2> "$D/err" 3>&- &
	wait_for logged 'end=too-slow .*signal=SIGTERM'
	took "$BEGIN" 500 3500
	kill $!
	exec {C}<&-
	[ "$(head -c 200000 /dev/zero | timeout "$DEADLINE" nc -N 127.0.0.1 "$PORT" |
	    wc -c)" -eq 200000 ]
}

@test "exec-stderr socket gives the client what its program says, also before it came" {
	serve 'echo early >&2; cat; echo late >&2' 'exec-stderr socket'
	[ "$(ask x | xargs)" = 'early x late' ]
	wait_for logged 'in=2 out=13 end=served .* exit=0'
	[ "$(count_logged says)" -eq 0 ]
}

@test "J13 a stop gives a program that is relayed drain-timeout, then ends it" {
	serve 'echo $$; exec cat' 'drain-timeout 1s'
	client
	read -r pid <&"$C"
	BEGIN=$EPOCHREALTIME
	kill -TERM "$M"
	echo x >&"$C"
	read -r back <&"$C"
	[ "$back" = x ]
	timeout 10 cat <&"$C"
	took "$BEGIN" 1000 4000
	exec {C}<&-
	ended 0
	wait_for logged 'out=.* end=drain-timeout .*signal=SIGTERM'
	gone "$pid"
}

@test "a Unix connection is counted, and has its idle-timeout" {
	open_directory
	start -l "unix:$D/socket" -o 'prespawn 1' -o 'log-connections end' \
	    -o 'idle-timeout 1s' -- cat
	BEGIN=$EPOCHREALTIME
	timeout "$DEADLINE" python3 - "$D/socket" <<-'END'
	import socket, sys
	s = socket.socket(socket.AF_UNIX)
	s.connect(sys.argv[1])
	s.sendall(b"hello\n")
	while s.recv(100): pass
	END
	took "$BEGIN" 1000 9000
	wait_for logged 'in=6 out=6 end=idle-timeout'
}

@test "a reload ends those that wait, and has new ones; a worker killed takes its own along" {
	# one that does not end with its input
	serve 'read x || exec sleep 300; echo "$x"'
	wait_for waiting 1
	p=$(programs)
	kill -HUP "$M"
	wait_for logged 'reloaded generation=2'
	wait_for gone "$p"
	wait_for waiting 1
	p=$(programs)
	kill -KILL "$(one_worker)"
	wait_for gone "$p"
	[ "$(ask x)" = x ]
}

@test "a reload changes how many wait" {
	conf() {
		printf '%s\n' 'service a' "listen $1" 'exec cat' 'workers-max 1' \
		    "prespawn $2" > "$D/conf"
	}
	conf 127.0.0.1:0 1
	start -f "$D/conf"
	wait_for waiting 1
	for n in 3 0 2; do
		conf "$ADDRESS" "$n"
		kill -HUP "$M"
		wait_for has_workers 1
		wait_for waiting "$n"
		[ "$(ask x)" = x ]
	done
}

@test "a stop lets the client finish, and ends those that wait at once" {
	open_directory
	: > "$D/told"
	chmod 666 "$D/told"
	serve "trap 'echo \$\$ >> $D/told; exit' TERM; echo \$\$; cat" 'prespawn 2'
	wait_for waiting 2
	client
	read -r busy <&"$C"
	idle=$(programs | grep -vx "$busy")
	kill -TERM "$M"
	wait_for gone "$idle"
	[ "$(< "$D/told")" = "$idle" ]
	echo x >&"$C"
	read -r back <&"$C"
	[ "$back" = x ]
	exec {C}<&-
	ended 0
}

@test "E05 one that waits and ignores SIGTERM is killed while a client is served" {
	serve 'trap "" TERM; echo $$; cat; sleep 300' 'prespawn 2'
	wait_for waiting 2
	client
	read -r busy <&"$C"
	idle=$(programs | grep -vx "$busy")
	BEGIN=$EPOCHREALTIME
	kill -TERM "$M"
	wait_for gone "$idle"
	took "$BEGIN" 1000 4000
	echo x >&"$C"
	read -r back <&"$C"
	[ "$back" = x ]
	exec {C}<&-
	stop INT 2
}

@test "what those that wait have complained of is in the log when their worker leaves" {
	serve 'echo complaint >&2; echo ready; exec cat' 'prespawn 2'
	wait_for waiting 2
	spoken() {
		local p
		for p in $(programs); do
			[ "$(< "/proc/$p/comm")" = cat ] || return 1
		done
	}
	wait_for spoken
	stop
	[ "$(count_logged 'program says .* client=0 .*text="complaint"')" -eq 2 ]
}

@test "E05 one that waits and ignores SIGTERM is killed with its children" {
	serve 'trap "" TERM; sleep 300; sleep 300'
	members() { ps -o pid= --sid "$1" | wc -l; }
	wait_for waiting 1
	p=$(programs)
	two() { [ "$(members "$p")" -ge 2 ]; }
	wait_for two
	BEGIN=$EPOCHREALTIME
	stop
	took "$BEGIN" 0 5000
	[ "$(members "$p")" -eq 0 ]
}

@test "F11 the word to leave, or at once, is not slept through while programs are started" {
	serve 'exec cat'
	for n in 1 2; do
		wait_for waiting 1
		w=$(one_worker)
		slow vfork "$w"
		[ "$(ask x)" = x ]
		wait_for logged "closed .*client=$n "
		wait_for slots_are idle 1
		kill -"$([ $n -eq 1 ] && echo QUIT || echo TERM)" "$w"
		wait_for gone "$w"
		fast
	done
}

@test "F11 nor by a worker that is not ready yet" {
	serve 'exec cat' 'log-level debug'
	wait_for waiting 1
	slow close_range "$M" -f
	kill -KILL "$(one_worker)"
	born() { [ "$(count_logged 'worker born')" -ge 2 ]; }
	wait_for born
	w=$(sed -nE 's/.* worker born pid=([0-9]+) .*/\1/p' "$LOG" | tail -n 1)
	kill -QUIT "$w"
	wait_for gone "$w"
	fast
}

@test "F11 nor while it waits for a client that lingers: no program is left" {
	open_family
	serve "$(family 'read x')"
	client
	yes >&"$C" 2> "$D/err" 3>&- &
	wait_for logged 'closed .*end=served'
	w=$(one_worker)
	mine=$(families)
	kill -QUIT "$w"
	wait_for gone "$w"		# while the client goes on
	[ -z "$(ps -o pid= --sid "$mine")" ]
	exec {C}<&-
}

@test "F11 nor while it waits for the word of a proxy" {
	open_family
	printf '%s\n' 'service a' 'listen 127.0.0.1:0' 'prespawn 1' \
	    'workers-max 1' 'proxy-protocol from 127.0.0.1' "exec sh -c \"$(family)\"" > "$D/conf"
	start -f "$D/conf"
	wait_for families_are 1
	client
	wait_for slots_are busy 1
	w=$(one_worker)
	mine=$(families)
	BEGIN=$EPOCHREALTIME
	kill -QUIT "$w"
	wait_for gone "$w"
	took "$BEGIN" 0 2500		# of 3 s that a header may take
	[ -z "$(ps -o pid= --sid "$mine")" ]
	exec {C}<&-
}

@test "1,000 connections leave no process and no descriptor" {
	serve 'read x; case $x in a) exit 1;; b) kill -9 $$;; c) (setsid sleep 0.1 &);; d) exec <&- >&-;; esac; echo "$x"'
	wait_for slots_are idle 1
	before=$(descriptors)
	for i in $(seq "$(often 15 250)"); do
		for x in a b c d; do ask "$x" > "$D/reply" || true; done
	done
	wait_for waiting 1
	same() { [ "$(descriptors)" -eq "$before" ]; }
	wait_for same || { echo "$before, then $(descriptors)"; false; }
}

@test "prespawn is refused where it means nothing, and beyond its bounds" {
	while IFS='|' read -r kind line why; do
		printf 'service a\nlisten :0\n%s\n%s\n' "$kind" "$line" > "$D/conf"
		run -1 "$PREFORKD" -n -f "$D/conf"
		[[ $output == "preforkd: $D/conf:4: $why"* ]] || {
			echo "$line: $output"
			false
		}
	done <<-'END'
	run greet|prespawn 1|service a: prespawn: must be in a service of exec
	resident sleep 1|prespawn 1|service a: prespawn: must be in a service of exec
	exec cat|prespawn 17|prespawn 17: must be 0 to 16
	exec cat|prespawn -1|prespawn -1: must be 0 to 16
	exec cat|prespawn x|prespawn x: must be 0 to 16
	exec cat|prespawn|prespawn "": must
	END
	printf '10.:allow,A="b"\n' > "$D/rules"
	printf 'service a\nlisten :0\nexec cat\nprespawn 1\nrules %s\n' \
	    "$D/rules" > "$D/conf"
	run -1 "$PREFORKD" -n -f "$D/conf"
	[[ $output == "preforkd: $D/rules:1: "*'must not be there: programs of prespawn start before their clients' ]]
	printf 'service a\nlisten :0\nexec cat\nprespawn 16\nrlimit-nofile 60\n' > "$D/conf"
	run -1 "$PREFORKD" -n -f "$D/conf"
	[[ $output == "preforkd: $D/conf:5: service a: rlimit-nofile 60: must be at least 83, for prespawn 16" ]]
}
