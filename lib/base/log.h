/*
 * Logging. One line per message, to stderr or to a file descriptor chosen by the program. In an
 * application's process the host half logs nothing unless FLAT_LOG asks for it (design.md: nothing
 * is ever printed to the application's fds 0-2 unless asked for).
 */
#ifndef FLAT_BASE_LOG_H
#define FLAT_BASE_LOG_H

#include "base/base.h"

enum flat_log_level {
	FLAT_LOG_NONE,
	FLAT_LOG_ERROR,
	FLAT_LOG_WARN,
	FLAT_LOG_INFO,
	FLAT_LOG_DEBUG,
};

/**
 * Sets where and how much is logged. `fd` is borrowed for as long as logging goes on; -1 silences
 * everything. Not thread-safe: called once at start.
 */
void flat_log_init(int fd, enum flat_log_level level, const char *program);

/** Parses "error", "warn", "info", "debug", "none". Returns the level, or -EINVAL. */
FLAT_MUST_CHECK int flat_log_level_parse(const char *name);

/** Whether a message of `level` would be written. */
int flat_log_wants(enum flat_log_level level);

/**
 * Writes one line (cut at 1,000 bytes) with time, level and program. errno is kept. Safe in any thread;
 * does not allocate; one write() per line, so lines of several processes do not mix.
 */
void flat_log(enum flat_log_level level, const char *fmt, ...) FLAT_PRINTF(2, 3);

#define flat_error(...) flat_log(FLAT_LOG_ERROR, __VA_ARGS__)
#define flat_warn(...) flat_log(FLAT_LOG_WARN, __VA_ARGS__)
#define flat_info(...) flat_log(FLAT_LOG_INFO, __VA_ARGS__)
#define flat_debug(...)                                                                            \
	do {                                                                                       \
		if (flat_log_wants(FLAT_LOG_DEBUG))                                                \
			flat_log(FLAT_LOG_DEBUG, __VA_ARGS__);                                     \
	} while (0)

#endif
