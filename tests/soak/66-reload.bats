#!/usr/bin/env bats
# soak/66-reload.bats: reloads as often and as long as it takes to believe in
# them; tests/66-reload.bats and 70-reload-load.bats do so for seconds.

load ../helper
load ../clients
load ../reload

@test "SIGHUP every 50 ms for a minute, all settings changing, lets nobody down" {
	reloads_under_load 60 300 >&3
}

@test "G07 a thousand reloads leave descriptors and memory as they were" {
	reloads_leave_nothing 400 1000 >&3
}

@test "a pool of 1,000 workers is reloaded within a second and 2.2 times its memory" {
	big_reload 1000 >&3
}

@test "C08 each system call of a reload fails in turn, at each of its first 20 times" {
	fault_sweep 20 >&3
}
