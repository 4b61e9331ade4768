/*
 * The whole system from this program's objects: the offload half in a child, the host half in the test's own process,
 * joined to it. What is not as it should be ends the test. One at a time.
 */
#ifndef FLAT_TESTS_SUPPORT_WHOLE_H
#define FLAT_TESTS_SUPPORT_WHOLE_H

#include <netinet/in.h>
#include <stddef.h>
#include <stdint.h>

/** What may be between the ends of a connection. */
enum whole_path {
	WHOLE_KERNEL, /* the kernel's loopback: the oracle */
	WHOLE_DIRECT,
	WHOLE_FORWARDED,
	WHOLE_PATHS,
};

extern const char *const whole_path_names[WHOLE_PATHS];

/** A folder for this test, gone with whole_end(). Valid until then. */
const char *whole_dir(void);

/**
 * Starts it with the configuration `yaml` (NULL: nothing else) behind two services at port 7, direct (240.9.0.1) and
 * forwarded (240.9.0.2), both served at whole_port(), which %PORT% in `yaml` becomes, as %UID% this user. `tune` (NULL: no need) may change how it is opened.
 */
struct flat_offload;
void whole_begin(const char *yaml, void (*tune)(struct flat_offload *o));
void whole_end(void);

/** Writes another configuration in the first one's place, as whole_begin() did. */
void whole_write(const char *yaml);
/** Which configuration is in force: each one that is taken has a number of its own, above those before it. */
unsigned long whole_epoch(void);
/** whole_write(), and waits until that is in force, 10 s at most. */
void whole_apply(const char *yaml);

/** The offload half's process. */
int whole_pid(void);
/** Its control socket. */
const char *whole_control(void);
/** What flatd says to flatctl's `question`. Valid until the next. */
const char *whole_ask(const char *question);
/** The port of 127.0.0.1 that the two services are served at. */
uint16_t whole_port(void);
/** A port of 127.0.0.1 that nobody has. */
uint16_t whole_free_port(void);

struct sockaddr_in whole_addr(uint8_t a, uint8_t b, uint8_t c, uint8_t d, uint16_t port);
/** A listening flat socket at 127.0.0.1. The caller closes it. */
int whole_listen(uint16_t port);
/** A flat socket connected to that address. */
int whole_connect(struct sockaddr_in to);
/** Both ends of a connection by this path: the client's, the server's. The caller closes them. */
void whole_pair(enum whole_path path, int fds[2]);

/** Starts it, runs `check` with a connection of each path in turn, ends it. check() may close what it is given. */
void whole_on_each(void (*check)(const char *path, int client, int server));

/** Sends all of it. */
void whole_send(int fd, const void *data, size_t len);
/** Receives exactly that much. */
void whole_recv(int fd, void *data, size_t len);

/** Waits until `fd` has these events of poll(), 10 s at most; returns all it has. */
short whole_poll(int fd, short events);

#endif
