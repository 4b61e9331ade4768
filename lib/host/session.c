#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/denied.h"
#include "base/limits.h"
#include "base/log.h"
#include "host/lanes.h"
#include "host/quiet.h"
#include "host/ticket.h"

/* How often a missing offload half is looked for again, ms. */
#define RETRY_MS 200
/* And one of another build, which is asked each time. */
#define PARTED_RETRY_MS 1000

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static int control_fd = -1;
static pid_t control_pid;
static _Atomic int peer_pid; /* of the process at the other end */
static uint32_t next_seq;
static int64_t last_try_ms; /* of one that failed, or is under way; else 0 */
static _Atomic bool parted; /* who was met last is of another build, and is asked for nothing */

/* Tickets that were asked for at control_fd, and have not come in. */
static struct {
	bool pending;
	uint32_t seq;
	uint64_t epoch; /* of the directory, before they were asked for */
	struct flat_addr to;
} coming;

/*
 * Offload halves that this process has known, by turn, which its forked children inherit with the connections of theirs.
 * Whose place is taken has been followed by so many others: what is left of its connections is over.
 */
#define REIGNS 16U
struct reign {
	struct flat_directory directory;
	_Atomic uint32_t turn;
	int control_fd; /* it is retired: here what is left of its connections is asked for. 0: nothing is */
	pid_t control_pid;
};
static struct reign reigns[REIGNS] = {{.turn = UINT32_MAX}};
static _Atomic uint32_t last_turn; /* 0: none was there yet */

static struct reign *reign_of(uint32_t turn)
{
	return &reigns[turn % REIGNS];
}

static int connect_to(const char *path)
{
	struct sockaddr_un un = {.sun_family = AF_UNIX};
	struct timeval limit = {.tv_sec = FLAT_REPLY_TIMEOUT_MS / 1000};
	struct ucred cred;
	socklen_t len = sizeof(cred);
	if (strlen(path) >= sizeof(un.sun_path))
		return -ENAMETOOLONG;
	memcpy(un.sun_path, path, strlen(path) + 1);
	int fd = flat_sys_socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return fd;
	/* It waits where too many want to be taken in at once. */
	int err = flat_sys_setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
	if (err == 0)
		err = flat_sys_connect(fd, (struct sockaddr *)&un, sizeof(un));
	/* Only root or ourselves may say what our connections are. */
	if (err == 0 && (flat_sys_getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &len) < 0 ||
			 (cred.uid != 0 && cred.uid != getuid())))
		err = -EPERM;
	if (err == 0)
		err = flat_sys_setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
	if (err != 0) {
		flat_sys_close(fd);
		return err;
	}
	atomic_store(&peer_pid, cred.pid);
	return flat_fd_private(fd);
}

/* An answer that no call waits for: tickets, or what somebody gave up waiting for, which is not taken. */
static void take_in(const struct flat_msg *msg, int fds[FLAT_MSG_FDS_MAX], size_t n)
{
	if (coming.pending && msg->seq == coming.seq) {
		coming.pending = false;
		flat_tickets_put(&coming.to, coming.epoch, msg, fds);
	}
	flat_msg_close_fds(fds, n);
}

/* Sends one message, which gets the next number. */
static int say(int control, struct flat_msg *msg, int send_fd)
{
	int err;
	msg->seq = ++next_seq;
	do
		err = flat_msg_send(control, msg, &send_fd, send_fd >= 0 ? 1 : 0, 0);
	while (err == -EINTR);
	return err;
}

/* The answer to the message with this number. */
static int hear(int control, uint32_t seq, struct flat_msg *msg, int fds[FLAT_MSG_FDS_MAX],
		size_t *n)
{
	int err = 0;
	while (err == 0) {
		/* An answer takes less time than to fall asleep and wake up. */
		struct flat_wait w;
		flat_wait_begin(&w);
		do
			err = flat_msg_recv(control, msg, fds, n, MSG_DONTWAIT);
		while (err == -EAGAIN && flat_wait_again(&w));
		(void)flat_wait_end(&w, err == 0);
		while (err == -EAGAIN || err == -EINTR) {
			err = flat_msg_recv(control, msg, fds, n, 0);
			if (err == -EAGAIN)
				break;
		}
		if (err == -EMFILE) {
			flat_numbers_lost();
			if (msg->seq == seq)
				return err;
			/* Tickets: they are given back, as their descriptors are closed. */
			msg->body.tickets.n = 0;
			msg->fds = 0;
			err = 0;
		}
		if (err == 0 && msg->seq == seq)
			return 0;
		if (err == 0)
			take_in(msg, fds, *n);
	}
	return err;
}

static int exchange_at(int control, struct flat_msg *msg, int send_fd, int fds[FLAT_MSG_FDS_MAX],
		       size_t *n)
{
	int err = say(control, msg, send_fd);
	return err ? err : hear(control, msg->seq, msg, fds, n);
}

static int exchange(struct flat_msg *msg, int send_fd, int fds[FLAT_MSG_FDS_MAX], size_t *n)
{
	return exchange_at(control_fd, msg, send_fd, fds, n);
}

/* The control socket of a reign that is past, if it is this process's. */
static void reign_hang_up(struct reign *r)
{
	if (r->control_fd > 0 && r->control_pid == flat_sys_getpid())
		flat_fd_close_private(r->control_fd);
	r->control_fd = 0;
}

/* Takes the mapping. An older one stays: other threads may be looking at it. A restart costs 32 MiB of address space. */
static void begin_reign(struct flat_directory *dir)
{
	uint32_t turn = atomic_load(&last_turn);
	/* A forked child finds the one that its parent knows. */
	if (turn != 0 && reign_of(turn)->directory.first_id == dir->first_id) {
		flat_directory_unmap(dir);
		return;
	}
	struct reign *r = reign_of(++turn);
	atomic_store(&r->turn, 0);
	r->directory = *dir;
	reign_hang_up(r);
	atomic_store(&r->turn, turn);
	atomic_store(&last_turn, turn);
}

/* Of the offload half that is at the other end. */
static int part_from(uint32_t theirs)
{
	static int told;
	char mine[FLAT_SHARED_STRLEN];
	char other[FLAT_SHARED_STRLEN];
	int pid = atomic_load(&peer_pid);
	if (pid != told)
		flat_warn("flatd (pid %d) has shared layout %s, this program's libflat %s: restart "
			  "the program with the libflat that belongs to that flatd; until then its "
			  "sockets are the kernel's",
			  pid, theirs ? flat_shared_str(theirs, other) : "of another version",
			  flat_shared_str(flat_shared_version(), mine));
	told = pid;
	atomic_store(&parted, true);
	return -EPROTONOSUPPORT;
}

static int hello(void)
{
	struct flat_msg msg;
	int fds[FLAT_MSG_FDS_MAX];
	size_t n = 0;
	flat_msg_init(&msg, FLAT_MSG_HELLO, 0);
	int err = exchange(&msg, -1, fds, &n);
	uint32_t theirs = flat_msg_other_build(&msg, err);
	if (theirs != 0) {
		flat_msg_close_fds(fds, n);
		return part_from(theirs);
	}
	if (err != 0)
		return err;
	int fd = flat_msg_fd(&msg, fds, FLAT_FD_DIRECTORY);
	flat_msg_close_fds(fds, n);
	struct flat_directory dir;
	err = fd < 0 ? -EPROTO : flat_directory_map(&dir, fd, msg.body.hello.directory_len);
	if (err == -EPROTONOSUPPORT)
		(void)part_from(0);
	if (fd >= 0)
		flat_sys_close(fd);
	/* Who has hardly a number left when it begins needs them for itself, and stays with the kernel. */
	if (!flat_numbers_reserve() && err == 0 && atomic_load(&last_turn) == 0) {
		flat_numbers_give_up();
		flat_directory_unmap(&dir);
		return -EMFILE;
	}
	if (err == 0) {
		begin_reign(&dir);
		atomic_store(&parted, false);
	}
	return err;
}

/* Those that are still to come will be nobody's. */
static void forget_tickets(void)
{
	coming.pending = false;
	flat_tickets_drop();
}

static void drop(void)
{
	if (control_pid == flat_sys_getpid())
		flat_fd_close_private(control_fd);
	control_fd = -1;
	forget_tickets();
}

/*
 * Where the offload half listens, by the environment: as it was when we were loaded, since programs write over theirs (nginx
 * empties it, before its first socket where a module embeds perl), or as the program has set it by its first question.
 */
static char env_control[sizeof(((struct sockaddr_un *)0)->sun_path)];
static char env_user[sizeof(env_control)];

__attribute__((constructor)) static void look_at_environment(void)
{
	const char *control = secure_getenv("FLAT_CONTROL");
	const char *dir = secure_getenv("XDG_RUNTIME_DIR");
	/* One that is too long is cut, and not found: never another one taken instead. */
	if (control)
		(void)snprintf(env_control, sizeof(env_control), "%s", control);
	if (dir && strlen(dir) < sizeof(env_user) - 32)
		(void)snprintf(env_user, sizeof(env_user), "%s/flat/control.sock", dir);
}

/* Why this program's sockets are the kernel's: once for each reason. Under the lock. */
static void tell_unreached(const char *path, int err)
{
	static int told;
	char why[FLAT_DENIED_MAX];
	if (err == told)
		return;
	told = err;
	if (err == -EACCES)
		flat_warn("%s: this program's sockets are the kernel's: %s", path,
			  flat_denied(AT_FDCWD, path, why) ? why : "permission denied");
	else if (err == -EPERM)
		flat_warn("%s: this program's sockets are the kernel's: who listens there is "
			  "neither root nor user %u, and is not taken for flatd",
			  path, (unsigned int)getuid());
	else
		flat_info("%s: this program's sockets are the kernel's: no flatd answers (%s)",
			  path, strerror(-err));
}

/* What the environment names; else the host's, else the user's. */
static int connect_any(void)
{
	static bool asked;
	if (!asked) {
		look_at_environment();
		asked = true;
	}
	const char *path = env_control[0] ? env_control : FLAT_CONTROL_PATH;
	int first = connect_to(path);
	int fd = first < 0 && !env_control[0] && env_user[0] ? connect_to(env_user) : first;
	if (fd < 0)
		tell_unreached(path, first);
	return fd;
}

const struct flat_directory *flat_session_known(void)
{
	uint32_t turn = atomic_load_explicit(&last_turn, memory_order_acquire);
	return turn ? &reign_of(turn)->directory : NULL;
}

/* Whether whoever was joined last is there no more, or has a successor. */
static bool is_past(void)
{
	const struct flat_directory *dir = flat_session_known();
	return dir && flat_unlikely(flat_directory_over(flat_directory_reign_word(dir)) ||
				    (flat_directory_flags(dir) & FLAT_DIRECTORY_RETIRED));
}

/* The successor is to be joined; the one before answers for its connections as long as there are any. */
static void part(void)
{
	if (control_fd < 0 || control_pid != flat_sys_getpid() || !is_past())
		return;
	struct reign *r = reign_of(atomic_load(&last_turn));
	if (flat_directory_over(flat_directory_reign_word(&r->directory))) {
		drop();
		return;
	}
	reign_hang_up(r);
	forget_tickets();
	r->control_fd = control_fd;
	r->control_pid = control_pid;
	control_fd = -1;
}

/* Joined, or a negative errno. Under the lock. */
static int join(bool patient)
{
	part();
	if (control_fd >= 0 && control_pid == flat_sys_getpid())
		return 0;
	/* A forked child has its parent's number: it says HELLO itself, as another process. */
	if (control_fd >= 0)
		flat_fd_close_private(control_fd);
	control_fd = -1;
	forget_tickets();
	int64_t now = flat_now_ms();
	if (!patient && last_try_ms != 0 &&
	    now - last_try_ms < (atomic_load(&parted) ? PARTED_RETRY_MS : RETRY_MS) &&
	    control_pid == flat_sys_getpid())
		return -ECONNREFUSED;
	last_try_ms = now;
	control_pid = flat_sys_getpid();
	if (getauxval(AT_SECURE))
		return -EPERM;
	int fd = connect_any();
	if (fd < 0)
		return fd;
	control_fd = fd;
	int err = hello();
	if (err != 0)
		drop();
	else
		last_try_ms = 0;
	return err;
}

void flat_session_forked(void)
{
	pthread_mutex_init(&lock, NULL);
	flat_lanes_forked();
	/* The parent's: it would not hang up where this process holds it too. */
	forget_tickets();
}

static pthread_once_t fork_once = PTHREAD_ONCE_INIT;

static void register_fork(void)
{
	/* Nothing is written to the application's stderr unless somebody asked for it. */
	const char *name = secure_getenv("FLAT_LOG");
	int level = name ? flat_log_level_parse(name) : -EINVAL;
	if (level >= 0)
		flat_log_init(2, (enum flat_log_level)level, "libflat");
	(void)pthread_atfork(flat_fd_marks_forking, NULL, flat_session_forked);
}

const struct flat_directory *flat_session_directory(void)
{
	pthread_once(&fork_once, register_fork);
	/* Not joined before the directory is there, although the socket is: another thread is at it. */
	if (flat_unlikely(!atomic_load(&last_turn) || control_fd < 0 ||
			  control_pid != flat_sys_getpid() || is_past())) {
		flat_quiet_lock(&lock);
		(void)!join(false);
		flat_quiet_unlock(&lock);
	}
	return atomic_load(&parted) ? NULL : flat_session_known();
}

bool flat_session_parted(void)
{
	return atomic_load(&parted);
}

int flat_session_peer(void)
{
	/* A child of vfork() may not join: the session in its memory is its parent's. */
	if (flat_fd_foreign())
		return atomic_load(&peer_pid);
	return flat_session_directory() && control_fd >= 0 ? atomic_load(&peer_pid) : 0;
}

void flat_session_told(int directory_fd)
{
	struct flat_directory dir;
	struct stat st;
	if (flat_likely(directory_fd < 0 || !is_past()))
		return;
	flat_quiet_lock(&lock);
	(void)!join(true);
	if (is_past() && FLAT_SYS2(SYS_fstat, directory_fd, &st) == 0 &&
	    flat_directory_map(&dir, directory_fd, (size_t)st.st_size) == 0)
		begin_reign(&dir);
	flat_quiet_unlock(&lock);
}

static uint32_t reign_of_conn(uint64_t conn_id)
{
	uint32_t last = atomic_load(&last_turn);
	for (uint32_t i = 0; i < REIGNS && i < last; i++) {
		const struct reign *r = reign_of(last - i);
		if (r->directory.first_id <= conn_id)
			return last - i;
	}
	return 0;
}

uint32_t flat_session_reign(uint64_t conn_id)
{
	uint32_t turn = reign_of_conn(conn_id);
	if (flat_likely(!is_past() && !flat_directory_over(flat_session_reign_word(turn))))
		return turn;
	/* Of one that retired or ended, or of its successor, which tells a server of connections before it was ever asked. */
	flat_quiet_lock(&lock);
	(void)!join(true);
	flat_quiet_unlock(&lock);
	return reign_of_conn(conn_id);
}

uint64_t flat_session_reign_word(uint32_t turn)
{
	const struct reign *r = reign_of(turn);
	/* acquire: pairs with the store in begin_reign() */
	if (flat_unlikely(atomic_load_explicit(&r->turn, memory_order_acquire) != turn))
		return 0;
	return flat_directory_reign_word(&r->directory);
}

/* The lane of an answer: the answer of the next thread may come without its descriptor and rely on it. */
static void expect_lane(const struct flat_msg *msg, const int fds[FLAT_MSG_FDS_MAX])
{
	int copy[FLAT_MSG_FDS_MAX];
	if (msg->type != FLAT_MSG_CONNECT || msg->status != 0 ||
	    msg->body.conn.path == FLAT_CONN_KERNEL)
		return;
	memcpy(copy, fds, sizeof(copy));
	flat_lane_expect(&msg->body.conn, flat_msg_fd(msg, copy, FLAT_FD_LANE));
}

/* Under the lock, so that no answer that counts on the lane is between the two. */
static void drop_old_lane(void)
{
	struct flat_msg msg;
	int fds[FLAT_MSG_FDS_MAX];
	size_t n = 0;
	uint64_t id;
	bool ours;
	/* Tickets that are on their way may be of it. */
	if (coming.pending || !flat_lane_old(&id, &ours))
		return;
	if (ours) {
		flat_msg_init(&msg, FLAT_MSG_DROP, 0);
		msg.body.drop.lane_id = id;
		if (exchange(&msg, -1, fds, &n) != 0)
			return;
		flat_msg_close_fds(fds, n);
	}
	flat_lane_forget(id);
}

/* Of a message about a connection that somebody else made, who is still there: where it is answered. NULL: it is none. */
static struct reign *past_of(const struct flat_msg *msg)
{
	uint64_t id = msg->type == FLAT_MSG_RING  ? msg->body.ring.conn_id
		      : msg->type == FLAT_MSG_WHY ? msg->body.why.conn_id
						  : 0;
	uint32_t turn = id ? reign_of_conn(id) : 0;
	struct reign *r = reign_of(turn);
	return turn != 0 && r->control_fd > 0 && r->control_pid == flat_sys_getpid() ? r : NULL;
}

/* Under the lock. Nobody waits for them as long as there are others. */
static void ask_tickets(const struct flat_addr *to, uint64_t epoch)
{
	struct flat_msg msg;
	drop_old_lane();
	flat_msg_init(&msg, FLAT_MSG_TICKETS, 0);
	msg.body.connect.to = *to;
	if (say(control_fd, &msg, -1) != 0)
		return;
	coming.pending = true;
	coming.seq = msg.seq;
	coming.epoch = epoch;
	coming.to = *to;
}

/* Under the lock: those that were asked for are needed. */
static void await_tickets(void)
{
	struct flat_msg msg;
	int fds[FLAT_MSG_FDS_MAX];
	size_t n = 0;
	if (hear(control_fd, coming.seq, &msg, fds, &n) == 0)
		take_in(&msg, fds, n);
	coming.pending = false;
}

/* Under the lock: it begins. False: the offload half is gone. */
static bool use_ticket(struct flat_ticket *ticket)
{
	struct flat_msg msg;
	int err;
	flat_msg_init(&msg, FLAT_MSG_USE, 0);
	msg.body.use.conn_id = ticket->conn.conn_id;
	do
		err = flat_msg_send(control_fd, &msg, NULL, 0, 0);
	while (err == -EINTR);
	if (err == 0)
		return true;
	flat_fd_close_private(ticket->anchor);
	flat_fd_close_private(ticket->bell);
	flat_lane_unuse(ticket->lane);
	forget_tickets();
	return false;
}

bool flat_session_ticket(const struct flat_addr *to, struct flat_ticket *ticket)
{
	const struct flat_directory *dir = flat_session_known();
	bool got = false;
	if (!dir || flat_fd_foreign())
		return false;
	flat_quiet_lock(&lock);
	if (control_fd >= 0 && control_pid == flat_sys_getpid() && !is_past()) {
		uint64_t epoch = flat_directory_epoch(dir);
		if (flat_tickets_wanted(to) && !coming.pending)
			ask_tickets(to, epoch);
		if (coming.pending && flat_tickets_none() &&
		    memcmp(&coming.to, to, sizeof(*to)) == 0)
			await_tickets();
		got = flat_tickets_take(to, epoch, ticket) && use_ticket(ticket);
	}
	flat_quiet_unlock(&lock);
	return got;
}

int flat_session_ask(struct flat_msg *msg, int send_fd, int fds[FLAT_MSG_FDS_MAX], size_t *n)
{
	struct flat_msg saved = *msg;
	int err = -ECONNREFUSED;
	pthread_once(&fork_once, register_fork);
	flat_quiet_lock(&lock);
	/*
	 * Twice: the first may meet the socket of an offload half that has ended. A listener is told of once in its life: no
	 * try of a moment ago counts, and one that fails is made again.
	 */
	bool once = saved.type == FLAT_MSG_LISTEN;
	for (int tries = 0; tries < 2; tries++) {
		err = join(once || tries > 0);
		if (err != 0 && once && err != -EPROTONOSUPPORT)
			continue;
		if (err != 0)
			break;
		if (saved.type == FLAT_MSG_CONNECT)
			drop_old_lane();
		*msg = saved;
		struct reign *past = past_of(msg);
		err = exchange_at(past ? past->control_fd : control_fd, msg, send_fd, fds, n);
		/* A successor serves, and the directory says so by now. */
		if (err == 0 && msg->status == -ESTALE) {
			flat_msg_close_fds(fds, *n);
			continue;
		}
		if (err == 0)
			expect_lane(msg, fds);
		if (err == 0 || err == -EAGAIN)
			break;
		/* The kernel's listener takes fewer numbers than ours: those that are left are for its connections. */
		if (err == -EMFILE && !once && flat_numbers_prepare(false) == 0)
			continue;
		if (err == -EMFILE)
			break;
		if (past)
			reign_hang_up(past);
		else
			drop();
	}
	flat_quiet_unlock(&lock);
	if (err == -EMFILE)
		flat_warn("no descriptors are left for flatd's answer: raise RLIMIT_NOFILE");
	else if (err != 0 && !atomic_load(&parted))
		flat_warn("flatd does not answer: %s", strerror(-err));
	else if (msg->status != 0 && msg->reason[0])
		flat_warn("flatd: %s", msg->reason);
	if (err == -EAGAIN || err == -EMFILE)
		return err == -EAGAIN ? -ETIMEDOUT : -ENOBUFS;
	return err == 0 ? 0 : -ECONNREFUSED;
}
