/* Matching of texts as Istio's StringMatch does: exact, prefix, regex; and those of policies: suffix, present. */
#ifndef FLAT_MESH_MATCH_H
#define FLAT_MESH_MATCH_H

#include "codec/http.h"
#include "mesh/regex.h"

enum flat_text_kind {
	FLAT_TEXT_PRESENT, /* any value, the empty one too; not an absent one */
	FLAT_TEXT_EXACT,
	FLAT_TEXT_PREFIX,
	FLAT_TEXT_REGEX,
	FLAT_TEXT_PATH, /* this path, and what is below it: whole segments */
};

struct flat_text_match {
	enum flat_text_kind kind;
	bool fold;	  /* letters of either case are equal (EXACT, PREFIX) */
	const char *text; /* borrowed; for REGEX the pattern, for people */
	size_t len;
	const struct flat_regex *regex;
};

/** Whether a value matches; an absent one never does. */
bool flat_text_matches(const struct flat_text_match *match, struct flat_span value);

#endif
