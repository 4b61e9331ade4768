/* flatctl ca: certificates for trying things out. */
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cmd/flatctl.h"
#include "mesh/mesh.h"
#include "wire/ca.h"
#include "wire/svid.h"

#define HOURS_DEFAULT 24
#define LIST_HOURS_DEFAULT (24 * 30)
#define HOURS_MAX (24 * 365)

static int init(const char *folder, const char *domain)
{
	char why[600];
	if (flat_ca_init(folder, domain, why, sizeof(why)) == 0)
		return CTL_OK;
	fprintf(stderr, "flatctl: %s\n", why);
	return CTL_FAILED;
}

/* False: it is no number of hours. */
static bool read_hours(const char *text, double otherwise, double *hours)
{
	char *end = NULL;
	*hours = text ? strtod(text, &end) : otherwise;
	if ((!text || (end != text && !*end)) && *hours > 0 && *hours <= HOURS_MAX)
		return true;
	fprintf(stderr, "flatctl: %s: give hours, to %d\n", text, HOURS_MAX);
	return false;
}

static int issue(const char *folder, const char *out, const char *who, const char *hours_text)
{
	char namespace[256] = "flat-system";
	const char *account = who;
	const char *slash = strchr(who, '/');
	char why[600];
	double hours;
	if (slash && (size_t)(slash - who) < sizeof(namespace)) {
		snprintf(namespace, sizeof(namespace), "%.*s", (int)(slash - who), who);
		account = slash + 1;
	} else if (strcmp(who, "flatd") != 0) {
		fprintf(stderr, "flatctl: %s: give NAMESPACE/ACCOUNT, or flatd\n", who);
		return CTL_USAGE;
	}
	if (!read_hours(hours_text, HOURS_DEFAULT, &hours))
		return CTL_USAGE;
	if (flat_ca_issue(folder, out, namespace, account, (int64_t)(hours * 3600), why,
			  sizeof(why)) == 0)
		return CTL_OK;
	fprintf(stderr, "flatctl: %s\n", why);
	return CTL_FAILED;
}

static int revoke_one(const char *folder, const char *out, const char *cert, const char *hours_text)
{
	char why[600];
	double hours;
	if (!read_hours(hours_text, LIST_HOURS_DEFAULT, &hours))
		return CTL_USAGE;
	if (flat_ca_revoke(folder, out, cert, (int64_t)(hours * 3600), why, sizeof(why)) == 0)
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
	if (n >= 3 && n <= 5 && strcmp(words[0], "revoke") == 0)
		return revoke_one(words[1], words[2], n >= 4 ? words[3] : NULL,
				  n == 5 ? words[4] : NULL);
	fputs("usage: flatctl ca init DIR [DOMAIN]\n"
	      "       flatctl ca issue DIR OUT NAMESPACE/ACCOUNT|flatd [HOURS]\n"
	      "       flatctl ca revoke DIR OUT [CERTIFICATE [HOURS]]\n",
	      stderr);
	return CTL_USAGE;
}

int ctl_check_svids(const char *folder)
{
	struct flat_svids *set = NULL;
	struct flat_strbuf text = {0};
	char why[600];
	if (flat_svids_load(folder, &set, why, sizeof(why)) != 0) {
		printf("error: %s\n", why);
		return CTL_FAILED;
	}
	flat_svids_show(set, &text);
	if (text.len > 0)
		fwrite(text.data, 1, text.len, stdout);
	flat_strbuf_fini(&text);
	flat_svids_put(set);
	return CTL_OK;
}
