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
	for i in 1 2 3; do
		for each in one two three; do
			under_load 0 upgraded "$OTHER" "$each"
			under_load 0 drained "$each"
			under_load 0 stopped "$each"
			under_load "$AT_ONCE" killed "$each"
		done
	done
}

@test "the same without a death: nobody is lost" {
	namespaces
	machines
	under_load 0 none_dies
}
none_dies() {
	for i in 1 2 3; do
		for each in one two three; do
			upgraded "$OTHER" "$each"
			stopped "$each"
			upgraded "$PREFORKD" "$each"
			drained "$each"
		done
	done
}
