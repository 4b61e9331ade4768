/* Accept-Encoding (RFC 9110, 12.5.3). */
#include "codec/http.h"

/* A qvalue in thousandths; -1: it is none. */
static int quality(struct flat_span s)
{
	int q = 0;
	int unit = 1000;

	if (s.len == 0 || s.len > 5 || (s.text[0] != '0' && s.text[0] != '1') ||
	    (s.len > 1 && s.text[1] != '.'))
		return -1;
	for (size_t i = 0; i < s.len; i++) {
		if (i == 1)
			continue;
		if (s.text[i] < '0' || s.text[i] > '9')
			return -1;
		q += (s.text[i] - '0') * unit;
		unit /= 10;
	}
	return q <= 1000 ? q : -1;
}

/* The weight of an element "CODING;q=0.5", whose name goes to *name. -1: it has none that can be read. */
static int weigh(struct flat_span element, struct flat_span *name)
{
	size_t semicolon = 0;
	struct flat_span q;

	while (semicolon < element.len && element.text[semicolon] != ';')
		semicolon++;
	*name = flat_span_trim((struct flat_span){element.text, semicolon});
	if (semicolon == element.len)
		return 1000;
	q = flat_span_trim(
	    (struct flat_span){element.text + semicolon + 1, element.len - semicolon - 1});
	if (q.len < 2 || (q.text[0] != 'q' && q.text[0] != 'Q') || q.text[1] != '=')
		return -1;
	return quality((struct flat_span){q.text + 2, q.len - 2});
}

bool flat_http_accepts_coding(struct flat_span accept, const char *coding, const char *alias)
{
	int own = -1;
	int any = -1;
	int identity = -1;
	size_t i = 0;

	while (accept.text && i < accept.len) {
		struct flat_span name;
		size_t end = i;
		int q;

		while (end < accept.len && accept.text[end] != ',')
			end++;
		q = weigh((struct flat_span){accept.text + i, end - i}, &name);
		i = end + 1;
		if (q < 0)
			continue;
		if (flat_span_equal(name, flat_span_of(coding), true) ||
		    (alias && flat_span_equal(name, flat_span_of(alias), true)))
			own = q > own ? q : own;
		else if (flat_span_equal(name, flat_span_of("*"), false))
			any = q;
		else if (flat_span_equal(name, flat_span_of("identity"), true))
			identity = q;
	}
	if (own < 0)
		own = any;
	return own > 0 && own >= identity;
}
