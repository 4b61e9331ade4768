/* Every bound of the system in one place, each with the reason for its number. */
#ifndef FLAT_BASE_LIMITS_H
#define FLAT_BASE_LIMITS_H

/* --- rings and lanes --- */

/* A small ring holds a typical request or reply several times over; two of them and the slot's words stay
 * below 9 KiB for an idle connection. */
#define FLAT_SMALL_BYTES_DEFAULT 4096U
/* Twice the largest write of common programs (iperf3's 128 KiB), and in level 2 cache with its copy. */
#define FLAT_BULK_BYTES_DEFAULT (256U * 1024)
/* Writes in a row that would have fitted the small ring before a drained stream goes back to it. */
#define FLAT_RING_SMALL_RUN 16
/* Lanes of one client and listener grow 4, 16, 64, 64, ...: one request costs little, many still few fds. */
#define FLAT_LANE_SLOTS_FIRST 4U

/* --- control socket --- */

/* Time a process has to say HELLO after it connected, ms (security.md, rule 15). */
#define FLAT_HELLO_TIMEOUT_MS 1000
/* Time the host half waits for an answer of the offload half before it fails the call, ms. */
#define FLAT_REPLY_TIMEOUT_MS 5000
/* Sessions on one flatd: 4 fds each, within the 1,048,576 that flatd asks for. */
#define FLAT_SESSIONS_MAX 65536
/* Connections of one session by default; a Workload may say otherwise. */
#define FLAT_SESSION_CONNS_MAX 65536
/* Lane memory of one session by default, bytes of address space the offload half may have to back. */
#define FLAT_SESSION_LANE_BYTES_MAX (8ULL << 30)
/* Listeners of one session: more ports than servers bind. */
#define FLAT_SESSION_LISTENERS_MAX 4096
/* Control messages of one session: far more than connects a process can make on one core, so that only a flood
 * meets it; what is over it waits in the application's own socket. */
#define FLAT_SESSION_MSGS_PER_S 100000
#define FLAT_SESSION_MSGS_BURST 4096
/* Connects of one session that wait for a listener's queue or for a server outside: more than accept queues are
 * long (net.core.somaxconn). */
#define FLAT_SESSION_HALF_OPEN_MAX 4096
/* How long such a connect may wait, ms: less than FLAT_REPLY_TIMEOUT_MS, so that its answer is still heard. */
#define FLAT_HALF_OPEN_MS 4500
/* The same where the client has had its answer: as long as the kernel's connect() (tcp_syn_retries 6). */
#define FLAT_CONNECTING_MS 127000

/* --- seeing it --- */

/* Time series of connections: services times clients of a large node; what comes later is counted together. */
#define FLAT_SERIES_MAX 4096
/* Scrapers served at once, bytes of a request, and time to send it and to take the answer, ms. */
#define FLAT_SCRAPERS_MAX 16
#define FLAT_SCRAPE_REQUEST_MAX 4096
#define FLAT_SCRAPE_MS 5000

/* --- waiting --- */

/* A waiter looks this often, pausing between, before it first yields: about half a microsecond. The answer of a peer
 * that runs is there in 0.3; one that looks on for long may keep the peer, or flatd between the two, off its
 * processor (64 looks: 11 us through flatd on two processors; 16: 7.7; direct round trips are the same). */
#define FLAT_SPIN_LOOKS 16
/* A waiter that has yielded for this long without result sleeps, microseconds. More than a wake-up costs
 * is a waste; what it costs here was 20 to 45 us across cores. */
#define FLAT_SPIN_MAX_US 50

#endif
