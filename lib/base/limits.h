/* Every bound of the system in one place, each with the reason for its number. */
#ifndef FLAT_BASE_LIMITS_H
#define FLAT_BASE_LIMITS_H

/* --- rings and lanes --- */

/* A small ring holds a typical request or reply; two of them and the slot's words stay below 5 KiB for an idle connection.
 * What does not fit goes to the mid ring, an eighth of a bulk ring (docs/design/core.md, section 6). */
#define FLAT_SMALL_BYTES_DEFAULT 2048U
/* Twice the largest write of common programs (iperf3's 128 KiB), and in level 2 cache with its copy. */
#define FLAT_BULK_BYTES_DEFAULT (256U * 1024)
/* Writes in a row that half of the next smaller ring had room for before a drained stream goes back to it. */
#define FLAT_RING_SMALL_RUN 16
/* Of these, every how manyth looks whether the stream is drained: it costs a cache line from the consumer. */
#define FLAT_RING_SMALL_LOOK 8
/* Lanes of one client and listener grow 4, 16, 64, 64, ...: one request costs little, many still few fds. */
#define FLAT_LANE_SLOTS_FIRST 4U

/* --- control socket --- */

/* Time a process has to say HELLO after it connected, ms (security.md, rule 15). */
#define FLAT_HELLO_TIMEOUT_MS 1000
/* Time the host half waits for an answer of the offload half before it fails the call, ms. */
#define FLAT_REPLY_TIMEOUT_MS 5000
/* Sessions on one flatd: 4 fds each, within the 1,048,576 that flatd asks for. */
#define FLAT_SESSIONS_MAX 65536
/* Sessions of one process: it needs one. A few more are there for a moment where it joins again, or says HELLO in several
 * threads at once; so many processes as FLAT_SESSIONS_MAX divided by this are needed to keep all others out. */
#define FLAT_PROCESS_SESSIONS_MAX 64U
/* Connections of one session by default; a Workload may say otherwise. */
#define FLAT_SESSION_CONNS_MAX 65536
/* Connections of one workload's processes together, or of one user's that have none: so many times what flatd's descriptors leave
 * room for. One takes four fifths of them at most, two four ninths each, and there is always room for another. */
#define FLAT_ACCOUNT_SHARE 4U
/* Listeners likewise: looking one up walks those of its port. */
#define FLAT_ACCOUNT_LISTENERS_MAX 16384U
/* Control messages likewise in a turn of flatd: those that 16 sessions may have (a HELLO counts FLAT_SESSION_QUESTION_MSGS). */
#define FLAT_ACCOUNT_MSGS_TURN 256U
/* Clients of a gateway's ports at once: a descriptor each, and while they move 176 KiB of buffers. */
#define FLAT_GATEWAY_CLIENTS_MAX 20000U
/* Lane memory of one session by default, bytes of address space the offload half may have to back. */
#define FLAT_SESSION_LANE_BYTES_MAX (9ULL << 30)
/* Listeners of one session: more ports than servers bind. */
#define FLAT_SESSION_LISTENERS_MAX 4096
/* Control messages of one session: far more than connects a process can make on one core, so that only a flood
 * meets it; what is over it waits in the application's own socket. */
#define FLAT_SESSION_MSGS_PER_S 100000
#define FLAT_SESSION_MSGS_BURST 4096
/* A question of the kernel that a message leads to (offload/netns.h: whose an address is) counts as so many messages more: it costs
 * some 10 us, and answers are kept only by address. The burst is for the first connection to an address that 200 pods listen for. */
#define FLAT_SESSION_QUESTION_MSGS 16U
/* Connects of one session that wait for a listener's queue or for a server outside: more than accept queues are
 * long (net.core.somaxconn). */
#define FLAT_SESSION_HALF_OPEN_MAX 4096
/* How long such a connect may wait, ms: less than FLAT_REPLY_TIMEOUT_MS, so that its answer is still heard. */
#define FLAT_HALF_OPEN_MS 4500
/* The same where the client has had its answer: as long as the kernel's connect() (tcp_syn_retries 6). */
#define FLAT_CONNECTING_MS 127000

/* How long a TLS client whose server its name decides may take to say it, ms: as Envoy's listener filters have it. */
#define FLAT_HELLO_MS 15000

/* A side that closed has told its peer, unless it was killed on the way: after so long the peer is told again, ms. Less
 * than the 100 in which a peer's death is to be seen, and far more than an honest peer takes to close too. */
#define FLAT_REMIND_MS 20

/* Connections made ahead for one session, three descriptors each: two askings' worth, so that one that is late costs
 * nothing. And for all sessions. */
#define FLAT_SESSION_TICKETS_MAX 16U
#define FLAT_TICKETS_MAX 4096U
/* Connects to one address in a row, less than the second number apart (ms), before tickets are asked for: what comes so
 * often will come again. A refusal holds for so many connects. */
#define FLAT_TICKETS_AFTER 4U
#define FLAT_TICKETS_GAP_MS 1000
#define FLAT_TICKETS_RETRY 64U
/* So few left, and more are asked for: they come while these are used, 0.2 ms of the fastest client. */
#define FLAT_TICKETS_LOW 4U

/* Numbers below this are looked at for listening UNIX sockets before exec: services get theirs at the lowest ones (dovecot
 * from 7, postfix from 6, systemd from 3). */
#define FLAT_EXEC_LOOK_MAX 64

/* --- names for confined workloads --- */

/* Queries of one cgroup that are on their way to a name server, a descriptor each: what a busy client has at a time, several
 * times over. One more ends the oldest. */
#define FLAT_DNS_QUERIES_MAX 256U
/* How long each waits for its answer, ms: resolvers give up after 5,000, servers that ask others after 10,000. */
#define FLAT_DNS_QUERY_MS 10000
/* Datagrams of one cgroup that are looked at: more than clients that wait for their answers send (two that do nothing else: 38,000),
 * so that only a flood meets it. The others are lost, as in a network. */
#define FLAT_DNS_PER_S 50000
#define FLAT_DNS_BURST 4096
/* Connections of one cgroup to name servers, 128 KiB each, and how long one may be silent, ms. */
#define FLAT_DNS_STREAMS_MAX 32U
#define FLAT_DNS_STREAM_MS 10000

/* --- the wire between hosts --- */

/* Where a flatd listens for others when nothing else is said: beside Istio's 15000 to 15021, of none of its own. */
#define FLAT_WIRE_PORT 15018

/* Bytes of one stream on their way or not yet taken at the receiver: a 10 Gbit/s path of 200 microseconds. */
#define FLAT_WIRE_WINDOW (256U * 1024)
/* Bytes between a connection and its bridge, each way, while they are there: two turns' worth, in level 2 cache with what is made
 * of them. */
#define FLAT_TUBE_BYTES ((size_t)128 * 1024)
/* Ciphertext waiting for one TCP socket before streams are asked for no more: a TCP send buffer's worth. */
#define FLAT_WIRE_OUT_HIGH ((size_t)256 * 1024)
/* Ciphertext at which a link ends: answers to what its peer asks, which does not read them. */
#define FLAT_WIRE_OUT_MAX ((size_t)2 << 20)
/* Streams of one link, memory of each up to FLAT_WIRE_WINDOW. */
#define FLAT_WIRE_STREAMS_MAX 4096U
/* Streams of one identity from one host, on all of its links: more than FLAT_WIRE_HOST_LINKS_MAX links of HBONE have
 * (FLAT_HBONE_STREAMS_MAX each), and with a descriptor or two each a small part of a flatd's. */
#define FLAT_WIRE_GUEST_STREAMS_MAX 32768U
/* Memory in which what one identity's streams from one host receive or are sent waits, on all of its links: 700 streams that
 * nobody reads. What would be more is reset. Of all together, beyond which each has its part. */
#define FLAT_WIRE_GUEST_HELD_MAX ((size_t)256 << 20)
#define FLAT_WIRE_HELD_MAX ((size_t)1 << 30)
/* Links of one identity from one host that are looked at in one turn before the others': each may move 256 KiB, 100 us of AES and
 * copies. */
#define FLAT_WIRE_GUEST_TURN 4U
/* What is taken in a turn of one identity's links from one host, and of a link to another: a frame counts 1, and the end of what an
 * application has there 4 more. The first wakes an application for 1 us, the latter costs 3 (docs/design/wire.md, W17). */
#define FLAT_WIRE_FRAMES_TURN 512U
#define FLAT_WIRE_END_FRAMES 4U
/* Streams that are begun in one turn for all peers together: each takes 7 us (TCP) or 13 (HTTP), one in ten 30, so
 * others wait for 1 ms, seldom for 2 (docs/design/wire.md, W11). */
#define FLAT_WIRE_BEGIN_MAX 64U
/* Streams that one identity of one host reset before anything was answered, of which so many a second are forgiven: beyond them no
 * further stream is opened for it. A busy host's clients that give up stay below; what each costs to set up is a tenth of a processor at that rate. */
#define FLAT_WIRE_RESETS_MAX 1000U
/* Of those that end with their link so many are not counted, and of these so many a second are forgiven: all that one identity may
 * have, whose flatd starts anew; who does it again and again gains a tenth. */
#define FLAT_WIRE_CUT_MAX FLAT_WIRE_GUEST_STREAMS_MAX
#define FLAT_WIRE_CUT_PER_S (FLAT_WIRE_RESETS_MAX / 10)
/* Links of one flatd: hosts times workloads of a large mesh; four in a hundred of its descriptors. */
#define FLAT_WIRE_LINKS_MAX 4096U
/* Of these, links that came and have not greeted: a handshake takes milliseconds, so more are a flood. Of one host so many as it has
 * workloads, which may all come at once when this flatd starts anew (Kubernetes: 110 by default). One more ends the oldest. */
#define FLAT_WIRE_STRANGERS_MAX 512U
#define FLAT_WIRE_STRANGERS_HOST 256U
/* Of these, so many have a step of their handshake in one turn, then the links that greeted have theirs: each costs up to a
 * millisecond, and whoever reaches the port can ask for it. */
#define FLAT_WIRE_STRANGERS_TURN 8U
/* Links of one identity from one host: flat/1 needs one, HBONE one for FLAT_HBONE_POOL streams. */
#define FLAT_WIRE_HOST_LINKS_MAX 128U
/* TCP connect, handshake and greeting together, ms: less than FLAT_HALF_OPEN_MS, so that the reason is told. */
#define FLAT_WIRE_HANDSHAKE_MS 4000
/* A link with streams that is silent for so long is asked, and given up when it stays silent, ms. */
#define FLAT_WIRE_ASK_MS 2000
#define FLAT_WIRE_DEAD_MS 6000
/* A link without streams is closed after so long by the client, ms; by the server if the client, which may be of another make, has not
 * done so in twice the time. */
#define FLAT_WIRE_IDLE_MS 60000
#define FLAT_WIRE_LONG_IDLE_MS 120000
/* Certificates and bundles of one folder, bytes of one file. */
#define FLAT_WIRE_SVIDS_MAX 1024
#define FLAT_WIRE_FILE_MAX ((size_t)1 << 20)

/* --- identities from a SPIFFE Workload API, or Istio's certificate service --- */

/* One message, bytes: what SPIRE's agent sends at most. */
#define FLAT_GRPC_MESSAGE_MAX ((size_t)4 << 20)
/* After a call that came to nothing: the first pause, and the longest, ms. */
#define FLAT_SVID_RETRY_MS 500
#define FLAT_SVID_RETRY_MAX_MS 30000

/* Who ends waits so long for a thread that may be asking a resolver, which cannot be called off: more than a thread that runs takes
 * to end, ms. */
#define FLAT_RESOLVER_END_MS 200

/* One certificate from Istio's service, with connecting, ms. */
#define FLAT_ISTIO_CA_MS 10000
/* How often its file of revocation lists is looked at, ms: the kubelet takes up to a minute to change it. */
#define FLAT_ISTIO_CRL_MS 5000

/* --- HBONE: HTTP/2 CONNECT over mutual TLS, as Istio's ztunnel speaks it --- */

/* Where Istio's ambient mode takes it. */
#define FLAT_HBONE_PORT 15008
/* Streams that a peer may have in one connection; ztunnel allows 200, and asks for 100. */
#define FLAT_HBONE_STREAMS_MAX 200U
/* Connections that share one to a peer, before another one is made: ztunnel's number. */
#define FLAT_HBONE_POOL 100U
/* Bytes of all streams of one connection: no limit of its own, each stream has FLAT_WIRE_WINDOW. */
#define FLAT_HBONE_WINDOW ((int32_t)64 << 20)
/* Bytes of one head, as told to the peer; of what is kept of it. */
#define FLAT_HBONE_HEAD_MAX 16384U
/* Streams that a peer resets, less those that end as they should, before it is taken for a flood. */
#define FLAT_HBONE_RESETS_MAX 1000U
/* Likewise on all links of one identity from one host, before further streams are refused; so many a second are forgiven. As many as
 * FLAT_WIRE_GUEST_TURN links may reset. */
#define FLAT_HBONE_GUEST_RESETS_MAX 4000U

/* --- verbs between hosts --- */

/* A ring, one for each direction of a link, bytes, a power of two: twice the credit that is given back at once at 10 Gbit/s
 * and 200 microseconds, several messages of the largest size. */
#define FLAT_VERBS_RING_BYTES (1U << 20)
/* The largest message: eight and more are on their way in a ring; in soft-RoCE larger ones are no faster. */
#define FLAT_VERBS_MSG_BYTES ((size_t)64 * 1024)
/* Messages that a receiver has not given credit for: as many receives are posted there, and no message meets a full queue. */
#define FLAT_VERBS_MSGS 256U
/* Memory registered with the device by one flatd, bytes: 128 links at FLAT_VERBS_RING_BYTES; those beyond stay on TCP. */
#define FLAT_VERBS_BYTES_MAX (256ULL << 20)
/* After a failure verbs are tried again after so long, doubled each time up to the second; one that held longer than that counts as
 * the first, ms. */
#define FLAT_VERBS_RETRY_MS 1000
#define FLAT_VERBS_RETRY_MAX_MS 10000
/* An offer is taken of one link after so long, half of the above, ms; and so many of all links from one look at them to the next, half
 * a second: an end is made in 1 to 5 ms, so that is a tenth of a processor. */
#define FLAT_VERBS_OFFER_MS 500
#define FLAT_VERBS_OFFERS_TICK 16U
/* Verbs by which nothing comes for so long, although the peer was asked (FLAT_WIRE_ASK_MS), are given up: before the link is
 * (FLAT_WIRE_DEAD_MS), so that TCP can show that it is not the peer that is gone, ms. */
#define FLAT_VERBS_SILENT_MS 4000
/* A link that was busy so short a time ago is polled; then its completion channel is armed, microseconds: what a wake-up
 * costs (FLAT_SPIN_MAX_US). */
#define FLAT_VERBS_WARM_US 50

/* --- seeing it --- */

/* Time series of connections: services times clients of a large node; what comes later is counted together. */
#define FLAT_SERIES_MAX 4096
/* Scrapers served at once, bytes of a request, and time to send it and to take the answer, ms. */
#define FLAT_SCRAPERS_MAX 16
#define FLAT_SCRAPE_REQUEST_MAX 4096
#define FLAT_SCRAPE_MS 5000

/* --- waiting --- */

/** How often a waiter looks that can't be woken: its process may make no epoll instance, and others wait on the same socket. */
#define FLAT_NAP_MS 5

/* A waiter looks this often, pausing between, before it first yields: about half a microsecond. The answer of a peer
 * that runs is there in 0.3; one that looks on for long may keep the peer, or flatd between the two, off its
 * processor (64 looks: 11 us through flatd on two processors; 16: 7.7; direct round trips are the same). */
#define FLAT_SPIN_LOOKS 16
/* Who gets small pieces one way, so many one after the other, lets more come before it takes the next ones, ns: each that is
 * taken by itself costs the sender a cache line twice (8 bytes a send, million messages a second: 0: 6, 200: 11, 1000: 18, 2000:
 * 20; a bare ring 24). Where no more comes it is tried again after twice as many, doubled so often at most. */
#define FLAT_GATHER_NS 1000
#define FLAT_GATHER_RUN 16
#define FLAT_GATHER_DOUBLED 8
/* Small is less than this, bytes. */
#define FLAT_GATHER_SMALL 256

/* A yield that took longer than this went to somebody, microseconds: with nobody there it takes half of one. Who wants the
 * processor does more with it than a look does, so the next yield comes after FLAT_YIELD_TAKEN_LOOKS, not FLAT_YIELD_LOOKS. */
#define FLAT_YIELD_TAKEN_US 2
#define FLAT_YIELD_LOOKS 16
#define FLAT_YIELD_TAKEN_LOOKS 2
/* A waiter that has yielded for this long without result sleeps, microseconds. A wake-up costs 20 to 45 us across cores,
 * and the yields themselves let the peer run (8 pairs on two processors, thousand round trips a second: 50 us 140 to 440,
 * 300 us 1,300 to 1,600, the kernel 100). */
#define FLAT_SPIN_MAX_US 300
/* A yield that comes back after more than this has given the processor to a thread with work of its own, microseconds:
 * a peer's turn takes one to ten, a hundred where it copies a full ring; a hog has its processor for milliseconds. */
#define FLAT_YIELD_LATE_US 200
/* After a late yield its thread sleeps at once for so many times what was lost: where hogs stay, a sixteenth of the time is
 * spent on finding that out, whatever a slice is (with two on two processors 4 ms: h2load -c1 -m1 through flatd). */
#define FLAT_YIELD_LATE_COST 16
/* A late yield cost nothing if meanwhile other threads of the process ended so many waits that each of its processors came
 * to one in this time, microseconds: more than a wake-up takes (FLAT_SPIN_MAX_US), so that threads which all sleep for
 * each message pass, and less than they take beside hogs (8 pairs on two processors, waits of one process: 18 per
 * processor where all sleep, 1.3 to 6 where all yield; one client beside two hogs: no other thread's). */
#define FLAT_YIELD_WORTH_US 60

#endif
