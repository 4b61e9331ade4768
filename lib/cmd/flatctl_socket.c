/*
 * flatctl why PID FD: finds the socket's inode, asks flatd whether it has the other end, and if not finds out
 * from /proc what the socket is and why the kernel carries it.
 */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/denied.h"
#include "base/json.h"
#include "cmd/flatctl.h"
#include "mesh/addr.h"

#define REASONS_MAX 6

/* What is known of a socket. */
struct inspected {
	long pid;
	uint64_t inode;
	bool answers; /* some flatd does */
	bool found;   /* it has the other end */
	bool session; /* the process has a session with it */
	bool misfit;  /* it may have none: its libflat is of another build */
	char path[16];
	const char *type; /* "tcp", "udp", ...; NULL: in none of the kernel's lists */
	unsigned state;	  /* of TCP: as in the kernel's enum, net/tcp_states.h */
	char local[80];
	char remote[80];
	bool library;	   /* libflat is loaded in the process */
	bool maps_read;	   /* whether that could be told */
	char control[256]; /* the process's FLAT_CONTROL, if it has one and it can be read */
	char reasons[REASONS_MAX][900];
	size_t n_reasons;
};

static void add_reason(struct inspected *k, const char *fmt, ...) FLAT_PRINTF(2, 3);

static void add_reason(struct inspected *k, const char *fmt, ...)
{
	va_list args;
	if (k->n_reasons == REASONS_MAX)
		return;
	va_start(args, fmt);
	vsnprintf(k->reasons[k->n_reasons++], sizeof(k->reasons[0]), fmt, args);
	va_end(args);
}

/* "0100007F:1A0B" as /proc/net/tcp writes it: each 32-bit word in the machine's order. */
static void address_text(const char *hex, char *buf, size_t size)
{
	struct flat_ip ip = {0};
	char text[FLAT_IP_TEXT_MAX];
	const char *colon = strchr(hex, ':');
	size_t words = colon ? (size_t)(colon - hex) / 8 : 0;

	buf[0] = '\0';
	if (words != 1 && words != 4)
		return;
	for (size_t i = 0; i < words; i++) {
		char word[9];
		uint32_t value;

		memcpy(word, hex + i * 8, 8);
		word[8] = '\0';
		value = (uint32_t)strtoul(word, NULL, 16);
		memcpy(ip.bytes + i * 4, &value, 4);
	}
	ip.family = words == 1 ? AF_INET : AF_INET6;
	static const uint8_t mapped[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
	if (words == 4 && memcmp(ip.bytes, mapped, sizeof(mapped)) == 0) {
		memmove(ip.bytes, ip.bytes + 12, 4);
		ip.family = AF_INET;
	}
	flat_ip_text(&ip, text);
	snprintf(buf, size, ip.family == AF_INET ? "%s:%lu" : "[%s]:%lu", text,
		 strtoul(colon + 1, NULL, 16));
}

/* Looks for the inode in the process's list of TCP or UDP sockets. */
static bool find_inet(struct inspected *k, long pid, const char *type, uint64_t inode)
{
	char path[64];
	char *line = NULL;
	size_t cap = 0;
	bool found = false;
	FILE *f;
	snprintf(path, sizeof(path), "/proc/%ld/net/%s", pid, type);
	f = fopen(path, "re");
	while (f && !found && getline(&line, &cap, f) > 0) {
		char local[64];
		char remote[64];
		char state[8];
		char has[24];
		if (sscanf(line, " %*s %63s %63s %7s %*s %*s %*s %*s %*s %23s", local, remote,
			   state, has) != 4 ||
		    strtoull(has, NULL, 10) != inode)
			continue;
		k->type = type[0] == 't' ? "tcp" : "udp";
		k->state = (unsigned int)strtoul(state, NULL, 16);
		address_text(local, k->local, sizeof(k->local));
		address_text(remote, k->remote, sizeof(k->remote));
		found = true;
	}
	free(line);
	if (f)
		fclose(f);
	return found;
}

/* The other kinds, of which only the name matters. */
static bool find_other(struct inspected *k, long pid, const char *type, uint64_t inode)
{
	char path[64];
	char *line = NULL;
	size_t cap = 0;
	char want[24];
	FILE *f;

	snprintf(want, sizeof(want), "%" PRIu64, inode);
	snprintf(path, sizeof(path), "/proc/%ld/net/%s", pid, type);
	f = fopen(path, "re");
	while (f && !k->type && getline(&line, &cap, f) > 0) {
		char *save = NULL;

		for (char *w = strtok_r(line, " \n", &save); w; w = strtok_r(NULL, " \n", &save)) {
			if (strcmp(w, want) == 0)
				k->type = type;
		}
	}
	free(line);
	if (f)
		fclose(f);
	return k->type != NULL;
}

static void find_socket(struct inspected *k, long pid, uint64_t inode)
{
	static const char *const inet[] = {"tcp", "tcp6", "udp", "udp6"};
	static const char *const other[] = {"unix", "netlink", "packet", "raw", "raw6"};

	for (size_t i = 0; i < FLAT_ARRAY_SIZE(inet); i++) {
		if (find_inet(k, pid, inet[i], inode))
			return;
	}
	for (size_t i = 0; i < FLAT_ARRAY_SIZE(other); i++) {
		if (find_other(k, pid, other[i], inode))
			return;
	}
}

static void look_at_maps(struct inspected *k, long pid)
{
	char path[64];
	char *line = NULL;
	size_t cap = 0;
	FILE *f;
	snprintf(path, sizeof(path), "/proc/%ld/maps", pid);
	f = fopen(path, "re");
	while (f && getline(&line, &cap, f) > 0) {
		k->maps_read = true;
		if (strstr(line, "/libflat-preload.so") || strstr(line, "/libflat.so"))
			k->library = true;
	}
	free(line);
	if (f)
		fclose(f);
}

static void look_at_environment(struct inspected *k, long pid)
{
	static const char name[] = "FLAT_CONTROL=";
	char path[64];
	char *entry = NULL;
	size_t cap = 0;
	FILE *f;
	snprintf(path, sizeof(path), "/proc/%ld/environ", pid);
	f = fopen(path, "re");
	while (f && getdelim(&entry, &cap, '\0', f) > 0) {
		if (strncmp(entry, name, strlen(name)) == 0)
			snprintf(k->control, sizeof(k->control), "%s", entry + strlen(name));
	}
	free(entry);
	if (f)
		fclose(f);
}

/* A line of /proc/PID/status: how many numbers follow its name, at most `max`; 0: it is not there. */
static size_t status_numbers(long pid, const char *name, unsigned int *v, size_t max)
{
	char path[64];
	char *line = NULL;
	size_t cap = 0;
	size_t n = 0;
	FILE *f;
	snprintf(path, sizeof(path), "/proc/%ld/status", pid);
	f = fopen(path, "re");
	while (f && n == 0 && getline(&line, &cap, f) > 0) {
		char *at = line + strlen(name);
		char *end = NULL;
		if (strncmp(line, name, strlen(name)) != 0)
			continue;
		for (; n < max; n++, at = end) {
			v[n] = (unsigned int)strtoul(at, &end, 10);
			if (end == at)
				break;
		}
	}
	free(line);
	if (f)
		fclose(f);
	return n;
}

/* This process becomes the inspected one's user. False: it may not, and is not. */
static bool become(const struct inspected *k)
{
	unsigned int uid[4];
	unsigned int gid[4];
	unsigned int groups[64];
	if (status_numbers(k->pid, "Uid:", uid, 4) != 4 ||
	    status_numbers(k->pid, "Gid:", gid, 4) != 4)
		return false;
	if (geteuid() != 0)
		return geteuid() == uid[1];
	size_t n = status_numbers(k->pid, "Groups:", groups, FLAT_ARRAY_SIZE(groups));
	return setgroups(n, groups) == 0 && setresgid(gid[1], gid[1], gid[1]) == 0 &&
	       setresuid(uid[1], uid[1], uid[1]) == 0;
}

/* Why the process cannot reach the control socket: asked as its user, under its root. Empty: it can, or that is not known. */
static void look_at_way(const char *control, struct inspected *k, char why[FLAT_DENIED_MAX])
{
	char root[64];
	int fds[2];
	why[0] = '\0';
	snprintf(root, sizeof(root), "/proc/%ld/root", k->pid);
	int at = open(root, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (at < 0 || pipe(fds) != 0) {
		if (at >= 0)
			close(at);
		return;
	}
	pid_t pid = fork();
	if (pid == 0) {
		bool denied = become(k) && flat_denied(at, control, why);
		_exit(denied && write(fds[1], why, strlen(why)) > 0 ? 0 : 1);
	}
	close(at);
	close(fds[1]);
	ssize_t n = pid > 0 ? read(fds[0], why, FLAT_DENIED_MAX - 1) : 0;
	why[n > 0 ? n : 0] = '\0';
	close(fds[0]);
	if (pid > 0)
		(void)waitpid(pid, NULL, 0);
}

/* --- reasons --- */

#define TCP_STATE_ESTABLISHED 1U
#define TCP_STATE_CLOSE 7U
#define TCP_STATE_LISTEN 10U

static const char *state_name(unsigned state)
{
	static const char *const names[] = {"unknown",	  "ESTABLISHED", "SYN_SENT",  "SYN_RECV",
					    "FIN_WAIT1",  "FIN_WAIT2",	 "TIME_WAIT", "CLOSE",
					    "CLOSE_WAIT", "LAST_ACK",	 "LISTEN",    "CLOSING"};
	return names[state < FLAT_ARRAY_SIZE(names) ? state : 0];
}

/* What flatd would say to this connection if a plain client made it now: whether the mesh knows the address. */
static void reason_of_flatd(const struct ctl *ctl, struct inspected *k)
{
	struct flat_strbuf question = {0};
	struct flat_strbuf text = {0};
	flat_strbuf_printf(&question, "why plain %s", k->remote);
	if (!question.failed && ctl_ask(ctl, question.data, &text, true) == CTL_OK &&
	    text.len > 0) {
		char *how = strchr(text.data, '\n');
		if (strstr(text.data, "path kernel"))
			add_reason(k,
				   "no mesh server listens on %s, and no service of the mesh asks "
				   "to be reached through flatd there",
				   k->remote);
		else
			add_reason(
			    k,
			    "%s is in the mesh now (%.*s): the connection was made before flatd or "
			    "the server was there, or by a call that libflat does not see",
			    k->remote, how ? (int)strcspn(how + 1, "\n;") : 0, how ? how + 1 : "");
	}
	flat_strbuf_fini(&question);
	flat_strbuf_fini(&text);
}

static void reason_of_tcp(const struct ctl *ctl, struct inspected *k)
{
	if (k->state == TCP_STATE_CLOSE)
		add_reason(k, "it is neither connected nor listening yet");
	else if (k->state == TCP_STATE_LISTEN && k->library)
		add_reason(k,
			   "it listens, but flatd was not asked, or refused it: see flatd's log");
	else if (k->state == TCP_STATE_ESTABLISHED && k->answers)
		reason_of_flatd(ctl, k);
}

static void find_reasons(const struct ctl *ctl, struct inspected *k)
{
	char denied[FLAT_DENIED_MAX] = "";
	if (k->type && strcmp(k->type, "tcp") != 0) {
		add_reason(k, "it is a %s socket: only TCP goes over virtual queues", k->type);
		return;
	}
	if (!k->answers)
		add_reason(k, "no flatd answers on %s, or you may not ask it", ctl->control);
	/* Said by flatd: it is all there is to it. */
	if (k->misfit)
		return;
	if (!k->session)
		look_at_way(*k->control ? k->control : ctl->control, k, denied);
	if (k->maps_read && !k->library)
		add_reason(
		    k, "libflat is not loaded in the process: start it with flat-run (static and "
		       "set-uid programs cannot load it)");
	else if (k->answers && !k->session && *k->control && strcmp(k->control, ctl->control) != 0)
		add_reason(k, "the process asks another flatd, %s", k->control);
	else if (*denied)
		add_reason(k, "the process does not reach flatd's socket %s: %s",
			   *k->control ? k->control : ctl->control, denied);
	else if (k->answers && !k->session)
		add_reason(
		    k,
		    "the process has no session with this flatd: libflat is %s, and none of its "
		    "sockets has concerned the mesh so far",
		    k->library ? "loaded" : "perhaps not loaded");
	if (k->type)
		reason_of_tcp(ctl, k);
	else
		add_reason(
		    k, "the kernel lists it among no kind of sockets: not bound or connected yet");
}

/* --- flatd's part --- */

/* "found direct\n...", "unknown session\nlast refused ...\n". */
static void ask_flatd(const struct ctl *ctl, struct inspected *k)
{
	struct flat_strbuf text = {0};
	char question[256];
	char word[16] = "";
	char second[16] = "";
	bool tcp = k->type && strcmp(k->type, "tcp") == 0;
	snprintf(question, sizeof(question), "socket %ld %" PRIu64 " %s", k->pid, k->inode,
		 tcp && *k->local ? k->local : "-");
	k->answers = ctl_ask(ctl, question, &text, true) == CTL_OK && text.len > 0;
	if (k->answers && sscanf(text.data, "%15s %15s", word, second) == 2) {
		char *rest = strchr(text.data, '\n');
		size_t len = rest ? strcspn(rest + 1, "\n") : 0;
		k->found = strcmp(word, "found") == 0;
		k->session = k->found || strcmp(second, "session") == 0;
		k->misfit = !k->found && strcmp(second, "misfit") == 0;
		if (k->found)
			memcpy(k->path, second, sizeof(k->path));
		if (len > 0)
			add_reason(k, "%.*s", (int)flat_min_size(len, 800), rest + 1);
	}
	flat_strbuf_fini(&text);
}

/* --- the answer --- */

static void print_text(const struct inspected *k)
{
	if (!k->found)
		printf("%s socket", k->type ? k->type : "unbound");
	if (!k->found && k->type && strcmp(k->type, "tcp") == 0)
		printf(", %s", state_name(k->state));
	if (*k->local)
		printf(", %s -> %s", k->local, k->remote);
	if (strcmp(k->path, "listener") == 0)
		printf("a listener of the mesh\n");
	else
		printf("%spath %s, %saccelerated\n", k->found ? "" : "\n", k->path,
		       strcmp(k->path, "direct") == 0 ? "" : "not ");
	for (size_t i = 0; i < k->n_reasons; i++)
		printf("%s%s\n", k->found ? "" : "  ", k->reasons[i]);
}

static int print_json(const struct inspected *k)
{
	struct flat_strbuf text = {0};
	struct flat_json json;
	flat_json_init(&json, &text, false);
	flat_json_object(&json, NULL);
	flat_json_bool(&json, "found", k->found);
	flat_json_string(&json, "path", k->path);
	flat_json_bool(&json, "accelerated", strcmp(k->path, "direct") == 0);
	flat_json_bool(&json, "session", k->session);
	if (!k->found) {
		flat_json_string(&json, "type", k->type);
		flat_json_string(&json, "state",
				 k->type && strcmp(k->type, "tcp") == 0 ? state_name(k->state)
									: NULL);
		flat_json_string(&json, "local", *k->local ? k->local : NULL);
		flat_json_string(&json, "remote", *k->remote ? k->remote : NULL);
		flat_json_bool(&json, "library", k->library);
	}
	flat_json_array(&json, "reasons");
	for (size_t i = 0; i < k->n_reasons; i++)
		flat_json_string(&json, NULL, k->reasons[i]);
	flat_json_array_end(&json);
	flat_json_object_end(&json);
	int ret = flat_json_done(&json) && puts(text.data) >= 0 ? CTL_OK : CTL_FAILED;
	flat_strbuf_fini(&text);
	return ret;
}

/* The inode behind a descriptor. 0: it is no socket. CTL_FAILED was told why. */
static int find_inode(long pid, const char *fd, uint64_t *inode, char target[4096])
{
	static const char prefix[] = "socket:[";
	char path[64];
	snprintf(path, sizeof(path), "/proc/%ld/fd/%.20s", pid, fd);
	ssize_t n = readlink(path, target, 4095);
	if (n < 0) {
		fprintf(stderr,
			errno == EACCES
			    ? "flatctl: %s: the process is another user's; use sudo\n"
			    : "flatctl: %s: there is no such process, or it has no such "
			      "descriptor\n",
			path);
		return CTL_FAILED;
	}
	target[n] = 0;
	*inode = strncmp(target, prefix, strlen(prefix)) == 0
		     ? strtoull(target + strlen(prefix), NULL, 10)
		     : 0;
	return CTL_OK;
}

int ctl_why_socket(const struct ctl *ctl, long pid, const char *fd)
{
	char target[4096];
	struct inspected *k = calloc(1, sizeof(*k));
	int ret = k ? find_inode(pid, fd, &k->inode, target) : CTL_FAILED;
	if (ret != CTL_OK) {
		free(k);
		return ret;
	}
	k->pid = pid;
	memcpy(k->path, "kernel", sizeof("kernel"));
	if (k->inode == 0) {
		add_reason(k, "it is no socket: %.800s", target);
	} else {
		find_socket(k, pid, k->inode);
		ask_flatd(ctl, k);
	}
	if (k->inode != 0 && !k->found) {
		look_at_maps(k, pid);
		look_at_environment(k, pid);
		find_reasons(ctl, k);
	}
	if (ctl->json)
		ret = print_json(k);
	else
		print_text(k);
	free(k);
	return ret;
}
