/*
 * Any bytes as a message of DNS: what is read of it lies in it, and the answer to it is one that our own reader, and a client that
 * looks for its question, know. Seeds: corpus/dns.
 */
#include <stdlib.h>
#include <string.h>

#include "codec/dns.h"

#define HEAD 12

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool ok)
{
	if (!ok)
		abort();
}

static bool is_text(const char *name)
{
	return strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789-_.") == strlen(name);
}

/* Its answer with QR off is a query again, with the same question. */
static void check_answer(const uint8_t *data, const struct flat_dns_query *q, size_t room)
{
	static const uint8_t ip[16] = {0xfd};
	uint8_t out[FLAT_DNS_ANSWER_MAX];
	struct flat_dns_query again;
	size_t max = HEAD + room % (sizeof(out) - HEAD + 1);

	for (size_t ip_len = 4; ip_len <= 16; ip_len += 12) {
		size_t n = flat_dns_write(out, max, data, q, FLAT_DNS_NOERROR, ip, ip_len);
		require(n >= HEAD && n <= max);
		if (n < HEAD + (size_t)q->question_len || q->question_len == 0)
			continue;
		require(flat_dns_is_answer(out, n, q->id, data + HEAD, q->question_len));
		require(!flat_dns_is_answer(out, n, (uint16_t)(q->id + 1), data + HEAD,
					    q->question_len));
		out[2] &= 0x7f;
		require(flat_dns_read(out, n, &again) == FLAT_DNS_QUESTION);
		require(again.type == q->type && strcmp(again.name, q->name) == 0);
		require((again.edns_bytes != 0) == (q->edns_bytes != 0));
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct flat_dns_query q;
	enum flat_dns_kind kind = flat_dns_read(data, size, &q);

	require(strnlen(q.name, sizeof(q.name)) < sizeof(q.name));
	require((kind == FLAT_DNS_QUESTION) == (q.question_len != 0));
	if (kind == FLAT_DNS_QUESTION) {
		require(is_text(q.name));
		require(HEAD + (size_t)q.question_len <= size &&
			q.question_len <= FLAT_DNS_QUESTION_MAX);
	}
	if (kind != FLAT_DNS_SILENCE)
		check_answer(data, &q, size);
	(void)flat_dns_is_answer(data, size, size >= 2 ? flat_dns_id(data) : 0, data, size);
	return 0;
}
