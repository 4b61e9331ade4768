/* flat-parity: one behaviour by name, or the list of them. */
#include "parity.h"

extern const struct behaviour __start_behaviours[];
extern const struct behaviour __stop_behaviours[];

int main(int argc, char **argv)
{
	setvbuf(stdout, NULL, _IONBF, 0);
	for (const struct behaviour *b = __start_behaviours; b < __stop_behaviours; b++) {
		if (argc == 1) {
			printf("%s %s\n", b->name, b->way == PARITY_MESH ? "mesh" : "none");
		} else if (strcmp(argv[1], b->name) == 0) {
			b->run();
			say("end");
			return 0;
		}
	}
	if (argc > 1)
		fprintf(stderr, "flat-parity: no behaviour %s\n", argv[1]);
	return argc > 1;
}
