# 33-exec.bats: a program for each connection.

load helper
load clients

# serve COMMAND: a shell program for each client.
serve() { start -l 127.0.0.1:0 -- sh -c "$1"; }

@test "preforkd -d -l ADDRESS -- cat just works" {
	start -l 127.0.0.1:0 -- cat
	[ "$(ask hello)" = hello ]
	[ "$(status | awk '/^SERVICE/ { getline; print $1 }')" = cat ]
}

@test "an argument stays one word, whatever it holds" {
	start -l 127.0.0.1:0 -- printf '<%s>' 'a b' '"\' '#' '' '$x'
	[ "$(ask x)" = '<a b><"\><#><><$x>' ]
	kill -HUP "$M"
	wait_for logged 'reloaded generation=2'
	[ "$(ask x)" = '<a b><"\><#><><$x>' ]
}

@test "E11 a program has the connection as 0 and 1, its log as 2, and nothing else" {
	exec 30< /dev/null 31< /dev/null
	serve 'for i in /proc/$$/fd/*; do echo "${i##*/} $(readlink $i)"; done'
	ask x > "$D/fds"
	exec 30<&- 31<&-
	[ "$(grep -c socket: "$D/fds")" -eq 2 ]
	# the shell itself has opened a pipe to readlink by then
	[ "$(grep -vc pipe: "$D/fds")" -eq 3 ]
}

@test "E12 a program starts with no signal ignored or blocked" {
	(
		trap '' INT QUIT PIPE HUP USR1
		exec 3>&-
		setsid "$PREFORKD" -d -1 -o "status-file $STATUS" \
		    -l 127.0.0.1:0 -- grep -E '^Sig(Blk|Ign)' /proc/self/status \
		    > "$D/addresses" 2>> "$LOG" < /dev/null &
		echo $! > "$D/pid"
	)
	M=$(< "$D/pid")
	STARTED+=("$M")
	wait_for started
	PORT=$(sed 's/.*://' "$D/addresses")
	BASE_FDS=$(master_fds)
	[ "$(ask x | awk '{ print $2 }' | sort -u)" = 0000000000000000 ]
}

@test "E13 the environment is built anew" {
	cat > "$D/conf" <<-END
	service env
	listen 127.0.0.1:0
	exec env
	env A=1
	env "B=two words"
	env PATH=/bin
	END
	SECRET=x start -f "$D/conf"
	ask x | sort > "$D/env"
	grep -vE '^TCP(LOCAL|REMOTE)PORT=' "$D/env" | diff - /dev/fd/4 4<<-END
	A=1
	B=two words
	PATH=/bin
	PREFORKD_CLIENT=1
	PREFORKD_SERVICE=env
	PROTO=TCP
	TCPLOCALIP=127.0.0.1
	TCPREMOTEIP=127.0.0.1
	END
	grep -qx "TCPLOCALPORT=$PORT" "$D/env"
	grep -qE '^TCPREMOTEPORT=[1-9][0-9]*$' "$D/env"
}

@test "the environment tells the ends of an IPv6 and of a Unix connection" {
	cat > "$D/conf" <<-END
	service env
	listen [::1]:0
	listen unix:$D/socket
	exec env
	END
	chmod 755 "$D"
	start -f "$D/conf"
	nc -N ::1 "$PORT" < /dev/null > "$D/env"
	grep -qx 'PROTO=TCP' "$D/env"
	grep -qx 'TCPREMOTEIP=::1' "$D/env"
	nc -NU "$D/socket" < /dev/null > "$D/env"
	grep -qx 'PROTO=IPC' "$D/env"
	grep -qx "IPCLOCALPATH=$D/socket" "$D/env"
	grep -qx "IPCREMOTEEUID=$(id -u)" "$D/env"
	run -1 grep TCP "$D/env"
}

@test "C15 a program that cannot be executed is an error of the configuration" {
	for each in nosuch /nosuch "$D" "$D/plain"; do
		: > "$D/plain"
		run -1 "$PREFORKD" -n -l 127.0.0.1:0 -- "$each"
		[ "${#lines[@]}" -eq 1 ]
		[[ $output == "preforkd: command line: service "*": exec $each: "* ]]
	done
	printf 'service a\nlisten :0\n\nexec nosuch\n' > "$D/conf"
	run -1 "$PREFORKD" -n -f "$D/conf"
	[[ $output == "preforkd: $D/conf:4: service a: exec nosuch: not found in "* ]]
}

@test "C15 a reload refuses a program that is not there" {
	printf 'service a\nlisten 127.0.0.1:0\nexec cat\n' > "$D/conf"
	start -f "$D/conf"
	echo 'exec nosuch' >> "$D/conf"
	sed -i '/exec cat/d' "$D/conf"
	kill -HUP "$M"
	wait_for logged "reload failed.*$D/conf:3: service a: exec nosuch: not found"
	[ "$(ask x)" = x ]
}

@test "a service runs, execs or has a module: one of them" {
	printf 'service a\nlisten :0\nrun greet\nexec cat\n' > "$D/conf"
	run -1 "$PREFORKD" -n -f "$D/conf"
	[ "$output" = "preforkd: $D/conf:1: service a: must have one of run, exec, resident and module, not 2 of them" ]
	printf 'run greet\nservice a\nlisten :0\nexec cat\n' > "$D/conf"
	"$PREFORKD" -nn -f "$D/conf" > "$D/dump"
	grep -qx '	exec cat' "$D/dump"
	run -1 grep -w run "$D/dump"
}

@test "bad commands and variables are told by line" {
	while IFS='|' read -r line why; do
		printf 'service a\nlisten :0\n%s\n' "$line" > "$D/conf"
		run -1 "$PREFORKD" -n -f "$D/conf"
		[[ $output == "preforkd: $D/conf:3: $why"* ]] || {
			echo "$line: $output"
			false
		}
	done <<-'END'
	exec|exec "": must be a program
	exec bin/cat|exec bin/cat: must be a program
	exec ""|exec "": must be a program
	module cat|module cat: must be an absolute path
	env A|env A: must be NAME=VALUE
	env =A|env =A: must be NAME=VALUE
	env A=1 B=2|env: B=2 is too much
	END
	printf 'exec cat\nservice a\nlisten :0\n' > "$D/conf"
	run -1 "$PREFORKD" -n -f "$D/conf"
	[[ $output == *"$D/conf:1: exec: must come after a service line" ]]
	run -64 "$PREFORKD" -n -l :0 --
	run -1 "$PREFORKD" -n -l :0 -- cat $'a\nb'
	[[ $output == *'argument 1: must be without control characters' ]]
	# shellcheck disable=SC2046
	run -1 "$PREFORKD" -n -l :0 -- cat $(seq 300)
	[[ $output == *'arguments: must be at most 254'* ]]
}
