/* What each path of support_whole.h says of the same calls, beside the kernel's account of them, which is made first. */
#ifndef FLAT_TESTS_SUPPORT_ACCOUNT_H
#define FLAT_TESTS_SUPPORT_ACCOUNT_H

#include <sys/types.h>

/** Adds to the account. */
void account_say(const char *format, ...) __attribute__((format(printf, 1, 2)));
/** Adds what a call gave: its result, or the name of errno. */
void account_call(const char *what, ssize_t result);
/** Ends the account of that path: it must be the kernel's. Of the kernel: keeps it. */
void account_compare(const char *path);

#endif
