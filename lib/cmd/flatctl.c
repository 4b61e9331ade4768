/* flatctl: asks flatd what it does and why. */
#include <dirent.h>
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
    "  top [--once]     connections and bytes by service and path, every second\n"
    "  why PID FD       how this socket goes, and why\n"
    "  why SRC DST      whether workload SRC (NAMESPACE/NAME) may reach DST (HOST:PORT), and by "
    "what rule\n"
    "  check PATH...    what is wrong in a configuration, and what of it is not honoured\n"
    "  reload           have flatd load its configuration again\n"
    "  version\n"
    "\n"
    "  --control PATH   flatd's control socket (default: FLAT_CONTROL, else " FLAT_CONTROL_PATH
    ")\n"
    "  --json           the answer as JSON\n"
    "  --help\n";

static const char *control;
static int json;

static int ask(const char *question)
{
	struct sockaddr_un un = {.sun_family = AF_UNIX};
	char line[1024];
	char buf[65536];
	ssize_t got;
	int n = snprintf(un.sun_path, sizeof(un.sun_path), "%s.admin", control);
	if (n < 0 || (size_t)n >= sizeof(un.sun_path)) {
		fprintf(stderr, "flatctl: the path of the control socket is too long\n");
		return 2;
	}
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0 || connect(fd, (struct sockaddr *)&un, sizeof(un)) != 0) {
		fprintf(stderr,
			"flatctl: %s: %s; is flatd running, and are you root or its user?\n",
			un.sun_path, strerror(errno));
		return 1;
	}
	n = snprintf(line, sizeof(line), "%s%s\n", question, json ? " --json" : "");
	if (n < 0 || (size_t)n >= sizeof(line) || write(fd, line, (size_t)n) != n) {
		fprintf(stderr, "flatctl: the question is too long\n");
		close(fd);
		return 2;
	}
	while ((got = read(fd, buf, sizeof(buf))) > 0)
		fwrite(buf, 1, (size_t)got, stdout);
	close(fd);
	fflush(stdout);
	return 0;
}

static int why(const char *a, const char *b)
{
	char question[900];
	char path[64];
	char link[64];
	char *end;
	unsigned long long inode;
	long pid = strtol(a, &end, 10);
	if (*end) {
		snprintf(question, sizeof(question), "why %.400s %.400s", a, b);
		return ask(question);
	}
	snprintf(path, sizeof(path), "/proc/%ld/fd/%.20s", pid, b);
	ssize_t n = readlink(path, link, sizeof(link) - 1);
	if (n < 0) {
		fprintf(stderr, "flatctl: %s: %s\n", path, strerror(errno));
		return 1;
	}
	link[n] = 0;
	if (strncmp(link, "socket:[", 8) != 0) {
		printf("not a socket: %s\n", link);
		return 0;
	}
	inode = strtoull(link + 8, NULL, 10);
	snprintf(question, sizeof(question), "whyfd %ld %llu", pid, inode);
	return ask(question);
}

static int top(int once)
{
	for (;;) {
		if (!once)
			fputs("\033[H\033[2J", stdout);
		int err = ask("top");
		if (err != 0 || once)
			return err;
		sleep(1);
	}
}

static int check(char **paths, size_t n)
{
	struct flat_diags diags = {0};
	struct flat_mesh *mesh = NULL;
	struct flat_strbuf text = {0};
	int err = flat_config_load((const char *const *)paths, n, &mesh, &diags);
	if (json) {
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
	if (json)
		putchar('\n');
	flat_strbuf_fini(&text);
	flat_diags_fini(&diags);
	flat_mesh_put(mesh);
	return err == 0 ? 0 : 1;
}

int main(int argc, char **argv)
{
	char *words[64];
	size_t n = 0;
	int once = !isatty(1);
	int show_version = 0;
	control = getenv("FLAT_CONTROL") ? getenv("FLAT_CONTROL") : FLAT_CONTROL_PATH;
	for (int i = 1; i < argc; i++) {
		if (strcmp(argv[i], "--json") == 0)
			json = once = 1;
		else if (strcmp(argv[i], "--once") == 0)
			once = 1;
		else if (strcmp(argv[i], "--control") == 0 && i + 1 < argc)
			control = argv[++i];
		else if (strcmp(argv[i], "--version") == 0)
			show_version = 1;
		else if (strcmp(argv[i], "--help") == 0)
			return fputs(usage, stdout) < 0;
		else if (argv[i][0] == '-' || n == FLAT_ARRAY_SIZE(words))
			n = FLAT_ARRAY_SIZE(words) + 1;
		else
			words[n++] = argv[i];
		if (n > FLAT_ARRAY_SIZE(words))
			break;
	}
	show_version |= n == 1 && strcmp(words[0], "version") == 0;
	if (n == 1 && strcmp(words[0], "ls") == 0)
		return ask("ls");
	if (n == 1 && strcmp(words[0], "top") == 0)
		return top(once);
	if (n == 3 && strcmp(words[0], "why") == 0)
		return why(words[1], words[2]);
	if (n >= 2 && n <= FLAT_ARRAY_SIZE(words) && strcmp(words[0], "check") == 0)
		return check(words + 1, n - 1);
	if (show_version)
		return printf("flatctl %s\n", flat_version()) < 0;
	if (n == 1 && strcmp(words[0], "reload") == 0)
		return ask("reload");
	fputs(usage, stderr);
	return 2;
}
