# crowds.bash: floods and crowds against limits, for 44-crowds and its soak, to
# be loaded after helper and clients.

# shellcheck disable=SC2034,SC2154  # shared with helper.bash and the tests

NETWORKS=()
IN=()

# Cells of the table of sources against clients, as one line in $D/cells.
cells() { "$TOOLS/cells" "$STATUS.slots" > "$D/cells"; }
no_cells() { cells && grep -q '^sources=0 cells=0 clients=0 ' "$D/cells"; }

# honest ARG...: clients from 50 addresses, 127.0.0.101 and following.
honest() {
	"$TOOLS/storm" -g -a 50+100 -c 50 -T 60000 "$@" "$ADDRESS" > "$D/storm" 2>> "$D/storm.err"
}

all_served() {
	cat "$D/storm" "$D/storm.err"
	[ "$(stormed ok)" -eq "$1" ] && stormed_well
}

refusals_logged() { grep -c 'client refused' "$LOG" || true; }

# flood_begin SECONDS CONCURRENCY: connections of 127.0.0.1, one after another;
# flood_end.
flood_begin() {
	"$TOOLS/storm" -t "$1" -c "$2" "$ADDRESS" > "$D/flood" 2>&1 3>&- &
	FLOOD=$!
}

flood_end() {
	kill -TERM "$FLOOD" 2>/dev/null || true
	wait "$FLOOD" || true
	cat "$D/flood"
}

flood_refused() { grep -qE '^ok=0 ' "$D/flood"; }

# one_address_floods CLIENTS HONEST: as many as it is allowed stay, the others
# are refused and come again.  Needs per-source 20.
one_address_floods() {
	hold_begin "$1"
	wait_for grep -qE "greeted=20 failed=$(($1 - 20)) " "$D/held"
	flood_begin 60 4
	honest -n "$2"
	all_served "$2"
	flood_end
	flood_refused
	release_cut
	wait_for no_cells
}

# a_silent_crowd ADDRESSES HONEST: that come at once, and then those that speak
# at once.
a_silent_crowd() {
	"$TOOLS/hold" -k 600 -a "$1+1000" "$1" "$ADDRESS" > "$D/held" 2>&1 3>&- &
	HOLD=$!
	wait_for logged 'workers-max is reached'
	"$TOOLS/storm" -a 50+100 -c 20 -l 0 -s x -T 60000 -n "$2" "$ADDRESS" \
	    > "$D/storm" 2>> "$D/storm.err"
	all_served "$2"
	kill -TERM "$HOLD"
	wait "$HOLD" || true
	wait_for no_cells
}

# sources_pass N: each once.
sources_pass() {
	BEFORE=$(resident_kb)
	"${IN[@]}" "$TOOLS/storm" -g -a "$1+1" -c 32 -n "$1" -T 60000 "$ADDRESS" > "$D/storm" 2>> "$D/storm.err"
	all_served "$1"
	[ "$(refusals_logged)" -eq 0 ]
	wait_for no_cells
}

# Of all processes of the server, pages of their own.
resident_kb() {
	local p
	for p in "$M" $(workers); do
		awk '$1 == "RssAnon:" { print $2 }' "/proc/$p/status"
	done 2>/dev/null | awk '{ n += $1 } END { print n + 0 }'
}

# The pool may have grown to workers-max; a worker has some 100 kB.
memory_has_not_grown() {
	local after
	after=$(resident_kb)
	echo "$BEFORE kB, then $after kB for $(worker_count) workers"
	[ "$after" -le $((BEFORE + 4096 + 200 * $(worker_count))) ]
}

a_worker() { workers | shuf -n 1; }

# workers_killed N: under 20 clients at once of 50 addresses, while 30 stay.
workers_killed() {
	local i n=0
	hold 10
	flood_begin 600 20
	honest -n 1000000 3>&- &
	STORM=$!
	wait_for accepted_more
	for ((i = 0; i < $1; i++)); do
		kill -KILL "$(a_worker)" 2>/dev/null && n=$((n + 1))
	done
	flood_end
	storm_end || true
	echo "killed $n"
	cat "$D/storm"
	release_cut
	hold 15
	begin=$EPOCHREALTIME
	wait_for cells
	took "$begin" 0 1500
	grep ' cells=15 clients=15 ' "$D/cells"
	release
	wait_for no_cells
}

# rate_exceeded SECONDS: from one address; then it is served again, and others
# have been all the while.
rate_exceeded() {
	flood_begin "$1" 8
	"$TOOLS/storm" -g -a 1+100 -n 5 -c 1 "$ADDRESS" > "$D/storm"
	wait "$FLOOD" || true
	cat "$D/flood"
	begin=$EPOCHREALTIME
	wait_for eval '[[ $(ask x) == Welcome* ]]'
	took "$begin" 0 2000
	[ "$(stormed ok)" -eq 5 ]
	# it was within the rate now and then, and mostly not
	[ "$(sed -E 's/^ok=([0-9]+) .*/\1/' "$D/flood")" -le $((60 * $1 + 10)) ]
	[ "$(sed -E 's/.* reset=([0-9]+) .* short=([0-9]+) .*/\1+\2/' "$D/flood" | bc)" -gt 100 ]
}

# network NAME...: network namespaces of these names, of this test; net NAME:
# the option of nsenter(1) for one of them; the server starts in the first.
network() {
	local name
	[ "$(id -u)" -eq 0 ] || skip 'network namespaces are for root'
	for name; do
		ip netns add "preforkd-$$-$name" 2>/dev/null || skip 'no network namespaces here'
		NETWORKS+=("preforkd-$$-$name")
		nsenter "$(net "$name")" ip link set lo up
	done
	IN=(nsenter "$(net "$1")")
	printf '#!/bin/sh\nexec %s %s "$@"\n' "${IN[*]}" "'$PREFORKD'" > "$D/within"
	chmod 755 "$D/within"
	PROGRAM=$D/within
}

net() { echo "--net=/run/netns/preforkd-$$-$1"; }

# join A B N: a cable between two, 10.9.N.1 and 10.9.N.2.
join() {
	ip link add "a$3" netns "preforkd-$$-$1" type veth peer name "b$3" netns "preforkd-$$-$2"
	nsenter "$(net "$1")" ip address add "10.9.$3.1/24" dev "a$3"
	nsenter "$(net "$2")" ip address add "10.9.$3.2/24" dev "b$3"
	nsenter "$(net "$1")" ip link set "a$3" up
	nsenter "$(net "$2")" ip link set "b$3" up
}

# Every address of 2001:db8::/32 is this machine's, there.
all_of_ipv6() {
	"${IN[@]}" sh -c 'echo 1 > /proc/sys/net/ipv6/ip_nonlocal_bind'
	"${IN[@]}" ip -6 route add local 2001:db8::/32 dev lo
}

# teardown of helper.bash, and then this.
eval "crowds_$(declare -f teardown)"
teardown() {
	local name rc=0
	crowds_teardown || rc=$?
	for name in "${NETWORKS[@]}"; do
		ip netns delete "$name"
	done
	return $rc
}
