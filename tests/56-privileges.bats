#!/usr/bin/env bats
# 56-privileges.bats: what a server that root starts may do, and what it may
# not any more; the settings of privs.c (rows E03, E17, E18, F13, H03, J16).

# shellcheck disable=SC2034  # what the helpers read

load helper

eval "helper_$(declare -f setup)"
setup() {
	[ "$(id -u)" -eq 0 ] || skip 'needs root, who alone can change users'
	helper_setup
	# Nobody else's: what is done to a user's processes meets no other test.
	ID=$((61000 + BASHPID % 4000))
	G1=$((ID + 1)) G2=$((ID + 2))
	PASSWD=''
}

field() { sed -n "s/^$2:[[:blank:]]*//p" "/proc/$1/status"; }
# A line of numbers, with single blanks.
numbers() { field "$1" "$2" | tr -s '\t ' ' ' | sed 's/ $//'; }
four() { echo "$1 $1 $1 $1"; }
as_worker() { setpriv --reuid "$ID" --regid "$ID" --clear-groups "$@"; }
say() { ask "$1" > "$D/reply"; cat "$D/reply"; }

# has_dropped PID UID GID [GROUPS]: exactly this, and nothing of root's is left.
has_dropped() {
	echo "$(tr '\0' ' ' < "/proc/$1/cmdline")"
	grep -E '^(Uid|Gid|Groups|Cap|NoNew)' "/proc/$1/status"
	[ "$(numbers "$1" Uid)" = "$(four "$2")" ]
	[ "$(numbers "$1" Gid)" = "$(four "$3")" ]
	[ "$(numbers "$1" Groups)" = "${4:-$3}" ]
	for set in CapPrm CapEff CapAmb; do
		[ "$(numbers "$1" $set)" = 0000000000000000 ]
	done
	[ "$(numbers "$1" NoNewPrivs)" -eq "${NO_NEW_PRIVS:-1}" ]
}

# with_users LINE...: from now on the program finds these lines in passwd.
with_users() {
	PASSWD=$D/passwd
	{ grep -v '^_preforkd:' /etc/passwd; printf '%s\n' "$@"; } > "$PASSWD"
	cp /etc/group "$D/group"
	cat > "$D/preforkd" <<-END
	#!/bin/sh
	exec unshare -m sh -ec 'mount --bind $PASSWD /etc/passwd
	    mount --bind $D/group /etc/group; exec $PREFORKD "\$@"' - "\$@"
	END
	chmod 755 "$D/preforkd"
	PROGRAM=$D/preforkd
}

# refused WHY ARG...: by the check alone.
refused() {
	local why=$1
	shift
	run -1 "$PROGRAM" -n -l 127.0.0.1:0 "$@" greet
	echo "$output"
	grep -qE -- "$why" <<<"$output"
}

@test "E18 every built-in service has dropped everything: uid, gid, groups, capabilities" {
	for s in greet echo discard chargen daytime time; do
		printf 'service %s\nlisten 127.0.0.1:0\nrun %s\n' $s $s
	done > "$D/conf"
	start -f "$D/conf" -o "user $ID:$G1,$G2,7" -o 'workers-spare 2'
	[ "$(worker_count)" -eq 12 ]
	for w in $(workers); do
		has_dropped "$w" "$ID" "$G1" "7 $G1 $G2"
	done
}

@test "E18 no way leads back to root" {
	PROGRAM=$FAULTY
	start -o "user $ID:$G1" -l 127.0.0.1:0 command
	say root
	not grep could "$D/reply"
	grep "uid $ID euid $ID gid $G1" "$D/reply"
}

@test "the logger has dropped as well, unless it opens a file as root" {
	start_greet
	has_dropped "$(logger_pid)" 65534 65534
	stop
	mkdir -m 755 "$D/logs"
	start_greet -o "log file $D/logs/log"
	[ "$(numbers "$(logger_pid)" Uid)" = "$(four 0)" ]
	[ "$(numbers "$(logger_pid)" NoNewPrivs)" -eq 1 ]
}

@test "without a user setting and without _preforkd it is nobody, with a warning" {
	with_users
	start_greet
	wait_for logged 'warning: no user _preforkd here, serving as nobody service=greet'
	has_dropped "$(one_worker)" 65534 65534
}

@test "without a user setting it is _preforkd, with its groups and no warning" {
	with_users "_preforkd:x:$ID:$G1::/:/bin/false"
	printf 'one:x:%d:_preforkd\ntwo:x:9:_preforkd,x\n' $G2 >> "$D/group"
	start_greet
	not logged 'warning: (no user|serving as)'
	has_dropped "$(one_worker)" "$ID" "$G1" "9 $G1 $G2"
	has_dropped "$(logger_pid)" "$ID" "$G1" "9 $G1 $G2"
}

@test "a user by its name has its groups, and each service its own user" {
	with_users "web:x:$ID:$G1::/:/bin/false"
	printf 'one:x:%d:web\n' $G2 >> "$D/group"
	printf 'service a\nlisten 127.0.0.1:0\nrun echo\nuser web\n
		service b\nlisten 127.0.0.1:0\nrun echo\nuser web\ngroup one
		service c\nlisten 127.0.0.1:0\nrun echo\nuser 7:8\n' > "$D/conf"
	start -f "$D/conf" -o 'workers-spare 1'
	has_dropped "$(pgrep -P "$M" -f 'preforkd: a ')" "$ID" "$G1" "$G1 $G2"
	has_dropped "$(pgrep -P "$M" -f 'preforkd: b ')" "$ID" "$G2"
	has_dropped "$(pgrep -P "$M" -f 'preforkd: c ')" 7 8
}

@test "a group alone replaces that of the default user" {
	start_greet -o "group $G1"
	has_dropped "$(one_worker)" 65534 "$G1"
}

@test "a reload changes the user, and keeps the numbers of a name" {
	printf 'service a\nlisten 127.0.0.1:0\nrun echo\nuser %d:%d\n' $ID $G1 > "$D/conf"
	start -f "$D/conf" -o 'workers-spare 1'
	has_dropped "$(one_worker)" "$ID" "$G1"
	printf 'service a\nlisten 127.0.0.1:0\nrun echo\nuser daemon\ngroup %d\n' $G2 > "$D/conf"
	kill -HUP "$M"
	wait_for logged 'reloaded generation=2'
	wait_for has_workers 1
	has_dropped "$(one_worker)" "$(id -u daemon)" "$G2"
}

@test "user root is served, with a warning" {
	start_greet -o 'user root'
	wait_for logged 'warning: serving as root service=greet'
	[ "$(numbers "$(one_worker)" Uid)" = "$(four 0)" ]
	[ "$(numbers "$(one_worker)" NoNewPrivs)" -eq 1 ]
	stop
	start_greet -o "user $ID:0"
	wait_for logged 'warning: serving in the group of root service=greet'
}

@test "H03 what is no user or group is refused, and never root by accident" {
	for bad in no-such-user 4294967295 4294967295:1 1:4294967295 -1 -1:-1 \
	    4294967296:1 18446744073709551616:1 0x0:0 '1:' ':1' '1:1,' 1:-1; do
		refused "^preforkd: -o: user $bad: must be a user of this system" \
		    -o "user $bad"
	done
	refused '^preforkd: -o: user "": must be' -o 'user ""'
	for bad in no-such-group 4294967295 -1 1:1; do
		refused "^preforkd: -o: group $bad: must be a group of this" \
		    -o "group $bad"
	done
}

@test "H03 a user in 2000 groups is refused" {
	with_users "many:x:$ID:$ID::/:/bin/false"
	for i in {1..2000}; do echo "g$i:x:$((70000 + i)):many"; done \
	    >> "$D/group"
	refused 'user many: must be a user of this system with at most 64' \
	    -o 'user many'
	sed -i '/:many$/ { 63,$d }' "$D/group"
}

@test "new-privileges yes leaves them possible" {
	start_greet -o 'new-privileges yes' -o "user $ID:$ID"
	NO_NEW_PRIVS=0 has_dropped "$(one_worker)" "$ID" "$ID"
}

@test "an ordinary user serves as that user, without new privileges, and is told what is ignored" {
	dir=$(mktemp -d "${TMPDIR:-/tmp}/preforkd-XXXXXX")
	cp "$PREFORKD" "$dir/preforkd"
	chmod 755 "$dir"
	setsid setpriv --reuid "$ID" --regid "$G1" --clear-groups \
	    "$dir/preforkd" -d -1 -l 127.0.0.1:0 -o 'user root' -o 'chroot /' \
	    -o 'rlimit-nofile 100' greet > "$D/addresses" 2>> "$LOG" 3>&- &
	M=$!
	STARTED+=("$M")
	wait_for started
	rm -r "$dir"
	BASE_FDS=$(master_fds)
	wait_for logged 'warning: only root can change these: user, group and chroot ignored service=greet'
	w=$(one_worker)
	[ "$(numbers "$w" Uid)" = "$(four "$ID")" ]
	[ "$(numbers "$w" NoNewPrivs)" -eq 1 ]
	[ "$(stat -c %u "/proc/$w/status")" -eq "$ID" ]	# dumpable
	grep -qE '^Max open files +100 +100 ' "/proc/$w/limits"
}

@test "chroot: the worker is in it, and daytime still knows the zone" {
	mkdir -m 755 "$D/empty"
	printf 'Zone Odd 5:45 - ODD\n' > "$D/zones"
	zic -d "$D/zone" "$D/zones"
	TZ=:$D/zone/Odd start -o "chroot $D/empty" \
	    -o 'workers-max 8' -l 127.0.0.1:0 daytime
	for w in $(workers); do
		[ "$(readlink "/proc/$w/root")" = "$D/empty" ]
		[ "$(readlink "/proc/$w/cwd")" = "$D/empty" ]
	done
	there=$(date -u -d "$(ask '' | tr -d '\r')" +%s)
	here=$(($(date -u +%s) + (5 * 60 + 45) * 60))
	[ $((here - there)) -le 60 ] && [ $((there - here)) -le 60 ]
	wait_for slots_are idle 8
	[ "$(count_logged 'worker died')" -eq 0 ]
}

@test "a chroot that is not there, or that another user could change, is refused" {
	refused "chroot: $D/none: No such file" -o "chroot $D/none"
	touch "$D/file"
	refused "chroot: $D/file: must be a directory" -o "chroot $D/file"
	refused 'chroot etc: must be an absolute path' -o 'chroot etc'
	mkdir "$D/theirs" "$D/open"
	chown "$ID" "$D/theirs"
	chmod 1777 "$D/open"
	refused "chroot: $D/theirs: must belong to root" -o "chroot $D/theirs"
	refused "chroot: $D/open: must be writable by root alone" \
	    -o "chroot $D/open"
	ln -s "$D/theirs" "$D/link"
	mkdir -p "$D/theirs/deep"
	refused "chroot: $D/link: must belong to root" -o "chroot $D/link/deep"
}

@test "a reload with a chroot that is not there changes nothing, and says the line" {
	printf 'service a\nlisten 127.0.0.1:0\nrun echo\n' > "$D/conf"
	start -f "$D/conf"
	before=$(workers)
	printf 'chroot %s\n' "$D/none" >> "$D/conf"
	kill -HUP "$M"
	wait_for logged "reload failed.*$D/conf:4: service a: chroot: $D/none: No such"
	[ "$(workers)" = "$before" ]
}

# owner PID: who owns its files in /proc.
owner() { stat -c %u "/proc/$1/status"; }

@test "E17 nobody but root reads or traces the master, and workers not each other" {
	start_greet -o "user $ID:$ID"
	w=$(one_worker)
	[ "$(owner "$w")" -eq 0 ]
	[ "$(owner "$(logger_pid)")" -eq 0 ]
	for p in "$M" "$w" "$(logger_pid)"; do
		run ! as_worker dd if="/proc/$p/mem" bs=1 count=1
		[[ $output == *'Permission denied'* ]]
		run ! as_worker ls "/proc/$p/fd"
		run ! as_worker strace -qq -o /dev/null -p "$p" 3>&-
		[[ $output == *'Operation not permitted'* ]]
	done
}

@test "dumpable yes makes workers inspectable by their user, and the master not" {
	start_greet -o "user $ID:$ID" -o 'dumpable yes'
	w=$(one_worker)
	[ "$(owner "$w")" -eq "$ID" ]
	as_worker ls "/proc/$w/fd" > "$D/fds"
	run ! as_worker dd if="/proc/$M/mem" bs=1 count=1
	run ! as_worker strace -qq -o /dev/null -p "$M" 3>&-
}

# limit NAME: soft and hard limit of the worker $w.
limit() { sed -nE "s/^$1 +([^ ]+) +([^ ]+).*/\\1 \\2/p" "/proc/$w/limits"; }

@test "rlimit-*: the worker has them, the master does not" {
	[ -z "${SANITIZE:-}" ] || skip 'sanitizers need more memory'
	start_greet -o "user $ID:$ID" -o 'rlimit-as 3g' -o 'rlimit-core 0' \
	    -o 'rlimit-cpu 3600' -o 'rlimit-data 1000m' \
	    -o 'rlimit-fsize 8k' -o 'rlimit-nofile 40' -o 'rlimit-nproc 12' \
	    -o 'rlimit-stack 256k'
	w=$(one_worker)
	[ "$(limit 'Max address space')" = '3221225472 3221225472' ]
	[ "$(limit 'Max core file size')" = '0 0' ]
	[ "$(limit 'Max cpu time')" = '3600 3600' ]
	[ "$(limit 'Max data size')" = '1048576000 1048576000' ]
	[ "$(limit 'Max file size')" = '8192 8192' ]
	[ "$(limit 'Max open files')" = '40 40' ]
	[ "$(limit 'Max processes')" = '12 12' ]
	[ "$(limit 'Max stack size')" = '262144 262144' ]
	w=$M
	[ "$(limit 'Max processes')" != '12 12' ]
	"$TOOLS/storm" -n 200 -c 50 "$ADDRESS"
	[ "$(worker_count)" -ge 8 ]
	[ "$(count_logged 'worker died')" -eq 0 ]
}

@test "rlimit unlimited is what it says" {
	prlimit --core=0: "$PREFORKD" -n -o 'rlimit-core unlimited' \
	    -l 127.0.0.1:0 greet
	start_greet -o 'rlimit-fsize unlimited'
	w=$(one_worker)
	[ "$(limit 'Max file size')" = 'unlimited unlimited' ]
}

@test "a limit above the hard one, or too low for a worker, is refused with the numbers" {
	run -1 setpriv --bounding-set=-sys_resource --inh-caps=-sys_resource \
	    prlimit --nofile=500:1000 "$PREFORKD" -n \
	    -o 'rlimit-nofile 1001' -l 127.0.0.1:0 greet
	echo "$output"
	[[ $output == *'-o: service greet: rlimit-nofile: must be at most the hard limit, 1000' ]]
	prlimit --nofile=500:1000 "$PREFORKD" -n -o 'rlimit-nofile 1000' \
	    -l 127.0.0.1:0 greet
	refused 'rlimit-nofile: must be at most the hard limit' -o 'rlimit-nofile unlimited'
	refused 'rlimit-nofile 31: must be 32 or more' -o 'rlimit-nofile 31'
	refused 'rlimit-cpu 0: must be 1 or more' -o 'rlimit-cpu 0'
	refused 'rlimit-stack 100k: must be 131072 or more' -o 'rlimit-stack 100k'
	refused 'rlimit-as -1: must be 0 or more' -o 'rlimit-as -1'
	refused 'rlimit-as 1t: must be' -o 'rlimit-as 1t'
	refused 'rlimit-as 9999999999g: must be' -o 'rlimit-as 9999999999g'
}

@test "with the least of descriptors a worker serves, its ring of lingering clients full" {
	start_greet -o 'rlimit-nofile 32' -o 'workers-min 1' -o 'workers-max 1'
	"$TOOLS/storm" -n 500 -c 40 "$ADDRESS"
	not logged 'accept waits'
}

@test "E03 kill -9 -1 by the user of the workers: the master lives and restores the pool" {
	start_greet -o "user $ID:$ID" -o 'workers-min 6' -o 'workers-max 6'
	before=$(workers)
	as_worker bash -c 'kill -9 -1' || true
	for w in $before; do wait_for gone "$w"; done
	wait_for has_workers 6
	wait_for slots_are idle 6
	gone_or_zombie "$M" && return 1
	not logged 'one at a time'
	[ -n "$(ask x)" ]
}

@test "F13 signals of the workers' user and of nobody do not reach the master" {
	start_greet -o "user $ID:$ID"
	for s in TERM INT QUIT HUP USR1 USR2 KILL STOP CHLD; do
		run -1 as_worker bash -c "kill -$s $M"
		[[ $output == *'Operation not permitted'* ]]
		run -1 setpriv --reuid 65534 --clear-groups bash -c "kill -$s $M"
		[[ $output == *'Operation not permitted'* ]]
	done
	sleep 0.3
	not logged 'stopping|reloading|upgrading'
}

@test "B01 a killed master takes its workers with it, whatever their user" {
	start_greet -o "user $ID:$ID" -o 'workers-spare 20'
	all=$(workers)
	[ "$(numbers "${all%%$'\n'*}" Uid)" = "$(four "$ID")" ]
	EXPECT_DEAD=yes
	kill -KILL "$M"
	wait "$M" || true
	DEADLINE=4 wait_for no_members
}

# without CAPABILITY ARG...: the program, as root without it.
without() {
	setpriv --bounding-set="-$1" --inh-caps="-$1" "$PREFORKD" \
	    -o "status-file $STATUS" "${@:2}"
}

@test "J16 root without a capability that it needs is refused, and never serves as root" {
	for c in setuid setgid kill; do
		run -1 without $c -d -l 127.0.0.1:0 -o "user $ID:$ID" greet
		echo "$output"
		[[ $output == *": user: CAP_${c^^} is missing: root needs it to serve as another user" ]]
		run -1 without $c -d -l 127.0.0.1:0 greet
	done
	mkdir -m 755 "$D/empty"
	run -1 without sys_chroot -n -l 127.0.0.1:0 -o "chroot $D/empty" greet
	[[ $output == *'CAP_SYS_CHROOT is missing'* ]]
	run -1 without net_bind_service -d -l 127.0.0.1:79 greet
	echo "$output"
	[[ $output == *'127.0.0.1:79: bind: Permission denied'* ]]
}

@test "J16 root without these capabilities serves as root when told to, and stops" {
	cat > "$D/preforkd" <<-END
	#!/bin/sh
	caps=-setuid,-setgid,-kill,-sys_resource
	exec setpriv --groups 0 --bounding-set=\$caps --inh-caps=\$caps $PREFORKD "\$@"
	END
	chmod 755 "$D/preforkd"
	PROGRAM=$D/preforkd
	start_greet -o 'user root'
	[ -n "$(ask x)" ]
	stop
}
