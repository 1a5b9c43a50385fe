# 69-settings.bats: each row of the table of settings at a reload: it takes
# effect, or is refused by a line that names it.  A new setting that needs no
# restart wants two lines in VALUES and a function that tells what is in effect.

load helper
load clients
load reload

# setting | value | what its function then says.
VALUES='
include|VALUE=17|17
include|VALUE=18|18
log-level|debug|yes
log-level|info|no
service|extra|extra greet
service|other|greet other
listen|127.0.0.3:0|2
listen|unix:$D/socket mode=600|2
run|echo|x
run|discard|
exec|/bin/echo hello|hello
exec|/bin/cat|x
module|$TOOLS/module-greet.so|Welcome
module|$TOOLS/module-hostile.so|pid
resident|/bin/sleep 61|/bin/sleep 61
resident|/bin/sleep 62|/bin/sleep 62
ready-time|900ms|slow
ready-time|20ms|quick
max-age|300ms|yes
max-age|0|no
max-memory|1m|yes
max-memory|1g|no
max-memory-hard|1m|yes
max-memory-hard|1g|no
stop-signal|SIGUSR1|USR1
stop-signal|SIGTERM|TERM
env|FAULT=one two|FAULT=one two
env|FAULT=three|FAULT=three
backlog|100|100
backlog|200|200
tcp-nodelay|yes|1
tcp-nodelay|no|0
tcp-keepalive|60s 10s 6|1 60 10 6
tcp-keepalive|1m 1 127|1 60 1 127
tcp-keepalive|0|0 60 1 127
tcp-defer-accept|1s|1
tcp-defer-accept|0|0
tcp-user-timeout|30s|30000
tcp-user-timeout|0|0
workers-min|3|3
workers-min|5|5
workers-spare|2|2
workers-spare|4|4
workers-max|15|15
workers-max|16|16
workers-idle-time|1h|4
workers-idle-time|100ms|1
max-connections-per-worker|1|yes
max-connections-per-worker|0|no
first-byte-timeout|100ms|first-byte-timeout
first-byte-timeout|0|served
idle-timeout|100ms|idle-timeout
idle-timeout|0|served
connection-timeout|100ms|connection-timeout
connection-timeout|0|served
drain-timeout|1h|3600
drain-timeout|2h|7200
log-connections|both|connected closed
log-connections|end|closed
log-connections|no|
user|1:1|1 1
user|65534:65534|65534 65534
group|1|1
group|2|2
chroot|/etc|/etc
chroot|/usr|/usr
new-privileges|yes|0
new-privileges|no|1
rlimit-as|1g|1073741824
rlimit-as|2g|2147483648
rlimit-core|0|0
rlimit-core|1k|1024
rlimit-cpu|100|100
rlimit-cpu|200|200
rlimit-data|1g|1073741824
rlimit-data|2g|2147483648
rlimit-fsize|1m|1048576
rlimit-fsize|2m|2097152
rlimit-nofile|64|64
rlimit-nofile|65|65
rlimit-nproc|1000|1000
rlimit-nproc|2000|2000
rlimit-stack|1m|1048576
rlimit-stack|2m|2097152
'
# For those that need a restart: another value than the one at the start.
RESTART='
status-file|/elsewhere
pidfile|/elsewhere
dumpable|yes
log|syslog
'
ROOT_ONLY='user group chroot new-privileges'
# Seen in 68-generations, 68-supervisors, 41-limits, 42-rules, 42-proxy, 47-prespawn
# and 33-exec.
ELSEWHERE='workers-surge on-crash-loop per-source per-source-prefix per-source-rate'
ELSEWHERE+=' exec-stderr chdir umask nice per-source-for proxy-protocol rate min-rate'
ELSEWHERE+=' when-full refuse allow deny default rules prespawn'

rows() { "$TOOLS/unit-tables" settings | awk -F '\t' -v r="$1" '$6 == r { print $1 }'; }
values_of() { awk -F '|' -v n="$1" '$1 == n' <<<"$VALUES"; }

# The service as it is without the setting, and with it.
base() {
	printf '%s\n' 'service greet' "listen ${1:-$ADDRESS}" 'workers-spare 1' \
	    'workers-max 20' 'run greet'
}

with() {
	case $1 in
	include) echo "workers-max ${2#VALUE=}" > "$D/included"
	    base | sed "s|^workers-max .*|include included|" ;;
	log-level) echo "$1 $2"; base ;;
	service) base; printf '%s\n' "service $2" 'listen 127.0.0.1:0' \
	    'run greet' 'workers-max 2' ;;
	listen) base; echo "$1 ${2/\$D/$D}" ;;
	run|exec|module) base | sed "s|^run .*|$1 ${2/\$TOOLS/$TOOLS}|" ;;
	resident) programs "$2" ;;
	ready-time) programs /bin/sleep 60 | sed "s/^ready-time.*/$1 $2/" ;;
	stop-signal) programs "sh -c \"trap 'echo USR1; exit' USR1; trap 'echo TERM; exit' TERM; while sleep 0.05; do :; done\""
	    echo "$1 $2" ;;
	max-age|max-memory*) programs /bin/sleep 60; echo "$1 $2" ;;
	tcp-nodelay|tcp-keepalive|tcp-user-timeout) options "$1" "$2" ;;
	env) base | sed "s|^run .*|exec /usr/bin/env|"; echo "env \"$2\"" ;;
	workers-spare|workers-max) base | sed "s|^$1 .*|$1 $2|" ;;
	*) base; echo "$1 $2" ;;
	esac
}

# The same with a program that tells the options of its connection.
options() {
	base | sed "s|^run .*|exec python3 $D/options|"
	echo "$1 $2"
	cat > "$D/options" <<-END
	import socket
	s = socket.socket(fileno = 0)
	def tell(*options):
	    print(*[s.getsockopt(*o) for o in options])
	t = socket.IPPROTO_TCP
	match "$1":
	    case "tcp-nodelay": tell((t, socket.TCP_NODELAY))
	    case "tcp-keepalive": tell((socket.SOL_SOCKET, socket.SO_KEEPALIVE),
	        (t, socket.TCP_KEEPIDLE), (t, socket.TCP_KEEPINTVL),
	        (t, socket.TCP_KEEPCNT))
	    case "tcp-user-timeout": tell((t, socket.TCP_USER_TIMEOUT))
	END
	open_directory
}

# The same with programs that accept, or could.
programs() {
	base | sed "s|^run .*|resident $*|; /^workers-spare/d"
	echo 'ready-time 50ms'
}

worker() { ps -o pid=,args= --ppid "$M" | awk '/: greet .* slot [0-9]+: /{print $1; exit}'; }
limit() { awk -v l="$1" 'index($0, l) == 1 { print $(NF - 2) }' "/proc/$(worker)/limits"; }
in_status() { awk -v f="$1:" '$1 == f { print $3 }' "/proc/$(worker)/status"; }
# more_logged WORDS COMMAND...: whether it has the log tell of them.
more_logged() {
	local n
	n=$(count_logged "$1")
	"${@:2}"
	sleep 0.2
	if [ "$(count_logged "$1")" -gt "$n" ]; then echo yes; else echo no; fi
}

effect_include() { effect_workers_max; }
effect_log_level() { more_logged 'debug: worker left' kill -TERM "$(worker)"; }
effect_service() { status | awk '/^SERVICE/ { on = 1; next } /^$/ { on = 0 } on { print $1 }' | sort | xargs; }
effect_listen() { listeners | wc -l; }
effect_run() { ask x; }
effect_exec() { ask x; }
effect_module() { ask x | grep -oE 'Welcome|pid'; }
program() { status workers | awk '/PROGRAM/ { getline; print $2 }'; }
effect_resident() { ps -o args= -p "$(program)"; }
effect_ready_time() {
	local from=$EPOCHREALTIME old
	old=$(program)
	kill -KILL "$old"
	wait_for eval "[ \"\$(program)\" -ne $old ]"
	wait_for slots_are ready 1
	if [ "$(since "$from")" -gt 800000 ]; then echo slow; else echo quick; fi
}
effect_max_age() { more_logged 'renewing .*max-age' sleep 0.3; }
effect_max_memory() { more_logged 'renewing .*max-memory' sleep 0.3; }
effect_max_memory_hard() { more_logged 'killing .*max-memory-hard' sleep 0.3; }
effect_stop_signal() {
	more_logged 'program says' kill -TERM "$(worker)" > "$D/more"
	grep 'program says' "$LOG" | tail -n 1 | sed 's/.* text="//; s/"$//'
}
effect_env() { ask x | grep FAULT; }
effect_backlog() { ss -Hltn "sport = :$PORT" | awk -v a="$ADDRESS" '$4 == a { print $3 }'; }
effect_tcp_nodelay() { ask x; }
effect_tcp_keepalive() { ask x; }
effect_tcp_user_timeout() { ask x; }
# Whether a client that is silent has a worker at once.
effect_tcp_defer_accept() {
	nc -d 127.0.0.1 "$PORT" > "$D/reply" 3>&- &
	sleep 0.2
	slots_are busy 0 && echo 1 || echo 0
	kill $!
}
effect_workers_min() { worker_count; }
effect_workers_spare() { worker_count; }
effect_workers_max() { status | awk '$1 == "greet" { print $8; exit }'; }
effect_workers_idle_time() {
	hold 3
	release
	for _ in {1..20}; do
		[ "$(worker_count)" -gt 1 ] || break
		sleep 0.1
	done
	worker_count
}
effect_max_connections_per_worker() {
	local w
	w=$(worker)
	ask x > "$D/reply"
	sleep 0.2
	if gone "$w"; then echo yes; else echo no; fi
}
effect_first_byte_timeout() { ended_by silent; }
effect_idle_timeout() { ended_by silent; }
effect_connection_timeout() { ended_by silent; }
# One that is silent for longer than the timeout; else it ends by itself.
ended_by() {
	{ sleep 0.4; echo x; } | nc -N 127.0.0.1 "$PORT" > "$D/reply"
	sleep 0.1
	status deaths > "$D/deaths"
	grep 'info: closed' "$LOG" | tail -n 1 | sed -E 's/.* end=([^ ]+) .*/\1/'
}
effect_drain_timeout() {
	# Of the generation that serves: seen when it leaves.
	local until
	hold 1
	reload
	until=$(status | awk '$2 == "leaving" { print $6 }' | head -n 1)
	release
	echo $((($(date -d "$until" +%s) - $(date +%s) + 30) / 60 * 60))
}
effect_log_connections() {
	local n
	n=$(wc -l < "$LOG")
	ask x > "$D/reply"
	sleep 0.2
	tail -n +$((n + 1)) "$LOG" | grep -oE 'info: (connected|closed)' |
	    sed 's/info: //' | xargs
}
effect_user() { echo "$(in_status Uid) $(in_status Gid)"; }
effect_group() { in_status Gid; }
effect_chroot() { readlink "/proc/$(worker)/root"; }
effect_new_privileges() { awk '$1 == "NoNewPrivs:" { print $2 }' "/proc/$(worker)/status"; }
effect_rlimit_as() { limit 'Max address space'; }
effect_rlimit_core() { limit 'Max core file size'; }
effect_rlimit_cpu() { limit 'Max cpu time'; }
effect_rlimit_data() { limit 'Max data size'; }
effect_rlimit_fsize() { limit 'Max file size'; }
effect_rlimit_nofile() { limit 'Max open files'; }
effect_rlimit_nproc() { limit 'Max processes'; }
effect_rlimit_stack() { limit 'Max stack size'; }

has_effect() { [ "$("effect_${1//-/_}")" = "$2" ]; }
settled() { slots_are draining 0 && slots_are starting 0; }

# tried SETTING VALUE EFFECT
tried() {
	local said
	case $1 in
	*-timeout|max-connections*) with "$1" "$2" && echo 'log-connections end' ;;
	*) with "$1" "$2" ;;
	esac > "$D/conf"
	reload || {
		echo "$1 $2: $(status | grep ^reload)" >&2
		return 1
	}
	wait_for settled
	said=$("effect_${1//-/_}") || true
	[ "$said" = "$3" ] || wait_for has_effect "$1" "$3" || {
		echo "$1 $2: says $said, not $3" >&2
		return 1
	}
}

@test "every setting that a reload may change takes effect" {
	base 127.0.0.1:0 > "$D/conf"
	start_conf
	for name in $(rows reload); do
		[[ " $ELSEWHERE " != *" $name "* ]] || continue
		if [ "$(id -u)" -ne 0 ] && [[ " $ROOT_ONLY " == *" $name "* ]]; then
			continue
		fi
		[ "$(values_of "$name" | wc -l)" -ge 2 ] || {
			echo "setting $name: say in VALUES how its effect is seen" >&2
			return 1
		}
		while IFS='|' read -r _ value effect; do
			tried "$name" "$value" "$effect" < /dev/null
		done < <(values_of "$name")
	done
	base > "$D/conf"
	reload
	wait_for settled
	BASE_FDS=$(master_fds)
}

@test "every setting that it may not change is refused by a line that names it" {
	base 127.0.0.1:0 > "$D/conf"
	start_conf
	for name in $(rows restart); do
		value=$(awk -F '|' -v n="$name" '$1 == n { print $2 }' <<<"$RESTART")
		[ -n "$value" ] || {
			echo "setting $name: give it another value in RESTART" >&2
			return 1
		}
		# status-file is an option of start here, and so wins.
		[ "$name" != status-file ] || continue
		{ echo "$name $value"; base; } > "$D/conf"
		reload_refused "$name: a new value needs a restart"
	done
	base > "$D/conf"
	reload
}
