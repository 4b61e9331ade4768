#include "control/files.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/strbuf.h"
#include "control/limits.h"

struct reading {
	struct flat_diags *diags;
	const struct config_file_reader *reader;
	struct flat_strbuf text; /* of one file */
	struct flat_strbuf path; /* likewise, of a folder */
	bool foreign;		 /* a file was met that is another user's */
	size_t total_bytes;
	unsigned n_files;
};

/* Where a file is: a long way is gone once for all of a folder. */
struct place {
	const char *path; /* for people, and for the cache */
	int folder;	  /* AT_FDCWD: none */
	const char *name; /* there */
};

static void complain(struct reading *r, const char *path, enum flat_diag_code code,
		     const char *todo, const char *what)
{
	struct flat_where where = {.file = path};

	flat_diags_add(r->diags, FLAT_SEVERITY_ERROR, code, &where, NULL, todo, "%s", what);
}

static void complain_errno(struct reading *r, const char *path, int err)
{
	char what[160];

	(void)snprintf(what, sizeof(what), "cannot be read: %s", strerror(err));
	complain(r, path, FLAT_DIAG_SYNTAX,
		 err == ENOENT ? "correct the path" : "check its permissions", what);
}

bool config_file_wanted(const char *name)
{
	static const char *const ends[] = {".yaml", ".yml", ".json"};
	size_t len = strlen(name), i;

	if (name[0] == '.')
		return false;
	for (i = 0; i < FLAT_ARRAY_SIZE(ends); i++) {
		size_t n = strlen(ends[i]);

		if (len > n && strcmp(name + len - n, ends[i]) == 0)
			return true;
	}
	return false;
}

/*
 * Reads all of `fd`, of so many bytes as fstat() says, into `text`, up to one byte more than a file may have. 0 or negative errno.
 * Who says that there is nothing may not know (procfs); what is added meanwhile is told of by its writer's close.
 */
static int read_all(int fd, off_t size, struct flat_strbuf *text)
{
	char buf[65536];
	ssize_t n;

	while (text->len <= FLAT_CONFIG_FILE_BYTES_MAX) {
		n = read(fd, buf, sizeof(buf));
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			break;
		flat_strbuf_add(text, buf, (size_t)n);
		if (text->failed)
			return -ENOMEM;
		if (size > 0 && text->len == (size_t)size)
			break;
	}
	return 0;
}

static int check_bounds(struct reading *r, const char *path, size_t len)
{
	r->total_bytes += len;
	r->n_files++;
	if (len > FLAT_CONFIG_FILE_BYTES_MAX)
		complain(r, path, FLAT_DIAG_LIMIT, "split it", "the file is larger than 64 MiB");
	else if (r->total_bytes > FLAT_CONFIG_TOTAL_BYTES_MAX)
		complain(r, path, FLAT_DIAG_LIMIT, "remove what does not belong there",
			 "the files together are larger than 256 MiB");
	else if (r->n_files > FLAT_CONFIG_FILES_MAX)
		complain(r, path, FLAT_DIAG_LIMIT, "remove what does not belong there",
			 "there are more than 50,000 files");
	else
		return 0;
	return -EFBIG;
}

/* A file of which nothing new is to be read. */
static bool is_known(const struct reading *r, const struct place *at, struct stat *st)
{
	const struct config_file_reader *reader = r->reader;

	return reader->known && fstatat(at->folder, at->name, st, 0) == 0 && S_ISREG(st->st_mode) &&
	       reader->known(reader->arg, at->path, st);
}

/*
 * Not blocking: the open of a FIFO would wait for a writer. The time of reading is not kept, which would be written to each file's
 * inode; that is its owner's to say, and CAP_FOWNER's (open(2)).
 */
static int open_file(struct reading *r, const struct place *at)
{
	const int flags = O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY;

	if (!r->foreign) {
		int fd = openat(at->folder, at->name, flags | O_NOATIME);
		if (fd >= 0 || errno != EPERM)
			return fd;
		r->foreign = true;
	}
	return openat(at->folder, at->name, flags);
}

static int read_one(struct reading *r, const struct place *at)
{
	const char *path = at->path;
	const char *str;
	struct stat st;
	int ret, fd;

	if (is_known(r, at, &st))
		return check_bounds(r, path, (size_t)st.st_size)
			   ? 0
			   : r->reader->read(r->reader->arg, path, &st, NULL, 0);
	fd = open_file(r, at);
	if (fd < 0) {
		if (errno == ENOMEM)
			return -ENOMEM;
		complain_errno(r, path, errno);
		return 0;
	}
	ret = fstat(fd, &st) ? -errno : 0;
	if (!ret && !S_ISREG(st.st_mode)) {
		complain(r, path, FLAT_DIAG_SYNTAX, "name a file or a folder of files",
			 "not a regular file");
		goto out;
	}
	flat_strbuf_reset(&r->text);
	if (!ret)
		ret = read_all(fd, st.st_size, &r->text);
	if (ret == -ENOMEM)
		goto out;
	if (ret) {
		complain_errno(r, path, -ret);
		ret = 0;
		goto out;
	}
	str = flat_strbuf_str(&r->text);
	if (check_bounds(r, path, r->text.len) == 0)
		ret = r->reader->read(r->reader->arg, path, &st, str, r->text.len);
out:
	close(fd);
	return ret;
}

static int name_wanted(const struct dirent *entry)
{
	return config_file_wanted(entry->d_name);
}

/* Order of bytes: the same in every locale. */
static int name_cmp(const struct dirent **a, const struct dirent **b)
{
	return strcmp((*a)->d_name, (*b)->d_name);
}

static int read_entry(struct reading *r, const char *path, int folder, const char *name)
{
	struct place at = {.folder = folder, .name = name};
	size_t len = strlen(path);

	flat_strbuf_reset(&r->path);
	flat_strbuf_add(&r->path, path, len);
	if (len == 0 || path[len - 1] != '/')
		flat_strbuf_puts(&r->path, "/");
	flat_strbuf_puts(&r->path, name);
	at.path = flat_strbuf_str(&r->path);
	return at.path ? read_one(r, &at) : -ENOMEM;
}

static int read_folder(struct reading *r, const char *path)
{
	struct dirent **names = NULL;
	int folder = open(path, O_RDONLY | O_CLOEXEC | O_DIRECTORY), i, ret = 0;
	int n = folder < 0 ? -1 : scandirat(folder, ".", &names, name_wanted, name_cmp);

	if (n < 0 && errno == ENOMEM)
		ret = -ENOMEM;
	else if (n < 0)
		complain_errno(r, path, errno);
	for (i = 0; i < n; i++) {
		if (!ret)
			ret = read_entry(r, path, folder, names[i]->d_name);
		free(names[i]);
	}
	free(names);
	if (folder >= 0)
		close(folder);
	return ret;
}

int config_files_read(const char *const *paths, size_t n_paths, struct flat_diags *diags,
		      const struct config_file_reader *reader)
{
	struct reading r = {.diags = diags, .reader = reader};
	struct stat st;
	size_t i;
	int ret = 0;

	for (i = 0; i < n_paths && !ret; i++) {
		const struct place at = {.path = paths[i], .folder = AT_FDCWD, .name = paths[i]};

		if (stat(paths[i], &st)) {
			complain_errno(&r, paths[i], errno);
			continue;
		}
		if (S_ISDIR(st.st_mode))
			ret = read_folder(&r, paths[i]);
		else
			ret = read_one(&r, &at);
	}
	flat_strbuf_fini(&r.text);
	flat_strbuf_fini(&r.path);
	return ret;
}
