/*
 * Behaviours of Linux TCP sockets, each a small function that makes calls and writes what they gave: results,
 * names of errors, poll masks, bytes; never times, ports or other things that differ between two runs. run.py
 * runs each over the kernel and over libflat, and compares the lines.
 *
 * The program knows nothing of libflat. A behaviour runs in a process of its own, with a time limit.
 */
#ifndef FLAT_TESTS_PARITY_H
#define FLAT_TESTS_PARITY_H

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* What run.py shall have seen in flatd when the behaviour ends. */
enum parity_way {
	PARITY_MESH, /* at least one connection over libflat */
	PARITY_NONE, /* none: nothing connects, or nobody listens */
};

struct behaviour {
	const char *name;
	enum parity_way way;
	void (*run)(void);
	const void *pad; /* 32 bytes: the section is an array */
};

/* Goes into the table of behaviours. The name's first word is its group. */
#define BEHAVIOUR_OF(ident, expected)                                                              \
	static void ident(void);                                                                   \
	__attribute__((section("behaviours"), used,                                                \
		       aligned(8))) static const struct behaviour entry_##ident = {                \
	    .name = #ident, .way = (expected), .run = ident};                                      \
	static void ident(void)
#define BEHAVIOUR(ident) BEHAVIOUR_OF(ident, PARITY_MESH)
#define BEHAVIOUR_ALONE(ident) BEHAVIOUR_OF(ident, PARITY_NONE)

/* Makes a call, writes it with its result and error, and is its result. */
#define DO(call)                                                                                   \
	__extension__({                                                                            \
		errno = 0;                                                                         \
		long result_ = (long)(call);                                                       \
		say_result(#call, result_, errno);                                                 \
		result_;                                                                           \
	})

/* --- writing --- */

void say(const char *format, ...) __attribute__((format(printf, 1, 2)));
/** Room for what a thread says; say() of that thread writes there. Written, and freed, by say_told(). */
struct told;
struct told *say_later(void);
void say_into(struct told *told);
void say_told(struct told *told);
/** What this thread has said, and from now on at once: before it ends the process. */
void say_now(void);
/**
 * The line that the kernel's run had where this one says its next: a behaviour that looks at both ends waits until they are so far.
 * NULL: this is the kernel's run, or it had none. Of a behaviour that says all in one thread. Valid until the next call.
 */
const char *wanted(void);
void say_result(const char *what, long result, int error);
void say_bytes(const char *what, const void *bytes, ssize_t len);
void say_addr(const char *what, const struct sockaddr *addr, socklen_t len);
const char *error_name(int error);
const char *poll_names(unsigned int mask, char text[128]);
/** poll() of everything, now. */
void say_mask(const char *what, int fd);
/** getsockopt() of an int, with the length that comes back. */
void say_option(const char *what, int fd, int level, int name);
#define SAY_OPTION(fd, level, name) say_option(#name, fd, level, name)
/** setsockopt() of an int, and what getsockopt() says then. */
void try_option(const char *what, int fd, int level, int name, int value);
#define TRY_OPTION(fd, level, name, value) try_option(#name " " #value, fd, level, name, value)

/* --- sockets; what fails here ends the behaviour with a line that says so --- */

/** The behaviour's n-th address, 0..3; v6: of ::1. Nobody listens there. */
struct sockaddr_in where(int n);
struct sockaddr_in6 where6(int n);
/** A listening socket at where(n). */
int listener(int n);
int listener6(int n, const char *text, int v6only);
int tcp(int flags);
/** connect() to where(n), a bounded number of times while nobody listens. */
int reach(int n);
/** Two ends of a connection over where(0); the listener is gone. c is lower than s. */
void pair(int *c, int *s);
void pair6(int *c, int *s);
/** Until poll() gives one of `events`, 5 seconds at the most. */
void await(int fd, short events);
/** Until FIONREAD gives n. */
void await_bytes(int fd, int n);
/** Until TCP is in this state (TCP_CLOSE ...). */
void await_state(int fd, int state);
/** All of len bytes. */
void send_all(int fd, const void *bytes, size_t len);
size_t recv_all(int fd, void *bytes, size_t len);
void set_nonblock(int fd);
/** Sends until EAGAIN; how much is not written. */
size_t fill(int fd);
/** Reads until `total` bytes came or the end. */
size_t drain(int fd, size_t total);

/* --- others --- */

/** A child that runs fn(arg) and ends; what it says comes before what the parent says after reap(). */
pid_t child(void (*fn)(void *), void *arg);
/** Waits for it and says how it ended. */
void reap(pid_t pid);
/** One byte from one end to the other. */
void works(const char *what, int from, int to);
/** For child(): of the socket, or accepted from the listener, at the int: what comes is said, and goes back. */
void echo_once(void *fd);
void accept_echo(void *fd);
/** A thread, joined by join(); what it says is written then. */
pthread_t thread(void *(*fn)(void *), void *arg);
void join(pthread_t t);
/** Until all other threads of this process, and those of child(), have slept for three looks; 2 seconds at the most. */
void let_sleep(void);
/** Writes whether `since` (milliseconds of now_ms()) is at least `ms` ago and not far more. */
void say_elapsed(long since, long ms);
long now_ms(void);
void pause_ms(long ms);
/** Installs a handler that counts into signals_seen. */
void count_signal(int number, int flags);
extern _Atomic int signals_seen;
/** An address nobody may touch. */
extern void *bad_address;

#endif
