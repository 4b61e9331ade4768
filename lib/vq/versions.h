/*
 * Versions of what two processes of a host share. Whoever changes the bytes or their meaning raises the one, and that of the directory
 * with each: libraries that tell no versions look at that one alone.
 *
 * A program has the library that it was started with, also when another flatd takes the place of the one it knew. So HELLO tells
 * them, both ways, and halves of two builds part (docs/design/core.md, section 10).
 */
#ifndef FLAT_VQ_VERSIONS_H
#define FLAT_VQ_VERSIONS_H

#include <stdint.h>

/* Messages: vq/attach.h. */
#define FLAT_MSG_VERSION 1
/* mesh/directory.h. */
#define FLAT_DIRECTORY_VERSION 5
/* vq/layout.h. A test builds another. */
#ifndef FLAT_LANE_VERSION
#define FLAT_LANE_VERSION 6
#endif

/* All three in one word. */
#define FLAT_SHARED(msg, directory, lane)                                                          \
	((uint32_t)(msg) << 16 | (uint32_t)(directory) << 8 | (uint32_t)(lane))
/* Of who tells none: at most. What is older finds the directory to be another's by itself. */
#define FLAT_SHARED_UNTOLD FLAT_SHARED(1, 4, 4)

_Static_assert(FLAT_DIRECTORY_VERSION < 256 && FLAT_LANE_VERSION < 256, "a byte each");

/** Those of this build. */
uint32_t flat_shared_version(void);

/** "1.5.6": messages, directory, lanes; "2" where the messages alone are known. Returns buf. */
#define FLAT_SHARED_STRLEN 24
const char *flat_shared_str(uint32_t shared, char buf[FLAT_SHARED_STRLEN]);

#endif
