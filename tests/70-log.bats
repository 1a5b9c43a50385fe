# 70-log.bats: what is logged, that each line parses whatever clients send,
# and that a log which is slow, stuck, dead or flooded costs lines that are
# counted, and never a client (rows I of the fault matrix).

load helper
load clients

TIME='[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{3}Z'

start_fixed() {
	local n=$1
	shift
	start -o "workers-min $n" -o "workers-max $n" -l 127.0.0.1:0 "$@"
}

# What the lines that say so add up to.
counted() { sed -nE "$1" "$LOG" | awk '{ n += $1 } END { print n + 0 }'; }
drops_said() { counted 's/.* warning: log lines dropped count=([0-9]+)$/\1/p'; }
drops_shown() { status | awk '/^log dropped:/ { print $3 }'; }
connection_lines() { count_logged ' info: (connected|closed) '; }

@test "a client makes two lines, with all that is known of it" {
	start_fixed 1 greet
	w=$(one_worker)
	ask hello > "$D/reply"
	wait_for logged closed
	grep ' info: ' "$LOG"
	wait_for logged "^$TIME preforkd\[$w\] info: connected 127\.0\.0\.1:[0-9]+ client=1 service=greet$"
	wait_for logged "^$TIME preforkd\[$w\] info: closed 127\.0\.0\.1:[0-9]+ client=1 service=greet seconds=[0-9]+\.[0-9]{3} in=6 out=$(wc -c < "$D/reply") end=served first=\"hello\\\\n\"$"
	from=$(sed -nE 's/.* connected ([^ ]*) .*/\1/p' "$LOG")
	wait_for logged "closed $from client=1 "
}

@test "seconds are those that the client was there, and first is cut at 32 bytes" {
	start_greet
	"$TOOLS/hold" -k 1 1 "$ADDRESS"
	ask "$(printf '%0100d' 0)"
	wait_for logged 'closed .*client=2 '
	wait_for logged 'closed .*client=1 .* seconds=[1-4]\.[0-9]{3} in=1 out=[0-9]+ end=served first="[^"]"$'
	wait_for logged 'closed .*client=2 .* in=101 .*first="0{32}"$'
}

# A client that is greeted, then breaks the connection.
break_off() {
	python3 - "$PORT" <<-'END'
	import socket, struct, sys
	s = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
	s.recv(1000)
	s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
	s.close()
	END
}

@test "the line says how it ended" {
	start_greet -o 'first-byte-timeout 1s'
	ask x
	wait_for logged 'client=1 .* in=2 out=[0-9]+ end=served first="x\\n"$'
	"$TOOLS/abuse" halfclose "$ADDRESS"
	wait_for logged 'client=2 .* in=0 out=[0-9]+ end=client-closed first=""$'
	break_off
	wait_for logged 'client=3 .* in=0 out=[0-9]+ end=reset first=""$'
	"$TOOLS/abuse" silent "$ADDRESS"
	wait_for logged 'client=4 .* seconds=[1-4]\..* end=first-byte-timeout first=""$'
}

@test "log-connections no, end, both: none, one or two lines for a client" {
	for how in 'no 0 0' 'end 0 1' 'both 1 1'; do
		read -r setting connected closed <<< "$how"
		: > "$LOG"
		start_greet -o "log-connections $setting"
		ask x
		stop
		[ "$(count_logged 'info: connected ')" -eq "$connected" ]
		[ "$(count_logged 'info: closed ')" -eq "$closed" ]
	done
}

@test "log-level decides which lines are written" {
	levels=()
	for level in alert error warning notice info debug; do
		levels+=("$level")
		: > "$LOG"
		start_fixed 2 -o "log-level $level" greet
		ask x
		w=$(one_worker)
		kill -STOP "$w"
		wait_for eval '[[ $(ps -o stat= -p "$w") == T* ]]'
		kill -SEGV "$w"
		kill -CONT "$w"
		wait_for eval 'status deaths | grep -q SIGSEGV'
		stop
		for l in error notice info debug; do
			n=$(count_logged "\\] $l: ")
			if [[ " ${levels[*]} " == *" $l "* ]]; then
				[ "$n" -ge 1 ]
			else
				[ "$n" -eq 0 ]
			fi
		done
	done
}

@test "births and leavings are told at debug, deaths with their story" {
	start_fixed 2 -o 'log-level debug' greet
	w=$(one_worker)
	wait_for logged "debug: worker born pid=$w slot=0 service=greet generation=1$"
	ask x
	hold 1
	busy=$(status workers | awk '$2 == "busy" { print $3 }')
	kill -ABRT "$busy"
	wait_for logged "error: worker died pid=$busy slot=[01] service=greet generation=1 age=[0-9]+\.[0-9]{3} served=[01] client=2 how=\"SIGABRT\" core=(yes|no)$"
	release_cut
	wait_for has_workers 2
	w=$(one_worker)
	kill -TERM "$w"
	wait_for logged "debug: worker left pid=$w slot=[01] service=greet served=[01]$"
	kill -KILL "$(one_worker)"
	wait_for logged 'client=0 how="SIGKILL \(possible OOM\)" core=no$'
}

@test "the check of the grammar fails on what is no line" {
	head='2026-11-23T14:50:01.123Z preforkd[12]'
	for good in 'info: closed [::1]:5 client=1 first="a\"b\\ c=d"' \
	    'warning: suppressed 5 more: worker stopped' \
	    'error: kill pid=5 signal=SIGTERM: No such process' \
	    'notice: reloading'; do
		echo "$head $good" > "$D/line"
		log_grammar "$D/line"
	done
	for bad in '' 'info: ' 'info: closed first="a' 'info: closed first="a" b' \
	    'info: closed first=a b' 'loud: closed' 'info: closed a="x"y"' \
	    'info: closed  client=1' $'info: a\eb' $'info: a\x9bb' \
	    $'info: a\xc2\x9bb' $'info: a\rb'; do
		echo "$head $bad" > "$D/line"
		if log_grammar "$D/line"; then
			echo "passed: $bad"
			return 1
		fi
	done
	echo 'no head at all' > "$D/line"
	not log_grammar "$D/line"
}

@test "I07 whatever a client sends is escaped once and decodes to what it was" {
	start_fixed 1 -o 'log-connections end' greet
	corpus=($'\r\nZ preforkd[1] alert: fake' $'\e[31mred\e[0m' $'\e]0;title\a'
	    $'C1 \x9b31m \xc2\x9b31m' $'\xff\xfe \xc0\xaf \xed\xa0\x80 \xf8'
	    '%s%n%x%100000d' '\x1b \\n \033 \"' 'x" client=99 first="'
	    $'h\xc3\xa9llo \xe2\x82\xac \xf0\x9f\x91\x8b' $'\v\f\b\t\x7f\x01'
	    "it's \$(id) \`id\`" '' ' ' $'half \xe2\x82')
	for i in "${!corpus[@]}"; do
		printf '%s' "${corpus[i]}" |
		    timeout "$DEADLINE" nc -N 127.0.0.1 "$PORT"
	done > "$D/replies"
	wait_for logged "client=${#corpus[@]} "
	[ "$(count_logged 'info: closed ')" -eq "${#corpus[@]}" ]
	for i in "${!corpus[@]}"; do
		first=$(sed -nE "s/.* client=$((i + 1)) service=.* first=\"(.*)\"\$/\\1/p" "$LOG")
		echo "$i: $first"
		# What the escapes mean in C they mean to the shell.
		decoded=''
		eval "decoded=\$'${first//\'/\\\'}'"
		[ "$decoded" = "${corpus[i]}" ]
	done
	printf 'a\0b' | timeout "$DEADLINE" nc -N 127.0.0.1 "$PORT" > "$D/reply"
	wait_for logged 'first="a\\000b"$'
	wait_for logged 'first="héllo € 👋"$'
	log_grammar "$LOG"
}

@test "I08 lines of many writers are whole, and as many as there were clients" {
	start_fixed 8 -o 'log-connections both' greet
	storm -n 5000 -c 16 -u
	stop
	[ "$(drops_shown)" -eq 0 ]
	log_grammar "$LOG"
	seq 5000 > "$D/all"
	for what in connected closed; do
		sed -nE "s/.* $what .* client=([0-9]+) .*/\\1/p" "$LOG" |
		    sort -n | diff -q - "$D/all"
	done
}

@test "I09 a flood of one warning is written ten times, the rest is counted exactly" {
	start_fixed 60 greet
	mapfile -t all < <(workers)
	kill -STOP "${all[@]}"
	for p in "${all[@]}"; do
		wait_for eval '[[ $(ps -o stat= -p "$p") == T* ]]'
	done
	kill -CONT "${all[@]}"
	stop
	written=$(count_logged 'warning: worker stopped pid=[0-9]+ slot=[0-9]+ signal=SIGSTOP$')
	suppressed=$(counted 's/.* warning: suppressed ([0-9]+) more: worker stopped$/\1/p')
	[ "$written" -le 20 ]
	[ $((written + suppressed)) -eq 60 ]
}

# A server whose log goes into a pipe that nobody reads before `read_pipe'.
start_piped() {
	mkfifo "$D/pipe"
	exec 7<> "$D/pipe"
	LOG=$D/pipe
	start "$@" 7>&-
	LOG=$D/log
}
read_pipe() {
	exec 6< "$D/pipe"
	cat <&6 > "$LOG" 3>&- 7>&- &
	READER=$!
	exec 6<&- 7>&-
}

@test "I03 a log that nobody reads costs lines, which are counted, and no client" {
	start_piped -l 127.0.0.1:0 -o 'log-connections both' greet
	storm -n 7000 -c 16 7>&-
	stormed_well
	[ "$(stormed ok)" -eq 7000 ]
	[ "$(drops_shown)" -gt 0 ]
	t=$EPOCHREALTIME
	stop
	took "$t" 0 6000
	exec 7>&-
}

@test "I03 a log that is gone costs its lines, which are counted, and no processor time" {
	start_piped -l 127.0.0.1:0 -o 'log-connections both' greet
	exec 7>&-
	storm -n 500 -c 8
	stormed_well
	wait_for eval '[ "$(drops_shown)" -ge 999 ]'
	l=$(logger_pid)
	before=$(cpu "$M" "$l")
	sleep 1
	[ $(($(cpu "$M" "$l") - before)) -le 5 ]
	[ "$(logger_pid)" = "$l" ]
	stop
}

# Twice as many workers as clients: the master has nothing to say that could
# be dropped too.
@test "lines are dropped when the logger stands still; each is counted, in the log and in the status" {
	start_fixed 8 -o 'log-connections both' greet
	l=$(logger_pid)
	kill -STOP "$l"
	wait_for eval '[[ $(ps -o stat= -p "$l") == T* ]]'
	storm -n 8000 -c 4
	stormed_well
	[ "$(drops_shown)" -gt 0 ]
	kill -CONT "$l"
	wait_for logged 'info: connected'
	# Each worker says what it has dropped before its next line.
	storm -n 80 -c 4
	stop
	echo "lines $(connection_lines) said $(drops_said) shown $(drops_shown)"
	[ "$(drops_said)" -eq "$(drops_shown)" ]
	[ $(($(connection_lines) + $(drops_said))) -eq 16160 ]
}

@test "each drop is counted when the logger stands still again and again" {
	start_fixed 8 -o 'log-connections both' greet
	l=$(logger_pid)
	storm_begin -t 60 -c 4
	for i in $(times 3 20); do
		n=$(drops_shown)
		kill -STOP "$l"
		wait_for eval "[ \$(drops_shown) -gt $n ]"
		kill -CONT "$l"
		n=$(connection_lines)
		wait_for eval "[ \$(connection_lines) -gt $n ]"
	done
	storm_end
	stormed_well
	storm -n 80 -c 4
	stop
	n=$(counted 's/.* stopped clients-cut=0 clients=([0-9]+)$/\1/p')
	echo "clients $n lines $(connection_lines) said $(drops_said) shown $(drops_shown)"
	[ $(($(connection_lines) + $(drops_shown))) -eq $((2 * n)) ]
	[ "$(drops_said)" -eq "$(drops_shown)" ]
}

@test "a killed logger is replaced, the gap is told, and clients do not notice" {
	start_greet -o 'log-connections both'
	storm_begin -t 30 -c 4
	for i in 1 2 3; do
		l=$(logger_pid)
		kill -KILL "$l"
		wait_for eval '[ "$(logger_pid)" != "" ] && [ "$(logger_pid)" != "$l" ]'
		wait_for eval "[ \$(count_logged 'error: the logger died and was replaced') -eq $i ]"
	done
	storm_end
	stormed_well
	ask last
	wait_for logged 'closed .*first="last\\n"$'
	stop
	tail -n 3 "$LOG"
	[[ $(tail -n 1 "$LOG") == *'notice: stopped clients-cut=0 '* ]]
}

@test "the log ends with the last line, also when its reader is slow" {
	start_piped -l 127.0.0.1:0 -o 'log-connections both' greet
	storm -n 3000 -c 8 7>&-
	kill -TERM "$M"
	sleep 0.5
	read_pipe
	ended 0
	wait "$READER"
	[ "$(drops_shown)" -eq 0 ]
	[ "$(connection_lines)" -eq 6000 ]
	[[ $(tail -n 1 "$LOG") == *'notice: stopped clients-cut=0 clients=3000' ]]
}

@test "every client that was logged as connected is logged to its end, over deaths of workers" {
	start_fixed 6 -o 'log-connections both' greet
	storm_begin -t 30 -c 8
	for i in {1..20}; do
		kill -KILL "$(workers | shuf -n 1)" 2>/dev/null || true
		sleep 0.02
	done
	storm_end || true
	stop
	[ "$(count_logged 'worker died')" -gt 0 ]
	sed -nE 's/.* connected .* client=([0-9]+) .*/\1/p' "$LOG" | sort > "$D/came"
	sed -nE 's/.* (closed|worker died) .* client=([0-9]+) .*/\2/p' "$LOG" |
	    sort -u > "$D/went"
	[ -z "$(sort -u "$D/came" | comm -23 - "$D/went")" ]
	[ -z "$(uniq -d "$D/came")" ]
	[ "$(wc -l < "$D/went")" -ge "$(stormed ok)" ]
}

@test "R47 the path that a Unix client has bound cannot forge a line" {
	start -l "unix:$D/socket" greet
	python3 - "$D/socket" "$D/a client=999 first=\"x" <<-'END'
	import socket, sys
	s = socket.socket(socket.AF_UNIX)
	s.bind(sys.argv[2])
	s.connect(sys.argv[1])
	s.sendall(b"x\n")
	while s.recv(1000):
	    pass
	END
	wait_for logged 'closed unix:[^ ]* client=1 service=greet '
	[ "$(count_logged 'client=999 ')" -eq 0 ]
}
