/* Tokens by rules: key sets that come, change and go, and what is remembered of tokens found good. */
#include <criterion/criterion.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "authn/authn.h"
#include "support_jwt.h"
#include "support_mesh.h"

#define NOW 1000

static socklen_t nowhere(void *arg, const char *host, uint16_t port, struct sockaddr_storage *addr)
{
	(void)arg;
	(void)host;
	(void)port;
	(void)addr;
	return 0;
}

/* A mesh of one rule: issuer i, audience a, and these keys or this place of them. */
static struct loaded mesh_of(const char *field, const char *value)
{
	static char yaml[8192];
	snprintf(yaml, sizeof(yaml),
		 "apiVersion: security.istio.io/v1\nkind: RequestAuthentication\n"
		 "metadata: {name: r, namespace: foo}\n"
		 "spec: {jwtRules: [{issuer: i, audiences: [a], %s: '%s'}]}\n",
		 field, value);
	return load_good(yaml);
}

static struct loaded mesh_with_key(const struct signer *s)
{
	char keys[4096];
	snprintf(keys, sizeof(keys), "{\"keys\":[%s]}", s->jwk);
	return mesh_of("jwks", keys);
}

static enum flat_jwt_status check(struct flat_authn *a, const struct loaded *l, const char *token,
				  int64_t now)
{
	struct flat_jwt *jwt;
	enum flat_jwt_status status =
	    flat_authn_check(a, flat_mesh_jwt_rule(l->mesh, 0), flat_span_of(token), now, &jwt);
	cr_expect_eq(status == FLAT_JWT_OK, jwt != NULL);
	flat_jwt_put(jwt);
	return status;
}

static char *token(const struct signer *s, const char *claims)
{
	return signed_token(s, "{\"alg\":\"ES256\",\"kid\":\"k\"}", claims);
}

Test(authn, remembers_tokens_found_good_and_no_others)
{
	struct signer s, other;
	struct flat_authn *a = flat_authn_new(nowhere, NULL);
	const struct flat_authn_stats *stats = flat_authn_stats(a);
	signer_init(&s, "ES256", "k");
	signer_init(&other, "ES256", "k");
	struct loaded l = mesh_with_key(&s);
	char *good = token(&s, "{\"iss\":\"i\",\"aud\":\"a\",\"exp\":2000}");
	char *forged = token(&other, "{\"iss\":\"i\",\"aud\":\"a\",\"exp\":2000}");
	char *elsewhere = token(&s, "{\"iss\":\"x\",\"aud\":\"a\"}");
	char *not_ours = token(&s, "{\"iss\":\"i\",\"aud\":\"b\"}");
	cr_assert_eq(flat_authn_reload(a, l.mesh), 0);
	cr_expect_eq(check(a, &l, good, NOW), FLAT_JWT_OK);
	cr_expect_eq(check(a, &l, good, NOW), FLAT_JWT_OK);
	cr_expect_eq(stats->verified, 1);
	cr_expect_eq(stats->cached, 1);
	/* Its time is looked at each time. */
	cr_expect_eq(check(a, &l, good, 2061), FLAT_JWT_EXPIRED);
	for (int i = 0; i < 2; i++) {
		cr_expect_eq(check(a, &l, forged, NOW), FLAT_JWT_VERIFICATION);
		cr_expect_eq(check(a, &l, elsewhere, NOW), FLAT_JWT_UNKNOWN_ISSUER);
		cr_expect_eq(check(a, &l, not_ours, NOW), FLAT_JWT_AUDIENCE);
		cr_expect_eq(check(a, &l, "x", NOW), FLAT_JWT_FORMAT);
	}
	cr_expect_eq(stats->verified, 3);
	/* The same keys in another configuration: still known. Other keys: not. */
	struct loaded same = mesh_with_key(&s);
	cr_assert_eq(flat_authn_reload(a, same.mesh), 0);
	cr_expect_eq(check(a, &same, good, NOW), FLAT_JWT_OK);
	cr_expect_eq(stats->verified, 3);
	struct loaded changed = mesh_with_key(&other);
	cr_assert_eq(flat_authn_reload(a, changed.mesh), 0);
	cr_expect_eq(check(a, &changed, good, NOW), FLAT_JWT_VERIFICATION);
	cr_expect_eq(check(a, &changed, forged, NOW), FLAT_JWT_OK);
	free(good);
	free(forged);
	free(elsewhere);
	free(not_ours);
	signer_fini(&s);
	signer_fini(&other);
	loaded_fini(&l);
	loaded_fini(&same);
	loaded_fini(&changed);
	flat_authn_free(a);
}

Test(authn, keeps_many_tokens_and_forgets_the_oldest)
{
	struct signer s;
	struct flat_authn *a = flat_authn_new(nowhere, NULL);
	signer_init(&s, "EdDSA", "k");
	struct loaded l = mesh_with_key(&s);
	cr_assert_eq(flat_authn_reload(a, l.mesh), 0);
	for (int i = 0; i < 3000; i++) {
		char claims[64];
		snprintf(claims, sizeof(claims), "{\"iss\":\"i\",\"aud\":\"a\",\"n\":%d}", i);
		char *t = signed_token(&s, "{\"alg\":\"EdDSA\"}", claims);
		cr_assert_eq(check(a, &l, t, NOW), FLAT_JWT_OK);
		cr_assert_eq(check(a, &l, t, NOW), FLAT_JWT_OK);
		free(t);
	}
	cr_expect_eq(flat_authn_stats(a)->verified, 3000);
	cr_expect_eq(flat_authn_stats(a)->cached, 3000);
	signer_fini(&s);
	loaded_fini(&l);
	flat_authn_free(a);
}

/* Until a fetch is over; false after ten seconds. */
static bool fetched(struct flat_authn *a)
{
	struct pollfd p = {.fd = flat_authn_fd(a), .events = POLLIN};
	if (poll(&p, 1, 10000) != 1)
		return false;
	flat_authn_turn(a);
	return true;
}

static void write_keys(const char *path, const struct signer *s)
{
	FILE *f = fopen(path, "w");
	cr_assert(f);
	fprintf(f, "{\"keys\":[%s]}", s->jwk);
	cr_assert_eq(fclose(f), 0);
}

Test(authn, fetches_keys_and_waits_for_them)
{
	struct signer s;
	struct flat_authn *a = flat_authn_new(nowhere, NULL);
	char path[64];
	char uri[80];
	signer_init(&s, "ES256", "k");
	snprintf(path, sizeof(path), "/tmp/flat-test-keys.%d", (int)getpid());
	snprintf(uri, sizeof(uri), "file://%s", path);
	write_keys(path, &s);
	char *good = token(&s, "{\"iss\":\"i\",\"aud\":\"a\"}");
	char *elsewhere = token(&s, "{\"iss\":\"x\"}");
	struct loaded l = mesh_of("jwksUri", uri);
	cr_assert_eq(flat_authn_reload(a, l.mesh), 0);
	cr_expect_eq(check(a, &l, good, NOW), FLAT_JWT_WAIT);
	cr_expect_eq(check(a, &l, elsewhere, NOW), FLAT_JWT_UNKNOWN_ISSUER,
		     "no keys are needed for it");
	cr_assert(fetched(a));
	cr_expect_eq(check(a, &l, good, NOW), FLAT_JWT_OK);
	unlink(path);
	/* Without it the tokens of a new configuration are refused. */
	snprintf(uri, sizeof(uri), "file://%s.none", path);
	struct loaded none = mesh_of("jwksUri", uri);
	cr_assert_eq(flat_authn_reload(a, none.mesh), 0);
	cr_expect_eq(check(a, &none, good, NOW), FLAT_JWT_WAIT);
	cr_assert(fetched(a));
	cr_expect_eq(check(a, &none, good, NOW), FLAT_JWT_FETCH);
	char text[256];
	flat_authn_describe(a, flat_mesh_jwt_rule(none.mesh, 0), text, sizeof(text));
	cr_expect(strstr(text, "No such file"), "%s", text);
	cr_expect_eq(flat_authn_stats(a)->fetched, 1);
	cr_expect_eq(flat_authn_stats(a)->fetch_failed, 1);
	/* A fetch that is on its way when its rule goes hurts nobody. */
	cr_assert_eq(flat_authn_reload(a, l.mesh), 0);
	cr_assert_eq(flat_authn_reload(a, none.mesh), 0);
	free(good);
	free(elsewhere);
	signer_fini(&s);
	loaded_fini(&l);
	loaded_fini(&none);
	flat_authn_free(a);
}
