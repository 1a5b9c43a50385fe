# programs.bash: real programs behind a server and behind tcpserver, to be
# loaded after helper.
#
# need skips a test whose program is not here; `served WORD...' puts a program
# on two ports, $PORT of preforkd and $PEER of tcpserver; `both FUNCTION' has a
# client talk to each and compares.  Programs that are not installed are
# fetched, once for all tests, by build-aux/deps.

# shellcheck disable=SC2034,SC2154  # shared with helper.bash and the tests

load_programs_path() {
	PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin
	PATH=$PATH:$TOOLS/fetched/usr/bin:$TOOLS/fetched/usr/sbin
}

setup_file() {
	"$TOP/build-aux/deps" fetch "$TOOLS/fetched" > "$TOOLS/fetched.log" 2>&1 || true
}

# A client that waits for ever would hold up all tests.
for each in dbclient git nbdcopy rsync sftp; do
	eval "$each() { timeout -k 5 60 $each \"\$@\"; }"
done

# setup of helper.bash, and then this.
eval "helper_$(declare -f setup)"
eval "helper_$(declare -f teardown)"

setup() {
	helper_setup
	load_programs_path
	PEERS=()
	chmod 755 "$D"
	# tcpserver changes no user either
	[ "$(id -u)" -ne 0 ] || USER_OPTION=(-o 'user root')
	export GIT_CONFIG_GLOBAL=/dev/null GIT_CONFIG_NOSYSTEM=1 HOME=$D
	export GIT_{AUTHOR,COMMITTER}_{NAME=x,EMAIL=x@example.org}
}

teardown() {
	local p
	for p in "${PEERS[@]}"; do
		kill -TERM -- "-$p" 2> /dev/null || true
	done
	STARTED+=("${PEERS[@]}")
	helper_teardown
}

# need PROGRAM...
need() {
	local each
	for each; do
		type -P "$each" > /dev/null || skip "$each is not here"
	done
}

# A program is looked for where preforkd does, and as it was fetched.
served() {
	local program
	program=$(type -P "$1")
	shift
	start -l 127.0.0.1:0 -- "$program" "$@"
	need tcpserver
	: > "$D/peer"
	background tcpserver -1 -q -H -R -l 0 -b 100 127.0.0.1 0 "$program" "$@"
	wait_for test -s "$D/peer"
	PEER=$(< "$D/peer")
}

# free_ports N: in $D/ports.
free_ports() {
	python3 - "$1" > "$D/ports" <<-'END'
	import socket, sys
	held = [socket.socket() for _ in range(int(sys.argv[1]))]
	for s in held:
	    s.bind(("127.0.0.1", 0))
	for s in held:
	    print(s.getsockname()[1])
	END
	mapfile -t PORTS < "$D/ports"
}

# background COMMAND...: the other server, until the end of the test; where
# preforkd is, too, and with its umask.
background() {
	(cd / && umask 022 && exec setsid "$@") > "$D/peer" 2> "$D/peer.err" \
	    < /dev/null 3>&- &
	PEERS+=($!)
}

listening() { ss -Hltn "sport = :$1" | grep -q .; }

# both FUNCTION [ARG...]: its output with each port as its last argument.
both() {
	"$@" "$PORT" > "$D/ours"
	"$@" "$PEER" > "$D/theirs"
	cmp "$D/ours" "$D/theirs"
	[ -s "$D/ours" ]
}

# files DIRECTORY N: of all kinds of sizes, names and bytes.
files() {
	python3 - "$1" "$2" <<-'END'
	import os, random, sys
	os.chdir(sys.argv[1])
	r = random.Random(1)
	for n in range(int(sys.argv[2])):
	    with open("file%d%s" % (n, " \u00e9" if n % 7 == 0 else ""), "wb") as f:
	        f.write(r.randbytes(min(n % 50 * n, 20000)))
	END
}

# repository DIRECTORY: with some history.
repository() {
	git init -q -b main "$1"
	files "$1" 300
	git -C "$1" add .
	git -C "$1" commit -qm one
	seq 10000 > "$1/file2"
	git -C "$1" rm -q file9
	git -C "$1" commit -qam two
	git -C "$1" tag -am tagged one
}

# What a web server says, without the time.
http_get() {
	printf 'GET %s HTTP/1.0\r\n\r\n' "$1" | timeout "$DEADLINE" \
	    nc 127.0.0.1 "$2" | sed 's/^Date: .*/Date:/'
}
