/* flatctl ca: certificates for trying things out. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cmd/flatctl.h"
#include "mesh/mesh.h"
#include "wire/ca.h"

#define HOURS_DEFAULT 24
#define HOURS_MAX (24 * 365)

static int init(const char *folder, const char *domain)
{
	char why[600];
	if (flat_ca_init(folder, domain, why, sizeof(why)) == 0)
		return CTL_OK;
	fprintf(stderr, "flatctl: %s\n", why);
	return CTL_FAILED;
}

static int issue(const char *folder, const char *out, const char *who, const char *hours_text)
{
	char namespace[256] = "flat-system";
	const char *account = who;
	const char *slash = strchr(who, '/');
	char *end = NULL;
	char why[600];
	double hours = hours_text ? strtod(hours_text, &end) : HOURS_DEFAULT;
	if (slash && (size_t)(slash - who) < sizeof(namespace)) {
		snprintf(namespace, sizeof(namespace), "%.*s", (int)(slash - who), who);
		account = slash + 1;
	} else if (strcmp(who, "flatd") != 0) {
		fprintf(stderr, "flatctl: %s: give NAMESPACE/ACCOUNT, or flatd\n", who);
		return CTL_USAGE;
	}
	if ((hours_text && (end == hours_text || *end)) || !(hours > 0) || hours > HOURS_MAX) {
		fprintf(stderr, "flatctl: %s: give hours, to %d\n", hours_text, HOURS_MAX);
		return CTL_USAGE;
	}
	if (flat_ca_issue(folder, out, namespace, account, (int64_t)(hours * 3600), why,
			  sizeof(why)) == 0)
		return CTL_OK;
	fprintf(stderr, "flatctl: %s\n", why);
	return CTL_FAILED;
}

int ctl_ca(char **words, size_t n)
{
	if ((n == 2 || n == 3) && strcmp(words[0], "init") == 0)
		return init(words[1], n == 3 ? words[2] : FLAT_TRUST_DOMAIN);
	if ((n == 4 || n == 5) && strcmp(words[0], "issue") == 0)
		return issue(words[1], words[2], words[3], n == 5 ? words[4] : NULL);
	fputs("usage: flatctl ca init DIR [DOMAIN]\n"
	      "       flatctl ca issue DIR OUT NAMESPACE/ACCOUNT|flatd [HOURS]\n",
	      stderr);
	return CTL_USAGE;
}
