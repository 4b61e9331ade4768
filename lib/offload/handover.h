/*
 * A flatd that takes over from a running one (`flatd --take-over`): it gets the sockets that others come to, and the
 * listeners of mesh servers; the predecessor keeps the connections that it has, until they end, and then ends itself. So
 * nobody is turned away, and no connection notices. docs/design/core.md, section 10. Control thread.
 */
#ifndef FLAT_OFFLOAD_HANDOVER_H
#define FLAT_OFFLOAD_HANDOVER_H

#include "offload/offload.h"

struct flat_handover;

/** Asks who answers at `control_path` for all that it listens on. 0; -ENOENT: nobody is there; or what went wrong. */
FLAT_MUST_CHECK int flat_handover_ask(struct flat_handover **out, const char *control_path);
/** The listening control socket, once; -1: not given. The caller's from here. */
int flat_handover_control(struct flat_handover *h);
/** A socket of the type (SOCK_STREAM: that listens) at `addr`, once; -1: none (NULL is allowed). The caller's from here. */
int flat_handover_port(struct flat_handover *h, const struct flat_addr *addr, int type);
/** Takes the listeners of mesh servers. 0 or a negative errno. */
FLAT_MUST_CHECK int flat_handover_listeners(struct flat_handover *h, struct flat_offload *o);
/** Done: the predecessor lets go of what it gave. Frees h; NULL is allowed. 0, or -ETIMEDOUT where it has waited too long and goes on itself. */
FLAT_MUST_CHECK int flat_handover_done(struct flat_handover *h);
/** It comes to nothing: the predecessor goes on as if nothing had been. Frees h; NULL is allowed. */
void flat_handover_drop(struct flat_handover *h);

/** The other side: sends everything to `fd`, and holds still until flat_handover_answer(). 0 or a negative errno. */
FLAT_MUST_CHECK int flat_handover_give(struct flat_offload *o, int fd);
/** What came from the successor, or of it: "done" retires this flatd; anything else lets it go on. */
void flat_handover_answer(struct flat_offload *o, bool done);

#endif
