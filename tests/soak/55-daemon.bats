#!/usr/bin/env bats
# soak/55-daemon.bats: what 55-daemon does a few times, as often as the matrix
# of faults wants it.

load ../helper
load ../clients
load ../daemon

@test "J03 of two starts at once exactly one serves, fifty times" {
	races 50
}

@test "J04 start and stop 200 times with clients active" {
	starts_and_stops 200
}

@test "J05 SIGTERM at each millisecond of a start in the background leaves nothing" {
	sweep in_background 201 1000
}

@test "J05 SIGTERM at each millisecond of a start in the foreground leaves nothing" {
	sweep in_foreground 201 1000
}
