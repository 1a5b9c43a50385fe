#!/usr/bin/env bats
# soak/54-machines.bats: what 54-machines does, to each of the machines in turn,
# in network namespaces.

# shellcheck disable=SC2034  # what the helper reads

load ../helper
load ../clients
load ../programs
load ../upgrade
load ../machines

@test "each of three machines is upgraded, drained, stopped, killed and brought back, in namespaces" {
	namespaces
	machines
	load_begin
	for i in 1 2 3; do
		for each in one two three; do
			upgraded "$OTHER" "$each"
			drained "$each"
			stopped "$each"
			killed "$each"
		done
	done
	more_clients
	load_end
	lost_at_most $((9 * 6))
}

@test "the same without a death: nobody is lost" {
	namespaces
	machines
	load_begin
	for i in 1 2 3; do
		for each in one two three; do
			upgraded "$OTHER" "$each"
			stopped "$each"
			upgraded "$PREFORKD" "$each"
			drained "$each"
		done
	done
	load_end
	lost_at_most 0
}
