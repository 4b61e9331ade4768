#include "offload/capture_dns.h"

#include <errno.h>
#include <linux/filter.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/limits.h"
#include "base/sys.h"
#include "codec/dns.h"
#include "offload/handover.h"

/* Datagrams taken in one turn (rule 11): a millisecond where all go on to their server. */
#define QUANTUM 32
#define MESSAGE_MAX 65536
/* Of the socket: some 5,000 queries, each counted as 768 bytes. */
#define QUEUE_BYTES (2 << 20)
#define HEAD 12
/* Datagrams that are no answer, of a server that was asked, before it is asked no more. */
#define STRIKES_MAX 16
/* Of the question's class: IN, and any. */
#define CLASS_IN 1
#define CLASS_ANY 255
/* SO_RCVMARK, Linux 5.19 (include/uapi/asm-generic/socket.h). */
#ifndef SO_RCVMARK
#define SO_RCVMARK 75
#endif

/* 0.0.0.0, of which 127.128.0.0/9 comes in, or ::1. */
struct port {
	struct flat_source udp; /* fd -1: none */
	struct flat_dns *dns;
};

struct flat_dns {
	struct flat_offload *offload;
	struct port ports[2];
	struct flat_directory names; /* as any library has it */
	TAILQ_HEAD(, flat_dns_client) clients;
	uint8_t message[MESSAGE_MAX];
};

/* Who sent a datagram, and how it is answered. */
struct asker {
	struct port *port;
	struct flat_addr from;
	uint32_t alias; /* network order: where it came to; 0: ::1 */
};

/* A query on its way to its server. */
struct flat_dns_waiting {
	TAILQ_ENTRY(flat_dns_waiting) link;
	struct flat_dns_client *client;
	struct flat_source server;
	struct asker asker;
	int64_t until_ms;
	uint32_t strikes;
	uint16_t id; /* as its server has it */
	uint16_t question_len;
	uint8_t head[HEAD + FLAT_DNS_QUESTION_MAX]; /* as the client sent it */
};

uint16_t flat_dns_random(void)
{
	uint16_t id = 0;
	/* Of so few bytes there is no part. */
	(void)!getrandom(&id, sizeof(id), 0);
	return id;
}

struct flat_offload *flat_dns_offload(const struct flat_dns *dns)
{
	return dns->offload;
}

/* --- answers --- */

static void reply(const struct asker *asker, const uint8_t *bytes, size_t len)
{
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(sizeof(struct in_pktinfo))];
	} control;
	struct sockaddr_storage ss;
	struct iovec iov = {(void *)bytes, len};
	struct msghdr msg = {.msg_name = &ss, .msg_iov = &iov, .msg_iovlen = 1};
	msg.msg_namelen = flat_addr_to_sockaddr(&asker->from, &ss);
	if (asker->alias != 0) {
		const struct in_pktinfo from = {.ipi_spec_dst.s_addr = asker->alias};
		memset(&control, 0, sizeof(control));
		msg.msg_control = control.bytes;
		msg.msg_controllen = sizeof(control);
		struct cmsghdr *c = CMSG_FIRSTHDR(&msg);
		c->cmsg_level = IPPROTO_IP;
		c->cmsg_type = IP_PKTINFO;
		c->cmsg_len = CMSG_LEN(sizeof(from));
		memcpy(CMSG_DATA(c), &from, sizeof(from));
	}
	/* What does not arrive, its client asks for again. */
	(void)flat_sys_sendmsg(asker->port->udp.fd, &msg, MSG_DONTWAIT | MSG_NOSIGNAL);
}

/* An answer of ours. addr: of the name; NULL: none is told. */
static void answer(const struct asker *asker, const uint8_t *msg, const struct flat_dns_query *q,
		   enum flat_dns_rcode rcode, const struct flat_addr *addr)
{
	uint8_t out[FLAT_DNS_ANSWER_MAX];
	size_t max = q->edns_bytes != 0 ? q->edns_bytes : FLAT_DNS_UDP_BYTES;
	size_t ip_len = addr && addr->family == AF_INET6 ? 16 : 4;
	if (q->edns_version != 0 && rcode == FLAT_DNS_NOERROR)
		rcode = FLAT_DNS_BADVERS;
	size_t n = flat_dns_write(out, flat_min_size(max, sizeof(out)), msg, q, rcode,
				  addr ? addr->ip : NULL, ip_len);
	reply(asker, out, n);
}

int flat_dns_find(const struct flat_dns *dns, const struct flat_dns_query *q,
		  struct flat_addr *addr)
{
	if (q->name[0] == 0 || (q->class != CLASS_IN && q->class != CLASS_ANY))
		return -ENOENT;
	return flat_directory_find_name(&dns->names, q->name, addr);
}

/* Whether the mesh has it for who sent the datagram: who that is, is looked up where it matters. */
static bool is_mesh_name(struct flat_dns_client *client, const struct flat_capture_record *r,
			 const struct flat_dns_query *q, struct flat_addr *addr)
{
	int err = flat_dns_find(client->dns, q, addr);
	if (err == FLAT_DIRECTORY_VEILED) {
		struct flat_session *s = flat_capture_session(client, r);
		err = s ? flat_session_resolve(s, q->name, addr) : -ENOENT;
		if (s)
			flat_session_put(s);
	}
	return err == 0;
}

/* --- queries that go on --- */

static void end(struct flat_dns_waiting *w)
{
	struct flat_dns_client *client = w->client;
	flat_loop_close(&client->dns->offload->loop, &w->server);
	TAILQ_REMOVE(&client->waiting, w, link);
	TAILQ_INSERT_HEAD(&client->spare, w, link);
}

/* Its server is not there: the client asks another one. */
static void fail(struct flat_dns_waiting *w)
{
	const struct flat_dns_query q = {
	    .id = flat_dns_id(w->head),
	    .flags = (uint16_t)(w->head[2] << 8 | w->head[3]),
	    .question_len = w->question_len,
	};
	answer(&w->asker, w->head, &q, FLAT_DNS_SERVFAIL, NULL);
	end(w);
}

static void on_answer(struct flat_source *source, int events)
{
	struct flat_dns_waiting *w = FLAT_CONTAINER_OF(source, struct flat_dns_waiting, server);
	struct flat_dns *dns = w->client->dns;
	(void)events;
	/* From nobody but that server: the socket is connected. */
	ssize_t n = flat_sys_recv(source->fd, dns->message, sizeof(dns->message), MSG_DONTWAIT);
	if (n >= 0 &&
	    flat_dns_is_answer(dns->message, (size_t)n, w->id, w->head + HEAD, w->question_len)) {
		flat_dns_set_id(dns->message, flat_dns_id(w->head));
		reply(&w->asker, dns->message, (size_t)n);
		end(w);
		return;
	}
	bool again = n == -EAGAIN || n == -EINTR;
	if ((!again && n < 0) || ++w->strikes > STRIKES_MAX ||
	    flat_loop_poll_once(&dns->offload->loop, source, source->fd, POLLIN, on_answer) != 0)
		fail(w);
}

/* A socket that hears nobody else, from a port of its own. Its descriptor, or a negative errno. */
static int ask(const struct flat_addr *server, const uint8_t *msg, size_t len)
{
	struct sockaddr_storage ss;
	socklen_t ss_len = flat_addr_to_sockaddr(server, &ss);
	int fd = flat_sys_socket(server->family, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return fd;
	long err = flat_sys_connect(fd, (struct sockaddr *)&ss, ss_len);
	if (err == 0)
		err = flat_sys_send(fd, msg, len, MSG_DONTWAIT | MSG_NOSIGNAL);
	if (err >= 0)
		return fd;
	close(fd);
	return (int)err;
}

/* To the server that was asked, under another id. The message is changed. */
static void forward(struct flat_dns_client *client, const struct asker *asker,
		    const struct flat_capture_record *r, const struct flat_dns_query *q, size_t len)
{
	struct flat_dns *dns = client->dns;
	const struct flat_addr server = flat_capture_address(r);
	if (TAILQ_EMPTY(&client->spare))
		end(TAILQ_FIRST(&client->waiting));
	struct flat_dns_waiting *w = TAILQ_FIRST(&client->spare);
	w->client = client;
	w->asker = *asker;
	w->until_ms = flat_now_ms() + FLAT_DNS_QUERY_MS;
	w->strikes = 0;
	w->question_len = q->question_len;
	memcpy(w->head, dns->message, HEAD + (size_t)q->question_len);
	w->id = flat_dns_random();
	flat_dns_set_id(dns->message, w->id);
	w->server.fd = ask(&server, dns->message, len);
	TAILQ_REMOVE(&client->spare, w, link);
	TAILQ_INSERT_TAIL(&client->waiting, w, link);
	if (w->server.fd < 0 || flat_loop_poll_once(&dns->offload->loop, &w->server, w->server.fd,
						    POLLIN, on_answer) != 0)
		fail(w);
}

/* --- the port --- */

/* One message, of `len` bytes, in dns->message. */
static void decide(struct flat_dns_client *client, const struct asker *asker,
		   const struct flat_capture_record *r, size_t len)
{
	const uint8_t *msg = client->dns->message;
	struct flat_dns_query q;
	struct flat_addr addr;
	switch (flat_dns_read(msg, len, &q)) {
	case FLAT_DNS_SILENCE:
		break;
	case FLAT_DNS_MALFORMED:
		answer(asker, msg, &q, FLAT_DNS_FORMERR, NULL);
		break;
	case FLAT_DNS_FOREIGN:
		forward(client, asker, r, &q, len);
		break;
	case FLAT_DNS_QUESTION:
		if (is_mesh_name(client, r, &q, &addr))
			answer(asker, msg, &q, FLAT_DNS_NOERROR, &addr);
		else
			forward(client, asker, r, &q, len);
		break;
	}
}

/* What the kernel says of a datagram: its mark, and the address that it came to. */
static uint32_t read_control(struct msghdr *msg, uint32_t *to)
{
	uint32_t mark = 0;
	*to = 0;
	for (struct cmsghdr *c = CMSG_FIRSTHDR(msg); c; c = CMSG_NXTHDR(msg, c)) {
		struct in_pktinfo info;
		if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == SO_MARK) {
			memcpy(&mark, CMSG_DATA(c), sizeof(mark));
		} else if (c->cmsg_level == IPPROTO_IP && c->cmsg_type == IP_PKTINFO) {
			memcpy(&info, CMSG_DATA(c), sizeof(info));
			*to = info.ipi_addr.s_addr;
		}
	}
	return mark;
}

/* Whose datagram it is. NULL: it is nobody's, or of one that sends too many. */
static struct flat_dns_client *client_of(struct flat_dns *dns, uint32_t mark,
					 const struct asker *asker, struct flat_capture_record *r)
{
	const struct flat_capture_key key = flat_capture_key_of(&asker->from);
	struct flat_dns_client *client;
	TAILQ_FOREACH(client, &dns->clients, link)
	{
		if (client->bpf->mark == mark)
			break;
	}
	return client && flat_bucket_take(&client->bucket, flat_now_us()) &&
		       flat_capture_bpf_asked(client->bpf, &key, asker->alias, r)
		   ? client
		   : NULL;
}

/* False: there is none now. */
static bool take_datagram(struct port *port)
{
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(sizeof(uint32_t)) + CMSG_SPACE(sizeof(struct in_pktinfo))];
	} control;
	struct flat_dns *dns = port->dns;
	struct asker asker = {.port = port};
	struct flat_capture_record r;
	struct sockaddr_storage ss;
	struct iovec iov = {dns->message, sizeof(dns->message)};
	struct msghdr msg = {.msg_name = &ss,
			     .msg_namelen = sizeof(ss),
			     .msg_iov = &iov,
			     .msg_iovlen = 1,
			     .msg_control = control.bytes,
			     .msg_controllen = sizeof(control)};
	memset(&ss, 0, sizeof(ss));
	ssize_t n = flat_sys_recvmsg(port->udp.fd, &msg, MSG_DONTWAIT);
	if (n < 0)
		return false;
	uint32_t mark = read_control(&msg, &asker.alias);
	if ((msg.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) || mark == 0 ||
	    flat_addr_from_sockaddr(&asker.from, (struct sockaddr *)&ss, msg.msg_namelen) != 0)
		return true;
	struct flat_dns_client *client = client_of(dns, mark, &asker, &r);
	if (client)
		decide(client, &asker, &r, (size_t)n);
	return true;
}

static void on_datagrams(struct flat_source *source, int events)
{
	struct port *port = FLAT_CONTAINER_OF(source, struct port, udp);
	(void)events;
	/* First: what it was watched by is free now, and so there is memory for it. */
	(void)!flat_loop_poll_once(&port->dns->offload->loop, source, source->fd, POLLIN,
				   on_datagrams);
	for (int i = 0; i < QUANTUM && take_datagram(port); i++)
		;
}

/* Only what our programs marked gets into the socket's queue; of IPv4 what is on the loopback. */
static int set_filter(int fd, bool v6)
{
	struct sock_filter code[] = {
	    BPF_STMT(BPF_LD | BPF_W | BPF_ABS, (uint32_t)(SKF_AD_OFF + SKF_AD_MARK)),
	    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 0, 3, 0),
	    BPF_STMT(BPF_LD | BPF_B | BPF_ABS, (uint32_t)(SKF_NET_OFF + 16)),
	    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 127, 0, 1),
	    BPF_STMT(BPF_RET | BPF_K, UINT32_MAX),
	    BPF_STMT(BPF_RET | BPF_K, 0),
	};
	/* The address of IPv6 is the socket's own. */
	if (v6)
		code[2] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JA, 1, 0, 0);
	const struct sock_fprog program = {.len = FLAT_ARRAY_SIZE(code), .filter = code};
	return flat_sys_setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof(program));
}

static int set_up(int fd, const struct flat_addr *addr)
{
	int on = 1;
	int bytes = QUEUE_BYTES;
	struct sockaddr_storage ss;
	socklen_t len = flat_addr_to_sockaddr(addr, &ss);
	bool v6 = addr->family == AF_INET6;
	int err = set_filter(fd, v6);
	(void)flat_sys_setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &bytes, sizeof(bytes));
	if (err == 0)
		err = flat_sys_setsockopt(fd, SOL_SOCKET, SO_RCVMARK, &on, sizeof(on));
	if (err == 0)
		err = v6 ? flat_sys_setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof(on))
			 : flat_sys_setsockopt(fd, IPPROTO_IP, IP_PKTINFO, &on, sizeof(on));
	return err == 0 ? (int)FLAT_SYS3(SYS_bind, fd, &ss, len) : err;
}

static int open_port(struct flat_dns *dns, int i)
{
	const struct flat_addr addr = {
	    .family = i == 0 ? AF_INET : AF_INET6,
	    .port = dns->offload->confine_port,
	    .ip = {[15] = i == 0 ? 0 : 1},
	};
	int fd = flat_handover_port(dns->offload->handover, &addr, SOCK_DGRAM);
	int err = 0;
	if (fd < 0) {
		fd = flat_sys_socket(addr.family, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
		err = fd < 0 ? fd : set_up(fd, &addr);
	}
	dns->ports[i].udp.fd = fd < 0 ? -1 : fd;
	return err != 0 ? err
			: flat_loop_poll_once(&dns->offload->loop, &dns->ports[i].udp, fd, POLLIN,
					      on_datagrams);
}

int flat_dns_open(struct flat_dns **out, struct flat_offload *o)
{
	struct flat_dns *dns = calloc(1, sizeof(*dns));
	*out = NULL;
	if (!dns)
		return -ENOMEM;
	dns->offload = o;
	dns->ports[0].dns = dns->ports[1].dns = dns;
	dns->ports[0].udp.fd = dns->ports[1].udp.fd = -1;
	TAILQ_INIT(&dns->clients);
	int err = flat_directory_map(&dns->names, flat_directory_fd(o->directory),
				     flat_directory_len(o->directory));
	if (err == 0)
		err = open_port(dns, 0);
	/* A host may be without IPv6. */
	int err6 = err == 0 ? open_port(dns, 1) : 0;
	if (err6 != 0 && err6 != -EADDRNOTAVAIL && err6 != -EAFNOSUPPORT)
		err = err6;
	if (err == 0)
		*out = dns;
	else
		flat_dns_close(dns);
	return err;
}

void flat_dns_retire(struct flat_dns *dns)
{
	for (int i = 0; i < 2; i++)
		flat_loop_del(&dns->offload->loop, &dns->ports[i].udp);
}

void flat_dns_close(struct flat_dns *dns)
{
	if (!dns)
		return;
	for (int i = 0; i < 2; i++) {
		flat_loop_del(&dns->offload->loop, &dns->ports[i].udp);
		if (dns->ports[i].udp.fd >= 0)
			close(dns->ports[i].udp.fd);
	}
	flat_directory_unmap(&dns->names);
	free(dns);
}

int flat_dns_socket(const struct flat_dns *dns, int i)
{
	return dns->ports[i].udp.fd;
}

/* --- clients --- */

int flat_dns_add(struct flat_dns *dns, struct flat_dns_client *client,
		 const struct flat_capture_bpf *bpf)
{
	client->table = calloc(FLAT_DNS_QUERIES_MAX, sizeof(*client->table));
	if (!client->table)
		return -ENOMEM;
	client->dns = dns;
	client->bpf = bpf;
	TAILQ_INIT(&client->waiting);
	TAILQ_INIT(&client->spare);
	TAILQ_INIT(&client->streams);
	for (uint32_t i = 0; i < FLAT_DNS_QUERIES_MAX; i++) {
		client->table[i].server.fd = -1;
		TAILQ_INSERT_TAIL(&client->spare, &client->table[i], link);
	}
	flat_bucket_init(&client->bucket, FLAT_DNS_PER_S, FLAT_DNS_BURST, flat_now_us());
	TAILQ_INSERT_TAIL(&dns->clients, client, link);
	return 0;
}

void flat_dns_remove(struct flat_dns_client *client)
{
	if (!client->dns)
		return;
	while (!TAILQ_EMPTY(&client->waiting))
		end(TAILQ_FIRST(&client->waiting));
	while (!TAILQ_EMPTY(&client->streams))
		flat_dns_stream_close(TAILQ_FIRST(&client->streams));
	TAILQ_REMOVE(&client->dns->clients, client, link);
	free(client->table);
	memset(client, 0, sizeof(*client));
}

int flat_dns_expire(struct flat_dns *dns)
{
	struct flat_dns_client *client;
	int64_t now = flat_now_ms();
	int wait = -1;
	TAILQ_FOREACH(client, &dns->clients, link)
	{
		struct flat_dns_waiting *w;
		while ((w = TAILQ_FIRST(&client->waiting)) != NULL && w->until_ms <= now)
			end(w);
		int more = w ? (int)(w->until_ms - now) : -1;
		int streams = flat_dns_streams_expire(client, now);
		if (more < 0 || (streams >= 0 && streams < more))
			more = streams;
		if (more >= 0 && (wait < 0 || more < wait))
			wait = more;
	}
	return wait;
}
