#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/limits.h"
#include "base/log.h"
#include "base/sys.h"
#include "mesh/scope.h"
#include "offload/account.h"
#include "offload/netns.h"
#include "offload/telling.h"
#include "offload/ticket.h"

#ifndef SO_PEERPIDFD
#define SO_PEERPIDFD 77
#endif

const char *flat_session_name(const struct flat_session *s, char buf[96])
{
	return memcpy(buf, s->name, sizeof(s->name));
}

void flat_session_identify(struct flat_session *s)
{
	struct flat_attest attest = {
	    .uid = s->uid,
	    .gid = s->gid,
	    .pid = s->pid,
	    .cgroup_paths = s->cgroup,
	    .exe = s->exe,
	    .exe_owner_known = s->exe_owner_known,
	    .exe_owner = s->exe_owner,
	};
	s->workload = flat_mesh_workload(s->offload->mesh, &attest);
	if (s->workload)
		snprintf(s->name, sizeof(s->name), "%s.%s", s->workload->name,
			 s->workload->namespace);
	else
		snprintf(s->name, sizeof(s->name), "pid %d (no workload)", (int)s->pid);
	flat_account_join(s);
}

/* The program that s->pid runs. */
static void read_executable(struct flat_session *s)
{
	char path[64];
	char text[8192];
	struct stat st;
	snprintf(path, sizeof(path), "/proc/%d/exe", (int)s->pid);
	ssize_t n = readlink(path, text, sizeof(text) - 1);
	if (n <= 0)
		return;
	text[n] = 0;
	s->exe = strdup(text);
	s->exe_owner_known = stat(path, &st) == 0;
	if (s->exe_owner_known)
		s->exe_owner = st.st_uid;
}

/* Dead already: what was read of its pid may be another's, who took it. */
static bool is_dead(const struct flat_session *s)
{
	struct pollfd p = {.fd = s->pidfd, .events = POLLIN};
	return s->pidfd >= 0 && poll(&p, 1, 0) == 1;
}

/* What the kernel knows of the peer. The pidfd pins the pid while /proc is read. */
static int attest(struct flat_session *s)
{
	struct ucred cred;
	socklen_t len = sizeof(cred);
	int err = flat_sys_getsockopt(s->control.fd, SOL_SOCKET, SO_PEERCRED, &cred, &len);
	if (err < 0)
		return err;
	s->pid = cred.pid;
	s->uid = cred.uid;
	s->gid = cred.gid;
	len = sizeof(s->pidfd);
	if (flat_sys_getsockopt(s->control.fd, SOL_SOCKET, SO_PEERPIDFD, &s->pidfd, &len) < 0)
		s->pidfd = (int)FLAT_SYS2(SYS_pidfd_open, s->pid, 0);
	char path[64];
	char text[8192];
	read_executable(s);
	s->netns = flat_netns_of_process(s->pid, s->control.fd);
	snprintf(path, sizeof(path), "/proc/%d/cgroup", (int)s->pid);
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd >= 0) {
		ssize_t n = read(fd, text, sizeof(text) - 1);
		close(fd);
		if (n > 0) {
			text[n] = 0;
			s->cgroup = strdup(text);
		}
	}
	return is_dead(s) ? -ESRCH : 0;
}

/* What is no offence: the process is gone. */
#define DOOM_EOF ""

static void doom(struct flat_session *s, const char *why)
{
	if (s->doom)
		return;
	s->doom = why;
	TAILQ_INSERT_TAIL(&s->offload->doomed, s, doom_link);
}

void flat_session_reply(struct flat_session *s, const struct flat_msg *reply, const int *fds,
			size_t n)
{
	int err = flat_msg_send(s->control.fd, reply, fds, n, MSG_DONTWAIT);
	if (err != 0)
		doom(s, err == -EAGAIN ? "rule 13: it does not read its answers" : DOOM_EOF);
}

void flat_sessions_reap(struct flat_offload *o)
{
	struct flat_session *s;
	int64_t now_ms = flat_now_us() / 1000;
	while ((s = TAILQ_FIRST(&o->doomed)) != NULL)
		flat_session_close(s, *s->doom ? s->doom : NULL);
	while ((s = TAILQ_FIRST(&o->strangers)) != NULL &&
	       now_ms - s->joined_ms > FLAT_HELLO_TIMEOUT_MS)
		flat_session_close(s, "rule 15: no HELLO within a second");
}

/* Whether its workload, or user, leaves enough for others with it. */
static bool has_share(struct flat_session *s)
{
	char account[96];
	char why[300];
	if (flat_account_takes(s, why, sizeof(why)))
		return true;
	flat_tell(FLAT_LOG_WARN, "sessions turned away", flat_session_account(s, account),
		  "pid %d was turned away: %s", (int)s->pid, why);
	/* It goes with this turn, and is none of theirs. */
	flat_account_leave(s);
	doom(s, DOOM_EOF);
	return false;
}

const struct flat_misfit *flat_session_misfit(const struct flat_offload *o, pid_t pid)
{
	for (uint32_t i = 0; i < FLAT_MISFITS_KEPT && i < o->n_misfits; i++) {
		if (o->misfits[i].pid == pid)
			return &o->misfits[i];
	}
	return NULL;
}

/* A process has one entry, whatever it says by how many sessions. */
static void note_misfit(struct flat_offload *o, pid_t pid, uint32_t shared)
{
	uint32_t i = 0;
	while (i < FLAT_MISFITS_KEPT && i < o->n_misfits && o->misfits[i].pid != pid)
		i++;
	if (i == FLAT_MISFITS_KEPT || i == o->n_misfits)
		i = o->n_misfits++ % FLAT_MISFITS_KEPT;
	o->misfits[i] = (struct flat_misfit){.pid = pid, .shared = shared};
}

/* Its libflat shares other versions: it learns ours and goes, and its sockets stay the kernel's. Told once of each process. */
static void part(struct flat_session *s, uint32_t theirs, uint32_t seq)
{
	struct flat_offload *o = s->offload;
	const struct flat_misfit *known = flat_session_misfit(o, s->pid);
	struct flat_msg reply;
	char account[32];
	char mine[FLAT_SHARED_STRLEN];
	char other[FLAT_SHARED_STRLEN];
	flat_shared_str(flat_shared_version(), mine);
	flat_shared_str(theirs, other);
	if (!known || known->shared != theirs) {
		note_misfit(o, s->pid, theirs);
		snprintf(account, sizeof(account), "uid %u", (unsigned int)s->uid);
		flat_tell(FLAT_LOG_WARN, "programs of another build", account,
			  "%s (pid %d) has a libflat with shared layout %s, this flatd has %s: "
			  "restart it with the libflat that belongs to this flatd; until then its "
			  "sockets are the kernel's",
			  s->exe ? s->exe : "a process", (int)s->pid, other, mine);
	}
	flat_msg_init(&reply, FLAT_MSG_HELLO, seq);
	reply.status = -EPROTONOSUPPORT;
	snprintf(reply.reason, sizeof(reply.reason),
		 "flatd has shared layout %s, this program's libflat %s: restart it", mine, other);
	flat_session_reply(s, &reply, NULL, 0);
	doom(s, DOOM_EOF);
}

static void answer_hello(struct flat_session *s, const struct flat_msg *msg)
{
	struct flat_offload *o = s->offload;
	struct flat_msg reply;
	int err = s->greeted ? -EPROTO : attest(s);
	uint32_t theirs = err ? 0 : flat_msg_other_build(msg, 0);
	if (theirs != 0) {
		part(s, theirs, msg->seq);
		return;
	}
	if (err != 0) {
		doom(s, err == -EPROTO ? "rule 15: HELLO twice" : DOOM_EOF);
		return;
	}
	s->greeted = true;
	TAILQ_REMOVE(&o->strangers, s, stranger_link);
	flat_session_identify(s);
	if (!has_share(s))
		return;
	flat_msg_init(&reply, FLAT_MSG_HELLO, msg->seq);
	reply.body.hello.session_id = s->id;
	reply.body.hello.directory_len = flat_directory_len(o->directory);
	reply.fds = FLAT_FD_DIRECTORY;
	int fd = flat_directory_fd(o->directory);
	char name[96];
	flat_debug("session %llu: pid %d uid %d exe %s is %s", (unsigned long long)s->id,
		   (int)s->pid, (int)s->uid, s->exe ? s->exe : "?", flat_session_name(s, name));
	flat_session_reply(s, &reply, &fd, 1);
}

/*
 * No connection: is what has ended let go? Ends that came about before the question are seen in the loop's next turn, and
 * requests on their sockets, which hold them, are cancelled by the system call of the one after.
 */
#define SETTLE_TURNS 2

static void settle_later(struct flat_session *s, uint32_t seq)
{
	if (s->settling == 0)
		TAILQ_INSERT_TAIL(&s->offload->settling, s, settle_link);
	s->settling = SETTLE_TURNS;
	s->settle_seq = seq;
}

void flat_sessions_settle(struct flat_offload *o)
{
	struct flat_msg reply;
	struct flat_session *s;
	struct flat_session *next;
	for (s = TAILQ_FIRST(&o->settling); s; s = next) {
		next = TAILQ_NEXT(s, settle_link);
		if (--s->settling > 0)
			continue;
		TAILQ_REMOVE(&o->settling, s, settle_link);
		flat_msg_init(&reply, FLAT_MSG_WHY, s->settle_seq);
		reply.status = -ECONNRESET;
		flat_session_reply(s, &reply, NULL, 0);
	}
}

static void answer_why(struct flat_session *s, const struct flat_msg *msg)
{
	struct flat_msg reply;
	if (msg->body.why.conn_id == 0) {
		settle_later(s, msg->seq);
		return;
	}
	const struct flat_cut *cut = flat_cut_find(s->offload, msg->body.why.conn_id);
	flat_msg_init(&reply, FLAT_MSG_WHY, msg->seq);
	reply.status = -ECONNRESET;
	if (cut) {
		reply.status = -cut->err;
		memcpy(reply.reason, cut->reason, sizeof(reply.reason));
	}
	flat_session_reply(s, &reply, NULL, 0);
}

int flat_session_resolve(const struct flat_session *s, const char *host, struct flat_addr *addr)
{
	const struct flat_scope scope = flat_mesh_scope(s->offload->mesh, s->workload, 0);
	const struct flat_service *hidden;
	const struct flat_service *service = flat_scope_by_host(&scope, host, &hidden);
	struct flat_ip ip;
	/* Names under a wildcard are left to DNS, as they are where nothing is hidden. */
	if (!service || service->host[0] == '*' || flat_service_resolve(service, &ip) != 0)
		return -ENOENT;
	*addr = flat_ip_addr(&ip, 0);
	return 0;
}

static void answer_resolve(struct flat_session *s, const struct flat_msg *msg)
{
	struct flat_msg reply;
	if (!memchr(msg->body.resolve.host, 0, sizeof(msg->body.resolve.host))) {
		doom(s, "rule 15: malformed message");
		return;
	}
	flat_msg_init(&reply, FLAT_MSG_RESOLVE, msg->seq);
	reply.status = flat_session_resolve(s, msg->body.resolve.host, &reply.body.resolve.addr);
	flat_session_reply(s, &reply, NULL, 0);
}

static void answer_drop(struct flat_session *s, const struct flat_msg *msg)
{
	struct flat_msg reply;
	flat_lane_dropped(s->offload, s, msg->body.drop.lane_id);
	flat_msg_init(&reply, FLAT_MSG_DROP, msg->seq);
	flat_session_reply(s, &reply, NULL, 0);
}

static void answer_ring(struct flat_session *s, const struct flat_msg *msg)
{
	struct flat_msg reply;
	struct flat_indexed *at = flat_index_find(&s->offload->conn_ids, msg->body.ring.conn_id);
	struct flat_conn *c = at ? FLAT_CONTAINER_OF(at, struct flat_conn, by_id) : NULL;
	bool part = c && (c->client == s || (c->listener && c->listener->session == s));
	for (int i = 0; part && i < 2; i++) {
		/* A plain client's socket carries its stream, not bells. */
		if (c->end[i].anchor.fd >= 0 && !c->end[i].is_tcp)
			(void)flat_sys_send(c->end[i].anchor.fd, "", 1,
					    MSG_DONTWAIT | MSG_NOSIGNAL);
	}
	flat_msg_init(&reply, FLAT_MSG_RING, msg->seq);
	reply.status = part ? 0 : -ENOENT;
	flat_session_reply(s, &reply, NULL, 0);
}

/* What only a successor may promise. */
static bool is_stale(const struct flat_offload *o, const struct flat_msg *msg)
{
	return o->retired && (msg->type == FLAT_MSG_CONNECT || msg->type == FLAT_MSG_LISTEN ||
			      msg->type == FLAT_MSG_TICKETS);
}

static void answer_stale(struct flat_session *s, const struct flat_msg *msg)
{
	struct flat_msg reply;
	flat_msg_init(&reply, msg->type, msg->seq);
	reply.status = -ESTALE;
	flat_session_reply(s, &reply, NULL, 0);
}

/* One message. Descriptors that it does not take are closed. */
static void handle(struct flat_session *s, struct flat_msg *msg, int fds[FLAT_MSG_FDS_MAX],
		   size_t n)
{
	uint32_t allowed = msg->type == FLAT_MSG_LISTEN	    ? FLAT_FD_TCP
			   : msg->type == FLAT_MSG_IDENTIFY ? FLAT_FD_ANCHOR
							    : 0;
	if ((msg->fds & ~allowed) || (!s->greeted && msg->type != FLAT_MSG_HELLO)) {
		flat_msg_close_fds(fds, n);
		doom(s, "rule 15: unexpected descriptors or no HELLO");
		return;
	}
	if (is_stale(s->offload, msg)) {
		answer_stale(s, msg);
		flat_msg_close_fds(fds, n);
		return;
	}
	switch (msg->type) {
	case FLAT_MSG_HELLO:
		answer_hello(s, msg);
		break;
	case FLAT_MSG_CONNECT:
		flat_conn_request(s, msg);
		break;
	case FLAT_MSG_LISTEN:
		flat_listener_open(s, msg, flat_msg_fd(msg, fds, FLAT_FD_TCP));
		break;
	case FLAT_MSG_WHY:
		answer_why(s, msg);
		break;
	case FLAT_MSG_DROP:
		answer_drop(s, msg);
		break;
	case FLAT_MSG_RESOLVE:
		answer_resolve(s, msg);
		break;
	case FLAT_MSG_RING:
		answer_ring(s, msg);
		break;
	case FLAT_MSG_TICKETS:
		flat_tickets_request(s, msg);
		break;
	case FLAT_MSG_USE:
		flat_ticket_use(s, msg);
		break;
	case FLAT_MSG_IDENTIFY:
		flat_identify(s, msg, n == 1 ? fds[0] : -1);
		break;
	default:
		doom(s, "rule 15: unknown message");
		break;
	}
	flat_msg_close_fds(fds, n);
}

/* What flat_msg_recv() did not take: the end, or what breaks the rules. */
static void refuse(struct flat_session *s, const struct flat_msg *msg, int err)
{
	uint32_t theirs = s->greeted ? 0 : flat_msg_other_build(msg, err);
	if (theirs != 0 && attest(s) == 0)
		part(s, theirs, 0);
	else
		doom(s, err == -EPROTO ? "rule 15: malformed message" : DOOM_EOF);
}

/* Messages taken from one session before the next has its turn (rule 11). */
#define QUANTUM 16

/* Reads a session's messages. True: there may be more, and it may have them now, or when its account has a turn again. */
static bool serve(struct flat_session *s)
{
	if (s->offload->giving)
		return true;
	for (int i = 0; i < QUANTUM && !s->doom; i++) {
		struct flat_msg msg;
		int fds[FLAT_MSG_FDS_MAX];
		size_t n;
		if (!flat_account_has_turn(s))
			return true;
		if (!flat_bucket_take(&s->bucket, flat_now_us())) {
			s->offload->stats.throttled++;
			return true;
		}
		int err = flat_msg_recv(s->control.fd, &msg, fds, &n, MSG_DONTWAIT);
		if (err == -EAGAIN) {
			if (flat_unlikely(s->n_let_go > 0))
				flat_tickets_give_back(s);
			return false;
		}
		if (err == -EINTR)
			continue;
		if (err != 0) {
			refuse(s, &msg, err);
			return false;
		}
		uint64_t asked = flat_netns_asked();
		flat_account_spend(s, msg.type == FLAT_MSG_HELLO ? FLAT_SESSION_QUESTION_MSGS : 1);
		handle(s, &msg, fds, n);
		asked = (flat_netns_asked() - asked) * FLAT_SESSION_QUESTION_MSGS;
		flat_account_spend(s, asked);
		flat_bucket_charge(&s->bucket, asked);
	}
	return !s->doom;
}

static void set_ready(struct flat_session *s, bool ready)
{
	struct flat_offload *o = s->offload;
	if (s->ready == ready)
		return;
	s->ready = ready;
	if (ready)
		TAILQ_INSERT_TAIL(&o->ready, s, ready_link);
	else
		TAILQ_REMOVE(&o->ready, s, ready_link);
}

void flat_session_look(struct flat_session *s)
{
	set_ready(s, true);
}

static void on_control(struct flat_source *source, int result)
{
	struct flat_session *s = FLAT_CONTAINER_OF(source, struct flat_session, control);
	(void)result;
	/* Behind those of its account that were left for this turn. */
	if (!s->ready && (flat_account_is_late(s) || serve(s)))
		set_ready(s, true);
}

bool flat_sessions_turn(struct flat_offload *o)
{
	struct flat_sessions left = TAILQ_HEAD_INITIALIZER(left);
	struct flat_session *last = TAILQ_LAST(&o->ready, flat_sessions);
	struct flat_session *s = NULL;
	bool now = false;
	if (o->giving)
		return false;
	o->turn++;
	while (s != last && (s = TAILQ_FIRST(&o->ready)) != NULL) {
		if (!flat_account_has_turn(s)) {
			TAILQ_REMOVE(&o->ready, s, ready_link);
			TAILQ_INSERT_TAIL(&left, s, ready_link);
			flat_account_is_late_from_now(s);
			now = true;
			continue;
		}
		set_ready(s, false);
		if (!serve(s))
			continue;
		set_ready(s, true);
		now |= flat_bucket_wait_us(&s->bucket) == 0;
	}
	/* Before those that had a part of this one. */
	TAILQ_CONCAT(&left, &o->ready, ready_link);
	TAILQ_CONCAT(&o->ready, &left, ready_link);
	return now;
}

/*
 * Of a retired offload half without connections. A client that looked just before it retired may have begun one (USE) since,
 * for which it waits for no answer: who sends from now on is told by the call, and what came before is read.
 */
bool flat_sessions_leave(struct flat_offload *o)
{
	struct flat_session *s;
	bool more = false;
	if (!o->leaving) {
		o->leaving = true;
		TAILQ_FOREACH(s, &o->sessions, link)
		(void)flat_sys_shutdown(s->control.fd, SHUT_RD);
	}
	TAILQ_FOREACH(s, &o->sessions, link)
	{
		if (s->doom || !serve(s))
			continue;
		set_ready(s, true);
		more = true;
	}
	return !more && o->n_conns == 0;
}

int flat_sessions_wait_ms(const struct flat_offload *o)
{
	/* Throttled: a token comes within a millisecond. */
	if (!TAILQ_EMPTY(&o->ready))
		return 1;
	return TAILQ_EMPTY(&o->strangers) ? -1 : FLAT_HELLO_TIMEOUT_MS / 4;
}

static uint32_t count_of(const struct flat_offload *o, pid_t pid)
{
	uint32_t n = 0;
	const struct flat_indexed *at = flat_index_find(&o->processes, (uint64_t)pid);
	for (; at; at = flat_indexed_next(at))
		n++;
	return n;
}

/* pid 0: the kernel has no number for it here. */
static bool has_place(const struct flat_offload *o, const struct ucred *who)
{
	char account[32];
	char why[300];
	if (who->pid > 0 && count_of(o, who->pid) >= FLAT_PROCESS_SESSIONS_MAX) {
		snprintf(account, sizeof(account), "uid %u", (unsigned int)who->uid);
		flat_tell(FLAT_LOG_WARN, "sessions turned away", account,
			  "pid %d was turned away: rule 15: it has %u sessions", (int)who->pid,
			  FLAT_PROCESS_SESSIONS_MAX);
		return false;
	}
	if (!flat_account_takes_stranger(o, who->uid, why, sizeof(why))) {
		snprintf(account, sizeof(account), "uid %u", (unsigned int)who->uid);
		flat_tell(FLAT_LOG_WARN, "sessions turned away", account,
			  "pid %d was turned away: %s", (int)who->pid, why);
		return false;
	}
	if (o->n_sessions < FLAT_SESSIONS_MAX)
		return true;
	flat_tell(FLAT_LOG_WARN, "sessions turned away", "all",
		  "a process was turned away: rule 15: %u sessions are open", o->n_sessions);
	return false;
}

void flat_session_open(struct flat_offload *o, int fd)
{
	struct ucred cred = {.pid = 0};
	socklen_t len = sizeof(cred);
	(void)flat_sys_getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &len);
	struct flat_session *s = has_place(o, &cred) ? calloc(1, sizeof(*s)) : NULL;
	if (!s) {
		close(fd);
		return;
	}
	TAILQ_INIT(&s->tickets);
	s->offload = o;
	s->pidfd = -1;
	s->id = ++o->next_id;
	s->joined_ms = flat_now_us() / 1000;
	s->control.fd = fd;
	flat_bucket_init(&s->bucket, FLAT_SESSION_MSGS_PER_S, FLAT_SESSION_MSGS_BURST,
			 flat_now_us());
	s->pid = cred.pid;
	s->uid = cred.uid;
	flat_account_meet(s);
	TAILQ_INSERT_TAIL(&o->sessions, s, link);
	flat_index_put(&o->processes, &s->by_pid, (uint64_t)s->pid);
	o->n_sessions++;
	TAILQ_INSERT_TAIL(&o->strangers, s, stranger_link);
	o->stats.sessions++;
	if (flat_loop_poll(&o->loop, &s->control, fd, POLLIN | POLLRDHUP, on_control) != 0)
		flat_session_close(s, "out of memory");
}

/* What was read of a process. */
static void forget(struct flat_session *s)
{
	if (s->pidfd >= 0)
		close(s->pidfd);
	flat_netns_put(s->netns);
	free(s->exe);
	free(s->cgroup);
}

/* It is closed. One of which no pid is known is nobody's that is looked for. */
static void become_ghost(struct flat_session *s)
{
	struct flat_offload *o = s->offload;
	TAILQ_INSERT_TAIL(&o->ghosts, s, link);
	if (s->pid != 0)
		flat_index_put(&o->ended, &s->by_pid, (uint64_t)s->pid);
}

static void session_free(struct flat_session *s)
{
	TAILQ_REMOVE(&s->offload->ghosts, s, link);
	flat_index_remove(&s->offload->ended, &s->by_pid);
	flat_account_leave(s);
	forget(s);
	free(s);
}

void flat_session_put(struct flat_session *s)
{
	if (s->closed && s->n_conns == 0 && s->n_listeners == 0 && s->n_served == 0)
		session_free(s);
}

void flat_session_close(struct flat_session *s, const char *why)
{
	char account[96];
	struct flat_offload *o = s->offload;
	struct flat_conn *c;
	struct flat_conn *next;
	if (why) {
		flat_tell(FLAT_LOG_WARN, "sessions ended", flat_session_account(s, account),
			  "session of pid %d (%s) ended: %s", (int)s->pid, s->exe ? s->exe : "?",
			  why);
		o->stats.sessions_ended++;
	}
	set_ready(s, false);
	flat_loop_del(&o->loop, &s->control);
	close(s->control.fd);
	TAILQ_REMOVE(&o->sessions, s, link);
	o->n_sessions--;
	if (!s->greeted)
		TAILQ_REMOVE(&o->strangers, s, stranger_link);
	if (s->doom)
		TAILQ_REMOVE(&o->doomed, s, doom_link);
	flat_index_remove(&o->processes, &s->by_pid);
	become_ghost(s);
	if (s->settling)
		TAILQ_REMOVE(&o->settling, s, settle_link);
	s->settling = 0;
	/* Kept from being freed by the last of these. */
	s->n_conns++;
	flat_account_hang_up(s);
	s->closed = true;
	for (c = TAILQ_FIRST(&o->half_open); c; c = next) {
		next = TAILQ_NEXT(c, half_link);
		/* One whose client was told that it is open lives as long as its anchor; so do all if it was we who hung up. */
		if (c->client == s && !c->told && !o->leaving)
			flat_conn_destroy(c);
	}
	flat_tickets_end(s, NULL);
	flat_lanes_orphan(o, s, NULL);
	s->n_conns--;
	flat_session_put(s);
}

/* --- of processes that have none here --- */

struct flat_session *flat_session_ghost(struct flat_offload *o, const struct flat_session *like)
{
	struct flat_session *s = calloc(1, sizeof(*s));
	if (!s)
		return NULL;
	TAILQ_INIT(&s->tickets);
	s->offload = o;
	s->id = ++o->next_id;
	s->control.fd = -1;
	s->greeted = s->closed = true;
	s->pid = like->pid;
	s->pidfd = like->pidfd;
	s->uid = like->uid;
	s->gid = like->gid;
	s->exe = like->exe;
	s->exe_owner = like->exe_owner;
	s->exe_owner_known = like->exe_owner_known;
	s->cgroup = like->cgroup;
	s->captured = like->captured;
	become_ghost(s);
	flat_session_identify(s);
	return s;
}

/* The same text, or neither is there. */
static bool same_text(const char *a, const char *b)
{
	return a && b ? strcmp(a, b) == 0 : a == b;
}

static bool is_same(const struct flat_session *a, const struct flat_session *b)
{
	return a->captured == b->captured && a->uid == b->uid && a->gid == b->gid &&
	       a->exe_owner_known == b->exe_owner_known && a->exe_owner == b->exe_owner &&
	       same_text(a->exe, b->exe) && same_text(a->cgroup, b->cgroup);
}

struct flat_session *flat_session_find_ghost(const struct flat_offload *o,
					     const struct flat_session *like,
					     const struct flat_session *after)
{
	const struct flat_indexed *at = after ? flat_indexed_next(&after->by_pid)
					      : flat_index_find(&o->ended, (uint64_t)like->pid);
	for (; at; at = flat_indexed_next(at)) {
		struct flat_session *s = FLAT_CONTAINER_OF(at, struct flat_session, by_pid);
		if (is_same(s, like))
			return s;
	}
	return NULL;
}

struct flat_session *flat_session_captured(struct flat_offload *o, pid_t pid, uid_t uid, gid_t gid,
					   const char *cgroup)
{
	struct flat_session like = {
	    .pid = pid, .pidfd = -1, .uid = uid, .gid = gid, .captured = true};
	struct flat_session *s = NULL;
	if (asprintf(&like.cgroup, "0::%s\n", cgroup) < 0)
		return NULL;
	if (pid != 0) {
		like.pidfd = (int)FLAT_SYS2(SYS_pidfd_open, pid, 0);
		read_executable(&like);
	}
	/* It did not wait: what it was besides is not known any more. */
	if (like.pidfd < 0 || is_dead(&like)) {
		free(like.exe);
		like.exe = NULL;
		like.exe_owner_known = false;
	}
	do
		s = flat_session_find_ghost(o, &like, s);
	while (s && is_dead(s));
	if (s || !(s = flat_session_ghost(o, &like)))
		forget(&like);
	return s;
}
