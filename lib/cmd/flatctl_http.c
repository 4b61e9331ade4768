/* flatctl's questions about HTTP. */
#include <stdio.h>
#include <string.h>

#include "cmd/flatctl.h"

/* A header with its blanks and percent signs encoded: a question's words are parted by blanks. */
static void put_header(struct flat_strbuf *out, const char *header)
{
	flat_strbuf_putc(out, ' ');
	for (; *header; header++) {
		unsigned char c = (unsigned char)*header;
		if (c <= ' ' || c == '%' || c == 0x7f)
			flat_strbuf_printf(out, "%%%02X", c);
		else
			flat_strbuf_putc(out, *header);
	}
}

int ctl_why_http(const struct ctl *ctl, const char *request)
{
	struct flat_strbuf question = {0};
	struct flat_strbuf answer = {0};
	const char *blank = strchr(request, ' ');
	int status = CTL_USAGE;
	flat_strbuf_printf(&question, "whyhttp %s %s%s%s", ctl->from, blank ? "" : "GET ", request,
			   ctl->json ? " --json" : "");
	for (size_t i = 0; i < ctl->n_headers; i++)
		put_header(&question, ctl->headers[i]);
	if (flat_strbuf_str(&question))
		status = ctl_ask(ctl, question.data, &answer, false);
	if (answer.len > 0)
		fwrite(answer.data, 1, answer.len, stdout);
	flat_strbuf_fini(&question);
	flat_strbuf_fini(&answer);
	return status;
}
