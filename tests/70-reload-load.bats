# 70-reload-load.bats: reloads under load, of all that can change, by the
# thousand, and with calls that fail (rows C, F and G of the fault matrix).

load helper
load clients
load reload

@test "SIGHUP every 50 ms, all settings changing, lets nobody down" {
	reloads_under_load "$(often 3 60)" "$(often 10 300)"
}

@test "G07 reloads that change all leave descriptors and memory as they were" {
	reloads_leave_nothing "$(often 4 400)" "$(often 20 1000)"
}

@test "a pool of 1,000 workers (300 in make check) is reloaded within a second and 2.2 times its memory" {
	[[ -z ${SANITIZE:-} ]] || skip 'sanitizers need more'
	big_reload "$(often 300 1000)"
}

@test "C08 a service that a reload could not make is not shown" {
	greet_conf
	start_conf
	sweep_confs
	put b
	traced -e trace=openat -e inject=openat:error=EMFILE:when=3
	kill -HUP "$M"
	wait_for logged 'reload failed.*: service more: Too many open files$'
	untraced
	status | grep '^greet '
	run ! grep '^more ' <(status)
}

@test "C08 each system call of a reload fails in turn: the old state serves on, the next reload works" {
	export ASAN_OPTIONS=detect_leaks=0	# it cannot look when traced
	fault_sweep "$(often 1 20)"
}
