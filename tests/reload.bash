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

# The master's listening sockets: the same ones have the same numbers.
sockets() { find "/proc/$M/fd" -lname 'socket:*' -printf '%l\n' | sort; }

# free_address: of no other test, with a port that no client has.
free_address() {
	echo "127.$((RANDOM % 100 + 100)).$((RANDOM % 250)).$((RANDOM % 250 + 1)):$((RANDOM % 12000 + 20000))"
}
