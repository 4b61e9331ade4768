/*
 * A connection under the kernel's calls, as a program without the library has it: a carrier moves its bytes, which shows
 * nothing that the kernel's own connection does not show.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <flat/socket.h>
#include <flat/unstable/preload.h>

#include "host/host.h"
#include "support_whole.h"

#define BIG ((size_t)4 << 20)
#define STEP ((size_t)24 << 10)

/* Makes `fd` what exec would leave of it. */
static void carry(int fd, struct flat_handover *h)
{
	cr_assert_eq(flat_fcntl(fd, F_SETFD, 0), 0);
	flat_exec_prepare(0, h);
}

/* Waits until the kernel's `fd` has one of these, 10 s at most. */
static void await(int fd, short events)
{
	struct pollfd p = {.fd = fd, .events = events};
	cr_assert_eq(poll(&p, 1, 10000), 1, "no event %#x", (unsigned)events);
}

static void read_all(int fd, void *data, size_t len)
{
	for (size_t done = 0; done < len;) {
		await(fd, POLLIN);
		ssize_t n = read(fd, (char *)data + done, len - done);
		cr_assert_gt(n, 0, "read at %zu: %zd", done, n);
		done += (size_t)n;
	}
}

static uint8_t *pattern(void)
{
	uint8_t *bytes = malloc(BIG);
	cr_assert_not_null(bytes);
	for (size_t i = 0; i < BIG; i++)
		bytes[i] = (uint8_t)((i * 2654435761U) >> 13);
	return bytes;
}

/* More than all buffers between them hold: one that reads late gets all of it. */
static void late(const char *path, int from, ssize_t (*give)(int, const void *, size_t, int),
		 int to, void (*take)(int, void *, size_t))
{
	uint8_t *sent = pattern();
	uint8_t *got = calloc(1, BIG);
	size_t there = 0;
	for (size_t done = 0; done < BIG;) {
		ssize_t n = there < BIG
				? give(from, sent + there, BIG - there, MSG_DONTWAIT | MSG_NOSIGNAL)
				: -1;
		if (n > 0) {
			there += (size_t)n;
			continue;
		}
		size_t len = there - done < STEP ? there - done : STEP;
		cr_assert_gt(len, 0, "%s: no room, and nothing to read", path);
		take(to, got + done, len);
		done += len;
	}
	cr_expect_eq(memcmp(sent, got, BIG), 0, "%s", path);
	free(sent);
	free(got);
}

static void down(const char *path, int client, int server)
{
	struct flat_handover h = {0};
	carry(client, &h);
	late(path, server, flat_send, client, read_all);
}

Test(host_carrier, what_a_program_reads_late_it_reads_all)
{
	whole_on_each(down);
}

static void up(const char *path, int client, int server)
{
	struct flat_handover h = {0};
	carry(client, &h);
	late(path, client, send, server, whole_recv);
}

Test(host_carrier, what_a_program_writes_arrives)
{
	whole_on_each(up);
}

static void program_ends(const char *path, int client, int server)
{
	struct flat_handover h = {0};
	char buf[8] = {0};
	carry(client, &h);
	cr_assert_eq(write(client, "last", 4), 4, "%s: %m", path);
	cr_assert_eq(shutdown(client, SHUT_WR), 0, "%s: %m", path);
	whole_recv(server, buf, 4);
	cr_expect_eq(memcmp(buf, "last", 4), 0, "%s", path);
	(void)whole_poll(server, POLLIN);
	cr_expect_eq(flat_recv(server, buf, 1, 0), 0, "%s", path);
	/* The other way goes on. */
	whole_send(server, "still", 5);
	read_all(client, buf, 5);
	cr_expect_eq(memcmp(buf, "still", 5), 0, "%s", path);
	cr_assert_eq(flat_shutdown(server, SHUT_WR), 0, "%s: %m", path);
	await(client, POLLIN);
	cr_expect_eq(read(client, buf, 1), 0, "%s", path);
}

Test(host_carrier, a_program_shuts_one_way_down)
{
	whole_on_each(program_ends);
}

static void peer_ends(const char *path, int client, int server)
{
	struct flat_handover h = {0};
	char buf[8] = {0};
	carry(client, &h);
	whole_send(server, "bye", 3);
	cr_assert_eq(flat_shutdown(server, SHUT_WR), 0, "%s: %m", path);
	/* The end is behind the bytes, and does not come before they are read. */
	read_all(client, buf, 1);
	read_all(client, buf + 1, 2);
	cr_expect_str_eq(buf, "bye", "%s", path);
	await(client, POLLIN);
	cr_expect_eq(read(client, buf, 1), 0, "%s", path);
	cr_assert_eq(write(client, "ok", 2), 2, "%s: %m", path);
	whole_recv(server, buf, 2);
}

Test(host_carrier, an_end_comes_behind_the_bytes)
{
	whole_on_each(peer_ends);
}

static void peer_closes(const char *path, int client, int server)
{
	struct flat_handover h = {0};
	char c;
	carry(client, &h);
	flat_close(server);
	await(client, POLLIN);
	cr_expect_eq(read(client, &c, 1), 0, "%s: %m", path);
}

Test(host_carrier, the_peer_closes)
{
	whole_on_each(peer_closes);
}

/* The program had them within reach and left them: they are for whoever reads next. */
static void left(const char *path, int client, int server)
{
	struct flat_handover h = {0};
	char buf[8] = {0};
	carry(client, &h);
	whole_send(server, "abcdef", 6);
	read_all(client, buf, 2);
	cr_assert_eq(write(client, "one", 3), 3, "%s: %m", path);
	flat_exec_failed(&h);
	whole_recv(client, buf + 2, 4);
	cr_expect_str_eq(buf, "abcdef", "%s", path);
	whole_send(client, "two", 3);
	memset(buf, 0, sizeof(buf));
	whole_recv(server, buf, 6);
	cr_expect_str_eq(buf, "onetwo", "%s", path);
}

Test(host_carrier, what_a_program_leaves_is_read_by_the_next_one)
{
	whole_on_each(left);
}

/* A program and one with the library take turns on the same connection. */
static void turns(const char *path, int client, int server)
{
	struct flat_handover h = {0};
	char buf[8];
	int mine = flat_fcntl(client, F_DUPFD_CLOEXEC, 100);
	cr_assert_geq(mine, 0, "%s: %m", path);
	carry(client, &h);
	for (int i = 0; i < 8; i++) {
		memset(buf, 0, sizeof(buf));
		whole_send(server, "abcdef", 6);
		read_all(client, buf, 1);
		(void)whole_poll(mine, POLLIN);
		whole_recv(mine, buf + 1, 3);
		read_all(client, buf + 4, 2);
		cr_assert_str_eq(buf, "abcdef", "%s: turn %d", path, i);
		cr_assert_eq(write(client, "1", 1), 1, "%s: %m", path);
		whole_send(mine, "2", 1);
		whole_recv(server, buf, 2);
		cr_assert_eq(memcmp(buf, "12", 2), 0, "%s: turn %d: %.2s", path, i, buf);
	}
	/* The last holder is the end. */
	flat_exec_failed(&h);
	flat_close(client);
	whole_send(mine, "on", 2);
	whole_recv(server, buf, 2);
	flat_close(mine);
	(void)whole_poll(server, POLLIN);
	cr_expect_eq(flat_recv(server, buf, 1, 0), 0, "%s", path);
}

Test(host_carrier, a_program_and_another_holder_take_turns)
{
	whole_on_each(turns);
}

static void flags(const char *path, int client, int server)
{
	struct flat_handover h = {0};
	char c;
	(void)server;
	cr_assert_eq(flat_fcntl(client, F_SETFL, O_RDWR | O_NONBLOCK), 0, "%s", path);
	carry(client, &h);
	cr_expect(fcntl(client, F_GETFL) & O_NONBLOCK, "%s", path);
	cr_expect_eq(fcntl(client, F_GETFD), 0, "%s: it stays open over exec", path);
	cr_expect_eq(read(client, &c, 1), -1, "%s", path);
	cr_expect_eq(errno, EAGAIN, "%s: %m", path);
}

Test(host_carrier, flags_of_the_file_go_over)
{
	whole_on_each(flags);
}
