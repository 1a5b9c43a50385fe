# 33-exec.bats: a program for each connection.

load helper
load clients

# serve COMMAND: a shell program for each client.
serve() { start -l 127.0.0.1:0 -- sh -c "$1"; }

@test "preforkd -d -l ADDRESS -- cat just works" {
	start -l 127.0.0.1:0 -- cat
	[ "$(ask hello)" = hello ]
	[ "$(status | awk '/^SERVICE/ { getline; print $1 }')" = cat ]
}

@test "an argument stays one word, whatever it holds" {
	start -l 127.0.0.1:0 -- printf '<%s>' 'a b' '"\' '#' '' '$x'
	[ "$(ask x)" = '<a b><"\><#><><$x>' ]
	kill -HUP "$M"
	wait_for logged 'reloaded generation=2'
	[ "$(ask x)" = '<a b><"\><#><><$x>' ]
}

@test "E11 a program has the connection as 0 and 1, its log as 2, and nothing else" {
	exec 30< /dev/null 31< /dev/null 32< /dev/null 33< /dev/null 34< /dev/null
	start -l 127.0.0.1:0 -- ls -l /proc/self/fd
	for i in 30 31 32 33 34; do exec {i}<&-; done
	has_descriptors 'socket 1: socket 2: pipe'
	kill -HUP "$M"
	wait_for logged 'reloaded generation=2'
	has_descriptors 'socket 1: socket 2: pipe'
	stop
	start -l 127.0.0.1:0 -o 'exec-stderr socket' -- ls -l /proc/self/fd
	has_descriptors 'socket 1: socket 2: socket'
}

# has_descriptors LIST: 0, and so on; the last is that of ls for the directory.
has_descriptors() {
	[ "$(ask x | sed -nE 's/.* ([0-9]+) -> ([a-z/]*).*/\1: \2/p' |
	    xargs)" = "0: $1 3: /proc/" ]
}

@test "E12 a program starts with no signal ignored or blocked" {
	(
		trap '' INT QUIT PIPE HUP USR1
		exec 3>&-
		# 32 and 33, which make(1) ignores and sigaction(3) knows not
		setsid python3 -c 'import ctypes, os, sys
ignore = (ctypes.c_ulong * 4)(1)
for n in 32, 33:
    ctypes.CDLL(None).syscall(13, n, ignore, None, 8)
os.execv(sys.argv[1], sys.argv[1:])' "$PREFORKD" -d -1 -o "status-file $STATUS" \
		    -l 127.0.0.1:0 -- grep -E '^Sig(Blk|Ign)' /proc/self/status \
		    > "$D/addresses" 2>> "$LOG" < /dev/null &
		echo $! > "$D/pid"
	)
	M=$(< "$D/pid")
	STARTED+=("$M")
	wait_for started
	PORT=$(sed 's/.*://' "$D/addresses")
	BASE_FDS=$(master_fds)
	[ "$(ask x | awk '{ print $2 }' | sort -u)" = 0000000000000000 ]
}

# Meanwhile the worker ignores SIGCHLD, for who has left the program's session.
@test "R14 E12 so does one that follows one that has left somebody behind" {
	start -l 127.0.0.1:0 -o 'workers-max 1' -- sh -c \
	    'setsid sleep 300 & echo $!; exec grep -E "^Sig(Blk|Ign)" /proc/self/status'
	ignores() { grep -qx 'SigIgn:	0000000000010000' "/proc/$(workers)/status"; }
	for i in 1 2 3; do
		ask x
		wait_for ignores
	done > "$D/replies"
	grep -E '^[0-9]' "$D/replies" | xargs kill
	[ "$(grep -c '^Sig' "$D/replies")" -eq 6 ]
	[ "$(awk '/^Sig/ { print $2 }' "$D/replies" | sort -u)" = 0000000000000000 ]
}

@test "E13 the environment is built anew" {
	cat > "$D/conf" <<-END
	service env
	listen 127.0.0.1:0
	exec env
	env A=1
	env "B=two words"
	env PATH=/bin
	END
	SECRET=x start -f "$D/conf"
	ask x | sort > "$D/env"
	grep -vE '^TCP(LOCAL|REMOTE)PORT=' "$D/env" | diff - /dev/fd/4 4<<-END
	A=1
	B=two words
	PATH=/bin
	PREFORKD_CLIENT=1
	PREFORKD_SERVICE=env
	PROTO=TCP
	TCPCONNNUM=1
	TCPLOCALIP=127.0.0.1
	TCPREMOTEIP=127.0.0.1
	END
	grep -qx "TCPLOCALPORT=$PORT" "$D/env"
	grep -qE '^TCPREMOTEPORT=[1-9][0-9]*$' "$D/env"
}

@test "200 variables reach the program, and one more is refused" {
	printf '%s\n' 'service env' 'listen 127.0.0.1:0' 'exec env' > "$D/conf"
	for i in {1..200}; do echo "env V$i=$i"; done >> "$D/conf"
	start -f "$D/conf"
	ask x > "$D/env"
	[ "$(grep -c '^V' "$D/env")" -eq 200 ]
	grep -q '^TCPREMOTEPORT=' "$D/env"
	stop
	what="service env: env: must be at most 200 variables of 16384 bytes in all, each name of at most 255"
	echo 'env ONE=more' >> "$D/conf"
	run "$PREFORKD" -n -f "$D/conf"
	[ "$status" -eq 1 ]
	[ "$output" = "preforkd: $D/conf:204: $what" ]
	long=$(printf '%0300d' 1)
	for line in "env N${long:45}=x" "$(yes "env A=$long$long" | head -n 28 |
	    awk '{ sub("A", "A" NR); print }')"; do
		printf '%s\n' 'service env' 'listen 127.0.0.1:0' 'exec env' "$line" > "$D/conf"
		run "$PREFORKD" -n -f "$D/conf"
		[ "$status" -eq 1 ]
		[[ "$output" == *"$what" ]]
	done
}

@test "the environment tells the ends of an IPv6 and of a Unix connection" {
	cat > "$D/conf" <<-END
	service env
	listen [::1]:0
	listen unix:$D/socket
	exec env
	END
	chmod 755 "$D"
	start -f "$D/conf"
	nc -N ::1 "$PORT" < /dev/null > "$D/env"
	grep -qx 'PROTO=TCP' "$D/env"
	grep -qx 'TCPREMOTEIP=::1' "$D/env"
	nc -NU "$D/socket" < /dev/null > "$D/env"
	grep -qx 'PROTO=IPC' "$D/env"
	grep -qx "IPCLOCALPATH=$D/socket" "$D/env"
	grep -qx "IPCREMOTEEUID=$(id -u)" "$D/env"
	run -1 grep TCP "$D/env"
}

@test "C15 a program that cannot be executed is an error of the configuration" {
	for each in nosuch /nosuch "$D" "$D/plain"; do
		: > "$D/plain"
		run -1 "$PREFORKD" -n -l 127.0.0.1:0 -- "$each"
		[ "${#lines[@]}" -eq 1 ]
		[[ $output == "preforkd: command line: service "*": exec $each: "* ]]
	done
	printf 'service a\nlisten :0\n\nexec nosuch\n' > "$D/conf"
	run -1 "$PREFORKD" -n -f "$D/conf"
	[[ $output == "preforkd: $D/conf:4: service a: exec nosuch: not found in "* ]]
}

@test "C15 a reload refuses a program that is not there" {
	printf 'service a\nlisten 127.0.0.1:0\nexec cat\n' > "$D/conf"
	start -f "$D/conf"
	echo 'exec nosuch' >> "$D/conf"
	sed -i '/exec cat/d' "$D/conf"
	kill -HUP "$M"
	wait_for logged "reload failed.*$D/conf:3: service a: exec nosuch: not found"
	[ "$(ask x)" = x ]
}

@test "a service runs, execs or has a module: one of them" {
	printf 'service a\nlisten :0\nrun greet\nexec cat\n' > "$D/conf"
	run -1 "$PREFORKD" -n -f "$D/conf"
	[ "$output" = "preforkd: $D/conf:1: service a: must have one of run, exec, resident and module, not 2 of them" ]
	printf 'run greet\nservice a\nlisten :0\nexec cat\n' > "$D/conf"
	"$PREFORKD" -nn -f "$D/conf" > "$D/dump"
	grep -qx '	exec cat' "$D/dump"
	run -1 grep -w run "$D/dump"
}

@test "bad commands and variables are told by line" {
	lines_refused '#' <<-'END'
	exec|exec "": must be a program
	exec bin/cat|exec bin/cat: must be a program
	exec ""|exec "": must be a program
	module cat|module cat: must be an absolute path
	env A|env A: must be NAME=VALUE
	env =A|env =A: must be NAME=VALUE
	env A=1 B=2|env: B=2 is too much
	END
	printf 'exec cat\nservice a\nlisten :0\n' > "$D/conf"
	run -1 "$PREFORKD" -n -f "$D/conf"
	[[ $output == *"$D/conf:1: exec: must come after a service line" ]]
	run -64 "$PREFORKD" -n -l :0 --
	run -1 "$PREFORKD" -n -l :0 -- cat $'a\nb'
	[[ $output == *'argument 1: must be without control characters' ]]
	# shellcheck disable=SC2046
	run -1 "$PREFORKD" -n -l :0 -- cat $(seq 300)
	[[ $output == *'arguments: must be at most 254'* ]]
}

@test "the log has the exit of a program, decoded, and the bytes" {
	serve 'read x; echo got "$x"; eval "$x"'
	while IFS="|" read -r what how; do
		ask "$what" > "$D/reply"
		wait_for logged "in=$((${#what} + 1)) out=$((${#what} + 5)) end=served first=\"\" $how\$"
	done <<-'END'
	exit 0|exit=0
	exit 3|exit=3
	exit 100|exit=100
	exit 111|exit=111
	kill -SEGV $$|signal=SIGSEGV
	kill -TERM $$|signal=SIGTERM
	END
	status workers | grep -q ' idle '
}

@test "TCPCONNNUM counts the connections of an address to its service" {
	cat > "$D/conf" <<-'END'
	service one
	listen 127.0.0.1:0
	exec sh -c "echo $TCPCONNNUM; read x"
	service two
	listen 127.0.0.1:0
	exec printenv TCPCONNNUM
	END
	start -f "$D/conf"
	c=()
	for i in 1 2 3; do
		exec {c[i]}<> "/dev/tcp/127.0.0.1/$PORT"
		read -r n <&"${c[i]}"
		[ "$n" = "$i" ]
	done
	[ "$(ask x "${ADDRESSES[1]##*:}")" = 1 ]
	other=$(echo x | timeout "$DEADLINE" nc -N -s 127.0.0.2 127.0.0.1 "$PORT")
	[ "$other" = 1 ]
	for i in 1 2 3; do
		exec {c[i]}<&-
	done
	wait_for slots_are busy 0
	[ "$(ask x)" = 1 ]
}

# fails_by REASON: of $D/prog: the client meets the end, the log has the reason; all of it
# goes on.
# Each client meets an end; the log has a line a second.
fails_with() {
	[ -z "$(ask x)" ] &&
	    logged "error: exec $D/prog service=prog failures=[0-9]+: $1\$"
}

fails_by() {
	wait_for fails_with "$1"
	wait_for logged 'end=failed first=""$'
}

@test "C15 a program that is gone or spoilt: the client meets the end, the log says why" {
	open_directory
	printf '#!/bin/sh\necho fine\n' > "$D/prog"
	chmod 755 "$D/prog"
	cp "$D/prog" "$D/good"
	start -l 127.0.0.1:0 -o 'workers-spare 1' -o 'workers-max 1' \
	    -- "$D/prog"
	w=$(workers)
	rm "$D/prog"
	fails_by 'No such file or directory'
	cp "$D/good" "$D/prog"
	[ "$(ask x)" = fine ]
	chmod 644 "$D/prog"
	fails_by 'Permission denied'
	chmod 755 "$D/prog"
	sed -i 1d "$D/prog"
	fails_by 'Exec format error'
	cp "$D/good" "$D/prog"
	exec 30>> "$D/prog"
	fails_by 'Text file busy'
	exec 30>&-
	[ "$(ask x)" = fine ]
	[ "$(workers)" = "$w" ]
}

@test "C15 no memory, no process, too long: the client meets the end, the worker lives" {
	open_directory
	cp /bin/true "$D/prog"
	start -l 127.0.0.1:0 -o 'workers-spare 1' -o 'workers-max 1' \
	    -- "$D/prog"
	w=$(workers)
	while read -r call error reason; do
		strace -f -qq -o "$D/strace" -e "trace=$call" \
		    -e "inject=$call:error=$error" -p "$w" 3>&- &
		s=$!
		wait_for traced "$w"
		fails_by "$reason"
		kill "$s"
		wait "$s" || true
	done <<-'END'
	execve E2BIG Argument list too long
	execve ENOMEM Cannot allocate memory
	vfork EAGAIN Resource temporarily unavailable
	vfork ENOMEM Cannot allocate memory
	pipe2 EMFILE Too many open files
	END
	ask x
	wait_for logged 'exit=0'
	[ "$(workers)" = "$w" ]
}

traced() { ! grep -q '^TracerPid:	0$' "/proc/$1/status"; }

all_told() {
	ask x
	asked=$((asked + 1))
	[ "$(sed -nE 's/.* failures=([0-9]+).*/\1/p' "$LOG" |
	    awk '{ n += $1 } END { print n }')" -eq "$asked" ]
}

@test "C15 a program that is not there costs a line a second, of all workers" {
	open_directory
	cp /bin/true "$D/prog"
	start -l 127.0.0.1:0 -o 'log-connections no' -- "$D/prog"
	rm "$D/prog"
	begin=$SECONDS
	for i in $(seq 60); do ask x; done
	[ "$(count_logged 'error: exec')" -le $((SECONDS - begin + 1)) ]
	asked=60
	wait_for all_told	# by the first one of the next second
}

@test "R47 what a program says on its standard error is in the log, and forges nothing" {
	open_directory
	cat > "$D/prog" <<-'END'
	#!/bin/sh
	printf "one\n2026-11-26T00:00:00.000Z preforkd[1] alert: x\n" >&2
	printf "\\033[1m\\000\"\\\\\n\nlast" >&2
	END
	chmod 755 "$D/prog"
	start -l 127.0.0.1:0 -- "$D/prog"
	ask x
	wait_for logged 'text="last"$'
	pid=$(sed -nE 's/.*client=1 pid=([0-9]+) text="one"/\1/p' "$LOG")
	says="notice: program says service=prog client=1 pid=$pid text="
	[ "$(count_logged "$says")" -eq 5 ]
	wait_for logged "${says}\"2026-11-26T00:00:00.000Z preforkd\\[1\\] alert: x\""
	wait_for logged "${says}\"\\\\033\\[1m\\\\000\\\\\"\\\\\\\\\""
	wait_for logged "${says}\"\""
	# before the client is logged as gone
	[ "$(grep -n 'text="last"' "$LOG" | cut -d : -f 1)" -lt \
	    "$(grep -n 'closed.*exit=0' "$LOG" | cut -d : -f 1)" ]
}

@test "exec-stderr socket gives the client what the program says" {
	start -l 127.0.0.1:0 -o 'exec-stderr socket' -- sh -c 'echo a; echo b >&2'
	[ "$(ask x | xargs)" = 'a b' ]
	run -1 grep 'program says' "$LOG"
}

@test "E06 a flood on standard error neither fills the log nor holds the program" {
	serve 'yes | head -c 100000000 >&2; head -c 3000 /dev/zero >&2; echo fine'
	before=$(cpu "$M")
	begin=$EPOCHREALTIME
	[ "$(ask x)" = fine ]
	wait_for logged 'exit=0'
	used=$(($(cpu "$M") - before))
	[ "$used" -le $(($(since "$begin") / 20000)) ]
	[ "$(stat -c %s "$LOG")" -lt 100000 ]
	stop		# whoever leaves says the rest
	said=$(count_logged 'program says')
	rest=$(sed -nE 's/.* suppressed=([0-9]+)$/\1/p' "$LOG" |
	    awk '{ n += $1 } END { print n }')
	[ "$((said + rest))" -eq 50000004 ]
}

@test "chdir, umask and nice are as set" {
	open_directory
	start -l 127.0.0.1:0 -o "chdir $D" -o 'umask 0027' -o 'nice 5' \
	    -- sh -c 'pwd; umask; nice'
	[ "$(ask x | xargs)" = "$D 0027 $(($(nice) + 5))" ]
	stop
	serve 'pwd; umask; nice'
	[ "$(ask x | xargs)" = "/ 0022 $(nice)" ]
}

@test "bad chdir, umask and nice are told in a line" {
	lines_refused 'exec cat' <<-'END'
	chdir x|chdir x: must be an absolute path
	umask 8|umask 8: must be 0000 to 0777
	umask 1000|umask 1000: must be
	nice -21|nice -21: must be -20 to 19
	nice x|nice x: must be -20 to 19
	exec-stderr file|exec-stderr file: must be one of log, socket
	END
	printf 'service a\nlisten :0\nexec cat\nchdir /nosuch\n' > "$D/conf"
	run -1 "$PREFORKD" -n -f "$D/conf"
	[[ $output == "preforkd: $D/conf:3: service a: exec cat: chdir /nosuch: No such file"* ]]
	printf 'service a\nlisten :0\nrun echo\nchdir /nosuch\n' > "$D/conf"
	run -1 "$PREFORKD" -n -f "$D/conf"
	[ "$output" = "preforkd: $D/conf:3: service a: run echo: chdir /nosuch: No such file or directory" ]
	printf 'service a\nlisten :0\nexec cat\nnice -5\n' > "$D/conf"
	run -1 setpriv --bounding-set -sys_nice --inh-caps -sys_nice \
	    "$PREFORKD" -n -f "$D/conf"
	[[ $output == "preforkd: $D/conf:4: service a: nice: must be 0 or more"* ]]
}

@test "a client need not wait until its program is buried" {
	start -l 127.0.0.1:0 -o 'workers-max 1' -o 'workers-spare 1' -- echo hello
	w=$(one_worker)
	strace -qq -o "$D/trace" -e trace=wait4 \
	    -e inject=wait4:delay_enter=4000000 -p "$w" 3>&- &
	STRACE=$!
	wait_for traced "$w"
	begin=$EPOCHREALTIME
	[ "$(ask x)" = hello ]
	took "$begin" 0 3000
	wait_for logged 'closed .* out=6 end=served first="" exit=0'
	[ "$(since "$begin")" -ge 4000000 ]
	kill "$STRACE"
	wait "$STRACE" || true
}

# What it writes of the server's memory is a copy of its own.
@test "a worker that waits with a silent client has no more than 64 kB of memory of its own" {
	[ -z "${SANITIZE:-}" ] || skip 'sanitizers need more memory'
	start -l 127.0.0.1:0 -o 'workers-min 8' -- sh -c 'printf "1\\n2\\n3\\n"; exec cat'
	hold 8
	wait_for has_logged 8 ' info: connected '
	for pid in $(workers); do
		awk '/^Private_Dirty/ { kb += $2 } END { print kb }' \
		    "/proc/$pid/smaps"
	done | sort -n > "$D/kb"
	xargs < "$D/kb"
	[ "$(wc -l < "$D/kb")" -ge 8 ]
	[ "$(tail -n 1 "$D/kb")" -gt 0 ] && [ "$(tail -n 1 "$D/kb")" -le 64 ]
}
