/* flatd: the offload half as a process. */
#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <flat/flat.h>

#include "base/log.h"
#include "offload/capture.h"
#include "offload/offload.h"

#define CONFIGS_MAX 64
#define METRICS_ADDR "127.0.0.1:15020" /* Istio's port for it */

static struct flat_offload offload;

static const char usage[] =
    "usage: flatd [options]\n"
    "The offload half of libflat: admits, polices and forwards the connections of applications.\n"
    "\n"
    "  --config PATH    file or folder of YAML; may be given several times; watched for change\n"
    "  --control PATH   control socket (default " FLAT_CONTROL_PATH ")\n"
    "  --workers N      threads that move forwarded bytes, 1 to 64 (default 1)\n"
    "  --metrics A:P    where Prometheus is served, or off (default " METRICS_ADDR ")\n"
    "  --wire A:P       where flatds of other hosts come in, with mutual TLS (default: none)\n"
    "  --hbone A:P      where peers come in by HBONE, as Istio's ztunnel (default: none; Istio's "
    "port is 15008)\n"
    "  --svids DIR      this host's certificates, keys and bundles, for both, and to go out; "
    "watched for change;\n"
    "                   or unix:///PATH: from the SPIFFE Workload API at that socket, as SPIRE's;\n"
    "                   or istio://HOST:PORT: from Istio's certificate service\n"
    "  --gateway NS/W   open the ports of the Gateways that select the Workload W, as that "
    "workload\n"
    "  --confine-port N where connections of confined workloads are sent, on 127.0.0.1 and ::1, "
    "and their\n"
    "                   questions for names, by UDP (default 335)\n"
    "  --verbs DEVICE   RDMA device over which links of --wire go where the other host has one "
    "too\n"
    "  --take-over      take sockets and listeners over from the flatd that serves at --control, "
    "which ends\n"
    "                   when its last connection has; without one, start as usual\n"
    "  --access-log F   file to which each HTTP request adds a line\n"
    "  --audit-log F    file to which what policies refuse or mark adds a line of JSON\n"
    "  --check          load the configuration, print what is wrong, end\n"
    "  --log-level L    error, warn, info (default), debug\n"
    "  --ready-fd N     write one byte to descriptor N when serving\n"
    "  --help, --version\n";

static void on_signal(int sig)
{
	int saved = errno;
	if (sig == SIGHUP)
		offload.reload = true;
	else if (sig == SIGUSR1)
		offload.reopen = true;
	else
		offload.stop = true;
	flat_offload_wake(&offload);
	errno = saved;
}

static void raise_limit(void)
{
	struct rlimit lim;
	if (getrlimit(RLIMIT_NOFILE, &lim) != 0)
		return;
	struct rlimit want = {1048576, 1048576};
	if (setrlimit(RLIMIT_NOFILE, &want) == 0)
		return;
	lim.rlim_cur = lim.rlim_max;
	(void)setrlimit(RLIMIT_NOFILE, &lim);
}

static int check(const char *const *paths, size_t n)
{
	struct flat_diags diags = {0};
	struct flat_mesh *mesh = NULL;
	struct flat_strbuf text = {0};
	int err = flat_config_load(paths, n, &mesh, &diags);
	flat_diags_text(&diags, &text);
	if (text.len > 0)
		fwrite(text.data, 1, text.len, stderr);
	flat_strbuf_fini(&text);
	flat_diags_fini(&diags);
	flat_mesh_put(mesh);
	return err == 0 ? 0 : 1;
}

struct arguments {
	const char *paths[CONFIGS_MAX];
	size_t n_paths;
	const char *control;
	int level;
	int ready_fd;
	long workers;
	long confine_port;
	const char *metrics;
	const char *access_log;
	const char *audit_log;
	const char *wire;
	const char *hbone;
	const char *svids;
	const char *gateway;
	const char *verbs;
	bool take_over;
	bool only_check;
};

/* What goes together, and in what range: -1 to go on, else the exit status. */
static int judge(const struct arguments *a)
{
	if (a->level < 0) {
		fputs("flatd: --log-level is error, warn, info or debug; see flatd --help\n",
		      stderr);
		return 2;
	}
	if (a->workers < 1 || a->workers > FLAT_WORKERS_MAX) {
		fprintf(stderr, "flatd: --workers takes 1 to %d\n", FLAT_WORKERS_MAX);
		return 2;
	}
	if (a->confine_port < 1 || a->confine_port > 65535) {
		fputs("flatd: --confine-port takes 1 to 65535\n", stderr);
		return 2;
	}
	if ((a->wire || a->hbone) && !a->svids) {
		fputs("flatd: --wire and --hbone want --svids\n", stderr);
		return 2;
	}
	if (a->verbs && !a->wire) {
		fputs("flatd: --verbs wants --wire and --svids: they agree on it\n", stderr);
		return 2;
	}
	return -1;
}

/* Where an option's text goes; NULL: it is no such option. */
static const char **text_of(struct arguments *a, int opt)
{
	switch (opt) {
	case 's':
		return &a->control;
	case 'm':
		return &a->metrics;
	case 'a':
		return &a->access_log;
	case 'A':
		return &a->audit_log;
	case 'W':
		return &a->wire;
	case 'H':
		return &a->hbone;
	case 'S':
		return &a->svids;
	case 'V':
		return &a->verbs;
	case 'g':
		return &a->gateway;
	default:
		return NULL;
	}
}

/* Returns -1 to go on, else the exit status. */
static int parse(int argc, char **argv, struct arguments *a)
{
	static const struct option options[] = {
	    {"config", required_argument, NULL, 'c'},
	    {"control", required_argument, NULL, 's'},
	    {"workers", required_argument, NULL, 'w'},
	    {"metrics", required_argument, NULL, 'm'},
	    {"access-log", required_argument, NULL, 'a'},
	    {"audit-log", required_argument, NULL, 'A'},
	    {"wire", required_argument, NULL, 'W'},
	    {"hbone", required_argument, NULL, 'H'},
	    {"svids", required_argument, NULL, 'S'},
	    {"gateway", required_argument, NULL, 'g'},
	    {"verbs", required_argument, NULL, 'V'},
	    {"confine-port", required_argument, NULL, 'C'},
	    {"take-over", no_argument, NULL, 't'},
	    {"check", no_argument, NULL, 'k'},
	    {"log-level", required_argument, NULL, 'l'},
	    {"ready-fd", required_argument, NULL, 'r'},
	    {"foreground", no_argument, NULL, 'f'},
	    {"help", no_argument, NULL, 'h'},
	    {"version", no_argument, NULL, 'v'},
	    {NULL, 0, NULL, 0},
	};
	int opt;
	while ((opt = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (opt == 'c' && a->n_paths == CONFIGS_MAX) {
			fprintf(stderr, "flatd: more than %d --config; put them in a folder\n",
				CONFIGS_MAX);
			return 2;
		} else if (opt == 'c') {
			a->paths[a->n_paths++] = optarg;
		} else if (text_of(a, opt)) {
			*text_of(a, opt) = optarg;
		} else if (opt == 'w') {
			a->workers = strtol(optarg, NULL, 10);
		} else if (opt == 'C') {
			a->confine_port = strtol(optarg, NULL, 10);
		} else if (opt == 't') {
			a->take_over = true;
		} else if (opt == 'k') {
			a->only_check = true;
		} else if (opt == 'l') {
			a->level = flat_log_level_parse(optarg);
		} else if (opt == 'r') {
			a->ready_fd = (int)strtol(optarg, NULL, 10);
		} else if (opt == 'h') {
			return fputs(usage, stdout) < 0;
		} else if (opt == 'v') {
			return printf("flatd %s\n", flat_version()) < 0;
		} else if (opt != 'f') {
			fputs("flatd: see flatd --help\n", stderr);
			return 2;
		}
	}
	if (optind != argc) {
		fprintf(stderr, "flatd: what is %s? see flatd --help\n", argv[optind]);
		return 2;
	}
	return judge(a);
}

int main(int argc, char **argv)
{
	struct arguments a = {.control = FLAT_CONTROL_PATH,
			      .level = FLAT_LOG_INFO,
			      .ready_fd = -1,
			      .workers = 1,
			      .confine_port = FLAT_CONFINE_PORT};
	int status = parse(argc, argv, &a);
	if (status >= 0)
		return status;
	if (a.only_check)
		return check(a.paths, a.n_paths);
	flat_log_init(2, (enum flat_log_level)a.level, "flatd");
	raise_limit();
	if (strcmp(a.control, FLAT_CONTROL_PATH) == 0)
		(void)mkdir("/run/flat", 0755);
	struct sigaction sa = {.sa_handler = on_signal};
	sigaction(SIGTERM, &sa, NULL);
	sigaction(SIGINT, &sa, NULL);
	sigaction(SIGHUP, &sa, NULL);
	sigaction(SIGUSR1, &sa, NULL);
	signal(SIGPIPE, SIG_IGN);
	offload.n_workers = (uint32_t)a.workers;
	offload.access_log = a.access_log;
	offload.audit_path = a.audit_log;
	offload.wire_addr = a.wire;
	offload.hbone_addr = a.hbone;
	offload.svids = a.svids;
	offload.gateway_name = a.gateway;
	offload.verbs = a.verbs;
	offload.confine_port = (uint16_t)a.confine_port;
	offload.take_over = a.take_over;
	offload.metrics_asked = a.metrics != NULL;
	offload.metrics_addr = !a.metrics		       ? METRICS_ADDR
			       : strcmp(a.metrics, "off") == 0 ? NULL
							       : a.metrics;
	if (flat_offload_open(&offload, a.control, a.paths, a.n_paths) != 0)
		return 1;
	flat_info("serving on %s", a.control);
	if (a.ready_fd >= 0 && write(a.ready_fd, "\n", 1) == 1)
		close(a.ready_fd);
	flat_offload_run(&offload);
	bool retired = offload.retired;
	flat_offload_close(&offload);
	if (!retired)
		unlink(a.control);
	return 0;
}
