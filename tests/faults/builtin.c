/*
 * builtin.c: the built-in services and, beside them, the hostile ones of this
 * directory, for the test server tests/build/preforkd-faulty.
 */

#include "../../src/preforkd.h"

extern const struct preforkd_service chargen_service, daytime_service,
    discard_service, echo_service, greet_service, time_service;
extern const struct preforkd_service abort_service, big_service,
    command_service, scribble_service, slow_service;

const struct preforkd_service *const builtin_services[] = {
	&greet_service,
	&echo_service,
	&discard_service,
	&chargen_service,
	&daytime_service,
	&time_service,
	&abort_service,
	&big_service,
	&command_service,
	&scribble_service,
	&slow_service,
	NULL
};
