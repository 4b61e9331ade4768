/* Two links and their owners, ciphertext carried from one to the other by the test. */
#ifndef FLAT_TESTS_SUPPORT_WIRE_PAIR_H
#define FLAT_TESTS_SUPPORT_WIRE_PAIR_H

#include "support_wire.h"
#include "wire/link.h"

#define PAIR_STREAMS 8
#define PAIR_BYTES ((size_t)4 << 20)

/* One end of a stream as its owner holds it. */
struct wire_end {
	struct flat_wire_stream *stream;
	uint8_t *out; /* to be sent */
	size_t n_out;
	size_t sent;
	size_t in_place; /* of it, from where it lay */
	bool out_ends;
	uint8_t *in; /* received */
	size_t n_in;
	size_t room; /* bytes that are taken yet */
	bool fin;
	bool over;
	int err;
	bool accepted;
	uint16_t port; /* server: of the client, as it says */
	char text[512];
};

struct wire_side {
	struct flat_wire_link *link;
	struct wire_end ends[PAIR_STREAMS];
	size_t n;
	bool ready;
	int refuse; /* the errno for whoever asks; 0: accepts */
	int err;    /* of input */
};

struct wire_pair {
	struct wire_folder folder;
	struct flat_svids *svids;
	struct wire_side client;
	struct wire_side server;
};

extern struct wire_pair pair;
extern const struct flat_wire_ops pair_ops;

/** Two sides that speak flat/1; with identities of one folder, the client's a/client. */
void pair_init(void);
void pair_fini(void);
/** Anew with other identities; after pair_close(). */
void pair_open(struct flat_svids *mine, const char *principal, struct flat_svids *theirs);
/** Likewise by HBONE: the server shows `server`'s SVID, the client expects this ID. */
void pair_open_hbone(const char *server, const char *expect);
void pair_close(void);

/** Carries up to `step` bytes. False: there was nothing. */
bool pair_carry(struct wire_side *from, struct wire_side *to, size_t step);
/** Until nothing moves; `step` bytes at a time. */
void pair_run(size_t step);
/** The client asks for a stream to 10.0.0.2:80. */
struct wire_end *pair_stream(void);
/** Random bytes to be sent; `ends`: and nothing after them. */
void pair_send(struct wire_end *e, size_t n, bool ends);

#endif
