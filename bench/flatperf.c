/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdio.h>
#include <sys/resource.h>

#include "client.h"
#include "clock.h"
#include "msg.h"
#include "net.h"
#include "opts.h"
#include "server.h"

static void raise_open_files(void)
{
	struct rlimit lim;
	if (getrlimit(RLIMIT_NOFILE, &lim) == 0 && lim.rlim_cur < lim.rlim_max) {
		lim.rlim_cur = lim.rlim_max;
		/* Where this is refused, opening too many says so itself. */
		(void)setrlimit(RLIMIT_NOFILE, &lim);
	}
}

int main(int argc, char **argv)
{
	struct perf_opts o;
	int rc = perf_opts_parse(&o, argc, argv, stdout, stderr);
	if (rc != 0)
		return rc < 0 ? 2 : 0;
	const struct perf_net *net = perf_net_find(o.transport);
	if (!net) /* perf_opts_parse takes only transports that are there */
		return 2;
	if (perf_pattern_init(o.msg_size) < 0) {
		fprintf(stderr, "flatperf: out of memory\n");
		return 1;
	}
	raise_open_files();
	perf_clock_init(o.use_tsc);
	rc = o.mode == PERF_SERVER ? perf_server_run(net, &o) : perf_client_run(net, &o);
	return rc < 0 ? 1 : 0;
}
