/*
 * Messages of envoy.service.ratelimit.v3 (rls.proto) and envoy.extensions.common.ratelimit.v3 (ratelimit.proto), field by field.
 */
#include <errno.h>
#include <inttypes.h>

#include "codec/protobuf.h"
#include "offload/l7_check_grpc.h"
#include "offload/l7_limit.h"
#include "offload/l7_rate.h"

/* RateLimitResponse.Code. */
#define CODE_OVER_LIMIT 2U

void flat_l7_rate_put_domain(struct flat_strbuf *out, const char *domain)
{
	flat_protobuf_put_text(out, 1, domain);
}

/* RateLimitDescriptor: entries 1 (key 1, value 2), hits_addend 3 (UInt64Value: value 1). */
void flat_l7_rate_put_descriptor(struct flat_strbuf *out, const struct flat_l7_descriptor *d)
{
	struct flat_strbuf descriptor = {0};
	struct flat_strbuf part = {0};

	for (uint32_t i = 0; i < d->n; i++) {
		flat_protobuf_put_text(&part, 1, d->key[i]);
		flat_protobuf_put_string(&part, 2, d->value[i].text, d->value[i].len);
		flat_protobuf_put_message(&descriptor, 1, &part);
	}
	if (d->has_hits) {
		flat_protobuf_put_number(&part, 1, d->hits);
		flat_protobuf_put_message(&descriptor, 3, &part);
	}
	flat_protobuf_put_message(out, 2, &descriptor);
	flat_strbuf_fini(&part);
	flat_strbuf_fini(&descriptor);
}

/* --- the answer --- */

/* One descriptor's status. */
struct status {
	bool has_limit;
	uint32_t limit, left;
	uint64_t unit, reset_s;
	struct flat_span name;
};

/* Seconds of RateLimitResponse.RateLimit.Unit; 0: unknown. */
static uint32_t seconds_of(uint64_t unit)
{
	static const uint32_t seconds[] = {0, 1, 60, 3600, 86400, 2592000, 31536000, 604800};

	return unit < FLAT_ARRAY_SIZE(seconds) ? seconds[unit] : 0;
}

/* RateLimit: requests_per_unit 1, unit 2, name 3. */
static int read_limit(const struct flat_protobuf_field *from, struct status *s)
{
	struct flat_protobuf_field f;
	size_t at = 0;
	int ret;

	s->has_limit = true;
	while ((ret = flat_protobuf_next(from->bytes, from->len, &at, &f)) > 0) {
		if (!f.is_bytes && f.number == 1)
			s->limit = (uint32_t)f.value;
		else if (!f.is_bytes && f.number == 2)
			s->unit = f.value;
		else if (f.is_bytes && f.number == 3)
			s->name = (struct flat_span){(const char *)f.bytes, f.len};
	}
	return ret;
}

/* Duration: seconds 1. */
static int read_reset(const struct flat_protobuf_field *from, struct status *s)
{
	struct flat_protobuf_field f;
	size_t at = 0;
	int ret;

	while ((ret = flat_protobuf_next(from->bytes, from->len, &at, &f)) > 0) {
		if (!f.is_bytes && f.number == 1)
			s->reset_s = f.value;
	}
	return ret;
}

/* DescriptorStatus: code 1, current_limit 2, limit_remaining 3, duration_until_reset 4. */
static int read_status(const struct flat_protobuf_field *from, struct status *s)
{
	struct flat_protobuf_field f;
	size_t at = 0;
	int ret;

	*s = (struct status){.has_limit = false};
	while ((ret = flat_protobuf_next(from->bytes, from->len, &at, &f)) > 0) {
		if ((f.is_bytes && f.number == 2 && read_limit(&f, s) < 0) ||
		    (f.is_bytes && f.number == 4 && read_reset(&f, s) < 0))
			return -EBADMSG;
		if (!f.is_bytes && f.number == 3)
			s->left = (uint32_t)f.value;
	}
	return ret;
}

/* Part of a quoted string of a field. */
static bool is_quotable(struct flat_span name)
{
	for (size_t i = 0; i < name.len; i++) {
		if (name.text[i] < ' ' || name.text[i] > '~' || name.text[i] == '"' ||
		    name.text[i] == '\\')
			return false;
	}
	return name.len > 0;
}

/* ", 10;w=1;name=\"per-ip\"": draft-polli-ratelimit-headers-03, 2.3. */
static void put_policy(struct flat_strbuf *out, const struct status *s)
{
	uint32_t window = seconds_of(s->unit);

	if (window == 0)
		return;
	flat_strbuf_printf(out, ", %" PRIu32 ";w=%u", s->limit, window);
	if (is_quotable(s->name))
		flat_strbuf_printf(out, ";name=\"%.*s\"", (int)s->name.len, s->name.text);
}

/* As Envoy: of the limit with the least left, and all of them as policies. */
static void put_told(struct flat_strbuf *out, const struct status *least,
		     struct flat_strbuf *policies)
{
	const char *text = flat_strbuf_str(policies);

	if (!least->has_limit)
		return;
	flat_strbuf_printf(out,
			   "x-ratelimit-limit: %" PRIu32 "%s\r\nx-ratelimit-remaining: %" PRIu32
			   "\r\nx-ratelimit-reset: %" PRIu64 "\r\n",
			   least->limit, text ? text : "", least->left, least->reset_s);
}

/* A field that cannot be one is left out. */
static int take_header(const struct flat_protobuf_field *from, struct flat_strbuf *out)
{
	struct flat_span name = {"", 0};
	struct flat_span value = {"", 0};

	if (flat_l7_header_value(from, &name, &value) < 0)
		return -EBADMSG;
	flat_l7_said_put(out, name, value);
	return 0;
}

/*
 * RateLimitResponse: overall_code 1, statuses 2, response_headers_to_add 3, request_headers_to_add 4, raw_body 5. As in Envoy a
 * code that is none lets pass.
 */
int flat_l7_rate_read(const uint8_t *message, size_t len, struct flat_l7_rate_answer *a)
{
	struct status least = {.has_limit = false};
	struct flat_strbuf policies = {0};
	struct flat_protobuf_field f;
	struct status s;
	size_t at = 0;
	int ret;

	a->over = false;
	while ((ret = flat_protobuf_next(message, len, &at, &f)) > 0) {
		if (!f.is_bytes && f.number == 1)
			a->over = f.value == CODE_OVER_LIMIT;
		if (!f.is_bytes)
			continue;
		if ((f.number == 2 && read_status(&f, &s) < 0) ||
		    (f.number == 3 && take_header(&f, &a->client) < 0) ||
		    (f.number == 4 && take_header(&f, &a->upstream) < 0)) {
			ret = -EBADMSG;
			break;
		}
		if (f.number == 2 && s.has_limit) {
			if (!least.has_limit || s.left < least.left)
				least = s;
			put_policy(&policies, &s);
		}
		/* Of a field that is not repeated the last one counts. */
		if (f.number == 5)
			flat_strbuf_reset(&a->body);
		if (f.number == 5)
			flat_strbuf_add(&a->body, f.bytes, f.len);
	}
	put_told(&a->told, &least, &policies);
	a->told.failed |= policies.failed;
	flat_strbuf_fini(&policies);
	if (a->client.failed || a->upstream.failed || a->body.failed || a->told.failed)
		return -EBADMSG;
	return ret < 0 ? -EBADMSG : 0;
}
