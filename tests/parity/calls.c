/* Calls of several pieces, of no bytes, with time limits, by number, and with arguments at their edges. */
#include <aio.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <pty.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <utmp.h>

#include "parity.h"

static char buf[1 << 16];

static void reset_by(int fd)
{
	struct linger hard = {1, 0};
	setsockopt(fd, SOL_SOCKET, SO_LINGER, &hard, sizeof(hard));
	close(fd);
}

/* Three bytes and a reset at s. */
static void bytes_then_reset(int *c, int *s)
{
	pair(c, s);
	send_all(*c, "abc", 3);
	await_bytes(*s, 3);
	reset_by(*c);
	await(*s, POLLHUP);
}

BEHAVIOUR(message_reset_behind_vector)
{
	int c, s;
	struct iovec two[2] = {{buf, 3}, {buf + 3, 3}};
	bytes_then_reset(&c, &s);
	DO(readv(s, two, 2));
	DO(recv(s, buf, 1, 0));
	DO(recv(s, buf, 1, 0));
}

BEHAVIOUR(message_reset_behind_waitall)
{
	int c, s;
	bytes_then_reset(&c, &s);
	DO(recv(s, buf, 10, MSG_WAITALL));
	SAY_OPTION(s, SOL_SOCKET, SO_ERROR);
	DO(recv(s, buf, 1, 0));
}

BEHAVIOUR(message_reset_behind_messages)
{
	int c, s;
	struct iovec iov[3] = {{buf, 2}, {buf, 2}, {buf, 2}};
	struct mmsghdr m[3] = {{.msg_hdr = {.msg_iov = &iov[0], .msg_iovlen = 1}},
			       {.msg_hdr = {.msg_iov = &iov[1], .msg_iovlen = 1}},
			       {.msg_hdr = {.msg_iov = &iov[2], .msg_iovlen = 1}}};
	bytes_then_reset(&c, &s);
	DO(recvmmsg(s, m, 3, 0, NULL));
	DO(recvmmsg(s, m, 3, 0, NULL));
	say("%u %u", m[0].msg_len, m[1].msg_len);
	DO(recvmmsg(s, m, 3, 0, NULL));
}

struct slowly {
	int fd;
	_Atomic int over;
};

static void *send_slowly(void *arg)
{
	struct slowly *w = arg;
	for (int i = 0; i < 20 && !w->over; i++) {
		if (send(w->fd, "x", 1, MSG_NOSIGNAL) != 1)
			break;
		pause_ms(150);
	}
	return NULL;
}

static void *take_slowly(void *arg)
{
	static char sink[1 << 16];
	struct slowly *w = arg;
	for (int i = 0; i < 20 && !w->over; i++) {
		pause_ms(150);
		(void)!recv(w->fd, sink, sizeof(sink), MSG_DONTWAIT);
	}
	return NULL;
}

/* The limit is the call's, not that of each of its sleeps. */
static void receive_slowly(bool watched)
{
	int c, s;
	struct timeval tv = {0, 400000};
	pair(&c, &s);
	struct slowly w = {.fd = c};
	setsockopt(s, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv));
	struct epoll_event ev = {.events = EPOLLIN};
	if (watched)
		epoll_ctl(epoll_create1(0), EPOLL_CTL_ADD, s, &ev);
	pthread_t t = thread(send_slowly, &w);
	ssize_t n = recv(s, buf, 20, MSG_WAITALL);
	w.over = 1;
	say("some %d, all %d", n > 0, n == 20);
	join(t);
}

BEHAVIOUR(message_receive_timeout_of_all_sleeps)
{
	receive_slowly(false);
}

BEHAVIOUR(message_receive_timeout_of_all_sleeps_beside_another)
{
	receive_slowly(true);
}

BEHAVIOUR(message_send_timeout_of_all_sleeps)
{
	int c, s;
	struct timeval tv = {0, 400000};
	size_t len = (size_t)64 << 20;
	char *much = calloc(1, len);
	pair(&c, &s);
	struct slowly w = {.fd = s};
	setsockopt(c, SOL_SOCKET, SO_SNDTIMEO, &tv, sizeof(tv));
	pthread_t t = thread(take_slowly, &w);
	long begin = now_ms();
	ssize_t n = send(c, much, len, 0);
	say("some %d, all %d, soon %d", n > 0, (size_t)n == len, now_ms() - begin < 2000);
	w.over = 1;
	join(t);
	free(much);
}

BEHAVIOUR(message_recvmmsg_time)
{
	int c, s;
	struct iovec iov = {buf, 1};
	struct mmsghdr m[4];
	for (int i = 0; i < 4; i++)
		m[i] = (struct mmsghdr){.msg_hdr = {.msg_iov = &iov, .msg_iovlen = 1}};
	pair(&c, &s);
	send_all(c, "abcdef", 6);
	await_bytes(s, 6);
	struct timespec none = {0, 0};
	DO(recvmmsg(s, m, 4, 0, &none));
	struct timespec much = {1000, 0};
	DO(recvmmsg(s, m, 2, 0, &much));
	say("left %d", much.tv_sec == 999);
	struct timespec bad = {0, 1000000000};
	DO(recvmmsg(s, m, 2, 0, &bad));
	DO(recvmmsg(s, m, 2, 0, (struct timespec *)8));
	struct timespec brief = {0, 100000000};
	struct slowly w = {.fd = c};
	recv(s, buf, sizeof(buf), MSG_DONTWAIT);
	pthread_t t = thread(send_slowly, &w);
	int n = recvmmsg(s, m, 4, 0, &brief);
	w.over = 1;
	say("some %d, all %d, left %ld %ld", n > 0, n == 4, (long)brief.tv_sec, brief.tv_nsec);
	join(t);
}

BEHAVIOUR(message_no_bytes)
{
	int c, s;
	struct iovec none[2] = {{NULL, 0}, {buf, 0}};
	struct msghdr m = {.msg_iov = none, .msg_iovlen = 2};
	struct mmsghdr mm = {.msg_hdr = m};
	pair(&c, &s);
	DO(recvmsg(s, &m, MSG_DONTWAIT));
	DO(readv(s, none, 2));
	DO(sendmsg(c, &m, 0));
	DO(writev(c, none, 2));
	DO(sendmmsg(c, &mm, 1, 0));
	DO(recvmmsg(s, &mm, 1, MSG_DONTWAIT, NULL));
	DO(preadv2(s, none, 2, -1, 0));
	DO(pwritev2(c, none, 2, -1, 0));
	shutdown(c, SHUT_WR);
	DO(sendmsg(c, &m, MSG_NOSIGNAL));
	DO(writev(c, none, 2));
	DO(sendmmsg(c, &mm, 1, MSG_NOSIGNAL));
	await(s, POLLRDHUP);
	DO(recvmsg(s, &m, 0));
	DO(recvmsg(s, &m, MSG_DONTWAIT));
}

/* Of no bytes none comes back. */
BEHAVIOUR(message_no_bytes_to_a_closed_end)
{
	int c, s;
	pair(&c, &s);
	close(s);
	await(c, POLLRDHUP);
	DO(send(c, buf, 0, MSG_NOSIGNAL));
	DO(send(c, buf, 0, MSG_NOSIGNAL));
	say_mask("closed", c);
	DO(send(c, buf, 1, MSG_NOSIGNAL));
	await(c, POLLHUP);
	DO(send(c, buf, 1, MSG_NOSIGNAL));
}

BEHAVIOUR(message_send_bad_address)
{
	int c, s, l = listener(1);
	struct iovec iov = {(char *)"ab", 2};
	struct msghdr m = {
	    .msg_name = bad_address, .msg_namelen = 16, .msg_iov = &iov, .msg_iovlen = 1};
	pair(&c, &s);
	DO(sendto(c, "ab", 2, 0, bad_address, 16));
	DO(sendto(c, "ab", 2, 0, bad_address, 0));
	DO(sendmsg(c, &m, 0));
	DO(sendto(l, "ab", 2, MSG_NOSIGNAL, bad_address, 16));
	DO(sendmsg(l, &m, MSG_NOSIGNAL));
	m.msg_namelen = 0;
	DO(sendmsg(c, &m, 0));
	await_bytes(s, 4);
}

static void say_name(int fd, unsigned long request, const char *what)
{
	struct ifreq r;
	memset(&r, 0, sizeof(r));
	memcpy(r.ifr_name, "lo", 3);
	errno = 0;
	int err = ioctl(fd, request, &r);
	say("%s %d %s, family %d", what, err, err ? error_name(errno) : "",
	    err ? 0 : r.ifr_addr.sa_family);
}

BEHAVIOUR(message_ioctl_others)
{
	int c, s, n = -1, l = listener(1);
	pid_t me = getpid();
	pair(&c, &s);
	DO(ioctl(s, SIOCOUTQNSD, &n));
	say("unsent %d", n);
	DO(ioctl(s, FIOSETOWN, &me));
	say("mine %d", fcntl(s, F_GETOWN) == me);
	n = 0;
	DO(ioctl(s, SIOCGPGRP, &n));
	say("mine %d", n == me);
	n = 0;
	DO(ioctl(s, FIOGETOWN, &n));
	say("mine %d", n == me);
	DO(ioctl(s, SIOCSPGRP, &me));
	say_name(s, SIOCGIFADDR, "address");
	say_name(s, SIOCGIFNETMASK, "mask");
	say_name(l, SIOCGIFADDR, "address");
	DO(ioctl(l, FIONREAD, &n));
	DO(ioctl(l, SIOCOUTQ, &n));
	DO(ioctl(l, 0xdead, &n));
	DO(sockatmark(s));
	DO(sockatmark(l));
}

static void *send_later(void *arg)
{
	pause_ms(900);
	if (send(*(int *)arg, "x", 1, 0) != 1)
		exit(1);
	return NULL;
}

BEHAVIOUR(epoll_time_out_of_range)
{
	int c, s, ep = epoll_create1(0);
	struct epoll_event ev = {.events = EPOLLIN};
	/* Times 1,000,000 it is 448,384 modulo 2^64. */
	struct timespec endless = {18446744073710, 0};
	struct timespec bad = {0, -1};
	pair(&c, &s);
	DO(epoll_ctl(ep, EPOLL_CTL_ADD, s, &ev));
	DO(epoll_pwait2(ep, &ev, 1, &bad, NULL));
	pthread_t t = thread(send_later, &c);
	DO(epoll_pwait2(ep, &ev, 1, &endless, NULL));
	join(t);
	endless.tv_sec = INT64_MAX;
	DO(epoll_pwait2(ep, &ev, 1, &endless, NULL));
}

BEHAVIOUR(epoll_bad_pointers)
{
	int c, s, ep = epoll_create1(0);
	struct epoll_event ev = {.events = EPOLLIN};
	pair(&c, &s);
	DO(epoll_ctl(ep, EPOLL_CTL_ADD, s, (struct epoll_event *)8));
	DO(epoll_ctl(ep, EPOLL_CTL_DEL, s, (struct epoll_event *)8));
	DO(epoll_ctl(ep, EPOLL_CTL_ADD, s, &ev));
	DO(epoll_ctl(ep, EPOLL_CTL_MOD, s, NULL));
	send_all(c, "x", 1);
	await(s, POLLIN);
	DO(epoll_wait(ep, (struct epoll_event *)8, 1, 0));
	DO(epoll_wait(ep, (struct epoll_event *)-4096, 1, 0));
	DO(epoll_wait(ep, &ev, INT32_MAX, 0));
	DO(epoll_wait(ep, &ev, 0, 0));
}

BEHAVIOUR(message_by_number)
{
	int c, s, ep = epoll_create1(0);
	struct epoll_event ev = {.events = EPOLLIN};
	struct timespec brief = {0, 20000000}, none = {0, 0};
	struct iovec iov = {buf, 3};
	fd_set r;
	pair(&c, &s);
	epoll_ctl(ep, EPOLL_CTL_ADD, s, &ev);
	DO(syscall(SYS_epoll_pwait2, ep, &ev, 1, &none, NULL, 8));
	FD_ZERO(&r);
	FD_SET(s, &r);
	DO(syscall(SYS_pselect6, s + 1, &r, NULL, NULL, &brief, NULL));
	say("left %ld %ld", (long)brief.tv_sec, brief.tv_nsec);
	DO(syscall(SYS_pwritev2, c, &iov, 1, -1L, -1L, 0));
	await_bytes(s, 3);
	DO(syscall(SYS_epoll_pwait2, ep, &ev, 1, &none, NULL, 8));
	FD_SET(s, &r);
	brief.tv_sec = 100;
	DO(syscall(SYS_pselect6, s + 1, &r, NULL, NULL, &brief, NULL));
	say("told %d, left %d", FD_ISSET(s, &r), brief.tv_sec >= 99);
	DO(syscall(SYS_preadv2, s, &iov, 1, -1L, -1L, RWF_NOWAIT));
	DO(syscall(SYS_preadv2, s, &iov, 1, -1L, -1L, RWF_NOWAIT));
	DO(syscall(SYS_preadv2, s, &iov, 1, 0L, 0L, 0));
}

BEHAVIOUR(message_by_number_time_and_mask)
{
	static const struct timespec constant = {.tv_nsec = 1000000};
	int c, s, ep = epoll_create1(0);
	struct epoll_event ev;
	struct timespec brief = {0, 20000000}, none = {0, 0};
	struct pollfd p = {.events = POLLIN};
	sigset_t mask;
	struct {
		const sigset_t *mask;
		size_t size;
	} six = {&mask, sizeof(mask)};
	sigemptyset(&mask);
	pair(&c, &s);
	p.fd = s;
	DO(syscall(SYS_ppoll, &p, 1, &brief, NULL, 0));
	say("left %ld %ld", (long)brief.tv_sec, brief.tv_nsec);
	DO(syscall(SYS_ppoll, &p, 1, &constant, NULL, 0));
	DO(syscall(SYS_pselect6, 0, NULL, NULL, NULL, &constant, NULL));
	DO(syscall(SYS_ppoll, &p, 1, &none, &mask, sizeof(mask)));
	DO(syscall(SYS_ppoll, &p, 1, &none, &mask, 8));
	DO(syscall(SYS_pselect6, 0, NULL, NULL, NULL, &none, &six));
	DO(syscall(SYS_epoll_pwait, ep, &ev, 1, 0, &mask, sizeof(mask)));
	DO(syscall(SYS_epoll_pwait2, ep, &ev, 1, &none, &mask, sizeof(mask)));
	DO(syscall(SYS_epoll_pwait2, ep, &ev, 1, &none, &mask, 8));
	send_all(c, "x", 1);
	await(s, POLLIN);
	brief.tv_sec = 100;
	DO(syscall(SYS_ppoll, &p, 1, &brief, &mask, 8));
	say("left %d", brief.tv_sec >= 90 && brief.tv_sec < 101);
}

/* No number is left for a socket to try an option on. */
BEHAVIOUR(option_without_a_number)
{
	int c, s, one = 1, n = 0;
	socklen_t len = sizeof(n);
	struct rlimit few = {40, 40};
	setrlimit(RLIMIT_NOFILE, &few);
	pair(&c, &s);
	while (dup(2) >= 0)
		n++;
	for (int i = 0; i < 3; i++) {
		DO(setsockopt(s, SOL_SOCKET, SO_KEEPALIVE, &one, sizeof(one)));
		DO(getsockopt(s, IPPROTO_TCP, TCP_KEEPCNT, &n, &len));
		say("count %d", n);
	}
	DO(dup(2));
}

BEHAVIOUR(connect_bound_nonblocking_to_nothing)
{
	int l = listener(0), c = tcp(0), n;
	struct sockaddr_in from = where(1), to = where(0);
	struct sockaddr none = {.sa_family = AF_UNSPEC};
	DO(bind(c, (struct sockaddr *)&from, sizeof(from)));
	set_nonblock(c);
	n = connect(c, (struct sockaddr *)&to, sizeof(to));
	say("connects %d", n == 0 || errno == EINPROGRESS);
	await(c, POLLOUT);
	DO(accept(l, NULL, NULL) >= 0);
	DO(connect(c, &none, sizeof(none)));
	say_mask("disconnected", c);
	SAY_OPTION(c, SOL_SOCKET, SO_ERROR);
	say("flags %#x", (unsigned)fcntl(c, F_GETFL));
	say_mask("asked", c);
}

/* What is written in one piece may be read of a terminal in several. */
static ssize_t read_line(int master)
{
	size_t n = 0;
	ssize_t got = 1;
	while (got > 0 && n < sizeof(buf) && (n == 0 || buf[n - 1] != '\n')) {
		got = read(master, buf + n, sizeof(buf) - n);
		n += got > 0 ? (size_t)got : 0;
	}
	return (ssize_t)n;
}

/* A terminal takes the numbers that a connection had. */
BEHAVIOUR(process_login_tty)
{
	int c, s, master, slave;
	pair(&c, &s);
	if (openpty(&master, &slave, NULL, NULL, NULL) != 0)
		exit(1);
	pid_t pid = fork();
	if (pid == 0) {
		dup2(s, 0);
		dup2(s, 1);
		if (login_tty(slave) != 0)
			_exit(2);
		_exit(write(1, "on the terminal\n", 16) == 16 && isatty(1) ? 0 : 3);
	}
	close(slave);
	ssize_t n = read_line(master);
	say_bytes("terminal", buf, n);
	reap(pid);
	DO(recv(c, buf, sizeof(buf), MSG_DONTWAIT));
}

BEHAVIOUR(process_forkpty)
{
	int c, s, master, out = dup(1);
	pair(&c, &s);
	say_now();
	dup2(s, 0);
	dup2(s, 1);
	pid_t pid = forkpty(&master, NULL, NULL, NULL);
	if (pid == 0)
		_exit(write(1, "on the terminal\n", 16) == 16 && isatty(0) ? 0 : 3);
	dup2(out, 1);
	ssize_t n = read_line(master);
	say_bytes("terminal", buf, n);
	reap(pid);
	DO(recv(c, buf, sizeof(buf), MSG_DONTWAIT));
}

/* libc's other names of these. No header declares them. */
int __clone(int (*fn)(void *), void *stack, int flags, void *arg, ...);
int __close(int fd);
int __connect(int fd, const struct sockaddr *addr, socklen_t len);
int __dup2(int fd, int to);
int __fcntl(int fd, int cmd, ...);
int __poll(struct pollfd *fds, nfds_t n, int timeout);
ssize_t __read(int fd, void *data, size_t len);
int __select(int n, fd_set *r, fd_set *w, fd_set *x, struct timeval *timeout);
ssize_t __send(int fd, const void *data, size_t len, int flags);
ssize_t __write(int fd, const void *data, size_t len);

BEHAVIOUR(descriptor_second_names)
{
	int l = listener(0), c = tcp(0), s;
	struct sockaddr_in to = where(0);
	struct timeval none = {0, 0};
	fd_set r;
	DO(__connect(c, (struct sockaddr *)&to, sizeof(to)));
	s = accept(l, NULL, NULL);
	struct pollfd p = {.fd = s, .events = POLLIN};
	DO(__poll(&p, 1, 0));
	DO(__write(c, "abc", 3));
	DO(__send(c, "def", 3, MSG_NOSIGNAL));
	await_bytes(s, 6);
	DO(__poll(&p, 1, 0));
	FD_ZERO(&r);
	FD_SET(s, &r);
	DO(__select(s + 1, &r, NULL, NULL, &none));
	say_bytes("read", buf, __read(s, buf, 6));
	int flags = __fcntl(s, F_GETFL);
	DO(__fcntl(s, F_SETFL, flags | O_NONBLOCK));
	DO(__read(s, buf, 6));
	say("dup2 %d", __dup2(s, l) == l);
	DO(__close(s));
	DO(__write(c, "ghi", 3));
	await_bytes(l, 3);
	DO(__read(l, buf, 6));
	DO(__close(l));
	await(c, POLLIN);
	DO(__read(c, buf, 6));
}

static int by_clone(void *arg)
{
	int fd = *(int *)arg;
	send_all(fd, "cloned", 6);
	return close(fd);
}

BEHAVIOUR(mixed_clone_by_its_second_name)
{
	int c, s;
	static char stack[65536] __attribute__((aligned(16)));
	pair(&c, &s);
	pid_t pid = __clone(by_clone, stack + sizeof(stack), SIGCHLD, &s);
	say("%d", pid > 0);
	close(s);
	DO(recv(c, buf, 6, MSG_WAITALL));
	reap(pid);
	DO(recv(c, buf, 6, 0));
}

static void say_aio(const char *what, struct aiocb *cb, int submitted)
{
	const struct aiocb *list[] = {cb};
	while (submitted == 0 && aio_error(cb) == EINPROGRESS)
		aio_suspend(list, 1, NULL);
	if (submitted == 0)
		say("%s: %zd", what, aio_return(cb));
}

BEHAVIOUR(message_asynchronous)
{
	int c, s;
	char text[] = "abc";
	struct aiocb out = {.aio_buf = text, .aio_nbytes = 3, .aio_lio_opcode = LIO_WRITE};
	struct aiocb *list[] = {&out};
	pair(&c, &s);
	struct aiocb in = {.aio_fildes = s, .aio_buf = buf, .aio_nbytes = 6};
	out.aio_fildes = c;
	say_aio("written", &out, (int)DO(aio_write(&out)));
	DO(lio_listio(LIO_WAIT, list, 1, NULL));
	DO(send(c, "def", 3, 0));
	await(s, POLLIN);
	say_aio("read", &in, (int)DO(aio_read(&in)));
	/* Neither end was hurt. */
	DO(send(c, "g", 1, 0));
	shutdown(c, SHUT_WR);
	say("%d", recv_all(s, buf, sizeof(buf)) > 0);
}
