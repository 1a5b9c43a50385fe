#!/usr/bin/env bats
# soak/66-reload.bats: what 66-reload does with a build that has less patience,
# with the times that users have.

load ../helper
load ../clients
load ../reload

@test "G08 a new generation that hangs is rolled back after 30 s, and the old one serves on" {
	start_faulty
	sed -i 's/workers-spare 2/workers-spare 1/' "$D/conf"
	reload
	wait_for has_workers 1
	touch "$FAULT_FILE.hang"
	never_ready 30000
	rm "$FAULT_FILE.hang"
	reload
}
