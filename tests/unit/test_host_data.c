/* Bytes on flat sockets of one process, by each path, beside the kernel's: what holds for one holds for all. */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/errqueue.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include <flat/socket.h>

#include "base/limits.h"
#include "host/host.h"
#include "support_whole.h"

#define BIG ((size_t)3 << 20)
#define STEP ((size_t)48 << 10)

static uint8_t *pattern(size_t len)
{
	uint8_t *bytes = malloc(len);
	cr_assert_not_null(bytes);
	for (size_t i = 0; i < len; i++)
		bytes[i] = (uint8_t)((i * 2654435761U) >> 13);
	return bytes;
}

static void carries(const char *path, int client, int server)
{
	uint8_t *sent = pattern(BIG);
	uint8_t *got = calloc(1, BIG);
	for (size_t at = 0; at < BIG; at += STEP) {
		size_t len = BIG - at < STEP ? BIG - at : STEP;
		whole_send(client, sent + at, len);
		whole_recv(server, got + at, len);
		whole_send(server, got + at, 1);
		whole_recv(client, got + at, 1);
	}
	cr_expect_eq(memcmp(sent, got, BIG), 0, "%s", path);
	free(sent);
	free(got);
}

Test(host_data, bytes_arrive_in_their_order)
{
	whole_on_each(carries);
}

static void flags(const char *path, int client, int server)
{
	char buf[16] = {0};
	int n = -1;
	cr_expect_eq(flat_recv(server, buf, 1, MSG_DONTWAIT), -1, "%s", path);
	cr_expect_eq(errno, EAGAIN, "%s", path);
	whole_send(client, "abcdef", 6);
	(void)whole_poll(server, POLLIN);
	cr_expect_eq(flat_recv(server, buf, 3, MSG_PEEK), 3, "%s", path);
	cr_expect_eq(memcmp(buf, "abc", 3), 0, "%s", path);
	cr_expect_eq(flat_ioctl(server, FIONREAD, &n), 0, "%s", path);
	cr_expect_eq(n, 6, "%s: %d", path, n);
	/* Thrown away, not copied. */
	cr_expect_eq(flat_recv(server, buf, 2, MSG_TRUNC), 2, "%s", path);
	cr_expect_eq(flat_recv(server, buf, 4, MSG_WAITALL), 4, "%s", path);
	cr_expect_eq(memcmp(buf, "cdef", 4), 0, "%s: %.4s", path, buf);
	cr_expect_eq(flat_send(client, NULL, 0, 0), 0, "%s", path);
	cr_expect_eq(flat_recv(server, buf, 0, MSG_DONTWAIT), -1, "%s", path);
	cr_expect_eq(errno, EAGAIN, "%s: none, but nothing is there", path);
	cr_expect_eq(flat_send(client, (void *)8, 4, 0), -1, "%s", path);
	cr_expect_eq(errno, EFAULT, "%s", path);
}

Test(host_data, flags_of_one_call)
{
	whole_on_each(flags);
}

static void vectors(const char *path, int client, int server)
{
	char a[4] = {0};
	char b[8] = {0};
	char text[] = "one two";
	struct iovec out[3] = {{text, 2}, {text, 0}, {text + 2, 5}};
	struct iovec in[2] = {{a, 3}, {b, 5}};
	struct mmsghdr many[2] = {{.msg_hdr = {.msg_iov = out, .msg_iovlen = 1}},
				  {.msg_hdr = {.msg_iov = out + 2, .msg_iovlen = 1}}};
	cr_expect_eq(flat_writev(client, out, 3), 7, "%s", path);
	cr_expect_eq(flat_send(client, ".", 1, 0), 1, "%s", path);
	whole_recv(server, a, 3);
	cr_expect_eq(memcmp(a, "one", 3), 0, "%s", path);
	in[0].iov_len = 1;
	in[1].iov_len = 4;
	for (int left = 5; left > 0;) {
		ssize_t n = flat_readv(server, in, 2);
		cr_assert(n > 0 && n <= left, "%s: %zd", path, n);
		left -= (int)n;
		in[0].iov_len = 0;
		in[1].iov_base = b + (4 - left);
		in[1].iov_len = (size_t)left;
	}
	cr_expect(a[0] == ' ' && memcmp(b, "two.", 4) == 0, "%s: %c%.4s", path, a[0], b);
	cr_expect_eq(flat_sendmmsg(client, many, 2, 0), 2, "%s", path);
	cr_expect(many[0].msg_len == 2 && many[1].msg_len == 5, "%s", path);
	memset(b, 0, sizeof(b));
	whole_recv(server, b, 7);
	cr_expect_eq(memcmp(b, "one two", 7), 0, "%s: %.7s", path, b);
	out[1] = (struct iovec){b, (size_t)-1};
	cr_expect_eq(flat_writev(client, out, 2), -1, "%s", path);
	cr_expect_eq(errno, EINVAL, "%s: %m", path);
}

Test(host_data, vectors_and_several_messages)
{
	whole_on_each(vectors);
}

/* A file of `len` bytes, open for reading. */
static int file_of(const uint8_t *bytes, size_t len)
{
	char name[96];
	snprintf(name, sizeof(name), "%s/file-XXXXXX", whole_dir());
	int fd = mkostemp(name, O_CLOEXEC);
	cr_assert_geq(fd, 0);
	cr_assert_eq(write(fd, bytes, len), (ssize_t)len);
	cr_assert_eq(lseek(fd, 0, SEEK_SET), 0);
	return fd;
}

static void files(const char *path, int client, int server)
{
	uint8_t *bytes = pattern(STEP);
	uint8_t *got = calloc(1, STEP);
	int file = file_of(bytes, STEP);
	off_t at = 100;
	cr_expect_eq(flat_sendfile(client, file, &at, 50), 50, "%s", path);
	cr_expect_eq(at, 150, "%s", path);
	cr_expect_eq(lseek(file, 0, SEEK_CUR), 0, "%s: the file's own place stays", path);
	whole_recv(server, got, 50);
	cr_expect_eq(memcmp(got, bytes + 100, 50), 0, "%s", path);
	/* More than there is. */
	size_t sent = 0;
	for (ssize_t n = 1; n > 0; sent += (size_t)n) {
		n = flat_sendfile(client, file, NULL, STEP + 1000);
		cr_assert_geq(n, 0, "%s: %m", path);
	}
	cr_expect_eq(sent, STEP, "%s: %zu", path, sent);
	whole_recv(server, got, STEP);
	cr_expect_eq(memcmp(got, bytes, STEP), 0, "%s", path);
	at = -1;
	cr_expect_eq(flat_sendfile(client, file, &at, 1), -1, "%s", path);
	cr_expect_eq(errno, EINVAL, "%s: %m", path);
	close(file);
	cr_expect_eq(flat_sendfile(client, file, NULL, 1), -1, "%s", path);
	cr_expect_eq(errno, EBADF, "%s: %m", path);
	free(bytes);
	free(got);
}

Test(host_data, files_are_sent)
{
	whole_on_each(files);
}

static void splices(const char *path, int client, int server)
{
	char buf[8] = {0};
	int pipes[2];
	cr_assert_eq(pipe2(pipes, O_CLOEXEC), 0);
	whole_send(client, "spliced", 7);
	(void)whole_poll(server, POLLIN);
	cr_expect_eq(flat_splice(server, NULL, pipes[1], NULL, 100, 0), 7, "%s: %m", path);
	cr_expect_eq(flat_splice(pipes[0], NULL, server, NULL, 7, 0), 7, "%s: %m", path);
	whole_recv(client, buf, 7);
	cr_expect_str_eq(buf, "spliced", "%s", path);
	off_t at = 0;
	cr_expect_eq(flat_splice(server, &at, pipes[1], NULL, 1, 0), -1, "%s", path);
	cr_expect_eq(errno, EINVAL, "%s: %m", path);
	close(pipes[0]);
	close(pipes[1]);
}

Test(host_data, pipes_are_filled_and_emptied)
{
	whole_on_each(splices);
}

static void zerocopy(const char *path, int client, int server)
{
	static char bytes[9000];
	uint32_t told = 0;
	int on = 1;
	cr_expect_eq(flat_send(client, bytes, 1, MSG_ZEROCOPY), 1, "%s: not asked for, no matter",
		     path);
	cr_assert_eq(flat_setsockopt(client, SOL_SOCKET, SO_ZEROCOPY, &on, sizeof(on)), 0, "%s",
		     path);
	for (int i = 0; i < 3; i++)
		cr_expect_eq(flat_send(client, bytes, sizeof(bytes), MSG_ZEROCOPY),
			     (ssize_t)sizeof(bytes), "%s: %m", path);
	for (int i = 0; i < 3; i++)
		whole_recv(server, bytes, sizeof(bytes));
	whole_recv(server, bytes, 1);
	while (told < 3) {
		char control[128];
		struct msghdr msg = {.msg_control = control, .msg_controllen = sizeof(control)};
		struct sock_extended_err ee;
		cr_expect(whole_poll(client, POLLERR) & POLLERR, "%s", path);
		cr_assert_eq(flat_recvmsg(client, &msg, MSG_ERRQUEUE), 0, "%s: %m", path);
		struct cmsghdr *head = CMSG_FIRSTHDR(&msg);
		cr_assert(head && head->cmsg_level == IPPROTO_IP && head->cmsg_type == IP_RECVERR,
			  "%s", path);
		memcpy(&ee, CMSG_DATA(head), sizeof(ee));
		cr_expect(ee.ee_origin == SO_EE_ORIGIN_ZEROCOPY &&
			      ee.ee_code == SO_EE_CODE_ZEROCOPY_COPIED && ee.ee_errno == 0,
			  "%s", path);
		cr_assert(ee.ee_info == told && ee.ee_data >= told && ee.ee_data < 3, "%s: %u-%u",
			  path, ee.ee_info, ee.ee_data);
		told = ee.ee_data + 1;
	}
	struct msghdr none = {0};
	cr_expect_eq(flat_recvmsg(client, &none, MSG_ERRQUEUE), -1, "%s", path);
	cr_expect_eq(errno, EAGAIN, "%s: %m", path);
}

Test(host_data, completions_of_zero_copy_are_told_once)
{
	whole_on_each(zerocopy);
}

/* One byte there and taken, `n` times; how many small receives in a row the receiver has seen then. */
static uint32_t pieces(int client, int server, uint32_t n)
{
	char buf[16];
	for (uint32_t i = 0; i < n; i++) {
		whole_send(client, "x", 1);
		(void)whole_poll(server, POLLIN);
		cr_assert_eq(flat_recv(server, buf, sizeof(buf), 0), 1);
	}
	return atomic_load(&flat_fd_sock(server)->gather.run);
}

/* Tried after a run of small pieces, and, since no more came, after twice as many; never where each has its answer. */
static void gathers(const char *path, int client, int server)
{
	char byte;
	if (!flat_fd_sock(server))
		return;
	whole_send(server, "y", 1);
	whole_recv(client, &byte, 1);
	cr_expect_eq(pieces(client, server, FLAT_GATHER_RUN), FLAT_GATHER_RUN, "%s", path);
	cr_expect_eq(pieces(client, server, 1), 1, "%s", path);
	cr_expect_eq(atomic_load(&flat_fd_sock(server)->gather.after), 1, "%s", path);
	cr_expect_eq(pieces(client, server, 2 * FLAT_GATHER_RUN - 1), 2 * FLAT_GATHER_RUN, "%s",
		     path);
	cr_expect_eq(pieces(client, server, 1), 1, "%s", path);
	cr_expect_eq(pieces(client, server, FLAT_GATHER_RUN), FLAT_GATHER_RUN + 1, "%s", path);
	whole_send(server, "y", 1);
	whole_recv(client, &byte, 1);
	cr_expect_eq(pieces(client, server, 0), 0, "%s", path);
}

Test(host_data, pieces_one_way_are_gathered_if_that_pays)
{
	whole_on_each(gathers);
}
