#!/usr/bin/env bats
# 05-unit.bats: the unit programs, tests/unit/NAME.c, each as a test of its
# own.  bats wants a test to be written down, so a new program needs a line
# here; the last test says which.

load helper

# unit NAME: what a program prints is shown when it fails.
unit() {
	TMPDIR=$D run "$TOOLS/unit-$1"
	echo "$output"
	[ "$status" -eq 0 ]
}

@test "unit: address" { unit address; }
@test "unit: agent" { unit agent; }
@test "unit: conf" { unit conf; }
@test "unit: conn" { unit conn; }
@test "unit: http" { unit http; }
@test "unit: linger" { unit linger; }
@test "unit: listen" { unit listen; }
@test "unit: log" { unit log; }
@test "unit: logger" { unit logger; }
@test "unit: numbers" { unit numbers; }
@test "unit: page" { unit page; }
@test "unit: pool" { unit pool; }
@test "unit: proxyproto" { unit proxyproto; }
@test "unit: relay" { unit relay; }
@test "unit: rules" { unit rules; }
@test "unit: says" { unit says; }
@test "unit: scoreboard" { unit scoreboard; }
@test "unit: service" { unit service; }
@test "unit: snapshot" { unit snapshot; }
@test "unit: sources" { unit sources; }
@test "unit: state" { unit state; }
@test "unit: tables" { unit tables; }

@test "H01 what fuzzing starts from and has found, once through each target" {
	for target in "$TOP"/tests/fuzz/corpus/*; do
		"$TOOLS/replay-${target##*/}" "$target"/*
	done
}

@test "every unit program is run above" {
	for file in "$TOP"/tests/unit/*.c; do
		basename "$file" .c
	done > "$D/there"
	sed -n 's/^@test "unit: .* { unit \(.*\); }$/\1/p' \
	    "$BATS_TEST_FILENAME" > "$D/run"
	diff "$D/there" "$D/run"
}
