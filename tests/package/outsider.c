/* Uses the installed headers and library: its version, and a call that goes to the kernel. */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <flat/flat.h>
#include <flat/socket.h>

int main(void)
{
	char version[32];
	snprintf(version, sizeof(version), "%d.%d.%d", FLAT_VERSION_MAJOR, FLAT_VERSION_MINOR,
		 FLAT_VERSION_PATCH);
	if (strcmp(version, flat_version()) != 0) {
		fprintf(stderr, "headers say %s, the library %s\n", version, flat_version());
		return 1;
	}
	int fd = flat_socket(AF_UNIX, SOCK_STREAM, 0);
	if (fd < 0 || flat_close(fd) != 0) {
		perror("flat_socket");
		return 1;
	}
	if (flat_close(fd) != -1) {
		fprintf(stderr, "a closed descriptor was closed again\n");
		return 1;
	}
	puts(version);
	return 0;
}
