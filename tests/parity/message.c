/* Flags and forms of sending and receiving. */
#include <limits.h>

#include "parity.h"

static char buf[65536];

static void text(int c, int s, const char *t)
{
	send_all(c, t, strlen(t));
	await_bytes(s, (int)strlen(t));
}

BEHAVIOUR(message_simple)
{
	int c, s;
	pair(&c, &s);
	DO(send(c, "hello", 5, 0));
	await_bytes(s, 5);
	DO(recv(s, buf, 3, 0));
	say_bytes("first", buf, 3);
	DO(recv(s, buf, 10, 0));
	say_bytes("rest", buf, 2);
}

BEHAVIOUR(message_read_write)
{
	int c, s;
	pair(&c, &s);
	DO(write(c, "hello", 5));
	await_bytes(s, 5);
	DO(read(s, buf, 100));
	say_bytes("read", buf, 5);
	DO(write(c, buf, 0));
	DO(read(s, buf, 0));
}

BEHAVIOUR(message_dontwait_empty)
{
	int c, s;
	pair(&c, &s);
	DO(recv(c, buf, 1, MSG_DONTWAIT));
	DO(recv(s, buf, 1, MSG_DONTWAIT | MSG_PEEK));
	DO(recv(s, buf, 1, MSG_DONTWAIT | MSG_WAITALL));
	DO(recv(s, buf, 0, MSG_DONTWAIT));
}

BEHAVIOUR(message_peek)
{
	int c, s;
	pair(&c, &s);
	text(c, s, "abcdef");
	DO(recv(s, buf, 4, MSG_PEEK));
	say_bytes("peek", buf, 4);
	DO(recv(s, buf, 100, MSG_PEEK));
	DO(recv(s, buf, 2, 0));
	DO(recv(s, buf, 100, MSG_PEEK));
	say_bytes("peek", buf, 4);
	DO(recv(s, buf, 100, 0));
	DO(recv(s, buf, 100, MSG_PEEK | MSG_DONTWAIT));
}

BEHAVIOUR(message_peek_end)
{
	int c, s;
	pair(&c, &s);
	text(c, s, "ab");
	DO(shutdown(c, SHUT_WR));
	await(s, POLLRDHUP);
	DO(recv(s, buf, 10, MSG_PEEK));
	DO(recv(s, buf, 10, 0));
	DO(recv(s, buf, 10, MSG_PEEK));
	DO(recv(s, buf, 10, 0));
}

static void *send_later(void *arg)
{
	let_sleep();
	send_all(*(int *)arg, "def", 3);
	return NULL;
}

BEHAVIOUR(message_waitall)
{
	int c, s;
	pair(&c, &s);
	text(c, s, "abc");
	pthread_t t = thread(send_later, &c);
	DO(recv(s, buf, 6, MSG_WAITALL));
	say_bytes("all", buf, 6);
	join(t);
}

BEHAVIOUR(message_waitall_end)
{
	int c, s;
	pair(&c, &s);
	text(c, s, "abc");
	DO(shutdown(c, SHUT_WR));
	DO(recv(s, buf, 6, MSG_WAITALL));
	DO(recv(s, buf, 6, MSG_WAITALL));
}

BEHAVIOUR(message_waitall_nonblocking)
{
	int c, s;
	pair(&c, &s);
	set_nonblock(s);
	text(c, s, "abc");
	DO(recv(s, buf, 6, MSG_WAITALL));
	DO(recv(s, buf, 6, MSG_WAITALL));
}

BEHAVIOUR(message_waitall_peek)
{
	int c, s;
	pair(&c, &s);
	text(c, s, "abc");
	DO(shutdown(c, SHUT_WR));
	await(s, POLLRDHUP);
	DO(recv(s, buf, 6, MSG_WAITALL | MSG_PEEK));
	DO(recv(s, buf, 2, MSG_WAITALL | MSG_PEEK));
	DO(recv(s, buf, 6, MSG_WAITALL));
}

BEHAVIOUR(message_waitall_timeout)
{
	int c, s;
	struct timeval tv = {0, 100000};
	pair(&c, &s);
	DO(setsockopt(s, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv)));
	text(c, s, "abc");
	DO(recv(s, buf, 6, MSG_WAITALL));
	DO(recv(s, buf, 6, MSG_WAITALL));
}

static void *signal_later(void *arg)
{
	let_sleep();
	pthread_kill(*(pthread_t *)arg, SIGUSR1);
	return NULL;
}

BEHAVIOUR(message_waitall_interrupted)
{
	int c, s;
	pthread_t me = pthread_self();
	pair(&c, &s);
	count_signal(SIGUSR1, 0);
	text(c, s, "abc");
	pthread_t t = thread(signal_later, &me);
	DO(recv(s, buf, 6, MSG_WAITALL));
	join(t);
	t = thread(signal_later, &me);
	DO(recv(s, buf, 6, MSG_WAITALL));
	join(t);
	say("signals %d", (int)signals_seen);
}

BEHAVIOUR(message_trunc)
{
	int c, s;
	pair(&c, &s);
	memset(buf, '.', 16);
	text(c, s, "abcdef");
	DO(recv(s, buf, 4, MSG_TRUNC));
	say_bytes("untouched", buf, 6);
	DO(recv(s, NULL, 100, MSG_TRUNC));
	DO(recv(s, buf, 4, MSG_TRUNC | MSG_DONTWAIT));
}

BEHAVIOUR(message_trunc_peek)
{
	int c, s;
	pair(&c, &s);
	memset(buf, '.', 16);
	text(c, s, "abcdef");
	DO(recv(s, buf, 4, MSG_TRUNC | MSG_PEEK));
	say_bytes("buffer", buf, 6);
	DO(recv(s, buf, 10, 0));
}

BEHAVIOUR(message_more)
{
	int c, s;
	pair(&c, &s);
	DO(send(c, "ab", 2, MSG_MORE));
	DO(send(c, "cd", 2, 0));
	DO(recv(s, buf, 4, MSG_WAITALL));
	say_bytes("whole", buf, 4);
}

BEHAVIOUR(message_more_alone_is_sent)
{
	int c, s;
	pair(&c, &s);
	DO(send(c, "ab", 2, MSG_MORE));
	DO(recv(s, buf, 2, MSG_WAITALL));
	say_bytes("whole", buf, 2);
}

BEHAVIOUR(message_flags_ignored_sending)
{
	int c, s;
	pair(&c, &s);
	DO(send(c, "a", 1, MSG_EOR));
	DO(send(c, "b", 1, MSG_CONFIRM));
	DO(send(c, "c", 1, MSG_DONTROUTE));
	DO(send(c, "d", 1, MSG_NOSIGNAL));
	DO(send(c, "e", 1, MSG_DONTWAIT));
	DO(send(c, "f", 1, MSG_PEEK));
	DO(send(c, "g", 1, MSG_TRUNC));
	DO(send(c, "h", 1, MSG_CTRUNC));
	DO(send(c, "i", 1, MSG_WAITALL));
	DO(send(c, "j", 1, MSG_ERRQUEUE));
	DO(send(c, "k", 1, MSG_CMSG_CLOEXEC));
	DO(send(c, "l", 1, MSG_ZEROCOPY));
	await_bytes(s, 12);
	ssize_t n = DO(recv(s, buf, 100, 0));
	say_bytes("came", buf, n);
}

BEHAVIOUR(message_flags_ignored_receiving)
{
	int c, s;
	pair(&c, &s);
	text(c, s, "abcdefgh");
	DO(recv(s, buf, 1, MSG_NOSIGNAL));
	DO(recv(s, buf, 1, MSG_EOR));
	DO(recv(s, buf, 1, MSG_CMSG_CLOEXEC));
	DO(recv(s, buf, 1, MSG_DONTROUTE));
	DO(recv(s, buf, 1, MSG_MORE));
	DO(recv(s, buf, 1, MSG_CONFIRM));
	DO(recv(s, buf, 1, MSG_CTRUNC));
	DO(recv(s, buf, 1, MSG_ZEROCOPY));
	say_bytes("last", buf, 1);
}

BEHAVIOUR(message_errqueue)
{
	int c, s;
	struct iovec iov = {buf, 10};
	char control[200];
	struct msghdr m = {.msg_iov = &iov,
			   .msg_iovlen = 1,
			   .msg_control = control,
			   .msg_controllen = sizeof(control)};
	pair(&c, &s);
	DO(recv(c, buf, 10, MSG_ERRQUEUE));
	DO(recvmsg(c, &m, MSG_ERRQUEUE));
	say("flags %#x control %zu", (unsigned)m.msg_flags, m.msg_controllen);
	text(s, c, "x");
	DO(recv(c, buf, 10, MSG_ERRQUEUE));
	DO(recv(c, buf, 10, 0));
}

BEHAVIOUR(message_oob_receive_none)
{
	int c, s, mark = -1;
	pair(&c, &s);
	DO(recv(s, buf, 1, MSG_OOB));
	text(c, s, "x");
	DO(recv(s, buf, 1, MSG_OOB));
	DO(ioctl(s, SIOCATMARK, &mark));
	say("mark %d", mark);
}

BEHAVIOUR(message_oob)
{
	int c, s, mark = -1;
	pair(&c, &s);
	DO(send(c, "ab", 2, 0));
	DO(send(c, "!", 1, MSG_OOB));
	await(s, POLLPRI);
	say_mask("urgent", s);
	DO(recv(s, buf, 10, 0));
	DO(ioctl(s, SIOCATMARK, &mark));
	say("mark %d", mark);
	DO(recv(s, buf, 1, MSG_OOB));
	say_bytes("urgent", buf, 1);
}

BEHAVIOUR(message_zero_length)
{
	int c, s;
	pair(&c, &s);
	DO(send(c, NULL, 0, 0));
	DO(send(c, buf, 0, MSG_DONTWAIT));
	DO(recv(s, buf, 1, MSG_DONTWAIT));
	say_mask("nothing came", s);
	text(c, s, "x");
	DO(recv(s, NULL, 0, 0));
	DO(recv(s, buf, 0, MSG_PEEK));
	DO(recv(s, buf, 1, 0));
}

BEHAVIOUR(message_zero_length_after_end)
{
	int c, s;
	pair(&c, &s);
	close(c);
	await(s, POLLIN);
	DO(recv(s, buf, 0, 0));
	DO(read(s, buf, 0));
	DO(send(s, buf, 0, MSG_NOSIGNAL));
}

BEHAVIOUR(message_null_pointers)
{
	int c, s;
	pair(&c, &s);
	text(c, s, "abc");
	DO(send(c, NULL, 5, 0));
	DO(recv(s, NULL, 2, 0));
	DO(recv(s, buf, 10, 0));
	DO(write(c, NULL, 1));
	DO(sendmsg(c, NULL, 0));
	DO(recvmsg(s, NULL, 0));
	DO(recv(s, NULL, 1, MSG_DONTWAIT));
}

BEHAVIOUR(message_bad_pointers)
{
	int c, s;
	pair(&c, &s);
	text(c, s, "abc");
	DO(send(c, (void *)-1L, 5, 0));
	DO(recv(s, (void *)-1L, 2, 0));
	DO(recv(s, (void *)8, 2, 0));
	DO(send(c, (void *)8, 2, 0));
	DO(recv(s, buf, 10, 0));
}

BEHAVIOUR(message_unmapped_pointers)
{
	int c, s;
	pair(&c, &s);
	text(c, s, "abc");
	DO(send(c, bad_address, 5, 0));
	DO(recv(s, bad_address, 2, 0));
	DO(recv(s, buf, 10, 0));
}

BEHAVIOUR(message_unmapped_control)
{
	int c, s, u[2];
	struct iovec iov = {buf, 1};
	struct msghdr m = {
	    .msg_iov = &iov, .msg_iovlen = 1, .msg_control = bad_address, .msg_controllen = 24};
	struct mmsghdr many[2] = {{.msg_hdr = m}, {.msg_hdr = m}};
	pair(&c, &s);
	DO(socketpair(AF_UNIX, SOCK_STREAM, 0, u));
	DO(sendmsg(u[0], &m, 0));
	DO(sendmsg(u[0], (const struct msghdr *)-1, 0));
	DO(sendmmsg(u[0], many, 2, 0));
	m.msg_control = buf;
	m.msg_controllen = (size_t)1 << 40;
	DO(sendmsg(u[0], &m, 0));
	text(c, s, "abc");
}

BEHAVIOUR(message_bad_lengths)
{
	int c, s;
	pair(&c, &s);
	text(c, s, "abc");
	DO(recv(s, buf, (size_t)-1, MSG_DONTWAIT));
	DO(send(c, buf, (size_t)-1, MSG_DONTWAIT) != 0);
}

BEHAVIOUR_ALONE(message_bad_fds)
{
	struct msghdr m = {0};
	DO(send(-1, buf, 1, 0));
	DO(recv(-1, buf, 1, 0));
	DO(send(1, buf, 1, 0));
	DO(recv(1, buf, 1, 0));
	DO(recv(1000, buf, 1, 0));
	DO(sendmsg(1000, &m, 0));
	DO(recvmsg(-5, &m, 0));
	DO(read(1000, buf, 1));
	DO(write(-1, buf, 1));
	DO(shutdown(-1, SHUT_RD));
	DO(shutdown(1, SHUT_RD));
	DO(close(-1));
	DO(close(1000));
}

BEHAVIOUR_ALONE(message_unconnected)
{
	int c = tcp(0);
	DO(recv(c, buf, 1, 0));
	DO(recv(c, buf, 1, MSG_DONTWAIT));
	DO(send(c, buf, 1, MSG_NOSIGNAL));
	DO(shutdown(c, SHUT_RDWR));
	DO(shutdown(c, 5));
	count_signal(SIGPIPE, 0);
	DO(write(c, buf, 1));
	say("signals %d", (int)signals_seen);
}

BEHAVIOUR(message_iov)
{
	int c, s;
	char a[3], b[4], d[10];
	struct iovec out[] = {{(char *)"ab", 2}, {NULL, 0}, {(char *)"cde", 3}, {(char *)"f", 1}};
	struct iovec in[] = {{a, 3}, {b, 0}, {b, 2}, {d, 10}};
	pair(&c, &s);
	DO(writev(c, out, 4));
	await_bytes(s, 6);
	DO(readv(s, in, 4));
	say_bytes("a", a, 3);
	say_bytes("b", b, 2);
	say_bytes("d", d, 1);
	DO(writev(c, out, 0));
	DO(readv(s, in, 0));
	DO(writev(c, NULL, 0));
}

BEHAVIOUR(message_iov_limits)
{
	int c, s;
	static struct iovec iov[IOV_MAX + 1];
	struct msghdr m = {.msg_iov = iov};
	pair(&c, &s);
	for (int i = 0; i <= IOV_MAX; i++)
		iov[i] = (struct iovec){buf + i, 1};
	DO(writev(c, iov, IOV_MAX));
	DO(writev(c, iov, IOV_MAX + 1));
	DO(writev(c, iov, -1));
	m.msg_iovlen = IOV_MAX + 1;
	DO(sendmsg(c, &m, 0));
	await_bytes(s, IOV_MAX);
	DO(recvmsg(s, &m, 0));
	DO(readv(s, iov, IOV_MAX + 1));
	DO(readv(s, iov, -1));
	DO(readv(s, iov, IOV_MAX));
}

BEHAVIOUR(message_iov_bad)
{
	int c, s;
	struct iovec iov[2] = {{buf, 1}, {NULL, 4}};
	pair(&c, &s);
	DO(writev(c, NULL, 1));
	DO(readv(s, NULL, 1));
	iov[0].iov_len = (size_t)-1;
	DO(writev(c, iov, 1));
	iov[0].iov_len = SSIZE_MAX;
	iov[1] = (struct iovec){buf, SSIZE_MAX};
	DO(readv(s, iov, 2));
}

BEHAVIOUR(message_iov_first_only)
{
	/* A vector is one call: it does not wait once there is something. */
	int c, s;
	char a[2], b[2];
	struct iovec in[] = {{a, 2}, {b, 2}};
	pair(&c, &s);
	text(c, s, "xyz");
	DO(readv(s, in, 2));
	text(c, s, "xy");
	DO(readv(s, in, 2));
}

BEHAVIOUR(message_preadv)
{
	int c, s;
	struct iovec iov = {buf, 4};
	pair(&c, &s);
	text(c, s, "abcd");
	DO(preadv(s, &iov, 1, 0));
	DO(pwritev(c, &iov, 1, 0));
	DO(pread(s, buf, 4, 0));
	DO(pwrite(c, buf, 4, 0));
	DO(preadv2(s, &iov, 1, 0, 0));
	DO(preadv2(s, &iov, 1, -1, 0));
	DO(pwritev2(c, &iov, 1, -1, 0));
	await_bytes(s, 4);
	DO(preadv2(s, &iov, 1, -1, RWF_NOWAIT));
	DO(lseek(s, 0, SEEK_SET));
	DO(lseek(s, 0, SEEK_END));
}

BEHAVIOUR(message_sendto_with_address)
{
	int c, s;
	struct sockaddr_in a = where(3);
	pair(&c, &s);
	DO(sendto(c, "ab", 2, 0, (struct sockaddr *)&a, sizeof(a)));
	DO(sendto(c, "cd", 2, 0, (struct sockaddr *)&a, 1));
	DO(sendto(c, "ef", 2, 0, NULL, 100));
	DO(sendto(c, "gh", 2, 0, (struct sockaddr *)&a, (socklen_t)-1));
	await_bytes(s, 6);
	ssize_t n = recv(s, buf, 100, 0);
	say_bytes("came", buf, n);
}

BEHAVIOUR(message_recvfrom_with_address)
{
	int c, s;
	struct sockaddr_in a;
	socklen_t len = sizeof(a);
	memset(&a, 0x55, sizeof(a));
	pair(&c, &s);
	text(c, s, "abcd");
	DO(recvfrom(s, buf, 1, 0, (struct sockaddr *)&a, &len));
	say("len %u family %#x", (unsigned)len, a.sin_family);
	len = 7;
	DO(recvfrom(s, buf, 1, 0, NULL, &len));
	say("len %u", (unsigned)len);
	DO(recvfrom(s, buf, 1, 0, (struct sockaddr *)&a, NULL));
	len = (socklen_t)-1;
	DO(recvfrom(s, buf, 1, MSG_DONTWAIT, (struct sockaddr *)&a, &len));
}

BEHAVIOUR(message_recvmsg_fields)
{
	int c, s;
	char control[100];
	struct sockaddr_in a;
	struct iovec iov = {buf, 3};
	struct msghdr m = {.msg_name = &a,
			   .msg_namelen = sizeof(a),
			   .msg_iov = &iov,
			   .msg_iovlen = 1,
			   .msg_control = control,
			   .msg_controllen = sizeof(control),
			   .msg_flags = -1};
	pair(&c, &s);
	text(c, s, "abcdef");
	DO(recvmsg(s, &m, 0));
	say("name %u control %zu flags %#x", (unsigned)m.msg_namelen, m.msg_controllen,
	    (unsigned)m.msg_flags);
	m.msg_namelen = 5;
	m.msg_name = NULL;
	DO(recvmsg(s, &m, MSG_CMSG_CLOEXEC));
	say("name %u control %zu flags %#x", (unsigned)m.msg_namelen, m.msg_controllen,
	    (unsigned)m.msg_flags);
	m.msg_namelen = 9;
	m.msg_flags = 77;
	DO(recvmsg(s, &m, MSG_DONTWAIT));
	say("name %u flags %#x", (unsigned)m.msg_namelen, (unsigned)m.msg_flags);
}

BEHAVIOUR(message_sendmsg_name)
{
	int c, s;
	struct sockaddr_in a = where(2);
	struct iovec iov = {(char *)"abc", 3};
	struct msghdr m = {
	    .msg_name = &a, .msg_namelen = sizeof(a), .msg_iov = &iov, .msg_iovlen = 1};
	pair(&c, &s);
	DO(sendmsg(c, &m, 0));
	m.msg_namelen = 200;
	DO(sendmsg(c, &m, 0));
	m.msg_namelen = (socklen_t)-1;
	DO(sendmsg(c, &m, 0));
	m.msg_name = NULL;
	DO(sendmsg(c, &m, 0));
}

BEHAVIOUR(message_sendmsg_empty)
{
	int c, s;
	struct msghdr m = {0};
	pair(&c, &s);
	DO(sendmsg(c, &m, 0));
	m.msg_iovlen = 1;
	DO(sendmsg(c, &m, 0));
	text(c, s, "x");
	m.msg_iovlen = 0;
	DO(recvmsg(s, &m, MSG_DONTWAIT));
	DO(recv(s, buf, 1, 0));
}

static ssize_t send_control(int fd, int level, int type, const void *data, size_t len, size_t cut)
{
	union {
		struct cmsghdr h;
		char room[128];
	} u;
	struct iovec iov = {(char *)"z", 1};
	struct msghdr m = {
	    .msg_iov = &iov, .msg_iovlen = 1, .msg_control = &u, .msg_controllen = CMSG_SPACE(len)};
	memset(&u, 0, sizeof(u));
	u.h.cmsg_level = level;
	u.h.cmsg_type = type;
	u.h.cmsg_len = CMSG_LEN(len);
	memcpy(CMSG_DATA(&u.h), data, len);
	if (cut)
		u.h.cmsg_len = cut;
	return sendmsg(fd, &m, MSG_NOSIGNAL);
}

BEHAVIOUR(message_sendmsg_control)
{
	int c, s, one = 1;
	struct ucred cred = {getpid(), getuid(), getgid()};
	pair(&c, &s);
	DO(send_control(c, SOL_SOCKET, SCM_RIGHTS, &one, sizeof(one), 0));
	DO(send_control(c, SOL_SOCKET, SCM_CREDENTIALS, &cred, sizeof(cred), 0));
	DO(send_control(c, SOL_SOCKET, 999, &one, sizeof(one), 0));
	DO(send_control(c, IPPROTO_IP, IP_TTL, &one, sizeof(one), 0));
	DO(send_control(c, IPPROTO_TCP, 1, &one, sizeof(one), 0));
	DO(send_control(c, SOL_SOCKET, SO_TIMESTAMPING, &one, sizeof(one), 0));
	DO(send_control(c, SOL_SOCKET, SO_MARK, &one, sizeof(one), 0));
	DO(send_control(c, SOL_SOCKET, SCM_RIGHTS, &one, sizeof(one), 3));
	DO(send_control(c, SOL_SOCKET, SCM_RIGHTS, &one, sizeof(one), 1000));
	int n = 0;
	await_bytes(s, 6);
	pause_ms(20);
	ioctl(s, FIONREAD, &n);
	say("came %d", n);
}

BEHAVIOUR(message_sendmmsg)
{
	int c, s;
	struct iovec a = {(char *)"ab", 2}, b = {(char *)"cde", 3};
	struct mmsghdr m[3] = {{.msg_hdr = {.msg_iov = &a, .msg_iovlen = 1}},
			       {.msg_hdr = {.msg_iov = &b, .msg_iovlen = 1}},
			       {.msg_hdr = {.msg_iov = &a, .msg_iovlen = 1}}};
	pair(&c, &s);
	DO(sendmmsg(c, m, 3, 0));
	say("lengths %u %u %u", m[0].msg_len, m[1].msg_len, m[2].msg_len);
	DO(sendmmsg(c, m, 0, 0));
	await_bytes(s, 7);
	ssize_t n = recv(s, buf, 100, 0);
	say_bytes("came", buf, n);
	DO(sendmmsg(-1, m, 1, 0));
	DO(sendmmsg(c, NULL, 1, 0));
}

BEHAVIOUR(message_recvmmsg)
{
	int c, s;
	char x[4][4];
	struct iovec iov[4];
	struct mmsghdr m[4];
	memset(m, 0, sizeof(m));
	for (int i = 0; i < 4; i++) {
		iov[i] = (struct iovec){x[i], 3};
		m[i].msg_hdr.msg_iov = &iov[i];
		m[i].msg_hdr.msg_iovlen = 1;
	}
	pair(&c, &s);
	text(c, s, "abcdefgh");
	DO(recvmmsg(s, m, 4, MSG_DONTWAIT, NULL));
	say("lengths %u %u %u", m[0].msg_len, m[1].msg_len, m[2].msg_len);
	DO(recvmmsg(s, m, 4, MSG_DONTWAIT, NULL));
	text(c, s, "abcd");
	DO(recvmmsg(s, m, 4, MSG_WAITFORONE, NULL));
	struct timespec bad = {-1, 0};
	DO(recvmmsg(s, m, 1, MSG_DONTWAIT, &bad));
	DO(recvmmsg(s, m, 0, MSG_DONTWAIT, NULL));
	DO(recvmmsg(-1, m, 1, 0, NULL));
	close(c);
	await(s, POLLIN);
	DO(recvmmsg(s, m, 3, 0, NULL));
}

BEHAVIOUR(message_large)
{
	/* A megabyte and something, each byte checked. */
	int c, s;
	size_t total = 1500003;
	pair(&c, &s);
	fflush(NULL);
	pid_t pid = fork();
	if (pid == 0) {
		char *all = malloc(total);
		for (size_t i = 0; i < total; i++)
			all[i] = (char)(i * 7 + i / 256);
		send_all(c, all, total);
		_exit(0);
	}
	close(c);
	size_t at = 0, wrong = 0;
	for (;;) {
		ssize_t n = recv(s, buf, 10007, 0);
		if (n <= 0)
			break;
		for (ssize_t i = 0; i < n; i++, at++)
			wrong += buf[i] != (char)(at * 7 + at / 256);
	}
	say("came %zu wrong %zu", at, wrong);
	reap(pid);
}

BEHAVIOUR(message_full_then_room)
{
	int c, s;
	pair(&c, &s);
	size_t n = fill(c);
	DO(send(c, buf, 1, MSG_DONTWAIT));
	DO(sendmsg(c, &(struct msghdr){.msg_iov = &(struct iovec){buf, 5}, .msg_iovlen = 1},
		   MSG_DONTWAIT));
	char names[128];
	struct pollfd p = {.fd = c, .events = POLLOUT};
	DO(poll(&p, 1, 0));
	say("%s", poll_names((unsigned)p.revents, names));
	say("drained %d", drain(s, n) == n);
	await(c, POLLOUT);
	DO(send(c, buf, 1, MSG_DONTWAIT));
}

BEHAVIOUR(message_send_timeout)
{
	int c, s;
	struct timeval tv = {0, 100000};
	pair(&c, &s);
	fill(c);
	DO(setsockopt(c, SOL_SOCKET, SO_SNDTIMEO, &tv, sizeof(tv)));
	long begin = now_ms();
	DO(send(c, buf, 10, 0));
	say_elapsed(begin, 100);
}

BEHAVIOUR(message_receive_timeout)
{
	int c, s;
	struct timeval tv = {0, 100000};
	pair(&c, &s);
	DO(setsockopt(s, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv)));
	long begin = now_ms();
	DO(recv(s, buf, 10, 0));
	say_elapsed(begin, 100);
	DO(recv(s, buf, 10, MSG_PEEK));
	DO(read(s, buf, 1));
	struct timeval zero = {0, 0};
	DO(setsockopt(s, SOL_SOCKET, SO_RCVTIMEO, &zero, sizeof(zero)));
	pthread_t t = thread(send_later, &c);
	DO(recv(s, buf, 3, 0));
	join(t);
}

BEHAVIOUR(message_low_water)
{
	int c, s, four = 4;
	pair(&c, &s);
	DO(setsockopt(s, SOL_SOCKET, SO_RCVLOWAT, &four, sizeof(four)));
	text(c, s, "abc");
	say_mask("three", s);
	text(c, s, "d");
	await(s, POLLIN);
	say_mask("four", s);
	DO(recv(s, buf, 2, 0));
	say_mask("two left", s);
	DO(recv(s, buf, 2, 0));
}

/* As many as the mark: the kernel counts what is unread, and wakes nobody for less. */
static void *send_six_later(void *arg)
{
	let_sleep();
	send_all(*(int *)arg, "defghi", 6);
	return NULL;
}

BEHAVIOUR(message_low_water_blocks)
{
	int c, s, six = 6;
	pair(&c, &s);
	DO(setsockopt(s, SOL_SOCKET, SO_RCVLOWAT, &six, sizeof(six)));
	text(c, s, "abc");
	pthread_t t = thread(send_six_later, &c);
	DO(recv(s, buf, 100, 0));
	join(t);
}

BEHAVIOUR(message_low_water_dontwait)
{
	int c, s, six = 6;
	pair(&c, &s);
	DO(setsockopt(s, SOL_SOCKET, SO_RCVLOWAT, &six, sizeof(six)));
	text(c, s, "abc");
	DO(recv(s, buf, 100, MSG_DONTWAIT));
	DO(recv(s, buf, 100, MSG_DONTWAIT));
}

BEHAVIOUR(message_both_ways)
{
	int c, s;
	pair(&c, &s);
	for (int i = 0; i < 100; i++) {
		char b = (char)i, d = -1;
		send_all(c, &b, 1);
		recv_all(s, &d, 1);
		d++;
		send_all(s, &d, 1);
		recv_all(c, &b, 1);
		if (b != (char)(i + 1))
			say("round %d: %d", i, b);
	}
	say("hundred rounds");
}
