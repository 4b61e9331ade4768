/* Programs and maps of confined workloads as the kernel keeps them: loaded, attached to a cgroup, found again by a later flatd. */
#ifndef FLAT_OFFLOAD_CAPTURE_HOOK_H
#define FLAT_OFFLOAD_CAPTURE_HOOK_H

#include <linux/bpf.h>

#include "offload/capture_code.h"

struct flat_capture_hook {
	const char *name; /* BPF_OBJ_NAME_LEN - 1 at most: how a later flatd finds it */
	enum bpf_prog_type type;
	enum bpf_attach_type at;
};

/** Loads a program. Its descriptor, or a negative errno: then `why` says what the kernel has against it. */
FLAT_MUST_CHECK int flat_capture_load(const struct flat_capture_hook *hook,
				      const struct bpf_insn *code, size_t n, char *why,
				      size_t size);
/** Our program at a hook of the cgroup `dir`, by its name: a descriptor, or a negative errno; -ENOENT: there is none. */
FLAT_MUST_CHECK int flat_capture_find(int dir, const struct flat_capture_hook *hook);
/** The map that a program has under this name; -ENOENT: none, or of another shape. */
FLAT_MUST_CHECK int flat_capture_map_of(int program, const char *name, uint32_t key,
					uint32_t value);
/** Attaches a program to the cgroup `dir`, in the place of ours that is there. 0 or a negative errno. */
FLAT_MUST_CHECK int flat_capture_attach(int dir, const struct flat_capture_hook *hook, int program);
/** Takes ours away from a hook. 1, 0 (there was none) or a negative errno. */
FLAT_MUST_CHECK int flat_capture_remove(int dir, const struct flat_capture_hook *hook);
/** Which helper tells a pid that means something here: m->pids. 0 or a negative errno, with `why`. */
FLAT_MUST_CHECK int flat_capture_know_pids(struct maker *m, char *why, size_t size);

#endif
