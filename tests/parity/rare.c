/* Options and requests that few programs use. */
#include <linux/fiemap.h>
#include <linux/filter.h>
#include <linux/fs.h>

#include "parity.h"

/* The names that programs of 32 bits with times of 64 bits use; here they are the same. */
BEHAVIOUR(option_times_by_new_names)
{
	int c, s;
	char b;
	struct {
		int64_t sec;
		int64_t usec;
	} tv = {0, 30000};
	socklen_t len = sizeof(tv);
	pair(&c, &s);
	DO(setsockopt(c, SOL_SOCKET, SO_RCVTIMEO_NEW, &tv, sizeof(tv)));
	DO(setsockopt(c, SOL_SOCKET, SO_SNDTIMEO_NEW, &tv, sizeof(tv)));
	long since = now_ms();
	DO(recv(c, &b, 1, 0));
	say_elapsed(since, 30);
	(void)fcntl(c, F_SETFL, O_NONBLOCK);
	fill(c);
	(void)fcntl(c, F_SETFL, 0);
	DO(send(c, &b, 1, 0));
	memset(&tv, 0, sizeof(tv));
	DO(getsockopt(c, SOL_SOCKET, SO_RCVTIMEO, &tv, &len));
	say("%d %d", (int)tv.usec > 20000, (int)len);
	DO(getsockopt(c, SOL_SOCKET, SO_SNDTIMEO_NEW, &tv, &len));
	say("%d %d", (int)tv.usec > 20000, (int)len);
}

/* As long as the kernel's structure is, which is longer than libc's. */
BEHAVIOUR(option_tcp_info_whole)
{
	int c, s;
	char info[1024];
	socklen_t len = sizeof(info);
	pair(&c, &s);
	DO(getsockopt(c, IPPROTO_TCP, TCP_INFO, info, &len));
	say("%u", (unsigned)len);
	len = 130;
	DO(getsockopt(s, IPPROTO_TCP, TCP_INFO, info, &len));
	say("%u", (unsigned)len);
}

static void say_request(const char *what, int fd, unsigned long request)
{
	char room[256] = {0};
	errno = 0;
	int err = ioctl(fd, request, room);
	say("%s %d %s", what, err, err ? error_name(errno) : "");
}

BEHAVIOUR(message_ioctl_of_any_file)
{
	int c, s, l = listener(1);
	pair(&c, &s);
	say_request("block size", c, FIGETBSZ);
	say_request("block size", l, FIGETBSZ);
	say_request("size", c, FIOQSIZE);
	say_request("flags", c, FS_IOC_GETFLAGS);
	say_request("map", c, FS_IOC_FIEMAP);
	say_request("terminal", c, TCGETS);
	say_request("window", l, TIOCGWINSZ);
}

BEHAVIOUR_ALONE(message_listener_has_no_errors)
{
	char b;
	int l = listener(0);
	struct iovec iov = {&b, 1};
	struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1};
	DO(recv(l, &b, 1, MSG_ERRQUEUE));
	DO(recvmsg(l, &m, MSG_ERRQUEUE));
	DO(recv(l, &b, 1, MSG_OOB));
	DO(recv(l, &b, 0, MSG_DONTWAIT));
}

/* --- options that act on TCP's segments --- */

/* `key` "": none any more. */
static int sign(int fd, const char *key)
{
	struct sockaddr_in peer = where(0);
	struct tcp_md5sig sig = {.tcpm_keylen = (__u16)strlen(key)};
	peer.sin_port = 0;
	memcpy(&sig.tcpm_addr, &peer, sizeof(peer));
	memcpy(sig.tcpm_key, key, strlen(key));
	return setsockopt(fd, IPPROTO_TCP, TCP_MD5SIG, &sig, sizeof(sig));
}

/* Whether a connection comes to be: segments that are not as they should be get no answer. */
static void say_answer(const char *what, int c)
{
	struct sockaddr_in to = where(0);
	struct pollfd p = {.fd = c, .events = POLLOUT};
	set_nonblock(c);
	int err = connect(c, (struct sockaddr *)&to, sizeof(to));
	int n = err != 0 && errno == EINPROGRESS ? poll(&p, 1, 300) : 1;
	say("%s: %s", what, n == 0 ? "no answer" : p.revents & POLLERR ? "refused" : "connected");
	SAY_OPTION(c, SOL_SOCKET, SO_ERROR);
}

static void signed_clients(int l)
{
	int none = tcp(0), wrong = tcp(0), right = tcp(0);
	char b = 'b';
	say_answer("no key", none);
	DO(sign(wrong, "wrong"));
	say_answer("another key", wrong);
	DO(sign(right, "right"));
	say_answer("its key", right);
	int s = accept(l, NULL, NULL);
	say("accepted %d", s >= 0);
	send_all(right, &b, 1);
	await(s, POLLIN);
	DO(recv(s, &b, 1, 0));
	say_bytes("came", &b, 1);
	send_all(s, "c", 1);
	(void)fcntl(right, F_SETFL, 0);
	DO(recv(right, &b, 1, 0));
	DO(close(s));
	DO(recv(right, &b, 1, 0));
}

BEHAVIOUR_ALONE(option_signed_before_listen)
{
	struct sockaddr_in at = where(0);
	int l = tcp(0), one = 1;
	DO(sign(l, "right"));
	(void)setsockopt(l, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	DO(bind(l, (struct sockaddr *)&at, sizeof(at)));
	DO(listen(l, 5));
	signed_clients(l);
}

BEHAVIOUR_ALONE(option_signed_after_listen)
{
	int l = listener(0), ep = epoll_create1(0);
	struct epoll_event e = {.events = EPOLLIN, .data.u32 = 7};
	DO(epoll_ctl(ep, EPOLL_CTL_ADD, l, &e));
	DO(sign(l, "nobody's"));
	DO(sign(l, "right"));
	set_nonblock(l);
	DO(accept(l, NULL, NULL));
	(void)fcntl(l, F_SETFL, 0);
	signed_clients(l);
	int c = tcp(0);
	DO(sign(c, "right"));
	say_answer("one more", c);
	DO(epoll_wait(ep, &e, 1, 5000));
	say("%u", (unsigned)e.data.u32);
	SAY_OPTION(l, SOL_SOCKET, SO_ACCEPTCONN);
}

static void *sign_soon(void *arg)
{
	int l = *(int *)arg, c = tcp(0);
	let_sleep();
	DO(sign(l, "right"));
	DO(sign(c, "right"));
	say_answer("its key", c);
	return NULL;
}

BEHAVIOUR_ALONE(option_signed_while_one_accepts)
{
	int l = listener(0);
	pthread_t t = thread(sign_soon, &l);
	int s = accept(l, NULL, NULL);
	int err = s < 0 ? errno : 0;
	join(t);
	say("accepted %d %s", s >= 0, error_name(err));
}

BEHAVIOUR(option_signed_client_of_a_plain_server)
{
	int l = listener(0), c = tcp(0), more = tcp(0), two = dup(more);
	DO(sign(c, "right"));
	say_answer("a key", c);
	DO(sign(two, "right"));
	say_answer("by its other number", more);
	say_answer("no key", tcp(0));
	say("accepted %d", accept(l, NULL, NULL) >= 0);
}

/* That takes no segment, or each. */
static int filter(int fd, bool takes)
{
	struct sock_filter all = {.code = BPF_RET | BPF_K, .k = takes ? UINT32_MAX : 0};
	struct sock_fprog prog = {.len = 1, .filter = &all};
	return setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &prog, sizeof(prog));
}

BEHAVIOUR_ALONE(option_filter_of_a_listener)
{
	int l = listener(0), c = tcp(0);
	DO(filter(l, false));
	say_answer("filtered", tcp(0));
	DO(filter(l, true));
	DO(filter(c, true));
	say_answer("no more", c);
	say("accepted %d", accept(l, NULL, NULL) >= 0);
}

BEHAVIOUR_ALONE(option_filter_of_a_client)
{
	int c = tcp(0);
	(void)listener(0);
	DO(filter(c, false));
	say_answer("filtered", c);
}
