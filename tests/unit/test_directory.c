/* The directory: its reign (readers know when the one who wrote it is gone, however that came about), and listeners that come and go. */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "mesh/directory.h"

#define FIRST_ID 4711

static struct flat_directory_writer *made(void)
{
	struct flat_directory_writer *w = NULL;
	cr_assert_eq(flat_directory_create(&w, 65536), 0);
	return w;
}

static struct flat_directory mapped(const struct flat_directory_writer *w)
{
	struct flat_directory dir;
	cr_assert_eq(flat_directory_map(&dir, flat_directory_fd(w), flat_directory_len(w)), 0);
	return dir;
}

/* What comes of mapping one with these first words. */
static int map_of(uint64_t magic, uint32_t version)
{
	struct flat_directory dir;
	struct flat_directory_header header = {
	    .magic = magic, .version = version, .table_bytes = 4096};
	const size_t len = sizeof(header) + 2 * (size_t)header.table_bytes;
	int fd = memfd_create("directory", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	cr_assert_eq(ftruncate(fd, (off_t)len), 0);
	cr_assert_eq(pwrite(fd, &header, sizeof(header), 0), (ssize_t)sizeof(header));
	cr_assert_eq(fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK), 0);
	int err = flat_directory_map(&dir, fd, len);
	if (err == 0)
		flat_directory_unmap(&dir);
	close(fd);
	return err;
}

Test(directory, one_of_another_build_is_known_as_such)
{
	cr_expect_eq(map_of(FLAT_DIRECTORY_MAGIC, FLAT_DIRECTORY_VERSION), 0);
	cr_expect_eq(map_of(FLAT_DIRECTORY_MAGIC, FLAT_DIRECTORY_VERSION - 1), -EPROTONOSUPPORT);
	cr_expect_eq(map_of(FLAT_DIRECTORY_MAGIC, FLAT_DIRECTORY_VERSION + 1), -EPROTONOSUPPORT);
	cr_expect_eq(map_of(FLAT_DIRECTORY_MAGIC + 1, FLAT_DIRECTORY_VERSION), -EINVAL);
}

Test(directory, reign_begins_and_ends_with_its_writer)
{
	struct flat_directory_writer *w = made();
	cr_assert_eq(flat_directory_reign(w, FIRST_ID), 0);
	struct flat_directory dir = mapped(w);
	uint64_t begun = flat_directory_reign_word(&dir);
	cr_assert_eq(dir.first_id, FIRST_ID);
	cr_assert_not(flat_directory_over(begun));

	flat_directory_revoked(w);
	uint64_t revoked = flat_directory_reign_word(&dir);
	cr_assert_neq(revoked, begun);
	cr_assert_not(flat_directory_over(revoked));

	flat_directory_destroy(w);
	cr_assert(flat_directory_over(flat_directory_reign_word(&dir)));
	cr_assert_eq(flat_directory_reign_word(&dir) >> 32, revoked >> 32);
	flat_directory_unmap(&dir);
}

Test(directory, without_a_reign_it_is_over)
{
	struct flat_directory_writer *w = made();
	struct flat_directory dir = mapped(w);
	cr_assert(flat_directory_over(flat_directory_reign_word(&dir)));
	flat_directory_revoked(w);
	cr_assert(flat_directory_over(flat_directory_reign_word(&dir)));
	flat_directory_unmap(&dir);
	flat_directory_destroy(w);
}

/* Reigns in a process of its own over a directory that both map, until it is killed or exits. */
static void ends(void (*end)(void))
{
	int up[2];
	char byte;
	struct flat_directory_writer *w = made();
	struct flat_directory dir = mapped(w);
	cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, up), 0);
	pid_t pid = fork();
	cr_assert_geq(pid, 0);
	if (pid == 0) {
		byte = flat_directory_reign(w, FIRST_ID) == 0;
		if (write(up[1], &byte, 1) == 1)
			end();
		_exit(0);
	}
	cr_assert_eq(read(up[0], &byte, 1), 1);
	cr_assert_eq(byte, 1);
	cr_assert_eq(waitpid(pid, NULL, 0), pid);
	cr_assert(flat_directory_over(flat_directory_reign_word(&dir)));
	flat_directory_unmap(&dir);
	flat_directory_destroy(w);
	close(up[0]);
	close(up[1]);
}

static void by_kill(void)
{
	(void)kill(getpid(), SIGKILL);
}

static void by_exit(void)
{
	_exit(1);
}

static void by_exec(void)
{
	execl("/bin/true", "true", (char *)NULL);
}

Test(directory, reign_ends_with_a_killed_process)
{
	ends(by_kill);
}

Test(directory, reign_ends_with_exit)
{
	ends(by_exit);
}

Test(directory, reign_ends_with_exec)
{
	ends(by_exec);
}

static void *rule(void *w)
{
	cr_assert_eq(flat_directory_reign(w, FIRST_ID), 0);
	return NULL;
}

Test(directory, reign_is_one_thread_s)
{
	struct flat_directory_writer *w = made();
	struct flat_directory dir = mapped(w);
	pthread_t thread;
	cr_assert_eq(pthread_create(&thread, NULL, rule, w), 0);
	cr_assert_eq(pthread_join(thread, NULL), 0);
	cr_assert(flat_directory_over(flat_directory_reign_word(&dir)));
	flat_directory_unmap(&dir);
	flat_directory_destroy(w);
}

/* A name that not everybody sees is found as such; by its address it is what others are. */
Test(directory, a_veiled_name_is_marked)
{
	struct flat_directory_writer *w = NULL;
	struct flat_directory dir;
	const struct flat_addr a = {.family = AF_INET, .ip = {10, 0, 0, 1}};
	const struct flat_addr b = {.family = AF_INET, .ip = {10, 0, 0, 2}};
	const struct flat_directory_name names[] = {
	    {.host = "open.example", .addr = a},
	    {.host = "veiled.example", .addr = b, .veiled = true},
	};
	struct flat_addr got;
	char host[64];

	cr_assert_eq(flat_directory_create(&w, 65536), 0);
	cr_assert_eq(flat_directory_publish(w, NULL, 0, names, 2, 0), 0);
	cr_assert_eq(flat_directory_map(&dir, flat_directory_fd(w), flat_directory_len(w)), 0);
	cr_expect_eq(flat_directory_find_name(&dir, "Open.example.", &got), 0);
	cr_expect_eq(flat_directory_find_name(&dir, "Veiled.example.", &got),
		     FLAT_DIRECTORY_VEILED);
	cr_expect_eq(got.ip[3], 2);
	cr_expect_eq(flat_directory_find_host(&dir, &b, host, sizeof(host)), 0);
	cr_expect_str_eq(host, "veiled.example");
	flat_directory_unmap(&dir);
	flat_directory_destroy(w);
}

static struct flat_addr at(uint8_t last, uint16_t port)
{
	return (struct flat_addr){.family = AF_INET, .port = port, .ip = {127, 0, 0, last}};
}

static enum flat_directory_kind found(const struct flat_directory *dir, struct flat_addr addr)
{
	return flat_directory_find_addr(dir, &addr);
}

static int adds(struct flat_directory_writer *w, struct flat_addr addr)
{
	return flat_directory_add_listener(w, &addr);
}

static void removes(struct flat_directory_writer *w, struct flat_addr addr)
{
	flat_directory_remove_listener(w, &addr);
}

Test(directory, a_listener_is_found_from_its_begin_to_its_end)
{
	struct flat_directory_writer *w = made();
	struct flat_directory dir = mapped(w);
	uint64_t epoch = flat_directory_epoch(&dir);
	cr_expect_eq(found(&dir, at(1, 80)), FLAT_DIRECTORY_NONE);
	cr_assert_eq(adds(w, at(1, 80)), 0);
	cr_expect_neq(flat_directory_epoch(&dir), epoch);
	epoch = flat_directory_epoch(&dir);
	cr_expect_eq(found(&dir, at(1, 80)), FLAT_DIRECTORY_LISTENER);
	cr_expect_eq(found(&dir, at(2, 80)), FLAT_DIRECTORY_NONE);
	removes(w, at(1, 80));
	cr_expect_neq(flat_directory_epoch(&dir), epoch);
	cr_expect_eq(found(&dir, at(1, 80)), FLAT_DIRECTORY_NONE);
	flat_directory_unmap(&dir);
	flat_directory_destroy(w);
}

Test(directory, of_two_listeners_at_one_address_the_last_to_end_counts)
{
	struct flat_directory_writer *w = made();
	struct flat_directory dir = mapped(w);
	const struct flat_directory_addr services[] = {{at(1, 80), FLAT_DIRECTORY_SERVICE},
						       {at(1, 80), FLAT_DIRECTORY_LISTENER}};
	cr_assert_eq(flat_directory_publish(w, services, 2, NULL, 0, 0), 0);
	cr_assert_eq(adds(w, at(1, 80)), 0);
	removes(w, at(1, 80));
	cr_expect_eq(found(&dir, at(1, 80)), FLAT_DIRECTORY_LISTENER);
	removes(w, at(1, 80));
	cr_expect_eq(found(&dir, at(1, 80)), FLAT_DIRECTORY_SERVICE, "the service stays");
	removes(w, at(1, 80));
	cr_expect_eq(found(&dir, at(1, 80)), FLAT_DIRECTORY_SERVICE, "nobody listened");
	flat_directory_unmap(&dir);
	flat_directory_destroy(w);
}

Test(directory, a_listener_on_any_address_is_found_at_each)
{
	struct flat_directory_writer *w = made();
	struct flat_directory dir = mapped(w);
	struct flat_addr any4 = {.family = AF_INET, .port = 80};
	struct flat_addr any6 = {.family = AF_INET6, .port = 80};
	cr_assert_eq(adds(w, any4), 0);
	cr_assert_eq(adds(w, any6), 0);
	cr_expect_eq(found(&dir, at(7, 80)), FLAT_DIRECTORY_LISTENER);
	removes(w, any4);
	cr_expect_eq(found(&dir, at(7, 80)), FLAT_DIRECTORY_LISTENER);
	removes(w, any6);
	cr_expect_eq(found(&dir, at(7, 80)), FLAT_DIRECTORY_NONE);
	flat_directory_unmap(&dir);
	flat_directory_destroy(w);
}

#define STAY 100U

/* What stays, and one more. */
static void publish_again(struct flat_directory_writer *w, struct flat_addr last)
{
	struct flat_directory_addr v[STAY + 1];
	for (uint16_t i = 0; i < STAY; i++)
		v[i] =
		    (struct flat_directory_addr){at(1, (uint16_t)(1 + i)), FLAT_DIRECTORY_LISTENER};
	v[STAY] = (struct flat_directory_addr){last, FLAT_DIRECTORY_LISTENER};
	cr_assert_eq(flat_directory_publish(w, v, STAY + 1, NULL, 0, 0), 0);
}

/* One after the other, many times as many as there are buckets, beside some that stay: the whole is rarely published. */
Test(directory, listeners_one_after_the_other_are_found_and_need_little_room)
{
	struct flat_directory_writer *w = made();
	struct flat_directory dir = mapped(w);
	unsigned published = 0;
	publish_again(w, at(2, 999));
	for (uint16_t i = 0; i < 20000; i++) {
		uint16_t port = (uint16_t)(1000 + i);
		removes(w, at(2, (uint16_t)(port - 1)));
		if (adds(w, at(2, port)) != 0) {
			publish_again(w, at(2, port));
			published++;
		}
		cr_assert_eq(found(&dir, at(2, port)), FLAT_DIRECTORY_LISTENER);
		cr_assert_eq(found(&dir, at(2, (uint16_t)(port - 1))), FLAT_DIRECTORY_NONE);
		cr_assert_eq(found(&dir, at(1, (uint16_t)(1 + i % STAY))), FLAT_DIRECTORY_LISTENER);
	}
	/* Of 256 buckets 64 are to be used up before. */
	cr_expect_leq(published, 20000 / 64, "%u times", published);
	flat_directory_unmap(&dir);
	flat_directory_destroy(w);
}

Test(directory, a_listener_without_room_changes_nothing)
{
	struct flat_directory_writer *w = made();
	struct flat_directory dir = mapped(w);
	uint16_t n = 0;
	while (adds(w, at(1, (uint16_t)(1 + n))) == 0)
		n++;
	cr_expect_eq(n, 12, "three quarters of 16 buckets, not %u", n);
	cr_expect_eq(adds(w, at(1, 100)), -ENOSPC);
	cr_expect_eq(found(&dir, at(1, 100)), FLAT_DIRECTORY_NONE);
	cr_expect_eq(adds(w, at(1, 1)), 0, "its address is there");
	for (uint16_t i = 0; i < n; i++)
		cr_expect_eq(found(&dir, at(1, (uint16_t)(1 + i))), FLAT_DIRECTORY_LISTENER);
	flat_directory_unmap(&dir);
	flat_directory_destroy(w);
}
