/*
 * libc's stdio reads, writes and closes by functions of its own that no name reaches. Each FILE of a descriptor finds them in
 * a table of function pointers, _IO_file_jumps (glibc's ABI since 2.2.5); ours take their places there, and hand on what
 * is not flat. The table lies in memory that is read-only once libc is loaded: it is written to once, before main().
 *
 * Where the table is not what it is expected to be nothing is changed; then stdio over a flat socket is what any call is
 * that no hook sees.
 */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <link.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include <flat/socket.h>
#include <flat/unstable/preload.h>

#define EXPORT __attribute__((visibility("default")))

/* glibc, libio/libioP.h: struct _IO_jump_t has 21 members. */
#define ENTRIES 21

static ssize_t (*libc_read)(FILE *f, void *buf, ssize_t len);
static ssize_t (*libc_write)(FILE *f, const void *buf, ssize_t len);
static int (*libc_close)(FILE *f);

static int stream(int fd)
{
	enum flat_fd_kind kind = flat_fd_kind(fd);
	return kind == FLAT_FD_STREAM || kind == FLAT_FD_LISTENER;
}

static ssize_t file_read(FILE *f, void *buf, ssize_t len)
{
	if (!stream(f->_fileno))
		return libc_read(f, buf, len);
	pthread_testcancel();
	return flat_read(f->_fileno, buf, (size_t)len);
}

/* All of it, or an error seen: as _IO_new_file_write(). */
static ssize_t file_write(FILE *f, const void *buf, ssize_t len)
{
	ssize_t done = 0;
	if (!stream(f->_fileno))
		return libc_write(f, buf, len);
	pthread_testcancel();
	while (done < len) {
		ssize_t n = flat_write(f->_fileno, (const char *)buf + done, (size_t)(len - done));
		if (n < 0) {
			f->_flags |= _IO_ERR_SEEN;
			break;
		}
		done += n;
	}
	return done;
}

static int file_close(FILE *f)
{
	return flat_fd_kind(f->_fileno) == FLAT_FD_KERNEL ? libc_close(f) : flat_close(f->_fileno);
}

/*
 * From glibc 2.37 on dprintf() is no stream's: what it makes is written by a write() inside libc (libio/iovdprintf.c). As there,
 * a signal ends nothing, and what is written before an error is not counted.
 */
static int write_all(int fd, const char *text, int len)
{
	ssize_t done = 0;
	pthread_testcancel();
	while (done < len) {
		ssize_t n = flat_write(fd, text + done, (size_t)(len - done));
		if (n < 0 && errno != EINTR)
			return -1;
		done += n > 0 ? n : 0;
	}
	return len;
}

static int print(int fd, char *text, int len)
{
	int done;
	pthread_cleanup_push(free, text);
	done = write_all(fd, text, len);
	pthread_cleanup_pop(1);
	return done;
}

EXPORT int vdprintf(int fd, const char *format, va_list ap)
{
	static int (*real)(int, const char *, va_list);
	char *text;
	if (!real)
		*(void **)&real = dlsym(RTLD_NEXT, "vdprintf");
	if (!stream(fd))
		return real(fd, format, ap);
	int len = vasprintf(&text, format, ap);
	return len < 0 ? len : print(fd, text, len);
}

EXPORT int dprintf(int fd, const char *format, ...)
{
	va_list ap;
	va_start(ap, format);
	int n = vdprintf(fd, format, ap);
	va_end(ap);
	return n;
}

/* What they are called by in a program that was compiled with FORTIFY; no header of a program declares them. */
int __vasprintf_chk(char **text, int flag, const char *format, va_list ap);
int __vdprintf_chk(int fd, int flag, const char *format, va_list ap);
int __dprintf_chk(int fd, int flag, const char *format, ...);

EXPORT int __vdprintf_chk(int fd, int flag, const char *format, va_list ap)
{
	static int (*real)(int, int, const char *, va_list);
	char *text;
	if (!real)
		*(void **)&real = dlsym(RTLD_NEXT, "__vdprintf_chk");
	if (!stream(fd))
		return real(fd, flag, format, ap);
	int len = __vasprintf_chk(&text, flag, format, ap);
	return len < 0 ? len : print(fd, text, len);
}

EXPORT int __dprintf_chk(int fd, int flag, const char *format, ...)
{
	va_list ap;
	va_start(ap, format);
	int n = __vdprintf_chk(fd, flag, format, ap);
	va_end(ap);
	return n;
}

/*
 * Calls of libc that put another file under a number by a dup2() of their own: ours goes first, libc gets a stand-in. Its
 * end is sent now, and the number is the kernel's.
 */
static void stand_in(int fd)
{
	if (fd < 0 || !stream(fd))
		return;
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);
	if (null < 0)
		return;
	(void)flat_dup3(null, fd, 0);
	(void)flat_close(null);
}

EXPORT FILE *freopen(const char *path, const char *mode, FILE *f)
{
	static FILE *(*real)(const char *, const char *, FILE *);
	if (!real)
		*(void **)&real = dlsym(RTLD_NEXT, "freopen");
	/* Without a path it is the same file again, which a socket cannot be: it fails, and closes. */
	if (path && stream(fileno(f))) {
		(void)fflush(f);
		stand_in(fileno(f));
	}
	return real(path, mode, f);
}

EXPORT FILE *freopen64(const char *path, const char *mode, FILE *f)
{
	return freopen(path, mode, f);
}

EXPORT int daemon(int nochdir, int noclose)
{
	static int (*real)(int, int);
	if (!real)
		*(void **)&real = dlsym(RTLD_NEXT, "daemon");
	for (int fd = 0; fd <= 2 && !noclose; fd++)
		stand_in(fd);
	return real(nochdir, noclose);
}

/* Where libc was made read-only after it was loaded. */
struct relro {
	uintptr_t at; /* what is looked for */
	uintptr_t begin;
	uintptr_t end;
};

static int find_relro(struct dl_phdr_info *info, size_t size, void *arg)
{
	struct relro *r = arg;
	(void)size;
	for (size_t i = 0; i < info->dlpi_phnum; i++) {
		const ElfW(Phdr) *p = &info->dlpi_phdr[i];
		uintptr_t begin = info->dlpi_addr + p->p_vaddr;
		if (p->p_type != PT_GNU_RELRO || r->at < begin || r->at >= begin + p->p_memsz)
			continue;
		r->begin = begin;
		r->end = begin + p->p_memsz;
		return 1;
	}
	return 0;
}

/* Puts `by` where `old` stands in the table. */
static void put(void **table, const void *old, void *by)
{
	for (size_t i = 0; i < ENTRIES; i++) {
		if (table[i] == old)
			__atomic_store_n(&table[i], by, __ATOMIC_RELEASE);
	}
}

static int holds(void *const *table, const void *entry)
{
	int n = 0;
	for (size_t i = 0; i < ENTRIES; i++)
		n += table[i] == entry;
	return n == 1;
}

static void change(const char *name)
{
	void **table = dlsym(RTLD_DEFAULT, name);
	struct relro r = {.at = (uintptr_t)table};
	const uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
	if (!table || !holds(table, *(void **)&libc_read) || !holds(table, *(void **)&libc_write) ||
	    !holds(table, *(void **)&libc_close))
		return;
	bool sealed = dl_iterate_phdr(find_relro, &r) == 1;
	uintptr_t begin = r.at & ~(page - 1);
	size_t len = r.at + ENTRIES * sizeof(*table) - begin;
	if (sealed && (r.at + ENTRIES * sizeof(*table) > r.end ||
		       mprotect((void *)begin, len, PROT_READ | PROT_WRITE) != 0))
		return;
	put(table, *(void **)&libc_read, (void *)(uintptr_t)file_read);
	put(table, *(void **)&libc_write, (void *)(uintptr_t)file_write);
	put(table, *(void **)&libc_close, (void *)(uintptr_t)file_close);
	if (sealed)
		(void)mprotect((void *)begin, len, PROT_READ);
}

__attribute__((constructor)) static void take_tables(void)
{
	*(void **)&libc_read = dlsym(RTLD_NEXT, "_IO_file_read");
	*(void **)&libc_write = dlsym(RTLD_NEXT, "_IO_file_write");
	*(void **)&libc_close = dlsym(RTLD_NEXT, "_IO_file_close");
	if (!libc_read || !libc_write || !libc_close)
		return;
	change("_IO_file_jumps");
	change("_IO_wfile_jumps"); /* with a character set, fopen(3) */
}
