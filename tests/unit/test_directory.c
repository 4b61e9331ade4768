/* The directory's reign: readers know when the one who wrote it is gone, however that came about. */
#include <criterion/criterion.h>
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
