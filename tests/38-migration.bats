# 38-migration.bats: COMING FROM ELSEWHERE of preforkd.conf(5), row by row.
#
# Each row of a section becomes a service of one preforkd, and one of the server
# that the section is about, where that is here.  Both run a probe that tells
# what the row could change; it has to say the same, and to differ from what it
# says behind a server that nobody told anything.

load helper
load programs

PAGE=$TOP/man/preforkd.conf.5

# rows SECTION: left and right of each row, with a tab between.
rows() {
	awk -v section=".Ss From $1" '
	/^\.S[sh] / { on = index($0, section) == 1 }
	on' "$PAGE" | sed -nE '/^\.It Li (.*) Ta Ic (.*)$/ { s//\1\t\2/; s/"//g; p; }'
}

# service NAME RIGHT: one for this row, in $D/conf, on a free port.
service() {
	local right=${2//\/run\//$D/}
	right=${right//:9418/:0}
	right=${right//x.socket/$1.socket}
	right=${right//\/usr\/bin\/program/$PROBE/program}
	printf 'service %s\n' "$1"
	case $right in
	listen*) ;;
	*) printf '\tlisten 127.0.0.1:0\n' ;;
	esac
	case $right in
	exec' '* | run*) ;;
	resident*) printf '\tready-time 20ms\n' ;;
	*) printf '\t%s\n' "${SERVE:-exec $PROBE/probe}" ;;
	esac
	case $right in
	user*) ;;
	group*) printf '\tuser nobody\n' ;;
	*) [ "$(id -u)" -ne 0 ] || printf '\tuser root\n' ;;
	esac
	printf '\t%s\n' "$right"
}

eval "programs_$(declare -f teardown)"

# Without its file nobody starts a program again.  What inetd and xinetd have
# started by a row `wait' has a session of its own, and outlives them.
teardown() {
	local bad=0 pid
	[ -z "${PROBE-}" ] || rm -r "$PROBE"
	programs_teardown || bad=1
	[ -n "${PROBE-}" ] || return $bad
	for pid in $(pgrep -f "^/usr/bin/python3 $PROBE/program"); do
		kill "$pid"
	done
	wait_for not pgrep -f "$PROBE/" || bad=1
	return $bad
}

probe() {
	PROBE=$(mktemp -d)	# where everybody may go
	chmod 755 "$PROBE"
	cat > "$PROBE/probe" <<-'END'
	#!/bin/sh
	read -r line
	echo "user $(id -un) group $(id -gn) groups $(id -Gn | wc -w)"
	echo "nofile $(ulimit -n) as $(ulimit -v) cpu $(ulimit -t)"
	echo "umask $(umask) nice $(nice) pwd $(pwd)"
	echo "A $A"
	[ "$line" != error ] || echo oops >&2
	END
	cat > "$PROBE/program" <<-END
	#!/usr/bin/python3
	import os, socket, subprocess
	listener = socket.socket(fileno=3 if "LISTEN_FDS" in os.environ else 0)
	while True:
	    client = listener.accept()[0]
	    subprocess.run(["$PROBE/probe"], stdin=client, stdout=client)
	    client.close()
	END
	chmod 755 "$PROBE/probe" "$PROBE/program"
}

# serve_rows SECTION: LEFT, RIGHT, OURS (where each row is served).
serve_rows() {
	local i=0
	[ -n "${PROBE-}" ] || probe
	: > "$D/conf"
	USER_OPTION=()		# each service has its own
	LEFT=() RIGHT=() OURS=()
	while IFS=$'\t' read -r left right; do
		case $left in
		*nobody* | *daemon | -u* | Root*)
			[ "$(id -u)" -eq 0 ] || continue ;;
		esac
		LEFT+=("$left")
		RIGHT+=("$right")
		service "row$((i++))" "$right" >> "$D/conf"
	done < <(rows "$1")
	[ "$i" -ge "$2" ]
	start -f "$D/conf"
	status > "$D/served"
	for i in "${!LEFT[@]}"; do
		OURS+=("$(address_of "row$i")")
	done
}

# The first, of a service that has two.
address_of() {
	awk -v s="$1" '/^LISTENER/ { on = 1 }
	on && $2 == s && !n++ { print $1 }' "$D/served"
}

queue_limit() { ss -Hltn "sport = :${1##*:}" | awk '{ print $3; exit }'; }

# told N PORT: what a client of row N, and of the other server, is told.
told() {
	local address=${OURS[$1]}
	case ${LEFT[$1]} in
	*daemon\ --inetd)
		git ls-remote "git://$address$D/repo" > "$D/ours"
		git ls-remote "git://127.0.0.1:$2$D/repo" > "$D/theirs" ;;
	-s* | -M* | -U*)
		asked_at "${address#unix:}" > "$D/ours"
		asked_at "$D/peer$1.socket" > "$D/theirs" ;;
	*'-q 128' | *'-b 128')
		queue_limit "$address" > "$D/ours"
		queue_limit "$2" > "$D/theirs" ;;
	'standard error')
		ask error "${address##*:}" > "$D/ours"
		ask error "$2" > "$D/theirs" ;;
	*tcp6)
		echo x | nc -N ::1 "${address##*:}" > "$D/ours"
		echo x | nc -N ::1 "$2" > "$D/theirs" ;;
	*)
		ask x "${address##*:}" > "$D/ours"
		ask x "$2" > "$D/theirs" ;;
	esac
	[ -s "$D/ours" ]
	diff "$D/theirs" "$D/ours" || {
		echo "row $1: ${LEFT[$1]}: ${RIGHT[$1]}" >&2
		return 1
	}
}

# asked_at PATH: a Unix socket, and what is said there.
asked_at() {
	stat -c '%a %U:%G' "$1"
	echo x | nc -NU "$1"
}

@test "every row of COMING FROM ELSEWHERE is a setting" {
	probe
	n=0
	while IFS=$'\t' read -r left right; do
		SERVE=
		[[ $right != stop-signal* ]] || SERVE="resident $PROBE/program"
		service a "$right" > "$D/conf"
		"$PREFORKD" -n -f "$D/conf"
		n=$((n + 1))
	done < <(rows '')
	[ "$n" -eq "$(grep -c '^\.It Li .* Ta' "$PAGE")" ]
	[ "$n" -ge 60 ]
}

# inetd_line PORT LEFT: with the row's words in the place of the usual ones.
inetd_line() {
	local protocol=tcp user wait=nowait program="$PROBE/probe probe"
	user=$(id -un)
	case $2 in
	9418*) protocol=${2#9418 stream } ;;
	/*) program=$2 ;;
	nobody*) user=$2 ;;
	wait) wait=wait program="$PROBE/program program" ;;
	esac
	echo "$1 stream $protocol $wait $user $program"
}

@test "inetd and preforkd do the same, row by row" {
	need inetd ss git tcpd argv0
	git init -q "$D/repo"
	git -C "$D/repo" commit -q --allow-empty -m one
	touch "$D/repo/.git/git-daemon-export-ok"
	serve_rows inetd.conf 6
	free_ports "${#LEFT[@]}"
	for i in "${!LEFT[@]}"; do
		inetd_line "${PORTS[i]}" "${LEFT[i]}"
	done > "$D/inetd.conf"
	background inetd -i -q 128 "$D/inetd.conf"
	wait_for listening "${PORTS[0]}"
	for i in "${!LEFT[@]}"; do
		if [ "${LEFT[i]}" = internal ]; then
			# its name is its port there
			[ "$(ask hello "${OURS[i]##*:}")" = hello ]
		else
			told "$i" "${PORTS[i]}"
		fi
	done
}

@test "xinetd and preforkd do the same, row by row" {
	need xinetd
	serve_rows xinetd.conf 8
	free_ports "${#LEFT[@]}"
	for i in "${!LEFT[@]}"; do
		{
			printf '%s\n' 'type = UNLISTED' 'socket_type = stream' \
			    'protocol = tcp' 'wait = no' "port = ${PORTS[i]}" \
			    "user = $(id -un)" "server = $PROBE/probe" \
			    'bind = 127.0.0.1'
			case ${LEFT[i]} in
			server_args*) echo 'server = /bin/cat' ;;
			wait*) echo "server = $PROBE/program" ;;
			group*) echo 'user = nobody' ;;
			esac
			echo "${LEFT[i]/9418/${PORTS[i]}}"
		} | tac | awk -v n="$i" '
			BEGIN { print "service row" n "\n{" }
			!seen[$1]++
			END { print "}" }'
	done > "$D/xinetd.conf"
	background xinetd -dontfork -f "$D/xinetd.conf" -pidfile "$D/xinetd.pid"
	for i in "${!LEFT[@]}"; do
		wait_for listening "${PORTS[i]}"
		told "$i" "${PORTS[i]}"
	done
}

@test "tcpserver and tcpsvd and preforkd do the same, row by row" {
	need tcpserver
	serve_rows tcpserver 4
	free_ports "${#LEFT[@]}"
	for i in "${!LEFT[@]}"; do
		server=tcpserver words=${LEFT[i]}
		[[ $words == -* ]] || words=
		[[ $words != -C* ]] || server=tcpsvd
		type -P "$server" || continue
		# shellcheck disable=SC2086
		background "$server" -l 0 $words 127.0.0.1 "${PORTS[i]}" \
		    "$PROBE/probe"
		wait_for listening "${PORTS[i]}"
		told "$i" "${PORTS[i]}"
	done
}

@test "a socket unit and preforkd do the same, row by row" {
	serve_rows 'a socket unit' 10
	for i in "${!LEFT[@]}"; do
		value=${LEFT[i]#*=}
		case ${LEFT[i]} in
		User=*) want="^user $value group" ;;
		Group=*) want="group $value groups" ;;
		Environment=*) want="^A ${value#*=}$" ;;
		LimitNOFILE=*) want="^nofile $value " ;;
		WorkingDirectory=*) want=" pwd $value$" ;;
		UMask=*) want="^umask $value " ;;
		Nice=*) want=" nice $(($(nice) + value)) " ;;
		StandardError=*) want='^oops$' ;;
		Accept=yes) activated "$i" /bin/cat --accept --inetd; continue ;;
		Accept=no) activated "$i" "$PROBE/program"; continue ;;
		*) continue ;;
		esac
		ask error "${OURS[i]##*:}" > "$D/ours"
		grep -E "$want" "$D/ours"
	done
}

# activated N PROGRAM OPTION...: row N beside what systemd tries units with.
activated() {
	type -P systemd-socket-activate || return 0
	free_ports 1
	background systemd-socket-activate "${@:3}" -l "127.0.0.1:${PORTS[0]}" "$2"
	wait_for listening "${PORTS[0]}"
	told "$1" "${PORTS[0]}"
}

@test "spawn-fcgi and multiwatch and preforkd do the same, row by row" {
	need spawn-fcgi
	probe
	SERVE="resident $PROBE/program"$'\n\tready-time 20ms'
	serve_rows spawn-fcgi 8
	free_ports "${#LEFT[@]}"
	for i in "${!LEFT[@]}"; do
		[[ ${LEFT[i]} != multiwatch* ]] || type -P multiwatch || continue
		spawned "$i"
		told "$i" "${PORTS[i]}"
	done
}

# spawned N: the program as spawn-fcgi starts it by row N.
spawned() {
	local at=(-a 127.0.0.1 -p "${PORTS[$1]}") before=() words=()
	case ${LEFT[$1]} in
	multiwatch*)
		read -ra before <<<"$(type -P multiwatch) ${LEFT[$1]#* } --" ;;
	-[sMU]*)
		read -ra words <<<"${LEFT[$1]}"
		[[ ${LEFT[$1]} != -s* ]] || words=()
		at=(-s "$D/peer$1.socket") ;;
	-g*) read -ra words <<<"-u nobody ${LEFT[$1]}" ;;
	-[bFud]*) read -ra words <<<"${LEFT[$1]}" ;;
	esac
	background spawn-fcgi -n "${at[@]}" "${words[@]}" -- "${before[@]}" \
	    "$PROBE/program"
	if [[ ${at[0]} == -s ]]; then
		wait_for test -S "$D/peer$1.socket"
	else
		wait_for listening "${PORTS[$1]}"
	fi
}
