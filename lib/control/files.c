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
	size_t total_bytes;
	unsigned n_files;
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
static bool is_known(const struct reading *r, const char *path, struct stat *st)
{
	const struct config_file_reader *reader = r->reader;

	return reader->known && stat(path, st) == 0 && S_ISREG(st->st_mode) &&
	       reader->known(reader->arg, path, st);
}

static int read_one(struct reading *r, const char *path)
{
	struct flat_strbuf text = {0};
	const char *str;
	struct stat st;
	int ret, fd;

	if (is_known(r, path, &st))
		return check_bounds(r, path, (size_t)st.st_size)
			   ? 0
			   : r->reader->read(r->reader->arg, path, &st, NULL, 0);
	/* Not blocking: the open of a FIFO would wait for a writer. */
	fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
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
	if (!ret)
		ret = read_all(fd, st.st_size, &text);
	if (ret == -ENOMEM)
		goto out;
	if (ret) {
		complain_errno(r, path, -ret);
		ret = 0;
		goto out;
	}
	str = flat_strbuf_str(&text);
	if (check_bounds(r, path, text.len) == 0)
		ret = r->reader->read(r->reader->arg, path, &st, str, text.len);
out:
	flat_strbuf_fini(&text);
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

static int read_folder(struct reading *r, const char *path)
{
	struct dirent **names = NULL;
	int n = scandir(path, &names, name_wanted, name_cmp), i, ret = 0;

	if (n < 0) {
		if (errno == ENOMEM)
			return -ENOMEM;
		complain_errno(r, path, errno);
		return 0;
	}
	for (i = 0; i < n; i++) {
		size_t len = strlen(path);
		struct flat_strbuf file = {0};
		const char *str;

		if (!ret) {
			flat_strbuf_printf(&file, "%s%s%s", path,
					   len && path[len - 1] == '/' ? "" : "/",
					   names[i]->d_name);
			str = flat_strbuf_str(&file);
			ret = str ? read_one(r, str) : -ENOMEM;
			flat_strbuf_fini(&file);
		}
		free(names[i]);
	}
	free(names);
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
		if (stat(paths[i], &st)) {
			complain_errno(&r, paths[i], errno);
			continue;
		}
		if (S_ISDIR(st.st_mode))
			ret = read_folder(&r, paths[i]);
		else
			ret = read_one(&r, paths[i]);
	}
	return ret;
}
