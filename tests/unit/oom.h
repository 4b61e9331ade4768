/*
 * malloc and its kin, replaced in the program that includes this: the allocation that `until_fail` names fails. What is
 * taken and not given back while `armed` is counted. Not under a sanitizer, whose malloc is its own (OWN_MALLOC 0).
 */
#ifndef FLAT_TESTS_UNIT_OOM_H
#define FLAT_TESTS_UNIT_OOM_H

#include <stdbool.h>
#include <stdlib.h>

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define OWN_MALLOC 0
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer) ||                         \
    __has_feature(memory_sanitizer)
#define OWN_MALLOC 0
#endif
#endif
#ifndef OWN_MALLOC
#define OWN_MALLOC 1
#endif

#if OWN_MALLOC

/* The build hides symbols; libyaml must find these. */
#define EXPORTED __attribute__((visibility("default")))

/* glibc's own, under the names it keeps for this purpose. */
void *__libc_malloc(size_t size);
void *__libc_calloc(size_t n, size_t size);
void *__libc_realloc(void *mem, size_t size);
void __libc_free(void *mem);

static bool armed;	/* the tested code runs, in this one thread */
static long until_fail; /* allocations that succeed before one fails; -1: all succeed */
static long n_calls;
static long n_live; /* blocks taken and not given back while armed */

static bool fails(void)
{
	if (!armed)
		return false;
	n_calls++;
	if (until_fail < 0)
		return false;
	return until_fail-- == 0;
}

EXPORTED void *malloc(size_t size)
{
	void *mem = fails() ? NULL : __libc_malloc(size);

	if (armed && mem)
		n_live++;
	return mem;
}

EXPORTED void *calloc(size_t n, size_t size)
{
	void *mem = fails() ? NULL : __libc_calloc(n, size);

	if (armed && mem)
		n_live++;
	return mem;
}

EXPORTED void *realloc(void *old, size_t size)
{
	void *mem = fails() ? NULL : __libc_realloc(old, size);

	if (armed && mem && !old)
		n_live++;
	return mem;
}

EXPORTED void free(void *mem)
{
	if (armed && mem)
		n_live--;
	__libc_free(mem);
}

#endif
#endif
