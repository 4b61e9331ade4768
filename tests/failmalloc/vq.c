/* lib/vq, base and the directory: every allocation and resource-making system call failing in turn. */
#include "vq/vq.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "flatd.h"
#include "inject.h"
#include "mesh/directory.h"
#include "vq/attach.h"

static const struct flat_lane_geometry geo = {16, 4096, 65536};

/* Nothing is kept of what was done between inject_arm() and now. */
static int kept(const char *when, int fds, int maps, char why[200])
{
	if (inject_fds() == fds && inject_maps() == maps && inject_blocks() == 0)
		return 0;
	snprintf(why, 200, "%s: %d descriptors, %d maps, %ld blocks more than before", when,
		 inject_fds() - fds, inject_maps() - maps, inject_blocks());
	return 1;
}

static int make_lane(void)
{
	struct flat_lane lane;
	int fd = flat_lane_create(&geo, 1);
	if (fd < 0)
		return fd;
	int err = flat_lane_map(&lane, fd, &geo, 1);
	if (err == 0)
		err = flat_lane_seal(fd);
	flat_lane_unmap(&lane);
	close(fd);
	return err;
}

static int lane_body(void *arg, char why[200])
{
	int fds = inject_fds();
	int maps = inject_maps();
	(void)arg;
	int err = make_lane();
	if (err > 0 || (err < 0 && err != -ENOMEM && err != -EMFILE && err != -ENOSPC)) {
		snprintf(why, 200, "%d is no error of memory or descriptors", err);
		return 1;
	}
	if (kept("after the failure", fds, maps, why) != 0)
		return 1;
	bool hit = inject_disarm();
	if (hit != (err != 0)) {
		snprintf(why, 200, "the failure was %s, the result is %d",
			 hit ? "made" : "not made", err);
		return 1;
	}
	return make_lane();
}

static int send_fds(void)
{
	struct flat_msg msg;
	int pair[2];
	int fds[FLAT_MSG_FDS_MAX];
	size_t n = 0;
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) != 0)
		return -errno;
	flat_msg_init(&msg, FLAT_MSG_ACCEPT, 0);
	msg.fds = FLAT_FD_ANCHOR | FLAT_FD_BELL;
	int err = flat_msg_send(pair[0], &msg, (int[]){pair[0], pair[1]}, 2, MSG_DONTWAIT);
	if (err == 0)
		err = flat_msg_recv(pair[1], &msg, fds, &n, MSG_DONTWAIT);
	flat_msg_close_fds(fds, n);
	close(pair[0]);
	close(pair[1]);
	return err;
}

static int message_body(void *arg, char why[200])
{
	int fds = inject_fds();
	int maps = inject_maps();
	(void)arg;
	int err = send_fds();
	if (kept("after the failure", fds, maps, why) != 0)
		return 1;
	if (inject_disarm() != (err != 0)) {
		snprintf(why, 200, "the result is %d", err);
		return 1;
	}
	return send_fds();
}

static int use_directory(void)
{
	struct flat_directory_writer *w = NULL;
	struct flat_directory dir;
	struct flat_addr addr = {.family = AF_INET, .port = 7, .ip = {10, 0, 0, 1}};
	const struct flat_directory_addr addrs[] = {{.addr = addr, .kind = FLAT_DIRECTORY_SERVICE}};
	const struct flat_directory_name names[] = {{.host = "a.example", .addr = addr}};
	int err = flat_directory_create(&w, 65536);
	if (err != 0)
		return err;
	err = flat_directory_publish(w, addrs, 1, names, 1, 0);
	if (err == 0)
		err = flat_directory_map(&dir, flat_directory_fd(w), flat_directory_len(w));
	if (err == 0) {
		if (flat_directory_find_addr(&dir, &addr) != FLAT_DIRECTORY_SERVICE)
			err = -ENOENT;
		flat_directory_unmap(&dir);
	}
	flat_directory_destroy(w);
	return err;
}

static int directory_body(void *arg, char why[200])
{
	int fds = inject_fds();
	int maps = inject_maps();
	(void)arg;
	int err = use_directory();
	if (kept("after the failure", fds, maps, why) != 0)
		return 1;
	if (inject_disarm() != (err != 0)) {
		snprintf(why, 200, "the result is %d", err);
		return 1;
	}
	return use_directory();
}

int main(void)
{
	setvbuf(stdout, NULL, _IOLBF, 0);
	inject_each("failmalloc/lane", lane_body, NULL, 5);
	inject_each("failmalloc/message", message_body, NULL, 1);
	inject_each("failmalloc/directory", directory_body, NULL, 5);
	return test_failures() > 0;
}
