/* IP addresses and blocks of either family. */
#ifndef FLAT_MESH_ADDR_H
#define FLAT_MESH_ADDR_H

#include <netinet/in.h>
#include <stdbool.h>
#include <sys/socket.h>

#include "base/base.h"

#define FLAT_IP_TEXT_MAX INET6_ADDRSTRLEN
/* "addr/len" */
#define FLAT_CIDR_TEXT_MAX (INET6_ADDRSTRLEN + 4)

/* All-zero is "none". An IPv4-mapped IPv6 address is held as IPv4, so that both spellings are
 * equal. */
struct flat_ip {
	uint8_t family;	   /* AF_INET, AF_INET6, or 0: none */
	uint8_t bytes[16]; /* network order; IPv4 in the first 4, the rest 0 */
};

struct flat_cidr {
	struct flat_ip ip; /* host bits are 0 */
	uint8_t prefix;	   /* 0..32 or 0..128 */
};

/** Parses dotted IPv4 or IPv6 text (no scope, no port). 0 or -EINVAL. */
FLAT_MUST_CHECK int flat_ip_parse(const char *text, struct flat_ip *ip);

/** Parses `addr` or `addr/len`; host bits are cleared. 0 or -EINVAL. */
FLAT_MUST_CHECK int flat_cidr_parse(const char *text, struct flat_cidr *cidr);

/**
 * The `nth` address, from 1, from the right end of a list with commas between, as X-Forwarded-For is. 0, or -EINVAL: there
 * are not so many, or it is none.
 */
FLAT_MUST_CHECK int flat_ip_from_list(const char *text, size_t len, uint32_t nth,
				      struct flat_ip *ip);

/** An IPv4 address from its value in host order. */
struct flat_ip flat_ip_from_v4(uint32_t host_order);

/** Takes address and port (host order) of a sockaddr of `len` bytes. 0, or -EAFNOSUPPORT, -EINVAL.
 */
FLAT_MUST_CHECK int flat_ip_from_sockaddr(const struct sockaddr *sa, socklen_t len,
					  struct flat_ip *ip, uint16_t *port);

/** Fills `sa` (zeroed first) from address and port (host order); returns its length, 0 for none. */
socklen_t flat_ip_to_sockaddr(const struct flat_ip *ip, uint16_t port, struct sockaddr_storage *sa);

/** Writes the text form into `buf` and returns `buf`; "" for none. */
const char *flat_ip_text(const struct flat_ip *ip, char buf[FLAT_IP_TEXT_MAX]);

/** Writes `addr/len`, or `addr` when the block is one address; returns `buf`. */
const char *flat_cidr_text(const struct flat_cidr *cidr, char buf[FLAT_CIDR_TEXT_MAX]);

/** Same family and address. */
bool flat_ip_equal(const struct flat_ip *a, const struct flat_ip *b);

/** 127.0.0.0/8 or ::1. */
bool flat_ip_is_loopback(const struct flat_ip *ip);

/** Whether the block holds the address; an address that is none is in no block. */
bool flat_cidr_contains(const struct flat_cidr *cidr, const struct flat_ip *ip);

/** Whether the block is one single address. */
bool flat_cidr_is_host(const struct flat_cidr *cidr);

/** `ip` with all but the first `prefix` bits cleared. */
struct flat_ip flat_ip_mask(const struct flat_ip *ip, uint8_t prefix);

#endif
