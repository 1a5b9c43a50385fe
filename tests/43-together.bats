# 43-together.bats: rules, limits, proxies and a full pool, all at once, and
# while the configuration or the program changes.

load helper
load clients
load reload
load upgrade

from() { timeout "$DEADLINE" nc -N -s "$1" 127.0.0.1 "$PORT"; }
greets() { [[ $(echo x | from "$1") == Welcome* ]]; }
keeps_out() { [ -z "$(echo x | from "$1")" ]; }

header() { printf 'PROXY TCP4 %s 192.0.2.200 4000 80\r\n' "$1"; }
# through ADDRESS TEXT: what a client from there is answered.
through() { { header "$1"; echo "$2"; } | from 127.0.0.1; }

# stays ADDRESS: a client that says nothing, until it is killed.
stays() {
	local fd fifo=$D/stays.${#PESTS[@]}
	mkfifo "$fifo"
	nc 127.0.0.1 "$PORT" < "$fifo" > /dev/null 3>&- &
	PESTS+=($!)
	exec {fd}> "$fifo"
	header "$1" >&"$fd"
}

refused_for() {
	wait_for logged "client refused peer=$1:4000 service=p why=$2\$"
}

@test "behind a proxy, rules, limits and a full pool all see the client's address" {
	printf '%s\n' '192.0.2.:allow,WHO="net"' '192.0.2.66:deny' ':deny' > "$D/rules"
	printf '%s\n' 'service p' 'listen 127.0.0.1:0' 'proxy-protocol from 127.0.0.1' \
	    "rules $D/rules" 'per-source 2' 'per-source-for 192.0.2.9 1' \
	    'workers-max 4' 'when-full drop-silent' 'log-connections end' \
	    'exec /bin/sh -c "read -r x; echo $x $WHO $TCPREMOTEIP $PREFORKD_STRESS"' | conf
	start_conf
	[ "$(through 192.0.2.1 x)" = 'x net 192.0.2.1' ]
	[ -z "$(through 192.0.2.66 x)" ]
	refused_for 192.0.2.66 rules
	[ -z "$(through 198.51.100.1 x)" ]
	refused_for 198.51.100.1 rules
	stays 192.0.2.9
	wait_for slots_are busy 1
	[ -z "$(through 192.0.2.9 x)" ]
	refused_for 192.0.2.9 per-source
	stays 192.0.2.1
	stays 192.0.2.1
	wait_for slots_are busy 3
	[ -z "$(through 192.0.2.1 x)" ]
	refused_for 192.0.2.1 per-source
	stays 192.0.2.2
	wait_for slots_are busy 4
	[[ $(through 192.0.2.3 x) == 'x net 192.0.2.3'* ]]
	wait_for logged 'closed 192.0.2.9:4000 .* in=0 .*end=made-room'
	[[ $(through 192.0.2.9 x) == 'x net 192.0.2.9'* ]]
	kill "${PESTS[@]}" 2>/dev/null || true
	wait_for slots_are busy 0
}

# A client's cells are its service's, whichever generation or program serves.
@test "per-source counts on over a reload and an upgrade" {
	greet_conf 'per-source 2' 'workers-spare 2'
	start_installed "$PREFORKD" -f "$D/conf"
	hold 2
	keeps_out 127.0.0.1
	reload
	keeps_out 127.0.0.1
	greets 127.0.0.2
	upgraded_to "$OTHER" 0.other
	keeps_out 127.0.0.1
	greets 127.0.0.2
	release
	wait_for greets 127.0.0.1
}

@test "rules that change while clients come: each reload holds at once, and nobody is lost" {
	echo '127.0.0.2:deny' > "$D/rules"
	greet_conf "rules $D/rules" 'per-source 50' 'rate 200/1s'
	start_conf
	storm_begin -t 60 -c 4
	for i in {1..6}; do
		echo "127.0.0.$((3 - i % 2)):deny" > "$D/rules"
		reload
		keeps_out "127.0.0.$((3 - i % 2))"
		greets "127.0.0.$((2 + i % 2))"
	done
	storm_end
	stormed_well
	not logged 'client refused peer=127.0.0.1:'
}
