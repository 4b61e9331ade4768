/* MSG_ZEROCOPY: completions on the error queue. Over loopback the kernel copies, and says so. */
#include <fcntl.h> /* struct timespec, for the next */
#include <linux/errqueue.h>

#include "parity.h"

static char buf[4096];

static void zerocopy(int fd)
{
	int one = 1;
	DO(setsockopt(fd, SOL_SOCKET, SO_ZEROCOPY, &one, sizeof(one)));
}

/* Completions come when the receiver has taken the bytes: read until there are none, and add the ranges up. */
static void completions(int fd)
{
	unsigned int first = ~0U, last = 0;
	int wrong = 0;
	for (int tries = 0; tries < 40; tries++) {
		char control[128];
		struct msghdr m = {.msg_control = control, .msg_controllen = sizeof(control)};
		ssize_t n = recvmsg(fd, &m, MSG_ERRQUEUE);
		if (n < 0) {
			pause_ms(3);
			continue;
		}
		struct cmsghdr *c = CMSG_FIRSTHDR(&m);
		struct sock_extended_err e;
		memcpy(&e, CMSG_DATA(c), sizeof(e));
		wrong += n != 0 || m.msg_flags != MSG_ERRQUEUE || e.ee_errno != 0 ||
			 e.ee_origin != SO_EE_ORIGIN_ZEROCOPY || CMSG_NXTHDR(&m, c) != NULL;
		first = e.ee_info < first ? e.ee_info : first;
		last = e.ee_data > last ? e.ee_data : last;
		if (tries == 0)
			say("level %d type %d len %zu code %d", c->cmsg_level, c->cmsg_type,
			    (size_t)c->cmsg_len, e.ee_code);
	}
	say("completed %u to %u, wrong %d", first, last, wrong);
	errno = 0;
	ssize_t n = recv(fd, buf, 1, MSG_ERRQUEUE);
	say("then %zd %s", n, error_name(errno));
}

BEHAVIOUR(zerocopy_completes)
{
	int c, s;
	pair(&c, &s);
	zerocopy(c);
	SAY_OPTION(c, SOL_SOCKET, SO_ZEROCOPY);
	for (int i = 0; i < 3; i++)
		DO(send(c, "abcd", 4, MSG_ZEROCOPY));
	DO(recv(s, buf, 12, MSG_WAITALL));
	await(c, POLLERR);
	say_mask("completed", c);
	SAY_OPTION(c, SOL_SOCKET, SO_ERROR);
	completions(c);
	say_mask("told", c);
	DO(send(c, "e", 1, 0));
	say_mask("plain", c);
}

BEHAVIOUR(zerocopy_vector_is_one)
{
	int c, s;
	struct iovec v[3] = {{"ab", 2}, {"cd", 2}, {"ef", 2}};
	struct msghdr m = {.msg_iov = v, .msg_iovlen = 3};
	pair(&c, &s);
	zerocopy(c);
	DO(sendmsg(c, &m, MSG_ZEROCOPY));
	DO(sendmsg(c, &m, MSG_ZEROCOPY));
	DO(recv(s, buf, 12, MSG_WAITALL));
	await(c, POLLERR);
	completions(c);
}

BEHAVIOUR(zerocopy_v6)
{
	int c, s;
	pair6(&c, &s);
	zerocopy(c);
	DO(send(c, "abcd", 4, MSG_ZEROCOPY));
	DO(recv(s, buf, 4, MSG_WAITALL));
	await(c, POLLERR);
	completions(c);
}

BEHAVIOUR(zerocopy_not_asked_for)
{
	int c, s;
	pair(&c, &s);
	DO(send(c, "abcd", 4, MSG_ZEROCOPY));
	DO(recv(s, buf, 4, MSG_WAITALL));
	pause_ms(20);
	say_mask("nothing to tell", c);
	DO(recv(c, buf, 1, MSG_ERRQUEUE));
	zerocopy(c);
	int zero = 0;
	DO(setsockopt(c, SOL_SOCKET, SO_ZEROCOPY, &zero, sizeof(zero)));
	DO(send(c, "abcd", 4, MSG_ZEROCOPY));
	DO(recv(s, buf, 4, MSG_WAITALL));
	pause_ms(20);
	say_mask("taken back", c);
}

BEHAVIOUR(zerocopy_epoll)
{
	int c, s, e = epoll_create1(0);
	struct epoll_event ev = {.events = EPOLLIN};
	pair(&c, &s);
	zerocopy(c);
	DO(epoll_ctl(e, EPOLL_CTL_ADD, c, &ev));
	DO(epoll_wait(e, &ev, 1, 10));
	DO(send(c, "abcd", 4, MSG_ZEROCOPY));
	DO(recv(s, buf, 4, MSG_WAITALL));
	DO(epoll_wait(e, &ev, 1, 1000));
	say("%#x", ev.events);
	completions(c);
	DO(epoll_wait(e, &ev, 1, 10));
}

BEHAVIOUR(zerocopy_short_control)
{
	int c, s;
	char control[20];
	struct msghdr m = {.msg_control = control, .msg_controllen = sizeof(control)};
	pair(&c, &s);
	zerocopy(c);
	DO(send(c, "abcd", 4, MSG_ZEROCOPY));
	DO(recv(s, buf, 4, MSG_WAITALL));
	await(c, POLLERR);
	DO(recvmsg(c, &m, MSG_ERRQUEUE));
	say("flags %#x control %zu", (unsigned)m.msg_flags, (size_t)m.msg_controllen);
	DO(recvmsg(c, &m, MSG_ERRQUEUE));
}

BEHAVIOUR(zerocopy_accepted_inherits)
{
	struct sockaddr_in a = where(0);
	int l = listener(0), c = tcp(0);
	zerocopy(l);
	DO(connect(c, (struct sockaddr *)&a, sizeof(a)));
	int s = accept(l, NULL, NULL);
	SAY_OPTION(s, SOL_SOCKET, SO_ZEROCOPY);
	DO(send(s, "abcd", 4, MSG_ZEROCOPY));
	DO(recv(c, buf, 4, MSG_WAITALL));
	await(s, POLLERR);
	completions(s);
}
