# 90-documents.bats: holds the documents to the program: manual pages, sample
# configuration, README and HACKING to the tables, messages and files they
# speak of.  Most of it only reads; the examples are run.

load helper

PAGE=$TOP/man/preforkd.8
CONF_PAGE=$TOP/man/preforkd.conf.5
SAMPLE=$TOP/etc/preforkd.conf

table() { "$TOOLS/unit-tables" "$1"; }

# complain TEXT: why the test fails, for one of several things it looks at.
complain() {
	echo "$*" >&2
	BAD=yes
}

# page FILE: as text in long lines, so that nothing is broken in two.
page() { mandoc -Tascii -O width=1000 "$1" | col -bx; }

# section FILE NAME: of a manual page, as text.
section() { page "$1" | sed -n "/^$2\$/,/^[A-Z]/p" | sed '1d; $d'; }

# formats FUNCTIONS FILE...: the format strings of such calls, one a line,
# with a colon and REASON where the call appends errno's text.
formats() {
	local functions=$1
	shift
	cat "$@" | tr '\n\t' '  ' |
	    grep -oE "\<($functions)\([^;\"]*(\"([^\"\\\\]|\\\\.)*\" *)+" |
	    sed -E 's/\\"/\x01/g; s/" *"//g; s/" *$//
		s/^(fatal|log_error|log_warn)\([^"]*"(.*)/\2: REASON/
		s/^[^"]*"//; s/\x01/"/g' | sort -u
}

# pattern FORMAT: a regular expression for the line in a manual page, where a
# word stands for each conversion.
pattern() {
	sed -E 's/%lld\.%03d|%\.\*s|%[0-9]*l*[a-z]/\x01/g
		s/[][\.*^$(){}|+?]/\\&/g; s/\x01/[^ ]+/g' <<<"$1"
}

# told FILE: every format on standard input is a line of it.
told() {
	local format
	while IFS= read -r format; do
		case $format in
		%s | '%s: REASON')
			continue ;;	# its text is made elsewhere
		esac
		grep -qE "^ *$(pattern "$format")\$" "$1" ||
		    complain "not in the manual: $format"
	done
}

@test "the manual pages pass mandoc's lint" {
	mandoc -Tlint -W warning "$TOP"/man/*.[1-9]
}

@test "no line of a manual page is wider than a terminal" {
	for each in "$TOP"/man/*.[1-9]; do
		run -1 bash -c "mandoc -Tascii -O width=78 '$each' | col -bx |
		    grep -E '^.{81}'"
	done
}

@test "preforkd's usage is the SYNOPSIS, and wrong usage is exit 64" {
	synopsis=$(mandoc -Tascii -O width=78 "$PAGE" | col -bx |
	    sed -n '/^SYNOPSIS/,/^DESCRIPTION/p' | sed '1d; $d' | xargs -0 \
	    printf '%s' | tr -s ' \n' ' ')
	for arguments in '-x' '-f' 'greet greet' '-l'; do
		# shellcheck disable=SC2086  # words
		run "$PREFORKD" $arguments
		[ "$status" -eq 64 ]
		usage=$(sed -n '/^usage: /,$p' <<<"$output" | tr -s ' \n' ' ')
		[ " ${usage#usage: }" = "$synopsis" ]
	done
}

@test "every option of the usage has its paragraph, in order" {
	section "$PAGE" DESCRIPTION | grep -oE '^     -[A-Za-z0-9]' |
	    tr -d ' -' > "$D/options"
	[ "$(tr -d '\n' < "$D/options")" = 1dflnoVv ]
	[ "$(LC_ALL=C grep -oE 'getopt\(argc, argv, "\+[^"]*' \
	    "$TOP/src/main.c" | sed 's/.*+//; s/://g')" = 1dflnoVv ]
}

# settings_of_page: NAME, SECTION and first line of each, tab-separated.
settings_of_page() {
	awk '/^\.Ss / { section = $2 }
	/^\.It Ic / { name = $3; next_is_first = 1; next }
	next_is_first && !/^Oo / {
		print name "\t" section "\t" $0; next_is_first = 0
	}' "$CONF_PAGE"
}

@test "every setting is in preforkd.conf(5) with its range and default" {
	settings_of_page > "$D/page"
	while IFS=$'\t' read -r name scope type range default _; do
		IFS=$'\t' read -r _ section first \
		    < <(grep "^$name	" "$D/page") ||
		    { complain "$name: not there"; continue; }
		case $scope in
		any) want=Structure ;;
		global) want=Global ;;
		service) want=Settings ;;
		esac
		[ "$section" = $want ] || complain "$name: in section $section"
		case $type in
		number | duration | path | word)
			first=${first^}
			want="${range^}; default $default"
			[ "$default" != - ] || want="${range^}; no default"
			[ "$name" != workers-surge ] ||
			    want="${range^}; default as many as"
			[[ $first == "$want"* ]] ||
			    complain "$name: '$first', not '$want'" ;;
		name)
			grep -qF "$range" "$CONF_PAGE" ||
			    complain "$name: not '$range'" ;;
		esac
	done < <(table settings)
	[ -z "${BAD-}" ]
}

@test "preforkd.conf(5) has no setting that does not exist, nor out of order" {
	settings_of_page | cut -f 1 | sort > "$D/page"
	table settings | cut -f 1 | sort | diff - "$D/page"
	for section in Structure Global Settings; do
		settings_of_page | awk -F '\t' -v s=$section '$2 == s' |
		    cut -f 1 | sort -c
	done
}

# between FIRST LAST: the settings that a passage of the page names, but for
# what it says of a service.
between() {
	sed -n "/$1/,/$2/s/^\.Ic \([a-z-]*\).*/\1/p" "$CONF_PAGE" |
	    grep -v '^service$' | sort
}

@test "preforkd.conf(5) says which settings are no defaults, and which are repeated" {
	table settings | awk -F '\t' '$2 == "service" &&
	    $3 ~ /^(address|variable|prefix|who|prefixes)$/ { print $1 }' |
	    sort > "$D/lists"
	{ cat "$D/lists"; table settings | awk -F '\t' '$3 == "words" &&
	    $1 != "refuse" { print $1 }'; } | sort > "$D/none"
	while read -r name; do
		printf '%s x\n' "$name" > "$D/conf"
		run -1 "$PREFORKD" -n -f "$D/conf"
		[[ $output == *": $name: must come after a service line" ]]
	done < "$D/none"
	between '^A setting may be there once' '^may be repeated' |
	    diff "$D/lists" -
	between '^all of these but' '^set the default' | diff "$D/none" -
}

@test "preforkd.conf(5) says which settings a resident service cannot have" {
	between '^So these settings are refused' '^and all that begin' \
	    > "$D/page"
	table settings | awk -F '\t' '$2 == "service" { print $1 }' |
	    grep -vxE 'run|exec|module|resident|prespawn' |
	    while read -r name; do
		printf '%s\n' 'service a' 'listen :80' 'resident cat' \
		    "$name $(value "$name")" > "$D/conf"
		if "$PREFORKD" -n -f "$D/conf" > "$D/said" 2>&1; then
			continue
		fi
		grep -q 'must not be there: a resident program' "$D/said" ||
		    sed "s/^/$name for another reason: /" "$D/said"
		case $name in
		per-source-*) ;;
		*) echo "$name" ;;
		esac
	done | sort | diff "$D/page" -
}

# value NAME: one that it may have.
value() {
	case $1 in
	allow | deny) echo 192.0.2.1 ;;
	default) echo deny ;;
	log-connections) echo end ;;
	min-rate | rate) echo 1/1s ;;
	per-source-for) echo 192.0.2.1 1 ;;
	per-source-prefix) echo 32 64 ;;
	per-source-rate) echo 1/1s ;;
	proxy-protocol) echo from 192.0.2.1 ;;
	refuse) echo reset ;;
	rules) echo /etc/hosts ;;
	when-full) echo drop-silent ;;
	chdir | chroot) echo / ;;
	env) echo A=b ;;
	exec-stderr) echo log ;;
	listen) echo :81 ;;
	max-memory* | rlimit-stack) echo 1m ;;
	new-privileges | tcp-nodelay) echo yes ;;
	on-crash-loop) echo exit ;;
	rlimit-nofile) echo 64 ;;
	stop-signal) echo SIGTERM ;;
	tcp-keepalive) echo 0 ;;
	user) echo 1:1 ;;
	workers-*) echo 2 ;;
	*) echo 1 ;;
	esac
}

@test "preforkd.conf(5) says which settings need a restart" {
	table settings | awk -F '\t' '$6 == "restart" {print $1}' |
	    sort > "$D/table"
	[ -s "$D/table" ]
	awk '/^\.It Ic / { name = $3 }
	/^A new value needs a restart/ { print name }' "$CONF_PAGE" |
	    sort | diff "$D/table" -
}

@test "every built-in service is in the manual pages and in README" {
	for each in $(table services); do
		grep -qE "^\.It Cm $each\$" "$CONF_PAGE" ||
		    complain "$each: not in preforkd.conf(5)"
		grep -qE "^\.Cm $each( |\$)" "$PAGE" ||
		    complain "$each: not in preforkd(8)"
		grep -qw "$each" "$TOP/README" ||
		    complain "$each: not in README"
	done
	[ -z "${BAD-}" ]
}

@test "the sample file has every setting, with its default" {
	while IFS=$'\t' read -r name _ _ _ default _; do
		want="$name $default"
		[ "$default" != - ] || want=$name
		grep -qE "^	?#?$want( |\$)" "$SAMPLE" ||
		    complain "sample: no line $want"
	done < <(table settings)
	[ -z "${BAD-}" ]
}

@test "the sample file means the same when what it comments out is put in" {
	"$PREFORKD" -nn -f "$SAMPLE" > "$D/as-is"
	sed -E '/^#(status-file|pidfile|include|user|group|chroot|rlimit-[a-z]+|max-memory[a-z-]*) /d; s/^#([a-z-]+ [a-zA-Z0-9/-]+( [0-9]+)?)$/\1/' \
	    "$SAMPLE" > "$D/preforkd.conf"
	# as many as have a default, and workers-surge
	[ "$(grep -cE '^[a-z-]+ [a-zA-Z0-9/-]+( [0-9]+)?$' "$D/preforkd.conf")" -eq \
	    "$(($(table settings | cut -f 5 | grep -cv '^-$') + 2))" ]
	"$PREFORKD" -nn -f "$D/preforkd.conf" | diff "$D/as-is" -
}

@test "every signal is in preforkd(8) with its effect, and no other" {
	sed -n '/^\.Sh SIGNALS/,/^\.El/p' "$PAGE" | awk '
	/^\.It Dv / { name = $3; getline; print name "\t" $0 }' > "$D/page"
	table signals | while IFS=$'\t' read -r name effect; do
		printf '%s\t%s.\n' "$name" "${effect^}"
	done | diff - "$D/page"
}

@test "the exit codes of workers in preforkd(8) are those of preforkd.h" {
	first=$(sed -n 's/.*WORKER_LEFT = \([0-9]*\).*/\1/p' \
	    "$TOP/src/preforkd.h")
	n=$(sed -n '/WORKER_LEFT = /,/}/p' "$TOP/src/preforkd.h" |
	    grep -c WORKER_)
	seq "$first" $((first + n - 1)) > "$D/codes"
	section "$PAGE" 'EXIT STATUS' | grep -oE '^     9[0-9]' | tr -d ' ' |
	    diff "$D/codes" -
}

@test "every alert, error and warning is in DIAGNOSTICS, word for word" {
	local sources=()
	for each in "$TOP"/src/*.c "$TOP"/src/service/*.c; do
		case $each in
		*/preforkctl.c | */control.c | */show.c | */listing.c) ;;
		*) sources+=("$each") ;;
		esac
	done
	section "$PAGE" DIAGNOSTICS > "$D/page"
	{ formats 'fatalx?|log_errorx?|log_warnx?' "${sources[@]}"
	formats log_line "${sources[@]}"; } |
	    sed 's/^more than %d of/more than 64 of/' > "$D/formats"
	[ "$(wc -l < "$D/formats")" -gt 30 ]
	told "$D/page" < "$D/formats"
	[ -z "${BAD-}" ]
}

@test "the messages of preforkctl are in its DIAGNOSTICS" {
	section "$TOP/man/preforkctl.8" DIAGNOSTICS > "$D/page"
	for each in preforkctl control show listing holder; do
		formats 'fatalx?|log_errorx?|log_warnx?|error_say' \
		    "$TOP/src/$each.c"
	done > "$D/formats"
	[ "$(wc -l < "$D/formats")" -gt 20 ]
	told "$D/page" < "$D/formats"
	[ -z "${BAD-}" ]
}

@test "every other line of the log is in LOG, under its level" {
	for level in info notice debug; do
		section "$PAGE" LOG | sed -n "/[Oo]f level $level:/,/of level/Ip" \
		    > "$D/$level"
		formats "log_$level" "$TOP"/src/*.c |
		    sed 's/: %s$/: REASON/' > "$D/formats"
		[ -s "$D/formats" ]
		told "$D/$level" < "$D/formats"
	done
	[ -z "${BAD-}" ]
}

# tags FILE SECTION: the messages in a list.
tags() {
	sed -n "/^\.Sh $2/,/^\.Sh/p" "$1" |
	    sed -E ':a; /\\$/{N; s/\\\n//; ba}' |
	    sed -nE '/\.It Li /{ s///; s/^"//; s/"$//; s/\\\(dq/"/g; p; }'
}

@test "no message is in the manual pages that is not in the sources" {
	cat "$TOP"/src/*.c | tr '\n\t' '  ' | sed 's/" *"//g' > "$D/sources"
	{ tags "$PAGE" DIAGNOSTICS; tags "$PAGE" LOG
	tags "$TOP/man/preforkctl.8" DIAGNOSTICS; } |
	    grep -v '^listen ADDRESS: bind: ' |		# strerror(3)
	    sed -E 's/ [a-z-]+=.*//; s/ 64 of/\n of/
		s/\<([A-Z]{3,}( [A-Z]+)*|N|M)\>|: /\n/g' |
	    sed -E 's/^-//; s/^[: ]+//; s/[: ]+$//' | grep -E '...' > "$D/pieces"
	[ "$(wc -l < "$D/pieces")" -gt 50 ]
	while IFS= read -r piece; do
		grep -qF -- "$piece" "$D/sources" ||
		    complain "not in the sources: $piece"
	done < "$D/pieces"
	[ -z "${BAD-}" ]
}

@test "every source file is in HACKING, and no other" {
	(cd "$TOP/src" && ls ./*.[ch] service/*.c module/*.c | sed 's|^\./||' | sort) \
	    > "$D/files"
	sed -n '/^2\. /,/^3\. /p' "$TOP/HACKING" | grep -E '^    [a-z]' |
	    sed -E 's/^    //; s/  .*//; s/, /\n/g' |
	    grep -E '\.[ch]$' | sort | diff "$D/files" -
}

@test "every function that HACKING names is there, in the file that it says" {
	grep -oE '\<[a-z_]+\(\)( in [a-z]+\.c)?' "$TOP/HACKING" |
	    grep -v '^closefrom' | sort -u > "$D/functions"
	[ "$(wc -l < "$D/functions")" -gt 20 ]
	while read -r name _ file; do
		grep -qE "^${name%??}\(" "$TOP"/src/${file:-*.c} ||
		    complain "no $name in ${file:-src}"
	done < "$D/functions"
	[ -z "${BAD-}" ]
}

@test "the lines that HACKING counts are those of src" {
	total=$(cd "$TOP/src" && cat ./*.[ch] service/*.c module/*.c | wc -l)
	said=$(sed -n 's/^src is \([0-9]*\),000 lines.*/\1/p' "$TOP/HACKING")
	[ $((said * 1000 - total)) -lt 1500 ]
	[ $((total - said * 1000)) -lt 1500 ]
}

@test "the services in README are configurations that are read" {
	awk -v d="$D" '
	/^    [^ ]/ && !on { on = 1; text = ""; served = 0 }
	/^[^ ]/ && on { if (served) { printf "%s", text > (d "/readme" ++n) } on = 0 }
	on { text = text substr($0, 5) "\n" }
	on && /^    service / { served = 1 }' "$TOP/README"
	[ -e "$D/readme3" ]
	for each in "$D"/readme*; do
		"$PREFORKD" -n -f "$each"
	done
}

@test "the files and directories that README and HACKING name exist" {
	grep -ohE '\<(src|tests|man|etc|build-aux)/[a-zA-Z0-9_./-]+[a-zA-Z0-9]' \
	    "$TOP/README" "$TOP/HACKING" |
	    grep -v '^tests/NN-\|^src/preforkd$\|^src/preforkctl$' | sort -u \
	    > "$D/names"
	[ "$(wc -l < "$D/names")" -gt 8 ]
	while read -r name; do
		[ -e "$TOP/$name" ] || complain "no such file: $name"
	done < "$D/names"
	for name in HACKING NEWS LICENSE; do
		grep -q "^    $name " "$TOP/README" || complain "$name unnamed"
		[ -e "$TOP/$name" ] || complain "no such file: $name"
	done
	[ -z "${BAD-}" ]
}

@test "every call and every member of preforkd-module.h is in preforkd-module(3)" {
	header=$TOP/src/preforkd-module.h
	page=$TOP/man/preforkd-module.3
	sed -nE 's/^[a-z][^(]*\<((conn|preforkd)_[a-z_]+)\(.*/\1/p' "$header" |
	    sort > "$D/calls"
	[ "$(wc -l < "$D/calls")" -gt 10 ]
	sed -n '/^\.Sh SYNOPSIS/,/^\.Sh DESC/s/^\.Fn \([a-z_]*\).*/\1/p' "$page" |
	    sort | diff "$D/calls" -
	members() { sed -n '/^struct preforkd_service {/,/^}/p' "$1" |
	    grep -E '^	[a-z]' | sed -E 's|/\*.*||' | tr -d ' \t'; }
	[ "$(members "$header" | wc -l)" -ge 8 ]
	diff <(members "$header") <(members "$page")
}

@test "the targets of make that README and HACKING name exist" {
	{ grep -ohE '(`|^    )make [a-z]+' "$TOP/README" "$TOP/HACKING" |
	    sed 's/.*make //'
	sed -n 's/^install, lint, bench, dist\.$/install\nlint\nbench\ndist/p' \
	    "$TOP/README"; } | sort -u > "$D/targets"
	[ "$(wc -l < "$D/targets")" -ge 6 ]
	while read -r target; do
		grep -q "^$target:" "$TOP/Makefile" ||
		    complain "no target $target"
	done < "$D/targets"
	[ -z "${BAD-}" ]
}

@test "NEWS begins with the version that configure has" {
	version=$(sed -n 's/^AC_INIT(\[preforkd\], \[\(.*\)\])$/\1/p' \
	    "$TOP/configure.ac")
	[ "$(grep -m 1 -E '^[0-9.]+$' "$TOP/NEWS")" = "$version" ]
}

@test "README's greeting is what greet says, byte for byte" {
	start_greet
	ask l > "$D/greeting"
	[ "$(wc -l < "$D/greeting")" -eq 3 ]
	grep -A 2 '^    Welcome' "$TOP/README" | sed 's/^    //; s/$/\r/
		s/port 8001/port '"$PORT/" | cmp - "$D/greeting"
}

# runnable: an example on standard input becomes a script for this directory;
# preforkd and preforkctl are functions, which see to a free port, a status
# file, and the end.
runnable() {
	cat <<-END
	cd '$D'
	ready() { until [ -s "\$1" ]; do
	    kill -0 \$! || exit 1; sleep 0.02; done; }
	preforkd() {
		case " \$* " in
		*' -n'*) '$PREFORKD' "\$@"; return ;;
		*' -1 '*) exec '$PREFORKD' -o 'status-file $D/one' "\$@" ;;
		esac
		'$PREFORKD' -1 -o 'status-file $D/one' "\$@" >ready &
		ready ready
		kill \$!
		wait \$!
	}
	preforkctl() { '$PREFORKCTL' -s '$STATUS' "\$@"; }
	END
	sed -E "s/:[0-9]+( |\$)/:0\\1/g; s|/tmp/|$D/|g; s|/run/|$D/run/|g
		s|/etc/preforkd.conf|$SAMPLE|g; s|/var/|$D/var/|g"
}

# examples FILE: commands of its EXAMPLES, each group of lines a file in $D.
examples() {
	sed -n '/^\.Sh EXAMPLES/,/^\.Sh/p' "$1" | awk -v dir="$D" '
	/^\.Dl [$#] / { sub(/^\.Dl /, "") }
	/^[$#] / {
		if (!open)
			file = dir "/example" ++n
		open = 1
		gsub(/\\\(dq/, "\"")
		print substr($0, 3) > file
		next
	}
	{ open = 0 }
	END { print n }'
}

@test "every line of the log has the grammar of preforkd(8)" {
	local time='[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:]{8}\.[0-9]{3}Z'
	local level='(alert|error|warning|notice|info|debug)'
	local value='([^ "]+|"([^"\\]|\\.)*")'
	printf 'workers-max 9\nservice greet\nlisten 127.0.0.1:0\nrun greet\n' \
	    > "$D/file"
	start -v -f "$D/file"
	ask $'a="b" \\ \e[31m \xff' > "$D/reply"
	kill -KILL "$(one_worker)"
	wait_for logged 'worker died'
	kill -USR2 "$M"
	wait_for logged 'upgraded from=.* generation=2'
	kill -HUP "$M"
	wait_for logged 'reloaded generation=3'
	echo nonsense 1 >> "$D/file"
	kill -HUP "$M"
	wait_for logged 'reload failed'
	w=$(one_worker)
	kill -STOP "$w"
	wait_for logged 'worker stopped'
	kill -CONT "$w"
	stop
	[ "$(sed -E 's/^[^ ]* [^ ]* ([a-z]+):.*/\1/' "$LOG" | sort -u | wc -l)" \
	    -eq 5 ]
	run -1 grep -avE "^$time preforkd\\[[0-9]+\\] $level: [^=\"]*( [a-z-]+=$value)*(: .*)?\$" \
	    "$LOG"
}

@test "the examples of preforkd(8) work" {
	n=$(examples "$PAGE")
	[ "$n" -eq 7 ]
	start_greet
	for i in $(seq "$n"); do
		echo "example $i: $(cat "$D/example$i")"
		rm -f "$D/ready"
		{ runnable; echo wait; } < "$D/example$i" > "$D/script"
		timeout "$DEADLINE" setsid -w bash -eu "$D/script" \
		    > "$D/out" 2> "$D/err" 3>&-
		! grep -E 'preforkd: |command not found' "$D/err"
	done
	[ -s "$D/address" ]
	# the last example: a reload, and the end
	wait_for logged 'notice: reloading'
	ended 0
}

@test "the examples of preforkd.conf(5) are configurations that serve" {
	sed -n '/^\.Sh EXAMPLES/,/^\.Sh/p' "$CONF_PAGE" | awk -v dir="$D" '
	/^\.Bd/ { file = dir "/conf" ++n; next }
	/^\.Ed/ { file = "" }
	file { print > file }'
	for i in 1 2 3 4 5 6; do
		"$PREFORKD" -n -f "$D/conf$i"
		sed -E 's/:[0-9]+$/:0/; s|unix:/run|unix:'"$D|" "$D/conf$i" \
		    > "$D/free.conf"
		start -f "$D/free.conf"
		# `*' is two
		[ "${#ADDRESSES[@]}" -eq "$(sed -nE '/^	listen/ {
		    p; /\*:/p; }' "$D/conf$i" | wc -l)" ]
		stop
	done
	[ ! -e "$D/conf7" ]
}

@test "the examples of preforkctl(8) work" {
	mkdir -p "$D/run/preforkd" "$D/x" "$D/var/lib/prometheus/node-exporter"
	STATUS=$D/run/preforkd/greet.status
	start_greet
	stop
	start_greet
	for suffix in '' .slots .counter; do
		ln -s "$STATUS$suffix" "$D/x/test$suffix"
	done
	n=$(examples "$TOP/man/preforkctl.8")
	[ "$n" -eq 10 ]
	for i in $(seq "$n"); do
		echo "example $i: $(cat "$D/example$i")"
		runnable < "$D/example$i" > "$D/script"
		want=0
		# of a server that has ended
		! grep -q /tmp/old "$D/example$i" || want=2
		run -$want timeout "$DEADLINE" bash -u "$D/script"
		[[ $output != *'No such file'* ]]
	done
}

@test "README's examples work" {
	sed -n '/^Use it/,/^There are four/p' "$TOP/README" |
	    sed -n 's|^    src/||p' > "$D/example"
	[ "$(wc -l < "$D/example")" -eq 3 ]
	while read -r line; do
		rm -f "$D/ready"
		runnable <<<"$line" > "$D/script"
		timeout "$DEADLINE" setsid -w bash -eu "$D/script" \
		    2> "$D/err" 3>&-
		! grep 'preforkd: ' "$D/err"
	done < "$D/example"
	sed -n '/reads:$/,/^There are four/p' "$TOP/README" |
	    sed -n 's/^    //p' > "$D/conf"
	"$PREFORKD" -n -f "$D/conf"
	sed -n '/^There are four/,/^preforkd.conf/p' "$TOP/README" |
	    sed -nE '/^    ([a-z])/ { s//\1/; s/   .*//; p; }' > "$D/kinds"
	[ "$(cut -d ' ' -f 1 "$D/kinds" | tr '\n' ' ')" = 'run exec resident module ' ]
	sed -E "s|^(module) .*|\\1 $TOOLS/module-greet.so|
		s|^(resident) [a-z]+|\\1 cat|" "$D/kinds" | while read -r line; do
		printf 'service a\nlisten 127.0.0.1:0\n%s\n' "$line" > "$D/conf"
		"$PREFORKD" -n -f "$D/conf" || return 1
	done
}
