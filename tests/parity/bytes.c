/* Bytes by the less usual calls: looks that wait, vectors, pipes, files, marks of progress. */
#include <sys/sendfile.h>
#include <sys/socket.h>

#include "parity.h"

static char buf[65536];

static void *more_later(void *arg)
{
	let_sleep();
	send_all(*(int *)arg, "defgh", 5);
	return NULL;
}

BEHAVIOUR(bytes_peek_waits_for_all)
{
	int c, s;
	pair(&c, &s);
	send_all(c, "abc", 3);
	await_bytes(s, 3);
	pthread_t t = thread(more_later, &c);
	DO(recv(s, buf, 6, MSG_PEEK | MSG_WAITALL));
	say_bytes("seen", buf, 6);
	join(t);
	await_bytes(s, 8);
	DO(recv(s, buf, 100, 0));
}

BEHAVIOUR(bytes_peek_all_ends)
{
	int c, s;
	pair(&c, &s);
	send_all(c, "abc", 3);
	await_bytes(s, 3);
	shutdown(c, SHUT_WR);
	DO(recv(s, buf, 6, MSG_PEEK | MSG_WAITALL));
	DO(recv(s, buf, 6, MSG_WAITALL));
}

BEHAVIOUR(bytes_peek_all_timeout)
{
	int c, s;
	struct timeval tv = {0, 60000};
	pair(&c, &s);
	DO(setsockopt(s, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv)));
	send_all(c, "abc", 3);
	await_bytes(s, 3);
	DO(recv(s, buf, 6, MSG_PEEK | MSG_WAITALL));
	DO(recv(s, buf, 6, MSG_WAITALL));
	DO(recv(s, buf, 6, MSG_PEEK));
}

BEHAVIOUR(bytes_peek_into_vector)
{
	int c, s;
	char a[3] = "", b[4] = "";
	struct iovec v[2] = {{a, 2}, {b, 3}};
	struct msghdr m = {.msg_iov = v, .msg_iovlen = 2};
	pair(&c, &s);
	send_all(c, "abcdefg", 7);
	await_bytes(s, 7);
	DO(recvmsg(s, &m, MSG_PEEK));
	say("%s %s", a, b);
	DO(recvmsg(s, &m, 0));
	say("%s %s", a, b);
	DO(recv(s, buf, 100, 0));
}

BEHAVIOUR(bytes_trunc_counts)
{
	int c, s;
	pair(&c, &s);
	send_all(c, "abcdefg", 7);
	await_bytes(s, 7);
	memset(buf, '-', 8);
	DO(recv(s, buf, 3, MSG_TRUNC));
	say_bytes("untouched", buf, 3);
	DO(recv(s, NULL, 2, MSG_TRUNC));
	DO(recv(s, buf, 10, MSG_DONTWAIT));
	say_bytes("rest", buf, 2);
}

BEHAVIOUR(bytes_waitall_vector)
{
	int c, s;
	struct iovec v[3] = {{buf, 2}, {buf + 10, 0}, {buf + 20, 6}};
	struct msghdr m = {.msg_iov = v, .msg_iovlen = 3};
	pair(&c, &s);
	send_all(c, "abc", 3);
	pthread_t t = thread(more_later, &c);
	DO(recvmsg(s, &m, MSG_WAITALL));
	say_bytes("second", buf + 20, 6);
	join(t);
}

BEHAVIOUR(bytes_splice_through)
{
	int c, s, p[2];
	pair(&c, &s);
	DO(pipe(p));
	send_all(c, "through a pipe", 14);
	await_bytes(s, 14);
	DO(splice(s, NULL, p[1], NULL, 7, 0));
	DO(splice(s, NULL, p[1], NULL, 100, SPLICE_F_MOVE | SPLICE_F_MORE));
	set_nonblock(s);
	DO(splice(s, NULL, p[1], NULL, 100, SPLICE_F_NONBLOCK));
	DO(splice(p[0], NULL, s, NULL, 14, 0));
	DO(recv(c, buf, 14, MSG_WAITALL));
	say_bytes("back", buf, 14);
	close(c);
	await(s, POLLRDHUP);
	DO(splice(s, NULL, p[1], NULL, 100, 0));
}

BEHAVIOUR(bytes_tee_and_vmsplice)
{
	int c, s, p[2], q[2];
	struct iovec v = {"teapot", 6};
	pair(&c, &s);
	DO(pipe(p));
	DO(pipe(q));
	DO(vmsplice(p[1], &v, 1, 0));
	DO(tee(p[0], q[1], 6, 0));
	DO(splice(p[0], NULL, c, NULL, 6, 0));
	DO(splice(q[0], NULL, c, NULL, 6, 0));
	DO(recv(s, buf, 12, MSG_WAITALL));
	say_bytes("twice", buf, 12);
	DO(tee(s, q[1], 6, 0));
	DO(tee(p[0], c, 6, 0));
	DO(vmsplice(c, &v, 1, 0));
	DO(splice(c, NULL, s, NULL, 6, 0));
}

BEHAVIOUR(bytes_splice_full_socket)
{
	/* What the socket has no room for stays in the pipe. */
	int c, s, p[2];
	pair(&c, &s);
	DO(pipe(p));
	set_nonblock(c);
	size_t full = fill(c);
	DO(write(p[1], "kept", 4));
	DO(splice(p[0], NULL, c, NULL, 4, SPLICE_F_NONBLOCK));
	say("drained %d", drain(s, full) == full);
	await(c, POLLOUT);
	DO(splice(p[0], NULL, c, NULL, 4, SPLICE_F_NONBLOCK));
	DO(recv(s, buf, 4, MSG_WAITALL));
	say_bytes("came", buf, 4);
}

BEHAVIOUR(bytes_splice_full_pipe)
{
	int c, s, p[2];
	pair(&c, &s);
	DO(pipe(p));
	DO(fcntl(p[1], F_SETPIPE_SZ, 4096) > 0);
	memset(buf, 'x', 4096);
	DO(write(p[1], buf, 4096));
	send_all(c, "more", 4);
	await_bytes(s, 4);
	DO(splice(s, NULL, p[1], NULL, 4, SPLICE_F_NONBLOCK));
	DO(read(p[0], buf, 4096));
	DO(splice(s, NULL, p[1], NULL, 4, SPLICE_F_NONBLOCK));
	DO(recv(s, buf, 4, MSG_DONTWAIT));
}

static int file_with(size_t n)
{
	char name[] = "/tmp/parity.XXXXXX";
	int f = mkstemp(name);
	unlink(name);
	memset(buf, 'f', sizeof(buf));
	for (size_t i = 0; i < n; i += sizeof(buf))
		(void)!write(f, buf, n - i < sizeof(buf) ? n - i : sizeof(buf));
	lseek(f, 0, SEEK_SET);
	return f;
}

BEHAVIOUR(bytes_sendfile_nonblocking)
{
	int c, s, f = file_with((size_t)16 << 20);
	off_t at = 0;
	size_t sent = 0;
	pair(&c, &s);
	set_nonblock(c);
	ssize_t n;
	while ((n = sendfile(c, f, &at, (size_t)16 << 20)) > 0)
		sent += (size_t)n;
	say("%zd %s, offset is what was sent: %d", n, error_name(n < 0 ? errno : 0),
	    at == (off_t)sent);
	say("some %d, not all %d", sent > 0, sent < (size_t)16 << 20);
	say("drained %d", drain(s, sent) == sent);
}

BEHAVIOUR(bytes_sendfile_past_end)
{
	int c, s, f = file_with(100);
	off_t at = 90;
	pair(&c, &s);
	DO(sendfile(c, f, &at, 1000));
	say("at %ld", (long)at);
	DO(sendfile(c, f, &at, 1000));
	DO(lseek(f, 0, SEEK_CUR));
	DO(sendfile(c, f, NULL, 60));
	DO(lseek(f, 0, SEEK_CUR));
	DO(recv(s, buf, 70, MSG_WAITALL));
}

BEHAVIOUR(bytes_sendmmsg_partly)
{
	int c, s;
	struct iovec v[3] = {{"ab", 2}, {bad_address, 2}, {"ef", 2}};
	struct mmsghdr m[3];
	memset(m, 0, sizeof(m));
	for (int i = 0; i < 3; i++) {
		m[i].msg_hdr.msg_iov = &v[i];
		m[i].msg_hdr.msg_iovlen = 1;
	}
	v[1].iov_base = (void *)-1L;
	pair(&c, &s);
	DO(sendmmsg(c, m, 3, 0));
	say("lengths %u", m[0].msg_len);
	DO(sendmmsg(c, m + 1, 2, 0));
	DO(sendmmsg(c, m + 2, 1, 0));
	DO(recv(s, buf, 4, MSG_WAITALL));
	say_bytes("came", buf, 4);
	DO(sendmmsg(c, m, 0, 0));
}

BEHAVIOUR(bytes_recvmmsg_waitforone)
{
	int c, s;
	struct iovec v[3] = {{buf, 2}, {buf + 10, 2}, {buf + 20, 2}};
	struct mmsghdr m[3];
	struct timespec ts = {0, 50000000};
	memset(m, 0, sizeof(m));
	for (int i = 0; i < 3; i++) {
		m[i].msg_hdr.msg_iov = &v[i];
		m[i].msg_hdr.msg_iovlen = 1;
	}
	pair(&c, &s);
	send_all(c, "abc", 3);
	await_bytes(s, 3);
	DO(recvmmsg(s, m, 3, MSG_WAITFORONE, NULL));
	say("%u %u", m[0].msg_len, m[1].msg_len);
	DO(recvmmsg(s, m, 3, MSG_DONTWAIT, &ts));
	send_all(c, "abcdef", 6);
	await_bytes(s, 6);
	DO(recvmmsg(s, m, 3, 0, &ts));
}

BEHAVIOUR(bytes_pwritev2_flags)
{
	int c, s;
	struct iovec v = {buf, 2};
	pair(&c, &s);
	DO(preadv2(s, &v, 1, -1, RWF_NOWAIT));
	DO(pwritev2(c, &v, 1, -1, RWF_NOWAIT));
	DO(pwritev2(c, &v, 1, -1, RWF_DSYNC));
	DO(pwritev2(c, &v, 1, -1, 0x4000));
	DO(pwritev2(c, &v, 1, 5, 0));
	DO(preadv2(s, &v, -1, -1, 0));
	await_bytes(s, 4);
	DO(preadv2(s, &v, 1, -1, RWF_HIPRI));
}

BEHAVIOUR(bytes_waiting_in_both)
{
	int c, s, n = -1;
	pair(&c, &s);
	send_all(c, "12345", 5);
	await_bytes(s, 5);
	DO(ioctl(s, FIONREAD, &n));
	say("%d", n);
	DO(ioctl(c, FIONREAD, &n));
	say("%d", n);
	DO(recv(s, buf, 2, 0));
	DO(ioctl(s, FIONREAD, &n));
	say("%d", n);
	shutdown(c, SHUT_WR);
	await(s, POLLRDHUP);
	DO(ioctl(s, FIONREAD, &n));
	say("after the end %d", n);
}

BEHAVIOUR(bytes_one_by_one)
{
	int c, s, wrong = 0;
	pair(&c, &s);
	for (int i = 0; i < 3000; i++) {
		char b = (char)i, d = 0;
		send_all(c, &b, 1);
		wrong += recv(s, &d, 1, 0) != 1 || d != b;
	}
	say("wrong %d", wrong);
}

BEHAVIOUR(bytes_cork)
{
	int c, s, one = 1, zero = 0;
	pair(&c, &s);
	DO(setsockopt(c, IPPROTO_TCP, TCP_CORK, &one, sizeof(one)));
	send_all(c, "ab", 2);
	send_all(c, "cd", 2);
	DO(setsockopt(c, IPPROTO_TCP, TCP_CORK, &zero, sizeof(zero)));
	DO(recv(s, buf, 4, MSG_WAITALL));
	say_bytes("came", buf, 4);
}

BEHAVIOUR(bytes_linger_and_shutdown)
{
	int c, s;
	struct linger l = {1, 1};
	pair(&c, &s);
	DO(setsockopt(c, SOL_SOCKET, SO_LINGER, &l, sizeof(l)));
	send_all(c, "last words", 10);
	DO(shutdown(c, SHUT_WR));
	DO(close(c));
	DO(recv(s, buf, 100, MSG_WAITALL));
	say_bytes("came", buf, 10);
}

BEHAVIOUR(bytes_fortified)
{
	/* What programs built with _FORTIFY_SOURCE call. */
	ssize_t __read_chk(int fd, void *to, size_t n, size_t size);
	ssize_t __recv_chk(int fd, void *to, size_t n, size_t size, int flags);
	ssize_t __recvfrom_chk(int fd, void *to, size_t n, size_t size, int flags, void *addr,
			       socklen_t *len);
	int __poll_chk(struct pollfd * fds, nfds_t n, int timeout, size_t size);
	int c, s;
	pair(&c, &s);
	send_all(c, "abcdef", 6);
	await_bytes(s, 6);
	struct pollfd p = {s, POLLIN, 0};
	DO(__poll_chk(&p, 1, 1000, sizeof(p)));
	DO(__read_chk(s, buf, 2, sizeof(buf)));
	DO(__recv_chk(s, buf, 2, sizeof(buf), 0));
	DO(__recvfrom_chk(s, buf, 2, sizeof(buf), 0, NULL, NULL));
	pid_t pid = fork();
	if (pid == 0) {
		fclose(stderr);
		(void)__recv_chk(s, buf, 20, 10, 0);
		_exit(0);
	}
	reap(pid);
}

/* One that is asked for `len` bytes, and says of each whether one call brought it whole. */
struct vectors {
	int fd, rounds;
	ssize_t len;
};

static void *answer_vectors(void *arg)
{
	const struct vectors *v = arg;
	static char got[65536];
	long cut = 0;
	for (int i = 0; i < v->rounds; i++) {
		ssize_t n = recv(v->fd, got, sizeof(got), 0);
		cut += n != v->len;
		while (n > 0 && n < v->len)
			n += recv(v->fd, got, (size_t)(v->len - n), MSG_WAITALL);
		send(v->fd, "", 1, MSG_NOSIGNAL);
	}
	return (void *)cut;
}

static void send_vectors(const struct iovec *iov, int n, ssize_t len, int rounds)
{
	struct vectors v = {.rounds = rounds, .len = len};
	pthread_t t;
	void *cut;
	char answer;
	int c;
	pair(&c, &v.fd);
	pthread_create(&t, NULL, answer_vectors, &v);
	for (int i = 0; i < rounds; i++) {
		if (writev(c, iov, n) != len || recv(c, &answer, 1, 0) != 1)
			say("failed");
	}
	pthread_join(t, &cut);
	say("cut: %ld", (long)cut);
}

BEHAVIOUR(bytes_short_vector_comes_whole)
{
	char part[3][20] = {{0}};
	const struct iovec iov[3] = {{part[0], 20}, {part[1], 20}, {part[2], 20}};
	send_vectors(iov, 3, 60, 1000);
}

/* EventMachine sends so: sixteen pieces of 1 KiB. */
BEHAVIOUR(bytes_longer_vector_comes_whole)
{
	static char part[16][1024];
	struct iovec iov[16];
	for (int i = 0; i < 16; i++)
		iov[i] = (struct iovec){part[i], sizeof(part[i])};
	send_vectors(iov, 16, sizeof(part), 1000);
}

/* Each byte in its place, also where pieces are empty or the ring is full. */
BEHAVIOUR(bytes_vectors_in_order)
{
	static char out[1 << 20], in[1 << 20];
	const size_t cuts[] = {0, 1, 0, 5000, 70000, 70000, 300000, 300001, 300002, 1000000};
	const int n = (int)(sizeof(cuts) / sizeof(cuts[0]));
	struct iovec iov[sizeof(cuts) / sizeof(cuts[0]) + 2];
	int c, s;
	pair(&c, &s);
	for (size_t i = 0; i < sizeof(out); i++)
		out[i] = (char)(i * 2654435761U >> 13);
	size_t at = 0;
	for (int i = 0; i < n; i++) {
		size_t end = cuts[i] > at ? cuts[i] : at;
		iov[i] = (struct iovec){out + at, end - at};
		at = end;
	}
	iov[n] = (struct iovec){out + at, sizeof(out) - at};
	pid_t pid = fork();
	if (pid == 0) {
		/* sent by the child, read by us */
		_exit(writev(c, iov, n + 1) == (ssize_t)sizeof(out) ? 0 : 1);
	}
	say("%zd", recv(s, in, sizeof(in), MSG_WAITALL));
	say("same: %d", memcmp(in, out, sizeof(in)) == 0);
	reap(pid);
}
