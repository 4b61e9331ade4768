#include "offload/capture_hook.h"

#include <bpf/bpf.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* The kernel takes 64 programs at one cgroup and hook. */
#define ATTACHED_MAX 64
#define MAPS_MAX 8

int flat_capture_load(const struct flat_capture_hook *hook, const struct bpf_insn *code, size_t n,
		      char *why, size_t size)
{
	char log[2048] = "";
	struct bpf_prog_load_opts opts = {
	    .sz = sizeof(opts),
	    .expected_attach_type = hook->at,
	    .log_level = 1,
	    .log_buf = log,
	    .log_size = sizeof(log),
	};
	int fd = bpf_prog_load(hook->type, hook->name, "libflat", code, n, &opts);
	/* A log that is too short for what the kernel has to say is no reason to refuse a program. */
	if (fd == -ENOSPC) {
		struct bpf_prog_load_opts quiet = {.sz = sizeof(quiet),
						   .expected_attach_type = hook->at};
		fd = bpf_prog_load(hook->type, hook->name, "libflat", code, n, &quiet);
	}
	if (fd < 0)
		snprintf(why, size, "the kernel does not take the program %s: %s; %.300s",
			 hook->name, strerror(-fd), log);
	return fd;
}

int flat_capture_find(int dir, const struct flat_capture_hook *hook)
{
	uint32_t ids[ATTACHED_MAX];
	uint32_t n = ATTACHED_MAX;
	int err = bpf_prog_query(dir, hook->at, 0, NULL, ids, &n);
	for (uint32_t i = 0; err == 0 && i < n; i++) {
		struct bpf_prog_info info = {0};
		uint32_t len = sizeof(info);
		int fd = bpf_prog_get_fd_by_id(ids[i]);
		if (fd < 0)
			continue;
		if (bpf_obj_get_info_by_fd(fd, &info, &len) == 0 &&
		    strcmp(info.name, hook->name) == 0)
			return fd;
		close(fd);
	}
	return err != 0 ? err : -ENOENT;
}

int flat_capture_map_of(int program, const char *name, uint32_t key, uint32_t value)
{
	uint32_t ids[MAPS_MAX] = {0};
	struct bpf_prog_info info = {.nr_map_ids = MAPS_MAX, .map_ids = (uintptr_t)ids};
	uint32_t len = sizeof(info);
	if (bpf_obj_get_info_by_fd(program, &info, &len) != 0)
		return -ENOENT;
	for (uint32_t i = 0; i < info.nr_map_ids && i < MAPS_MAX; i++) {
		struct bpf_map_info map = {0};
		len = sizeof(map);
		int fd = bpf_map_get_fd_by_id(ids[i]);
		if (fd < 0)
			continue;
		if (bpf_obj_get_info_by_fd(fd, &map, &len) == 0 && strcmp(map.name, name) == 0 &&
		    map.key_size == key && map.value_size == value)
			return fd;
		close(fd);
	}
	return -ENOENT;
}

int flat_capture_attach(int dir, const struct flat_capture_hook *hook, int program)
{
	struct bpf_prog_attach_opts opts = {.sz = sizeof(opts), .flags = BPF_F_ALLOW_MULTI};
	int earlier = flat_capture_find(dir, hook);
	if (earlier >= 0) {
		opts.flags |= BPF_F_REPLACE;
		opts.replace_prog_fd = earlier;
	}
	int err = bpf_prog_attach_opts(program, dir, hook->at, &opts);
	if (earlier >= 0)
		close(earlier);
	return err;
}

int flat_capture_remove(int dir, const struct flat_capture_hook *hook)
{
	int fd = flat_capture_find(dir, hook);
	if (fd < 0)
		return fd == -ENOENT ? 0 : fd;
	int err = bpf_prog_detach2(fd, dir, hook->at);
	close(fd);
	return err != 0 ? err : 1;
}

int flat_capture_know_pids(struct maker *m, char *why, size_t size)
{
	/* PROC_PID_INIT_INO (include/linux/proc_ns.h): the namespace that the kernel counts in. */
	const ino_t first = 0xeffffffc;
	int err = stat("/proc/self/ns/pid", &m->pid_namespace) == 0 ? 0 : -errno;
	m->pids = m->pid_namespace.st_ino == first ? PIDS_GLOBAL : PIDS_NAMESPACE;
	if (err != 0)
		snprintf(why, size, "/proc/self/ns/pid: %s", strerror(-err));
	return err;
}
