/* What flatctl peers and metrics say of other hosts: of a link that is open, one that shakes hands, one whose peer is revoked. */
#include <criterion/criterion.h>
#include <string.h>
#include <unistd.h>

#include "base/json_read.h"
#include "offload/peers.h"
#include "support_peers.h"

TestSuite(peers_show, .init = peers_setup, .fini = peers_teardown, .timeout = 120);

static void expect(struct flat_strbuf *out, const char *want)
{
	const char *text = flat_strbuf_str(out);

	cr_expect(text && strstr(text, want), "no '%s' in:\n%s", want, text);
}

static struct flat_strbuf answer(bool json)
{
	struct flat_strbuf out = {0};

	flat_admin_peers(&peers_half, json, &out);
	return out;
}

static struct flat_strbuf metrics(void)
{
	struct flat_strbuf out = {0};

	flat_peers_metrics(&peers_half, &out);
	return out;
}

static void ask(struct peers_client *c, size_t n)
{
	struct wire_end e;

	peers_ask_many(c, n, &e);
	for (int i = 0; i < 10000 && peers_server_side(c)->stats.refused < n; i++)
		peers_pump(c);
}

Test(peers_show, links_are_told_with_who_is_at_their_other_end)
{
	struct peers_client c = peers_greet("d/ns/a/sa/client", 2);
	int quiet = peers_come_from(3);
	struct flat_strbuf out;

	ask(&c, 3);
	peers_turn();
	out = answer(false);
	expect(&out, "from 127.0.0.2:");
	expect(&out, " open: spiffe://d/ns/a/sa/client, as spiffe://d/ns/flat-system/sa/flatd, ");
	expect(&out, "TLSv1.3 over tcp (");
	expect(&out, "from 127.0.0.3:");
	expect(&out, " handshake\n");
	flat_strbuf_fini(&out);
	out = metrics();
	expect(&out, "\nflat_wire_links 1\n");
	expect(&out, "\nflat_wire_hbone_links 0\n");
	expect(&out, "\nflat_wire_streams_refused_total 3\n");
	expect(&out, "\nflat_wire_revoked_certificates 0\n");
	expect(&out, "\nflat_wire_first_list_end_seconds 0\n");
	flat_strbuf_fini(&out);
	peers_leave(&c);
	close(quiet);
}

Test(peers_show, json_says_the_same)
{
	struct peers_client c = peers_greet("d/ns/a/sa/client", 2);
	struct flat_pool pool = {.limit_bytes = 1 << 20};
	const struct flat_json_node *doc, *peer;
	struct flat_strbuf out;
	double number = -1;

	ask(&c, 2);
	out = answer(true);
	cr_assert_eq(flat_json_read(out.data, out.len, &pool, &doc), 0, "%s", out.data);
	cr_assert_not_null(flat_json_member(doc, "identities")->first);
	peer = flat_json_member(doc, "peers")->first;
	cr_assert_not_null(peer);
	cr_expect_str_eq(flat_json_member_text(peer, "direction"), "in");
	cr_expect_str_eq(flat_json_member_text(peer, "state"), "open");
	cr_expect_str_eq(flat_json_member_text(peer, "protocol"), "flat/1");
	cr_expect_str_eq(flat_json_member_text(peer, "peer_id"), "spiffe://d/ns/a/sa/client");
	cr_expect_str_eq(flat_json_member_text(peer, "tls"), "TLSv1.3");
	cr_assert(flat_json_number(flat_json_member(peer, "refused"), &number));
	cr_expect_eq(number, 2);
	cr_assert(flat_json_number(flat_json_member(peer, "peer_expires"), &number));
	cr_expect_gt(number, 0);
	flat_pool_fini(&pool);
	flat_strbuf_fini(&out);
	peers_leave(&c);
}

Test(peers_show, what_ended_is_counted_still_and_revocations_are_told)
{
	struct peers_client c = peers_greet("d/ns/a/sa/client", 2);
	struct flat_pool pool = {.limit_bytes = 1 << 20};
	const struct flat_json_node *doc, *peer, *list;
	struct flat_strbuf out;
	double number = 0;

	ask(&c, 2);
	peers_revoke_client(3600);
	for (int i = 0; i < 10000 && !c.over; i++)
		peers_pump(&c);
	out = metrics();
	expect(&out, "\nflat_wire_links 0\n");
	expect(&out, "\nflat_wire_streams_refused_total 2\n");
	expect(&out, "\nflat_wire_revoked_certificates 1\n");
	expect(&out, "\nflat_wire_list_end_seconds{trust_domain=\"d\"} ");
	expect(&out, "\nflat_wire_rotations_total 1\n");
	flat_strbuf_fini(&out);
	out = answer(true);
	cr_assert_eq(flat_json_read(out.data, out.len, &pool, &doc), 0, "%s", out.data);
	peer = flat_json_member(doc, "peers")->first;
	cr_expect(!peer || strcmp(flat_json_member_text(peer, "state"), "ending") == 0, "%s",
		  out.data);
	list = flat_json_member(doc, "revocation_lists")->first;
	cr_assert_not_null(list);
	cr_expect_str_eq(flat_json_member_text(list, "trust_domain"), "d");
	cr_assert(flat_json_number(flat_json_member(list, "revoked"), &number));
	cr_expect_eq(number, 1);
	flat_pool_fini(&pool);
	flat_strbuf_fini(&out);
	peers_leave(&c);
}

Test(peers_show, without_other_hosts_it_says_so)
{
	struct flat_peers *all = peers_half.peers;
	struct flat_strbuf out;

	peers_half.peers = NULL;
	out = answer(false);
	cr_expect_str_eq(out.data, "flatd runs without --svids: no other hosts\n");
	flat_strbuf_fini(&out);
	out = metrics();
	cr_expect_eq(out.len, 0);
	peers_half.peers = all;
}
