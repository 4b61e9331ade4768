#include "support_account.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static char account[8192];
static char oracle[sizeof(account)];

void account_say(const char *format, ...)
{
	size_t len = strlen(account);
	va_list args;
	va_start(args, format);
	int n = vsnprintf(account + len, sizeof(account) - len, format, args);
	va_end(args);
	cr_assert(n >= 0 && (size_t)n < sizeof(account) - len);
}

void account_call(const char *what, ssize_t result)
{
	if (result < 0)
		account_say("%s: %s\n", what, strerrorname_np(errno));
	else
		account_say("%s: %zd\n", what, result);
}

void account_compare(const char *path)
{
	if (strcmp(path, "kernel") == 0)
		memcpy(oracle, account, sizeof(account));
	cr_expect_str_eq(account, oracle, "%s says:\n%sthe kernel:\n%s", path, account, oracle);
	account[0] = '\0';
}
