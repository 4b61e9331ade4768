/* What a regular expression is compiled to: between regex.c and regex_replace.c. */
#ifndef FLAT_MESH_REGEX_PROGRAM_H
#define FLAT_MESH_REGEX_PROGRAM_H

#include "mesh/regex.h"

enum regex_op {
	OP_CLASS, /* a byte of the class, then the next state */
	OP_SPLIT, /* both x and y, x rather than y */
	OP_JUMP,  /* x */
	OP_BEGIN, /* only before the first byte */
	OP_END,	  /* only behind the last */
	OP_SAVE,  /* where a group begins (x even) or ends */
	OP_MATCH,
};

struct regex_state {
	uint8_t op;
	uint16_t x, y;
	const uint32_t *class; /* 256 bits */
};

struct flat_regex {
	struct regex_state *v;
	uint32_t n;
};

#endif
