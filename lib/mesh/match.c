#include "mesh/match.h"

bool flat_text_matches(const struct flat_text_match *match, struct flat_span value)
{
	struct flat_span want = {match->text, match->len};

	if (!value.text)
		return false;
	switch (match->kind) {
	case FLAT_TEXT_EXACT:
		return flat_span_equal(value, want, match->fold);
	case FLAT_TEXT_PREFIX:
		if (value.len < want.len)
			return false;
		value.len = want.len;
		return flat_span_equal(value, want, match->fold);
	case FLAT_TEXT_PATH:
		if (value.len > want.len && value.text[want.len] != '/')
			return false;
		if (value.len < want.len)
			return false;
		value.len = want.len;
		return flat_span_equal(value, want, match->fold);
	case FLAT_TEXT_REGEX:
		return flat_regex_match(match->regex, value.text, value.len);
	default:
		return true;
	}
}
