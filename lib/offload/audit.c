#include "offload/audit.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/json.h"
#include "base/log.h"
#include "base/sys.h"

/* Bytes of a path that are told. */
#define PATH_MAX_TOLD 2048U

struct flat_audit_log {
	int fd;
};

struct flat_audit_log *flat_audit_open(const char *path)
{
	struct flat_audit_log *log = path ? calloc(1, sizeof(*log)) : NULL;

	if (!log)
		return NULL;
	log->fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOCTTY, 0640);
	if (log->fd >= 0)
		return log;
	flat_error("audit log %s: %s; refusals are not written there", path, strerror(errno));
	free(log);
	return NULL;
}

void flat_audit_close(struct flat_audit_log *log)
{
	if (!log)
		return;
	close(log->fd);
	free(log);
}

static void put_time(struct flat_json *j)
{
	struct timespec ts;
	struct tm tm;
	struct flat_strbuf text = {0};

	clock_gettime(CLOCK_REALTIME, &ts);
	if (gmtime_r(&ts.tv_sec, &tm))
		flat_strbuf_printf(&text, "%04d-%02d-%02dT%02d:%02d:%02d.%03ldZ", tm.tm_year + 1900,
				   tm.tm_mon + 1, tm.tm_mday, tm.tm_hour, tm.tm_min, tm.tm_sec,
				   ts.tv_nsec / 1000000);
	flat_json_string(j, "time", flat_strbuf_str(&text));
	flat_strbuf_fini(&text);
}

static void put_span(struct flat_json *j, const char *key, struct flat_span s)
{
	if (s.text)
		flat_json_string_n(j, key, s.text, flat_min_size(s.len, PATH_MAX_TOLD));
}

static void put_text(struct flat_json *j, const char *key, const char *text)
{
	if (text && *text)
		flat_json_string(j, key, text);
}

static void put_policy(struct flat_json *j, const struct flat_audit *e)
{
	if (!e->policy_name)
		return;
	flat_json_string(j, "policy_namespace", e->policy_namespace);
	flat_json_string(j, "policy", e->policy_name);
	if (e->rule >= 0)
		flat_json_int(j, "rule", e->rule);
	flat_json_string(j, "file", e->where.file);
	flat_json_uint(j, "line", e->where.line);
}

bool flat_audit_write(struct flat_audit_log *log, const struct flat_audit *e)
{
	struct flat_strbuf line = {0};
	struct flat_json j;
	char ip[FLAT_IP_TEXT_MAX];

	if (!log)
		return false;
	flat_json_init(&j, &line, false);
	flat_json_object(&j, NULL);
	put_time(&j);
	flat_json_string(&j, "event", e->event);
	put_text(&j, "action", e->action);
	put_text(&j, "result", e->result);
	put_text(&j, "client", e->client);
	put_text(&j, "principal", e->principal);
	flat_ip_text(&e->source, ip);
	put_text(&j, "source", ip);
	if (e->destination) {
		flat_json_string(&j, "destination_namespace", e->destination->namespace);
		flat_json_string(&j, "destination", e->destination->name);
	}
	put_text(&j, "service", e->service);
	if (e->port)
		flat_json_uint(&j, "port", e->port);
	if (e->request) {
		put_span(&j, "method", e->request->method);
		put_span(&j, "host", e->request->authority);
		put_span(&j, "path", e->request->path);
	}
	if (e->status)
		flat_json_uint(&j, "status", e->status);
	put_text(&j, "reason", e->reason);
	put_policy(&j, e);
	flat_json_object_end(&j);
	flat_strbuf_putc(&line, '\n');
	if (flat_strbuf_str(&line))
		(void)flat_sys_write(log->fd, line.data, line.len);
	flat_strbuf_fini(&line);
	return true;
}
