# machines.bash: three servers, each as on a machine of its own, behind one
# HAProxy with etc/haproxy/preforkd.cfg; to be loaded after helper, clients,
# programs and upgrade.
#
# The machines one, two and three are addresses of the loopback interface; with
# NETNS they are network namespaces on a bridge, which is in the one of proxy.

# shellcheck disable=SC2034,SC2154  # shared with helper.bash and the tests

declare -gA MASTER HOST=([proxy]=1 [one]=11 [two]=12 [three]=13)
AT_ONCE=6	# clients, and so no more are served by one machine
EXAMPLE=$TOP/etc/haproxy/preforkd.cfg

eval "programs_$(declare -f teardown)"
teardown() {
	local each
	for each in "${MASTER[@]}"; do
		kill -INT "$each" 2> /dev/null || true
		wait_for gone_or_zombie "$each" || kill -KILL "$each"
	done
	M=''
	programs_teardown || return
	[ -z "${NETNS-}" ] || for each in "${!HOST[@]}"; do
		ip netns del "$NETNS-$each" || true
	done
}

address() { echo "${NETNS:+10.99.0}${NETNS:-127.0.0}.${HOST[$1]}" | sed "s/${NETNS:-@}//"; }

# on MACHINE COMMAND...
on() {
	local machine=$1
	shift
	${NETNS:+ip netns exec "$NETNS-$machine"} "$@"
}

# namespaces: of the machines, on a bridge.
namespaces() {
	local each
	[ "$(id -u)" -eq 0 ] || skip 'namespaces need root'
	ip netns add "pf$$-proxy" 2> /dev/null || skip 'no network namespaces here'
	NETNS=pf$$
	on proxy ip link add br0 type bridge
	on proxy ip addr add "$(address proxy)/24" dev br0
	on proxy ip link set br0 up
	on proxy ip link set lo up
	for each in one two three; do
		ip netns add "$NETNS-$each"
		on proxy ip link add "to-$each" type veth peer name eth0 \
		    netns "$NETNS-$each"
		on proxy ip link set "to-$each" master br0 up
		on "$each" ip addr add "$(address "$each")/24" dev eth0
		on "$each" ip link set eth0 up
		on "$each" ip link set lo up
	done
}

# machine NAME: its server is started, or started again.
machine() {
	STATUS=$D/$1.status
	[ -e "$D/$1" ] || cp "$PREFORKD" "$D/$1"
	PROGRAM=$D/on-$1
	printf '#!/bin/sh\nexec %s%s "$@"\n' \
	    "${NETNS:+ip netns exec $NETNS-$1 }" "$D/$1" > "$PROGRAM"
	chmod +x "$PROGRAM"
	cat > "$D/$1.conf" <<-END
	service web
	    listen $(address "$1"):$WEB
	    run echo
	    workers-max 16
	    proxy-protocol from $(address proxy)
	service agent
	    listen $(address "$1"):$AGENT
	    run agent web
	    workers-max 3
	END
	start -o 'log-connections no' -f "$D/$1.conf"
	MASTER[$1]=$M
}

# machines: all of them, and HAProxy, which sees them.
machines() {
	local each
	need haproxy
	free_ports 3
	WEB=${PORTS[0]} AGENT=${PORTS[1]} FRONT=${PORTS[2]}
	for each in one two three; do
		machine "$each"
	done
	sed -E "s/:8001$/:$WEB/; s/bind .*/bind $(address proxy):$FRONT/
	    s/agent-port 8002/agent-port $AGENT/; s|/run/haproxy|$D|
	    s/192\.0\.2/$(address proxy | sed 's/\.1$//')/
	    s/inter 1s/inter 200ms/g; s/connect 1s/connect 300ms/" \
	    "$EXAMPLE" > "$D/haproxy.cfg"
	background ${NETNS:+ip netns exec "$NETNS-proxy"} \
	    env "LD_LIBRARY_PATH=$(echo "$TOOLS"/fetched/usr/lib/*-linux-gnu)" \
	    "$(type -P haproxy)" -db -f "$D/haproxy.cfg"
	for each in one two three; do
		wait_for seen "$each" UP 100
	done
}

hap() { echo "$1" | timeout 5 nc -U "$D/admin.sock"; }

# stat NAME FIELD: of a server, or FRONTEND or BACKEND, as HAProxy has it.
stat() {
	hap 'show stat' | awk -F , -v name="$1" -v field="$2" '
	NR == 1 { for (i = 1; i <= NF; i++) if ($i == field) at = i }
	$2 == name { print $at; exit }'
}
# seen NAME STATE [WEIGHT]
seen() {
	[ "$(stat "$1" status)" = "$2" ] &&
	    { [ -z "${3-}" ] || [ "$(stat "$1" weight)" = "$3" ]; }
}

# Clients by way of HAProxy, one after another and side by side, until
# load_end; what became of them is in $D/storm.
load_begin() {
	on proxy "$TOOLS/storm" -e -l 0 -s hello -x 5 -c "$AT_ONCE" -t 3000 -T 15000 \
	    "$(address proxy):$FRONT" > "$D/storm" 2> "$D/storm.err" 3>&- &
	LOAD=$!
	more_clients
}
load_end() {
	local p
	p=$(ps -o pid= --ppid "$LOAD" | tr -d ' ')
	kill -TERM "${p:-$LOAD}"
	wait "$LOAD" || true
	cat "$D/storm" "$D/storm.err" >&2
}
# 100 more than there are.
more_clients() {
	CLIENTS=$(stat BACKEND stot)
	wait_for more_than "$CLIENTS" 100
}
more_than() { [ "$(stat BACKEND stot)" -ge $(($1 + $2)) ]; }

# What may happen to a machine.
upgraded() {
	more_clients
	cp "$1" "$D/$2.new"
	mv "$D/$2.new" "$D/$2"
	"$PREFORKCTL" -s "$D/$2.status" upgrade
}
drained() {
	hap "disable agent web/$1; set server web/$1 state drain"
	wait_for seen "$1" DRAIN
	more_clients
	hap "set server web/$1 state ready; enable agent web/$1"
	wait_for seen "$1" UP
}
stopped() {
	more_clients
	kill -TERM "${MASTER[$1]}"
	M=${MASTER[$1]}
	ended 0
	wait_for not seen "$1" UP
	more_clients
	machine "$1"
	wait_for seen "$1" UP
}
killed() {
	more_clients
	kill -KILL "${MASTER[$1]}"
	wait_for gone_or_zombie "${MASTER[$1]}"
	wait_for not seen "$1" UP
	more_clients
	machine "$1"
	wait_for seen "$1" UP
}

# under_load LOST COMMAND...: while clients come; of them at most so many have no
# answer, or half of one.
under_load() {
	local key lost=0
	load_begin
	"${@:2}"
	more_clients
	load_end
	[ "$(stormed ok)" -gt 200 ]
	for key in refused reset short wrong timeout; do
		lost=$((lost + $(stormed $key)))
	done
	echo "${*:2}: clients $(stormed ok), lost $lost"
	[ "$lost" -le "$1" ]
}
