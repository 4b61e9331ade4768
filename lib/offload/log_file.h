/*
 * Files of access logs. The control thread appends lines to a buffer; a thread of its own writes what has gathered, many
 * lines with one system call, so that a slow disk or reader of a pipe holds up no request. What the buffer has no room for
 * is dropped and counted. A file that was moved away is made anew within a second, or at once by SIGUSR1.
 */
#ifndef FLAT_OFFLOAD_LOG_FILE_H
#define FLAT_OFFLOAD_LOG_FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/base.h"

/* Bytes of one file that wait: a second of 20,000 requests, 200 bytes each. */
#define FLAT_LOG_WAITING_MAX ((size_t)4 << 20)
/* Files at once. */
#define FLAT_LOG_FILES_MAX 64U

struct flat_log_files;
struct flat_log_file;

/** NULL without memory. The thread is made with the first file. */
struct flat_log_files *flat_log_files_new(void);
/** Writes what waits, for up to a second, and frees all. */
void flat_log_files_free(struct flat_log_files *files);

/**
 * The file of a path; "/dev/stdout" and "/dev/stderr" are flatd's own. Lives until flat_log_files_free(). NULL where it cannot
 * be opened, which is said in flatd's log once.
 */
struct flat_log_file *flat_log_file_get(struct flat_log_files *files, const char *path);

/** The same where it is open already; else NULL. */
struct flat_log_file *flat_log_file_find(const struct flat_log_files *files, const char *path);

/** Appends whole lines. Control thread; never blocks. */
void flat_log_file_put(struct flat_log_file *file, const void *bytes, size_t len);

/** Opens all files anew before the next write. Any thread. */
void flat_log_files_reopen(struct flat_log_files *files);

/** Lines that were dropped since the start. */
uint64_t flat_log_files_dropped(const struct flat_log_files *files);

#endif
