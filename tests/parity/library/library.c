/* What behaviours of mixed.c load at run time. One build of it is bound lazily, one at once (and sealed then). */
#include <dlfcn.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

int library_echo(int fd);
int library_opens(const char *name, int mode);

/* An address in the library's data is another kind of reference than a call. */
extern ssize_t (*library_writes)(int fd, const void *bytes, size_t len);
ssize_t (*library_writes)(int fd, const void *bytes, size_t len) = write;

/* Waits for bytes and sends them back. How many. */
int library_echo(int fd)
{
	char bytes[64];
	struct pollfd p = {.fd = fd, .events = POLLIN};
	if (poll(&p, 1, 3000) != 1)
		return -1;
	ssize_t n = recv(fd, bytes, sizeof(bytes), 0);
	return n > 0 ? (int)library_writes(fd, bytes, (size_t)n) : -2;
}

/* By this library's RUNPATH, which the program has not got. */
int library_opens(const char *name, int mode)
{
	void *handle = dlopen(name, mode);
	if (handle)
		dlclose(handle);
	return handle != NULL;
}
