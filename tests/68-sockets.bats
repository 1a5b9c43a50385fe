# 68-sockets.bats: a server whose sockets were handed to it (R24, G16): they
# serve their listen lines, and stay as they are for their owner, who has them
# before, between and after servers.

load helper
load clients

SUPERVISOR=$TOP/tests/tools/supervisor

# hold ADDRESS...: somebody else has these sockets; HELD as bound, HOLDER.
hold_sockets() {
	setsid "$SUPERVISOR" hold "$D/control" "$@" > "$D/sockets" 3>&- &
	HOLDER=$!
	STARTED+=("$HOLDER")
	wait_for held $#
	mapfile -t HELD < "$D/sockets"
	cat > "$D/run" <<-END
	#!/bin/sh
	exec '$SUPERVISOR' exec '$D/control' '$PROGRAM' "\$@"
	END
	chmod 755 "$D/run"
	PROGRAM=$D/run
}

held() { [ "$(wc -l < "$D/sockets")" -eq "$1" ]; }

teardown() {
	[ -z "${HOLDER-}" ] || kill "$HOLDER"
	DEADLINE=10
	check_invariants
}

# refused LINE ARGUMENT...: exit 1, this line and no other, nothing left.
refused() {
	start_quietly "${@:2}"
	ended 1
	[ "$(< "$LOG")" = "preforkd: $1" ] || {
		cat "$LOG" >&2
		return 1
	}
	[ ! -e "$STATUS" ]
}

greets() { [[ $(ask l "${1##*:}") == Welcome* ]]; }

@test "G16 a socket that was handed over serves its listen line, others are bound" {
	hold_sockets 127.0.0.1:0 '[::1]:0' "unix:$D/sock"
	start -l "${HELD[1]}" -l 127.0.0.1:0 -l "${HELD[0]}" -l "unix:$D/sock" greet
	[ "${ADDRESSES[0]}" = "${HELD[1]}" ]
	[ "${ADDRESSES[2]}" = "${HELD[0]}" ]
	for address in "${ADDRESSES[@]}"; do
		"$TOOLS/storm" -g -n 20 -c 4 "$address"
	done
	# Its length is what the owner has made it.
	[ "$(status | awk -v a="${HELD[0]}" '$1 == a { print $4 }')" = 1024 ]
	# ... and nobody has had to wait for one that does not block.
	not logged 'is cut to|non-blocking'
}

@test "the options of TCP of a socket that was handed over are its owner's" {
	hold_sockets 127.0.0.1:0
	printf '%s\n' 'import socket' 's = socket.socket(fileno = 0)' \
	    'print(s.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))' > "$D/tell"
	printf '%s\n' 'service a' "listen ${HELD[0]}" 'listen 127.0.0.1:0' \
	    'tcp-nodelay yes' "exec python3 $D/tell" > "$D/conf"
	open_directory
	start -f "$D/conf"
	[ "$(ask x "${HELD[0]##*:}")" = 0 ]
	status reload
	[ "$(ask x "${HELD[0]##*:}")" = 0 ]
	[ "$(ask x "${ADDRESSES[1]##*:}")" = 1 ]
}

@test "G16 stop and start again while clients come, the socket held: none refused, none reset" {
	hold_sockets 127.0.0.1:0
	start -l "${HELD[0]}" -o 'log-connections no' greet
	storm_begin -g -t 60 -c 16 -T 15000
	for round in 1 2 3 4 5 6 7 8; do
		stop
		start -l "${HELD[0]}" -o 'log-connections no' greet
		wait_for has_served 50
	done
	storm_end
	stormed_well
	[ "$(stormed refused)" -eq 0 ]
	[ "$(count_logged 'stopped clients-cut=0')" -eq 8 ]
}

@test "G09 an upgrade goes on with the sockets that were handed over, and they stay their owner's" {
	hold_sockets 127.0.0.1:0 "unix:$D/sock"
	start -l "${HELD[0]}" -l "unix:$D/sock" -o 'log-connections no' greet
	storm_begin -g -t 60 -c 8 -T 15000
	"$PREFORKCTL" -s "$STATUS" upgrade | grep '^upgraded from '
	"$PREFORKCTL" -s "$STATUS" upgrade | grep '^upgraded from '
	stop
	start -l "${HELD[0]}" -l "unix:$D/sock" -o 'log-connections no' greet
	storm_end
	stormed_well
	[ "$(stormed refused)" -eq 0 ]
	[ -S "$D/sock" ]
	[[ $(echo x | timeout 5 nc -NU "$D/sock") == Welcome* ]]
}

has_served() { [ "$(accepted)" -ge "$1" ]; }

@test "G16 what waits in the queue at a stop is for the next server" {
	hold_sockets 127.0.0.1:0
	start -l "${HELD[0]}" -o 'workers-max 1' greet
	hold 1
	queue 5
	kill -TERM "$M"
	wait_for logged 'stopping, clients finish'
	release
	ended 0
	[[ $(tail -n 1 "$LOG") == *'stopped clients-cut=0 clients=1' ]]
	start -l "${HELD[0]}" greet
	queue_served 5
}

@test "G16 a stop at once cuts who is served, and not who waits" {
	hold_sockets 127.0.0.1:0
	start -l "${HELD[0]}" -o 'workers-max 1' greet
	hold 1
	queue 5
	stop INT 2
	[[ $(tail -n 1 "$LOG") == *'stopped clients-cut=1 clients=1' ]]
	release_cut
	start -l "${HELD[0]}" greet
	queue_served 5
}

@test "G16 a reload that has no use for a socket leaves it open, and one that has takes it again" {
	hold_sockets 127.0.0.1:0 "unix:$D/sock"
	both "${HELD[0]}" "unix:$D/sock"
	start -f "$D/conf"
	for round in 1 2; do
		both 127.0.0.1:0
		"$PREFORKCTL" -s "$STATUS" reload
		wait_for has_listeners 1
		"$TOOLS/storm" -g -n 3 -T 15000 "${HELD[0]}" &
		storm=$!
		"$TOOLS/storm" -g -n 3 -T 15000 "unix:$D/sock" &
		storm="$storm $!"
		both "${HELD[0]}" "unix:$D/sock"
		"$PREFORKCTL" -s "$STATUS" reload
		for pid in $storm; do wait "$pid"; done
		wait_for has_listeners 2
	done
	BASE_FDS=$(master_fds)
	[ -S "$D/sock" ]
	stop
	[ -S "$D/sock" ]
}

@test "G16 a socket that a reload has no use for is handed on by an upgrade, and taken again" {
	hold_sockets 127.0.0.1:0 "unix:$D/sock"
	both "${HELD[@]}"
	start -f "$D/conf"
	both 127.0.0.1:0
	"$PREFORKCTL" -s "$STATUS" reload
	wait_for has_listeners 1
	wait_for same_fds_and 1
	for round in 1 2; do "$PREFORKCTL" -s "$STATUS" upgrade; done
	wait_for same_fds_and 1
	both "${HELD[@]}"
	"$PREFORKCTL" -s "$STATUS" reload
	for address in "${HELD[@]}"; do
		"$TOOLS/storm" -g -n 3 -T 15000 "$address"
	done
	wait_for same_fds
	stop
	[ -S "$D/sock" ]
}

# same_fds_and N: and so many more.
same_fds_and() { [ "$(master_fds)" -eq $((BASE_FDS + $1)) ]; }

has_listeners() {
	[ "$(status | awk '/^LISTENER/ { on = 1; next } !NF { on = 0 } on' |
	    wc -l)" -eq "$1" ]
}

# both ADDRESS...: a file with these.
both() {
	{
		echo 'service greet'
		printf 'listen %s\n' "$@"
		echo 'run greet'
	} > "$D/conf"
}

@test "a socket for both families serves *:PORT, and clients of IPv4 look as such" {
	hold_sockets both:0
	port=${HELD[0]##*:}
	start -l "*:$port" greet
	[ "${ADDRESSES[*]}" = "[::]:$port" ]
	wait_for logged "^preforkd: left out: listen 0.0.0.0:$port: the inherited socket for IPv6 takes IPv4 as well"
	ask l "$port" | grep 'connected to 127.0.0.1 on'
	printf l | nc -N ::1 "$port" | grep 'connected to ::1 on'
	wait_for logged 'info: connected 127.0.0.1:'
	"$PREFORKCTL" -s "$STATUS" reload
	"$TOOLS/storm" -g -n 5 "127.0.0.1:$port"
}

@test "a socket that no listen line has is an error that names it" {
	hold_sockets 127.0.0.1:0 "unix:$D/sock"
	refused "inherited socket unix:$D/sock: must be the address of a listen line" \
	    -l "${HELD[0]}" greet
}

@test "LISTEN_PID of somebody else, or none, hands nothing over" {
	hold_sockets 127.0.0.1:0
	for pid in 1 '' x; do
		LISTEN_PID=$pid start -l 127.0.0.1:0 greet
		[ "$ADDRESS" != "${HELD[0]}" ]
		stop
	done
}

@test "what is no listening socket, or no number, is an error" {
	hold_sockets 127.0.0.1:0
	LISTEN_FDS=2 refused 'inherited descriptor 4: must be a listening socket, of TCP or a Unix stream' \
	    -l "${HELD[0]}" greet
	: > "$LOG"
	LISTEN_FDS=many refused 'LISTEN_FDS: must be 0 to 256 sockets' \
	    -l "${HELD[0]}" greet
}

@test "the check of a configuration looks at no socket" {
	hold_sockets 127.0.0.1:0
	LISTEN_FDS=7 "$PROGRAM" -n -l 127.0.0.1:1 greet
}

@test "in the background, too, and by systemd-socket-activate" {
	hold_sockets 127.0.0.1:0
	start_daemon -l "${HELD[0]}" greet
	greets "${HELD[0]}"
	stop_daemon
	PROGRAM=$PREFORKD
	command -v systemd-socket-activate || skip 'no systemd-socket-activate'
	cat > "$D/run" <<-END
	#!/bin/sh
	exec systemd-socket-activate -l '${HELD[0]%:*}:7931' '$PREFORKD' "\$@"
	END
	PROGRAM=$D/run
	start_quietly -l 127.0.0.1:7931 greet
	wait_for nc -z 127.0.0.1 7931
	wait_for started
	greets 127.0.0.1:7931
	grep 'serving 127.0.0.1:7931' "$LOG"
	sed -i '/^[^ ]* *preforkd\[/!d' "$LOG"	# what the tool has said
	BASE_FDS=$(master_fds)
}
