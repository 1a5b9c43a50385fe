# mischief.bash: programs of all sorts behind a server, and what is left of
# them.  For tests that load helper and clients.

# shellcheck disable=SC2154  # shared with helper.bash and the tests

# No worker has a child, alive or dead, that it has not been told to leave be.
no_children() {
	local w
	for w in $(workers); do
		[ -z "$(ps -o pid= --ppid "$w" | tr -d ' ')" ] || return 1
	done
}

# 0 to 6, and up to 16 connections that linger.
has_few_descriptors() {
	[ "$(find "/proc/$1/fd" -mindepth 1 | wc -l)" -le 7 ]
}

# Whoever was started behind this server, and those whom they started.
programs_left() {
	grep -lsxz "MISCHIEF=$D" /proc/[0-9]*/environ || true
}
no_programs() { [ -z "$(programs_left)" ]; }

# mischief N: so many connections; nothing is left.
mischief() {
	local p w
	open_directory
	cat > "$D/prog" <<-'END'
	#!/bin/bash
	case $((PREFORKD_CLIENT % 8)) in
	0) kill -SEGV $$ ;;
	1) exec sleep 3017 ;;
	2) setsid sleep 0.01 & sleep 3017 & ;;
	3) trap "" TERM; sleep 3017; sleep 3017 ;;
	4) exec 0<&-; echo x ;;
	5) (sleep 3017 &) ; (setsid sleep 0.01 &) ; exit 3 ;;
	6) echo words >&2; exec 1>&- 0<&- 2>&-; exit 0 ;;
	7) set -m; sleep 3017 & ;;
	esac
	END
	chmod 755 "$D/prog"
	printf '%s\n' 'service mischief' 'listen 127.0.0.1:0' \
	    'connection-timeout 100ms' 'log-connections end' 'workers-min 32' \
	    'workers-max 32' "env MISCHIEF=$D" "exec $D/prog" > "$D/conf"
	start -f "$D/conf"
	wait_for has_workers 32
	w=$(workers)
	storm -e -c 32 -l 0 -n "$1" -T 60000
	cat "$D/storm"
	[ "$(stormed reset)" -eq 0 ]
	[ "$(stormed timeout)" -eq 0 ]
	[ "$(stormed ok)" -eq "$1" ]
	wait_for slots_are busy 0
	wait_for no_children
	no_programs || {
		programs_left
		return 1
	}
	for p in $w; do
		wait_for has_few_descriptors "$p"
	done
	[ "$(workers)" = "$w" ]
}
