#!/usr/bin/env bats
# 30-config.bats: the command line and the configuration file, as somebody at
# a terminal meets them: what is wrong is one line that says where and what,
# and then nothing has been started.

load helper

# Every setting: name, a good value, and all kinds of bad ones that are not
# bad for each of them.  `service' and `include' take nearly every word.
settings() {
	cat <<-END
	backlog 100 0 65536 -1 2^64 text 1k 0x10 +5 1.5
	workers-min 1 0 65537 -1 2^64 text 1k 0x10 +5 1.5
	workers-spare 1 0 65537 -1 2^64 text 1k 0x10 +5 1.5
	workers-max 9 0 65537 -1 2^64 text 1k 0x10 +5 1.5
	workers-surge 9 65537 0 -1 2^64 text 1k 0x10 +5 1.5
	max-connections-per-worker 1000 1000000000001 -1 2^64 text +5 1.5
	workers-idle-time 1s 0 99ms 31536000001ms 8761h -1 -1s 2^64 2^64s text 5x 5sec 1.5s
	first-byte-timeout 1s 31536000001ms 8761h -1 -1s 2^64 2^64s text 5x 5sec 1.5s
	idle-timeout 1s 31536000001ms 8761h -1 -1s 2^64 2^64s text 5x 5sec 1.5s
	connection-timeout 1s 31536000001ms 8761h -1 -1s 2^64 2^64s text 5x 5sec 1.5s
	drain-timeout 1s 0 99ms 31536000001ms 8761h -1 -1s 2^64 2^64s text 5x 5sec 1.5s
	on-crash-loop exit -1 0 2^64 text yes Exit
	log-connections both -1 0 2^64 text yes NO
	log-level debug -1 0 2^64 text INFO
	run greet -1 0 2^64 text Greet
	listen 127.0.0.1:1 -1 0 2^64 text 127.0.0.1 127.0.0.1:65536 127.0.0.1:-1 127.0.0.1:2^64 127.0.0.1:http localhost:1 ::1:1 [::1] [::1 256.0.0.1:1 unix:relative unix: fe80::1:1 [fe80::1]:1
	status-file $D/other -1 0 2^64 text relative/path ./s
	service other a/b a:b käse 12345678901234567890123456789012
	include $D/empty -1 0 2^64 text
	pidfile $D/other -1 0 2^64 text relative/path ./p
	dumpable yes -1 0 2^64 text NO
	log stderr -1 0 2^64 text file STDERR /a
	user 65534:65534 -1 -1:-1 2^64 2^64:1 4294967295:1 1:4294967295 1: :1 1:1, no-such-user
	group 65534 -1 2^64 4294967295 no-such-group
	chroot / -1 0 2^64 text relative/path
	default deny -1 0 2^64 text Allow
	per-source 3 121 -1 2^64 text 1k 0x10 +5 1.5
	per-source-rate 30/1m 30 30/0 0/1m 30/ /1m 1000001/1m -1/1m 30/1m/1 2^64/1s 30/9000h text
	rate 30/1m 30 30/0 0/1m 30/ /1m 1000001/1m -1/1m 30/1m/1 2^64/1s 30/9000h text
	min-rate 30/1m 30 30/0 0/1m 30/ /1m 1000001/1m -1/1m 30/1m/1 2^64/1s 30/9000h text
	when-full drop-silent -1 0 2^64 text Queue
	refuse reset -1 0 2^64 text message Close
	tcp-nodelay yes -1 0 2^64 text NO
	tcp-keepalive 0 60s 999ms 32768s -1 2^64 2^64s text 5x 1.5s
	tcp-defer-accept 5s 2h -1 -1s 2^64 2^64s text 5x 5sec 1.5s
	tcp-user-timeout 30s 25h -1 -1s 2^64 2^64s text 5x 5sec 1.5s
	new-privileges yes -1 0 2^64 text NO
	exec-stderr socket -1 0 2^64 text LOG
	chdir / -1 0 2^64 text relative/path
	umask 027 -1 0888 1000 01000 8 2^64 text
	nice 5 20 -21 2^64 text 1.5
	rlimit-as 1g -1 2^64 text 1t 1kb 0x1 k 8589934592g
	rlimit-core 0 -1 2^64 text 1t k
	rlimit-cpu 1 -1 0 2^64 text 1s
	rlimit-data 1g -1 2^64 text 1t k
	rlimit-fsize 0 -1 2^64 text 1t k
	rlimit-nofile 32 -1 0 31 2^64 text k
	rlimit-nproc 100 -1 2^64 text k
	rlimit-stack 1m -1 0 131071 127k 2^64 text k
	END
}

# config FILE SETTING TEXT: a configuration that would serve $D/socket, with
# TEXT (a format) as the line of this setting; its number is in LINE.
config() {
	local head='' listen="listen unix:$D/socket" run='run greet' last=$3
	LINE=5
	: > "$D/empty"
	case $2 in
	log-level | status-file | pidfile | dumpable | log)
		head=$last last='# last' LINE=1 ;;
	run)
		run='# no run' ;;
	esac
	# shellcheck disable=SC2059  # TEXT may hold any byte
	printf "${head:-# first}\nservice one\n\t$listen\n\t$run\n$last" > "$1"
}

# A server that did start would be stopped after a while, and 124 be seen.
preforkd() { timeout -k 5 10 "$PREFORKD" -d -1 -o "status-file $STATUS" "$@"; }

# one_line RC TEXT ARGUMENT...: stops with RC and one line that begins so.
one_line() {
	local rc=0 lines
	preforkd "${@:3}" > "$D/out" 2> "$D/err" < /dev/null || rc=$?
	mapfile -t lines < "$D/err"
	[ $rc -eq "$1" ] && [ ! -s "$D/out" ] && [ ${#lines[@]} -eq 1 ] &&
	    [[ ${lines[0]} == "preforkd: $2"* ]] && [ ! -e "$D/socket" ] &&
	    ! compgen -G "$STATUS*" > /dev/null && return
	echo "exit $rc, not $1 with: $2" >&2
	cat "$D/out" "$D/err" >&2
	return 1
}

# Printable, and UTF-8.
clean_bytes() {
	iconv -f UTF-8 -t UTF-8 "$1" > /dev/null 2>&1 &&
	    ! LC_ALL=C grep -q $'[\001-\011\013-\037\177]' "$1"
}

# wrong SETTING TEXT [LINE [WHAT]]: refused at that line, so that it begins.
wrong() {
	config "$D/bad.conf" "$1" "$2"
	one_line 1 "$D/bad.conf:${3:-$LINE}: ${4-}" -f "$D/bad.conf"
}

# write FILE: standard input, with D set; a service that is complete.
write() { cat > "$D/$1"; }
complete() { printf 'service one\n\tlisten unix:%s\n\trun greet\n' "$D/socket"; }
dump() { "$PREFORKD" -nn -d "$@"; }

@test "the settings of these tests are all there are" {
	{ sed -n 's/^[	 ]*#\?\([a-z-]*\) [^ ].*/\1/p' "$TOP/etc/preforkd.conf"
	} | grep -xF "$(settings | cut -d' ' -f1)" | sort -u > "$D/sample"
	settings | cut -d' ' -f1 | sort | diff - "$D/sample"
	dump -o "status-file $D/x" -o "pidfile $D/x" -o 'user 1:1' \
	    -o 'group 1' -o 'chroot /' -o 'rlimit-as 1g' -o 'rlimit-core 0' \
	    -o 'rlimit-cpu 9' -o 'rlimit-data 1g' -o 'rlimit-fsize 1g' \
	    -o 'chdir /' -o 'umask 077' -o 'nice 1' \
	    -o 'rlimit-nofile 64' -o 'rlimit-nproc 99' -o 'rlimit-stack 1m' \
	    -l :0 greet | awk 'NF { print $1 }' |
	    grep -vx per-source-prefix |	# two words: see 41-limits
	    sort -u > "$D/dump"
	settings | cut -d' ' -f1 | grep -vx include | sort | diff - "$D/dump"
}

@test "every setting takes the good value of these tests" {
	while read -r name good _; do
		config "$D/good.conf" "$name" "$name $good\n"
		case $name in
		service) printf 'listen :1\nrun echo\n' >> "$D/good.conf" ;;
		esac
		"$PREFORKD" -n -f "$D/good.conf"
	done < <(settings)
}

@test "H02 every setting with a bad value is refused by file and line" {
	n=0
	while read -r name _ values; do
		for value in $values; do
			value=${value/2^64/18446744073709551616}
			wrong "$name" "$name $value\n" '' "$name"
			n=$((n + 1))
		done
	done < <(settings)
	echo "$n values"
	[ $n -gt 120 ]
}

@test "H02 every setting without a value, or an empty one, is refused" {
	while read -r name _; do
		wrong "$name" "$name\n" '' "$name \"\": must be "
		case $name in
		listen) wrong "$name" "$name \"\"\n" '' "$name \"\": no port" ;;
		*) wrong "$name" "$name \"\"\n" '' "$name \"\": must be " ;;
		esac
	done < <(settings)
}

@test "H02 every setting with a word too much is refused" {
	while read -r name good _; do
		case $name in
		listen | rate | *-rate | refuse | run | tcp-keepalive) wrong "$name" "$name $good more\n" '' "$name" ;;
		log) wrong "$name" "$name file /x y\n" '' "$name: y is too much" ;;
		*) wrong "$name" "$name $good more\n" '' "$name: more is too much" ;;
		esac
	done < <(settings)
}

@test "H02 every setting with a NUL byte is refused" {
	while read -r name good _; do
		wrong "$name" "$name $good\\0\n" '' 'NUL byte'
	done < <(settings)
}

@test "H02 every setting with a very long value is refused" {
	long=$(printf '%017000d' 0) fits=${long:0:16350}
	while read -r name _; do
		wrong "$name" "$name $long\n" '' 'line too long'
		wrong "$name" "$name /x$fits\n" '' "$name"
	done < <(settings)
	head -c 1000000 /dev/zero | tr '\0' x > "$D/long"
	{ complete; printf 'backlog '; cat "$D/long"; } > "$D/bad.conf"
	one_line 1 "$D/bad.conf:4: line too long" -f "$D/bad.conf"
}

@test "H02 every setting on a last line without newline is read as any other" {
	while read -r name good bad _; do
		case $name in log-level | status-file) continue ;; esac
		wrong "$name" "$name $bad" '' "$name"
		[ "$name" != service ] || continue
		config "$D/good.conf" "$name" "$name $good"
		"$PREFORKD" -n -f "$D/good.conf"
	done < <(settings)
}

@test "H02 every setting on a line that ends in CR LF is refused" {
	while read -r name good _; do
		wrong "$name" "$name $good\r\n" '' 'carriage return'
	done < <(settings)
}

@test "H02 a byte order mark is refused" {
	while read -r name good _; do
		config "$D/good.conf" "$name" "$name $good\n"
		{ printf '\xef\xbb\xbf'; cat "$D/good.conf"; } > "$D/bad.conf"
		one_line 1 "$D/bad.conf:1: byte order mark" -f "$D/bad.conf"
	done < <(settings)
}

@test "H02 other bad lines are refused: quotes, control characters, words" {
	wrong backlog 'backlog "1\n' '' 'quote without end'
	wrong backlog 'backlog "\\x"\n' '' 'backslash in quotes'
	wrong backlog 'backlog \033[31m1\n' '' 'control character'
	wrong backlog "backlog $(seq -s' ' 300)\n" '' 'too many words'
	wrong backlog 'backlog \377\376\n' '' 'backlog'
	clean_bytes "$D/err"
}

@test "an unknown keyword is refused with the nearest right one" {
	wrong x 'workers-sapre 3\n' '' 'unknown keyword "workers-sapre": did you mean workers-spare?'
	wrong x 'Backlog 3\n' '' 'unknown keyword "Backlog": did you mean backlog?'
	wrong x 'idletimeout 3\n' '' 'unknown keyword "idletimeout": did you mean idle-timeout?'
	wrong x 'xyzzy 3\n' '' 'unknown keyword "xyzzy": must be one of those in preforkd.conf(5)'
	wrong x '\033]0;x\007 3\n' '' 'control character'
	wrong x '\377\302\233\303\244 3\n' '' 'unknown keyword "'
	clean_bytes "$D/err"
}

@test "a setting that stands there twice is refused, with both places" {
	wrong backlog 'backlog 1\nbacklog 2\n' 6 "backlog: must be there once; the first is at $D/bad.conf:5"
	wrong run 'run greet\nrun echo\n' 6 "run: must be there once; the first is at $D/bad.conf:5"
	wrong service 'service one\n' 5 "service one: must be there once; the first is at $D/bad.conf:2"
	wrong listen "listen unix:$D/socket\n" 5 "listen unix:$D/socket: must be there once"
	wrong listen 'listen *:80\nlisten 0.0.0.0:80\n' 6 'listen 0.0.0.0:80: must be there once; service one has *:80'
}

@test "a setting in the wrong place is refused" {
	printf 'listen :1\n' > "$D/bad.conf"
	one_line 1 "$D/bad.conf:1: listen: must come after a service line" -f "$D/bad.conf"
	wrong x 'log-level info\n' 5 'log-level: must come before the first service line'
	wrong x 'log-level loud\n' 5 'log-level: must come before the first service line'
}

@test "H07 limits that do not fit together are refused with both values" {
	wrong x 'workers-max 3\nworkers-min 5\n' 6 'service one: workers-min 5: must be at most workers-max, 3'
	wrong x 'listen :1\nworkers-max 2\n' 6 'service one: workers-max 2: must be at least its number of listening sockets, 3'
	wrong x 'workers-max 40000\n' 5 'service one: workers-max and workers-surge of all services so far make 80000: must be at most 65535'
}

@test "a service without address or without anything to run is refused" {
	printf '# a\nservice one\nrun greet\n' > "$D/bad.conf"
	one_line 1 "$D/bad.conf:2: service one: no address" -f "$D/bad.conf"
	printf '# a\nservice one\nlisten :1\n' > "$D/bad.conf"
	one_line 1 "$D/bad.conf:2: service one: nothing to serve" -f "$D/bad.conf"
	: > "$D/bad.conf"
	one_line 1 "$D/bad.conf: no service" -f "$D/bad.conf"
}

@test "H04 what is no readable regular file of a fair size is refused at once" {
	mkdir "$D/dir"
	mkfifo "$D/fifo"
	truncate -s 1G "$D/huge"
	began=$SECONDS
	one_line 1 "$D/none: No such file or directory" -f "$D/none"
	one_line 1 "$D/dir: must be a regular file" -f "$D/dir"
	one_line 1 "$D/fifo: must be a regular file" -f "$D/fifo"
	one_line 1 "/dev/zero: must be a regular file" -f /dev/zero
	one_line 1 "$D/huge: too large: must be at most 1 MB" -f "$D/huge"
	one_line 1 "$D/huge/x: Not a directory" -f "$D/huge/x"
	one_line 1 ": No such file or directory" -f ''
	[ $((SECONDS - began)) -le 5 ]
}

@test "H04 a file that may not be read is refused" {
	complete > "$D/secret"
	chmod 000 "$D/secret"
	if [ "$(id -u)" -eq 0 ]; then
		chmod 711 "$BATS_RUN_TMPDIR" "$BATS_FILE_TMPDIR" "${D%/*}" "$D"
		cp "$PREFORKD" "$D/preforkd"
		run setpriv --reuid 65534 --regid 65534 --clear-groups \
		    "$D/preforkd" -n -f "$D/secret"
	else
		run "$PREFORKD" -n -f "$D/secret"
	fi
	[ "$status" -eq 1 ]
	[ "$output" = "preforkd: $D/secret: Permission denied" ]
}

@test "-n says nothing about a good file, and touches nothing" {
	complete > "$D/good.conf"
	mkdir "$D/run"
	export XDG_RUNTIME_DIR=$D/run
	before=$(find "$D" -printf '%p %i %T@\n' | sort)
	run "$PREFORKD" -n -f "$D/good.conf"
	[ "$status" -eq 0 ]
	[ -z "$output" ]
	"$PREFORKD" -n -f "$D/good.conf" -o "status-file $D/run/status"
	[ "$(find "$D" -printf '%p %i %T@\n' | sort)" = "$before" ]
}

@test "-n binds nothing: an address in use is no error to it" {
	start_greet
	"$PREFORKD" -n -l "$ADDRESS" greet
	"$PREFORKD" -n -l 192.0.2.1:80 greet
}

@test "-nn prints every setting in effect, and that reads as the same" {
	write full.conf <<-END
	status-file "$D/a \"strange\" \\\\ path"
	log-level warning
	workers-spare 3
	idle-timeout 90s
	service one
		listen 127.0.0.1:8001
		listen *:8002
		listen "unix:$D/a b" mode=0640 owner=0:0
		run echo
		workers-max 77
		connection-timeout 1500ms
	service two
		listen [::1]:0
		run greet
		workers-spare 4
		idle-timeout 2h
		log-connections end
	END
	"$PREFORKD" -nn -f "$D/full.conf" > "$D/dump.conf"
	"$PREFORKD" -nn -f "$D/dump.conf" | diff "$D/dump.conf" -
	[ "$(grep -cx '	workers-spare 3' "$D/dump.conf")" -eq 1 ]
	[ "$(grep -cx '	workers-spare 4' "$D/dump.conf")" -eq 1 ]
	grep -qx '	idle-timeout 90s' "$D/dump.conf"
	grep -qx '	idle-timeout 2h' "$D/dump.conf"
	grep -qx '	connection-timeout 1500ms' "$D/dump.conf"
	grep -qx '	workers-surge 77' "$D/dump.conf"
	grep -qxF "	listen \"unix:$D/a b\" mode=0640 owner=0:0" "$D/dump.conf"
	grep -qxF "status-file \"$D/a \\\"strange\\\" \\\\ path\"" "$D/dump.conf"
}

@test "-nn of the command line alone is a file that serves the same" {
	dump -l 127.0.0.1:0 -l "unix:$D/socket mode=0600" -o 'backlog 9' \
	    -o 'workers-max 4' echo > "$D/dump.conf"
	start -f "$D/dump.conf"
	[ "$(stat -c %a "$D/socket")" = 600 ]
	[ "$(printf abc | nc -NU "$D/socket")" = abc ]
	[ "$(ask abc)" = abc ]
}

@test "-n and -nn of a bad configuration print the error alone" {
	wrong backlog 'backlog 0\n'
	for check in -n -nn; do
		one_line 1 "$D/bad.conf:5: backlog 0: must be 1 to 65535" \
		    $check -f "$D/bad.conf"
	done
}

@test "the sample file is good as it is" {
	"$PREFORKD" -n -f "$TOP/etc/preforkd.conf"
}

@test "comments, blanks, tabs and quotes are read as documented" {
	printf '%s\n' '' '   # a comment' '	' 'service	one # two' \
	    "  listen \"unix:$D/socket\" mode=0600#no-comment" \
	    'run	"greet"   ' > "$D/x.conf"
	one_line 1 "$D/x.conf:5: listen unix:$D/socket: " -f "$D/x.conf"
	sed -i 's/#no/ #a/' "$D/x.conf"
	"$PREFORKD" -nn -f "$D/x.conf" | grep -qx "	listen unix:$D/socket mode=0600"
}

@test "-o replaces a value of the file, in every service, and the last one wins" {
	{ complete; printf 'backlog 5\nservice two\nlisten :1\nrun echo\n'
	} > "$D/x.conf"
	dump -f "$D/x.conf" -o 'backlog 6' -o 'backlog 7' -o 'log-level error' \
	    > "$D/dump"
	[ "$(grep -cx '	backlog 7' "$D/dump")" -eq 2 ]
	grep -qx 'log-level error' "$D/dump"
}

@test "-o that is wrong is refused in one line" {
	complete > "$D/x.conf"
	for bad in 'backlog 0' 'backlog' 'backlog 1 2' 'log-level loud' \
	    $'backlog \e[31m' $'\xff\xfe 1' 'service x' 'include /dev/null' \
	    'listen :1' 'workers-min 600'; do
		one_line 1 '' -f "$D/x.conf" -o "$bad"
		clean_bytes "$D/err"
		case $bad in workers-min*) ;; *)
			grep -q '^preforkd: -o: ' "$D/err" ;;
		esac
	done
	one_line 1 '-o: unknown keyword "bakclog": did you mean backlog?' \
	    -f "$D/x.conf" -o 'bakclog 1'
	one_line 1 '-o: backlog 0: must be 1 to 65535' -f "$D/x.conf" -o 'backlog 0'
}

@test "-l takes the place of the listen lines of the one service" {
	{ complete; echo 'listen :1'; } > "$D/x.conf"
	start -f "$D/x.conf" -l 127.0.0.1:0 -l "unix:$D/other"
	[ "${#ADDRESSES[@]}" -eq 2 ]
	[[ ${ADDRESSES[0]} == 127.0.0.1:* ]]
	[ "${ADDRESSES[1]}" = "unix:$D/other" ]
	[ ! -e "$D/socket" ]
}

@test "-l with two services, or a bad address, is refused" {
	{ complete; printf 'service two\nlisten :1\nrun echo\n'; } > "$D/x.conf"
	one_line 1 '-l: :2: there must be one service' -f "$D/x.conf" -l :2
	one_line 1 '-l: listen localhost:80: not a numeric address' -l localhost:80 greet
	one_line 1 '-l: listen ::1:80: an IPv6 address must stand in brackets' -l ::1:80 greet
	one_line 1 '-l: listen "": must be ADDRESS:PORT' -l '' greet
	one_line 1 '-l: listen :1: must be there once' -l :1 -l :1 greet
}

@test "a service that the command line does not know is refused" {
	one_line 1 'command line: run nosuch: must be one of greet, echo' -l :0 nosuch
	one_line 1 'command line: service greet: no address' greet
}

@test "-V says the version and nothing else" {
	run "$PREFORKD" -V
	[ "$status" -eq 0 ]
	[[ $output =~ ^preforkd\ [0-9]+\.[0-9.]+$ ]]
}

@test "-v logs at level debug" {
	start_greet -v
	wait_for logged 'debug: worker born '
}

@test "include reads the files of a pattern in order, from where it stands" {
	mkdir "$D/d"
	printf 'service two\nlisten :2\nrun echo\n' > "$D/d/20.conf"
	printf 'service three\nlisten :3\nrun time\n' > "$D/d/30.conf"
	printf 'service no\n' > "$D/d/40.off"
	{ complete; printf 'include d/*.conf\nbacklog 9\n'
	} > "$D/x.conf"
	cd /
	"$PREFORKD" -nn -f "$D/x.conf" > "$D/dump"
	[ "$(sed -n 's/^service //p' "$D/dump" | paste -sd' ')" = 'one two three' ]
	# The section of the main file goes on behind it.
	[ "$(sed -n 's/^	backlog //p' "$D/dump" | paste -sd' ')" = '9 4096 4096' ]
}

@test "an error in an included file names that file and line" {
	printf '# one\nbacklog 0\n' > "$D/part"
	{ complete; echo "include $D/part"; } > "$D/x.conf"
	one_line 1 "$D/part:2: backlog 0: must be 1 to 65535" -f "$D/x.conf"
}

@test "include of nothing: a pattern may match none, a file must be there" {
	{ complete; echo "include $D/none/*.conf"; } > "$D/x.conf"
	"$PREFORKD" -n -f "$D/x.conf"
	{ complete; echo "include $D/none"; } > "$D/x.conf"
	one_line 1 "$D/x.conf:4: include $D/none: No such file" -f "$D/x.conf"
	{ complete; echo "include $D"; } > "$D/x.conf"
	one_line 1 "$D/x.conf:4: include $D: must be a regular file" -f "$D/x.conf"
}

@test "include goes one level deep, so that no file includes itself" {
	{ complete; echo 'include x.conf'; } > "$D/x.conf"
	one_line 1 "$D/x.conf:1: service one: must be there once" -f "$D/x.conf"
	echo "include $D/part" > "$D/part"
	{ complete; echo 'include part'; } > "$D/x.conf"
	one_line 1 "$D/part:1: include: must be in the main file" -f "$D/x.conf"
}

# usage ARGUMENT...: exit 64, the usage last, and nothing started.
usage() {
	local rc=0
	preforkd "$@" > "$D/out" 2> "$D/err" < /dev/null || rc=$?
	[ $rc -eq 64 ] && [ ! -s "$D/out" ] && clean_bytes "$D/err" &&
	    grep -q '^usage: preforkd \[-' "$D/err" && [ ! -e "$STATUS" ] && return
	echo "exit $rc: $*" >&2
	cat "$D/out" "$D/err" >&2
	return 1
}

@test "wrong usage is exit 64, with the usage" {
	usage -x
	usage -f
	usage -l
	usage -o
	usage -l :0 greet echo
	usage -l :0 greet -v
}

@test "H06 10,000 arguments are wrong usage" {
	mapfile -t many < <(seq 10000)
	usage -l :0 "${many[@]}"
	one_line 64 'more than 64 of an option' "${many[@]/#/-l:}" greet
	one_line 64 'more than 64 of an option' "${many[@]/#/-ox}" greet
}

@test "H06 arguments that are no UTF-8, or very long, are shown escaped and cut" {
	one_line 1 'command line: service ' -l :0 $'\xff\xfe\e[31m\n'
	clean_bytes "$D/err"
	one_line 1 '-l: listen ' -l $'\xff\xfe:1' greet
	clean_bytes "$D/err"
	one_line 1 '' -f $'/\xff\xfe\e[31m'
	clean_bytes "$D/err"
	long=$(printf '%0100000d' 0)
	one_line 1 'command line: service ' -l :0 "$long"
	one_line 1 '-l: ' -l "$long" greet
	one_line 1 '-o: ' -l :0 -o "$long" greet
	one_line 1 '' -f "$long"
	[ "$(wc -c < "$D/err")" -lt 1200 ]
}

@test "H06 without any argument, not even a name, it does not crash" {
	rc=0
	python3 - "$PREFORKD" 2> "$D/err" <<-'END' || rc=$?
	import ctypes, sys
	none = (ctypes.c_char_p * 1)(None)
	ctypes.CDLL(None).execve(sys.argv[1].encode(), none, none)
	END
	cat "$D/err"
	[ $rc -eq 1 ] || [ $rc -eq 64 ]
	grep -qE '^(preforkd: .|usage: )' "$D/err"
}

@test "standard descriptors that are closed do no harm" {
	run bash -c "'$PREFORKD' -n -l :0 greet <&- >&- 2>&-"
	[ "$status" -eq 0 ]
	run bash -c "'$PREFORKD' -n -l :0 nosuch <&- >&- 2>&-"
	[ "$status" -eq 1 ]
	run bash -c "'$PREFORKD' -nn -l :0 greet <&-"
	[ "$status" -eq 0 ]
	[[ $output == *'run greet'* ]]
}

@test "G17 -n on the live configuration, under a storm, has no side effects" {
	printf 'status-file %s\nservice one\nlisten %s\nrun greet\n' \
	    "$STATUS" 127.0.0.1:0 > "$D/x.conf"
	start -f "$D/x.conf" -o 'log-connections no'
	sed -i "s/127.0.0.1:0/$ADDRESS/" "$D/x.conf"
	"$TOOLS/storm" -u -t 2 -c 8 "$ADDRESS" > "$D/storm" 3>&- &
	storm=$!
	before=$(stat -c '%n %i' "$STATUS"*)
	children=$(ps -o pid= --ppid "$M" | wc -l)
	for i in {1..20}; do
		"$PREFORKD" -n -f "$D/x.conf"
		"$PREFORKD" -nn -f "$D/x.conf" > /dev/null
	done
	[ "$(ss -Hltn "sport = :$PORT" | wc -l)" -eq 1 ]
	[ "$(stat -c '%n %i' "$STATUS"*)" = "$before" ]
	[ "$(ps -o pid= --ppid "$M" | wc -l)" -ge "$children" ]
	wait "$storm"
	grep -q ' reset=0 .* gaps=0' "$D/storm"
	not logged 'reload'
}
