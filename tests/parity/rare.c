/* Options and requests that few programs use. */
#include <linux/fiemap.h>
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
