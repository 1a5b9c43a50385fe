# 36-module.bats: services in shared objects: loaded where they should be, and
# nowhere else; what is wrong with one is told; what one does stays with it.

load helper

HOSTILE=$TOOLS/module-hostile.so
GREET=$TOOLS/module-greet.so
INSTALLED=$BATS_FILE_TMPDIR/installed
# What is not built by the Makefile is built as a user would.
export PKG_CONFIG_SYSROOT_DIR=$INSTALLED

setup_file() {
	(cd "$BUILDDIR" && env -u MAKEFLAGS make -s install \
	    SANITIZE="${SANITIZE-}" DESTDIR="$INSTALLED") > "$INSTALLED.log" 2>&1
}

eval "helper_$(declare -f setup)"
setup() {
	helper_setup
	PKG_CONFIG_PATH=$(dirname "$(find "$INSTALLED" -name preforkd.pc)")
	export PKG_CONFIG_PATH
	# A crash is one, whatever a sanitizer would make of it.
	export ASAN_OPTIONS=$ASAN_OPTIONS:handle_segv=0:handle_sigbus=0:handle_abort=0:detect_leaks=0
}

# build NAME [FILE]: $D/NAME.so of a file, or of standard input.
build() {
	# shellcheck disable=SC2046  # words
	cc -Wall -Wextra -Werror -shared -fPIC $(pkg-config --cflags preforkd) \
	    -o "$D/$1.so" -x c "${2:--}"
}

# conf FILE ARGUMENTS [LINE...]: a service of this module; root stays root, for
# who else could read the tree.
conf() {
	printf '%s\n' 'service m' 'listen 127.0.0.1:0' 'user root' \
	    "module $1 $2" "${@:3}" > "$D/conf"
}

# serve FILE ARGUMENTS [LINE...]
serve() {
	conf "$@"
	start -f "$D/conf"
}

one_worker_lines=('workers-min 1' 'workers-max 1')

# refused WHY FILE [ARGUMENTS]: by the check, in one line.
refused() {
	conf "$2" "${3-}"
	run -1 "$PREFORKD" -n -f "$D/conf"
	[ "$output" = "preforkd: $D/conf:4: service m: module $2: $1" ] || {
		echo "$output, not $1"
		false
	}
}

# obeys LINE: a client of the hostile module, served to the end.
obeys() { [ "$(ask "$1" | tail -n 1)" = over ]; }

died() { logged "error: worker died .* service=m .*how=\"$1\""; }
mapped() { grep -q "$2" "/proc/$1/maps"; }

# hold_one: a client of its own on descriptor 9, in a worker that is then busy.
hold_one() {
	exec 9<>"/dev/tcp/127.0.0.1/$PORT"
	read -r _ HELD <&9
}

# release_one: which is served to its end.
release_one() {
	echo nothing >&9
	read -r reply <&9
	exec 9>&-
	[ "$reply" = over ]
}

@test "a module serves as the same code does that is built in" {
	serve "$GREET" ''
	ask l > "$D/module"
	stop
	start_greet
	ask l | sed "s/port $PORT/port $(sed -n 's/.* port \([0-9]*\).*/\1/p' \
	    "$D/module")/" | cmp - "$D/module"
}

@test "it is opened, started, stopped and closed in a trial and in each worker" {
	serve "$HOSTILE" "mark $D/marks" "${one_worker_lines[@]}" \
	    'max-connections-per-worker 1'
	ask x
	ask x
	stop
	awk '{ if (!($1 in did)) order[++n] = $1; did[$1] = did[$1] " " $2 }
	END { for (i = 1; i <= n; i++) print did[order[i]] }' "$D/marks" |
	    sort | uniq -c | sed 's/^ *//' > "$D/lives"
	# the trial, and perhaps a third worker that met no client
	grep -qE '^[12]  open start stop close$' "$D/lives"
	grep -q '^2  open start serve stop close$' "$D/lives"
	[ "$(wc -l < "$D/lives")" -eq 2 ]
}

@test "its words are its arguments, one each" {
	refused 'two  words' "$HOSTILE" 'open error "two  words"'
	refused 'takes no argument' "$GREET" ''\''more'
	conf "$GREET" ''
	"$PREFORKD" -n -f "$D/conf"
}

@test "nothing of a module is mapped in the master, in a reload neither" {
	serve "$HOSTILE" ''
	mapped "$(one_worker)" hostile
	kill -HUP "$M"
	wait_for logged 'reloaded generation=2'
	obeys x
	not mapped "$M" hostile
}

@test "what is no module is told in one line" {
	refused 'No such file or directory' "$D/none.so"
	refused 'must be a shared object' "$D"
	mkfifo "$D/fifo"
	refused 'must be a shared object' "$D/fifo"
	printf 'hello %.0s' {1..99} > "$D/text.so"
	refused 'must be a shared object' "$D/text.so"
	cp "$GREET" "$D/arch.so"
	printf '\xff\xff' | dd of="$D/arch.so" bs=1 seek=18 conv=notrunc status=none
	refused 'must be for this kind of machine' "$D/arch.so"
	echo 'int x;' | build empty
	refused 'undefined symbol: preforkd_module' "$D/empty.so"
	echo 'int nowhere(void); int f(void) { return nowhere(); }' | build open
	refused 'undefined symbol: nowhere' "$D/open.so"
	head -c 900 "$GREET" > "$D/cut.so"
	conf "$D/cut.so" ''
	run -1 "$PREFORKD" -n -f "$D/conf"
	[ "${#lines[@]}" -eq 1 ]
}

@test "a module of another interface is refused before anything of it is used" {
	echo 'unsigned int preforkd_module = 2 << 16 | 7;' | build abi
	size=$(sed 's/.*for 1\.//; s/,.*//' < <(
	    conf "$D/abi.so" ''; "$PREFORKD" -n -f "$D/conf" 2>&1))
	refused "built for ABI 2.7: must be for 1.$size, as in the preforkd-module.h of this version" "$D/abi.so"
	build none <<-END
	#include <preforkd-module.h>
	const struct preforkd_service preforkd_module = { .abi = PREFORKD_ABI };
	END
	refused 'must have a serve function' "$D/none.so"
}

@test "a module that fails, crashes or exits in its trial is told in one line" {
	refused 'its open function failed' "$HOSTILE" 'open fail'
	refused 'its start function failed' "$HOSTILE" 'start fail'
	refused 'no \"database\"\302\233[31m' "$HOSTILE" \
	    "start error \"no \\\"database\\\"$(printf '\302\233')[31m\""
	for phase in open start stop close; do
		refused 'the trial of it died of SIGSEGV' "$HOSTILE" "$phase crash"
		refused 'the trial of it ended with exit 0' "$HOSTILE" "$phase exit 0"
	done
	refused 'the trial of it died of SIGABRT' "$HOSTILE" 'start abort'
	refused 'the trial of it ended with exit 90' "$HOSTILE" 'start exit 90'
}

@test "a module that hangs in its trial is too late, at the check and in a reload" {
	serve "$HOSTILE" ''
	conf "$HOSTILE" 'start hang'
	sed 's/hang/shut/' "$D/conf" > "$D/shut"	# and lets go of the trial
	began=$EPOCHREALTIME
	kill -HUP "$M"
	run -1 "$PREFORKD" -n -f "$D/shut"
	[[ $output == "preforkd: $D/shut:4: service m: module $HOSTILE: the trial of it took too long: must be over within 8 seconds" ]]
	wait_for logged 'reload failed.*: service m: module [^ ]*: the trial of it took too long: must be over within 8 seconds$'
	[ $((${EPOCHREALTIME/./} - ${began/./})) -ge 8000000 ]
	obeys x
}

@test "a trial leaves no process behind, and what it says is not in the log" {
	conf "$HOSTILE" 'open fork'
	"$PREFORKD" -n -f "$D/conf"
	left() { pgrep -f "^$PREFORKD -n -f $D/conf"; }
	wait_for not left
	conf "$HOSTILE" 'open warn hello'
	run -0 "$PREFORKD" -n -f "$D/conf"
	[ -z "$output" ]
}

@test "SIGPIPE ends neither a trial nor a worker" {
	serve "$HOSTILE" 'start pipe'
	obeys pipe
	[ "$(count_logged 'worker died')" -eq 0 ]
}

@test "E11 a trial in a reload has no descriptor and no view of the master's" {
	build look <<-'END'
	#include <fcntl.h>
	#include <stdio.h>
	#include <string.h>
	#include <preforkd-module.h>
	static int look(int argc, char *argv[]) {
		char line[512], text[256] = "";
		int fd, writable = 0;
		FILE *maps = fopen("/proc/self/maps", "r");
		while (maps != NULL && fgets(line, sizeof(line), maps) != NULL)
			writable += strstr(line, "w-s") != NULL &&
			    strstr(line, ".slots") == NULL &&
			    strstr(line, ".counter") == NULL;
		fclose(maps);
		for (fd = 0; fd < 256; fd++)
			if (fcntl(fd, F_GETFD) != -1)
				sprintf(text + strlen(text), "%d ", fd);
		return preforkd_error("%d arguments, %s descriptors %swritable %d",
		    argc, argv[0] != NULL ? "fine," : "", text, writable);
	}
	static void serve(struct conn *c) { conn_printf(c, "x"); }
	const struct preforkd_service preforkd_module = {
	    .abi = PREFORKD_ABI, .open = look, .serve = serve };
	END
	serve "$GREET" ''
	conf "$D/look.so" ''
	kill -HUP "$M"
	wait_for logged 'reload failed.*1 arguments, fine, descriptors 0 1 2 3 writable 0$'
}

@test "R a module is looked for in the root directory, and runs as the user" {
	[ "$(id -u)" -eq 0 ] || skip 'needs root'
	build who <<-'END'
	#include <unistd.h>
	#include <preforkd-module.h>
	static int start(void) {
		return getuid() == 61234 && getgid() == 61235 && access("/who.so", R_OK) == 0 ?
		    0 : preforkd_error("as %d", (int)getuid());
	}
	static void serve(struct conn *c) {
		conn_printf(c, "%d %d\n", (int)getuid(), (int)getgid());
	}
	const struct preforkd_service preforkd_module = {
	    .abi = PREFORKD_ABI, .start = start, .serve = serve };
	END
	mkdir "$D/root"
	chmod 755 "$D" "$D/root"
	install -m 644 "$D/who.so" "$D/root"
	conf /who.so '' "chroot $D/root"
	sed -i 's/user root/user 61234:61235/' "$D/conf"
	start -f "$D/conf"
	[ "$(ask x)" = '61234 61235' ]
}

@test "A14 a module that calls exit takes its worker, whatever the code" {
	serve "$HOSTILE" ''
	hold_one
	for code in 0 90 94; do
		not obeys "exit $code"
		wait_for died "exit $code.*"
	done
	[ "$(count_logged 'worker died')" -eq 3 ]
	release_one
}

@test "A03 a module that crashes takes only its worker" {
	serve "$HOSTILE" ''
	hold_one
	for deed in 'crash SIGSEGV' 'abort SIGABRT'; do
		ask "${deed% *}" | head -n 1 | grep -q pid
		wait_for died "${deed#* }"
	done
	release_one
	obeys x
}

@test "A10 a module that spins is killed when connection-timeout has passed" {
	serve "$HOSTILE" '' 'connection-timeout 300ms' "${one_worker_lines[@]}"
	not obeys spin
	wait_for logged 'killing a worker .*why="connection-timeout passed"'
	wait_for died 'SIGKILL \(by the master\)'
	obeys x
}

@test "a module that leaks meets the limit of its worker" {
	[ -z "${SANITIZE:-}" ] || skip 'sanitizers need more memory'
	serve "$HOSTILE" '' 'rlimit-as 100m'
	hold_one
	not obeys leak
	wait_for died SIGABRT
	release_one
}

@test "a worker whose module hangs at its end is over after drain-timeout" {
	serve "$HOSTILE" '' 'drain-timeout 1s' "${one_worker_lines[@]}" \
	    'max-connections-per-worker 1'
	obeys 'later hang'
	wait_for died SIGALRM
	obeys x
}

@test "a file that is spoilt in place kills workers, and a reload takes a new one" {
	cp "$GREET" "$D/m.so"
	serve "$D/m.so" '' "${one_worker_lines[@]}"
	ask l | grep -q Welcome
	: > "$D/m.so"
	[ -z "$(ask l)" ]
	wait_for died SIGBUS
	wait_for logged 'error: module service=m: must be a shared object'
	kill -HUP "$M"
	wait_for logged 'reload failed.*m.so: must be a shared object'
	cp "$HOSTILE" "$D/m.so"
	kill -HUP "$M"
	wait_for logged 'reloaded generation=2'
	obeys x
	not mapped "$M" "$D/m.so"
}

@test "a worker whose module fails to start is told, and tried again" {
	build once <<-'END'
	#include <unistd.h>
	#include <preforkd-module.h>
	static const char *file;
	static int open_(int argc, char *argv[]) {
		file = argv[argc - 1];
		return 0;
	}
	static int start(void) {
		return access(file, F_OK) == 0 ? preforkd_error("\"%s\"\n", "bad") : 0;
	}
	static void serve(struct conn *c) { conn_printf(c, "served\n"); }
	const struct preforkd_service preforkd_module = {
	    .abi = PREFORKD_ABI, .open = open_, .start = start, .serve = serve };
	END
	serve "$D/once.so" "$D/bad"
	: > "$D/bad"
	for each in $(workers); do
		kill -SEGV "$each"
	done
	wait_for logged 'error: module service=m: \\"bad\\"\\n$'
	wait_for logged 'error: service m cannot start'
	rm "$D/bad"
	[ "$(ask x)" = served ]
}

@test "I07 what a module says to the log is escaped, cut, and has the service" {
	serve "$HOSTILE" ''
	ask $'say a"b\\ \e[31m\x9b service=x' > "$D/reply"
	wait_for logged ' info: said service=m text="a\\"b\\\\ \\033\[31m\\233 service=x"$'
	ask 'warn it may get worse' > "$D/reply"
	wait_for logged ' warning: said service=m text="it may get worse"$'
	ask "say $(printf '\001%.0s' {1..1500})" > "$D/reply"
	wait_for logged ' info: said service=m text="(\\001){900,1023}"$'
}

@test "env is refused where there is no program" {
	conf "$GREET" '' 'env A=1'
	run -1 "$PREFORKD" -n -f "$D/conf"
	[ "$output" = "preforkd: $D/conf:5: service m: env: must be for a program, of exec or resident" ]
}

@test "the calls of the header are exported to modules, and no others" {
	[ -z "${SANITIZE:-}" ] || skip 'sanitizers export theirs'
	header=$TOP/src/preforkd-module.h
	sed -nE 's/^[a-z][^(]*\<((conn|preforkd)_[a-z_]+)\(.*/\1/p' "$header" |
	    sort > "$D/calls"
	nm -D --defined-only "$PREFORKD" | awk '$2 == "T" { print $3 }' |
	    grep -vxE '_start|_init|_fini' | sort | diff "$D/calls" -
}

@test "the header is C99 and C++" {
	printf '#include <preforkd-module.h>\nint x;\n' > "$D/x.c"
	# shellcheck disable=SC2046
	cc -std=c99 -Wall -Wextra -pedantic -Werror -fsyntax-only \
	    $(pkg-config --cflags preforkd) "$D/x.c"
	# shellcheck disable=SC2046
	clang -x c++ -Wall -Wextra -Werror -fsyntax-only \
	    $(pkg-config --cflags preforkd) "$D/x.c"
}

@test "pkg-config knows the version, and where modules are put" {
	[ "preforkd $(pkg-config --modversion preforkd)" = \
	    "$("$PREFORKD" -V 2>&1 | head -n 1)" ]
	[ -d "$INSTALLED$(PKG_CONFIG_SYSROOT_DIR='' pkg-config --variable=moduledir preforkd)" ]
}

@test "the example of preforkd-module(3) builds as it says there, and serves" {
	page=$TOP/man/preforkd-module.3
	sed -n '/^\.Sh EXAMPLES/,/^\.Sh ERRORS/p' "$page" | sed 's/\\e/\\/g' |
	    awk -v dir="$D" '/^\.Bd/ { file = dir "/part" ++n; next }
	/^\.Ed/ { file = "" }
	file { print > file }'
	mv "$D/part1" "$D/motd.c"
	mkdir -p "$D/to"
	sed 's/^[$#] //; s|\$(pkg-config --variable=[^)]*)|to|' "$D/part2" \
	    > "$D/commands"
	(cd "$D" && sh -e commands)
	grep -o -- '--variable=moduledir preforkd' "$D/part2"
	echo 'Be nice.' > "$D/motd"
	sed "s|:8017|:0|; s|/usr/local/lib/preforkd/|$D/to/|; s|/etc/motd|$D/motd|
	    s|^	listen|	user root\n&|" "$D/part3" > "$D/conf"
	start -f "$D/conf"
	printf 'Hello 127.0.0.1\r\nBe nice.\n' > "$D/want"
	ask '' | cmp - "$D/want"
	rm "$D/motd"
	run -1 "$PREFORKD" -n -f "$D/conf"
	[[ $output == *": module $D/to/motd.so: $D/motd: No such file or directory" ]]
}

# redirect ARGUMENTS: a server of it.
redirect() {
	build redirect "$TOP/src/module/redirect.c"
	serve "$D/redirect.so" "$1" 'idle-timeout 5s'
}

# http REQUEST: printf(1) makes it; the reply without its date, for a test.
http() {
	# shellcheck disable=SC2059
	printf "$1" | timeout "$DEADLINE" nc -N 127.0.0.1 "$PORT" > "$D/reply"
	tr -d '\r' < "$D/reply" | sed '/^Date: /d'
}

# status REQUEST: of the reply, and where it leads.
answer() { http "$1" | sed -nE '1s/HTTP.1.1 ([0-9]+) .*/\1/p; s/^Location: //p' | paste -sd ' '; }

# answers WANT REQUEST
answers() {
	local got
	got=$(answer "$2")
	[ "$got" = "$1" ] || {
		echo "$2: $got, not $1"
		false
	}
}

H='Host: a\r\n\r\n'

@test "redirect: the whole reply, with a date" {
	redirect https://www.example.org
	[ "$(http "GET /a?b HTTP/1.1\r\n$H")" = "$(printf '%s\n' \
	    'HTTP/1.1 301 Moved Permanently' \
	    'Location: https://www.example.org/a?b' \
	    'Content-Length: 0' 'Connection: close')" ]
	date=$(sed -n 's/^Date: \(.*\)\r$/\1/p' "$D/reply")
	[ "$(LC_ALL=C date -u -d "$date" '+%a, %d %b %Y %H:%M:%S GMT')" = "$date" ]
	[ $(($(date +%s) - $(date -d "$date" +%s))) -le 20 ]
	tail -c 4 "$D/reply" | cmp - <(printf '\r\n\r\n')
	# HEAD says the same
	cp "$D/reply" "$D/get"
	http "HEAD /a?b HTTP/1.1\r\n$H"
	diff <(grep -v ^Date "$D/get") <(grep -v ^Date "$D/reply")
}

@test "redirect: method, version and form of the target" {
	redirect https://x.org/base
	answers '301 https://x.org/base/' "GET / HTTP/1.1\r\n$H"
	answers '301 https://x.org/base/' 'GET / HTTP/1.0\r\n\r\n'
	answers '301 https://x.org/base/' "\r\nGET / HTTP/1.1\r\n$H"
	answers '301 https://x.org/base//evil.org/' "GET //evil.org/ HTTP/1.1\r\n$H"
	answers '301 https://x.org/base/p?q' "GET http://a:80/p?q HTTP/1.1\r\n$H"
	answers '301 https://x.org/base?q' "GET HTTP://a?q HTTP/1.1\r\n$H"
	answers '301 https://x.org/base' "GET http://a HTTP/1.1\r\n$H"
	answers '308 https://x.org/base/f' "POST /f HTTP/1.1\r\nContent-Length: 3\r\nHost: a\r\n\r\nabc"
	answers '308 https://x.org/base/f' "OPTIONS /f HTTP/1.1\r\n$H"
	answers 505 "GET / HTTP/2.0\r\n$H"
	stop
	redirect '-t https://x.org'
	answers '302 https://x.org/' "GET / HTTP/1.1\r\n$H"
	answers '307 https://x.org/' "PUT / HTTP/1.1\r\n$H"
}

@test "redirect: what is no part of a URL is encoded or refused, and no header gets in" {
	redirect https://x.org
	answers '301 https://x.org/a%7Cb%22%3C%23%5C%C3%A4%20' 'GET /a|b"<#\\\303\244%%20 HTTP/1.1\r\n'"$H"
	for byte in '\r' '\001' '\t' '\177' '\000'; do
		answers 400 "GET /a${byte}Set-Cookie:x HTTP/1.1\r\n$H"
		run -1 grep -i cookie "$D/reply"
	done
	answers '301 https://x.org/%0d%0aSet-Cookie:x' "GET /%%0d%%0aSet-Cookie:x HTTP/1.1\r\n$H"
}

@test "redirect: bad requests" {
	redirect https://x.org
	for each in 'GET /\r\n\r\n' 'GET\r\n\r\n' " GET / HTTP/1.1\r\n$H" \
	    "GET  / HTTP/1.1\r\n$H" "GET / a HTTP/1.1\r\n$H" "G(T / HTTP/1.1\r\n$H" \
	    "GET a HTTP/1.1\r\n$H" "OPTIONS * HTTP/1.1\r\n$H" "\r\n\r\n$H" \
	    "CONNECT a:1 HTTP/1.1\r\n$H" "GET / http/1.1\r\n$H" \
	    "GET / HTTP/1.1\r\n\r\n" "GET / HTTP/1.1\r\nHost: a\r\n$H" \
	    "GET / HTTP/1.1\r\nA : b\r\n$H" "GET / HTTP/1.1\r\nA: b\r\n c\r\n$H" \
	    "GET / HTTP/1.1\r\nA\r\n$H" "GET / HTTP/1.1\r\nA: \000\r\n$H" \
	    "GET / HTTP/1.1\r\n: a\r\n$H" "GET / HTTP/1.\r\n$H"; do
		answers 400 "$each"
	done
	long=$(printf 'a%.0s' {1..4200})
	answers 414 "GET /$long HTTP/1.1\r\n$H"
	answers 431 "GET / HTTP/1.1\r\nA: $long\r\n$H"
	answers 431 "GET / HTTP/1.1\r\n$(printf 'A: %d\\r\\n' {1..101})$H"
	answers "301 https://x.org/${long:0:4000}" "GET /${long:0:4000} HTTP/1.1\r\n$H"
	# nothing, or half of it, is answered by nothing
	[ -z "$(http '')$(http 'GET / HTTP/1.1\r\nHo')" ]
	[ "$(count_logged 'worker died')" -eq 0 ]
}

@test "redirect: its arguments are checked" {
	build redirect "$TOP/src/module/redirect.c"
	url='must be http:// or https://, a host, and perhaps a path, without a / at the end'
	for each in '' 'a b' '-t' '-t a b' '-x http://a'; do
		refused 'must have a URL, or -t and a URL' "$D/redirect.so" "$each"
	done
	for each in ftp://a http:// http:///a https://a/ 'https://a?b' 'https://a|b' a; do
		refused "$each: $url" "$D/redirect.so" "$each"
	done
}
