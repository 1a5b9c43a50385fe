# 67-handover.bats: what becomes of listening sockets in reloads: a socket is
# known by its address, is handed on without being closed, asked back while it
# leaves, and takes nobody whom it might have to send away (rows G of the fault
# matrix).

load helper
load clients
load reload

# one_service NAME ADDRESS [LINE...]: that greets there.
one_service() {
	printf '%s\n' "service $1" "listen $2" 'run greet' "${@:3}" | conf
}

# kept COMMAND...: by it, the sockets stay the same ones.
kept() {
	local before
	before=$(sockets)
	"$@"
	[ -n "$before" ] && [ "$(sockets)" = "$before" ]
}

owner_of() { listeners | awk -v a="$1" '$1 == a { print $2 }'; }
owner_is() { [ "$(owner_of "$1")" = "$2" ]; }

@test "an address goes over to a service of another name without being closed, under a storm" {
	greet_conf 'workers-spare 4'
	start_conf
	storm_begin -g -t 30 -c 16
	for name in other greet other; do
		one_service $name "$ADDRESS" 'workers-spare 4'
		kept reload
		owner_is "$ADDRESS" $name
		wait_for accepted_more
		ACCEPTED=0
	done
	storm_end
	stormed_well
	[ "$(stormed refused)" -eq 0 ]
	not logged 'in use'
}

@test "two services exchange their addresses in one reload" {
	printf '%s\n' 'service a' 'listen 127.0.0.1:0' 'run greet' \
	    'service b' 'listen 127.0.0.2:0' 'run echo' | conf
	start_conf
	a=${ADDRESSES[0]} b=${ADDRESSES[1]}
	printf '%s\n' 'service a' "listen $b" 'run greet' \
	    'service b' "listen $a" 'run echo' | conf
	kept reload
	answers "$b" 'Welcome ! You have connected to 127.0.0.2 '
	answers "$a" x
	owner_is "$b" a
	owner_is "$a" b
}

@test "a socket is the same by any spelling of its address" {
	[ -e /proc/net/if_inet6 ] || skip 'this kernel has no IPv6'
	one_service greet '*:0'
	start_conf
	port=${ADDRESSES[0]##*:}
	[ "${ADDRESSES[1]##*:}" != "$port" ] ||
	    skip 'both have one port by chance'
	six=${ADDRESSES[1]##*:}
	for text in "0.0.0.0:$port" "0.0.0.0:0$port" "[::ffff:0.0.0.0]:$port"; do
		printf '%s\n' 'service greet' "listen $text" \
		    "listen [0:0::0]:$six" 'run greet' | conf
		kept reload
		has_listeners 2
	done
	answers "127.0.0.1:$port" Welcome
	printf '%s\n' 'service greet' "listen 0.0.0.0:$port" 'run greet' | conf
	reload
	wait_for has_listeners 1
	BASE_FDS=$((BASE_FDS - 1))
	# `*' in the place of one of its two: that one stays, the other comes.
	one_service greet "*:$port"
	before=$(sockets)
	reload
	has_listeners 2
	sockets | grep -qFx "$before"
	BASE_FDS=$((BASE_FDS + 1))
}

@test "a port that port 0 has got can be named, by any service, and given back" {
	greet_conf
	start_conf
	one_service greet "$ADDRESS"
	kept reload
	one_service other "$ADDRESS"
	kept reload
	greet_conf
	kept reload
	answers "$ADDRESS" Welcome
	greet_conf "listen $ADDRESS"
	reload_refused "listen $ADDRESS: must be there once, and is what a line with port 0 has"
}

@test "G18 a Unix socket goes over to another service, and keeps its file" {
	one_service greet "unix:$D/s" 'listen 127.0.0.1:0'
	start_conf
	ADDRESS=${ADDRESSES[1]} PORT=${ADDRESSES[1]##*:}
	inode=$(stat -c %i "$D/s")
	one_service other "unix:$D/s" "listen $ADDRESS"
	kept reload
	[ "$(stat -c %i "$D/s")" = "$inode" ]
	storm -g -n 3
	one_service third "unix:$D/s mode=600" "listen $ADDRESS"
	reload_refused "listen unix:.*/s: a new mode or owner needs a restart"
	stop
	[ ! -e "$D/s" ]
}

@test "an address that one of ours is in the way of is refused with what to do, and can be had by two reloads" {
	greet_conf
	start_conf
	printf '%s\n' 'service greet' "listen 0.0.0.0:$PORT" 'run greet' | conf
	reload_refused "listen 0.0.0.0:$PORT: bind: Address already in use by $ADDRESS of this server, which must go first, by a reload of its own or a restart"
	printf '%s\n' 'service greet' "listen 127.0.0.2:0" 'run greet' | conf
	reload
	printf '%s\n' 'service greet' "listen 0.0.0.0:$PORT" \
	    'listen 127.0.0.2:0' 'run greet' | conf
	wait_for has_listeners 1
	reload
	answers "$ADDRESS" Welcome
	BASE_FDS=$((BASE_FDS + 1))
}

# A service with an address of its own, and one worker.
second_service() {
	printf '%s\n' 'service second' "listen $1" 'run greet' \
	    'workers-max 1' "${@:2}" >> "$D/conf"
}
with_second() { without_second && second_service "$second"; }
without_second() { greet_conf 'workers-spare 1' 'workers-max 2'; }

start_two() {
	without_second
	second_service 127.0.0.2:0 "$@"
	start_conf
	second=$(address_of second)
}

@test "an address that is in the way of one that still serves its queue is refused for now" {
	start_two
	hold 1 "$second"
	queue 3 "$second"
	without_second
	reload
	greet_conf "listen 0.0.0.0:${second##*:}" 'workers-spare 1' 'workers-max 2'
	BASE_FDS=$(master_fds)
	reload_refused "in use by $second of this server, which serves its queue and goes: reload again"
	release
	queue_served 3
	wait_for has_listeners 1
	reload
	answers "$second" Welcome
	BASE_FDS=$(master_fds)
}

@test "a line that is taken out and put back while its queue is served keeps its socket" {
	start_two
	hold 1 "$second"
	queue 5 "$second"
	without_second
	reload
	with_second
	kept reload
	# It takes clients again, while the old worker still holds its own.
	queue_served 5
	answers "$second" Welcome
	release
	has_listeners 2
	answers "$ADDRESS" Welcome
}

@test "so does one whose workers were told to leave, and that twice" {
	start_two
	for i in 1 2; do
		hold 1 "$second"
		without_second
		reload
		wait_for slots_are draining 1
		with_second
		kept reload
		answers "$second" Welcome
		release
	done
	wait_for slots_are draining 0
	has_listeners 2
}

@test "a line that is put back twenty times under a storm resets nobody" {
	start_two
	storm_begin -t 30 -c 8
	for i in {1..20}; do
		without_second
		kill -HUP "$M"
		with_second
		reload
		answers "$second" Welcome
	done
	storm_end
	stormed_well
	wait_for has_listeners 2
	wait_for slots_are draining 0
}

# start_faulty_two: and a free address, for a second line.
start_faulty_two() {
	start_faulty
	new=$(free_address)
	fault_conf "$@"
	reload
}

# fault_conf LINE...: the faulty service, with these as well.
fault_conf() {
	printf '%s\n' 'service abort' "listen $ADDRESS" 'run abort' \
	    'workers-spare 2' 'user root' "$@" | conf
}

# stop_workers_of ADDRESS: they are STOPPED, and so do not leave.
stop_workers_of() {
	mapfile -t STOPPED < <(ps -o pid=,args= --ppid "$M" |
	    awk -v a="$1" '$4 == a { print $1 }')
	kill -STOP "${STOPPED[@]}"
}

rolled_back() { [ "$(count_logged 'reload failed')" -eq "$1" ]; }

@test "clients of a new address are refused, not reset, when its generation is rolled back" {
	start_faulty_two
	touch "$FAULT_FILE.slow" "$FAULT_FILE.fail"
	fault_conf "listen $new"
	kill -HUP "$M"
	wait_for slots_are starting 4
	"$TOOLS/storm" -l 1 -n 4 -c 4 "$new" > "$D/early" &
	early=$!
	answers "$ADDRESS" hello
	rm "$FAULT_FILE.slow"
	wait_for rolled_back 1
	wait "$early" || true
	grep 'ok=0 refused=4 reset=0' "$D/early"
	wait_for has_listeners 1
	rm "$FAULT_FILE.fail"
	reload
	BASE_FDS=$((BASE_FDS + 1))
	"$TOOLS/storm" -l 1 -n 4 "$new"
}

@test "clients of a new address who come before its generation is ready are served by it" {
	start_faulty_two
	touch "$FAULT_FILE.slow"
	fault_conf "listen $new"
	kill -HUP "$M"
	wait_for slots_are starting 4
	"$TOOLS/storm" -l 1 -n 4 -c 4 "$new" > "$D/early" &
	early=$!
	rm "$FAULT_FILE.slow"
	wait "$early"
	grep 'ok=4 refused=0 reset=0' "$D/early"
	BASE_FDS=$(master_fds)
}

@test "a new Unix socket that is rolled back goes within drain-timeout, whoever waits there" {
	start_faulty_two 'drain-timeout 1s'
	touch "$FAULT_FILE.slow" "$FAULT_FILE.fail"
	fault_conf "listen unix:$D/s" 'drain-timeout 1s'
	kill -HUP "$M"
	wait_for slots_are starting 4
	REPLY_LINES=1
	queue 3 "unix:$D/s"
	rm "$FAULT_FILE.slow"
	wait_for rolled_back 1
	[ ! -e "$D/s" ]
	wait_for logged 'warning: clients in the queue are cut, drain-timeout passed address=unix:'
	wait_for has_listeners 1
	queue_read
	answers "$ADDRESS" hello
	wait_for same_fds
}

@test "a rolled back generation does not keep the address that it asked back" {
	start_faulty_two
	fault_conf "listen $new"
	reload
	REPLY_LINES=1
	wait_for has_listeners 2
	fault_conf
	stop_workers_of "$new"
	queue 2 "$new"
	reload
	touch "$FAULT_FILE.fail"
	fault_conf "listen $new"
	kill -HUP "$M"
	wait_for rolled_back 1
	has_listeners 2
	kill -CONT "${STOPPED[@]}"
	queue_served 2
	wait_for has_listeners 1
	refuses "$new"
	wait_for same_fds
}

@test "an address that a slow generation asks back is not closed when its last worker leaves" {
	start_faulty_two
	fault_conf "listen $new"
	reload
	fault_conf
	stop_workers_of "$new"
	reload
	touch "$FAULT_FILE.slow"
	fault_conf "listen $new"
	before=$(sockets)
	kill -HUP "$M"
	wait_for slots_are starting 4
	sleep 0.3	# the farewell goes on
	kill -CONT "${STOPPED[@]}"
	for w in "${STOPPED[@]}"; do wait_for gone_or_zombie "$w"; done
	wait_for no_zombies
	rm "$FAULT_FILE.slow"
	wait_for logged 'reloaded generation=5'
	[ "$(sockets)" = "$before" ]
	answers "$new" hello
	BASE_FDS=$((BASE_FDS + 1))
}

@test "the queue of a removed address is cut at drain-timeout, and its generation is gone" {
	start_two 'drain-timeout 1s'
	hold 1 "$second"
	queue 3 "$second"
	without_second
	t=$EPOCHREALTIME
	reload
	wait_for has_listeners 1
	took "$t" 1000 4000
	wait_for logged "warning: clients in the queue are cut, drain-timeout passed address=$second queued=3"
	wait_for logged 'killing a worker .*why="drain-timeout passed"'
	wait_for has_workers 1
	BASE_FDS=$(master_fds)
	queue_read
	release_cut
}
