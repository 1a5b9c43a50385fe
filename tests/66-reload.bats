# 66-reload.bats: a new configuration takes effect without losing a client,
# and a bad one changes nothing (rows G and F01 of the fault matrix).

load helper
load clients
load reload

@test "workers-min, workers-max and workers-spare take effect at a reload" {
	greet_conf 'workers-spare 2' 'workers-max 20'
	start_conf
	wait_for has_workers 2
	greet_conf 'workers-min 6' 'workers-spare 4' 'workers-max 9'
	reload
	wait_for has_workers 6
	workers_max_is 9
	hold 3
	wait_for slots_are idle 4
	has_workers 7
	release
	hold 9
	queue 3
	wait_for logged 'workers-max is reached .*workers-max=9 queued='
	has_workers 9
	release
	queue_served 3
}

@test "each timeout takes effect at a reload, for clients that come later" {
	greet_conf
	start_conf -o 'log-connections end'
	hold 1
	for what in first-byte idle connection; do
		greet_conf "$what-timeout 200ms"
		reload
		"$TOOLS/abuse" silent "$ADDRESS" | grep end=eof
		wait_for logged "closed .*end=$what-timeout "
	done
	greet_conf
	reload
	release
	[ "$(count_logged 'closed .*end=served ')" -eq 1 ]
}

@test "max-connections-per-worker and drain-timeout take effect at a reload" {
	greet_conf
	start_conf -o 'log-level debug'
	greet_conf 'max-connections-per-worker 1' 'drain-timeout 500ms'
	reload
	ask x
	wait_for logged 'worker left .*served=1$'
	hold 1
	stop TERM 2
	release_cut
}

@test "log-level and log-connections take effect at a reload, in every process" {
	greet_conf
	{ echo 'log-level warning'; cat "$D/conf"; } > "$D/quiet"
	cp "$D/quiet" "$D/conf"
	start_conf
	ask x
	greet_conf 'log-connections both'
	reload
	wait_for logged 'notice: reloaded generation=2'
	ask x
	wait_for logged 'info: closed .*client=2 '
	wait_for logged 'info: connected .*client=2 '
	not logged 'client=1 '
	greet_conf 'log-connections end'
	reload
	ask x
	wait_for logged 'info: closed .*client=3 '
	not logged 'connected .*client=3 '
	cp "$D/quiet" "$D/conf"
	reload
	ask x
	stop
	not logged 'client=4 '
	not logged 'notice: stopp'
}

@test "a listen line added and removed by reloads; the others keep their sockets" {
	greet_conf
	start_conf
	greet_conf 'listen 127.0.0.2:0'
	reload
	has_listeners 2
	[ "$(address_of greet 1)" = "$ADDRESS" ]
	second=$(address_of greet 2)
	answers "$second" 'Welcome ! You have connected to 127.0.0.2 '
	answers "$ADDRESS" Welcome
	[ "$(master_fds)" -eq $((BASE_FDS + 1)) ]
	greet_conf
	reload
	wait_for has_listeners 1
	refuses "$second"
	answers "$ADDRESS" Welcome
}

@test "a service added, changed and removed by reloads" {
	greet_conf 'workers-max 20'
	start_conf
	greet_conf 'workers-max 10'
	printf '%s\n' 'service other' 'workers-max 10' 'listen 127.0.0.1:0' 'run echo' >> "$D/conf"
	reload
	other=$(address_of other)
	answers "$other" x
	answers "$ADDRESS" Welcome
	sed -i 's/run echo/run daytime/' "$D/conf"
	reload
	[ "$(address_of other)" = "$other" ]
	answers "$other" "$(LC_ALL=C date -u +%a)"
	answers "$ADDRESS" Welcome
	greet_conf 'workers-max 20'
	reload
	wait_for has_listeners 1
	refuses "$other"
	wait_for eval '! status | grep -q "^other "'
	answers "$ADDRESS" Welcome
}

@test "G04 a broken file changes nothing and says where; a good one then works" {
	greet_conf 'workers-min 3' 'workers-spare 1'
	start_conf
	cp "$D/conf" "$D/good"
	echo 'workers-max "3' >> "$D/conf"
	reload_refused 'conf:6: '
	{ cat "$D/good"; echo 'workers-mix 3'; } > "$D/conf"
	reload_refused 'conf:6: .*workers-m[ai][xn]'
	{ echo '# a comment'; cat "$D/good"; echo 'workers-max 0'; } > "$D/conf"
	reload_refused 'conf:7: '
	greet_conf 'workers-min 7' 'workers-spare 1'
	reload
	wait_for has_workers 7
	stop
}

@test "a file that cannot be read changes nothing, and a FIFO does not hang" {
	greet_conf
	start_conf
	mv "$D/conf" "$D/good"
	reload_refused 'conf: No such file'
	mkdir "$D/conf"
	reload_refused 'conf: '
	rmdir "$D/conf"
	mkfifo "$D/conf"
	reload_refused 'conf: '
	rm "$D/conf"
	ln -s /dev/zero "$D/conf"
	reload_refused 'conf: '
	rm "$D/conf"
	: > "$D/conf"
	reload_refused 'conf'
	mv "$D/good" "$D/conf"
	reload
}

@test "a file without permission changes nothing" {
	[ "$(id -u)" -ne 0 ] || skip 'root may read everything'
	greet_conf
	start_conf
	chmod 0 "$D/conf"
	reload_refused 'conf: Permission denied'
}

@test "G05 an address that cannot be bound refuses the whole, and leaves no descriptor" {
	STATUS=$D/status.other
	start_greet
	busy=$ADDRESS
	other=$M
	STATUS=$D/status
	greet_conf
	start_conf
	greet_conf 'listen 127.0.0.2:0' "listen $busy" 'workers-min 5'
	reload_refused "listen $busy: bind: Address already in use"
	greet_conf 'listen 127.0.0.2:0' 'listen 192.0.2.1:7777'
	reload_refused 'listen 192.0.2.1:7777: bind: Cannot assign'
	has_listeners 1
	kill -INT "$other"
}

@test "G06 a removed address serves its queue and then refuses, one that stays loses nothing" {
	greet_conf 'listen 127.0.0.2:0' 'workers-spare 1' 'workers-max 2'
	start_conf
	removed=$(address_of greet 2)
	storm_begin -t 20 -c 4
	hold 1 "$removed"
	queue 30 "$removed"
	greet_conf 'workers-spare 1' 'workers-max 2'
	reload
	has_listeners 2
	release
	queue_served 30
	wait_for has_listeners 1
	refuses "$removed"
	storm_end
	stormed_well
	[ "$(stormed refused)" -eq 0 ]
	wait_for eval '[ "$(master_fds)" -eq $((BASE_FDS - 1)) ]'
	BASE_FDS=$((BASE_FDS - 1))
}

@test "G01 ten reloads under a storm lose no client" {
	greet_conf 'workers-spare 4'
	start_conf
	storm_begin -t 30 -c 16 -u
	for i in {1..10}; do reload; done
	wait_for accepted_more
	storm_end
	stormed_well
	[ "$(stormed refused)" -eq 0 ]
	[ "$(stormed duplicates)" -eq 0 ]
}

most_generations() {
	local n
	n=$(status workers | awk 'NR > 1 { print $4 }' | sort -u | wc -l)
	[ "$n" -le "${MOST:-0}" ] || MOST=$n
}

@test "F01 a thousand SIGHUP fold into few reloads, and the last one counts" {
	greet_conf 'workers-spare 2' 'workers-max 80'
	start_conf
	storm_begin -t 30 -c 8
	mapfile -t hundred < <(yes "$M" | head -n 100)
	for i in {1..10}; do
		kill -HUP "${hundred[@]}"
		most_generations
	done
	greet_conf 'workers-spare 2' 'workers-max 77'
	kill -HUP "$M"
	wait_for workers_max_is 77
	storm_end
	stormed_well
	[ "$(stormed refused)" -eq 0 ]
	[ "$MOST" -le 3 ]
	[ "$(count_logged 'notice: reloaded')" -le 100 ]
	not logged 'reload failed'
}

@test "G15 a client held over three reloads is served to its end" {
	greet_conf 'workers-spare 1'
	start_conf
	hold 2
	for i in 1 2 3; do
		reload
		ask x
	done
	wait_for slots_are draining 2
	release
	wait_for slots_are draining 0
	grep 'closed=2 early=0 reset=0' "$D/held"
}

@test "G15 a client is cut at the drain-timeout of the reload, not before" {
	greet_conf 'workers-spare 1' 'drain-timeout 2s'
	start_conf
	hold 1
	t=$EPOCHREALTIME
	for i in 1 2 3; do reload; done
	wait_for logged 'warning: killing a worker .*why="drain-timeout passed"'
	took "$t" 2000 5000
	wait_for has_workers 1
	release_cut
	grep 'closed=0 ' "$D/held"
	stop
}

# Its client hangs: the surplus is found by a lie, which stands for a client
# that comes just when its worker is told to leave.
@test "G15 a worker that was told to leave as surplus is cut at drain-timeout too" {
	PROGRAM=$FAULTY
	printf '%s\n' 'workers-spare 1' 'workers-idle-time 200ms' \
	    'drain-timeout 1s' 'workers-max 8' 'service command' \
	    'listen 127.0.0.1:0' 'run command' 'service scribble' \
	    'listen 127.0.0.1:0' 'run scribble' | conf
	start_conf -o 'log-level debug'
	for i in 1 2; do
		ask hang > "$D/hung" 3>&- &
		wait_for slots_are busy "$i"
	done
	wait_for slots_are idle 2
	ask 'claim 2' "$(address_of scribble | sed 's/.*://')"
	wait_for eval '[ "$(count_logged "worker left .*service=command")" -eq 1 ]'
	sleep 0.5	# the next one to leave cannot
	reload
	wait_for has_workers 2
	[ "$(count_logged 'drain-timeout passed')" -eq 2 ]
}

@test "G07 two hundred reloads leave descriptors and memory as they were" {
	greet_conf 'workers-spare 1'
	start_conf
	for i in {1..20}; do reload; done
	before=$(kilobytes RssAnon)
	for i in {1..180}; do reload; done
	wait_for has_workers 1
	same_fds
	after=$(kilobytes RssAnon)
	echo "resident before $before kB, after $after kB"
	# Some pages come and go; 120 bytes lost at each reload would show.
	[[ -n ${SANITIZE:-} ]] || [ "$after" -le $((before + 20)) ]
	[ "$(generation)" -eq 201 ]
}

@test "G08 a new generation that cannot start is rolled back, and the old one serves on" {
	start_faulty
	before=$(workers)
	for how in '' .fail; do
		touch "$FAULT_FILE$how"
		n=$(count_logged 'reload failed')
		kill -HUP "$M"
		wait_for eval "[ \$(count_logged 'reload failed') -gt $n ]"
		wait_for logged 'reload failed, everything stays as it was: its workers die'
		status | grep '^reload: *failed .*: its workers die'
		answers "$ADDRESS" hello
		rm "$FAULT_FILE$how"
		wait_for same_fds
	done
	wait_for logged 'how="exit 94 \(the service cannot start\)"'
	wait_for has_workers 2
	[ "$(workers)" = "$before" ]
	reload
	wait_for has_workers 2
	[ "$(workers)" != "$before" ]
}

@test "while a new generation is slow to start, the old one serves; another reload waits its turn" {
	start_faulty
	touch "$FAULT_FILE.slow"
	kill -HUP "$M"
	wait_for slots_are starting 2
	status | grep '^reload: *running'
	answers "$ADDRESS" hello
	rm "$FAULT_FILE.slow"
	sed -i 's/workers-spare 2/workers-spare 5/' "$D/conf"
	kill -HUP "$M"
	wait_for has_workers 5
	wait_for slots_are idle 5
	[ "$(count_logged 'notice: reloaded')" -eq 2 ]
}

@test "a reload asked for while one fails is begun when that has ended" {
	start_faulty
	sed -i 's/workers-spare 2/workers-spare 1/' "$D/conf"
	reload
	wait_for has_workers 1
	touch "$FAULT_FILE.slow" "$FAULT_FILE.fail"
	kill -HUP "$M"
	wait_for slots_are starting 1
	rm "$FAULT_FILE.slow"
	kill -HUP "$M"
	wait_for eval '[ "$(count_logged "reload failed")" -eq 2 ]'
}

@test "SIGTERM during a reload ends the server in order" {
	start_faulty
	touch "$FAULT_FILE.slow"
	kill -HUP "$M"
	wait_for slots_are starting 2
	kill -TERM "$M"
	wait_for logged 'reload failed, .*: the server was told to stop'
	rm "$FAULT_FILE.slow"
	ended 0
}

start_status() {
	: > "$D/addresses"
	setsid "$PROGRAM" -d -1 -f "$D/conf" > "$D/addresses" 2>> "$LOG" \
	    < /dev/null 3>&- &
	M=$!
	STARTED+=("$M")
	wait_for started
	ADDRESS=$(head -n 1 "$D/addresses")
	PORT=${ADDRESS##*:}
	BASE_FDS=$(master_fds)
}

@test "settings that need a restart are refused by a line that names them" {
	greet_conf "listen unix:$D/sock mode=600" 'workers-max 10'
	{ echo "status-file $STATUS"; cat "$D/conf"; } > "$D/good"
	cp "$D/good" "$D/conf"
	start_status
	sed -i "s|^status-file .*|status-file $D/elsewhere|" "$D/conf"
	reload_refused 'status-file: a new value needs a restart'
	[ ! -e "$D/elsewhere" ]
	sed 's/mode=600/mode=666/' "$D/good" > "$D/conf"
	reload_refused 'listen unix:.*sock: a new mode or owner needs a restart'
	sed 's/workers-max 10/workers-max 30000/' "$D/good" > "$D/conf"
	reload_refused 'workers-max .*need 60000 slots: the scoreboard has [0-9]+, a restart'
	cp "$D/good" "$D/conf"
	reload
	[ -S "$D/sock" ]
}

@test "without a file SIGHUP renews the generation with the same settings" {
	start_greet -o 'workers-min 3' -o 'workers-spare 1'
	mapfile -t before < <(workers)
	reload
	wait_for has_workers 3
	for p in "${before[@]}"; do gone "$p"; done
	[[ $(ask x) == Welcome*127.0.0.1*"$PORT"* ]]
	has_listeners 1
}

@test "a logger that is replaced while an upgrade waits its turn does not take that for its own" {
	start_faulty
	touch "$FAULT_FILE.hang"
	kill -HUP "$M"
	wait_for slots_are starting 2
	kill -USR2 "$M"
	kill -KILL "$(logger_pid)"
	wait_for logged 'the logger died and was replaced'
	rm "$FAULT_FILE.hang"
	wait_for logged 'notice: upgraded from='
	[ "$(count_logged 'the logger died')" -eq 1 ]
}

# on_check SIGNAL: the child that reads the next configuration gets it.
on_check() {
	traced -f -P "$D/conf" -e trace=openat,open \
	    -e "inject=openat,open:signal=$1"
	kill -HUP "$M"
	wait_for grep -q -e "--- SIG$1\|stopped by SIG$1\|killed by SIG$1" "$D/trace"
	untraced
}

# The master's children but workers and logger: the check.
check_child() { ps -o pid=,args= --ppid "$M" |
    awk '!/: .* slot [0-9]+: / && !/logger/ { print $1 }'; }

@test "a check that crashes is a failed reload" {
	greet_conf
	start_conf
	ulimit -c 0
	on_check SEGV
	wait_for logged 'reload failed, everything stays as it was: .*SIGSEGV'
	status | grep '^reload: *failed .*SIGSEGV'
	[[ $(ask x) == Welcome* ]]
	reload
}

# impatient: a build whose check child has 1.5 s, not 10, and whose new
# generation 1 s, not 30.
impatient() {
	PROGRAM=$TOOLS/preforkd-layout
	PREFORKCTL=$TOOLS/preforkctl-layout
}

@test "a check that hangs is ended at its deadline, and the next reload works" {
	impatient
	greet_conf
	start_conf
	t=$EPOCHREALTIME
	on_check STOP
	[[ $(ask x) == Welcome* ]]
	wait_for logged 'reload failed'
	took "$t" 1500 5000
	wait_for logged 'reload failed, .*: the check took too long'
	status | grep '^reload: *failed .*: the check took too long'
	not logged stranger
	reload
}

@test "G08 a new generation that hangs is rolled back at its deadline, and the old one serves on" {
	impatient
	greet_conf
	start_conf
	cp "$D/conf" "$D/good"
	printf '%s\n' 'service late' 'listen 127.0.0.1:0' \
	    'resident sleep 1000' 'ready-time 20s' >> "$D/conf"
	never_ready 1000
	cp "$D/good" "$D/conf"
	reload
}

@test "a stop does not wait for a check that hangs, and leaves none behind" {
	for how in 'TERM 0' 'INT 0' 'KILL 137'; do
		greet_conf
		start_conf
		on_check STOP
		[ -n "$(check_child)" ]
		not writes "$(check_child)"
		# shellcheck disable=SC2086  # two words
		stop $how
		wait_for no_members
	done
	# Killed before the end, or it would hold up the logger.
	[ "$(count_logged 'reload failed, .*: the server was told to stop')" -eq 2 ]
}

has_generations() { [ "$(status | grep -cE '^ +[0-9]+ (starting|serving|leaving) ')" -eq "$1" ]; }

@test "a SIGHUP during the start is acted on as soon as it serves" {
	start_quietly -l 127.0.0.1:0 -o 'workers-spare 300' greet
	wait_for eval '[ "$(ps -o pid= --ppid "$M" | wc -l)" -gt 3 ]'
	kill -HUP "$M"
	wait_for logged 'reloaded generation=2'
	wait_for has_generations 1
	BASE_FDS=$(master_fds)
}

@test "a service with the default sizes can be added by a reload" {
	greet_conf
	start_conf
	printf '%s\n' 'service other' 'listen 127.0.0.1:0' 'run echo' >> "$D/conf"
	reload
	answers "$(address_of other)" x
	greet_conf
	reload
	wait_for has_listeners 1
}
