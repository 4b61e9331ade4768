#include "base/log.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/sys.h"

#define LINE_MAX_BYTES 1000

static int log_fd = -1;
static enum flat_log_level log_level = FLAT_LOG_NONE;
static const char *log_program = "flat";

static const char *const level_names[] = {"none", "error", "warn", "info", "debug"};

void flat_log_init(int fd, enum flat_log_level level, const char *program)
{
	log_fd = fd;
	log_level = fd < 0 ? FLAT_LOG_NONE : level;
	log_program = program;
}

int flat_log_level_parse(const char *name)
{
	for (size_t i = 0; i < FLAT_ARRAY_SIZE(level_names); i++) {
		if (strcmp(name, level_names[i]) == 0)
			return (int)i;
	}
	return -EINVAL;
}

int flat_log_wants(enum flat_log_level level)
{
	return level <= log_level;
}

void flat_log(enum flat_log_level level, const char *fmt, ...)
{
	if (level > log_level || level == FLAT_LOG_NONE)
		return;
	int saved = errno;
	char line[LINE_MAX_BYTES + 1];
	struct timespec now;
	struct tm tm;
	clock_gettime(CLOCK_REALTIME, &now);
	gmtime_r(&now.tv_sec, &tm);
	size_t len = strftime(line, sizeof(line), "%Y-%m-%dT%H:%M:%S", &tm);
	int n = snprintf(line + len, sizeof(line) - len, ".%03ldZ %s %s: ", now.tv_nsec / 1000000,
			 log_program, level_names[level]);
	if (n > 0)
		len = flat_min_size(len + (size_t)n, LINE_MAX_BYTES - 1);
	va_list ap;
	va_start(ap, fmt);
	n = vsnprintf(line + len, LINE_MAX_BYTES - len, fmt, ap);
	va_end(ap);
	if (n > 0)
		len = flat_min_size(len + (size_t)n, LINE_MAX_BYTES - 1);
	line[len++] = '\n';
	(void)flat_sys_write(log_fd, line, len);
	errno = saved;
}
