/* What behaviours write: one line each, whole, so that processes and threads do not mix. */
#include <stdarg.h>
#include <sys/syscall.h>

#include "parity.h"

/* What a thread says waits until it is joined: which of two threads goes first is no behaviour. */
struct told {
	size_t len;
	char text[16384];
};
static __thread struct told *own;
static size_t lines; /* that the first thread said at once */

struct told *say_later(void)
{
	return calloc(1, sizeof(struct told));
}

void say_into(struct told *told)
{
	own = told;
}

static void put(const char *text, size_t len)
{
	if (write(1, text, len) != (ssize_t)len)
		_exit(3);
}

void say_told(struct told *told)
{
	if (told && told->len)
		put(told->text, told->len);
	free(told);
}

void say_now(void)
{
	struct told *told = own;
	own = NULL;
	say_told(told);
}

void say(const char *format, ...)
{
	char line[1024];
	va_list ap;
	int saved = errno;
	va_start(ap, format);
	int n = vsnprintf(line, sizeof(line) - 1, format, ap);
	va_end(ap);
	if (n > (int)sizeof(line) - 2)
		n = (int)sizeof(line) - 2;
	line[n++] = '\n';
	if (own && own->len + (size_t)n <= sizeof(own->text)) {
		memcpy(own->text + own->len, line, (size_t)n);
		own->len += (size_t)n;
	} else {
		put(line, (size_t)n);
		lines++;
	}
	errno = saved;
}

const char *wanted(void)
{
	static FILE *file;
	static size_t read_n;
	static char line[1024];
	const char *path = getenv("PARITY_WANTED");
	if (!file && path)
		file = fopen(path, "re");
	if (!file)
		return NULL;
	while (read_n <= lines) {
		if (!fgets(line, sizeof(line), file))
			return NULL;
		read_n++;
	}
	line[strcspn(line, "\n")] = 0;
	return line;
}

const char *error_name(int error)
{
	const char *name = error ? strerrorname_np(error) : "0";
	return name ? name : "unknown";
}

void say_result(const char *what, long result, int error)
{
	if (result < 0)
		say("%s = %ld %s", what, result, error_name(error));
	else if (error)
		say("%s = %ld, errno disturbed: %s", what, result, error_name(error));
	else
		say("%s = %ld", what, result);
}

void say_bytes(const char *what, const void *bytes, ssize_t len)
{
	char text[256];
	size_t n = 0;
	for (ssize_t i = 0; i < len && n < sizeof(text) - 8; i++) {
		unsigned char c = ((const unsigned char *)bytes)[i];
		n += (size_t)snprintf(text + n, sizeof(text) - n,
				      c >= 32 && c < 127 ? "%c" : "\\%02x", c);
	}
	text[n] = 0;
	say("%s: %zd bytes '%s'%s", what, len, text, len > 240 ? "..." : "");
}

void say_addr(const char *what, const struct sockaddr *addr, socklen_t len)
{
	char ip[64] = "-";
	const struct sockaddr_in *v4 = (const void *)addr;
	const struct sockaddr_in6 *v6 = (const void *)addr;
	int port = -1;
	if (addr->sa_family == AF_INET && len >= sizeof(*v4)) {
		inet_ntop(AF_INET, &v4->sin_addr, ip, sizeof(ip));
		port = ntohs(v4->sin_port);
	} else if (addr->sa_family == AF_INET6 && len >= sizeof(*v6)) {
		inet_ntop(AF_INET6, &v6->sin6_addr, ip, sizeof(ip));
		port = ntohs(v6->sin6_port);
	}
	/* Ports differ between runs: only which of ours it is. */
	const char *kind = port == 0 ? "0" : "ephemeral";
	char own[16];
	for (int i = 0; i < 4; i++) {
		if (port == ntohs(where(i).sin_port)) {
			(void)snprintf(own, sizeof(own), "where(%d)", i);
			kind = own;
		}
	}
	say("%s: family %d %s port %s len %u", what, addr->sa_family, ip, port < 0 ? "-" : kind,
	    (unsigned int)len);
}

const char *poll_names(unsigned int mask, char text[128])
{
	static const struct {
		unsigned int bit;
		const char *name;
	} bits[] = {{POLLIN, "IN"},	    {POLLPRI, "PRI"},	    {POLLOUT, "OUT"},
		    {POLLERR, "ERR"},	    {POLLHUP, "HUP"},	    {POLLNVAL, "NVAL"},
		    {POLLRDNORM, "RDNORM"}, {POLLRDBAND, "RDBAND"}, {POLLWRNORM, "WRNORM"},
		    {POLLWRBAND, "WRBAND"}, {POLLRDHUP, "RDHUP"}};
	size_t n = 0;
	text[0] = 0;
	for (size_t i = 0; i < sizeof(bits) / sizeof(*bits); i++) {
		if (mask & bits[i].bit)
			n +=
			    (size_t)snprintf(text + n, 128 - n, "%s%s", n ? "|" : "", bits[i].name);
		mask &= ~bits[i].bit;
	}
	if (mask)
		(void)snprintf(text + n, 128 - n, "|%#x", mask);
	return text[0] ? text : "nothing";
}

void say_mask(const char *what, int fd)
{
	char text[128];
	struct pollfd p = {.fd = fd,
			   .events = POLLIN | POLLPRI | POLLOUT | POLLRDHUP | POLLRDNORM |
				     POLLRDBAND | POLLWRNORM | POLLWRBAND};
	int n = poll(&p, 1, 0);
	say("%s: poll %d %s", what, n, poll_names((unsigned short)p.revents, text));
}

void say_option(const char *what, int fd, int level, int name)
{
	int value[4] = {-7, -7, -7, -7};
	socklen_t len = sizeof(value);
	if (getsockopt(fd, level, name, value, &len) < 0)
		say("%s: %s", what, error_name(errno));
	else
		say("%s: %d len %u", what, value[0], (unsigned int)len);
}

void try_option(const char *what, int fd, int level, int name, int value)
{
	errno = 0;
	int result = setsockopt(fd, level, name, &value, sizeof(value));
	say_result(what, result, errno);
	say_option("  then", fd, level, name);
}

void say_elapsed(long since, long ms)
{
	long took = now_ms() - since;
	say("%ld ms %s", ms, took < ms - 5 ? "not over" : took > ms + 4000 ? "long over" : "over");
}
