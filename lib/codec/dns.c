#include "codec/dns.h"

#include <ctype.h>
#include <string.h>

#define HEAD 12
#define QR 0x8000
#define OPCODE 0x7800
#define AA 0x0400
#define TC 0x0200
#define RD 0x0100
#define RA 0x0080
#define CD 0x0010
#define RCODE 0x000f
/* Of OPT, in the field that is otherwise the time to live (RFC 6891, 6.1.3). */
#define DO 0x8000
/* As long as Istio's agent has its answers kept (pkg/dns/client), s. */
#define TTL_S 30
#define LABEL_MAX 63
#define NAME_MAX_BYTES 255
#define OPT_BYTES 11

static uint16_t get16(const uint8_t *p)
{
	return (uint16_t)(p[0] << 8 | p[1]);
}

static void put16(uint8_t *p, unsigned int value)
{
	p[0] = (uint8_t)(value >> 8);
	p[1] = (uint8_t)value;
}

uint16_t flat_dns_id(const uint8_t *msg)
{
	return get16(msg);
}

void flat_dns_set_id(uint8_t *msg, uint16_t id)
{
	put16(msg, id);
}

/* What is left of a message. */
struct cursor {
	const uint8_t *at;
	size_t left;
};

static const uint8_t *take(struct cursor *c, size_t n)
{
	const uint8_t *p = c->at;
	if (n > c->left)
		return NULL;
	c->at += n;
	c->left -= n;
	return p;
}

/* Steps over a name. A pointer ends it: where that leads, nobody looks. False: malformed. */
static bool skip_name(struct cursor *c)
{
	for (size_t all = 1; all <= NAME_MAX_BYTES;) {
		const uint8_t *p = take(c, 1);
		if (!p)
			return false;
		if (*p == 0)
			return true;
		if ((*p & 0xc0) == 0xc0)
			return take(c, 1) != NULL;
		if (*p > LABEL_MAX || !take(c, *p))
			return false;
		all += 1 + (size_t)*p;
	}
	return false;
}

/* Adds a label to the text; false: it has bytes that no host's name has. */
static bool add_label(char *text, size_t *n, const uint8_t *label, size_t len)
{
	if (*n > 0)
		text[(*n)++] = '.';
	for (size_t i = 0; i < len; i++) {
		unsigned char b = label[i];
		bool fine = b < 128 && (isalnum(b) || b == '-' || b == '_');
		if (!fine)
			return false;
		text[(*n)++] = (char)tolower(b);
	}
	return true;
}

/* The name of the question: there is nothing before it that a pointer could mean. False: malformed. */
static bool read_name(struct cursor *c, char text[FLAT_DNS_NAME_MAX])
{
	bool plain = true;
	size_t n = 0;
	size_t all = 1;
	for (;;) {
		const uint8_t *len = take(c, 1);
		if (!len || *len > LABEL_MAX)
			return false;
		if (*len == 0)
			break;
		const uint8_t *label = take(c, *len);
		all += 1 + (size_t)*len;
		if (!label || all > NAME_MAX_BYTES)
			return false;
		plain = plain && add_label(text, &n, label, *len);
	}
	text[plain ? n : 0] = 0;
	return true;
}

/* One record. False: malformed, or a second OPT, or one elsewhere than at the end (`last`). */
static bool read_record(struct cursor *c, bool last, struct flat_dns_query *q)
{
	const uint8_t *owner = c->at;
	if (!skip_name(c))
		return false;
	const uint8_t *fixed = take(c, 10);
	if (!fixed || !take(c, get16(fixed + 8)))
		return false;
	if (get16(fixed) != FLAT_DNS_OPT)
		return true;
	if (!last || *owner != 0 || q->edns_bytes != 0)
		return false;
	q->edns_bytes = get16(fixed + 2);
	/* Less is as if it were that (RFC 6891, 6.2.3). */
	if (q->edns_bytes < FLAT_DNS_UDP_BYTES)
		q->edns_bytes = FLAT_DNS_UDP_BYTES;
	q->edns_version = fixed[5];
	q->dnssec = (get16(fixed + 6) & DO) != 0;
	return true;
}

static bool read_records(struct cursor *c, const uint8_t *head, struct flat_dns_query *q)
{
	/* Each takes eleven bytes at least: the message bounds it. */
	for (size_t section = 6; section < HEAD; section += 2) {
		for (size_t n = get16(head + section); n > 0; n--) {
			if (!read_record(c, section == 10, q))
				return false;
		}
	}
	return c->left == 0;
}

enum flat_dns_kind flat_dns_read(const uint8_t *msg, size_t len, struct flat_dns_query *q)
{
	struct cursor c = {.at = msg, .left = len};
	memset(q, 0, sizeof(*q));
	const uint8_t *head = take(&c, HEAD);
	if (!head || (get16(head + 2) & QR))
		return FLAT_DNS_SILENCE;
	q->id = get16(head);
	q->flags = get16(head + 2);
	if (q->flags & OPCODE)
		return FLAT_DNS_FOREIGN;
	/* One question (RFC 9619). */
	if (get16(head + 4) != 1 || !read_name(&c, q->name))
		return FLAT_DNS_MALFORMED;
	const uint8_t *fixed = take(&c, 4);
	if (!fixed)
		return FLAT_DNS_MALFORMED;
	q->type = get16(fixed);
	q->class = get16(fixed + 2);
	size_t question_len = (size_t)(c.at - msg) - HEAD;
	if (!read_records(&c, head, q))
		return FLAT_DNS_MALFORMED;
	q->question_len = (uint16_t)question_len;
	return FLAT_DNS_QUESTION;
}

/* The address, under a pointer to the question's name. */
static size_t put_address(uint8_t *out, const uint8_t *ip, size_t ip_len)
{
	put16(out, 0xc000 | HEAD);
	put16(out + 2, ip_len == 4 ? FLAT_DNS_A : FLAT_DNS_AAAA);
	put16(out + 4, 1);
	put16(out + 6, 0);
	put16(out + 8, TTL_S);
	put16(out + 10, (unsigned int)ip_len);
	memcpy(out + 12, ip, ip_len);
	return 12 + ip_len;
}

static void put_opt(uint8_t *out, const struct flat_dns_query *q, enum flat_dns_rcode rcode)
{
	memset(out, 0, OPT_BYTES);
	put16(out + 1, FLAT_DNS_OPT);
	put16(out + 3, FLAT_DNS_EDNS_BYTES);
	out[5] = (uint8_t)((unsigned int)rcode >> 4);
	put16(out + 7, q->dnssec ? DO : 0);
}

/* Whether the question is for an address of so many bytes. */
static bool asks_for(const struct flat_dns_query *q, size_t ip_len)
{
	return q->type == FLAT_DNS_ANY || q->type == (ip_len == 4 ? FLAT_DNS_A : FLAT_DNS_AAAA);
}

size_t flat_dns_write(uint8_t *out, size_t size, const uint8_t *msg, const struct flat_dns_query *q,
		      enum flat_dns_rcode rcode, const uint8_t *ip, size_t ip_len)
{
	unsigned int flags =
	    QR | RA | (q->flags & (OPCODE | RD | CD)) | ((unsigned int)rcode & RCODE);
	size_t opt = q->edns_bytes != 0 ? OPT_BYTES : 0;
	size_t n = HEAD;
	memset(out, 0, HEAD);
	put16(out, q->id);
	if (rcode == FLAT_DNS_NOERROR)
		flags |= AA;
	if (n + q->question_len + opt > size) {
		put16(out + 2, flags | TC);
		return n;
	}
	memcpy(out + n, msg + HEAD, q->question_len);
	n += q->question_len;
	put16(out + 4, q->question_len > 0);
	bool wanted = ip && rcode == FLAT_DNS_NOERROR && asks_for(q, ip_len);
	if (wanted && n + 12 + ip_len + opt > size) {
		flags |= TC;
	} else if (wanted) {
		n += put_address(out + n, ip, ip_len);
		put16(out + 6, 1);
	}
	if (opt) {
		put_opt(out + n, q, rcode);
		n += opt;
		put16(out + 10, 1);
	}
	put16(out + 2, flags);
	return n;
}

bool flat_dns_is_answer(const uint8_t *msg, size_t len, uint16_t id, const uint8_t *question,
			size_t question_len)
{
	if (len < HEAD || get16(msg) != id || !(get16(msg + 2) & QR))
		return false;
	if (question_len == 0)
		return true;
	unsigned int rcode = get16(msg + 2) & RCODE;
	/* Who did not understand the question may not repeat it. */
	if (get16(msg + 4) == 0)
		return rcode != FLAT_DNS_NOERROR && rcode != 3;
	if (get16(msg + 4) != 1 || len - HEAD < question_len)
		return false;
	/* Type and class, and before them the name. */
	for (size_t i = 0; i + 4 < question_len; i++) {
		if (tolower(msg[HEAD + i]) != tolower(question[i]))
			return false;
	}
	return question_len >= 4 &&
	       memcmp(msg + HEAD + question_len - 4, question + question_len - 4, 4) == 0;
}
