#include "offload/asking.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/limits.h"
#include "base/log.h"
#include "mesh/ext_authz.h"
#include "offload/admit.h"
#include "offload/gateway.h"
#include "offload/grpc_client.h"
#include "offload/l7.h"
#include "offload/l7_check_grpc.h"

#define PATH "/envoy.service.auth.v3.Authorization/Check"

enum outcome {
	ALLOWED,
	DENIED,
	ERROR,
	FAILED_OPEN, /* of the errors */
	OUTCOMES,
};

struct who {
	bool gate;  /* the gateway asks, about its client; else the server */
	char *name; /* the provider's */
};

struct flat_asking {
	TAILQ_ENTRY(flat_asking) entry; /* while begun */
	struct flat_conn *conn;
	struct flat_call *call; /* NULL: none is on its way */
	int64_t
	    tell_us; /* when the client is told that it is open; INT64_MAX: it is, or need not be */
	bool waits;
	bool begun;
	bool served;	     /* it was for a mesh server */
	struct flat_addr to; /* where a client of a gateway came in */
	uint32_t n, at;	     /* of `who`, and which is asked */
	struct who who[];
};

TAILQ_HEAD(asking_list, flat_asking);

struct flat_askings {
	struct asking_list list;
	uint32_t n;
	int64_t next_us; /* nothing is over before */
	struct flat_call_channel
	    *channels[FLAT_EXT_AUTHZ_MAX]; /* by the provider's index, which wraps */
	uint64_t counts[OUTCOMES];
};

/* --- whom --- */

/* Whether the decision asks at place `i`: the gateway's first, then the server's. `ext`: whom; NULL: that is not there. */
static bool is_asked(const struct flat_conn *c, const struct flat_decision *d, uint32_t i,
		     const struct flat_ext_authz **ext)
{
	uint32_t order = i % FLAT_EXT_AUTHZ_MAX;
	bool gate = i < FLAT_EXT_AUTHZ_MAX;

	if (!(d->asks[gate ? FLAT_ASKED_BY_GATE : FLAT_ASKED_BY_SERVER] & 1U << order))
		return false;
	*ext = flat_mesh_ext_authz_in_order(c->offload->mesh, order);
	return true;
}

int flat_asking_attach(struct flat_conn *c, const struct flat_decision *d)
{
	uint32_t n =
	    (uint32_t)__builtin_popcount(d->asks[0]) + (uint32_t)__builtin_popcount(d->asks[1]);
	struct flat_asking *a = calloc(1, sizeof(*a) + n * sizeof(a->who[0]));

	if (!a)
		return -ENOMEM;
	a->conn = c;
	a->waits = true;
	a->served = c->listener != NULL;
	a->to = d->to;
	flat_asking_free(c->asking);
	c->asking = a;
	for (uint32_t i = 0; i < 2 * FLAT_EXT_AUTHZ_MAX; i++) {
		bool gate = i < FLAT_EXT_AUTHZ_MAX;
		const struct flat_ext_authz *ext;

		if (!is_asked(c, d, i, &ext))
			continue;
		a->who[a->n].gate = gate;
		a->who[a->n].name = ext ? strdup(ext->name) : NULL;
		if (!a->who[a->n++].name)
			return -ENOMEM;
	}
	return 0;
}

bool flat_asking_waits(const struct flat_asking *a)
{
	return a && a->waits;
}

static bool asks(const struct flat_asking *a, bool gate, const char *name)
{
	for (uint32_t i = 0; a && i < a->n; i++) {
		if (a->who[i].gate == gate && strcmp(a->who[i].name, name) == 0)
			return true;
	}
	return false;
}

bool flat_asking_covers(const struct flat_conn *c, const struct flat_decision *d, const char **who)
{
	for (uint32_t i = 0; i < 2 * FLAT_EXT_AUTHZ_MAX; i++) {
		bool gate = i < FLAT_EXT_AUTHZ_MAX;
		const struct flat_ext_authz *ext;

		if (!is_asked(c, d, i, &ext))
			continue;
		*who = ext ? ext->name : "-";
		if (!ext || !asks(c->asking, gate, ext->name))
			return false;
	}
	return true;
}

/* It is not asked about any more. */
static void leave(struct flat_asking *a)
{
	flat_call_cancel(a->call);
	a->call = NULL;
	a->waits = false;
	if (!a->begun)
		return;
	a->begun = false;
	TAILQ_REMOVE(&a->conn->offload->askings->list, a, entry);
	a->conn->offload->askings->n--;
}

void flat_asking_free(struct flat_asking *a)
{
	if (!a)
		return;
	leave(a);
	for (uint32_t i = 0; i < a->n; i++)
		free(a->who[i].name);
	free(a);
}

/* --- the question --- */

static void sooner(struct flat_askings *all, int64_t at_us)
{
	if (at_us < all->next_us)
		all->next_us = at_us;
}

static void write_question(const struct flat_conn *c, bool gate, struct flat_strbuf *out)
{
	const struct flat_session *s = c->client;
	const struct flat_workload *server = c->listener ? c->listener->session->workload : NULL;
	struct flat_l7_check_party from = {.addr = &c->from};
	struct flat_l7_check_party to = {.addr = gate ? &c->asking->to : &c->target};

	if (gate)
		from.principal = c->gate && c->gate->tls ? flat_tls_principal(c->gate->tls) : NULL;
	else if (s)
		from.principal = s->workload ? s->workload->principal : NULL;
	else
		from.principal = c->principal;
	to.principal = gate ? c->principal : server ? server->principal : NULL;
	flat_l7_check_grpc_connection(out, &from, &to);
}

static struct flat_call_channel *channel_of(struct flat_offload *o,
					    const struct flat_ext_authz *ext)
{
	struct flat_call_channel **ch = &o->askings->channels[ext->index % FLAT_EXT_AUTHZ_MAX];

	if (!*ch)
		*ch = flat_call_channel_open(&o->loop);
	return *ch;
}

/* No longer than connect() would wait for a server. */
static uint32_t time_ms(const struct flat_conn *c, const struct flat_ext_authz *ext)
{
	uint32_t most = c->reply_due && !c->early ? FLAT_HALF_OPEN_MS : FLAT_CONNECTING_MS;

	return ext->timeout_ms < most ? ext->timeout_ms : most;
}

static void on_answer(void *arg, const struct flat_call_answer *answer);

/* Begins to ask. NULL, or why it cannot be. */
static const char *start(struct flat_asking *a, const struct flat_ext_authz *ext)
{
	struct flat_offload *o = a->conn->offload;
	struct flat_strbuf message = {0};
	struct sockaddr_storage addr;
	struct flat_call_question q = {
	    .addr = &addr,
	    .grpc = true,
	    .path = PATH,
	    .deadline_us = flat_now_us() + (int64_t)time_ms(a->conn, ext) * 1000,
	    .authority = ext->host,
	};
	const char *why = NULL;

	q.addr_len = flat_l7_address_of(o->l7, ext->service, ext->port, &addr);
	if (q.addr_len == 0)
		return "it has no endpoint";
	q.channel = channel_of(o, ext);
	write_question(a->conn, a->who[a->at].gate, &message);
	q.bytes = message.data;
	q.len = message.len;
	if (message.failed || !q.channel)
		why = "no memory";
	else
		a->call = flat_call_start(&o->loop, &q, on_answer, a);
	flat_strbuf_fini(&message);
	if (!why && !a->call)
		why = "no connection can be made";
	if (a->call)
		sooner(o->askings, q.deadline_us);
	return why;
}

/* --- the answer --- */

static void refuse(struct flat_asking *a, enum flat_refusal_kind kind, const char *reason)
{
	leave(a);
	flat_conn_fail(a->conn, a->conn->told ? ECONNRESET : EACCES, kind, reason);
}

/* It did not say. False: the connection is refused, and gone. */
static bool failed(struct flat_asking *a, const struct flat_ext_authz *ext, const char *why)
{
	struct flat_offload *o = a->conn->offload;
	char reason[400];
	bool open = ext && ext->fail_open;

	o->askings->counts[ERROR]++;
	o->askings->counts[FAILED_OPEN] += open;
	snprintf(reason, sizeof(reason), "external authorizer %.100s (%s:%u): %.150s",
		 a->who[a->at].name, ext && ext->where.file ? ext->where.file : "-",
		 ext ? ext->where.line : 0, why);
	if (flat_l7_may_tell(o->l7))
		flat_warn("%s; the connection of %s to %s is %s", reason, a->conn->client_name,
			  a->conn->server_name, open ? "allowed" : "refused");
	if (!open)
		refuse(a, FLAT_REFUSED_POLICY, reason);
	return open;
}

enum step {
	PASSED, /* all have allowed it */
	ASKED,	/* an answer is waited for */
	GONE,	/* the connection was refused */
};

/* Asks the next one. */
static enum step ask_on(struct flat_asking *a)
{
	for (; a->at < a->n; a->at++) {
		const struct flat_ext_authz *ext =
		    flat_mesh_ext_authz(a->conn->offload->mesh, a->who[a->at].name);
		const char *why = !ext		 ? "it is not there any more"
				  : ext->why_not ? ext->why_not
				  : !ext->grpc	 ? "it is one over HTTP now"
						 : start(a, ext);

		if (!why)
			return ASKED;
		if (!failed(a, ext, why))
			return GONE;
	}
	return PASSED;
}

static void go_on(struct flat_asking *a)
{
	struct flat_conn *c = a->conn;

	leave(a);
	for (int i = 0; i < 2; i++)
		flat_loop_del(&c->offload->loop, &c->end[i].anchor);
	if (c->told || c->connecting)
		c->since_ms = flat_now_us() / 1000;
	if (a->served && !c->listener)
		flat_conn_fail(c, ECONNREFUSED, FLAT_REFUSED_UNREACHABLE, "the listener is gone");
	else
		flat_conn_reach(c, 0);
}

static void on_answer(void *arg, const struct flat_call_answer *answer)
{
	struct flat_asking *a = arg;
	struct flat_offload *o = a->conn->offload;
	const struct flat_ext_authz *ext = flat_mesh_ext_authz(o->mesh, a->who[a->at].name);
	struct flat_l7_check_answer said = {.allowed = false};
	char reason[300];
	const char *why = answer->why;

	a->call = NULL;
	if (!why && (answer->status != 200 || answer->grpc != 0))
		why = "its answer is an error";
	if (!why && flat_l7_check_grpc_take(answer->bytes, answer->len, &said) != 0)
		why = "its answer is malformed";
	if (!why && said.error)
		why = "it says that it failed";
	bool allowed = said.allowed;
	flat_l7_check_answer_fini(&said);
	if (why) {
		allowed = failed(a, ext, why);
		if (!allowed)
			return;
	} else {
		o->askings->counts[allowed ? ALLOWED : DENIED]++;
	}
	if (!allowed) {
		snprintf(reason, sizeof(reason), "external authorizer %.100s (%s:%u) denies it",
			 a->who[a->at].name, ext && ext->where.file ? ext->where.file : "-",
			 ext ? ext->where.line : 0);
		refuse(a, FLAT_REFUSED_POLICY, reason);
		return;
	}
	a->at++;
	if (ask_on(a) == PASSED)
		go_on(a);
}

/* --- begin --- */

static struct flat_askings *askings_of(struct flat_offload *o)
{
	if (o->askings)
		return o->askings;
	o->askings = calloc(1, sizeof(*o->askings));
	if (!o->askings)
		return NULL;
	TAILQ_INIT(&o->askings->list);
	o->askings->next_us = INT64_MAX;
	return o->askings;
}

static bool has_room(const struct flat_askings *all, const struct flat_conn *c)
{
	const struct flat_asking *a;
	uint32_t n = 0;

	if (all->n >= FLAT_ASKINGS_MAX)
		return false;
	if (all->n < FLAT_ASKINGS_CLIENT_MAX)
		return true;
	TAILQ_FOREACH(a, &all->list, entry)
	n += a->conn->client == c->client;
	return n < FLAT_ASKINGS_CLIENT_MAX;
}

void flat_asking_begin(struct flat_conn *c)
{
	struct flat_asking *a = c->asking;
	struct flat_askings *all = askings_of(c->offload);

	if (!all || !has_room(all, c)) {
		a->waits = false;
		flat_conn_fail(c, all ? EAGAIN : ENOMEM,
			       all ? FLAT_REFUSED_LIMIT : FLAT_REFUSED_RESOURCES,
			       all ? "rule 15: too many wait for external authorizers"
				   : "flatd is out of memory");
		return;
	}
	TAILQ_INSERT_TAIL(&all->list, a, entry);
	all->n++;
	a->begun = true;
	enum step step = ask_on(a);
	if (step == PASSED)
		go_on(a);
	if (step != ASKED)
		return;
	flat_conn_wait(c);
}

/* --- time --- */

int flat_askings_wait_ms(struct flat_offload *o)
{
	struct flat_askings *all = o->askings;
	struct flat_asking *a, *next;
	int64_t now = flat_now_us();
	bool due = all && now >= all->next_us;

	if (!all || all->n == 0)
		return -1;
	if (due)
		all->next_us = INT64_MAX;
	for (a = due ? TAILQ_FIRST(&all->list) : NULL; a; a = next) {
		int left;

		next = TAILQ_NEXT(a, entry);
		/* Its function may end the connection, and no other. */
		left = flat_call_expire(a->call, now);
		if (left < 0)
			continue;
		sooner(all, now + (int64_t)left * 1000);
	}
	if (all->next_us == INT64_MAX)
		return -1;
	int64_t ms = (all->next_us - now + 999) / 1000;
	return ms < 0 ? 0 : ms < INT32_MAX ? (int)ms : INT32_MAX;
}

void flat_askings_metrics(const struct flat_offload *o, struct flat_strbuf *out)
{
	static const char *const names[OUTCOMES] = {"allowed", "denied", "error", "failed_open"};

	flat_strbuf_puts(
	    out, "# HELP flat_asked_connections_total Answers of external authorizers about "
		 "connections; failed_open: of the errors those that let one through.\n"
		 "# TYPE flat_asked_connections_total counter\n");
	for (int i = 0; i < OUTCOMES; i++)
		flat_strbuf_printf(out, "flat_asked_connections_total{result=\"%s\"} %" PRIu64 "\n",
				   names[i], o->askings ? o->askings->counts[i] : 0);
	flat_strbuf_printf(out,
			   "# HELP flat_asking_connections Connections that wait for external "
			   "authorizers.\n# TYPE flat_asking_connections gauge\n"
			   "flat_asking_connections %" PRIu32 "\n",
			   o->askings ? o->askings->n : 0);
}

void flat_askings_close(struct flat_offload *o)
{
	for (uint32_t i = 0; o->askings && i < FLAT_EXT_AUTHZ_MAX; i++)
		flat_call_channel_close(o->askings->channels[i]);
	free(o->askings);
	o->askings = NULL;
}
