#include "offload/pairs.h"

#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/sys.h"

static int make(struct flat_pair *pair)
{
	struct stat st;
	socklen_t len = sizeof(pair->cookie);
	int fds[2];
	int err = flat_sys_socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds);
	if (err < 0)
		return err;
	pair->near = fds[0];
	pair->far = fds[1];
	pair->inode = FLAT_SYS2(SYS_fstat, fds[0], &st) == 0 ? st.st_ino : 0;
	pair->cookie = 0;
	(void)flat_sys_getsockopt(fds[0], SOL_SOCKET, SO_COOKIE, &pair->cookie, &len);
	return 0;
}

int flat_pairs_take(struct flat_pairs *p, struct flat_pair *out)
{
	if (p->n == 0)
		return make(out);
	*out = p->v[--p->n];
	return 0;
}

bool flat_pairs_fill(struct flat_pairs *p)
{
	if (p->n == FLAT_PAIRS_MAX || make(&p->v[p->n]) != 0)
		return false;
	p->n++;
	return true;
}

void flat_pairs_fini(struct flat_pairs *p)
{
	while (p->n > 0) {
		p->n--;
		close(p->v[p->n].near);
		close(p->v[p->n].far);
	}
}
