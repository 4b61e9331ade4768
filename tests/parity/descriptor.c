/* Descriptors as such: copies, flags, closing, streams of stdio, positions. */
#include <linux/close_range.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/syscall.h>

#include "parity.h"

static char buf[4096];

BEHAVIOUR(descriptor_dup)
{
	int c, s;
	pair(&c, &s);
	int d = (int)DO(dup(s));
	works("copy", c, d);
	DO(close(s));
	works("after close of the first", c, d);
	works("back", d, c);
	DO(send(s, "x", 1, 0));
	DO(close(d));
	await(c, POLLRDHUP);
	DO(recv(c, buf, 1, 0));
}

BEHAVIOUR(descriptor_dup2)
{
	int c, s, other = dup(1);
	pair(&c, &s);
	DO(dup2(s, other));
	works("over another", c, other);
	DO(dup2(s, s));
	DO(dup2(s, -1));
	DO(dup2(-1, s));
	DO(dup2(900, s));
	works("still", c, s);
	DO(dup2(1, s));
	DO(send(s, "x", 1, 0));
	works("other still", c, other);
	say("flags %d", fcntl(other, F_GETFD));
}

BEHAVIOUR(descriptor_dup2_ends_connection)
{
	int c, s, null = open("/dev/null", O_RDWR);
	pair(&c, &s);
	DO(dup2(null, s));
	await(c, POLLRDHUP);
	DO(recv(c, buf, 1, 0));
	DO(write(s, "to null", 7));
}

BEHAVIOUR(descriptor_dup3)
{
	int c, s, other = dup(1);
	pair(&c, &s);
	DO(dup3(s, other, O_CLOEXEC));
	say("flags %d", fcntl(other, F_GETFD));
	works("copy", c, other);
	DO(dup3(s, s, 0));
	DO(dup3(s, other, 5));
	DO(dup3(-1, other, 0));
	works("still", c, other);
}

BEHAVIOUR(descriptor_fcntl_dup)
{
	int c, s;
	pair(&c, &s);
	int d = (int)DO(fcntl(s, F_DUPFD, 40));
	works("copy", c, d);
	int e = (int)DO(fcntl(s, F_DUPFD_CLOEXEC, 40));
	say("flags %d %d", fcntl(d, F_GETFD), fcntl(e, F_GETFD));
	works("copy", c, e);
	DO(fcntl(s, F_DUPFD, -1));
	DO(fcntl(s, F_DUPFD, 100000000));
	DO(fcntl(s, 9999, 0));
}

BEHAVIOUR(descriptor_flags)
{
	int c, s;
	pair(&c, &s);
	say("%#x", (unsigned)fcntl(c, F_GETFL));
	DO(fcntl(c, F_SETFL, O_NONBLOCK));
	say("%#x", (unsigned)fcntl(c, F_GETFL));
	DO(fcntl(c, F_SETFL, O_NONBLOCK | O_APPEND));
	say("%#x", (unsigned)fcntl(c, F_GETFL));
	DO(fcntl(c, F_SETFL, 0));
	say("%#x", (unsigned)fcntl(c, F_GETFL));
	DO(fcntl(c, F_SETFD, FD_CLOEXEC));
	say("%d", fcntl(c, F_GETFD));
	DO(fcntl(c, F_SETFD, 0));
	DO(fcntl(c, F_GETFL, 0));
	DO(fcntl(c, F_GETLK, &(struct flock){.l_type = F_WRLCK}));
	DO(fcntl(c, F_GETPIPE_SZ));
	DO(fcntl(c, F_GET_SEALS));
}

BEHAVIOUR(descriptor_nonblock_shared_by_copies)
{
	int c, s;
	pair(&c, &s);
	int d = dup(s);
	set_nonblock(d);
	DO(recv(s, buf, 1, 0));
	DO(fcntl(s, F_SETFL, 0));
	say("%#x", (unsigned)fcntl(d, F_GETFL));
}

BEHAVIOUR(descriptor_flags_kept_over_connect)
{
	struct sockaddr_in a = where(0);
	int l = listener(0), c = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (connect(c, (struct sockaddr *)&a, sizeof(a)) == 0)
		say("connected at once");
	await(c, POLLOUT);
	say("%#x %d", (unsigned)fcntl(c, F_GETFL), fcntl(c, F_GETFD));
	DO(accept(l, NULL, NULL));
}

BEHAVIOUR(descriptor_file)
{
	int c, s;
	struct stat a, b;
	char path[64], target[64];
	pair(&c, &s);
	DO(fstat(c, &a));
	DO(fstat(s, &b));
	say("socket %d mode %o different %d", S_ISSOCK(a.st_mode), a.st_mode & 07777,
	    a.st_ino != b.st_ino);
	DO(isatty(c));
	DO(lseek(c, 0, SEEK_CUR));
	DO(ftruncate(c, 0));
	DO(fsync(c));
	DO(fchmod(c, 0600));
	(void)snprintf(path, sizeof(path), "/proc/self/fd/%d", c);
	ssize_t n = readlink(path, target, sizeof(target) - 1);
	target[n > 0 ? n : 0] = 0;
	say("a socket %d", strncmp(target, "socket:[", 8) == 0);
	DO(fallocate(c, 0, 0, 1));
	DO(posix_fadvise(c, 0, 0, 0));
	DO(mmap(NULL, 4096, PROT_READ, MAP_SHARED, c, 0) != MAP_FAILED);
}

BEHAVIOUR(descriptor_close_twice)
{
	int c, s;
	pair(&c, &s);
	DO(close(c));
	DO(close(c));
	DO(recv(c, buf, 1, 0));
	DO(send(c, buf, 1, 0));
	DO(fcntl(c, F_GETFL));
}

BEHAVIOUR(descriptor_number_is_reused)
{
	int c, s, d, t;
	pair(&c, &s);
	int first = c;
	close(c);
	close(s);
	pair(&d, &t);
	say("reused %d", d == first || t == first || d < 8);
	works("new one", d, t);
	close(d);
	int p[2];
	DO(pipe(p));
	DO(write(p[1], "x", 1));
	DO(read(p[0], buf, 1));
}

BEHAVIOUR(descriptor_close_range)
{
	int c, s;
	pair(&c, &s);
	int high = fcntl(c, F_DUPFD, 100);
	DO(close_range(100, 200, 0));
	DO(send(high, "x", 1, 0));
	works("the others", c, s);
	DO(close_range(5, 4, 0));
	DO(close_range(3, 200, 64));
	DO(close_range((unsigned)s, (unsigned)s, CLOSE_RANGE_CLOEXEC));
	say("flags %d", fcntl(s, F_GETFD));
	DO(close_range((unsigned)s, ~0U, 0));
	await(c, POLLRDHUP);
	DO(recv(c, buf, 1, 0));
}

BEHAVIOUR(descriptor_closefrom)
{
	int c, s;
	pair(&c, &s);
	int d = fcntl(s, F_DUPFD, 60);
	close(s);
	closefrom(50);
	DO(send(d, "x", 1, 0));
	await(c, POLLRDHUP);
	DO(recv(c, buf, 1, 0));
	/* And everything goes on. */
	int e, f;
	pair(&e, &f);
	works("new", e, f);
}

BEHAVIOUR(descriptor_close_all_then_connect)
{
	/* As daemons do: whatever is open above 2 is closed, one by one. */
	int c, s;
	pair(&c, &s);
	for (int fd = 3; fd < 1024; fd++)
		close(fd);
	pair(&c, &s);
	works("after closing all", c, s);
}

BEHAVIOUR(descriptor_stdio)
{
	int c, s;
	pair(&c, &s);
	FILE *in = fdopen(s, "r"), *out = fdopen(c, "w");
	DO(fprintf(out, "line %d\n", 1));
	DO(fflush(out));
	say("%d", fgets(buf, sizeof(buf), in) != NULL);
	say_bytes("line", buf, (ssize_t)strlen(buf));
	DO(dprintf(c, "line %d\n", 2));
	say("%d", fgets(buf, sizeof(buf), in) != NULL);
	say_bytes("line", buf, (ssize_t)strlen(buf));
	DO(fputs("last", out));
	DO(fclose(out));
	say("%d", fgets(buf, sizeof(buf), in) != NULL);
	say_bytes("line", buf, (ssize_t)strlen(buf));
	say("%d %d", fgets(buf, sizeof(buf), in) != NULL, feof(in));
	DO(fclose(in));
	DO(send(s, "x", 1, 0));
	int p[2];
	DO(pipe(p));
}

BEHAVIOUR(descriptor_stdio_read_write)
{
	int c, s;
	pair(&c, &s);
	FILE *f = fdopen(s, "r+");
	send_all(c, "question\n", 9);
	say("%d", fgets(buf, sizeof(buf), f) != NULL);
	say_bytes("got", buf, (ssize_t)strlen(buf));
	DO(fseek(f, 0, SEEK_CUR));
	DO(fputs("answer\n", f));
	DO(fflush(f));
	DO(recv(c, buf, 7, MSG_WAITALL));
	DO(fileno(f) == s);
	DO(fclose(f));
	await(c, POLLRDHUP);
	DO(recv(c, buf, 1, 0));
}

BEHAVIOUR(descriptor_fclose_reuses_number)
{
	int c, s;
	pair(&c, &s);
	FILE *f = fdopen(s, "w");
	DO(fclose(f));
	int d = (int)DO(dup(1));
	say("reused %d", d == s);
	DO(recv(c, buf, 1, 0));
}

BEHAVIOUR(descriptor_freopen)
{
	int c, s;
	pair(&c, &s);
	FILE *f = fdopen(s, "w");
	FILE *g = freopen("/dev/null", "w", f);
	say("%d", g != NULL);
	await(c, POLLRDHUP);
	DO(recv(c, buf, 1, 0));
}

static int scratch(const char *content)
{
	char path[] = "parity-XXXXXX";
	int fd = mkstemp(path);
	unlink(path);
	if (write(fd, content, strlen(content)) < 0)
		say("scratch");
	lseek(fd, 0, SEEK_SET);
	return fd;
}

BEHAVIOUR(descriptor_sendfile)
{
	int c, s;
	off_t at = 2;
	pair(&c, &s);
	int f = scratch("0123456789");
	DO(sendfile(c, f, NULL, 4));
	DO(lseek(f, 0, SEEK_CUR));
	DO(sendfile(c, f, &at, 3));
	say("at %ld position %ld", (long)at, (long)lseek(f, 0, SEEK_CUR));
	DO(sendfile(c, f, NULL, 100));
	DO(sendfile(c, f, NULL, 100));
	at = 100;
	DO(sendfile(c, f, &at, 5));
	at = -1;
	DO(sendfile(c, f, &at, 5));
	await_bytes(s, 13);
	ssize_t n = recv(s, buf, 100, 0);
	say_bytes("came", buf, n);
	DO(sendfile(c, f, NULL, 0));
}

BEHAVIOUR(descriptor_sendfile_errors)
{
	int c, s, p[2];
	pair(&c, &s);
	int f = scratch("0123456789");
	DO(pipe(p));
	DO(sendfile(c, s, NULL, 4));
	DO(sendfile(f, s, NULL, 4));
	DO(sendfile(c, p[0], &(off_t){0}, 4));
	DO(sendfile(c, -1, NULL, 4));
	DO(sendfile(-1, f, NULL, 4));
	DO(sendfile(c, f, (off_t *)-1L, 4));
	signal(SIGPIPE, SIG_IGN);
	DO(sendfile(tcp(0), f, NULL, 4) < 0);
	shutdown(c, SHUT_WR);
	DO(sendfile(c, f, NULL, 4));
}

BEHAVIOUR(descriptor_sendfile_large)
{
	int c, s;
	size_t total = 700000;
	pair(&c, &s);
	char path[] = "parity-XXXXXX";
	int f = mkstemp(path);
	unlink(path);
	if (ftruncate(f, (off_t)total) < 0)
		say("ftruncate");
	pid_t pid = fork();
	if (pid == 0) {
		close(s);
		size_t done = 0;
		while (done < total) {
			ssize_t n = sendfile(c, f, NULL, total - done);
			if (n <= 0)
				_exit(1);
			done += (size_t)n;
		}
		_exit(0);
	}
	say("came %zu", drain(s, total));
	reap(pid);
}

BEHAVIOUR(descriptor_splice)
{
	int c, s, p[2];
	pair(&c, &s);
	DO(pipe(p));
	send_all(c, "abcdef", 6);
	await_bytes(s, 6);
	DO(splice(s, NULL, p[1], NULL, 4, 0));
	DO(read(p[0], buf, 100));
	say_bytes("through", buf, 4);
	DO(splice(s, NULL, p[1], NULL, 100, 0));
	DO(splice(p[0], NULL, c, NULL, 100, 0));
	await_bytes(s, 2);
	DO(recv(s, buf, 10, 0));
	say_bytes("back", buf, 2);
	DO(splice(p[0], NULL, c, NULL, 100, SPLICE_F_NONBLOCK));
	DO(splice(s, NULL, p[1], NULL, 0, 0));
	close(c);
	await(s, POLLIN);
	DO(splice(s, NULL, p[1], NULL, 100, 0));
}

BEHAVIOUR(descriptor_splice_errors)
{
	int c, s, p[2];
	off64_t at = 0;
	pair(&c, &s);
	DO(pipe(p));
	DO(splice(c, NULL, s, NULL, 1, 0));
	DO(splice(s, &at, p[1], NULL, 1, 0));
	DO(splice(p[0], NULL, c, &at, 1, 0));
	DO(splice(-1, NULL, p[1], NULL, 1, 0));
	DO(splice(s, NULL, 1, NULL, 1, 0));
	DO(splice(s, NULL, p[1], NULL, 1, 0xff0));
	DO(splice(s, NULL, p[0], NULL, 1, SPLICE_F_NONBLOCK));
	DO(tee(s, p[1], 1, 0));
	DO(tee(p[0], c, 1, 0));
	DO(vmsplice(s, &(struct iovec){buf, 1}, 1, 0));
}

BEHAVIOUR(descriptor_copy_file_range)
{
	int c, s;
	pair(&c, &s);
	int f = scratch("0123456789");
	DO(copy_file_range(f, NULL, c, NULL, 4, 0));
	DO(copy_file_range(s, NULL, f, NULL, 4, 0));
}

BEHAVIOUR(descriptor_raw_calls)
{
	/* What libc's own syscall() function carries. */
	int c, s;
	pair(&c, &s);
	DO(syscall(SYS_write, c, "raw", 3));
	DO(syscall(SYS_read, s, buf, 3));
	say_bytes("read", buf, 3);
	DO(syscall(SYS_sendto, c, "more", 4, 0, NULL, 0));
	DO(syscall(SYS_recvfrom, s, buf, 4, MSG_WAITALL, NULL, NULL));
	say_bytes("recvfrom", buf, 4);
	DO(syscall(SYS_recvfrom, s, buf, 4, MSG_DONTWAIT, NULL, NULL));
	int d = (int)DO(syscall(SYS_dup, c));
	works("copy", d, s);
	DO(syscall(SYS_close, d));
	DO(syscall(SYS_shutdown, c, SHUT_WR));
	await(s, POLLRDHUP);
	DO(syscall(SYS_read, s, buf, 3));
	DO(syscall(SYS_close, s));
	await(c, POLLHUP);
}

BEHAVIOUR(descriptor_raw_connect)
{
	struct sockaddr_in a = where(0);
	int l = (int)DO(syscall(SYS_socket, AF_INET, SOCK_STREAM, 0));
	int one = 1;
	DO(syscall(SYS_setsockopt, l, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)));
	DO(syscall(SYS_bind, l, &a, sizeof(a)));
	DO(syscall(SYS_listen, l, 5));
	int c = (int)DO(syscall(SYS_socket, AF_INET, SOCK_STREAM, 0));
	DO(syscall(SYS_connect, c, &a, sizeof(a)));
	int s = (int)DO(syscall(SYS_accept4, l, NULL, NULL, SOCK_NONBLOCK));
	say("%#x", (unsigned)fcntl(s, F_GETFL));
	works("raw", c, s);
}

BEHAVIOUR_ALONE(descriptor_many_sockets)
{
	int n = 0;
	while (n < 200 && tcp(0) >= 0)
		n++;
	say("%d", n);
}

BEHAVIOUR_ALONE(descriptor_socket_errors)
{
	DO(socket(-1, SOCK_STREAM, 0));
	DO(socket(AF_INET, 77, 0));
	DO(socket(AF_INET, SOCK_STREAM, IPPROTO_UDP));
	DO(socket(AF_INET, SOCK_STREAM | 0x100, 0));
	DO(socket(AF_INET, SOCK_SEQPACKET, 0));
	DO(close((int)DO(socket(AF_INET, SOCK_STREAM, IPPROTO_TCP))));
	DO(close((int)DO(socket(AF_INET, SOCK_DGRAM, 0))));
	int p[2];
	DO(socketpair(AF_INET, SOCK_STREAM, 0, p));
	DO(socketpair(AF_UNIX, SOCK_STREAM, 0, p));
}

BEHAVIOUR(descriptor_limit)
{
	int c, s;
	pair(&c, &s);
	int used = 0, fd;
	while ((fd = dup(1)) >= 0)
		used++;
	say("%s", error_name(errno));
	works("full table", c, s);
	DO(dup(c));
	say("%d", used > 10);
}

static void watched_again(int removed)
{
	int c, s, e = epoll_create1(0);
	struct epoll_event ev = {.events = EPOLLIN | EPOLLOUT};
	pair(&c, &s);
	DO(epoll_ctl(e, EPOLL_CTL_ADD, s, &ev));
	int d = dup(s);
	if (removed)
		DO(epoll_ctl(e, EPOLL_CTL_DEL, s, &ev));
	close(s);
	say("the number again: %d", dup(d) == s);
	DO(epoll_ctl(e, EPOLL_CTL_ADD, s, &ev));
	DO(epoll_wait(e, &ev, 1, 0));
	send_all(c, "x", 1);
	await(s, POLLIN);
	DO(epoll_wait(e, &ev, 1, 0));
	say("events %x", ev.events);
}

BEHAVIOUR(descriptor_dup_watched_again)
{
	watched_again(1);
}

BEHAVIOUR(descriptor_dup_watched_still)
{
	watched_again(0);
}
