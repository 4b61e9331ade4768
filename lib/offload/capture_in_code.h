/* The programs that capture_in_bpf.c attaches. */
#ifndef FLAT_OFFLOAD_CAPTURE_IN_CODE_H
#define FLAT_OFFLOAD_CAPTURE_IN_CODE_H

#include "offload/capture_hook.h"
#include "offload/capture_in_bpf.h"

#define FLAT_IN_PROGRAMS 7

struct in_maker {
	struct maker m;
	const struct flat_in_gate *gate;
	const struct flat_in_bpf *in;
	uint64_t id;	/* of the cgroup */
	uint64_t netns; /* flatd's, by its cookie */
};

struct flat_in_program {
	struct flat_capture_hook hook;
	void (*make)(struct in_maker *in); /* writes in->m.code */
};

/** In the order in which they are attached: nothing is dropped before it is known what listens. */
extern const struct flat_in_program flat_in_programs[FLAT_IN_PROGRAMS];
/** Of the network namespace. */
extern const struct flat_in_program flat_in_lookup;
/** No socket listens at it. Under it and a port in the gate's ports: that of all IPv6 addresses is IPv4's too. */
#define FLAT_IN_DUAL_IP                                                                            \
	{                                                                                          \
		0, 0, V4_MARK, ~0U                                                                 \
	}

#endif
