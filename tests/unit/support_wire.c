#include "support_wire.h"

#include <criterion/criterion.h>
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "wire/ca.h"

void wire_folder_init(struct wire_folder *f, const char *domain)
{
	char why[600];
	snprintf(f->ca, sizeof(f->ca), "/tmp/flat-unit-ca.XXXXXX");
	snprintf(f->svids, sizeof(f->svids), "/tmp/flat-unit-svids.XXXXXX");
	cr_assert(mkdtemp(f->ca) && mkdtemp(f->svids));
	cr_assert_eq(flat_ca_init(f->ca, domain, why, sizeof(why)), 0, "%s", why);
	cr_assert_eq(flat_ca_issue(f->ca, f->svids, "flat-system", "flatd", 3600, why, sizeof(why)),
		     0, "%s", why);
	cr_assert_eq(flat_ca_issue(f->ca, f->svids, "a", "client", 3600, why, sizeof(why)), 0, "%s",
		     why);
	cr_assert_eq(flat_ca_issue(f->ca, f->svids, "a", "other", 3600, why, sizeof(why)), 0, "%s",
		     why);
}

static void remove_folder(const char *path)
{
	char file[600];
	DIR *dir = opendir(path);
	struct dirent *d;
	while (dir && (d = readdir(dir)) != NULL) {
		snprintf(file, sizeof(file), "%s/%s", path, d->d_name);
		(void)unlink(file);
	}
	if (dir)
		closedir(dir);
	(void)rmdir(path);
}

void wire_folder_fini(const struct wire_folder *f)
{
	remove_folder(f->ca);
	remove_folder(f->svids);
}

struct flat_svids *wire_load(const struct wire_folder *f)
{
	struct flat_svids *s = NULL;
	char why[600];
	cr_assert_eq(flat_svids_load(f->svids, &s, why, sizeof(why)), 0, "%s", why);
	return s;
}
