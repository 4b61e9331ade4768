#include "host/ticket.h"

#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "base/limits.h"

struct spare {
	struct flat_msg_ticket is;
	struct flat_lane_use *lane; /* one use of it */
	int anchor;
	int bell;
};

/* For one address: a client that turns to another one has no more use for these. */
static struct {
	struct flat_addr to;
	struct flat_addr local;
	uint64_t epoch; /* of the directory before they were made */
	uint32_t n;
	struct spare v[FLAT_TICKETS_LOW + FLAT_MSG_TICKETS_MAX];
} spare;
_Static_assert(FLAT_TICKETS_LOW + FLAT_MSG_TICKETS_MAX <= FLAT_SESSION_TICKETS_MAX,
	       "asked in vain");

/* How this process connects. */
static struct flat_addr last_to;
static uint32_t in_a_row;
static int64_t last_ms;
static uint32_t refused_for; /* connects */

static bool same(const struct flat_addr *a, const struct flat_addr *b)
{
	return memcmp(a, b, sizeof(*a)) == 0;
}

void flat_tickets_drop(void)
{
	while (spare.n > 0) {
		const struct spare *t = &spare.v[--spare.n];
		flat_fd_close_private(t->anchor);
		flat_fd_close_private(t->bell);
		flat_lane_unuse(t->lane);
	}
}

bool flat_tickets_wanted(const struct flat_addr *to)
{
	int64_t now = flat_now_coarse_ms();
	in_a_row = same(to, &last_to) && now - last_ms <= FLAT_TICKETS_GAP_MS ? in_a_row + 1 : 0;
	last_to = *to;
	last_ms = now;
	if (refused_for > 0) {
		refused_for--;
		return false;
	}
	return in_a_row >= FLAT_TICKETS_AFTER && spare.n <= FLAT_TICKETS_LOW;
}

bool flat_tickets_none(void)
{
	return spare.n == 0;
}

void flat_tickets_put(const struct flat_addr *to, uint64_t epoch, const struct flat_msg *msg,
		      int fds[FLAT_MSG_FDS_MAX])
{
	const struct flat_msg_tickets *m = &msg->body.tickets;
	struct flat_msg_conn conn = {.lane_id = m->lane_id, .geo = m->geo};
	int lane_fd = flat_msg_fd(msg, fds, FLAT_FD_LANE);
	if (spare.epoch != epoch || !same(&spare.to, to))
		flat_tickets_drop();
	spare.to = *to;
	spare.epoch = epoch;
	uint32_t n = msg->fds & FLAT_FD_TICKETS ? m->n : 0;
	size_t taken = 0;
	int ours[2 * FLAT_MSG_TICKETS_MAX];
	for (; taken < n && spare.n + taken < FLAT_ARRAY_SIZE(spare.v); taken++) {
		struct spare *t = &spare.v[spare.n + taken];
		conn.slot = m->v[taken].slot;
		t->lane = flat_lane_use(&conn, lane_fd);
		if (!t->lane)
			break;
		flat_msg_ticket_fds(msg, fds, (uint32_t)taken, &ours[2 * taken],
				    &ours[2 * taken + 1]);
		t->is = m->v[taken];
		spare.local = m->local;
	}
	flat_fds_private(ours, 2 * taken, lane_fd);
	for (size_t i = 0; i < taken; i++) {
		spare.v[spare.n].anchor = ours[2 * i];
		spare.v[spare.n++].bell = ours[2 * i + 1];
	}
	if (n == 0)
		refused_for = FLAT_TICKETS_RETRY;
}

bool flat_tickets_take(const struct flat_addr *to, uint64_t epoch, struct flat_ticket *ticket)
{
	if (spare.n == 0)
		return false;
	if (spare.epoch != epoch || !same(&spare.to, to)) {
		flat_tickets_drop();
		return false;
	}
	const struct spare *t = &spare.v[--spare.n];
	*ticket = (struct flat_ticket){
	    .conn = {.conn_id = t->is.conn_id,
		     .lane_id = t->lane->id,
		     .geo = t->lane->lane.geo,
		     .slot = t->is.slot,
		     .side = FLAT_SIDE_CLIENT,
		     .path = FLAT_CONN_DIRECT,
		     .local = spare.local,
		     .peer = spare.to},
	    .lane = t->lane,
	    .anchor = t->anchor,
	    .bell = t->bell,
	};
	ticket->conn.local.port = t->is.port;
	return true;
}
