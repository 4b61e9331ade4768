/*
 * The error queue of a stream: completions of sends with MSG_ZEROCOPY (SO_ZEROCOPY). Bytes are copied before send()
 * returns, as the kernel copies them over loopback, so a send is complete at once and says so (SO_EE_CODE_ZEROCOPY_COPIED).
 * Documentation/networking/msg_zerocopy.rst; net/ipv4/ip_sockglue.c, ip_recv_error().
 */
#include <errno.h>
#include <fcntl.h> /* struct timespec, for the next */
#include <linux/errqueue.h>
#include <netinet/in.h>
#include <string.h>

#include "host/host.h"

void flat_errqueue_sent(struct flat_sock *s)
{
	atomic_fetch_add(&s->zc_sent, 1);
	flat_stream_wake_own(s);
}

/* What the kernel would write: the error, and the address of an offender that there is none of. */
struct note {
	struct sock_extended_err ee;
	uint8_t offender[sizeof(struct sockaddr_in6)];
};

static void give(const struct flat_sock *s, struct msghdr *msg, uint32_t first, uint32_t last)
{
	bool v4 = s->domain == AF_INET;
	struct note note = {.ee = {.ee_origin = SO_EE_ORIGIN_ZEROCOPY,
				   .ee_code = SO_EE_CODE_ZEROCOPY_COPIED,
				   .ee_info = first,
				   .ee_data = last}};
	size_t len = sizeof(note.ee) + (v4 ? sizeof(struct sockaddr_in) : sizeof(note.offender));
	struct cmsghdr head = {.cmsg_len = CMSG_LEN(len),
			       .cmsg_level = v4 ? IPPROTO_IP : IPPROTO_IPV6,
			       .cmsg_type = v4 ? IP_RECVERR : IPV6_RECVERR};
	size_t room = msg->msg_control ? msg->msg_controllen : 0;
	uint8_t *at = msg->msg_control;
	msg->msg_controllen = 0;
	if (room < sizeof(head)) {
		msg->msg_flags |= MSG_CTRUNC;
		return;
	}
	if (room < head.cmsg_len) {
		msg->msg_flags |= MSG_CTRUNC;
		head.cmsg_len = room;
	}
	memcpy(at, &head, sizeof(head));
	memcpy(at + sizeof(head), &note, head.cmsg_len - sizeof(head));
	msg->msg_controllen = flat_min_size(room, CMSG_SPACE(len));
}

int flat_errqueue_take(struct flat_sock *s, struct msghdr *msg)
{
	uint32_t told = atomic_load(&s->zc_told);
	uint32_t sent;
	do {
		sent = atomic_load(&s->zc_sent);
		if (sent == told)
			return -EAGAIN;
	} while (!atomic_compare_exchange_weak(&s->zc_told, &told, sent));
	if (msg) {
		msg->msg_flags = MSG_ERRQUEUE;
		give(s, msg, told, sent - 1);
	}
	return 0;
}
