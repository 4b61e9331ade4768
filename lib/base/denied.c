#include "base/denied.h"

#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include "base/sys.h"

static bool refuses(int root, const char *path, int mode)
{
	path += root != AT_FDCWD && path[0] == '/';
	long err = FLAT_SYS4(SYS_faccessat2, root, path, mode, AT_EACCESS);
	/* Before Linux 5.8. */
	if (err == -ENOSYS)
		err = FLAT_SYS3(SYS_faccessat, root, path, mode);
	return err == -EACCES;
}

bool flat_denied(int root, const char *path, char text[FLAT_DENIED_MAX])
{
	const unsigned int user = (unsigned int)FLAT_SYS0(SYS_geteuid);
	char part[256];
	for (size_t i = 0; path[i] && i < sizeof(part) - 1; i++) {
		part[i] = path[i];
		part[i + 1] = '\0';
		if (i == 0 || path[i] != '/' || !refuses(root, part, X_OK))
			continue;
		part[i] = '\0';
		snprintf(text, FLAT_DENIED_MAX,
			 "user %u may not enter the folder %s; let it (chmod o+x), or have flatd "
			 "listen elsewhere (--control) and say so in FLAT_CONTROL",
			 user, part);
		return true;
	}
	if (!refuses(root, path, W_OK))
		return false;
	snprintf(text, FLAT_DENIED_MAX,
		 "user %u may not write to the socket; let it (chmod o+w), as flatd does where it "
		 "makes it",
		 user);
	return true;
}
