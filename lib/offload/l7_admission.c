/* Admission control: what each filter knows of each of its servers, or clients and services. */
#include "offload/l7_admission.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "offload/l7_filter.h"
#include "offload/success.h"

/* What is known of so many at once; what comes beyond is let through. */
#define GATES_MAX 4096U

/* A filter at a server's port; or at a client or gateway, for one service's port. */
struct flat_l7_admission {
	struct flat_admission filter; /* as the newest configuration has it: a copy */
	uint64_t epoch;		      /* of that */
	struct flat_success success;
	char *key;
};

struct flat_l7_admissions {
	struct flat_map map;
	struct flat_l7_admission *v[GATES_MAX];
	uint32_t n;
};

static void gate_free(struct flat_l7_admission *gate)
{
	flat_success_fini(&gate->success);
	free(gate->key);
	free(gate);
}

void flat_l7_admissions_fini(struct flat_l7_node *node)
{
	struct flat_l7_admissions *all = node->admissions;

	for (uint32_t i = 0; all && i < all->n; i++)
		gate_free(all->v[i]);
	if (all)
		flat_map_fini(&all->map);
	free(all);
	node->admissions = NULL;
}

static struct flat_l7_admission *gate_new(struct flat_l7_admissions *all, const char *key,
					  uint32_t seconds)
{
	struct flat_l7_admission *gate =
	    all->n < GATES_MAX ? calloc(1, sizeof(struct flat_l7_admission)) : NULL;

	if (!gate)
		return NULL;
	gate->key = strdup(key);
	if (!gate->key || flat_success_init(&gate->success, seconds) != 0 ||
	    flat_map_put_str(&all->map, gate->key, gate) != 0) {
		gate_free(gate);
		return NULL;
	}
	all->v[all->n++] = gate;
	return gate;
}

/* What it knows stays, as long as it looks as far back. */
static bool gate_renew(struct flat_l7_admission *gate, const struct flat_admission *filter,
		       uint64_t epoch)
{
	if (gate->success.n != filter->window_s) {
		flat_success_fini(&gate->success);
		if (flat_success_init(&gate->success, filter->window_s) != 0)
			return false;
	}
	gate->filter = *filter;
	gate->epoch = epoch;
	return true;
}

static struct flat_l7_admission *find(struct flat_l7_node *node,
				      const struct flat_filter_whose *whose, const char *host)
{
	const struct flat_admission *filter = flat_mesh_admission(node->offload->mesh, whose);
	const struct flat_workload *w = whose->workload;
	struct flat_l7_admissions *all = node->admissions;
	uint64_t epoch = node->offload->epoch;
	struct flat_l7_admission *gate;
	char key[1024];

	if (!filter)
		return NULL;
	if (!all)
		all = node->admissions = calloc(1, sizeof(*all));
	if (!all)
		return NULL;
	snprintf(key, sizeof(key), "%s/%s:%u %u %s/%s %s:%u", filter->filter.by.namespace,
		 filter->filter.by.name, filter->filter.by.where.line, whose->at,
		 w ? w->namespace : "", w ? w->name : "", host, whose->port);
	gate = flat_map_get_str(&all->map, key);
	if (!gate)
		gate = gate_new(all, key, filter->window_s);
	if (gate && gate->epoch != epoch && !gate_renew(gate, filter, epoch))
		return NULL;
	/* One without memory for its seconds knows nothing. */
	return gate && gate->success.n ? gate : NULL;
}

static const struct flat_service *service_of(const struct flat_l7_exchange *x)
{
	return x->destination && x->destination->service ? x->destination->service : x->service;
}

/* Mostly that of the connection's request before: NULL if there is none. */
static struct flat_l7_admission *gate_of(struct flat_l7 *l7, struct flat_l7_gate_known *known,
					 const struct flat_filter_whose *whose,
					 const struct flat_service *service)
{
	struct flat_l7_node *node = l7->node;

	if (known->epoch != node->offload->epoch || known->workload != whose->workload ||
	    known->service != service || known->port != whose->port) {
		known->admission = find(node, whose, service ? service->host : "");
		known->epoch = node->offload->epoch;
		known->workload = whose->workload;
		known->service = service;
		known->port = whose->port;
	}
	return known->admission;
}

static bool admit(struct flat_l7 *l7, struct flat_l7_admission *gate, struct flat_l7_answer *a)
{
	struct flat_l7_node *node = l7->node;

	flat_success_look(&gate->success, flat_now_us());
	if (flat_l7_random(node, 10000) >= flat_success_refused(&gate->success, &gate->filter))
		return true;
	node->admission_n[FLAT_L7_REJECTED]++;
	flat_l7_text(a, 503, FLAT_VERDICT_ADMISSION, NULL);
	return false;
}

bool flat_l7_admit_client(struct flat_l7 *l7, struct flat_l7_answer *a)
{
	const struct flat_session *client = l7->conn->client;
	struct flat_l7_exchange *x = &l7->x;
	struct flat_filter_whose whose;
	struct flat_l7_admission *gate;

	if (!flat_l7_filter_client(l7, client ? client->workload : NULL, &whose))
		return true;
	gate = gate_of(l7, &l7->root->admission[0], &whose, service_of(x));
	if (!gate)
		return true;
	if (!admit(l7, gate, a))
		return false;
	x->admission = gate;
	return true;
}

bool flat_l7_admit_server(struct flat_l7 *l7, struct flat_l7_answer *a)
{
	struct flat_l7_exchange *x = &l7->x;
	struct flat_filter_whose whose;
	struct flat_l7_admission *gate;

	if (x->probing || l7->dry || !flat_l7_filter_server(l7, &whose))
		return true;
	gate = gate_of(l7, &l7->root->admission[1], &whose, NULL);
	/* An attempt that waited for its turn was asked about already. */
	if (!gate || gate == x->admit)
		return true;
	x->admit = NULL;
	if (!admit(l7, gate, a))
		return false;
	x->admit = gate;
	return true;
}

static bool is_success(const struct flat_admission *f, unsigned status)
{
	for (uint32_t i = 0; i < f->n_http; i++) {
		if (status >= f->http[i].from && status < f->http[i].to)
			return true;
	}
	return false;
}

/* As Envoy: what had no answer at all, or a call no status, says nothing. */
static void note(struct flat_l7 *l7, struct flat_l7_admission *gate, unsigned status)
{
	const struct flat_l7_exchange *x = &l7->x;
	bool good;

	if (status == 0 || (x->grpc && x->grpc_status < 0 && status == 200))
		return;
	if (x->grpc && x->grpc_status >= 0)
		good = x->grpc_status < 32 && (gate->filter.grpc & 1U << x->grpc_status) != 0;
	else
		good = is_success(&gate->filter, status);
	flat_success_note(&gate->success, flat_now_us(), good);
	l7->node->admission_n[good ? FLAT_L7_SUCCESS : FLAT_L7_FAILURE]++;
}

void flat_l7_admitted_request(struct flat_l7 *l7)
{
	note(l7, l7->x.admission, l7->x.record.status);
	l7->x.admission = NULL;
}

void flat_l7_admitted_attempt(struct flat_l7 *l7)
{
	note(l7, l7->x.admit, l7->x.try_status);
	l7->x.admit = NULL;
}

static void tell(struct flat_l7 *l7, const struct flat_filter_whose *whose, const char *host)
{
	struct flat_l7_admission *gate = find(l7->node, whose, host);
	const struct flat_admission *f = gate ? &gate->filter : NULL;
	uint32_t refused;

	if (!gate)
		return;
	flat_success_look(&gate->success, flat_now_us());
	refused = flat_success_refused(&gate->success, f);
	flat_l7_note(l7->node,
		     "  admission control %s/%s (%s:%u): %" PRIu64 " of %" PRIu64
		     " requests of the last %u s went well; %u.%02u %% of the next are refused\n",
		     f->filter.by.namespace, f->filter.by.name, f->filter.by.where.file,
		     f->filter.by.where.line, gate->success.successes, gate->success.requests,
		     f->window_s, refused / 100, refused % 100);
}

void flat_l7_admission_note(struct flat_l7 *l7, const struct flat_workload *client)
{
	const struct flat_service *service = service_of(&l7->x);
	struct flat_filter_whose whose;

	if (flat_l7_filter_client(l7, client, &whose))
		tell(l7, &whose, service ? service->host : "");
	if (flat_l7_filter_server(l7, &whose))
		tell(l7, &whose, "");
}

void flat_l7_admission_metrics(const struct flat_l7_node *node, struct flat_strbuf *out)
{
	const uint64_t *n = node->admission_n;

	flat_strbuf_printf(out,
			   "# HELP flat_admission_total Requests that met admission control: how "
			   "they ended, or that they were refused.\n"
			   "# TYPE flat_admission_total counter\n"
			   "flat_admission_total{result=\"success\"} %" PRIu64 "\n"
			   "flat_admission_total{result=\"failure\"} %" PRIu64 "\n"
			   "flat_admission_total{result=\"rejected\"} %" PRIu64 "\n",
			   n[FLAT_L7_SUCCESS], n[FLAT_L7_FAILURE], n[FLAT_L7_REJECTED]);
}
