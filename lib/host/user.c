#include "host/user.h"

#include <errno.h>
#include <string.h>

#include "base/sys.h"

static int copy(long nr, void *mine, const void *theirs, size_t len)
{
	struct iovec local = {mine, len};
	struct iovec remote = {(void *)(uintptr_t)theirs, len};
	if (len == 0)
		return 0;
	if (!flat_user_possible(theirs, len))
		return -EFAULT;
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

int flat_user_put(void *to, const void *from, size_t len)
{
	return copy(SYS_process_vm_writev, (void *)(uintptr_t)from, to, len);
}

int flat_user_get(void *to, const void *from, size_t len)
{
	return copy(SYS_process_vm_readv, to, from, len);
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
