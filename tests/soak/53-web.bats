#!/usr/bin/env bats
# soak/53-web.bats: what 53-web does, with as many workers as are promised.

load ../helper
load ../clients
load ../web

@test "10,000 workers, all of them busy: 100 of 100 scrapes are answered, each within 50 ms" {
	ulimit -n 20000
	DEADLINE=60
	scrapes_of_full 10000 50
	body "$PAGE" / > "$D/page"
	grep -qF '10000 of 10000 workers in use' "$D/page"
	[ "$(wc -c < "$D/page")" -lt 1000000 ]
}
