/*
 * A static program, which no library reaches, on a socket that it was given as standard input. Its arguments say what it does,
 * one after the other:
 *
 *   r N        reads N bytes, each read() asking for no more, and writes them to standard output
 *   p N        looks at N bytes with MSG_PEEK, likewise
 *   v N FROM   reads N bytes of the stream whose byte i is i * 7 / 3, from byte FROM on, and writes whether they are these
 *   a          reads to the end, and writes count and sum, two longs, to descriptor 3
 *   w TEXT     writes TEXT to the socket
 *   s, c       shuts the socket down for writing; closes it
 *   t, g       tells by a byte on descriptor 3; waits for a byte, or the end, on descriptor 4
 *   f          forks: the child goes on, the parent ends
 *   k          kills itself
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static char buf[65536];

static void say_text(const char *what, const char *text, ssize_t n)
{
	dprintf(1, "static %s %zd '%.*s'\n", what, n, n > 0 ? (int)n : 0, text);
}

static size_t take(size_t want, long long from, long *wrong)
{
	size_t done = 0;
	while (done < want) {
		size_t most = want - done < sizeof(buf) ? want - done : sizeof(buf);
		ssize_t n = read(0, from < 0 ? buf + done : buf, most);
		if (n <= 0)
			break;
		for (ssize_t i = 0; i < n && from >= 0; i++)
			*wrong += buf[i] != (char)((from + (long long)done + i) * 7 / 3);
		done += (size_t)n;
	}
	return done;
}

static void take_all(void)
{
	long told[2] = {0, 0};
	ssize_t n;
	while ((n = read(0, buf, 4096)) > 0) {
		told[0] += n;
		for (ssize_t i = 0; i < n; i++)
			told[1] += (unsigned char)buf[i];
	}
	if (write(3, told, sizeof(told)) != sizeof(told))
		_exit(3);
}

static void numbers(char what, char **arg)
{
	size_t n = strtoul(arg[0], NULL, 10);
	long wrong = 0;
	if (what == 'r') {
		say_text("read", buf, (ssize_t)take(n, -1, &wrong));
	} else if (what == 'p') {
		say_text("peeked", buf, recv(0, buf, n, MSG_PEEK | MSG_WAITALL));
	} else {
		size_t got = take(n, strtoll(arg[1], NULL, 10), &wrong);
		dprintf(1, "static read %zu wrong %ld\n", got, wrong);
	}
}

static void simple(char what)
{
	char byte = '.';
	if (what == 'a')
		take_all();
	else if (what == 's')
		shutdown(0, SHUT_WR);
	else if (what == 'c')
		close(0);
	else if (what == 't' && write(3, &byte, 1) != 1)
		_exit(3);
	else if (what == 'g' && read(4, &byte, 1) < 0)
		_exit(3);
	else if (what == 'f' && fork() != 0)
		_exit(0);
	else if (what == 'k')
		kill(getpid(), SIGKILL);
}

int main(int argc, char **argv)
{
	/* Who was killed says why its test did not end. */
	alarm(30);
	for (int i = 1; i < argc; i++) {
		char what = argv[i][0];
		int more = what == 'v' ? 2 : strchr("rpw", what) ? 1 : 0;
		if (i + more >= argc)
			return 2;
		if (what == 'w' && write(0, argv[i + 1], strlen(argv[i + 1])) < 0)
			return 3;
		if (strchr("rpv", what))
			numbers(what, argv + i + 1);
		else
			simple(what);
		i += more;
	}
	return 0;
}
