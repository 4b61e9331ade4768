/*
 * The directory: what addresses and names belong to the mesh. One sealed memfd per node, written by
 * the offload half, mapped read-only by every application: the first question of each connect() and
 * getaddrinfo() is answered from it without a system call.
 *
 * It is a hint for speed, not a verdict: an address found here is taken to the offload half, which
 * decides.
 *
 *   [header, one page][table A][table B]     each table: addresses, names, text
 *
 * Two tables; the header says which is current. The writer fills the other, then flips `current`;
 * before it fills one again a reader may still be in it, so readers check `turn` after use and try
 * again (a seqlock with two buffers). Every offset a reader follows is checked against private
 * geometry.
 *
 * A listener that begins or ends changes the current table in place, one entry of it (directory_table.h;
 * docs/design/core.md, section 12; model: tests/spin/directory.pml).
 */
#ifndef FLAT_MESH_DIRECTORY_H
#define FLAT_MESH_DIRECTORY_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>

#include "base/base.h"
#include "vq/attach.h"

#define FLAT_DIRECTORY_MAGIC 0x7269647461 /* "atdir" */

/* flat_directory_header.flags */
#define FLAT_DIRECTORY_ASK_ALL                                                                     \
	1U /* some workload is REGISTRY_ONLY: take every connect to the offload half */

/* Predecessors that are told of: that of so many restarts ago has hardly a socket left. */
#define FLAT_DIRECTORY_MAKERS 8

/* The bits of flat_directory_header.reign that are the owner's thread id: FUTEX_TID_MASK. */
#define FLAT_DIRECTORY_OWNER 0x3fffffffU

#define FLAT_DIRECTORY_RETIRED                                                                     \
	2U /* a successor of the offload half serves: join it for whatever is new */

/* What an address is: result of flat_directory_find_addr(). */
enum flat_directory_kind {
	FLAT_DIRECTORY_NONE = 0,
	FLAT_DIRECTORY_SERVICE = 1,  /* a service's address and port */
	FLAT_DIRECTORY_LISTENER = 2, /* a mesh server listens there */
};

struct flat_directory_header {
	uint64_t magic;
	uint32_t version;
	uint32_t table_bytes;	/* each table's length */
	_Atomic uint64_t epoch; /* another one for each change */
	/*
	 * Low half: the id of the thread that reigns, a futex that it owns and never lets go; when it dies, however, the
	 * kernel takes the id out (Linux, Documentation/locking/robust-futex-ABI.rst). High half: grows when live
	 * connections were cut. So one load tells both.
	 */
	_Atomic uint64_t reign;
	_Atomic uint32_t current; /* 0 or 1 */
	_Atomic uint32_t flags;	  /* FLAT_DIRECTORY_ASK_ALL */
	uint64_t first_id;	  /* connections of this reign have ids from here on */
	/* Processes that reigned before and handed over: sockets that they made are this one's. 0: no more. */
	_Atomic int32_t makers[FLAT_DIRECTORY_MAKERS];
	_Atomic uint64_t turn; /* of whole publications; odd while a table is being written */
	uint8_t pad[4096 - 56 - 4 * FLAT_DIRECTORY_MAKERS];
};

/** Writer's end. Offload half; one thread. */
struct flat_directory_writer;

/** One address to publish. ip all zero: any local address (a listener bound to 0.0.0.0 or ::). */
struct flat_directory_addr {
	struct flat_addr addr; /* family 0 with a port: any family, any address */
	enum flat_directory_kind kind;
};

/** One name to publish: lower case, without final dot. */
struct flat_directory_name {
	const char *host;      /* borrowed for the call */
	struct flat_addr addr; /* port ignored */
	bool veiled;	       /* not everybody sees it: who asks for it asks the offload half */
};

/** Creates the memfd for up to `table_bytes` per table. *fd: owned by the writer. 0 or negative
 * errno. */
FLAT_MUST_CHECK int flat_directory_create(struct flat_directory_writer **out, size_t table_bytes);
void flat_directory_destroy(struct flat_directory_writer *w);
/** The read-only descriptor to hand to applications (borrowed) and the length of the whole. */
int flat_directory_fd(const struct flat_directory_writer *w);
size_t flat_directory_len(const struct flat_directory_writer *w);

/**
 * Publishes a whole new content. 0; -ENOSPC (more than table_bytes) and -EINVAL (a name that is empty or longer
 * than 255 characters) change nothing. Does not allocate. Of a name or a name's address given twice the
 * first counts; an address and port is a listener's if it is given as one.
 */
FLAT_MUST_CHECK int flat_directory_publish(struct flat_directory_writer *w,
					   const struct flat_directory_addr *addrs, size_t n_addrs,
					   const struct flat_directory_name *names, size_t n_names,
					   uint32_t flags);

/**
 * One listener more at an address, at once and whatever else is published. 0; -ENOSPC: the table has no room for
 * another address, and nothing is changed: publish a whole new content.
 */
FLAT_MUST_CHECK int flat_directory_add_listener(struct flat_directory_writer *w,
						const struct flat_addr *addr);

/** One listener less at an address, where it was added or published. */
void flat_directory_remove_listener(struct flat_directory_writer *w, const struct flat_addr *addr);

/** What is published stays, but may mean something else: another epoch. */
void flat_directory_renew(struct flat_directory_writer *w);

/** Says that live connections were cut: each application looks at its anchors. */
void flat_directory_revoked(struct flat_directory_writer *w);

/**
 * From now on the calling thread reigns: when it ends, in whatever way, every application that looks knows that nobody
 * polices its connections any more. first_id: ids of connections are none of an earlier reign's. The thread may own
 * no other robust mutex, and must call flat_directory_destroy() itself, if anybody does. 0 or a negative errno.
 */
FLAT_MUST_CHECK int flat_directory_reign(struct flat_directory_writer *w, uint64_t first_id);

/** Tells of predecessors, the last one first; more than FLAT_DIRECTORY_MAKERS are left out. */
void flat_directory_set_makers(struct flat_directory_writer *w, const int32_t *pids, uint32_t n);

/** Reader's end: a mapping. Any thread. */
struct flat_directory {
	const struct flat_directory_header *header;
	size_t len_bytes;
	uint32_t table_bytes; /* private copies */
	uint64_t first_id;
};

/** Maps `fd` read-only; checks length, magic, version, seals. fd stays the caller's. */
FLAT_MUST_CHECK int flat_directory_map(struct flat_directory *dir, int fd, size_t len_bytes);
void flat_directory_unmap(struct flat_directory *dir);

/**
 * What `addr` is. Looks for the exact address and port, then for a listener on any address with the
 * port (the caller asks the offload half, which knows whether the address is local).
 */
enum flat_directory_kind flat_directory_find_addr(const struct flat_directory *dir,
						  const struct flat_addr *addr);

/* Result of flat_directory_find_name(): not everybody sees it, the offload half knows. */
#define FLAT_DIRECTORY_VEILED 1

/** The address of a mesh name (any case, final dot allowed). 0, FLAT_DIRECTORY_VEILED, or -ENOENT. No system call, no
 * allocation. */
FLAT_MUST_CHECK int flat_directory_find_name(const struct flat_directory *dir, const char *host,
					     struct flat_addr *addr);

/** The name of a mesh address (getnameinfo). 0, -ENOENT, -ENOSPC. */
FLAT_MUST_CHECK int flat_directory_find_host(const struct flat_directory *dir,
					     const struct flat_addr *addr, char *host, size_t size);

/** What of the reign changes when connections were cut, and when it is over. One load. */
static inline uint64_t flat_directory_reign_word(const struct flat_directory *dir)
{
	/* acquire: pairs with the release in flat_directory_revoked() */
	return atomic_load_explicit(&dir->header->reign, memory_order_acquire);
}

/** Whether the one who wrote it is there no more. */
static inline bool flat_directory_over(uint64_t reign_word)
{
	return (reign_word & FLAT_DIRECTORY_OWNER) == 0;
}

/** Whether a process is a predecessor of the one that reigns. */
bool flat_directory_made_by(const struct flat_directory *dir, int32_t pid);

/** Another one for each change: who finds it unchanged knows of no address that came or went. */
static inline uint64_t flat_directory_epoch(const struct flat_directory *dir)
{
	return atomic_load_explicit(&dir->header->epoch, memory_order_acquire);
}

static inline uint32_t flat_directory_flags(const struct flat_directory *dir)
{
	return atomic_load_explicit(&dir->header->flags, memory_order_relaxed);
}

_Static_assert(sizeof(struct flat_directory_header) == 4096, "one page");
_Static_assert(offsetof(struct flat_directory_header, reign) == 24, "layout");
_Static_assert(offsetof(struct flat_directory_header, first_id) == 40, "layout");
_Static_assert(offsetof(struct flat_directory_header, makers) == 48, "layout");
_Static_assert(offsetof(struct flat_directory_header, turn) == 80, "layout");

#endif
