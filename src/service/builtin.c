/*
 * builtin.c: the services that `run' knows.  A new one is a file beside this
 * one, and its name here, twice.
 */

#include "../preforkd.h"

extern const struct preforkd_service chargen_service, daytime_service,
    discard_service, echo_service, greet_service, time_service;

const struct preforkd_service *const builtin_services[] = {
	&greet_service,
	&echo_service,
	&discard_service,
	&chargen_service,
	&daytime_service,
	&time_service,
	&metrics_service,
	&status_service,
	&agent_service,
	NULL
};
