/* ioctl() and fcntl() that concern bytes and who is told of them. */
#include <asm/termbits.h>

#include "parity.h"

static char buf[256];

static void text(int c, int s, const char *t)
{
	send_all(c, t, strlen(t));
	await_bytes(s, (int)strlen(t));
}

BEHAVIOUR(message_ioctl)
{
	int c, s, n = -1;
	pair(&c, &s);
	DO(ioctl(s, FIONREAD, &n));
	say("empty %d", n);
	text(c, s, "12345");
	DO(ioctl(s, FIONREAD, &n));
	say("pending %d", n);
	DO(ioctl(s, FIONREAD, &n));
	recv(s, buf, 2, 0);
	DO(ioctl(s, FIONREAD, &n));
	say("pending %d", n);
	DO(ioctl(s, FIONREAD, NULL));
	DO(ioctl(s, 0xdead, &n));
	DO(ioctl(s, TCGETS, &n));
}

BEHAVIOUR(message_ioctl_modes)
{
	int c, s, on = 1, off = 0;
	pair(&c, &s);
	DO(ioctl(s, FIONBIO, &on));
	say("flags %#x", (unsigned)fcntl(s, F_GETFL));
	DO(recv(s, buf, 1, 0));
	DO(ioctl(s, FIONBIO, &off));
	say("flags %#x", (unsigned)fcntl(s, F_GETFL));
	DO(ioctl(s, FIOASYNC, &on));
	say("flags %#x", (unsigned)fcntl(s, F_GETFL));
	DO(ioctl(s, FIOASYNC, &off));
	DO(ioctl(s, FIOCLEX));
	say("fd flags %d", fcntl(s, F_GETFD));
	DO(ioctl(s, FIONCLEX));
	say("fd flags %d", fcntl(s, F_GETFD));
	DO(ioctl(s, FIONBIO, NULL));
}

BEHAVIOUR(message_outq)
{
	int c, s, n = -1;
	pair(&c, &s);
	DO(ioctl(c, TIOCOUTQ, &n));
	say("queued %d", n);
	size_t full = fill(c);
	DO(ioctl(c, TIOCOUTQ, &n));
	say("queued %d", n > 0);
	drain(s, full);
	for (int i = 0; i < 400 && n > 0; i++) {
		ioctl(c, TIOCOUTQ, &n);
		pause_ms(5);
	}
	say("queued %d", n);
}

BEHAVIOUR(message_sigurg_owner)
{
	int c, s;
	pair(&c, &s);
	DO(fcntl(s, F_SETOWN, getpid()));
	say("mine %d", fcntl(s, F_GETOWN) == getpid());
	DO(fcntl(s, F_SETSIG, SIGUSR1));
	DO(fcntl(s, F_GETSIG) == SIGUSR1);
}

BEHAVIOUR(message_sigio)
{
	int c, s;
	pair(&c, &s);
	count_signal(SIGIO, 0);
	DO(fcntl(s, F_SETOWN, getpid()));
	DO(fcntl(s, F_SETFL, fcntl(s, F_GETFL) | O_ASYNC));
	say("flags %#x", (unsigned)fcntl(s, F_GETFL));
	send_all(c, "x", 1);
	for (int i = 0; i < 400 && !signals_seen; i++)
		pause_ms(5);
	say("told %d", signals_seen > 0);
}

static void told_by_signal(const char *what, int before)
{
	for (int i = 0; i < 400 && signals_seen == before; i++)
		pause_ms(5);
	say("%s: told %d", what, signals_seen > before);
}

/* Each time anew: after a read that left nothing, one that asked for no more, and none. */
BEHAVIOUR(message_sigio_each_time)
{
	int c, s, before, on = 1;
	char buf[8];
	pair(&c, &s);
	count_signal(SIGIO, 0);
	DO(fcntl(s, F_SETOWN, getpid()));
	DO(ioctl(s, FIOASYNC, &on));
	for (int i = 0; i < 3; i++) {
		before = signals_seen;
		send_all(c, "ab", 2);
		told_by_signal("short", before);
		DO(read(s, buf, sizeof(buf)));
		before = signals_seen;
		send_all(c, "cd", 2);
		told_by_signal("after a short read", before);
		DO(read(s, buf, 2));
	}
	before = signals_seen;
	shutdown(c, SHUT_WR);
	told_by_signal("end", before);
	DO(read(s, buf, sizeof(buf)));
	DO(fcntl(s, F_SETFL, fcntl(s, F_GETFL) & ~O_ASYNC));
}

BEHAVIOUR(message_sigio_from_before_connect)
{
	int l = listener(0), c = tcp(0), before;
	struct sockaddr_in to = where(0);
	char buf[8];
	count_signal(SIGUSR1, 0);
	DO(fcntl(c, F_SETOWN, getpid()));
	DO(fcntl(c, F_SETSIG, SIGUSR1));
	DO(fcntl(c, F_SETFL, O_ASYNC));
	/* Where a handshake is made, its end is told too, and ends the call. */
	(void)!connect(c, (struct sockaddr *)&to, sizeof(to));
	int s = accept(l, NULL, NULL);
	say("owner %d signal %d", fcntl(c, F_GETOWN) == getpid(), fcntl(c, F_GETSIG) == SIGUSR1);
	say("flags %#x", (unsigned)fcntl(c, F_GETFL));
	for (int i = 0; i < 2; i++) {
		before = signals_seen;
		send_all(s, "ab", 2);
		told_by_signal("bytes", before);
		DO(read(c, buf, 2));
	}
}
