# 42-rules.bats: who may come in: allow, deny, default, and files of rules.

load helper
load reload

from() { timeout "$DEADLINE" nc -N -s "$1" 127.0.0.1 "$PORT"; }
greets() { [[ $(echo x | from "$1") == Welcome* ]]; }
keeps_out() { [ -z "$(echo x | from "$1")" ]; }

# ruled LINE...: a greeter with these settings, and the rules on standard input.
ruled() {
	cat > "$D/rules"
	greet_conf "$@" "rules $D/rules"
	start_conf
}

refused_for() {
	wait_for logged "warning: client refused peer=$1:[0-9]+ service=greet why=$2\$"
}

# env_for ADDRESS: the variables of a program for a client from there.
env_for() { from "$1" < /dev/null; }

@test "the longest prefix of allow and deny decides, and who is refused is logged" {
	greet_conf 'deny 127.0.0.0/8 10.0.0.0/8' 'allow 127.0.1.0/24' \
	    'deny 127.0.1.5'
	start_conf
	keeps_out 127.0.0.1
	greets 127.0.1.4
	keeps_out 127.0.1.5
	refused_for 127.0.1.5 deny
}

@test "default deny lets in whom allow names, and nobody else" {
	greet_conf 'default deny' 'allow 127.0.0.2'
	start_conf
	greets 127.0.0.2
	keeps_out 127.0.0.1
	refused_for 127.0.0.1 default
}

@test "default deny alone keeps everybody out" {
	start_greet -o 'default deny'
	keeps_out 127.0.0.1
	refused_for 127.0.0.1 default
}

@test "a file of rules: addresses, dotted prefixes, ranges, prefixes, and all others" {
	ruled <<-'END'
	# who may come in
	127.0.0.1:allow
	127.1.:allow
	127.1.2.:deny
	127.0.0.5-7:allow
	127.2.0.0/16:allow
	:deny
	END
	for a in 127.0.0.1 127.1.0.1 127.0.0.5 127.0.0.7 127.2.3.4; do
		greets "$a"
	done
	for a in 127.0.0.2 127.1.2.1 127.0.0.4 127.0.0.8 127.3.0.1; do
		keeps_out "$a"
	done
	refused_for 127.3.0.1 rules
}

@test "rules for IPv6" {
	printf '[::1]:deny\n[2001:db8::/32]:allow\n' > "$D/rules"
	printf '%s\n' 'service greet' 'listen 127.0.0.1:0' 'listen [::1]:0' \
	    'run greet' "rules $D/rules" | conf
	start_conf
	greets 127.0.0.1
	[ -z "$(echo x | nc -N ::1 "${ADDRESSES[1]##*:}")" ]
	wait_for logged 'client refused peer=\[::1\]:[0-9]+ service=greet why=rules$'
}

@test "lines and file together: the longest prefix decides, wherever it stands" {
	ruled 'deny 127.1.0.0/16' 'allow 127.2.2.0/24' <<-'END'
	127.1.2.:allow
	127.2.:deny
	END
	keeps_out 127.1.0.1
	greets 127.1.2.1
	keeps_out 127.2.0.1
	greets 127.2.2.1
}

@test "a rule's variables reach the program, and a deny has none" {
	cat > "$D/rules" <<-'END'
	127.0.0.1:allow,RELAYCLIENT="",TEXT=|so "it"|
	127.0.0.2:allow,TCPREMOTEINFO="rule"
	127.0.0.3:allow
	:deny,NEVER="1"
	END
	printf '%s\n' 'service a' 'listen 127.0.0.1:0' 'exec env' \
	    'env TEXT=other' "rules $D/rules" | conf
	start_conf
	env_for 127.0.0.1 > "$D/env"
	grep -qx 'RELAYCLIENT=' "$D/env"
	grep -qx "TEXT=so \"it\"" "$D/env"
	env_for 127.0.0.2 | grep -qx 'TCPREMOTEINFO=rule'
	env_for 127.0.0.3 > "$D/env"
	grep -qx 'TEXT=other' "$D/env"
	not grep -q RELAYCLIENT "$D/env"
	[ -z "$(env_for 127.0.0.4)" ]
}

@test "what tcprules reads means the same here" {
	cat > "$D/rules" <<-'END'
	# as it stands in many a tcp.smtp
	127.0.0.1:allow,RELAYCLIENT="",WHO=/first/
	127.0.0.5-7:allow,WHO="range"
	127.1.:deny
	127.1.2.:allow,WHO="net"
	127.1.2.9:deny,WHO="nobody"
	127.2-3.:allow,WHO="nets"
	127.:allow
	:deny
	END
	tcprules "$D/cdb" "$D/tmp" < "$D/rules"
	printf '%s\n' 'service a' 'listen 127.0.0.1:0' 'exec env' \
	    "rules $D/rules" | conf
	start_conf
	for a in 127.0.0.{1,2,4,5,7,8} 127.1.0.1 127.1.2.{8,9} 127.{2,3,4}.0.1; do
		env_for "$a" | grep -E '^(RELAYCLIENT|WHO|PROTO)=' | sort
		echo "$a"
	done > "$D/here"
	for a in 127.0.0.{1,2,4,5,7,8} 127.1.0.1 127.1.2.{8,9} 127.{2,3,4}.0.1; do
		TCPREMOTEIP=$a tcprulescheck "$D/cdb" > "$D/said"
		grep -q '^deny' "$D/said" || sed -n 's/^allow .*/PROTO=TCP/p
		    s/^set environment variable //p' "$D/said" | sort
		echo "$a"
	done > "$D/there"
	diff "$D/there" "$D/here"
	[ "$(grep -c PROTO "$D/here")" -eq 10 ]
}

@test "Unix sockets: by user, or else by group" {
	[ "$(id -u)" -eq 0 ] || skip 'needs root'
	open_directory
	printf '%s\n' 'service greet' "listen unix:$D/socket" 'run greet' \
	    'default deny' 'allow uid=12 gid=12' 'deny uid=13 uid=nobody' | conf
	start_conf
	as() { echo x | setpriv --reuid "$1" --regid "$2" --clear-groups \
	    nc -N -U "$D/socket"; }
	[[ $(as 12 1) == Welcome* ]]
	[[ $(as 1 12) == Welcome* ]]
	[ -z "$(as 13 12)" ]
	[ -z "$(as 1 1)" ]
	[ -z "$(as nobody 12)" ]
	wait_for logged 'client refused peer=unix:- service=greet why=default$'
	wait_for logged 'client refused peer=unix:- service=greet why=deny$'
	[ "$("$PREFORKD" -nn -f "$D/conf" | grep -cE '	(allow|deny) [ug]id=[0-9]+$')" -eq 4 ]
}

@test "rules are asked before limits per source, and refuse as these do" {
	greet_conf 'deny 127.0.0.2' 'per-source 1' 'refuse message "not you"'
	start_conf
	[ "$(echo x | from 127.0.0.2)" = $'not you\r' ]
	greets 127.0.0.1
	refused_for 127.0.0.2 deny
}

@test "a reload reads the file again; one that is wrong changes nothing" {
	ruled <<< '127.0.0.2:deny'
	keeps_out 127.0.0.2
	echo '127.0.0.3:deny' > "$D/rules"
	reload
	greets 127.0.0.2
	keeps_out 127.0.0.3
	echo '127.0.0.2:deny,' > "$D/rules"
	reload_refused "$D/rules:1: must be NAME="
	keeps_out 127.0.0.3
	greets 127.0.0.2
	rm "$D/rules"
	reload_refused "conf:4: service greet: rules $D/rules: No such file"
	keeps_out 127.0.0.3
	greet_conf
	reload
	greets 127.0.0.3
	BASE_FDS=$((BASE_FDS - 1))	# no rules any more
}

@test "workers that are born later have the rules of their generation" {
	ruled <<< '127.0.0.2:deny'
	echo '127.0.0.1:deny' > "$D/rules"
	for w in $(workers); do kill -KILL "$w"; done
	wait_for greets 127.0.0.1
	for i in 1 2 3 4 5 6 7 8 9; do keeps_out 127.0.0.2; done
}

@test "the master has not mapped the rules, and nobody can change them" {
	ruled <<< '127.0.0.2:deny'
	not grep preforkd-rules "/proc/$M/maps"
	fd=$(find "/proc/$M/fd" -lname '*preforkd-rules*')
	[ -e "$fd" ]
	run -1 bash -c "echo x 1<>'$fd'"
	[[ $output == *'Operation not permitted'* ]]
	run grep preforkd-rules "/proc/$(one_worker)/maps"
	[ "${#lines[@]}" -eq 1 ]
	[[ $output == *' r--p '* ]]
	[ -z "$(find "/proc/$(one_worker)/fd" -lname '*preforkd-rules*')" ]
}

@test "an upgrade carries the rules of what serves, and compiles those of what will" {
	mkdir "$D/bin"
	cp "$TOOLS/preforkd-other" "$D/bin/new"
	cp "$PREFORKD" "$D/bin/preforkd"
	PROGRAM=$D/bin/preforkd
	ruled <<< '127.0.0.2:deny'
	keeps_out 127.0.0.2
	echo '127.0.0.3:deny' > "$D/rules"
	mv "$D/bin/new" "$D/bin/preforkd"
	"$PREFORKCTL" -s "$STATUS" upgrade | grep 'to 0.other$'
	keeps_out 127.0.0.3
	greets 127.0.0.2
	wait_for same_fds
	[ "$(find "/proc/$M/fd" -lname '*preforkd-rules*' | wc -l)" -eq 1 ]
	echo '127.0.0.3:sometimes' > "$D/rules"
	run -1 "$PREFORKCTL" -s "$STATUS" upgrade
	[[ $output == *"$D/rules:1: sometimes: must be allow or deny"* ]]
	keeps_out 127.0.0.3
}

@test "an upgrade whose new generation fails goes on with the old rules" {
	mkdir "$D/bin"
	cp "$FAULTY" "$D/bin/preforkd"
	export FAULT_FILE=$D/fault
	PROGRAM=$D/bin/preforkd
	echo '127.0.0.2:deny' > "$D/rules"
	printf '%s\n' 'service abort' 'listen 127.0.0.1:0' 'run abort' \
	    'user root' "rules $D/rules" | conf
	start_conf
	touch "$D/fault"
	kill -USR2 "$M"
	wait_for logged 'upgraded, but the old workers go on'
	rm "$D/fault"
	for w in $(workers); do kill -KILL "$w"; done
	wait_for eval '[ -n "$(echo x | from 127.0.0.1)" ]'
	keeps_out 127.0.0.2
}

@test "a file of 10 MB is read, with its last rule; one of more than 16 MB is not" {
	awk 'BEGIN { for (i = 0; i < 600000; i++)
	    printf "10.%d.%d.%d/32:deny\n", i / 65536, i / 256 % 256, i % 256
	    print "127.0.0.2:deny" }' > "$D/rules"
	[ "$(stat -c %s "$D/rules")" -gt 10000000 ]
	greet_conf "rules $D/rules"
	start_conf
	keeps_out 127.0.0.2
	greets 127.0.0.1
	truncate -s 17M "$D/rules"
	reload_refused 'conf:4: service greet: rules .*: too large: must be at most 16 MB'
}

@test "what is wrong with rules is told by file and line" {
	: > "$D/empty"
	lines_refused <<-'END'
	deny|deny "": must be ADDRESS/LENGTH
	deny 10.0.0.1/8|deny 10.0.0.1/8: 
	deny 10.0.0.0/8 everybody|deny everybody: must be ADDRESS/LENGTH, an address, uid=USER or gid=GROUP
	deny ::ffff:10.0.0.1|deny ::ffff:10.0.0.1: 
	deny uid=nosuchuser|deny uid=nosuchuser: must be a user of this system
	deny gid=-1|deny gid=-1: must be a group of this system
	default maybe|default maybe: must be one of allow, deny
	rules some/file|rules some/file: must be an absolute path
	rules /nonexistent|service a: rules /nonexistent: No such file
	rules /dev/null|service a: rules /dev/null: must be a regular file
	allow 10.0.0.0/8|service a: allow: must have `default deny'
	END
}

@test "a prefix in allow and in deny is refused, and both lines are named" {
	greet_conf 'deny 10.0.0.0/8' 'allow 10.0.0.0/9 10.0.0.0/8'
	run -1 "$PREFORKD" -n -f "$D/conf"
	[ "$output" = "preforkd: $D/conf:5: 10.0.0.0/8:allow: must say the same as $D/conf:4, which has deny" ]
	echo '10.:allow' > "$D/rules"
	greet_conf 'deny 10.0.0.0/8' "rules $D/rules"
	run -1 "$PREFORKD" -n -f "$D/conf"
	[ "$output" = "preforkd: $D/rules:1: 10.0.0.0/8:allow: must say the same as $D/conf:4, which has deny" ]
	echo '10.:deny' > "$D/rules"
	"$PREFORKD" -n -f "$D/conf"
}

@test "a file that is half written is refused, whatever it holds" {
	printf '127.0.0.2:deny\n127.0.0.3:allow' > "$D/rules"
	greet_conf "rules $D/rules"
	run -1 "$PREFORKD" -n -f "$D/conf"
	[[ $output == "preforkd: $D/rules:2: half a line: "* ]]
}

# read_slowly: check $D/conf, with a pause before each read of $D/rules.
read_slowly() {
	strace -f -qq -P "$D/rules" -e trace=openat,read -o "$D/trace" \
	    -e inject=read:delay_enter=250000 "$PREFORKD" -n -f "$D/conf" \
	    > "$D/out" 2>&1 3>&- &
	wait_for opened 1
}
opened() { [ -e "$D/trace" ] && [ "$(grep -c openat "$D/trace")" -ge "$1" ]; }
replace() { cat > "$D/new" && mv "$D/new" "$D/rules"; }

@test "a file that is replaced or written while it is read is read again, once" {
	echo '127.0.0.2:deny' > "$D/rules"
	greet_conf "rules $D/rules"
	read_slowly
	replace <<< '127.0.0.2:replaced'
	wait $! || true
	grep -F "$D/rules:1: replaced: must be allow or deny" "$D/out"
	echo '127.0.0.2:deny' > "$D/rules"
	rm "$D/trace"
	read_slowly
	replace <<< '127.0.0.3:deny'
	wait_for opened 2
	echo '127.0.0.4:deny' >> "$D/rules"
	wait $! || true
	grep -F "rules $D/rules: changes while it is read: must be whole before" "$D/out"
}

@test "a service that is resident has no rules of who may come in" {
	for line in 'allow 10.0.0.1' 'deny 10.0.0.1' 'default deny' 'rules /x'; do
		printf 'service a\nlisten :0\nresident cat\n%s\n' "$line" > "$D/conf"
		run -1 "$PREFORKD" -n -f "$D/conf"
		[[ $output == "preforkd: $D/conf:4: service a: ${line%% *}: must not be there: a resident program"* ]]
	done
}
