/* SPDX-License-Identifier: Apache-2.0 */
#include "opts.h"

#include <errno.h>
#include <getopt.h>
#include <stdlib.h>
#include <string.h>

#include <flat/flat.h>

/* Long options without a letter. */
enum {
	OPT_TCP = 256,
	OPT_MPS,
	OPT_REPLY_EVERY,
	OPT_FULL_RTT,
	OPT_VERIFY,
	OPT_SPIN,
	OPT_AVOID_NODELAY,
	OPT_BUFFER_SIZE,
	OPT_DONTWARMUP,
	OPT_NO_RDTSC,
	OPT_PIN,
	OPT_TRANSPORT,
	OPT_JSON,
	OPT_ZEROCOPY,
	OPT_THREADS,
	OPT_EPOLL,
	OPT_HOLD,
	OPT_READY_FD,
	OPT_VERSION,
};

static const struct option long_options[] = {
    {"ip", required_argument, NULL, 'i'},
    {"port", required_argument, NULL, 'p'},
    {"time", required_argument, NULL, 't'},
    {"msg-size", required_argument, NULL, 'm'},
    {"burst", required_argument, NULL, 'b'},
    {"iomux-type", required_argument, NULL, 'F'},
    {"clients", required_argument, NULL, 'c'},
    {"tcp", no_argument, NULL, OPT_TCP},
    {"mps", required_argument, NULL, OPT_MPS},
    {"pps", required_argument, NULL, OPT_MPS},
    {"reply-every", required_argument, NULL, OPT_REPLY_EVERY},
    {"full-rtt", no_argument, NULL, OPT_FULL_RTT},
    {"data-integrity", no_argument, NULL, OPT_VERIFY},
    {"verify", no_argument, NULL, OPT_VERIFY},
    {"nonblocked", no_argument, NULL, OPT_SPIN},
    {"spin", no_argument, NULL, OPT_SPIN},
    {"tcp-avoid-nodelay", no_argument, NULL, OPT_AVOID_NODELAY},
    {"buffer-size", required_argument, NULL, OPT_BUFFER_SIZE},
    {"dontwarmup", no_argument, NULL, OPT_DONTWARMUP},
    {"no-rdtsc", no_argument, NULL, OPT_NO_RDTSC},
    {"pin", required_argument, NULL, OPT_PIN},
    {"sender-affinity", required_argument, NULL, OPT_PIN},
    {"cpu-affinity", required_argument, NULL, OPT_PIN},
    {"transport", required_argument, NULL, OPT_TRANSPORT},
    {"json", no_argument, NULL, OPT_JSON},
    {"zerocopy", no_argument, NULL, OPT_ZEROCOPY},
    {"threads", required_argument, NULL, OPT_THREADS},
    {"threads-num", required_argument, NULL, OPT_THREADS},
    {"epoll", no_argument, NULL, OPT_EPOLL},
    {"hold", required_argument, NULL, OPT_HOLD},
    {"ready-fd", required_argument, NULL, OPT_READY_FD},
    {"help", no_argument, NULL, 'h'},
    {"usage", no_argument, NULL, 'h'},
    {"version", no_argument, NULL, OPT_VERSION},
    {NULL, 0, NULL, 0},
};

static const struct {
	enum perf_mode mode;
	const char *name;
	const char *brief;
} modes[] = {
    {PERF_PING_PONG, "ping-pong", "pp"},
    {PERF_UNDER_LOAD, "under-load", "ul"},
    {PERF_THROUGHPUT, "throughput", "tp"},
    {PERF_CONNECT, "connect", "cn"},
    {PERF_RATE, "rate", "rt"},
    {PERF_SERVER, "server", "sr"},
};

static const char usage_text[] =
    "Usage: flatperf ping-pong|under-load|throughput|connect|rate|server [options]\n"
    "Latency, throughput and connection rate of TCP sockets, over the kernel or over libflat.\n"
    "\n"
    " pp, ping-pong    one message at a time, each answered: latency\n"
    " ul, under-load   messages at a given rate, some answered: latency under load\n"
    " tp, throughput   messages one way\n"
    " cn, connect      connect, one byte each way, close: connections per second\n"
    " rt, rate         messages of 8 bytes one way, a send() each: messages per second\n"
    " sr, server       the other side of all of these\n"
    "\n"
    "Both sides:\n"
    " -i, --ip ADDR            listen on, or connect to (default 127.0.0.1; a name works too)\n"
    " -p, --port PORT          (default 11111; server: 0 takes a free port and prints it)\n"
    " -m, --msg-size BYTES     message size, 14 and up (server: the largest it accepts)\n"
    "     --transport T        kernel (default) or flat: libflat's API, flat_socket() and so on\n"
    " -F, --iomux-type T       wait with r|recvfrom, p|poll, e|epoll\n"
    "                          (default: server epoll, clients recvfrom)\n"
    "     --epoll              the same as -F e\n"
    "     --spin, --nonblocked wait by non-blocking receives in a loop\n"
    "     --zerocopy           flat transport: read (server) or write (throughput) in place\n"
    "     --pin LIST           processors for the threads, such as 0,2-3\n"
    "     --buffer-size BYTES  socket buffers\n"
    "     --tcp-avoid-nodelay  invert the default of TCP_NODELAY (on, but off for throughput)\n"
    "     --tcp                accepted for sockperf's sake: always TCP\n"
    "     --no-rdtsc           take time from CLOCK_MONOTONIC\n"
    "     --json               print one JSON object\n"
    " -h, --help   --version\n"
    "\n"
    "Clients:\n"
    " -t, --time SECONDS       measured time (default 1)\n"
    " -c, --clients N          connections, each with a thread (default 1)\n"
    " -b, --burst N            ping-pong, throughput: messages sent at a stretch (default 1)\n"
    "     --mps N|max          messages per second for each connection\n"
    "                          (default: under-load 10000, else max)\n"
    "     --reply-every N      under-load: one answer for N messages (default 100)\n"
    "     --full-rtt           show round trips, not half of them\n"
    "     --verify, --data-integrity\n"
    "                          check every byte on both sides; a difference fails the run\n"
    "     --dontwarmup         measure from the first message on\n"
    "     --hold N             connect: open N connections and keep them silent for -t seconds;\n"
    "                          --ready-fd FD: write one byte there once all are open\n"
    "\n"
    "Server:\n"
    "     --threads N          event loops with -F e (default 1); -F r, --spin and\n"
    "                          --zerocopy give each connection a thread\n"
    "     --ready-fd FD        write one byte there once it listens\n"
    "\n"
    "Exit status: 0 done, 1 the measurement failed (lost, wrong or unanswered bytes, refused\n"
    "connection), 2 the command line was wrong.\n";

const char *perf_mode_name(enum perf_mode mode)
{
	for (size_t i = 0; i < sizeof(modes) / sizeof(modes[0]); i++) {
		if (modes[i].mode == mode)
			return modes[i].name;
	}
	return "?";
}

static int parse_u32(const char *text, uint32_t low, uint32_t high, uint32_t *value)
{
	char *end;
	errno = 0;
	unsigned long v = strtoul(text, &end, 10);
	if (errno || end == text || *end || text[0] == '-' || v < low || v > high)
		return -EINVAL;
	*value = (uint32_t)v;
	return 0;
}

static int parse_double(const char *text, double low, double high, double *value)
{
	char *end;
	errno = 0;
	double v = strtod(text, &end);
	/* Written so that NaN is refused as well. */
	if (errno || end == text || *end || !(v >= low && v <= high))
		return -EINVAL;
	*value = v;
	return 0;
}

static int parse_pin(struct perf_opts *o, const char *text)
{
	o->pin_count = 0;
	while (*text) {
		char *end;
		unsigned long first = strtoul(text, &end, 10);
		if (end == text || first > 1023)
			return -EINVAL;
		unsigned long last = first;
		if (*end == '-') {
			text = end + 1;
			last = strtoul(text, &end, 10);
			if (end == text || last < first || last > 1023)
				return -EINVAL;
		}
		for (unsigned long cpu = first; cpu <= last; cpu++) {
			if (o->pin_count == PERF_PIN_MAX)
				return -EINVAL;
			o->pin[o->pin_count++] = (uint16_t)cpu;
		}
		if (*end == ',')
			end++;
		else if (*end)
			return -EINVAL;
		text = end;
	}
	return o->pin_count ? 0 : -EINVAL;
}

static int parse_wait(struct perf_opts *o, const char *text)
{
	static const struct {
		const char *brief;
		const char *name;
		enum perf_wait wait;
	} waits[] = {
	    {"r", "recvfrom", PERF_WAIT_RECV},
	    {"p", "poll", PERF_WAIT_POLL},
	    {"e", "epoll", PERF_WAIT_EPOLL},
	};
	for (size_t i = 0; i < sizeof(waits) / sizeof(waits[0]); i++) {
		if (!strcmp(text, waits[i].brief) || !strcmp(text, waits[i].name)) {
			o->wait = waits[i].wait;
			return 0;
		}
	}
	return -EINVAL;
}

static int parse_mode(struct perf_opts *o, const char *text)
{
	for (size_t i = 0; i < sizeof(modes) / sizeof(modes[0]); i++) {
		if (!strcmp(text, modes[i].name) || !strcmp(text, modes[i].brief)) {
			o->mode = modes[i].mode;
			return 0;
		}
	}
	return -EINVAL;
}

static void set_defaults(struct perf_opts *o)
{
	enum perf_mode mode = o->mode;
	memset(o, 0, sizeof(*o));
	o->mode = mode;
	o->wait = mode == PERF_SERVER ? PERF_WAIT_EPOLL : PERF_WAIT_RECV;
	o->transport = "kernel";
	o->host = "127.0.0.1";
	o->port = 11111;
	o->msg_size = mode == PERF_SERVER ? 65536 : mode == PERF_RATE ? 8 : PERF_MSG_MIN;
	o->time_s = 1.0;
	o->mps = mode == PERF_UNDER_LOAD ? 10000.0 : 0.0;
	o->burst = 1;
	o->reply_every = 100;
	o->clients = 1;
	o->threads = 1;
	o->ready_fd = -1;
	o->nodelay = mode != PERF_THROUGHPUT && mode != PERF_RATE;
	o->warmup = true;
	o->use_tsc = true;
}

/* What takes a value. Returns what the option takes, for the complaint, or NULL when @text suits. */
static const char *set_value(struct perf_opts *o, int opt, const char *text)
{
	uint32_t v;
	switch (opt) {
	case 'i':
		o->host = text;
		return *text ? NULL : "an address or a host name";
	case 'p':
		if (parse_u32(text, o->mode == PERF_SERVER ? 0 : 1, 65535, &v) < 0)
			return "a port, 1 to 65535";
		o->port = (uint16_t)v;
		return NULL;
	case 't':
		return parse_double(text, 0.001, 36000000.0, &o->time_s) < 0 ? "seconds" : NULL;
	case 'm':
		return parse_u32(text, PERF_MSG_MIN, PERF_MSG_MAX, &o->msg_size) < 0
			   ? "bytes, 14 to 16777216"
			   : NULL;
	case 'b':
		return parse_u32(text, 1, 65536, &o->burst) < 0 ? "messages, 1 to 65536" : NULL;
	case 'F':
		return parse_wait(o, text) < 0 ? "r|recvfrom, p|poll or e|epoll" : NULL;
	case 'c':
		return parse_u32(text, 1, PERF_CLIENTS_MAX, &o->clients) < 0
			   ? "connections, 1 to 4096"
			   : NULL;
	case OPT_MPS:
		if (!strcmp(text, "max")) {
			o->mps = 0.0;
			return NULL;
		}
		return parse_double(text, 0.001, 1e9, &o->mps) < 0 ? "messages a second or max"
								   : NULL;
	case OPT_REPLY_EVERY:
		return parse_u32(text, 1, 1U << 30, &o->reply_every) < 0 ? "messages, 1 and up"
									 : NULL;
	case OPT_BUFFER_SIZE:
		return parse_u32(text, 1, 1U << 30, &o->buffer_size) < 0 ? "bytes" : NULL;
	case OPT_PIN:
		return parse_pin(o, text) < 0 ? "processors such as 0,2-3" : NULL;
	case OPT_TRANSPORT:
		o->transport = text;
		return !strcmp(text, "kernel") || !strcmp(text, "flat") ? NULL : "kernel or flat";
	case OPT_THREADS:
		return parse_u32(text, 1, 256, &o->threads) < 0 ? "threads, 1 to 256" : NULL;
	case OPT_HOLD:
		return parse_u32(text, 1, PERF_HOLD_MAX, &o->hold) < 0 ? "connections, 1 to 100000"
								       : NULL;
	default: /* OPT_READY_FD */
		if (parse_u32(text, 0, 1U << 20, &v) < 0)
			return "a file descriptor";
		o->ready_fd = (int)v;
		return NULL;
	}
}

static bool set_flag(struct perf_opts *o, int opt)
{
	switch (opt) {
	case OPT_TCP:
		return true;
	case OPT_FULL_RTT:
		o->full_rtt = true;
		return true;
	case OPT_VERIFY:
		o->verify = true;
		return true;
	case OPT_SPIN:
		o->wait = PERF_WAIT_SPIN;
		return true;
	case OPT_EPOLL:
		o->wait = PERF_WAIT_EPOLL;
		return true;
	case OPT_AVOID_NODELAY:
		o->nodelay = !o->nodelay;
		return true;
	case OPT_DONTWARMUP:
		o->warmup = false;
		return true;
	case OPT_NO_RDTSC:
		o->use_tsc = false;
		return true;
	case OPT_JSON:
		o->json = true;
		return true;
	case OPT_ZEROCOPY:
		o->zerocopy = true;
		return true;
	default:
		return false;
	}
}

/* Options that are right alone and wrong together. */
static const char *check_together(const struct perf_opts *o)
{
	if (o->mode == PERF_PING_PONG && o->burst > 1 &&
	    (uint64_t)o->burst * o->msg_size > PERF_BURST_BYTES_MAX)
		return "--burst times --msg-size must not exceed 131072 bytes: a whole burst is "
		       "sent "
		       "before replies are read";
	if (o->zerocopy && strcmp(o->transport, "flat") != 0)
		return "--zerocopy needs --transport flat";
	if (o->zerocopy && o->mode != PERF_THROUGHPUT && o->mode != PERF_SERVER)
		return "--zerocopy belongs to throughput and server";
	if (o->zerocopy && o->mode == PERF_SERVER && o->wait == PERF_WAIT_SPIN)
		return "--zerocopy and --spin do not go together";
	if (o->mode == PERF_SERVER && o->wait == PERF_WAIT_POLL)
		return "the server waits with -F recvfrom or -F epoll";
	if (o->mode == PERF_RATE && o->msg_size != 8)
		return "rate sends messages of 8 bytes: leave out --msg-size";
	if (o->hold && o->mode != PERF_CONNECT)
		return "--hold belongs to connect";
	if (o->hold && o->clients > 1)
		return "--hold uses one thread: leave out --clients";
	if (o->ready_fd >= 0 && o->mode != PERF_SERVER && !o->hold)
		return "--ready-fd belongs to server and to connect --hold";
	return NULL;
}

int perf_opts_parse(struct perf_opts *o, int argc, char **argv, FILE *out, FILE *err)
{
	memset(o, 0, sizeof(*o));
	if (argc >= 2 &&
	    (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-h") || !strcmp(argv[1], "help"))) {
		fputs(usage_text, out);
		return 1;
	}
	if (argc >= 2 && !strcmp(argv[1], "--version")) {
		fprintf(out, "flatperf %d.%d.%d\n", FLAT_VERSION_MAJOR, FLAT_VERSION_MINOR,
			FLAT_VERSION_PATCH);
		return 1;
	}
	if (argc < 2 || parse_mode(o, argv[1]) < 0) {
		fprintf(
		    err,
		    "flatperf: %s%s; say ping-pong, under-load, throughput, connect, rate or "
		    "server (flatperf --help)\n",
		    argc < 2 ? "no subcommand" : "no such subcommand: ", argc < 2 ? "" : argv[1]);
		return -EINVAL;
	}
	set_defaults(o);
	optind = 0; /* glibc: scan anew, also when called a second time */
	opterr = 0;
	for (;;) {
		int opt = getopt_long(argc - 1, argv + 1, ":i:p:t:m:b:F:c:h", long_options, NULL);
		if (opt == -1)
			break;
		if (opt == 'h') {
			fputs(usage_text, out);
			return 1;
		}
		if (opt == OPT_VERSION) {
			fprintf(out, "flatperf %d.%d.%d\n", FLAT_VERSION_MAJOR, FLAT_VERSION_MINOR,
				FLAT_VERSION_PATCH);
			return 1;
		}
		const char *given = argv[optind]; /* argv + 1, one back: the option just read */
		if (opt == '?' || opt == ':') {
			fprintf(err, "flatperf: %s: %s (flatperf --help lists them)\n", given,
				opt == '?' ? "no such option" : "wants a value");
			return -EINVAL;
		}
		if (set_flag(o, opt))
			continue;
		const char *wants = set_value(o, opt, optarg);
		if (wants) {
			fprintf(err, "flatperf: %s is not what this option takes: %s\n", optarg,
				wants);
			return -EINVAL;
		}
	}
	if (optind < argc - 1) {
		fprintf(err, "flatperf: stray argument: %s\n", argv[1 + optind]);
		return -EINVAL;
	}
	const char *wrong = check_together(o);
	if (wrong) {
		fprintf(err, "flatperf: %s\n", wrong);
		return -EINVAL;
	}
	return 0;
}
