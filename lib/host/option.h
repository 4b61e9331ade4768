/*
 * Options of flat sockets. What TCP knows and memory does not need is kept and given back. The kernel is the judge of ranges,
 * lengths and what a value becomes: an option is tried on a TCP socket of its own ("scratch"), on which what was kept
 * before is set first.
 */
#ifndef FLAT_HOST_OPTION_H
#define FLAT_HOST_OPTION_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>

#include "base/base.h"

struct flat_sock;

/** Different options that one socket keeps; more than programs set. A further one is -ENOMEM. */
#define FLAT_OPTIONS_MAX 24
#define FLAT_OPTION_BYTES 16

/** One option as it was set. */
struct flat_option {
	int32_t level;
	int16_t name;
	uint16_t len;
	uint8_t value[FLAT_OPTION_BYTES];
};

/** In shared memory, under its lock. */
struct flat_options {
	_Atomic uint64_t lock;
	uint32_t n;
	struct flat_option v[FLAT_OPTIONS_MAX];
};

/** getsockopt(2) and setsockopt(2) of a flat socket: 0, or a negative errno. `fd`: its anchor. */
FLAT_MUST_CHECK int flat_option_get(struct flat_sock *s, int fd, int level, int name, void *value,
				    socklen_t *len);
FLAT_MUST_CHECK int flat_option_set(struct flat_sock *s, int fd, int level, int name,
				    const void *value, socklen_t len);

/** SO_OOBINLINE. */
FLAT_MUST_CHECK bool flat_option_in_line(struct flat_sock *s);

/** An ioctl(2) that any socket of its family answers alike. 0 or more, or a negative errno. */
FLAT_MUST_CHECK int flat_option_ioctl(struct flat_sock *s, unsigned long request, void *arg);

/**
 * Tells of an option that was set on a kernel socket of this process that may become flat; the other one, of such sockets on
 * which others may have set any. What was never told of is not looked for by flat_option_adopt(). Any thread; no memory.
 */
void flat_option_note(int level, int name);
void flat_option_note_all(void);

/**
 * Whether an option acts on TCP's segments: signs them, drops some, or puts a connection together without any. A ring has got
 * none, so a socket on which such a one is set before it is connected is the kernel's.
 */
bool flat_option_of_segments(int level, int name);

/** Takes over what was set on the kernel socket, or anchor, `fd`; `all`: more than what each connection needs. */
void flat_option_adopt(struct flat_sock *s, int fd, bool all);

/** What an accepted connection has of its listener. Before anybody else knows the connection. */
void flat_option_inherit(struct flat_sock *s, struct flat_sock *listener);

/** Sets what was kept on kernel socket `fd`. */
void flat_option_apply(struct flat_sock *s, int fd);

/**
 * TCP_INQ: the bytes that are left, as control data in msg, which has `room` for it. The peer's end counts as one, so that
 * who reads until there is no more goes on to it (net/ipv4/tcp.c, tcp_inq_hint()).
 */
void flat_option_tell_inq(struct flat_sock *s, struct msghdr *msg, size_t room);

#endif
