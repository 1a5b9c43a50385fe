# 70-reload-load.bats: reloads under load, for seconds; soak/66-reload.bats does
# the same at full length (rows F and G of the fault matrix).

load helper
load clients
load reload

@test "SIGHUP every 50 ms, all settings changing, lets nobody down" {
	reloads_under_load 3 10
}

@test "G07 twenty reloads that change all leave no descriptor" {
	reloads_leave_nothing 4 20
}

@test "a pool of 300 workers is reloaded within a second and 2.2 times its memory" {
	[[ -z ${SANITIZE:-} ]] || skip 'sanitizers need more'
	big_reload 300
}

@test "C08 each system call of a reload fails in turn: the old state serves on, the next reload works" {
	export ASAN_OPTIONS=detect_leaks=0	# it cannot look when traced
	fault_sweep 1
}
