# 35-resident.bats: programs that accept by themselves.

load helper
load clients

# serve [OPTION...]: tests/tools/resident, with the settings in $CONF.
serve() {
	configure "$TOOLS/resident $*"
	start -f "$D/conf"
}

# configure COMMAND: the file.
configure() {
	cat > "$D/conf" <<-END
	service app
	listen ${LISTEN:-127.0.0.1:0}
	resident $1
	ready-time ${READY:-20ms}
	workers-max ${MAX:-4}
	${CONF-}
	END
}

# say LINE: to a program; its reply is in $REPLY, its pid in $WHO.
say() {
	read -r WHO REPLY <<<"$(ask "$1")"
	[ -n "$WHO" ]
}

# saying NAME LINE: the same in the background, the reply goes to a file.
saying() {
	ask "$2" > "$D/$1" 3>&- &
	SAYING+=("$!")
}

# said: all of them have got theirs.
said() {
	wait "${SAYING[@]}"
	SAYING=()
}

# The pids of the programs; there are N, all ready; one of them is PID.
programs() { status workers | awk '/PROGRAM/ { on = 1; next } on { print $2 }'; }
has_programs() { [ "$(programs | wc -l)" -eq "$1" ] && slots_are ready "$1"; }
is_program() { grep -qx "$1" <<<"$(programs)"; }

@test "a program accepts on descriptor 0, and on 3, again and again" {
	serve
	say pid
	first=$WHO
	say pid
	[ "$WHO" = "$first" ]
	stop
	serve -f 3
	say pid
	is_program "$WHO"
}

@test "E11 E12 E13 a program finds its descriptors, signals and environment" {
	CONF='env A=1' configure "$TOOLS/resident"
	start -f "$D/conf"
	say pid
	tr '\0' '\n' < "/proc/$WHO/environ" | sort > "$D/env"
	diff - "$D/env" <<-END
	A=1
	LISTEN_FDNAMES=app
	LISTEN_FDS=1
	LISTEN_PID=$WHO
	PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
	PREFORKD_SERVICE=app
	END
	say 'env LISTEN_PID'
	[ "$REPLY" = "$WHO" ]
	grep -E '^Sig(Blk|Ign):' "/proc/$WHO/status" > "$D/signals"
	[ "$(awk '{ print $2 }' "$D/signals" | sort -u)" = 0000000000000000 ]
	[ "$(readlink "/proc/$WHO/fd/0")" = "$(readlink "/proc/$WHO/fd/3")" ]
	[ "$(find "/proc/$WHO/fd" -mindepth 1 | wc -l)" -eq 4 ]
}

@test "a script of one line serves a Unix socket" {
	python='import socket; s = socket.socket(fileno=3); [(c.sendall(b"hello\\n"), c.close()) for c, peer in iter(s.accept, None)]'
	LISTEN="unix:$D/socket" configure "python3 -c \"$(sed 's/"/\\"/g' <<<"$python")\""
	chmod 755 "$D"
	start -f "$D/conf"
	[ "$(timeout "$DEADLINE" nc -NU "$D/socket" < /dev/null)" = hello ]
}

@test "a program that dies early, or is not there, is an error of the start" {
	configure 'sh -c "exit 3"'
	start_quietly -f "$D/conf"
	ended 1
	wait_for logged 'worker died .*how="exit 3 \(program [0-9]+\)"'
	wait_for logged 'cannot start: its workers die'
	configure nosuch
	run -1 "$PREFORKD" -n -f "$D/conf"
	[[ $output == "preforkd: $D/conf:3: service app: resident nosuch: not found in "* ]]
}

@test "programs that die early are throttled, and heal" {
	: > "$D/good"
	CONF='user root' configure "sh -c \"test -e $D/good || exit 7; exec $TOOLS/resident\""
	start -f "$D/conf"
	say pid
	rm "$D/good"
	kill -KILL "$WHO"
	wait_for logged 'error: workers die before they have served anybody'
	wait_for logged 'worker died .*how="SIGKILL \(program [0-9]+, possible OOM\)"'
	[ "$(count_logged 'how="exit 7 ')" -ge 3 ]
	: > "$D/good"
	wait_for logged 'no longer throttled service=app'
	say pid
}

@test "a program that ends after it was ready is told, and replaced at once" {
	serve
	for each in 'exit 3|exit 3' 'signal 6|SIGABRT'; do
		wait_for has_programs 1
		say "${each%|*}"
		wait_for logged "worker died .*how=\"${each#*|} \\(program $WHO\\)\""
		status deaths | grep -q " ${each#*|}$"
		say pid
	done
	wait_for has_programs 1
	say 'exit 0'
	wait_for logged "info: resident program left pid=$WHO slot=. service=app age="
	say pid
	[ "$(count_logged 'worker died')" -eq 2 ]
	run -1 grep 'starting them one at a time' "$LOG"
}

@test "programs that die together after they were ready do not have starts held back" {
	CONF='workers-min 4' READY=300ms serve
	mapfile -t all < <(programs)
	kill -KILL "${all[@]}"
	wait_for has_logged 4 'worker died'
	wait_for has_programs 4
	run -1 grep 'starting them one at a time' "$LOG"
}

@test "I07 what a program says becomes lines of the log, escaped, to the last" {
	serve
	say 'say hello "there" error: '$'\e'
	wait_for logged "notice: program says service=app client=0 pid=$WHO text=\"hello \\\\\"there\\\\\" error: \\\\033\""
	say 'write 5'
	wait_for has_programs 1
	say 'exit 1'
	wait_for logged "pid=$WHO text=\"xxxxx\""
}

@test "E06 a program that floods its standard error is not waited for, nor logged in full" {
	serve
	before=$(cpu "$M")
	say 'write 30000000'
	wait_for logged 'programs say too much service=app suppressed=[0-9]{3}'
	[ $(($(cpu "$M") - before)) -le 20 ]
	[ "$(wc -c < "$LOG")" -le 500000 ]
	say pid
}

@test "E18 a program of root's server is nobody's, without a way to new privileges" {
	[ "$(id -u)" -eq 0 ] || skip 'not root'
	CONF='user nobody' serve
	say pid
	[ "$(awk '/^(Uid|Gid):/ { print $2, $3, $4, $5 }' "/proc/$WHO/status" | tr ' ' '\n' | sort -u)" = "$(id -u nobody)" ]
	grep -qx 'NoNewPrivs:	1' "/proc/$WHO/status"
	grep -qx 'CapEff:	0000000000000000' "/proc/$WHO/status"
}

@test "programs become more while clients wait, and fewer when none does" {
	CONF='workers-idle-time 500ms' serve -g
	for i in 1 2 3 4 5 6; do
		saying "reply$i" 'sleep 1200'
	done
	wait_for has_programs 4
	wait_for logged 'all workers are busy and workers-max is reached service=app workers-max=4 queued='
	said
	[ "$(cat "$D"/reply? | wc -l)" -eq 6 ]
	[ "$(sort -u "$D"/reply? | wc -l)" -ge 3 ]
	wait_for has_programs 1
	run -1 grep 'worker died' "$LOG"
}

@test "a Unix socket, whose queue cannot be measured, has its programs as well" {
	LISTEN="unix:$D/socket" serve -g
	for i in 1 2 3; do
		printf 'sleep 900\n' | timeout "$DEADLINE" nc -NU "$D/socket" > "$D/reply$i" 3>&- &
		SAYING+=("$!")
	done
	wait_for has_programs 2
	said
	[ "$(cat "$D"/reply? | wc -l)" -eq 3 ]
}

@test "settings for clients are refused, those for programs are refused elsewhere" {
	while read -r line; do
		CONF=$line configure cat
		run -1 "$PREFORKD" -n -f "$D/conf"
		[ "$output" = "preforkd: $D/conf:6: service app: ${line%% *}: must not be there: a resident program accepts by itself, and nothing is known of its clients" ]
	done <<-'END'
	first-byte-timeout 1s
	idle-timeout 1s
	connection-timeout 1s
	max-connections-per-worker 3
	log-connections both
	workers-spare 3
	per-source 3
	per-source-prefix 24 56
	per-source-rate 3/1s
	per-source-for 10.0.0.0/8 3
	rate 3/1s
	min-rate 3/1s
	when-full drop-silent
	refuse reset
	END
	printf 'service a\nlisten :0\nrun greet\nmax-age 1h\n' > "$D/conf"
	run -1 "$PREFORKD" -n -f "$D/conf"
	[ "$output" = "preforkd: $D/conf:4: service a: max-age: must be in a service that is resident" ]
	CONF=$'max-memory 2g\nmax-memory-hard 1g' configure cat
	run -1 "$PREFORKD" -n -f "$D/conf"
	[ "$output" = "preforkd: $D/conf:6: service app: max-memory 2147483648: must be at most max-memory-hard, 1073741824" ]
}

@test "as defaults, settings for clients pass by a resident program" {
	CONF=$'stop-signal SIGUSR1\nmax-memory 1g' configure cat
	printf 'idle-timeout 1s\nworkers-spare 3\n%s\n' "$(< "$D/conf")" > "$D/conf"
	"$PREFORKD" -nn -f "$D/conf" > "$D/dump"
	run -1 grep -E 'idle-timeout|workers-spare|log-connections' "$D/dump"
	grep -qx '	stop-signal SIGUSR1' "$D/dump"
	"$PREFORKD" -nn -f "$D/dump" | diff "$D/dump" -
}

@test "a stop has the queue served first, then the programs leave" {
	MAX=1 serve -g
	saying reply1 'sleep 1500'
	wait_for has_client
	for i in 2 3 4 5; do
		saying "reply$i" 'sleep 20'
	done
	wait_for queue_is 4	# whoever came later would be nobody's promise
	stop
	said
	[ "$(cat "$D"/reply? | wc -l)" -eq 5 ]
}

has_client() { ss -Htn state connected "sport = :$PORT" | grep -q .; }
# queue_is N: as many at least, by the kernel.
queue_is() {
	[ "$(ss -Hltn "sport = :$PORT" | awk '{ print $2 }')" -ge "$1" ]
}

@test "E05 a program that ignores SIGTERM is killed with its session at the deadline" {
	CONF='drain-timeout 300ms' serve -t
	say child
	child=${REPLY##* }
	[ "$(ps -o sid= -p "$child")" -eq "$WHO" ]
	from=$EPOCHREALTIME
	stop
	took "$from" 300 3000
	wait_for logged 'warning: killing a resident program .*why="drain-timeout passed"'
	gone_or_zombie "$child"
	gone "$WHO"
}

@test "what a program leaves in its session is killed when it ends" {
	serve
	say child
	child=${REPLY##* }
	say 'exit 1'
	wait_for gone_or_zombie "$child"
}

@test "F11 a stop at once kills programs with their sessions" {
	serve -t
	say child
	child=${REPLY##* }
	from=$EPOCHREALTIME
	kill -TERM "$M"
	wait_for logged 'stopping, clients finish'
	stop
	took "$from" 0 1500
	gone_or_zombie "$child"
	gone "$WHO"
}

@test "B01 B07 when the master dies programs leave, one that does not keeps the port" {
	EXPECT_DEAD=yes
	CONF='drain-timeout 1s' serve -t
	say pid
	kill -KILL "$M"
	LISTEN=127.0.0.1:$PORT configure cat
	run -1 timeout 5 "$PREFORKD" -d -o "status-file $D/other" -f "$D/conf"
	[[ $output == *"listen 127.0.0.1:$PORT: bind: Address already in use"* ]]
	wait_for gone "$WHO"
	wait_for no_members
}

@test "E14 a worker that is killed takes its program with it" {
	serve
	say pid
	kill -KILL "$(ps -o ppid= -p "$WHO")"
	wait_for gone "$WHO"
	wait_for logged 'worker died .*how="SIGKILL \(possible OOM\)"'
	say pid
}

@test "a program that was stopped hears that it is to leave" {
	CONF='drain-timeout 15s' serve
	say pid
	kill -STOP "$WHO"
	from=$EPOCHREALTIME
	stop
	took "$from" 0 10000
	run -1 grep 'killing' "$LOG"
}

@test "stop-signal is what a program is told by" {
	CONF='stop-signal SIGUSR1' serve -t
	say pid
	from=$EPOCHREALTIME
	stop
	took "$from" 0 3000
	run -1 grep 'killing' "$LOG"
}

@test "R23 a listener that a program has shut down listens again" {
	CONF='workers-min 2' serve
	say shut
	wait_for logged "warning: a program had shut down the listener, which listens again address=$ADDRESS service=app"
	say pid
	say shut
	wait_for has_logged 2 'shut down the listener'
	say pid
	run -1 grep 'worker died' "$LOG"
}

@test "R23 a Unix socket that a program has shut down is told, for it cannot" {
	LISTEN="unix:$D/socket" serve
	echo shut | timeout "$DEADLINE" nc -NU "$D/socket"
	wait_for logged "error: a program has shut down the listener for good, restart the server address=unix:$D/socket service=app"
	[ "$(count_logged 'for good')" -eq 1 ]
}

@test "R22 a listener that a program has made non-blocking serves on, another kind too" {
	serve
	say nonblock
	say pid
	sed -i "s/^resident.*/run echo/; /ready-time/d" "$D/conf"
	kill -HUP "$M"
	wait_for logged 'reloaded generation=2'
	wait_for has_workers 4
	[ "$(ask hello)" = hello ]
}

@test "E16 what a program does to itself, its siblings and its successor do not see" {
	CONF='workers-min 2' serve
	say audit
	clean=$REPLY
	say spoil
	spoilt=$WHO
	while [ "$WHO" = "$spoilt" ]; do say audit; done
	[ "$REPLY" = "$clean" ]
	kill -KILL "$spoilt"
	wait_for has_programs 2
	for i in 1 2 3 4; do
		say audit
		[ "$REPLY" = "$clean" ]
	done
}

@test "programs are renewed at max-age, one at a time, and no client notices" {
	CONF=$'workers-min 2\nmax-age 600ms' serve -g
	say pid
	first=$WHO
	for i in $(seq 60); do
		say 'sleep 10'
	done
	wait_for gone "$first"
	wait_for has_logged 4 'info: renewing a resident program .*why="max-age"'
	run -1 grep 'worker died' "$LOG"
}

@test "a program of one is renewed when its successor is ready" {
	MAX=1 CONF='max-memory 30m' READY=300ms serve -g
	say 'eat 40'
	large=$WHO
	wait_for slots_are starting 1
	slots_are ready 1
	is_program "$large"
	wait_for logged "info: renewing a resident program pid=$large slot=. service=app why=\"max-memory\""
	wait_for has_programs 1
	say pid
	[ "$WHO" != "$large" ]
}

@test "a program that passes max-memory-hard is killed" {
	CONF='max-memory-hard 30m' serve -t
	say 'eat 40'
	wait_for logged "warning: killing a resident program pid=$WHO slot=0 service=app bytes=[0-9]+ why=\"max-memory-hard passed\""
	wait_for gone "$WHO"
	say pid
	run -1 grep 'worker died' "$LOG"
}

@test "preforkctl workers shows programs with their memory and CPU time" {
	serve
	say 'eat 20'
	status workers > "$D/shown"
	read -r slot pid age memory cpu service \
	    < <(awk '/PROGRAM/ { getline; print }' "$D/shown")
	[ "$slot $pid $service" = "0 $WHO app" ]
	[ "$age" -le 60 ]
	[ "$memory" -ge 20480 ]
	[ "$memory" -le 40960 ]
	[[ $cpu == 0.[0-9][0-9] ]]
}

@test "a reload has the new programs ready first, and no client notices" {
	CONF='workers-min 2' serve -g
	for i in 2 3 4; do
		kill -HUP "$M"
		until logged "reloaded generation=$i"; do
			say 'sleep 5'
		done
	done
	wait_for has_programs 2
	run -1 grep 'worker died' "$LOG"
}

@test "G08 a reload whose programs die early changes nothing" {
	serve
	say pid
	old=$WHO
	configure 'sh -c "exit 1"'
	kill -HUP "$M"
	wait_for logged 'reload failed, everything stays as it was: its workers die'
	say pid
	[ "$WHO" = "$old" ]
}

@test "an idle resident service wakes its master about once a second" {
	serve
	say pid
	before=$(awk '/^voluntary/ { print $2 }' "/proc/$M/status")
	worker=$(awk '/^voluntary/ { print $2 }' "/proc/$(one_worker)/status")
	from=$EPOCHREALTIME
	while [ "$(since "$from")" -lt 2000000 ]; do
		sleep 0.1
	done
	[ "$(awk '/^voluntary/ { print $2 }' "/proc/$M/status")" -le $((before + 6)) ]
	[ "$(awk '/^voluntary/ { print $2 }' "/proc/$(one_worker)/status")" -eq "$worker" ]
}

@test "fcgiwrap answers a FastCGI client" {
	cat > "$D/cgi" <<-'END'
	#!/bin/sh
	echo Content-Type: text/plain
	echo
	echo "$REQUEST_METHOD $QUERY_STRING"
	END
	chmod 755 "$D/cgi"
	CONF=$'user root\nstop-signal SIGUSR1' configure 'fcgiwrap -f'
	start -f "$D/conf"
	env -i REQUEST_METHOD=GET QUERY_STRING=a=1 SCRIPT_FILENAME="$D/cgi" \
	    cgi-fcgi -bind -connect "$ADDRESS" < /dev/null > "$D/reply"
	grep -qx 'GET a=1' "$D/reply"
	stop
	run -1 grep 'killing' "$LOG"
}
