#include "host/user.h"

#include <errno.h>
#include <string.h>

#include "base/sys.h"

/*
 * Whether the kernel finds the words at both ends of a range readable, or writable. It is asked with the cheapest calls
 * that look at four or eight bytes of a caller's memory: a tenth of what process_vm_readv() costs. A range that lies on two
 * pages at the most is known by its ends. rt_sigprocmask() reads the new set before it finds that there is no such way to
 * change it; getcpu() writes where our caller is about to write.
 */
#define NO_SUCH_WAY (-1)

/* Of the smallest pages: one answer holds for a whole page. */
#define PAGE 4096

static bool one_page(uintptr_t first, uintptr_t last)
{
	return first / PAGE == last / PAGE;
}

static bool readable(const void *at, size_t len)
{
	/* An aligned word does not cross a page: what is looked at beside the range is on its pages. */
	uintptr_t first = (uintptr_t)at & ~(uintptr_t)7;
	uintptr_t last = ((uintptr_t)at + len - 1) & ~(uintptr_t)7;
	return FLAT_SYS4(SYS_rt_sigprocmask, NO_SUCH_WAY, first, NULL, 8) != -EFAULT &&
	       (one_page(first, last) ||
		FLAT_SYS4(SYS_rt_sigprocmask, NO_SUCH_WAY, last, NULL, 8) != -EFAULT);
}

static bool writable(void *at, size_t len)
{
	char *last = (char *)at + len - 4;
	return FLAT_SYS3(SYS_getcpu, at, NULL, NULL) != -EFAULT &&
	       (one_page((uintptr_t)at, (uintptr_t)at + len - 1) ||
		FLAT_SYS3(SYS_getcpu, last, NULL, NULL) != -EFAULT);
}

/* Of any length. */
static int copy(long nr, void *mine, const void *theirs, size_t len)
{
	struct iovec local = {mine, len};
	struct iovec remote = {(void *)(uintptr_t)theirs, len};
	long n = FLAT_SYS6(nr, flat_sys_getpid(), &local, 1, &remote, 1, 0);
	if (n == (long)len)
		return 0;
	/* A filter of system calls forbids it: then as any library would. */
	if (n == -EPERM || n == -ENOSYS || n == -EACCES) {
		if (nr == SYS_process_vm_readv)
			memcpy(mine, theirs, len);
		else
			memcpy((void *)(uintptr_t)theirs, mine, len);
		return 0;
	}
	return -EFAULT;
}

/* Bytes that lie on two pages at the most. */
#define FEW PAGE

int flat_user_put(void *to, const void *from, size_t len)
{
	if (len == 0)
		return 0;
	if (!flat_user_possible(to, len))
		return -EFAULT;
	if (len < 4 || len > FEW)
		return copy(SYS_process_vm_writev, (void *)(uintptr_t)from, to, len);
	if (!writable(to, len))
		return -EFAULT;
	memcpy(to, from, len);
	return 0;
}

int flat_user_get(void *to, const void *from, size_t len)
{
	if (len == 0)
		return 0;
	if (!flat_user_possible(from, len))
		return -EFAULT;
	if (len > FEW)
		return copy(SYS_process_vm_readv, to, from, len);
	if (!readable(from, len))
		return -EFAULT;
	memcpy(to, from, len);
	return 0;
}

int flat_user_give(void *to, socklen_t *len, const void *from, size_t size)
{
	socklen_t have;
	int err = flat_user_get(&have, len, sizeof(have));
	if (err != 0)
		return err;
	if ((int)have < 0)
		return -EINVAL;
	if (have > size)
		have = (socklen_t)size;
	err = flat_user_put(to, from, have);
	return err ? err : flat_user_put(len, &have, sizeof(have));
}

int flat_user_give_addr(void *to, socklen_t *len, const void *from, size_t size)
{
	socklen_t have;
	socklen_t whole = (socklen_t)size;
	int err = flat_user_get(&have, len, sizeof(have));
	if (err != 0)
		return err;
	if ((int)have < 0)
		return -EINVAL;
	err = flat_user_put(to, from, have < whole ? have : whole);
	return err ? err : flat_user_put(len, &whole, sizeof(whole));
}
