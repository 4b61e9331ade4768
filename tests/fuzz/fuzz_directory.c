/*
 * Any bytes as the tables of the directory: the reader answers within its bounds and comes to an end. The bytes lie where the
 * offload half would write; a reader trusts the length of the mapping alone.
 */
#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/sys.h"
#include "mesh/directory.h"

#define TABLE 4096U
#define WHOLE (sizeof(struct flat_directory_header) + 2 * (size_t)TABLE)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static uint8_t *map;
static struct flat_directory dir;

static void require(bool ok)
{
	if (!ok)
		abort();
}

static void make(void)
{
	struct flat_directory_header header = {
	    .magic = FLAT_DIRECTORY_MAGIC, .version = FLAT_DIRECTORY_VERSION, .table_bytes = TABLE};
	int fd = flat_sys_memfd("fuzz");
	require(fd >= 0 && ftruncate(fd, (off_t)WHOLE) == 0);
	map = mmap(NULL, WHOLE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	require(map != MAP_FAILED);
	memcpy(map, &header, sizeof(header));
	require(fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW) == 0);
	require(flat_directory_map(&dir, fd, WHOLE) == 0);
	close(fd);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct flat_addr addr = {.family = AF_INET, .port = 80, .ip = {10, 0, 0, 1}};
	struct flat_addr got;
	char host[64];
	char name[128];
	if (!map)
		make();
	size_t n = flat_min_size(size, 2 * (size_t)TABLE);
	memset(map + sizeof(struct flat_directory_header), 0, 2 * (size_t)TABLE);
	memcpy(map + sizeof(struct flat_directory_header), data, n);
	enum flat_directory_kind kind = flat_directory_find_addr(&dir, &addr);
	require(kind == FLAT_DIRECTORY_NONE || kind == FLAT_DIRECTORY_SERVICE ||
		kind == FLAT_DIRECTORY_LISTENER);
	int err = flat_directory_find_host(&dir, &addr, host, sizeof(host));
	require(err <= 0 && (err != 0 || strnlen(host, sizeof(host)) < sizeof(host)));
	(void)!flat_directory_find_name(&dir, "a.example", &got);
	/* A name out of the input itself, so that it may be found. */
	size_t len = flat_min_size(size, sizeof(name) - 1);
	memcpy(name, data, len);
	name[len] = 0;
	err = flat_directory_find_name(&dir, name, &got);
	require(err <= 0 || err == FLAT_DIRECTORY_VEILED);
	return 0;
}
