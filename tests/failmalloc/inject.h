/*
 * One failure at a time: the n-th allocation or resource-making system call of a thread fails, all others do what they do.
 *
 * Allocations are met by the linker (--wrap, tests/CMakeLists.txt), so that sanitizers keep their malloc. System calls are
 * met by seccomp's user notification, so that direct ones (base/sys.h) and those inside libc and liburing fail alike; a second
 * thread answers for the first. What a sanitizer's runtime asks for is left alone.
 */
#ifndef TESTS_FAILMALLOC_INJECT_H
#define TESTS_FAILMALLOC_INJECT_H

#include <stdbool.h>

/** Once per process, by the thread that is to meet failures: begins to watch it. 0, or a negative errno. */
int inject_begin(void);

/** From here on the `nth` (from 0) watched request fails; -1: none. Counts begin anew. */
void inject_arm(long nth);

/** No more failures. Returns whether the failure took place. */
bool inject_disarm(void);

/** Requests since inject_arm(). */
long inject_count(void);

/** The request that inject_arm() was last told to fail. */
long inject_target(void);

/** The failure took place (or did not) in a part that the scenario armed itself. */
void inject_note(bool took_place);

/** What failed: a name for messages. */
const char *inject_what(void);

/** Descriptors this process has open, without those of the injection. */
int inject_fds(void);

/** Mappings of memfds this process has. */
int inject_maps(void);

/** Blocks that the watched thread allocated since inject_begin(), less those that it freed. */
long inject_blocks(void);

/** One scenario: with the failure armed at `nth` runs body(arg), counts, reports. See each.c. */
typedef int inject_body(void *arg, char why[200]);

/**
 * Runs body in a process of its own for each request that it makes, failing one after the other; body must return 0: it saw
 * the failure as an error or did not need what failed, nothing is kept, and what it did worked afterwards. Prints
 * one PASS or FAIL line. `least`: failures that there must have been for the test to mean anything.
 */
void inject_each(const char *name, inject_body *body, void *arg, long least);

#endif
