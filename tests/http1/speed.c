/*
 * How fast heads are read, in GB/s and ns each: `http1-speed [ROUNDS]`. The two requests are those that parsers are
 * usually measured with: a browser's with 700 bytes of fields, and wrk's.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "codec/http1.h"
#include "codec/path.h"

static const char browser[] =
    "GET /wp-content/uploads/2010/03/hello-kitty-darth-vader-pink.jpg HTTP/1.1\r\n"
    "Host: www.kittyhell.com\r\n"
    "User-Agent: Mozilla/5.0 (Macintosh; U; Intel Mac OS X 10.6; ja-JP-mac; rv:1.9.2.3) "
    "Gecko/20100401 Firefox/3.6.3 Pathtraq/0.9\r\n"
    "Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8\r\n"
    "Accept-Language: ja,en-us;q=0.7,en;q=0.3\r\nAccept-Encoding: gzip,deflate\r\n"
    "Accept-Charset: Shift_JIS,utf-8;q=0.7,*;q=0.7\r\nKeep-Alive: 115\r\n"
    "Connection: keep-alive\r\n"
    "Cookie: wp_ozh_wsa_visits=2; wp_ozh_wsa_visit_lasttime=xxxxxxxxxx; "
    "__utma=xxxxxxxxx.xxxxxxxxxx.xxxxxxxxxx.xxxxxxxxxx.xxxxxxxxxx.x; "
    "__utmz=xxxxxxxxx.xxxxxxxxxx.x.x.utmccn=(referral)|utmcsr=reader.livedoor.com|"
    "utmcct=/reader/|utmcmd=referral\r\n\r\n";
static const char wrk[] = "GET /1k HTTP/1.1\r\nHost: web.example:8080\r\n\r\n";

static void measure(const char *name, const char *text, long rounds)
{
	static struct flat_http1 p;
	struct timespec a;
	struct timespec b;
	size_t len = strlen(text);
	uint64_t sum = 0;

	clock_gettime(CLOCK_MONOTONIC, &a);
	for (long i = 0; i < rounds; i++) {
		struct flat_span path;
		char buf[256];
		flat_http1_begin(&p, FLAT_HTTP1_REQUEST);
		if (flat_http1_read(&p, (const uint8_t *)text, len) != (int)len ||
		    flat_path_canonical(flat_head_span(text, p.head.path, p.head.path_len), buf,
					sizeof(buf), &path) != 0)
			abort();
		sum += p.head.n_fields;
	}
	clock_gettime(CLOCK_MONOTONIC, &b);
	double s = (double)(b.tv_sec - a.tv_sec) + (double)(b.tv_nsec - a.tv_nsec) / 1e9;
	printf("%-8s %4zu bytes %3.0f fields %7.1f ns %6.2f GB/s\n", name, len,
	       (double)sum / (double)rounds, s * 1e9 / (double)rounds,
	       (double)len * (double)rounds / s / 1e9);
}

int main(int argc, char **argv)
{
	long rounds = argc > 1 ? strtol(argv[1], NULL, 10) : 1000000;
	measure("browser", browser, rounds);
	measure("wrk", wrk, rounds);
	return 0;
}
