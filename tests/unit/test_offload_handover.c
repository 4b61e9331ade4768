/* What a successor takes: from whom, and whose listeners they are then. The predecessor is a child of the test's. */
#include <criterion/criterion.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "offload/handover.h"
#include "support_mesh.h"

static struct flat_offload o;
static struct loaded loaded;
static char folder[64];
static char control[80];
static pid_t predecessor;

static void init(void)
{
	TAILQ_INIT(&o.sessions);
	TAILQ_INIT(&o.ghosts);
	TAILQ_INIT(&o.listeners);
	TAILQ_INIT(&o.conns);
	cr_assert_eq(flat_loop_init(&o.loop), 0);
	loaded = load_good("");
	o.mesh = loaded.mesh;
	cr_assert_eq(flat_directory_create(&o.directory, 1U << 20), 0);
}

static void setup(void)
{
	snprintf(folder, sizeof(folder), "/tmp/flat-unit-handover.XXXXXX");
	cr_assert_not_null(mkdtemp(folder));
	cr_assert_eq(chmod(folder, 0777), 0);
	snprintf(control, sizeof(control), "%s/control", folder);
}

static void teardown(void)
{
	char path[96];
	if (predecessor > 0)
		cr_expect_eq(waitpid(predecessor, NULL, 0), predecessor);
	snprintf(path, sizeof(path), "%s.admin", control);
	(void)unlink(path);
	(void)rmdir(folder);
}

TestSuite(handover, .init = setup, .fini = teardown, .timeout = 60);

static int tcp_listener(struct flat_addr *addr)
{
	struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t len = sizeof(at);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (bind(fd, (struct sockaddr *)&at, sizeof(at)) != 0 || listen(fd, 1) != 0 ||
	    getsockname(fd, (struct sockaddr *)&at, &len) != 0 ||
	    flat_addr_from_sockaddr(addr, (struct sockaddr *)&at, len) != 0)
		_exit(2);
	return fd;
}

/* A listener of a process of which this is known. */
static void add(struct flat_session *s, pid_t pid, const char *exe, uint64_t id)
{
	struct flat_listener *l = calloc(1, sizeof(*l));
	int pair[2];
	s->pid = pid;
	s->pidfd = -1;
	s->exe = (char *)(uintptr_t)exe;
	s->cgroup = (char *)(uintptr_t) "0::/x\n";
	if (!l || socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) != 0)
		_exit(2);
	l->session = s;
	l->id = id;
	l->inode = flat_inode(pair[0]);
	l->cookie = flat_cookie(pair[0]);
	l->anchor.fd = pair[1];
	l->tcp.fd = tcp_listener(&l->addr);
	flat_listener_enlist(&o, l);
}

/* Serves one successor, as this user, and stays until it lets go. */
static void serve(uid_t uid)
{
	static struct flat_session s[3];
	struct sockaddr_un un = {.sun_family = AF_UNIX};
	char line[16];
	int ready[2];
	cr_assert_eq(pipe(ready), 0);
	predecessor = fork();
	cr_assert_geq(predecessor, 0);
	if (predecessor > 0) {
		cr_assert_eq(close(ready[1]), 0);
		cr_assert_eq(read(ready[0], line, 1), 1);
		close(ready[0]);
		return;
	}
	snprintf(un.sun_path, sizeof(un.sun_path), "%s.admin", control);
	int admin = socket(AF_UNIX, SOCK_STREAM, 0);
	if (setresuid(uid, uid, uid) != 0 || bind(admin, (struct sockaddr *)&un, sizeof(un)) != 0 ||
	    listen(admin, 1) != 0)
		_exit(2);
	init();
	o.control.fd = admin;
	add(&s[0], 77, "/one", 1);
	add(&s[1], 77, "/other", 2);
	add(&s[2], 77, "/one", 3);
	if (write(ready[1], "x", 1) != 1)
		_exit(2);
	int fd = accept(admin, NULL, NULL);
	if (recv(fd, line, sizeof(line), 0) == 9 && flat_handover_give(&o, fd) == 0)
		(void)!recv(fd, line, sizeof(line), 0);
	_exit(0);
}

Test(handover, listeners_of_two_processes_with_one_number_are_two_peoples)
{
	struct flat_handover *h = NULL;
	const struct flat_listener *v[3] = {NULL};
	const struct flat_listener *l;
	serve(geteuid());
	init();
	cr_assert_eq(flat_handover_ask(&h, control), 0);
	cr_assert_eq(flat_handover_listeners(h, &o), 0);
	TAILQ_FOREACH(l, &o.listeners, link)
	{
		cr_assert(l->id >= 1 && l->id <= 3);
		v[l->id - 1] = l;
	}
	cr_assert(v[0] && v[1] && v[2]);
	cr_expect_str_eq(v[0]->session->exe, "/one");
	cr_expect_str_eq(v[1]->session->exe, "/other");
	cr_expect_eq(v[0]->session, v[2]->session);
	cr_expect_neq(v[0]->cookie, 0);
	cr_expect_neq(v[0]->cookie, v[1]->cookie);
	flat_handover_drop(h);
}

Test(handover, nothing_is_taken_from_another_user)
{
	struct flat_handover *h = NULL;
	if (geteuid() != 0)
		cr_skip_test("not root");
	serve(65534);
	cr_expect_eq(flat_handover_ask(&h, control), -EACCES);
	cr_expect_null(h);
}
