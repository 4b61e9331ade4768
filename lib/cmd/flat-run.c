/* flat-run: runs a command through libflat, as a workload of the mesh where that is asked for. */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <flat/flat.h>

#include "base/denied.h"
#include "base/log.h"
#include "cmd/flat_run.h"
#include "vq/attach.h"

static const char usage[] =
    "usage: flat-run [options] [--] COMMAND [ARGUMENT]...\n"
    "Runs a command through libflat: its connections to services of the mesh go over virtual "
    "queues.\n"
    "\n"
    "  --workload NAME[.NAMESPACE]  put the command into the cgroup of this workload, so that the\n"
    "                               kernel says who it is (namespace: default)\n"
    "  --control PATH   flatd's control socket (default: $FLAT_CONTROL, else\n"
    "                   /run/flat/control.sock)\n"
    "  --off            run the command without libflat\n"
    "  --log LEVEL      let libflat write to the command's stderr: error, warn, info, debug, none\n"
    "  --help           this text\n"
    "  --version        the version\n"
    "\n"
    "Exit status: the command's; 125 if flat-run fails, 126 if the command cannot be run, 127 if "
    "it\n"
    "is not found.\n";

struct run_options {
	const char *workload; /* NULL: none */
	const char *control;  /* NULL: as inherited */
	const char *log;      /* NULL: as inherited */
	bool off;
};

void run_say(const char *fmt, ...)
{
	char line[1024];
	va_list args;

	va_start(args, fmt);
	vsnprintf(line, sizeof(line), fmt, args);
	va_end(args);
	fprintf(stderr, "flat-run: %s\n", line);
}

/* 0: go on; 1: done; -1: wrong use. */
static int parse(int argc, char **argv, struct run_options *o)
{
	static const struct option options[] = {
	    {"workload", required_argument, NULL, 'w'},
	    {"control", required_argument, NULL, 'c'},
	    {"off", no_argument, NULL, 'o'},
	    {"log", required_argument, NULL, 'l'},
	    {"help", no_argument, NULL, 'h'},
	    {"version", no_argument, NULL, 'v'},
	    {NULL, 0, NULL, 0},
	};
	int opt;

	while ((opt = getopt_long(argc, argv, "+", options, NULL)) != -1) {
		switch (opt) {
		case 'w':
			o->workload = optarg;
			break;
		case 'c':
			o->control = optarg;
			break;
		case 'o':
			o->off = true;
			break;
		case 'l':
			o->log = optarg;
			break;
		case 'h':
			fputs(usage, stdout);
			return 1;
		case 'v':
			printf("flat-run %s\n", flat_version());
			return 1;
		default:
			return -1;
		}
	}
	if (optind == argc) {
		run_say("no command given");
		return -1;
	}
	return 0;
}

/* The control socket by its absolute path: the command may change its folder. */
static int set_control(const char *path)
{
	char absolute[PATH_MAX];
	char cwd[PATH_MAX];

	if (path[0] == '/')
		return setenv("FLAT_CONTROL", path, 1) == 0 ? 0 : -errno;
	if (!getcwd(cwd, sizeof(cwd)))
		return -errno;
	if ((size_t)snprintf(absolute, sizeof(absolute), "%s/%s", cwd, path) >= sizeof(absolute))
		return -ENAMETOOLONG;
	return setenv("FLAT_CONTROL", absolute, 1) == 0 ? 0 : -errno;
}

static int set_environment(const struct run_options *o)
{
	char preload[PATH_MAX];
	int err;

	if (o->control) {
		err = set_control(o->control);
		if (err != 0) {
			run_say("--control %s: %s", o->control, strerror(-err));
			return err;
		}
	}
	if (o->log && setenv("FLAT_LOG", o->log, 1) != 0)
		return -errno;
	if (o->off)
		return run_preload_set(NULL);
	err = run_preload_find(preload, sizeof(preload));
	if (err == -ENOENT) {
		run_say("libflat-preload.so is neither beside flat-run nor in ../lib nor in %s; "
			"install libflat, or run the command with --off",
			FLAT_INSTALL_LIBDIR);
		return err;
	}
	if (err != 0) {
		run_say("libflat-preload.so lies in a folder whose name LD_PRELOAD cannot carry "
			"(blanks, "
			"colons); move it");
		return err;
	}
	return run_preload_set(preload);
}

/* The command runs all the same: libflat leaves its sockets to the kernel, and says so to FLAT_LOG alone. */
static void check_control(void)
{
	const char *path = getenv("FLAT_CONTROL");
	const char *dir = getenv("XDG_RUNTIME_DIR");
	char own[PATH_MAX] = "";
	char why[FLAT_DENIED_MAX];

	if (dir && !(path && *path))
		snprintf(own, sizeof(own), "%s/flat/control.sock", dir);
	path = path && *path ? path : FLAT_CONTROL_PATH;
	if (access(own, W_OK) != 0 && flat_denied(AT_FDCWD, path, why))
		run_say("%s: the command's sockets will be the kernel's: %s", path, why);
}

int main(int argc, char **argv)
{
	struct run_options o = {0};
	struct run_workload workload;
	int err = parse(argc, argv, &o);

	if (err > 0)
		return 0;
	if (err == 0 && o.log && flat_log_level_parse(o.log) < 0) {
		run_say("--log %s: not one of error, warn, info, debug, none", o.log);
		err = -1;
	}
	if (err == 0 && o.workload && run_workload_parse(o.workload, &workload) != 0) {
		run_say(
		    "--workload %s: not a NAME or NAME.NAMESPACE (lower case letters, digits and "
		    "dashes)",
		    o.workload);
		err = -1;
	}
	if (err != 0) {
		fputs("See flat-run --help.\n", stderr);
		return RUN_EXIT_FAILED;
	}
	err = set_environment(&o);
	if (err == -ENOMEM)
		run_say("out of memory");
	if (err != 0)
		return RUN_EXIT_FAILED;
	/* Where it may not, the command runs all the same: other selectors may attest it. */
	if (o.workload)
		(void)run_cgroup_enter(&workload);
	if (!o.off) {
		check_control();
		run_preload_check(argv[optind]);
	}
	execvp(argv[optind], argv + optind);
	err = errno;
	run_say("%s: %s", argv[optind], strerror(err));
	return err == ENOENT ? RUN_EXIT_NOT_FOUND : RUN_EXIT_CANNOT;
}
