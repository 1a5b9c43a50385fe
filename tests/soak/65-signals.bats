#!/usr/bin/env bats
# soak/65-signals.bats: what 65-signals does a few times, as often as the matrix
# of faults wants it.

load ../helper
load ../clients
load ../signals

@test "F03 SIGTERM wins over any mix of other signals, 500 times" {
	random_runs 500
}

@test "F10 so it does when forks, waits, binds and signals are slow, 50 times" {
	slow_system
	random_runs 50
}

@test "SIGTERM at each half millisecond of a reload ends the server in order" {
	term_in_reload 80
}
