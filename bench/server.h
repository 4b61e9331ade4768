/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PERF_SERVER_H
#define PERF_SERVER_H

#include "net.h"

/**
 * perf_server_run() - serve until SIGINT or SIGTERM, then print what was served.
 *
 * Call from the main thread before any other thread is started: it blocks the two signals for all.
 * Returns 0, -EILSEQ when a connection sent wrong bytes, or the negative errno of what could not be
 * set up.
 */
int perf_server_run(const struct perf_net *net, const struct perf_opts *o);

#endif
