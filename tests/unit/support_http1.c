/* The same reader for unit tests, the fuzz target and the comparison with other parsers. */
#include "../http1/transcript.c" /* NOLINT(bugprone-suspicious-include) */
