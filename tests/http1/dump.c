/*
 * Reads streams from standard input, each a line of hex digits, and prints what our reader makes of each, ended by a
 * line with a dot. `http1-dump [--response]`. For comparisons with other parsers.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "transcript.h"

static int nibble(char c)
{
	return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

int main(int argc, char **argv)
{
	bool response = argc > 1 && strcmp(argv[1], "--response") == 0;
	char *line = NULL;
	size_t cap = 0;
	ssize_t n;

	while ((n = getline(&line, &cap, stdin)) > 0) {
		struct flat_strbuf out = {0};
		size_t len = 0;

		for (ssize_t i = 0; i + 1 < n && nibble(line[i]) >= 0; i += 2)
			line[len++] = (char)(nibble(line[i]) << 4 | nibble(line[i + 1]));
		transcript((const uint8_t *)line, len, response, NULL, 0, &out);
		fwrite(out.data, 1, out.len, stdout);
		puts(".");
		fflush(stdout);
		flat_strbuf_fini(&out);
	}
	free(line);
	return 0;
}
