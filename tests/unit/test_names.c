/* Endpoints by name: who is asked for, what is told, and what stays. Names are numbers here: no server is asked. */
#include <criterion/criterion.h>
#include <poll.h>

#include "control/names.h"

#define COMES_MS 10000

static bool told(struct flat_names *names, int ms)
{
	struct pollfd p = {.fd = flat_names_fd(names), .events = POLLIN};

	return poll(&p, 1, ms) == 1 && flat_names_changed(names);
}

static struct flat_names *opened(void)
{
	struct flat_names *names = NULL;

	cr_assert_eq(flat_names_open(&names), 0);
	return names;
}

Test(names, an_answer_is_told_once)
{
	struct flat_names *names = opened();
	struct flat_ip v[FLAT_NAME_ADDRS_MAX];

	flat_names_begin(names);
	cr_expect_eq(flat_names_get(names, "127.0.0.7", v), 0, "nobody was asked yet");
	flat_names_settle(names, 0);
	cr_expect(told(names, COMES_MS));
	cr_expect_not(flat_names_changed(names));
	flat_names_begin(names);
	cr_assert_eq(flat_names_get(names, "127.0.0.7", v), 1);
	cr_expect_eq(v[0].family, AF_INET);
	cr_expect_eq(v[0].bytes[3], 7);
	flat_names_settle(names, 0);
	flat_names_close(names);
}

Test(names, waiting_ends_with_the_answers)
{
	struct flat_names *names = opened();
	struct flat_ip v[FLAT_NAME_ADDRS_MAX];

	flat_names_begin(names);
	(void)!flat_names_get(names, "127.0.0.1", v);
	(void)!flat_names_get(names, "127.0.0.2", v);
	flat_names_settle(names, 0);
	flat_names_wait(names, COMES_MS);
	cr_expect_eq(flat_names_get(names, "127.0.0.1", v), 1);
	cr_expect_eq(flat_names_get(names, "127.0.0.2", v), 1);
	flat_names_close(names);
}

Test(names, what_no_load_speaks_of_is_not_waited_for)
{
	struct flat_names *names = opened();
	struct flat_ip v[FLAT_NAME_ADDRS_MAX];

	flat_names_begin(names);
	(void)!flat_names_get(names, "127.0.0.1", v);
	flat_names_begin(names);
	(void)!flat_names_get(names, "127.0.0.2", v);
	flat_names_settle(names, 0);
	flat_names_wait(names, COMES_MS);
	cr_expect_eq(flat_names_get(names, "127.0.0.2", v), 1);
	/* Asked for again, it is answered again. */
	flat_names_begin(names);
	(void)!flat_names_get(names, "127.0.0.1", v);
	flat_names_settle(names, 0);
	flat_names_wait(names, COMES_MS);
	cr_expect_eq(flat_names_get(names, "127.0.0.1", v), 1);
	flat_names_close(names);
}

Test(names, none_to_ask_for)
{
	struct flat_names *names = opened();

	flat_names_begin(names);
	flat_names_settle(names, 0);
	flat_names_wait(names, COMES_MS);
	cr_expect_not(flat_names_changed(names));
	flat_names_close(names);
	flat_names_close(NULL);
}
