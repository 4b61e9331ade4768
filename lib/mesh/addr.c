#include "mesh/addr.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

static const uint8_t v4_mapped[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};

static struct flat_ip ip_from_v6(const uint8_t bytes[16])
{
	struct flat_ip ip = {0};

	if (memcmp(bytes, v4_mapped, sizeof(v4_mapped)) == 0) {
		ip.family = AF_INET;
		memcpy(ip.bytes, bytes + 12, 4);
	} else {
		ip.family = AF_INET6;
		memcpy(ip.bytes, bytes, 16);
	}
	return ip;
}

int flat_ip_parse(const char *text, struct flat_ip *ip)
{
	uint8_t bytes[16];

	memset(ip, 0, sizeof(*ip));
	if (inet_pton(AF_INET, text, bytes) == 1) {
		ip->family = AF_INET;
		memcpy(ip->bytes, bytes, 4);
		return 0;
	}
	if (inet_pton(AF_INET6, text, bytes) == 1) {
		*ip = ip_from_v6(bytes);
		return 0;
	}
	return -EINVAL;
}

/* Up to three digits, no sign, no leading zero but "0" itself; -1 if it is anything else. */
static int parse_prefix(const char *text)
{
	int value = 0;
	size_t i;

	if (!*text || (text[0] == '0' && text[1]))
		return -1;
	for (i = 0; text[i]; i++) {
		if (text[i] < '0' || text[i] > '9' || i >= 3)
			return -1;
		value = value * 10 + (text[i] - '0');
	}
	return value;
}

int flat_cidr_parse(const char *text, struct flat_cidr *cidr)
{
	const char *slash = strchr(text, '/');
	char addr[FLAT_IP_TEXT_MAX];
	size_t len = slash ? (size_t)(slash - text) : strlen(text);
	int prefix, max;
	bool mapped;

	memset(cidr, 0, sizeof(*cidr));
	if (len >= sizeof(addr))
		return -EINVAL;
	memcpy(addr, text, len);
	addr[len] = '\0';
	if (flat_ip_parse(addr, &cidr->ip))
		return -EINVAL;
	mapped = cidr->ip.family == AF_INET && strchr(addr, ':');
	max = cidr->ip.family == AF_INET && !mapped ? 32 : 128;
	prefix = slash ? parse_prefix(slash + 1) : max;
	if (prefix < 0 || prefix > max)
		return -EINVAL;
	if (mapped) {
		/* ::ffff:a.b.c.d/96+n is a.b.c.d/n; a shorter one would span both families. */
		if (prefix < 96)
			return -EINVAL;
		prefix -= 96;
	}
	cidr->prefix = (uint8_t)prefix;
	cidr->ip = flat_ip_mask(&cidr->ip, cidr->prefix);
	return 0;
}

int flat_ip_from_list(const char *text, size_t len, uint32_t nth, struct flat_ip *ip)
{
	char addr[FLAT_IP_TEXT_MAX];
	size_t end = 0;
	size_t at = len + 1; /* as if a comma stood at the end */

	memset(ip, 0, sizeof(*ip));
	for (; nth > 0; nth--) {
		if (at == 0)
			return -EINVAL;
		end = at - 1;
		for (at = end; at > 0 && text[at - 1] != ','; at--)
			;
	}
	while (at < end && (text[at] == ' ' || text[at] == '\t'))
		at++;
	while (end > at && (text[end - 1] == ' ' || text[end - 1] == '\t'))
		end--;
	if (end - at >= sizeof(addr))
		return -EINVAL;
	memcpy(addr, text + at, end - at);
	addr[end - at] = '\0';
	/* A NUL within it ends no address. */
	return strlen(addr) == end - at ? flat_ip_parse(addr, ip) : -EINVAL;
}

struct flat_ip flat_ip_from_v4(uint32_t host_order)
{
	struct flat_ip ip = {.family = AF_INET};

	ip.bytes[0] = (uint8_t)(host_order >> 24);
	ip.bytes[1] = (uint8_t)(host_order >> 16);
	ip.bytes[2] = (uint8_t)(host_order >> 8);
	ip.bytes[3] = (uint8_t)host_order;
	return ip;
}

int flat_ip_from_sockaddr(const struct sockaddr *sa, socklen_t len, struct flat_ip *ip,
			  uint16_t *port)
{
	struct sockaddr_in in;
	struct sockaddr_in6 in6;

	memset(ip, 0, sizeof(*ip));
	*port = 0;
	if (len < sizeof(sa->sa_family))
		return -EINVAL;
	switch (sa->sa_family) {
	case AF_INET:
		if (len < sizeof(in))
			return -EINVAL;
		memcpy(&in, sa, sizeof(in));
		ip->family = AF_INET;
		memcpy(ip->bytes, &in.sin_addr, 4);
		*port = ntohs(in.sin_port);
		return 0;
	case AF_INET6:
		/* The kernel takes the old structure without scope as well: RFC 2133, 24 bytes. */
		if (len < offsetof(struct sockaddr_in6, sin6_scope_id))
			return -EINVAL;
		memset(&in6, 0, sizeof(in6));
		memcpy(&in6, sa, flat_min_size(len, sizeof(in6)));
		*ip = ip_from_v6(in6.sin6_addr.s6_addr);
		*port = ntohs(in6.sin6_port);
		return 0;
	default:
		return -EAFNOSUPPORT;
	}
}

socklen_t flat_ip_to_sockaddr(const struct flat_ip *ip, uint16_t port, struct sockaddr_storage *sa)
{
	memset(sa, 0, sizeof(*sa));
	if (ip->family == AF_INET) {
		struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = htons(port)};

		memcpy(&in.sin_addr, ip->bytes, 4);
		memcpy(sa, &in, sizeof(in));
		return sizeof(in);
	}
	if (ip->family == AF_INET6) {
		struct sockaddr_in6 in6 = {.sin6_family = AF_INET6, .sin6_port = htons(port)};

		memcpy(&in6.sin6_addr, ip->bytes, 16);
		memcpy(sa, &in6, sizeof(in6));
		return sizeof(in6);
	}
	return 0;
}

const char *flat_ip_text(const struct flat_ip *ip, char buf[FLAT_IP_TEXT_MAX])
{
	if (!ip->family || !inet_ntop(ip->family, ip->bytes, buf, FLAT_IP_TEXT_MAX))
		buf[0] = '\0';
	return buf;
}

const char *flat_cidr_text(const struct flat_cidr *cidr, char buf[FLAT_CIDR_TEXT_MAX])
{
	char addr[FLAT_IP_TEXT_MAX];

	flat_ip_text(&cidr->ip, addr);
	if (flat_cidr_is_host(cidr))
		(void)snprintf(buf, FLAT_CIDR_TEXT_MAX, "%s", addr);
	else
		(void)snprintf(buf, FLAT_CIDR_TEXT_MAX, "%s/%u", addr, (unsigned)cidr->prefix);
	return buf;
}

bool flat_ip_equal(const struct flat_ip *a, const struct flat_ip *b)
{
	return a->family == b->family && memcmp(a->bytes, b->bytes, sizeof(a->bytes)) == 0;
}

bool flat_ip_is_loopback(const struct flat_ip *ip)
{
	if (ip->family == AF_INET)
		return ip->bytes[0] == 127;
	if (ip->family == AF_INET6)
		return memcmp(ip->bytes, &in6addr_loopback, 16) == 0;
	return false;
}

bool flat_cidr_contains(const struct flat_cidr *cidr, const struct flat_ip *ip)
{
	struct flat_ip masked;

	if (!ip->family || ip->family != cidr->ip.family)
		return false;
	masked = flat_ip_mask(ip, cidr->prefix);
	return flat_ip_equal(&masked, &cidr->ip);
}

bool flat_cidr_is_host(const struct flat_cidr *cidr)
{
	return cidr->prefix == (cidr->ip.family == AF_INET ? 32 : 128);
}

struct flat_ip flat_ip_mask(const struct flat_ip *ip, uint8_t prefix)
{
	struct flat_ip out = *ip;
	size_t i;

	for (i = 0; i < sizeof(out.bytes); i++) {
		if (prefix >= (i + 1) * 8)
			continue;
		if (prefix <= i * 8)
			out.bytes[i] = 0;
		else
			out.bytes[i] &= (uint8_t)(0xff00U >> (prefix - i * 8));
	}
	return out;
}
