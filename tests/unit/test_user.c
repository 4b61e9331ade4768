/* Memory that the application named: what is there is copied, what is not is EFAULT. */
#include <criterion/criterion.h>
#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include "host/user.h"

#define PAGE 4096

/* Three pages: the middle one may be used as `prot` says, its neighbours not at all. */
static char *pages(int prot)
{
	char *at = mmap(NULL, 3UL * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	cr_assert_neq(at, MAP_FAILED);
	cr_assert_eq(mprotect(at + PAGE, PAGE, prot), 0);
	return at + PAGE;
}

Test(user, every_length_up_to_the_last_byte_of_a_page_is_copied)
{
	char *page = pages(PROT_READ | PROT_WRITE);
	char out[64];
	char in[64];
	memset(out, 0x5a, sizeof(out));
	for (size_t len = 1; len <= sizeof(in); len++) {
		memset(page, 0, PAGE);
		memset(in, 0, sizeof(in));
		cr_expect_eq(flat_user_put(page + PAGE - len, out, len), 0, "put %zu", len);
		cr_expect_eq(flat_user_get(in, page + PAGE - len, len), 0, "get %zu", len);
		cr_expect_eq(memcmp(in, out, len), 0, "bytes of %zu", len);
		cr_expect_eq(page[PAGE - len - 1], 0, "nothing before them");
		cr_expect_eq(flat_user_put(page, out, len), 0);
		cr_expect_eq(flat_user_get(in, page, len), 0);
		cr_expect_eq(page[len], 0, "nothing behind them");
	}
}

Test(user, a_range_that_ends_on_a_missing_page_is_efault)
{
	char *page = pages(PROT_READ | PROT_WRITE);
	char bytes[64] = {0};
	for (size_t len = 1; len <= sizeof(bytes); len++) {
		cr_expect_eq(flat_user_put(page + PAGE - len + 1, bytes, len), -EFAULT, "%zu", len);
		cr_expect_eq(flat_user_get(bytes, page + PAGE - len + 1, len), -EFAULT, "%zu", len);
		cr_expect_eq(flat_user_put(page - 1, bytes, len), -EFAULT, "%zu", len);
		cr_expect_eq(flat_user_get(bytes, page - 1, len), -EFAULT, "%zu", len);
	}
}

Test(user, what_may_only_be_read_is_not_written)
{
	char *page = pages(PROT_READ);
	char bytes[16];
	cr_expect_eq(flat_user_get(bytes, page, sizeof(bytes)), 0);
	cr_expect_eq(flat_user_put(page, bytes, sizeof(bytes)), -EFAULT);
	cr_expect_eq(flat_user_put(page, bytes, 1), -EFAULT);
}

Test(user, many_pages_are_looked_at_one_by_one)
{
	static char bytes[3 * PAGE];
	char *page = pages(PROT_READ | PROT_WRITE);
	cr_expect_eq(flat_user_get(bytes, page, PAGE), 0);
	cr_expect_eq(mprotect(page - PAGE, PAGE, PROT_READ | PROT_WRITE), 0);
	cr_expect_eq(mprotect(page + PAGE, PAGE, PROT_READ | PROT_WRITE), 0);
	cr_expect_eq(mprotect(page, PAGE, PROT_NONE), 0);
	cr_expect_eq(flat_user_get(bytes, page - PAGE, sizeof(bytes)), -EFAULT);
	cr_expect_eq(flat_user_put(page - PAGE, bytes, sizeof(bytes)), -EFAULT);
}

Test(user, nothing_is_copied_from_anywhere)
{
	cr_expect_eq(flat_user_get(NULL, NULL, 0), 0);
	cr_expect_eq(flat_user_put(NULL, NULL, 0), 0);
	cr_expect_eq(flat_user_get((char[4]){0}, NULL, 4), -EFAULT);
}
