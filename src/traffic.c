/*
 * traffic.c: what has passed over a connection, asked of the kernel.
 *
 * For connections whose bytes pass through another process.  TCP on Linux
 * only: elsewhere nothing is known.  A leaf.
 */

#include <sys/socket.h>

#ifdef HAVE_TCP_INFO
#include <linux/tcp.h>
#include <netinet/in.h>
#endif

#include <string.h>

#include "preforkd.h"

#ifdef HAVE_TCP_INFO

/* The time of its last packet has the grain of a tick, at most 10 ms. */
#define TICK	10

/* The states in which the peer has finished; that counts as a byte. */
static bool
has_finished(unsigned int state)
{
	enum { TIME_WAIT = 6, CLOSE_WAIT = 8, LAST_ACK = 9, CLOSING = 11 };

	return state == TIME_WAIT || state == CLOSE_WAIT ||
	    state == LAST_ACK || state == CLOSING;
}

static bool
ask(int fd, struct tcp_info *info)
{
	socklen_t len = sizeof(*info);

	memset(info, 0, sizeof(*info));
	return getsockopt(fd, IPPROTO_TCP, TCP_INFO, info, &len) == 0;
}

int64_t
traffic_silence(int fd)
{
	struct tcp_info info;

	return ask(fd, &info) ? (int64_t)info.tcpi_last_ack_recv : -1;
}

bool
traffic_of(int fd, struct traffic *t)
{
	struct tcp_info info;
	uint32_t quiet;

	*t = (struct traffic){ 0 };
	if (!ask(fd, &info))
		return false;
	t->in = info.tcpi_bytes_received;
	if (t->in > 0 && has_finished(info.tcpi_state))
		t->in--;
	t->out = info.tcpi_bytes_sent - info.tcpi_bytes_retrans +
	    info.tcpi_notsent_bytes;
	t->moved = info.tcpi_bytes_received + info.tcpi_bytes_acked;
	t->stuck = info.tcpi_unacked > 0 || info.tcpi_notsent_bytes > 0;
	quiet = info.tcpi_last_data_recv < info.tcpi_last_ack_recv ?
	    info.tcpi_last_data_recv : info.tcpi_last_ack_recv;
	t->quiet = quiet > TICK ? quiet - TICK : 0;
	return true;
}

#else

bool
traffic_of(int fd, struct traffic *t)
{
	(void)fd;
	*t = (struct traffic){ 0 };
	return false;
}

int64_t
traffic_silence(int fd)
{
	(void)fd;
	return -1;
}

#endif
