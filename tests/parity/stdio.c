/* Streams of libc over sockets, and programs that find one at 0 and 1, as inetd starts them. */
#include <stdarg.h>
#include <wchar.h>

#include "parity.h"

static char buf[256];

static ssize_t whole(int fd)
{
	return (ssize_t)recv_all(fd, buf, sizeof(buf));
}

BEHAVIOUR(stdio_lines_both_ways)
{
	int c, s;
	pair(&c, &s);
	FILE *in = fdopen(s, "r");
	FILE *out = fdopen(dup(s), "w");
	send_all(c, "one\ntwo\nthr", 11);
	DO(fgets(buf, sizeof(buf), in) != NULL);
	say("%s", buf);
	DO(fgets(buf, sizeof(buf), in) != NULL);
	send_all(c, "ee\n", 3);
	DO(fgets(buf, sizeof(buf), in) != NULL);
	say("%s", buf);
	DO(fputs("answer\n", out));
	DO(fflush(out));
	await_bytes(c, 7);
	DO(recv(c, buf, sizeof(buf), 0));
	DO(fclose(out));
	DO(fclose(in));
	DO(recv(c, buf, 1, 0));
}

static int print_list(int fd, const char *format, ...)
{
	va_list ap;
	va_start(ap, format);
	int n = vdprintf(fd, format, ap);
	va_end(ap);
	return n;
}

BEHAVIOUR(stdio_dprintf)
{
	int c, s, n = 0;
	char much[9000];
	pair(&c, &s);
	memset(much, 'm', sizeof(much));
	DO(dprintf(c, "%s %d%n\n", "one", 1, &n));
	DO(n);
	DO(print_list(c, "%.3s", "three"));
	DO(dprintf(c, "%s", ""));
	await_bytes(s, 9);
	say_bytes("came", buf, recv(s, buf, sizeof(buf), 0));
	DO(dprintf(c, "%.*s.", (int)sizeof(much), much));
	DO(drain(s, sizeof(much) + 1));
	close(s);
	count_signal(SIGPIPE, 0);
	await(c, POLLIN);
	DO(dprintf(c, "x"));
	await(c, POLLHUP);
	DO(dprintf(c, "y"));
	say("signals %d", (int)signals_seen);
}

BEHAVIOUR(stdio_line_buffered)
{
	int c, s;
	pair(&c, &s);
	FILE *f = fdopen(s, "w");
	DO(setvbuf(f, NULL, _IOLBF, 256));
	DO(fprintf(f, "a line\nand a"));
	await_bytes(c, 7);
	pause_ms(10);
	DO(recv(c, buf, 100, MSG_DONTWAIT));
	DO(fclose(f));
	DO(whole(c));
	say_bytes("rest", buf, 5);
}

BEHAVIOUR(stdio_unbuffered)
{
	int c, s;
	pair(&c, &s);
	FILE *f = fdopen(s, "r+");
	setbuf(f, NULL);
	DO(fputc('x', f));
	DO(recv(c, buf, 1, 0));
	send_all(c, "yz", 2);
	DO(fgetc(f));
	DO(fgetc(f));
	DO(fclose(f));
}

BEHAVIOUR(stdio_end_and_error)
{
	int c, s;
	pair(&c, &s);
	FILE *f = fdopen(s, "r");
	send_all(c, "ab", 2);
	close(c);
	DO(fread(buf, 1, 10, f));
	say("eof %d error %d", feof(f) != 0, ferror(f) != 0);
	DO(fread(buf, 1, 10, f));
	DO(fclose(f));
}

BEHAVIOUR(stdio_would_block)
{
	int c, s;
	pair(&c, &s);
	set_nonblock(s);
	FILE *f = fdopen(s, "r");
	DO(fgetc(f));
	say("eof %d error %d", feof(f) != 0, ferror(f) != 0);
	clearerr(f);
	send_all(c, "k", 1);
	await(s, POLLIN);
	DO(fgetc(f));
}

BEHAVIOUR(stdio_write_fails)
{
	int c, s;
	pair(&c, &s);
	FILE *f = fdopen(c, "w");
	signal(SIGPIPE, SIG_IGN);
	shutdown(c, SHUT_WR);
	DO(fputs("lost", f));
	DO(fflush(f));
	say("error %d", ferror(f) != 0);
	DO(fclose(f));
}

BEHAVIOUR(stdio_wide)
{
	int c, s;
	pair(&c, &s);
	FILE *f = fdopen(s, "w");
	DO(fwide(f, 1));
	DO(fputws(L"wide\n", f));
	DO(fclose(f));
	DO(whole(c));
	say_bytes("came", buf, 5);
}

BEHAVIOUR(stdio_getline)
{
	int c, s;
	char *line = NULL;
	size_t n = 0;
	pair(&c, &s);
	FILE *f = fdopen(s, "r");
	send_all(c, "first\nlast", 10);
	close(c);
	DO(getline(&line, &n, f));
	DO(getline(&line, &n, f));
	say("%s", line);
	DO(getline(&line, &n, f));
	free(line);
}

BEHAVIOUR(stdio_seek_is_refused)
{
	int c, s;
	pair(&c, &s);
	FILE *f = fdopen(s, "r+");
	DO(fseek(f, 0, SEEK_SET));
	DO(ftell(f));
	DO(fileno(f) == s);
	DO(fclose(f));
	DO(fcntl(s, F_GETFD));
}

BEHAVIOUR(stdio_exit_flushes)
{
	int c, s;
	pair(&c, &s);
	pid_t pid = fork();
	if (pid == 0) {
		FILE *f = fdopen(s, "w");
		fputs("at exit", f);
		exit(0);
	}
	close(s);
	DO(whole(c));
	say_bytes("came", buf, 7);
	reap(pid);
}

BEHAVIOUR(stdio_big)
{
	int c, s;
	static char block[100000];
	pair(&c, &s);
	pid_t pid = fork();
	if (pid == 0) {
		FILE *f = fdopen(s, "w");
		close(c);
		size_t n = 0;
		for (int i = 0; i < 20; i++)
			n += fwrite(block, 1, sizeof(block), f);
		exit(n != 20 * sizeof(block) || fclose(f) != 0);
	}
	close(s);
	FILE *in = fdopen(c, "r");
	size_t total = 0, n;
	while ((n = fread(block, 1, sizeof(block), in)) > 0)
		total += n;
	say("came %zu", total);
	reap(pid);
}

/* --- inetd --- */

static void serve(int s, char *const argv[])
{
	pid_t pid = fork();
	if (pid == 0) {
		dup2(s, 0);
		dup2(s, 1);
		dup2(s, 2);
		closefrom(3);
		execvp(argv[0], argv);
		_exit(127);
	}
	close(s);
	reap(pid);
}

static void inetd(char *const argv[], const char *question)
{
	int c, s;
	pair(&c, &s);
	send_all(c, question, strlen(question));
	shutdown(c, SHUT_WR);
	serve(s, argv);
	ssize_t n = whole(c);
	say_bytes("came", buf, n);
}

BEHAVIOUR(stdio_inetd_shell)
{
	inetd((char *[]){"sh", "-c", "read line; echo \"got $line\"; cat", NULL},
	      "first\nsecond\n");
}

BEHAVIOUR(stdio_inetd_bash)
{
	inetd(
	    (char *[]){"bash", "-c", "read line; echo \"got $line\"; printf '%s.' \"$line\"", NULL},
	    "first\n");
}

BEHAVIOUR(stdio_inetd_stderr)
{
	inetd((char *[]){"sh", "-c",
			 "ls /nowhere/at/all 2>&1 | wc -l; ls /nowhere/at/all >/dev/null", NULL},
	      "");
}

BEHAVIOUR(stdio_inetd_sort)
{
	inetd((char *[]){"sort", NULL}, "b\nc\na\n");
}

BEHAVIOUR(stdio_bash_opens)
{
	/* The shell itself connects, and puts the socket under 0 and 1 of its builtins. */
	char script[200];
	int l = listener(0);
	pid_t pid = fork();
	if (pid == 0) {
		(void)snprintf(
		    script, sizeof(script),
		    "exec 5<>/dev/tcp/127.0.0.1/%d; echo hello >&5; read -u 5 x; echo \"$x\" >&5; "
		    "cat <&5 >&2",
		    ntohs(where(0).sin_port));
		execlp("bash", "bash", "-c", script, NULL);
		_exit(127);
	}
	int s = accept(l, NULL, NULL);
	DO(recv(s, buf, 6, MSG_WAITALL));
	send_all(s, "mirror\n", 7);
	DO(recv(s, buf, 7, MSG_WAITALL));
	say_bytes("back", buf, 7);
	send_all(s, "to cat\n", 7);
	close(s);
	reap(pid);
}

BEHAVIOUR(stdio_popen_inherits)
{
	int c, s;
	char command[64];
	pair(&c, &s);
	(void)snprintf(command, sizeof(command), "echo from popen >&%d", s);
	FILE *p = popen(command, "r");
	DO(pclose(p));
	(void)snprintf(command, sizeof(command), "echo from system >&%d", s);
	DO(system(command));
	close(s);
	ssize_t n = whole(c);
	say_bytes("came", buf, n);
}

BEHAVIOUR(stdio_daemon)
{
	int c, s;
	pair(&c, &s);
	pid_t pid = fork();
	if (pid == 0) {
		dup2(s, 0);
		dup2(s, 1);
		int keep = fcntl(s, F_DUPFD, 50);
		close(s);
		/* Of the three numbers nothing is left, of the copy all. */
		if (daemon(1, 0) != 0)
			_exit(1);
		(void)!write(1, "void", 4);
		send_all(keep, "daemon", 6);
		_exit(0);
	}
	close(s);
	reap(pid);
	ssize_t n = whole(c);
	say_bytes("came", buf, n);
}
