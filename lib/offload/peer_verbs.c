/* Verbs below a link (wire/carrier.h): the device, offering and answering, moving, failing, trying again. */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "base/sys.h"
#include "offload/peers.h"

/* Bytes taken from one ring in a turn before the others have theirs. */
#define TURN_BYTES ((size_t)256 * 1024)

/* --- the device --- */

static void lose_all(struct flat_peers *all, const char *why)
{
	struct flat_peer *p;
	TAILQ_FOREACH(p, &all->list, link_)
	flat_peer_verbs_lose(p, why);
}

static void close_device(struct flat_peers *all)
{
	if (!all->device)
		return;
	flat_loop_del(&all->offload->loop, &all->device_source);
	flat_verbs_device_close(all->device);
	all->device = NULL;
}

/* All that refers to it goes first: its removal waits for us. */
static void look_at_device(struct flat_peers *all)
{
	char why[160];
	if (!all->device || !flat_verbs_device_gone(all->device))
		return;
	snprintf(why, sizeof(why), "device %s is gone or its port is down", all->verbs_name);
	lose_all(all, why);
	close_device(all);
}

static void on_device(struct flat_source *source, int events)
{
	(void)events;
	look_at_device(FLAT_CONTAINER_OF(source, struct flat_peers, device_source));
}

/* The device, opened while a link uses it or wants to. NULL: why. */
static struct flat_verbs_device *device_of(struct flat_peers *all, char *why, size_t size)
{
	if (!all->verbs_name) {
		snprintf(why, size, "flatd runs without --verbs");
		return NULL;
	}
	if (all->device)
		return all->device;
	if (flat_verbs_device_open(all->verbs_name, &all->device, why, size) != 0)
		return NULL;
	if (flat_loop_poll(&all->offload->loop, &all->device_source,
			   flat_verbs_device_fd(all->device), POLLIN, on_device) != 0) {
		snprintf(why, size, "no memory");
		close_device(all);
	}
	return all->device;
}

void flat_peers_verbs_open(struct flat_peers *all)
{
	char why[160];
	if (!all->verbs_name)
		return;
	if (!device_of(all, why, sizeof(why)))
		flat_warn("--verbs: %s; links go over TCP until it can be used", why);
	else
		flat_info("links go over verbs, device %s, where the other host has one too",
			  all->verbs_name);
	close_device(all);
}

void flat_peers_verbs_close(struct flat_peers *all)
{
	close_device(all);
}

void flat_peers_verbs_tick(struct flat_peers *all)
{
	struct flat_peer *p;
	all->verbs_offers = 0;
	look_at_device(all);
	TAILQ_FOREACH(p, &all->list, link_)
	{
		if (p->verbs)
			return;
	}
	/* Nobody uses it: then it is not held either, and nothing of it has to be looked at. */
	close_device(all);
}

/* --- a link's connection --- */

static int address_of(const struct flat_peer *p, struct flat_addr *local)
{
	struct sockaddr_storage ss;
	socklen_t len = sizeof(ss);
	memset(&ss, 0, sizeof(ss));
	int err = (int)FLAT_SYS3(SYS_getsockname, p->tcp.fd, &ss, &len);
	if (err == 0)
		err = flat_addr_from_sockaddr(local, (struct sockaddr *)&ss, len);
	if (err == 0)
		flat_addr_unmap(local);
	return err;
}

static void on_completions(struct flat_source *source, int events)
{
	struct flat_peer *p = FLAT_CONTAINER_OF(source, struct flat_peer, verbs_source);
	(void)events;
	p->verbs_armed = false;
	flat_peer_heat(p);
}

/* Its memory is not needed any more. */
static void forget(struct flat_peer *p)
{
	flat_loop_del(&p->all->offload->loop, &p->verbs_source);
	flat_verbs_close(p->verbs);
	p->verbs = NULL;
}

static int make(struct flat_peer *p, char *why, size_t size)
{
	struct flat_addr local;
	struct flat_verbs_device *device = device_of(p->all, why, size);
	if (!device)
		return -ENODEV;
	int err = address_of(p, &local);
	if (err != 0) {
		snprintf(why, size, "%s", strerror(-err));
		return err;
	}
	err = flat_verbs_open(device, &local, &p->verbs, why, size);
	if (err != 0)
		return err;
	p->verbs_live = true;
	p->verbs_armed = false;
	p->verbs_used = false;
	err = flat_loop_poll(&p->all->offload->loop, &p->verbs_source, flat_verbs_fd(p->verbs),
			     POLLIN, on_completions);
	if (err != 0) {
		snprintf(why, size, "no memory");
		forget(p);
	}
	return err;
}

static void try_later(struct flat_peer *p, const char *why)
{
	int64_t wait_ms = p->verbs_wait_ms ? p->verbs_wait_ms : FLAT_VERBS_RETRY_MS;
	p->verbs_retry_ms = flat_now_us() / 1000 + wait_ms;
	p->verbs_wait_ms =
	    wait_ms * 2 < FLAT_VERBS_RETRY_MAX_MS ? wait_ms * 2 : FLAT_VERBS_RETRY_MAX_MS;
	snprintf(p->verbs_why, sizeof(p->verbs_why), "%s", why);
}

static void say(struct flat_peer *p, enum flat_frame_verbs what, const void *data, size_t len)
{
	struct flat_frame f = {.type = FLAT_FRAME_VERBS, .number = what, .data = data, .len = len};
	flat_wire_link_say(p->link, &f);
	flat_peer_heat(p);
}

void flat_peer_verbs_offer(struct flat_peer *p)
{
	uint8_t end[FLAT_FRAME_VERBS_END];
	char why[sizeof(p->verbs_why)];
	if (p->server || p->hbone || !p->all->verbs_name || p->verbs || p->verbs_offered ||
	    !p->link || !p->link->greeted || p->link->draining ||
	    flat_now_us() / 1000 < p->verbs_retry_ms)
		return;
	if (make(p, why, sizeof(why)) != 0) {
		try_later(p, why);
		return;
	}
	flat_verbs_tell(p->verbs, end);
	p->verbs_offered = true;
	say(p, FLAT_VERBS_OFFER, end, sizeof(end));
}

/* Making an end takes the device milliseconds, and a client may ask as often as it likes. NULL: it is made. */
static const char *too_many(struct flat_peer *p)
{
	int64_t now_ms = flat_now_us() / 1000;
	if (p->verbs_asked_ms && now_ms - p->verbs_asked_ms < FLAT_VERBS_OFFER_MS)
		return "this link has offered verbs a moment ago";
	if (p->all->verbs_offers >= FLAT_VERBS_OFFERS_TICK)
		return "too many links offer verbs at this moment";
	p->all->verbs_offers++;
	p->verbs_asked_ms = now_ms;
	return NULL;
}

static void refuse(struct flat_peer *p, const char *why)
{
	say(p, FLAT_VERBS_REFUSE, why, strlen(why));
}

static void on_offer(struct flat_peer *p, const struct flat_frame *f)
{
	uint8_t end[FLAT_FRAME_VERBS_END];
	char why[sizeof(p->verbs_why)];
	const char *many = too_many(p);
	if (many || !flat_carrier_withdraw(&p->carrier)) {
		refuse(p, many ? many : "the connection before is in use");
		return;
	}
	if (p->verbs)
		forget(p);
	int err = make(p, why, sizeof(why));
	if (err == 0)
		err = flat_verbs_connect(p->verbs, f->data, &p->addr, why, sizeof(why));
	if (err != 0) {
		if (p->verbs)
			forget(p);
		snprintf(p->verbs_why, sizeof(p->verbs_why), "%s", why);
		refuse(p, why);
		return;
	}
	flat_carrier_offer(&p->carrier, flat_verbs_ring(p->verbs));
	flat_verbs_tell(p->verbs, end);
	say(p, FLAT_VERBS_ANSWER, end, sizeof(end));
}

static void on_answer(struct flat_peer *p, const struct flat_frame *f)
{
	char why[sizeof(p->verbs_why)];
	/* The device may have gone meanwhile. */
	if (!p->verbs || !p->verbs_live) {
		if (p->verbs)
			forget(p);
		return;
	}
	if (flat_verbs_connect(p->verbs, f->data, &p->addr, why, sizeof(why)) != 0) {
		forget(p);
		try_later(p, why);
		return;
	}
	flat_carrier_offer(&p->carrier, flat_verbs_ring(p->verbs));
	flat_carrier_go(&p->carrier);
	flat_peer_heat(p);
}

int flat_peer_verbs_frame(struct flat_wire_link *link, const struct flat_frame *f)
{
	struct flat_peer *p = link->owner;
	char text[FLAT_ADDR_STRLEN];
	bool answers = f->number == FLAT_VERBS_ANSWER || f->number == FLAT_VERBS_REFUSE;
	if (answers && (p->server || !p->verbs_offered))
		return -EPROTO;
	if (answers)
		p->verbs_offered = false;
	if (f->number == FLAT_VERBS_OFFER) {
		if (!p->server)
			return -EPROTO;
		on_offer(p, f);
	} else if (f->number == FLAT_VERBS_ANSWER) {
		on_answer(p, f);
	} else if (f->number == FLAT_VERBS_REFUSE) {
		char why[sizeof(p->verbs_why)];
		snprintf(why, sizeof(why), "the other host: %.*s", (int)flat_min_size(f->len, 160),
			 (const char *)f->data);
		if (p->verbs)
			forget(p);
		try_later(p, why);
	} else if (flat_carrier_gone_over(&p->carrier) != 0) {
		return -EPROTO;
	} else {
		p->all->verbs_made++;
		p->verbs_since_ms = flat_now_us() / 1000;
		p->verbs_used = true;
		flat_info("link %s %s goes over verbs, device %s", p->server ? "from" : "to",
			  flat_addr_str(&p->addr, text), p->all->verbs_name);
	}
	return 0;
}

/* --- moving --- */

void flat_peer_verbs_lose(struct flat_peer *p, const char *why)
{
	char text[FLAT_ADDR_STRLEN];
	if (!p->verbs || !p->verbs_live)
		return;
	p->verbs_live = false;
	flat_loop_del(&p->all->offload->loop, &p->verbs_source);
	/* First what was taken is told, then nothing more can come. */
	flat_carrier_fail(&p->carrier);
	flat_verbs_stop(p->verbs);
	if (p->verbs_used && flat_now_us() / 1000 - p->verbs_since_ms > FLAT_VERBS_RETRY_MAX_MS)
		p->verbs_wait_ms = 0;
	try_later(p, why);
	if (p->verbs_used) {
		p->all->verbs_lost++;
		flat_warn("link %s %s goes back to TCP: %s", p->server ? "from" : "to",
			  flat_addr_str(&p->addr, text), why);
	}
	flat_peer_heat(p);
}

int flat_peer_verbs_turn(struct flat_peer *p, bool *more)
{
	struct flat_carrier *c = &p->carrier;
	if (!p->verbs)
		return 0;
	if (c->failed && p->verbs_live)
		flat_peer_verbs_lose(p, flat_verbs_why(p->verbs)[0]
					    ? flat_verbs_why(p->verbs)
					    : "the other host asks for TCP");
	int n = p->verbs_live ? flat_verbs_poll(p->verbs) : 0;
	if (n < 0)
		flat_peer_verbs_lose(p, flat_verbs_why(p->verbs));
	ssize_t moved = flat_carrier_pump(c, TURN_BYTES);
	if (moved < 0)
		return (int)moved;
	if (c->failed && p->verbs_live)
		flat_peer_verbs_lose(p, flat_verbs_why(p->verbs));
	if (!p->verbs_live) {
		flat_peer_verbs_sent(p);
		return 0;
	}
	int64_t now_us = flat_now_us();
	if (n > 0 || moved > 0) {
		p->verbs_warm_us = now_us;
		p->heard_ms = n > 0 ? p->all->tick_ms : p->heard_ms;
		p->asked_ms = n > 0 ? 0 : p->asked_ms;
		p->verbs_armed = false;
	}
	if (now_us - p->verbs_warm_us < FLAT_VERBS_WARM_US) {
		*more = true;
	} else if (!p->verbs_armed) {
		p->verbs_armed = true;
		if (flat_verbs_arm(p->verbs) != 0)
			flat_peer_verbs_lose(p, flat_verbs_why(p->verbs));
		/* What came before the arming rings no bell. */
		*more = true;
	}
	return 0;
}

void flat_peer_verbs_sent(struct flat_peer *p)
{
	if (p->verbs && !p->verbs_live &&
	    (flat_carrier_idle(&p->carrier) || (!p->carrier.ring && !p->verbs_offered)))
		forget(p);
}

bool flat_peer_verbs_put(struct flat_peer *p)
{
	/* Nothing is taken from the ring here: no error of the link's. */
	if (!p->verbs || flat_carrier_pump(&p->carrier, 0) <= 0)
		return false;
	p->verbs_warm_us = flat_now_us();
	return true;
}

void flat_peer_verbs_end(struct flat_peer *p)
{
	if (p->verbs)
		forget(p);
}

const char *flat_peer_path(const struct flat_peer *p)
{
	return p->carrier.in_ring && p->carrier.out_ring && p->verbs_live ? "verbs" : "tcp";
}

const char *flat_peer_path_why(const struct flat_peer *p)
{
	if (p->hbone)
		return "HBONE knows TCP alone";
	if (!p->all->verbs_name)
		return "flatd runs without --verbs";
	if (strcmp(flat_peer_path(p), "verbs") == 0)
		return p->all->verbs_name;
	if (p->verbs && p->verbs_live)
		return "verbs are being agreed on";
	return p->verbs_why[0] ? p->verbs_why : "the other host has not asked for verbs";
}
