/* Signals that tell of a socket, asked for before it is connected or listens, and kept when it is another under its number. */
#include <linux/sockios.h>

#include "parity.h"

static void say_file(const char *what, int fd)
{
	struct f_owner_ex owner = {0};
	int err = fcntl(fd, F_GETOWN_EX, &owner);
	say("%s: flags %#x owner %d %d type %d signal %d", what, (unsigned)fcntl(fd, F_GETFL),
	    fcntl(fd, F_GETOWN) == getpid(), err ? -1 : owner.pid == getpid(), (int)owner.type,
	    fcntl(fd, F_GETSIG));
}

static void say_signalled(const char *what)
{
	for (int i = 0; i < 400 && !signals_seen; i++)
		pause_ms(5);
	say("%s: told %d", what, signals_seen > 0);
}

static void ask(int fd)
{
	DO(fcntl(fd, F_SETOWN, getpid()));
	DO(fcntl(fd, F_SETSIG, SIGUSR1));
	DO(fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_ASYNC | O_APPEND));
}

static int unspec(int fd)
{
	struct sockaddr a = {.sa_family = AF_UNSPEC};
	return connect(fd, &a, sizeof(a));
}

BEHAVIOUR(async_asked_before_connect)
{
	struct sockaddr_in a = where(0);
	int l = listener(0), c = tcp(0);
	count_signal(SIGUSR1, SA_RESTART);
	ask(c);
	DO(connect(c, (struct sockaddr *)&a, sizeof(a)));
	say_file("connected", c);
	int s = (int)DO(accept(l, NULL, NULL));
	say_file("accepted", s);
	signals_seen = 0;
	send_all(s, "x", 1);
	say_signalled("a byte");
}

BEHAVIOUR(async_owner_before_connect)
{
	struct sockaddr_in a = where(0);
	struct f_owner_ex owner = {F_OWNER_TID, getpid()};
	int l = listener(0), c = tcp(0), d;
	count_signal(SIGIO, SA_RESTART);
	DO(fcntl(c, F_SETOWN_EX, &owner));
	d = dup(c);
	DO(connect(c, (struct sockaddr *)&a, sizeof(a)));
	say_file("connected", c);
	say_file("the other number", d);
	int s = (int)DO(accept(l, NULL, NULL));
	DO(fcntl(c, F_SETFL, O_ASYNC));
	send_all(s, "x", 1);
	say_signalled("a byte");
}

BEHAVIOUR(async_by_ioctl_before_connect)
{
	struct sockaddr_in a = where(0);
	int l = listener(0), c = tcp(0), on = 1;
	pid_t me = getpid();
	count_signal(SIGIO, SA_RESTART);
	DO(ioctl(c, FIOSETOWN, &me));
	DO(connect(c, (struct sockaddr *)&a, sizeof(a)));
	say_file("connected", c);
	int s = (int)DO(accept(l, NULL, NULL));
	DO(ioctl(c, FIOASYNC, &on));
	send_all(s, "x", 1);
	say_signalled("a byte");
	on = 0;
	DO(ioctl(c, FIOASYNC, &on));
	say_file("no more", c);
}

BEHAVIOUR(async_asked_before_listen)
{
	struct sockaddr_in a = where(0);
	int l = tcp(0), one = 1;
	count_signal(SIGUSR1, SA_RESTART);
	setsockopt(l, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	DO(bind(l, (struct sockaddr *)&a, sizeof(a)));
	ask(l);
	DO(listen(l, 5));
	say_file("listens", l);
	signals_seen = 0;
	int c = reach(0);
	say_signalled("a connection");
	int s = (int)DO(accept(l, NULL, NULL));
	say_file("accepted", s);
	set_nonblock(l);
	DO(shutdown(l, SHUT_RD));
	say_file("shut", l);
	DO(listen(l, 5));
	say_file("listens again", l);
	DO(accept(l, NULL, NULL));
	DO(send(c, "x", 1, 0));
}

BEHAVIOUR(async_kept_when_disconnected)
{
	int c, s;
	pair(&c, &s);
	count_signal(SIGUSR1, SA_RESTART);
	ask(c);
	say_file("connected", c);
	DO(unspec(c));
	say_file("disconnected", c);
}
