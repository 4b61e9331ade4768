/*
 * Prometheus's door: /metrics and /healthz on a local TCP port, served from the control loop. A scraper that sends or
 * takes slowly holds nothing but its own place: there are FLAT_SCRAPERS_MAX of them, each for FLAT_SCRAPE_MS.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <flat/flat.h>

#include "base/limits.h"
#include "base/log.h"
#include "base/sys.h"
#include "offload/admit.h"
#include "offload/asking.h"
#include "offload/health.h"
#include "offload/http.h"
#include "offload/l7.h"
#include "offload/peers.h"

struct scraper {
	struct flat_metrics *metrics;
	struct flat_source source;
	int64_t since_ms;
	char request[FLAT_SCRAPE_REQUEST_MAX];
	size_t len;
	struct flat_strbuf answer;
	size_t at;
	bool ended; /* our side of the stream */
};

struct flat_metrics {
	struct flat_offload *offload;
	struct flat_source source;
	struct scraper *scrapers[FLAT_SCRAPERS_MAX]; /* NULL: a free place */
};

/* --- what is told --- */

static void put_gauges(struct flat_offload *o, struct flat_strbuf *out)
{
	flat_metrics_one(out, "flat_sessions", "gauge", "Processes that have a session.",
			 o->n_sessions);
	flat_metrics_one(out, "flat_listeners", "gauge", "Sockets that mesh servers listen on.",
			 o->n_listeners);
	flat_metrics_one(out, "flat_connections", "gauge",
			 "Direct and forwarded connections, half open included.", o->n_conns);
	flat_metrics_one(out, "flat_lanes", "gauge", "Pieces of shared memory.", o->n_lanes);
	flat_metrics_one(out, "flat_lane_bytes", "gauge",
			 "Length of all lanes, of which unused parts take no memory.",
			 o->lane_bytes);
	flat_metrics_one(out, "flat_workers", "gauge", "Threads that move forwarded bytes.",
			 o->workers.n);
	flat_metrics_one(out, "flat_config_epoch", "gauge", "Number of the configuration in force.",
			 o->epoch);
	flat_metrics_one(out, "flat_start_time_seconds", "gauge", "When flatd was started.",
			 (uint64_t)o->started_s);
}

static void put_counters(struct flat_offload *o, struct flat_strbuf *out)
{
	static const char *const paths[] = {"kernel", "direct", "forwarded"};
	flat_metrics_one(out, "flat_sessions_total", "counter", "Processes that connected.",
			 o->stats.sessions);
	flat_metrics_one(out, "flat_sessions_ended_total", "counter",
			 "Sessions ended for breaking a rule.", o->stats.sessions_ended);
	flat_metrics_one(out, "flat_throttled_total", "counter",
			 "Times a session had used up its control messages.", o->stats.throttled);
	flat_metrics_one(out, "flat_revoked_total", "counter",
			 "Live connections cut by a change of policy.", o->stats.revoked);
	flat_metrics_one(out, "flat_endpoint_changes_total", "counter",
			 "Changes of a service's endpoints that took no new configuration.",
			 o->stats.endpoint_changes);
	flat_metrics_one(out, "flat_config_errors_total", "counter",
			 "Configurations that were refused.", o->stats.config_errors);
	flat_metrics_one(out, "flat_forwarded_bytes_total", "counter", "Bytes moved by flatd.",
			 flat_workers_bytes(&o->workers));
	flat_metrics_head(out, "flat_connections_opened_total", "counter", "Connections by path.");
	for (int i = 0; i < 3; i++)
		flat_strbuf_printf(out, "flat_connections_opened_total{path=\"%s\"} %" PRIu64 "\n",
				   paths[i], o->stats.opened[i]);
	flat_metrics_one(out, "flat_connections_closed_total", "counter",
			 "Direct and forwarded connections that ended.", o->stats.closed);
	flat_metrics_head(out, "flat_refused_total", "counter", "Refused connections by reason.");
	for (int i = 0; i < FLAT_REFUSED_KINDS; i++)
		flat_strbuf_printf(out, "flat_refused_total{reason=\"%s\"} %" PRIu64 "\n",
				   flat_refusal_name((enum flat_refusal_kind)i),
				   o->stats.refused[i]);
	flat_askings_metrics(o, out);
}

void flat_metrics_text(struct flat_offload *o, struct flat_strbuf *out)
{
	flat_metrics_head(out, "flat_build_info", "gauge", "The version that runs.");
	flat_strbuf_printf(out, "flat_build_info{version=\"%s\"} 1\n", flat_version());
	put_gauges(o, out);
	put_counters(o, out);
	flat_series_live(o);
	flat_l7_messages_live(o);
	flat_series_text(&o->series, &o->measures, out);
	flat_l7_metrics(o, out);
	flat_measures_bounds_text(&o->measures, out);
	flat_health_metrics(o, out);
	flat_peers_metrics(o, out);
}

/* --- scrapers --- */

static void scraper_free(struct scraper *s)
{
	struct flat_metrics *m = s->metrics;
	flat_loop_del(&m->offload->loop, &s->source);
	close(s->source.fd);
	for (int i = 0; i < FLAT_SCRAPERS_MAX; i++) {
		if (m->scrapers[i] == s)
			m->scrapers[i] = NULL;
	}
	flat_strbuf_fini(&s->answer);
	free(s);
}

static void make_answer(struct scraper *s, int status, const char *path, int only_head)
{
	struct flat_strbuf body = {0};
	bool metrics = strcmp(path, "/metrics") == 0;
	if (status == 200 && metrics)
		flat_metrics_text(s->metrics->offload, &body);
	else if (status == 200 && strcmp(path, "/healthz") == 0)
		flat_strbuf_puts(&body, "ok\n");
	else if (status == 200)
		status = 404;
	if (body.failed) {
		flat_strbuf_fini(&body);
		status = 503;
	}
	if (status != 200)
		flat_strbuf_printf(&body, "%s\n", flat_http_reason(status));
	flat_strbuf_printf(&s->answer,
			   "HTTP/1.1 %d %s\r\nContent-Type: text/plain%s; charset=utf-8\r\n"
			   "Content-Length: %zu\r\nConnection: close\r\n%s\r\n",
			   status, flat_http_reason(status),
			   status == 200 && metrics ? "; version=0.0.4" : "", body.len,
			   status == 405 ? "Allow: GET, HEAD\r\n" : "");
	if (!only_head && body.len > 0)
		flat_strbuf_add(&s->answer, body.data, body.len);
	flat_strbuf_fini(&body);
}

/* Sends what can be sent. False: the scraper is done with. */
static bool send_answer(struct scraper *s)
{
	char sink[512];
	while (s->at < s->answer.len) {
		ssize_t n = flat_sys_send(s->source.fd, s->answer.data + s->at,
					  s->answer.len - s->at, MSG_DONTWAIT | MSG_NOSIGNAL);
		if (n == -EAGAIN)
			return true;
		if (n <= 0)
			return false;
		s->at += (size_t)n;
	}
	if (!s->ended) {
		s->ended = true;
		flat_sys_shutdown(s->source.fd, SHUT_WR);
	}
	/* Closed with bytes unread, the kernel would reset, and the answer might be lost. */
	ssize_t n = flat_sys_recv(s->source.fd, sink, sizeof(sink), MSG_DONTWAIT);
	return n > 0 || n == -EAGAIN;
}

/* False: done with. */
static bool read_request(struct scraper *s)
{
	char path[FLAT_HTTP_PATH_MAX] = "";
	int only_head = 0;
	ssize_t n = flat_sys_recv(s->source.fd, s->request + s->len, sizeof(s->request) - s->len,
				  MSG_DONTWAIT);
	if (n == -EAGAIN)
		return true;
	if (n <= 0)
		return false;
	s->len += (size_t)n;
	int status = flat_http_request(s->request, s->len, sizeof(s->request), path, &only_head);
	if (status == 0)
		return true;
	make_answer(s, status, path, only_head);
	return !s->answer.failed && send_answer(s);
}

static void on_scraper(struct flat_source *source, int events)
{
	struct scraper *s = FLAT_CONTAINER_OF(source, struct scraper, source);
	bool on = !(events & POLLERR);
	if (on && s->answer.len == 0)
		on = read_request(s);
	else if (on)
		on = send_answer(s);
	if (!on)
		scraper_free(s);
}

/* A place: a free one, or that of the oldest, who is sent away. */
static int take_place(struct flat_metrics *m)
{
	int oldest = 0;
	for (int i = 0; i < FLAT_SCRAPERS_MAX; i++) {
		if (!m->scrapers[i])
			return i;
		if (m->scrapers[i]->since_ms < m->scrapers[oldest]->since_ms)
			oldest = i;
	}
	scraper_free(m->scrapers[oldest]);
	return oldest;
}

static void on_accept(struct flat_source *source, int fd)
{
	struct flat_metrics *m = FLAT_CONTAINER_OF(source, struct flat_metrics, source);
	if (fd < 0)
		return;
	struct scraper *s = calloc(1, sizeof(*s));
	if (!s) {
		close(fd);
		return;
	}
	s->metrics = m;
	s->since_ms = flat_now_us() / 1000;
	s->source.fd = fd;
	m->scrapers[take_place(m)] = s;
	if (flat_loop_poll(&m->offload->loop, &s->source, fd, POLLIN | POLLOUT | POLLRDHUP,
			   on_scraper) != 0)
		scraper_free(s);
}

int flat_metrics_expire(struct flat_offload *o)
{
	int64_t now_ms = flat_now_us() / 1000;
	int64_t soonest = -1;
	for (int i = 0; o->metrics && i < FLAT_SCRAPERS_MAX; i++) {
		struct scraper *s = o->metrics->scrapers[i];
		int64_t left = s ? s->since_ms + FLAT_SCRAPE_MS - now_ms : -1;
		if (s && left <= 0)
			scraper_free(s);
		else if (s && (soonest < 0 || left < soonest))
			soonest = left;
	}
	return (int)soonest;
}

/* --- the port --- */

int flat_metrics_open(struct flat_offload *o, const char *text)
{
	struct flat_metrics *m = calloc(1, sizeof(*m));
	int fd = m ? flat_port_open(o, text, FLAT_SCRAPERS_MAX) : -ENOMEM;
	if (fd < 0) {
		flat_error("metrics on %s: %s; give --metrics ADDR:PORT, or --metrics off", text,
			   strerror(-fd));
		free(m);
		return fd;
	}
	m->offload = o;
	o->metrics = m;
	return flat_loop_accept(&o->loop, &m->source, fd, on_accept);
}

int flat_metrics_socket(const struct flat_offload *o)
{
	return o->metrics ? o->metrics->source.fd : -1;
}

void flat_metrics_close(struct flat_offload *o)
{
	struct flat_metrics *m = o->metrics;
	if (!m)
		return;
	for (int i = 0; i < FLAT_SCRAPERS_MAX; i++) {
		if (m->scrapers[i])
			scraper_free(m->scrapers[i]);
	}
	flat_loop_del(&o->loop, &m->source);
	close(m->source.fd);
	free(m);
	o->metrics = NULL;
}
