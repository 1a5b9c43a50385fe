#!/usr/bin/env bats
# soak/34-handlers.bats: what 34-handlers does, as often as is promised.

load ../helper
load ../clients
load ../mischief

USER_OPTION=(-o 'workers-spare 2')

@test "100,000 programs that crash, hang, flee and ignore: nothing of them is left" {
	mischief 100000
}
