#include "offload/peers.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/log.h"
#include "base/sys.h"
#include "offload/guest.h"

#define BACKLOG 1024
/* How often links are looked at, ms. */
#define TICK_MS 500

/* What has ended, or will before long, is told of now and again. */
static void tell_of_ends(struct flat_peers *all)
{
	struct flat_strbuf text = {0};
	char *rest = NULL;
	all->due_s = flat_svids_due(all->svids, (int64_t)time(NULL), &text);
	for (char *line = text.len > 0 ? strtok_r(text.data, "\n", &rest) : NULL; line;
	     line = strtok_r(NULL, "\n", &rest))
		flat_warn("%s", line);
	flat_strbuf_fini(&text);
}

/* Of those that are in force from now on. */
static void tell_of_faults(struct flat_peers *all)
{
	const struct flat_svids *s = all->svids;
	tell_of_ends(all);
	for (uint32_t i = 0; i < s->n; i++) {
		if (s->v[i].unfit[0])
			flat_warn("the SVID of %s (%s) is of no use: %s", s->v[i].id, s->v[i].file,
				  s->v[i].unfit);
	}
	if (s->n > 0 && !s->node && all->offload->wire_addr)
		flat_warn("no SVID spiffe://DOMAIN%s: flatds of other hosts cannot connect to this "
			  "one",
			  FLAT_WIRE_NODE_PATH);
}

/* False: those in force do not vouch for its peer, or not any more. */
static bool is_vouched_for(struct flat_peer *p, char *text, size_t size)
{
	char why[300];
	if (flat_svids_check(p->all->svids, &p->link->peer, why, sizeof(why)) == 0)
		return true;
	snprintf(text, size, "the peer's certificate holds no more: %s", why);
	return false;
}

bool flat_peers_vouch(struct flat_peer *p)
{
	char text[360];
	if (p->link->svids == p->all->svids || is_vouched_for(p, text, sizeof(text)))
		return true;
	(void)flat_wire_link_fail(p->link, text);
	return false;
}

/* Those whose peers nobody vouches for end. */
static void check_links(struct flat_peers *all)
{
	struct flat_peer *p;
	char text[360];
	TAILQ_FOREACH(p, &all->list, link_)
	{
		if (!p->link || !p->link->greeted || is_vouched_for(p, text, sizeof(text)))
			continue;
		flat_wire_link_excuse(p->link);
		flat_peer_end(p, ECONNRESET, text);
	}
	all->lists_end_s = flat_svids_lists_end(all->svids, (int64_t)time(NULL));
}

/* Links go on under the identities with which they began, while those that hold now still vouch for the peer. */
static void renew_links(struct flat_peers *all)
{
	struct flat_peer *p;
	check_links(all);
	TAILQ_FOREACH(p, &all->list, link_)
	{
		if (!p->link || p->link->svids == all->svids)
			continue;
		/* The client has its streams elsewhere from now on; a server asks it to: this link ends with the old certificate. */
		if (p->link->greeted)
			flat_wire_link_drain(p->link);
		flat_peer_heat(p);
	}
}

static void put_in_force(struct flat_peers *all, struct flat_svids *now)
{
	struct flat_svids *old = all->svids;
	all->svids = now;
	all->rotations++;
	renew_links(all);
	flat_svids_put(old);
	tell_of_faults(all);
	flat_info("%u identities, %u bundles are in force, and lists that revoke %zu certificates",
		  now->n, now->n_bundles, flat_svids_revoked(now));
}

void flat_peers_reload(struct flat_offload *o)
{
	struct flat_peers *all = o->peers;
	struct flat_svids *now;
	char why[600];
	if (!all || all->from)
		return;
	if (flat_svids_load(all->folder, &now, why, sizeof(why)) != 0) {
		flat_error("identities: %s; those before stay in force", why);
		return;
	}
	put_in_force(all, now);
}

static void on_source(struct flat_source *source, int events)
{
	struct flat_peers *all = FLAT_CONTAINER_OF(source, struct flat_peers, watch_source);
	char why[600];
	(void)events;
	struct flat_svids *now = flat_svid_source_take(all->from, why, sizeof(why));
	if (now)
		put_in_force(all, now);
	if (why[0])
		flat_warn("identities: %s%s", why,
			  all->svids->n ? "; those before stay in force" : "");
}

static void on_watch(struct flat_source *source, int events)
{
	struct flat_peers *all = FLAT_CONTAINER_OF(source, struct flat_peers, watch_source);
	(void)events;
	if (flat_watch_changed(all->watch))
		flat_peers_reload(all->offload);
}

static void on_accept(struct flat_source *source, int fd)
{
	if (fd >= 0)
		flat_peer_accept(FLAT_CONTAINER_OF(source, struct flat_peers, listening), fd,
				 false);
}

static void on_hbone(struct flat_source *source, int fd)
{
	if (fd >= 0)
		flat_peer_accept(FLAT_CONTAINER_OF(source, struct flat_peers, hbone), fd, true);
}

static int listen_at(struct flat_peers *all, struct flat_source *source, const char *option,
		     const char *addr, void (*fn)(struct flat_source *source, int fd))
{
	int fd = addr ? flat_port_open(all->offload, addr, BACKLOG) : 0;
	if (fd < 0)
		flat_error("%s %s: %s; give ADDR:PORT", option, addr, strerror(-fd));
	return !addr || fd < 0 ? fd : flat_loop_accept(&all->offload->loop, source, fd, fn);
}

static int start(struct flat_peers *all)
{
	struct flat_offload *o = all->offload;
	struct flat_loop *loop = &o->loop;
	int err = listen_at(all, &all->listening, "--wire", o->wire_addr, on_accept);
	if (err == 0)
		err = listen_at(all, &all->hbone, "--hbone", o->hbone_addr, on_hbone);
	if (err == 0 && all->from)
		return flat_loop_poll(loop, &all->watch_source, flat_svid_source_fd(all->from),
				      POLLIN, on_source);
	if (err == 0)
		err = flat_watch_open(&all->folder, 1, &all->watch);
	if (err != 0)
		return err;
	flat_watch_every_file(all->watch);
	return flat_loop_poll(loop, &all->watch_source, flat_watch_fd(all->watch), POLLIN,
			      on_watch);
}

/* A folder's, or none yet: a source's come when it answers. */
static int first_svids(struct flat_peers *all)
{
	char why[600];
	int err;
	if (!flat_svid_source_is(all->folder)) {
		err = flat_svids_load(all->folder, &all->svids, why, sizeof(why));
		if (err != 0)
			flat_error("identities: %s", why);
		return err;
	}
	all->svids = flat_svids_new(all->folder);
	err =
	    all->svids ? flat_svid_source_open(all->folder, &all->from, why, sizeof(why)) : -ENOMEM;
	if (err != 0)
		flat_error("--svids %s: %s", all->folder, err == -ENOMEM ? "out of memory" : why);
	return err;
}

int flat_peers_open(struct flat_offload *o)
{
	if (!o->svids)
		return 0;
	struct flat_peers *all = calloc(1, sizeof(*all));
	if (!all)
		return -ENOMEM;
	o->peers = all;
	all->offload = o;
	all->folder = o->svids;
	all->verbs_name = o->verbs;
	all->listening.fd = all->hbone.fd = -1;
	all->tick_ms = flat_now_us() / 1000;
	TAILQ_INIT(&all->list);
	TAILQ_INIT(&all->hot);
	TAILQ_INIT(&all->strangers);
	flat_guests_init(all);
	int err = first_svids(all);
	if (err != 0)
		return err;
	tell_of_faults(all);
	all->lists_end_s = flat_svids_lists_end(all->svids, (int64_t)time(NULL));
	flat_peers_verbs_open(all);
	return start(all);
}

int flat_peers_socket(const struct flat_offload *o)
{
	return o->peers ? o->peers->listening.fd : -1;
}

int flat_peers_hbone_socket(const struct flat_offload *o)
{
	return o->peers ? o->peers->hbone.fd : -1;
}

void flat_peers_retire(struct flat_offload *o)
{
	struct flat_peers *all = o->peers;
	struct flat_peer *p;
	if (all && all->listening.fd >= 0)
		flat_loop_accept_end(&o->loop, &all->listening);
	if (all && all->hbone.fd >= 0)
		flat_loop_accept_end(&o->loop, &all->hbone);
	/* What is new goes to the successor, which may have servers that are not known here. */
	if (!all)
		return;
	TAILQ_FOREACH(p, &all->list, link_)
	{
		if (p->link && p->link->greeted)
			flat_wire_link_drain(p->link);
		flat_peer_heat(p);
	}
}

void flat_peers_close(struct flat_offload *o)
{
	struct flat_peers *all = o->peers;
	struct flat_peer *p;
	if (!all)
		return;
	while ((p = TAILQ_FIRST(&all->list)) != NULL)
		flat_peer_free(p);
	flat_guests_fini(all);
	flat_peers_verbs_close(all);
	flat_loop_del(&o->loop, &all->watch_source);
	flat_loop_del(&o->loop, &all->listening);
	flat_loop_del(&o->loop, &all->hbone);
	if (all->listening.fd >= 0)
		close(all->listening.fd);
	if (all->hbone.fd >= 0)
		close(all->hbone.fd);
	flat_watch_close(all->watch);
	flat_svid_source_close(all->from);
	flat_svids_put(all->svids);
	free(all);
	o->peers = NULL;
}

static bool is_busy(const struct flat_peers *all)
{
	return !TAILQ_EMPTY(&all->hot) || !TAILQ_EMPTY(&all->asking);
}

bool flat_peers_turn(struct flat_offload *o)
{
	struct flat_peers *all = o->peers;
	struct flat_peer *p;
	struct flat_peer *last;
	if (!all)
		return false;
	/* What connections wrote goes now; what is written for them below is told before flatd sleeps. */
	(void)flat_tubes_tell();
	all->turn++;
	all->to_begin = FLAT_WIRE_BEGIN_MAX;
	flat_guests_begin(all);
	/* Each once: what becomes hot meanwhile has its turn in the next round. */
	last = TAILQ_LAST(&all->hot, flat_peer_list);
	uint32_t strangers = 0;
	while ((p = TAILQ_FIRST(&all->hot)) != NULL) {
		bool was_last = p == last;
		TAILQ_REMOVE(&all->hot, p, hot_link);
		p->hot = false;
		strangers += p->stranger && p->readable;
		if ((p->stranger && p->readable && strangers > FLAT_WIRE_STRANGERS_TURN) ||
		    !flat_guest_has_turn(p))
			flat_peer_heat(p);
		else
			flat_peer_turn(p);
		if (was_last)
			break;
	}
	bool told = flat_tubes_tell();
	return told || is_busy(all);
}

/* While flatd did not run, nobody was silent: what they said waits in their sockets. */
static void excuse(const struct flat_peers *all, int64_t late_ms)
{
	struct flat_peer *p;
	if (late_ms <= 0)
		return;
	TAILQ_FOREACH(p, &all->list, link_)
	{
		p->since_ms += late_ms;
		p->heard_ms += late_ms;
		p->asked_ms += p->asked_ms ? late_ms : 0;
	}
}

int flat_peers_wait_ms(struct flat_offload *o)
{
	struct flat_peers *all = o->peers;
	struct flat_peer *p;
	struct flat_peer *next;
	int64_t now_ms = flat_now_us() / 1000;
	int64_t now_s = (int64_t)time(NULL);
	if (!all)
		return -1;
	if (now_ms - all->tick_ms >= TICK_MS / 2) {
		excuse(all, now_ms - all->tick_ms - (int64_t)2 * TICK_MS);
		for (p = TAILQ_FIRST(&all->list); p; p = next) {
			next = TAILQ_NEXT(p, link_);
			(void)flat_peer_tick(p, now_ms, now_s);
		}
		if (now_s >= all->due_s)
			tell_of_ends(all);
		if (now_s >= all->lists_end_s)
			check_links(all);
		flat_guests_forgive(all, now_ms);
		flat_peers_verbs_tick(all);
		all->tick_ms = now_ms;
	}
	if (is_busy(all))
		return 0;
	if (!TAILQ_EMPTY(&all->list))
		return TICK_MS;
	/* The clock may be set meanwhile. */
	return all->due_s == INT64_MAX	   ? -1
	       : all->due_s - now_s > 3600 ? 3600 * 1000
	       : all->due_s > now_s	   ? (int)(all->due_s - now_s) * 1000
					   : TICK_MS;
}
