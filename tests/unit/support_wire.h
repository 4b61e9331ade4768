/* Identities for tests of the wire, made anew in a folder. */
#ifndef FLAT_TESTS_SUPPORT_WIRE_H
#define FLAT_TESTS_SUPPORT_WIRE_H

#include "wire/svid.h"

/** A folder of the test's own; removed with wire_folder_fini(). */
struct wire_folder {
	char ca[64];
	char svids[64];
};

/** A CA for `domain`, and SVIDs of it for flatd, a/client and a/other. */
void wire_folder_init(struct wire_folder *f, const char *domain);
void wire_folder_fini(const struct wire_folder *f);

/** What was loaded; the test fails if it cannot be. */
struct flat_svids *wire_load(const struct wire_folder *f);

#endif
