/*
 * A flatd of a test's own, and looks at processes from outside: for the programs of tests/kill, tests/hostile and
 * tests/stress. Single-threaded; whatever cannot go on ends the program with a FAIL line.
 */
#ifndef TESTS_SUPPORT_FLATD_H
#define TESTS_SUPPORT_FLATD_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/base.h"

/** flatd, its folder and files. The folder goes with test_flatd_fini(). */
struct test_flatd {
	pid_t pid; /* 0: not running */
	char dir[64];
	char control[96];
	char config[96];
	char log[96]; /* its standard error, appended to by each start */
};

/** What a process holds, as /proc shows it. */
struct test_held {
	int fds;
	int memfds;  /* of those: memory of libflat */
	int lanes;   /* of those: lanes */
	int sockets; /* of fds */
	int mapped;  /* lanes mapped */
	long rss_kib;
};

/** Makes the folder and the configuration `yaml`. */
void test_flatd_init(struct test_flatd *f, const char *yaml);

/** Starts the flatd of this program's build folder; returns when it serves. */
void test_flatd_start(struct test_flatd *f);

/** Sends `sig` and waits for the end. Returns the wait status. */
int test_flatd_end(struct test_flatd *f, int sig);

/** Ends flatd if it runs, removes the folder. `keep_log`: prints the end of the log first. */
void test_flatd_fini(struct test_flatd *f, bool keep_log);

/** Whether flatd's log has a line that holds both texts; `from`: byte where to begin. */
bool test_log_has(const struct test_flatd *f, long from, const char *one, const char *two);

/** Length of the log now. */
long test_log_len(const struct test_flatd *f);

/** A sanitizer's report in the log: its first line in `line`. */
bool test_log_report(const struct test_flatd *f, char *line, size_t size);

/** What `pid` holds. False: no such process. */
bool test_held(pid_t pid, struct test_held *held);

/** This program's build folder. Valid for ever. */
const char *test_build_dir(void);

/** Monotonic time, ms. */
int64_t test_now_ms(void);

/** Sleeps that long, ms: between looks. */
void test_pause_ms(int ms);

/** Looks every few ms until check(arg) holds. False: it did not within `limit_ms`. */
FLAT_MUST_CHECK bool test_until(bool (*check)(void *arg), void *arg, int limit_ms);

/** A TCP port of 127.0.0.1 that nobody has at this moment. */
uint16_t test_free_port(void);

/** `len` zeroed bytes that forked processes share. */
void *test_shared(size_t len);

/** xorshift64*. */
uint64_t test_random(uint64_t *state);

/** A PASS or FAIL line `AREA/NAME: text`; counts failures. */
void test_result(bool passed, const char *name, const char *fmt, ...) FLAT_PRINTF(3, 4);

/** Failures so far. */
int test_failures(void);

/** Ends the program with a FAIL line: the machine, not the code, is in the way. */
void test_die(const char *what) FLAT_NORETURN;

#endif
