/* Attacks on the memory itself, by its descriptors: rules 2 and 3. */
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "hostile.h"

static int begin(struct attack_env *env, uint32_t ip, struct raw_conn *c)
{
	int sock = raw_hello(env->control);
	if (sock < 0 || raw_connect(sock, ip, c) != 0 || raw_echo(c, 700) != 0)
		return wrong(env, "no connection to begin with");
	return 0;
}

static int resize(struct attack_env *env)
{
	struct raw_conn c;
	for (int i = 0; i < 2; i++) {
		if (begin(env, i ? DIRECT_IP : FORWARDED_IP, &c) != 0)
			return 1;
		if (ftruncate(c.lane_fd, 0) == 0 || ftruncate(c.lane_fd, 4096) == 0)
			return wrong(env, "the lane could be cut short");
		if (ftruncate(c.lane_fd, (off_t)c.lane.len_bytes + 4096) == 0 ||
		    fallocate(c.lane_fd, 0, (off_t)c.lane.len_bytes, 4096) == 0)
			return wrong(env, "the lane could be made longer");
		if (raw_echo(&c, 100) != 0)
			return wrong(env, "the connection broke by refused calls");
		raw_close(&c);
	}
	return 0;
}

/* Seals of the attacker's own choice: none may be taken off, and none may hurt a process that maps later. */
static int reseal(struct attack_env *env)
{
	struct raw_conn c;
	if (begin(env, FORWARDED_IP, &c) != 0)
		return 1;
	int seals = fcntl(c.lane_fd, F_GET_SEALS);
	if ((seals & (F_SEAL_SHRINK | F_SEAL_GROW)) != (F_SEAL_SHRINK | F_SEAL_GROW))
		return wrong(env, "seals are %x", (unsigned int)seals);
	(void)fcntl(c.lane_fd, F_ADD_SEALS, F_SEAL_FUTURE_WRITE);
	(void)fcntl(c.lane_fd, F_ADD_SEALS, F_SEAL_WRITE);
	if (raw_echo(&c, 100) != 0)
		return wrong(env, "the connection broke");
	raw_close(&c);
	return 0;
}

/* Memory that turns to zeros under the peer, again and again, while it carries bytes. */
static int punch(struct attack_env *env, uint32_t ip)
{
	struct raw_conn c;
	if (begin(env, ip, &c) != 0)
		return 1;
	for (int i = 0; i < 200; i++) {
		(void)!flat_ring_write(&c.vq.tx, "some bytes", 10);
		flat_vq_notify_data(&c.vq);
		(void)fallocate(c.lane_fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0,
				(off_t)c.lane.len_bytes);
		(void)madvise(c.lane.base, c.lane.len_bytes, MADV_REMOVE);
		(void)madvise(c.lane.base, c.lane.len_bytes, MADV_DONTNEED);
		(void)send(c.bell, "", 1, MSG_DONTWAIT | MSG_NOSIGNAL);
	}
	raw_close(&c);
	return 0;
}

static int punch_forwarded(struct attack_env *env)
{
	return punch(env, FORWARDED_IP);
}

static int punch_direct(struct attack_env *env)
{
	return punch(env, DIRECT_IP);
}

static int write_directory(struct attack_env *env)
{
	struct flat_msg msg;
	int fds[FLAT_MSG_FDS_MAX];
	size_t n = 0;
	char byte = 1;
	int sock = raw_join(env->control);
	flat_msg_init(&msg, FLAT_MSG_HELLO, 1);
	if (sock < 0 || raw_ask(sock, &msg, NULL, 0, fds, &n) != 0)
		return wrong(env, "no HELLO");
	int fd = flat_msg_fd(&msg, fds, FLAT_FD_DIRECTORY);
	size_t len = msg.body.hello.directory_len;
	if (mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0) != MAP_FAILED)
		return wrong(env, "the directory could be mapped for writing");
	char path[64];
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	int again = open(path, O_RDWR | O_CLOEXEC);
	if (again >= 0 &&
	    mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_SHARED, again, 0) != MAP_FAILED)
		return wrong(env, "the directory could be opened again and mapped for writing");
	if (pwrite(again >= 0 ? again : fd, &byte, 1, 0) == 1 || ftruncate(fd, 0) == 0 ||
	    fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 4096) == 0)
		return wrong(env, "the directory could be written");
	uint8_t *map = mmap(NULL, len, PROT_READ, MAP_SHARED, fd, 0);
	if (map == MAP_FAILED)
		return wrong(env, "the directory could not be read");
	if (mprotect(map, len, PROT_READ | PROT_WRITE) == 0 || madvise(map, len, MADV_REMOVE) == 0)
		return wrong(env, "the directory's mapping could be made writable");
	return 0;
}

const struct attack memory_attacks[] = {
    {"rule02-resize", resize, NULL},
    {"rule02-reseal", reseal, NULL},
    {"rule02-punch-forwarded", punch_forwarded, NULL},
    {"rule02-punch-direct", punch_direct, NULL},
    {"rule03-write-the-directory", write_directory, NULL},
    {NULL, NULL, NULL},
};
