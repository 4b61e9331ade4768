/* flatctl: asks flatd what it does and why. */
#include "cmd/flatctl.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <flat/flat.h>

#include "control/config.h"
#include "vq/attach.h"

static const char usage[] =
    "usage: flatctl [--control PATH] [--json] COMMAND\n"
    "\n"
    "  ls               services, sessions, listeners, connections\n"
    "  top [--once]     connections and bytes a second by service and path; on a terminal every\n"
    "                   second, until q or Ctrl-C\n"
    "  top --http [--once]\n"
    "                   HTTP requests a second, errors and durations by service and route\n"
    "  why PID FD       how this socket goes, and why\n"
    "  why SRC DST [NAME]\n"
    "                   whether workload SRC (NAMESPACE/NAME, or plain: a client without libflat)\n"
    "                   may reach DST (HOST:PORT), asking for NAME in TLS, how, and by what rule\n"
    "  why 'METHOD URL' --from SRC [--header 'NAME: VALUE']...\n"
    "                   what is done with this request of workload SRC: route, server, policy\n"
    "  peers            links to and from other hosts: identities, streams, bytes, expiry\n"
    "  ca init DIR [DOMAIN]\n"
    "                   a small certificate authority, for trying things out\n"
    "  ca issue DIR OUT NAMESPACE/ACCOUNT|flatd [HOURS]\n"
    "                   a certificate, its key and the bundle, into folder OUT (default 24 hours)\n"
    "  ca revoke DIR OUT [CERTIFICATE [HOURS]]\n"
    "                   the revocation list anew, with this certificate in it, into folder OUT\n"
    "  routes           routes of HTTP requests, in the order in which they are tried\n"
    "  clusters         endpoints of the services asked for: requests, errors, who is put aside\n"
    "  trace            requests of late that were traced (Telemetry), and when their steps were\n"
    "  check PATH...    what is wrong in a configuration, and what of it is not honoured\n"
    "  check --svids DIR\n"
    "                   what is in a folder of identities, or what is wrong with it\n"
    "  release CGROUP...\n"
    "                   let a confined workload's cgroup go when no flatd confines it any more\n"
    "  reload           have flatd load its configuration again\n"
    "  version\n"
    "\n"
    "  --control PATH   flatd's control socket (default: FLAT_CONTROL, else " FLAT_CONTROL_PATH
    ")\n"
    "  --json           the answer as JSON\n"
    "  --help\n";

int ctl_ask(const struct ctl *ctl, const char *question, struct flat_strbuf *out, bool quiet)
{
	struct sockaddr_un un = {.sun_family = AF_UNIX};
	char line[1024];
	char buf[65536];
	ssize_t got;
	int n = snprintf(un.sun_path, sizeof(un.sun_path), "%s.admin", ctl->control);
	if (n < 0 || (size_t)n >= sizeof(un.sun_path)) {
		fprintf(stderr, "flatctl: the path of the control socket is too long\n");
		return CTL_USAGE;
	}
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0 || connect(fd, (struct sockaddr *)&un, sizeof(un)) != 0) {
		if (!quiet)
			fprintf(stderr,
				"flatctl: %s: %s; is flatd running, and are you root or its "
				"user?\n",
				un.sun_path, strerror(errno));
		if (fd >= 0)
			close(fd);
		return CTL_FAILED;
	}
	n = snprintf(line, sizeof(line), "%s\n", question);
	if (n < 0 || (size_t)n >= sizeof(line) || write(fd, line, (size_t)n) != n) {
		fprintf(stderr, "flatctl: the question is too long\n");
		close(fd);
		return CTL_USAGE;
	}
	while ((got = read(fd, buf, sizeof(buf))) > 0)
		flat_strbuf_add(out, buf, (size_t)got);
	close(fd);
	return out->failed ? CTL_FAILED : CTL_OK;
}

/* A question whose answer is printed as it comes. */
static int ask(const struct ctl *ctl, const char *question)
{
	struct flat_strbuf text = {0};
	struct flat_strbuf line = {0};
	flat_strbuf_printf(&line, "%s%s", question, ctl->json ? " --json" : "");
	int ret = line.failed ? CTL_FAILED : ctl_ask(ctl, line.data, &text, false);
	if (ret == CTL_OK && text.len > 0 && fwrite(text.data, 1, text.len, stdout) != text.len)
		ret = CTL_FAILED;
	flat_strbuf_fini(&text);
	flat_strbuf_fini(&line);
	return fflush(stdout) == 0 ? ret : CTL_FAILED;
}

static int why(const struct ctl *ctl, const char *a, const char *b, const char *name)
{
	char question[900];
	char *end;
	long pid = strtol(a, &end, 10);
	if (*a && !*end && pid > 0 && !*name)
		return ctl_why_socket(ctl, pid, b);
	snprintf(question, sizeof(question), "why %.300s %.300s %.255s", a, b, name);
	return ask(ctl, question);
}

static int check(const struct ctl *ctl, char **paths, size_t n)
{
	struct flat_diags diags = {0};
	struct flat_mesh *mesh = NULL;
	struct flat_strbuf text = {0};
	int err = flat_config_load((const char *const *)paths, n, &mesh, &diags);
	if (ctl->json) {
		struct flat_json out;
		flat_json_init(&out, &text, false);
		flat_json_object(&out, NULL);
		flat_diags_json(&diags, &out, "findings");
		flat_json_object_end(&out);
	} else {
		flat_diags_text(&diags, &text);
	}
	if (text.len > 0)
		fwrite(text.data, 1, text.len, stdout);
	if (ctl->json)
		putchar('\n');
	flat_strbuf_fini(&text);
	flat_diags_fini(&diags);
	flat_mesh_put(mesh);
	return err == 0 ? 0 : 1;
}

static int run(const struct ctl *ctl, char **words, size_t n)
{
	if (n == 1 && strcmp(words[0], "ls") == 0)
		return ask(ctl, "ls");
	if (n == 1 && strcmp(words[0], "top") == 0)
		return ctl->http ? ctl_top_http(ctl) : ctl_top(ctl);
	if (n == 1 && strcmp(words[0], "peers") == 0)
		return ask(ctl, "peers");
	if (n >= 3 && strcmp(words[0], "ca") == 0)
		return ctl_ca(words + 1, n - 1);
	if (n == 1 && strcmp(words[0], "routes") == 0)
		return ask(ctl, "routes");
	if (n == 1 && strcmp(words[0], "clusters") == 0)
		return ask(ctl, "clusters");
	if (n == 1 && strcmp(words[0], "trace") == 0)
		return ask(ctl, "trace");
	if (n == 2 && strcmp(words[0], "why") == 0 && ctl->from)
		return ctl_why_http(ctl, words[1]);
	if ((n == 3 || n == 4) && strcmp(words[0], "why") == 0)
		return why(ctl, words[1], words[2], n == 4 ? words[3] : "");
	if (n == 1 && strcmp(words[0], "check") == 0 && ctl->svids)
		return ctl_check_svids(ctl->svids);
	if (n >= 2 && strcmp(words[0], "check") == 0)
		return check(ctl, words + 1, n - 1);
	if (n >= 2 && strcmp(words[0], "release") == 0)
		return ctl_release(words + 1, n - 1);
	if (n == 1 && strcmp(words[0], "reload") == 0)
		return ask(ctl, "reload");
	if (n == 1 && strcmp(words[0], "version") == 0)
		return printf("flatctl %s\n", flat_version()) < 0;
	fputs(usage, stderr);
	return CTL_USAGE;
}

int main(int argc, char **argv)
{
	char *words[64];
	size_t n = 0;
	struct ctl ctl = {.control = getenv("FLAT_CONTROL")};
	if (!ctl.control || !*ctl.control)
		ctl.control = FLAT_CONTROL_PATH;
	for (int i = 1; i < argc; i++) {
		if (strcmp(argv[i], "--json") == 0) {
			ctl.json = true;
		} else if (strcmp(argv[i], "--http") == 0) {
			ctl.http = true;
		} else if (strcmp(argv[i], "--once") == 0) {
			ctl.once = true;
		} else if (strcmp(argv[i], "--control") == 0 && i + 1 < argc) {
			ctl.control = argv[++i];
		} else if (strcmp(argv[i], "--svids") == 0 && i + 1 < argc) {
			ctl.svids = argv[++i];
		} else if (strcmp(argv[i], "--from") == 0 && i + 1 < argc) {
			ctl.from = argv[++i];
		} else if (strcmp(argv[i], "--header") == 0 && i + 1 < argc &&
			   ctl.n_headers < FLAT_ARRAY_SIZE(ctl.headers)) {
			ctl.headers[ctl.n_headers++] = argv[++i];
		} else if (strcmp(argv[i], "--version") == 0) {
			return printf("flatctl %s\n", flat_version()) < 0;
		} else if (strcmp(argv[i], "--help") == 0) {
			return fputs(usage, stdout) < 0;
		} else if (argv[i][0] == '-' || n == FLAT_ARRAY_SIZE(words)) {
			fputs(usage, stderr);
			return CTL_USAGE;
		} else {
			words[n++] = argv[i];
		}
	}
	return run(&ctl, words, n);
}
