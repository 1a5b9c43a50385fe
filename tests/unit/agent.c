/*
 * Unit test of agent.c: what HAProxy is told of a scoreboard.
 */
#include <sys/socket.h>

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "preforkd.h"

#define SLOTS	40

static int failures;
static struct scoreboard board;
static char name[] = "agent";
static struct conf_service conf = { .name = name, .kind = CONF_RUN,
    .run.service = &agent_service };
static const struct worker self = { .board = &board, .conf = &conf };

/* What a client is told. */
static const char *
answer(void)
{
	static char text[256];
	static struct conn c;
	struct address peer = { .len = sizeof(sa_family_t) };
	ssize_t n;
	int fd[2];

	if (socketpair(AF_UNIX, SOCK_STREAM, 0, fd) == -1)
		abort();
	conn_open(&c, fd[0], &peer, &conf);
	agent_service.serve(&c);
	close(fd[0]);
	n = recv(fd[1], text, sizeof(text) - 1, MSG_WAITALL);
	text[n > 0 ? n : 0] = '\0';
	close(fd[1]);
	return text;
}

static void
expect(const char *what, const char *want)
{
	const char *text = answer();
	const bool ok = strcmp(text, want) == 0;

	printf("%s %s\n", ok ? "ok" : "FAIL", what);
	if (!ok)
		printf("  %s  instead of %s", text, want);
	failures += !ok;
}

static void
service(int row, const char *text, uint32_t most)
{
	struct status_service *s = &board.status->service[row];

	*s = (struct status_service){ .used = 1, .workers_max = most };
	strlcpy(s->name, text, sizeof(s->name));
}

/* The next n slots. */
static void
workers(int row, enum slot_state state, int n)
{
	static int next;
	struct slot *slot;

	while (n-- > 0) {
		slot = &board.commons->slot[next++ % SLOTS];
		atomic_store(&slot->service, (uint16_t)row);
		atomic_store(&slot->state, state);
	}
}

static void
reset(void)
{
	struct status *s = board.status;

	workers(0, SLOT_FREE, SLOTS);
	memset(s->service, 0, sizeof(s->service));
	memset(s->listener, 0, sizeof(s->listener));
	s->pid = getppid();
	s->state = MASTER_RUNNING;
	s->slots_used = SLOTS;
	s->started = clock_now() - 61000;
	conf.run.about[0] = '\0';
	service(0, "web", 8);
}

static void
test_room(void)
{
	reset();
	workers(0, SLOT_IDLE, 4);
	expect("nobody is there", "up 100%\n");
	workers(0, SLOT_BUSY, 1);
	expect("one of eight", "up 87%\n");
	workers(0, SLOT_DRAINING, 3);
	expect("old generations count", "up 50%\n");
	workers(0, SLOT_CLOSING, 2);
	workers(0, SLOT_LEAVING, 2);
	expect("who only lingers does not", "up 50%\n");
	board.status->listener[3] = (struct status_listener){ .used = 1,
	    .service = 0, .waiting = 2 };
	expect("who waits does", "up 25%\n");
	workers(0, SLOT_BUSY, 4);
	expect("full", "up 1%\n");
	board.status->service[0].workers_max = 0;
	expect("no workers", "up 1%\n");
}

static void
test_services(void)
{
	reset();
	service(1, "mail", 4);
	service(2, "stats", 1);
	board.status->service[2].tells = 1;
	workers(0, SLOT_BUSY, 2);
	workers(1, SLOT_BUSY, 2);
	workers(2, SLOT_BUSY, 1);
	expect("the least room of all", "up 50%\n");
	strlcpy(conf.run.about, "web", sizeof(conf.run.about));
	expect("of the one that is named", "up 75%\n");
	board.status->service[1].retry_at = clock_now() + 1000;
	board.status->service[1].delayed = 1;
	expect("another's trouble", "up 75%\n");
	conf.run.about[0] = '\0';
	expect("anybody's trouble", "down # mail is throttled\n");
	board.status->service[1].delayed = 0;
	expect("all have been started", "up 50%\n");
	workers(1, SLOT_STARTING, 1);
	expect("one is tried", "down # mail is throttled\n");
	workers(1, SLOT_IDLE, 1);
	expect("somebody is there all the same", "up 50%\n");
	strlcpy(conf.run.about, "ftp", sizeof(conf.run.about));
	expect("one that is not there", "down # no service ftp\n");
	conf.run.about[0] = '\0';
	board.status->service[0].tells = board.status->service[1].tells = 1;
	expect("nothing else", "down # no service but this\n");
}

static void
test_master(void)
{
	reset();
	board.status->started = clock_now() - 59000;
	expect("in the first minute", "up ready 100%\n");
	board.status->state = MASTER_STARTING;
	expect("before it serves", "down # starting\n");
	board.status->service[0].retry_at = clock_now();
	board.status->service[0].delayed = 1;
	board.status->state = MASTER_DRAINING;
	expect("stopping beats all", "drain\n");
	board.status->state = MASTER_KILLING;
	expect("killing", "drain\n");
	board.status->state = UINT32_MAX;
	expect("whatever that is", "drain\n");
}

/* A status that stays half-written, and slots that hold anything. */
static void
test_rubbish(void)
{
	reset();
	memset(board.commons->slot, 0xff, SLOTS * sizeof(struct slot));
	expect("slots of ones", "up 100%\n");
	memset(board.commons->slot, 0, SLOTS * sizeof(struct slot));
	scoreboard_begin(&board);
	expect("unstable: no answer", "");
	scoreboard_end(&board);
	expect("and again", "up 100%\n");
}

int
main(void)
{
	const struct preforkd_service *started;
	char error[CONF_ERROR_MAX];

	log_to_pipe(-1, NULL);
	if (scoreboard_create(&board, NULL, SLOTS, error) == -1) {
		printf("FAIL %s\n", error);
		return 1;
	}
	module_enter(&conf, &started);
	view_start(&self);
	test_room();
	test_services();
	test_master();
	test_rubbish();
	return failures > 0;
}
