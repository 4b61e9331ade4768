/* Forwarding between two applications played by the test, and between one and a kernel socket or a tube; at a worker too. */
#include <criterion/criterion.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "offload/rest.h"
#include "offload/worker.h"

/* An application's side: its queue, and both ends of its anchor. */
struct app {
	struct flat_lane lane;
	struct flat_vq vq;
	int near;
	int far;
};

static struct app client;
static struct app server;
static struct flat_pipe *pipe_;
static uint8_t scratch[FLAT_PIPE_CHUNK];
static uint8_t sent[3 << 20];
static uint8_t got[3 << 20];

static void app_open(struct app *a, enum flat_side side)
{
	struct flat_lane_geometry geo = {4, 4096, 65536};
	int fd = flat_lane_create(&geo, 1);
	int fds[2];
	cr_assert_geq(fd, 0);
	cr_assert_eq(flat_lane_map(&a->lane, fd, &geo, 1), 0);
	close(fd);
	flat_lane_slot_reset(&a->lane, 0);
	cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
	a->near = fds[0];
	a->far = fds[1];
	flat_vq_init(&a->vq, &flat_vq_shm, &a->lane, 0, side, a->near, a->near);
}

static void setup(void)
{
	app_open(&client, FLAT_SIDE_CLIENT);
	app_open(&server, FLAT_SIDE_SERVER);
	pipe_ = calloc(1, sizeof(*pipe_));
	flat_pipe_lane(pipe_, 0, &client.lane, 0, client.far);
	flat_pipe_lane(pipe_, 1, &server.lane, 0, server.far);
	srand(7);
	for (size_t i = 0; i < sizeof(sent); i++)
		sent[i] = (uint8_t)rand();
}

TestSuite(pipe, .init = setup, .timeout = 60);

static size_t pump(void)
{
	return flat_pipe_pump(pipe_, scratch, FLAT_PIPE_CHUNK);
}

static size_t app_send(struct app *a, const uint8_t *from, size_t len)
{
	ssize_t n = flat_ring_write(&a->vq.tx, from, len);
	cr_assert_geq(n, 0);
	flat_vq_notify_data(&a->vq);
	return (size_t)n;
}

static size_t app_recv(struct app *a, uint8_t *to, size_t len)
{
	ssize_t n = flat_ring_read(&a->vq.rx, to, len, 1);
	cr_assert_geq(n, 0);
	flat_vq_notify_room(&a->vq);
	return (size_t)n;
}

Test(pipe, carries_every_byte_in_order_whatever_the_sizes)
{
	size_t in = 0;
	size_t out = 0;
	while (out < sizeof(sent)) {
		size_t want = (size_t)rand() % (in % 3 ? 200 : 100000) + 1;
		if (in < sizeof(sent))
			in += app_send(&client, sent + in,
				       want < sizeof(sent) - in ? want : sizeof(sent) - in);
		(void)pump();
		out += app_recv(&server, got + out, (size_t)rand() % 70000);
	}
	cr_assert_eq(memcmp(sent, got, sizeof(sent)), 0);
	cr_assert_eq(pipe_->end[0].bytes, sizeof(sent));
	cr_assert_eq(pipe_->end[1].bytes, 0);
}

Test(pipe, takes_no_more_than_the_reader_has_room_for)
{
	size_t in = 0;
	for (int i = 0; i < 100; i++) {
		in += app_send(&client, sent + in, 50000);
		(void)pump();
	}
	/* Two small and two bulk rings at the most: nothing is kept between. */
	cr_assert_leq(in, 2 * (4096 + 65536));
	cr_assert_eq(pump(), 0);
	cr_assert(pipe_->end[1].full);
	cr_assert_gt(app_recv(&server, got, 60000), 0);
	cr_assert_gt(pump(), 0);
}

Test(pipe, a_half_close_comes_after_the_last_byte)
{
	(void)app_send(&client, sent, 5);
	flat_vq_end_tx(&client.vq, FLAT_PROD_FIN);
	(void)pump();
	cr_assert_eq(app_recv(&server, got, 100), 5);
	(void)pump();
	cr_assert_eq(flat_vq_peer_prod_flags(&server.vq), FLAT_PROD_FIN);
	(void)app_send(&server, sent, 7);
	(void)pump();
	cr_assert_eq(app_recv(&client, got, 100), 7);
	cr_assert_eq(flat_vq_peer_prod_flags(&client.vq), 0);
}

Test(pipe, a_reset_goes_through)
{
	flat_vq_end_tx(&client.vq, FLAT_PROD_RST);
	(void)pump();
	cr_assert(flat_vq_peer_prod_flags(&server.vq) & FLAT_PROD_RST);
	cr_assert(flat_vq_peer_cons_flags(&server.vq) & FLAT_CONS_CLOSED);
}

Test(pipe, who_sends_to_one_that_closed_is_reset)
{
	flat_vq_end_rx(&server.vq, FLAT_CONS_CLOSED);
	(void)app_send(&client, sent, 5);
	(void)pump();
	cr_assert(flat_vq_peer_prod_flags(&client.vq) & FLAT_PROD_RST);
}

Test(pipe, who_sends_to_one_that_closed_after_its_fin_is_reset)
{
	flat_vq_end_tx(&client.vq, FLAT_PROD_FIN);
	(void)pump();
	cr_assert_eq(flat_vq_peer_prod_flags(&server.vq), FLAT_PROD_FIN);
	cr_assert_eq(flat_vq_peer_cons_flags(&server.vq), 0);
	flat_vq_end_rx(&client.vq, FLAT_CONS_CLOSED);
	(void)app_send(&server, sent, 5);
	(void)pump();
	cr_assert(flat_vq_peer_prod_flags(&server.vq) & FLAT_PROD_RST);
	cr_assert(flat_vq_peer_cons_flags(&server.vq) & FLAT_CONS_CLOSED);
}

static void shut_both(struct app *a)
{
	flat_vq_end_rx(&a->vq, FLAT_CONS_SHUT);
	flat_vq_end_tx(&a->vq, FLAT_PROD_FIN);
}

Test(pipe, bytes_for_one_that_shut_both_ways_reset_both_ends)
{
	shut_both(&server);
	(void)app_send(&client, sent, 5);
	(void)pump();
	/* EPIPE of the sender: the end came first. */
	cr_assert_eq(flat_vq_peer_prod_flags(&client.vq), FLAT_PROD_FIN | FLAT_PROD_RST);
	cr_assert(flat_vq_peer_cons_flags(&client.vq) & FLAT_CONS_CLOSED);
	cr_assert_eq(flat_vq_peer_prod_flags(&server.vq), FLAT_PROD_RST);
	cr_assert_eq(app_recv(&server, got, 100), 0);
}

Test(pipe, that_it_shut_both_ways_is_told_and_the_reset_of_who_sends_then_goes_through)
{
	shut_both(&server);
	(void)pump();
	cr_assert_eq(flat_vq_peer_prod_flags(&client.vq), FLAT_PROD_FIN);
	cr_assert_eq(flat_vq_peer_deaf(&client.vq), FLAT_DEAF_GONE);
	flat_vq_end_tx(&client.vq, FLAT_PROD_RST);
	(void)pump();
	cr_assert_eq(flat_vq_peer_prod_flags(&server.vq), FLAT_PROD_RST);
}

Test(pipe, one_that_shut_for_reading_alone_goes_on_receiving)
{
	flat_vq_end_rx(&server.vq, FLAT_CONS_SHUT);
	(void)app_send(&client, sent, 5);
	(void)pump();
	cr_assert_eq(app_recv(&server, got, 100), 5);
	cr_assert_eq(flat_vq_peer_prod_flags(&client.vq), 0);
}

Test(pipe, one_that_shut_both_ways_with_no_room_resets_when_it_takes_some)
{
	size_t in = 0;
	for (int i = 0; i < 100; i++) {
		in += app_send(&client, sent + in, 50000);
		(void)pump();
	}
	cr_assert_gt(flat_ring_unsent(&client.vq.tx), 0);
	shut_both(&server);
	(void)pump();
	cr_assert_eq(flat_vq_peer_prod_flags(&client.vq), FLAT_PROD_FIN);
	cr_assert_eq(flat_vq_peer_prod_flags(&server.vq), 0);
	cr_assert_gt(app_recv(&server, got, sizeof(got)), 0);
	(void)pump();
	cr_assert(flat_vq_peer_prod_flags(&client.vq) & FLAT_PROD_RST);
	cr_assert_eq(flat_vq_peer_prod_flags(&server.vq), FLAT_PROD_RST);
}

Test(pipe, that_it_was_closed_is_told_behind_the_last_byte)
{
	size_t in = app_send(&client, sent, 60000);
	in += app_send(&client, sent + in, 60000);
	(void)pump();
	in += app_send(&client, sent + in, 60000);
	flat_vq_end_tx(&client.vq, FLAT_PROD_FIN);
	flat_vq_end_rx(&client.vq, FLAT_CONS_CLOSED);
	size_t out = 0;
	while (out < in) {
		(void)pump();
		cr_assert(flat_vq_peer_cons_flags(&server.vq) == 0 ||
			  flat_vq_peer_prod_flags(&server.vq) == FLAT_PROD_FIN);
		out += app_recv(&server, got + out, 30000);
	}
	(void)pump();
	cr_assert_eq(flat_vq_peer_prod_flags(&server.vq), FLAT_PROD_FIN);
	cr_assert_eq(flat_vq_peer_cons_flags(&server.vq), FLAT_CONS_CLOSED);
}

Test(pipe, a_reset_after_a_fin_goes_through)
{
	flat_vq_end_tx(&client.vq, FLAT_PROD_FIN);
	(void)pump();
	flat_vq_end_tx(&client.vq, FLAT_PROD_RST);
	(void)pump();
	cr_assert_eq(flat_vq_peer_prod_flags(&server.vq), FLAT_PROD_FIN | FLAT_PROD_RST);
}

Test(pipe, a_killed_application_is_an_end_for_the_other)
{
	(void)app_send(&client, sent, 5);
	close(client.near);
	flat_pipe_event(&pipe_->end[0], POLLHUP);
	(void)pump();
	cr_assert_eq(app_recv(&server, got, 100), 5);
	(void)pump();
	cr_assert(flat_vq_peer_prod_flags(&server.vq) & FLAT_PROD_FIN);
	cr_assert_not(flat_pipe_over(pipe_));
	close(server.near);
	flat_pipe_event(&pipe_->end[1], POLLHUP);
	(void)pump();
	cr_assert(flat_pipe_over(pipe_));
}

Test(pipe, impossible_positions_end_that_side_alone)
{
	(void)app_send(&client, sent, 5);
	atomic_store(&client.vq.tx.ctl->prod.tail, 0x40000000U);
	(void)pump();
	(void)pump();
	cr_assert(pipe_->end[0].reset);
	cr_assert(flat_vq_peer_prod_flags(&server.vq) & FLAT_PROD_RST);
	cr_assert_not(pipe_->end[1].broken);
}

Test(pipe, a_kernel_socket_at_one_end)
{
	int fds[2];
	size_t in = 0;
	size_t out = 0;
	cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
	memset(&pipe_->end[1], 0, sizeof(pipe_->end[1]));
	flat_pipe_tcp(pipe_, 1, fds[1], NULL);
	while (out < sizeof(sent)) {
		if (in < sizeof(sent))
			in += app_send(&client, sent + in, flat_min_size(sizeof(sent) - in, 30011));
		(void)pump();
		ssize_t n = recv(fds[0], got + out, sizeof(got) - out, MSG_DONTWAIT);
		out += n > 0 ? (size_t)n : 0;
	}
	cr_assert_eq(memcmp(sent, got, sizeof(sent)), 0);
	for (in = out = 0; out < sizeof(sent);) {
		ssize_t n = send(fds[0], sent + in, sizeof(sent) - in, MSG_DONTWAIT);
		in += n > 0 ? (size_t)n : 0;
		(void)pump();
		out += app_recv(&client, got + out, sizeof(got) - out);
	}
	cr_assert_eq(memcmp(sent, got, sizeof(sent)), 0);
	shutdown(fds[0], SHUT_WR);
	(void)pump();
	cr_assert_eq(flat_vq_peer_prod_flags(&client.vq), FLAT_PROD_FIN);
	flat_vq_end_tx(&client.vq, FLAT_PROD_FIN);
	(void)pump();
	cr_assert_eq(recv(fds[0], got, 1, MSG_DONTWAIT), 0);
	cr_assert(pipe_->end[1].gone);
}

Test(pipe, kernel_sockets_at_both_ends)
{
	int a[2];
	int b[2];
	size_t in = 0;
	size_t out = 0;
	cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, a), 0);
	cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, b), 0);
	memset(pipe_->end, 0, sizeof(pipe_->end));
	flat_pipe_tcp(pipe_, 0, a[1], NULL);
	flat_pipe_tcp(pipe_, 1, b[1], NULL);
	/* Until nothing more goes in: the reader has not begun. */
	for (ssize_t n = 1; n > 0;) {
		n = send(a[0], sent + in, flat_min_size(sizeof(sent) - in, 30011), MSG_DONTWAIT);
		in += n > 0 ? (size_t)n : 0;
		n = (ssize_t)pump() > 0 ? 1 : n;
	}
	cr_assert_lt(in, sizeof(sent));
	cr_assert_not_null(pipe_->end[0].held);
	while (out < sizeof(sent)) {
		ssize_t n = send(a[0], sent + in, sizeof(sent) - in, MSG_DONTWAIT | MSG_NOSIGNAL);
		in += n > 0 ? (size_t)n : 0;
		/* The end is there before the last bytes are taken. */
		if (in == sizeof(sent))
			shutdown(a[0], SHUT_WR);
		(void)pump();
		n = recv(b[0], got + out, 40007, MSG_DONTWAIT);
		cr_assert(n != 0);
		out += n > 0 ? (size_t)n : 0;
	}
	cr_assert_eq(memcmp(sent, got, sizeof(sent)), 0);
	(void)pump();
	cr_assert_eq(recv(b[0], got, 1, MSG_DONTWAIT), 0);
	cr_assert_eq(send(b[0], sent, 5, 0), 5);
	shutdown(b[0], SHUT_WR);
	(void)pump();
	(void)pump();
	cr_assert_eq(recv(a[0], got, 10, MSG_DONTWAIT), 5);
	cr_assert_eq(recv(a[0], got, 1, MSG_DONTWAIT), 0);
	cr_assert(flat_pipe_over(pipe_));
}

Test(pipe, what_was_read_before_it_began_goes_first)
{
	cr_assert_eq(flat_pipe_hold(pipe_, 0, sent, 60000), 0);
	(void)app_send(&client, sent + 60000, 1000);
	flat_vq_end_tx(&client.vq, FLAT_PROD_FIN);
	for (size_t out = 0; out < 61000;) {
		(void)pump();
		out += app_recv(&server, got + out, 1777);
	}
	cr_assert_eq(memcmp(sent, got, 61000), 0);
	(void)pump();
	cr_assert_eq(flat_vq_peer_prod_flags(&server.vq), FLAT_PROD_FIN);
	cr_assert_null(pipe_->end[0].held);
}

Test(pipe, what_is_held_for_one_that_is_gone_is_a_reset_for_its_sender)
{
	cr_assert_eq(flat_pipe_hold(pipe_, 0, sent, 10), 0);
	flat_vq_end_rx(&server.vq, FLAT_CONS_CLOSED);
	(void)pump();
	cr_assert(flat_vq_peer_cons_flags(&client.vq) & FLAT_CONS_CLOSED || pipe_->end[0].reset);
	cr_assert_null(pipe_->end[0].held);
	flat_pipe_free(pipe_);
	flat_pipe_free(NULL);
}

/* --- a tube --- */

static struct flat_tube *server_is_a_tube(void)
{
	struct flat_tube *tube = flat_tube_new();
	cr_assert_not_null(tube);
	memset(&pipe_->end[1], 0, sizeof(pipe_->end[1]));
	flat_pipe_tube(pipe_, 1, tube);
	return tube;
}

static void tube_close(struct flat_tube *tube)
{
	flat_tube_close(tube, FLAT_TUBE_NEAR, false);
	flat_tube_close(tube, FLAT_TUBE_FAR, false);
	flat_tubes_spare_fini();
}

Test(pipe, a_tube_in_place_of_the_server)
{
	struct flat_tube *tube = server_is_a_tube();
	size_t in = 0;
	size_t out = 0;
	while (out < sizeof(sent)) {
		if (in < sizeof(sent))
			in += app_send(&client, sent + in, flat_min_size(sizeof(sent) - in, 30011));
		(void)pump();
		ssize_t n = flat_tube_recv(tube, FLAT_TUBE_FAR, got + out, sizeof(got) - out);
		out += n > 0 ? (size_t)n : 0;
	}
	cr_assert_eq(memcmp(sent, got, sizeof(sent)), 0);
	for (in = out = 0; out < sizeof(sent);) {
		ssize_t n = flat_tube_send(tube, FLAT_TUBE_FAR, sent + in, sizeof(sent) - in);
		in += n > 0 ? (size_t)n : 0;
		(void)pump();
		out += app_recv(&client, got + out, sizeof(got) - out);
	}
	cr_assert_eq(memcmp(sent, got, sizeof(sent)), 0);
	flat_tube_end(tube, FLAT_TUBE_FAR);
	(void)pump();
	cr_assert_eq(flat_vq_peer_prod_flags(&client.vq), FLAT_PROD_FIN);
	cr_assert_not(pipe_->end[1].gone);
	flat_vq_end_tx(&client.vq, FLAT_PROD_FIN);
	(void)pump();
	cr_assert_eq(flat_tube_recv(tube, FLAT_TUBE_FAR, got, 1), 0);
	cr_assert(pipe_->end[1].gone);
	tube_close(tube);
}

Test(pipe, a_tube_that_is_closed_hard_is_a_reset)
{
	struct flat_tube *tube = server_is_a_tube();
	cr_assert_eq(flat_tube_send(tube, FLAT_TUBE_FAR, "last", 4), 4);
	flat_tube_close(tube, FLAT_TUBE_FAR, true);
	while (pump() > 0)
		;
	cr_assert_eq(app_recv(&client, got, 10), 4);
	cr_assert_eq(flat_vq_peer_prod_flags(&client.vq), FLAT_PROD_RST);
	cr_assert(pipe_->end[1].gone);
	flat_tube_close(tube, FLAT_TUBE_NEAR, false);
	flat_tubes_spare_fini();
}

Test(pipe, a_reset_of_the_application_is_known_for_its_tube)
{
	struct flat_tube *tube = server_is_a_tube();
	flat_vq_end_tx(&client.vq, FLAT_PROD_RST);
	(void)pump();
	cr_assert(pipe_->end[1].hard);
	cr_assert(pipe_->end[1].gone);
	tube_close(tube);
}

Test(pipe, bytes_of_a_tube_for_who_reads_no_more_are_a_reset)
{
	struct flat_tube *tube = server_is_a_tube();
	flat_vq_end_rx(&client.vq, FLAT_CONS_CLOSED);
	(void)pump();
	cr_assert_not(pipe_->end[1].hard);
	cr_assert_eq(flat_tube_send(tube, FLAT_TUBE_FAR, "x", 1), 1);
	(void)pump();
	cr_assert(pipe_->end[1].hard);
	tube_close(tube);
}

Test(pipe, bytes_of_a_tube_go_at_once_where_none_wait_and_there_is_room)
{
	struct flat_tube *tube = server_is_a_tube();
	struct flat_pipe_end *e = &pipe_->end[1];
	cr_assert_eq(flat_pipe_deliver(e, sent, 1000), 1000);
	cr_assert_eq(app_recv(&client, got, 2000), 1000);
	cr_assert_eq(memcmp(sent, got, 1000), 0);
	cr_assert_eq(e->bytes, 1000);
	/* As much as there is room for. */
	size_t n = flat_pipe_deliver(e, sent, sizeof(sent));
	cr_assert_leq(n, 4096 + 65536);
	cr_assert_eq(flat_pipe_deliver(e, sent, 100), 0);
	cr_assert_eq(app_recv(&client, got, sizeof(got)), n);
	cr_assert_eq(memcmp(sent, got, n), 0);
	/* None for one that reads no more, or lies: the pump finds what that means. */
	flat_vq_end_rx(&client.vq, FLAT_CONS_CLOSED);
	cr_assert_eq(flat_pipe_deliver(e, sent, 100), 0);
	cr_assert_not(pipe_->end[1].hard);
	tube_close(tube);
}

Test(pipe, impossible_positions_are_found_when_a_tube_brings_bytes)
{
	struct flat_tube *tube = server_is_a_tube();
	cr_assert_gt(flat_pipe_deliver(&pipe_->end[1], sent, 60000), 0);
	atomic_store(&client.vq.rx.ctl->cons.head, 0x40000000U);
	cr_assert_eq(flat_pipe_deliver(&pipe_->end[1], sent, 60000), 0);
	cr_assert(pipe_->end[0].broken);
	cr_assert_eq(flat_pipe_deliver(&pipe_->end[1], sent, 1), 0);
	tube_close(tube);
}

/* Whether a bell is there for an application, which is taken. */
static bool told(const struct app *a)
{
	uint8_t bells[8];
	return recv(a->near, bells, sizeof(bells), MSG_DONTWAIT) > 0;
}

Test(pipe, pieces_that_a_tube_brings_in_one_turn_ring_once)
{
	struct flat_tube *tube = server_is_a_tube();
	struct flat_pipe_end *e = &pipe_->end[1];
	flat_vq_arm_rx(&client.vq, FLAT_ARM_BELL);
	cr_assert_eq(flat_pipe_deliver(e, sent, 1000), 1000);
	cr_assert_eq(flat_pipe_deliver(e, sent, 1000), 1000);
	cr_assert_not(told(&client));
	flat_pipe_event(e, POLLIN);
	cr_assert(told(&client));
	/* Who looks before it is told does as well. */
	flat_vq_arm_rx(&client.vq, FLAT_ARM_BELL);
	cr_assert_eq(flat_pipe_deliver(e, sent, 1000), 1000);
	(void)pump();
	cr_assert(told(&client));
	tube_close(tube);
}

/* --- at a worker --- */

Test(pipe, a_thread_moves_bytes_and_gives_the_pipe_back)
{
	struct flat_loop loop;
	struct flat_workers w;
	struct flat_pipe *back = NULL;
	size_t in = 0;
	size_t out = 0;
	cr_assert_eq(flat_loop_init(&loop), 0);
	cr_assert_eq(flat_workers_open(&w, 3, &loop), 0);
	/* Worker 0 is this thread, which has other things to do. */
	w.v[0].n_pipes = 1000;
	flat_worker_start(&w, pipe_);
	while (out < sizeof(sent)) {
		if (in < sizeof(sent))
			in += app_send(&client, sent + in, flat_min_size(sizeof(sent) - in, 30011));
		out += app_recv(&server, got + out, sizeof(got) - out);
	}
	cr_assert_eq(memcmp(sent, got, sizeof(sent)), 0);
	close(client.near);
	close(server.near);
	while (!back) {
		flat_loop_turn(&loop, 100);
		back = flat_workers_finished(&w);
	}
	cr_assert_eq(back, pipe_);
	cr_assert_null(flat_workers_finished(&w));
	cr_assert_eq(flat_workers_bytes(&w), sizeof(sent));
	flat_workers_close(&w);
	flat_loop_fini(&loop);
}

/* Whether the client rang since the last time. */
static bool rung(void)
{
	uint8_t bells[8];
	return recv(client.far, bells, sizeof(bells), MSG_DONTWAIT) > 0;
}

/* Until it rests: what it was looked at for is done. */
static void settle(struct flat_workers *w)
{
	while (flat_worker_turn(&w->v[0]))
		;
}

Test(pipe, one_that_rests_is_found_without_a_bell_while_its_thread_is_awake)
{
	struct flat_tube *tube = server_is_a_tube();
	struct flat_rests rests;
	struct flat_loop loop;
	struct flat_workers w;
	flat_rests_init(&rests);
	struct flat_rest *rest = flat_rest_new(&rests, pipe_->end[0].vq.mine);
	cr_assert_not_null(rest);
	flat_pipe_rest(pipe_, 0, rest);
	cr_assert_eq(flat_loop_init(&loop), 0);
	cr_assert_eq(flat_workers_open(&w, 1, &loop), 0);
	flat_worker_start(&w, pipe_);
	settle(&w);
	/* Awake: no bell. */
	(void)app_send(&client, sent, 1000);
	cr_assert_not(rung());
	cr_assert(flat_rests_look(&rests, 1));
	settle(&w);
	cr_assert_eq(flat_tube_recv(tube, FLAT_TUBE_FAR, got, sizeof(got)), 1000);
	/* Asleep: one. */
	cr_assert(flat_rests_sleep(&rests));
	(void)app_send(&client, sent, 1000);
	cr_assert(rung());
	flat_rests_wake(&rests);
	cr_assert(flat_rests_look(&rests, 2));
	settle(&w);
	cr_assert_eq(flat_tube_recv(tube, FLAT_TUBE_FAR, got, sizeof(got)), 1000);
	/* Quiet for long: a bell, whether it sleeps or not. */
	cr_assert_not(flat_rests_look(&rests, 3 + FLAT_REST_QUIET_US));
	(void)app_send(&client, sent, 1000);
	cr_assert(rung());
	flat_workers_close(&w);
	flat_pipe_free(pipe_);
	cr_assert(TAILQ_EMPTY(&rests.list));
	flat_rest_free(rest);
	flat_loop_fini(&loop);
	tube_close(tube);
}

Test(pipe, one_with_a_tube_is_the_control_threads)
{
	struct flat_tube *tube = server_is_a_tube();
	struct flat_loop loop;
	struct flat_workers w;
	cr_assert_eq(flat_loop_init(&loop), 0);
	cr_assert_eq(flat_workers_open(&w, 3, &loop), 0);
	w.v[0].n_pipes = 1000;
	flat_worker_start(&w, pipe_);
	cr_assert(pipe_->local);
	(void)app_send(&client, sent, 1000);
	/* It rests, and is told of what comes by the tube. */
	while (flat_worker_turn(&w.v[0]))
		;
	cr_assert_eq(flat_tube_recv(tube, FLAT_TUBE_FAR, got, sizeof(got)), 1000);
	/* More than there is room for: what does not go at once is told of. */
	for (size_t in = 0, out = 0; out < sizeof(sent);) {
		size_t want = flat_min_size(sizeof(sent) - in, 1 + (size_t)rand() % 100000);
		ssize_t n = want ? flat_tube_send(tube, FLAT_TUBE_FAR, sent + in, want) : 0;
		in += n > 0 ? (size_t)n : 0;
		(void)flat_tubes_tell();
		settle(&w);
		out += app_recv(&client, got + out, (size_t)rand() % 70000);
		/* The bell for room. */
		flat_loop_turn(&loop, 0);
		settle(&w);
	}
	cr_assert_eq(memcmp(sent, got, sizeof(sent)), 0);
	cr_assert_eq(pipe_->end[1].bytes, sizeof(sent));
	cr_assert_eq(flat_workers_bytes(&w), sizeof(sent) + 1000);
	close(client.near);
	flat_tube_end(tube, FLAT_TUBE_FAR);
	(void)flat_tubes_tell();
	while (!flat_workers_finished(&w)) {
		flat_loop_turn(&loop, 0);
		(void)flat_worker_turn(&w.v[0]);
	}
	cr_assert_not(flat_tubes_tell());
	tube_close(tube);
	flat_workers_close(&w);
	flat_loop_fini(&loop);
}

Test(pipe, bytes_of_a_tube_wait_for_their_share_of_the_turns)
{
	struct flat_tube *tube = server_is_a_tube();
	struct flat_loop loop;
	struct flat_workers w;
	cr_assert_eq(flat_loop_init(&loop), 0);
	cr_assert_eq(flat_workers_open(&w, 1, &loop), 0);
	flat_worker_start(&w, pipe_);
	settle(&w);
	(void)flat_tubes_tell();
	/* As with another session's pipes beside it. */
	w.v[0].n_shares = 2;
	pipe_->share->deficit = 1;
	cr_assert_eq(flat_tube_send(tube, FLAT_TUBE_FAR, sent, 3000), 3000);
	cr_assert_eq(flat_tube_pending(tube, FLAT_TUBE_NEAR), 0);
	cr_assert_eq(pipe_->share->deficit, 1 - 3000);
	cr_assert_eq(flat_tube_send(tube, FLAT_TUBE_FAR, sent + 3000, 1000), 1000);
	cr_assert_eq(flat_tube_pending(tube, FLAT_TUBE_NEAR), 1000);
	(void)flat_tubes_tell();
	settle(&w);
	cr_assert_eq(app_recv(&client, got, sizeof(got)), 4000);
	cr_assert_eq(memcmp(sent, got, 4000), 0);
	w.v[0].n_shares = 1;
	flat_workers_close(&w);
	tube_close(tube);
	flat_loop_fini(&loop);
}

/* --- urgent bytes --- */

static void app_send_urgent(struct app *a, const char *text)
{
	cr_assert_eq(flat_ring_write_urgent(&a->vq.tx, text, strlen(text)), (ssize_t)strlen(text));
	flat_vq_notify_data(&a->vq);
}

Test(pipe, passes_an_urgent_byte_on)
{
	uint32_t ahead = 0;
	struct pollfd p = {.fd = server.near, .events = POLLPRI};
	server.vq.rx.halts = 1;
	(void)app_send(&client, sent, 7);
	app_send_urgent(&client, "ab!");
	(void)app_send(&client, sent, 5);
	(void)pump();
	cr_assert_eq(flat_ring_urgent(&server.vq.rx, false, &ahead), FLAT_URGENT_THERE);
	cr_assert_eq(ahead, 9);
	cr_assert_eq(app_recv(&server, got, 100), 9);
	cr_assert_eq(app_recv(&server, got, 100), 0);
	/* The kernel tells the owner of the anchor. */
	cr_assert_eq(poll(&p, 1, 0), 1);
	cr_assert_eq(flat_vq_drain_anchor(&server.vq), 0);
	cr_assert_eq(poll(&p, 1, 0), 0);
}

/* Two ends of a connection of the kernel's. */
static void tcp_pair(int fds[2])
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t len = sizeof(a);
	int l = socket(AF_INET, SOCK_STREAM, 0);
	cr_assert_eq(bind(l, (struct sockaddr *)&a, len), 0);
	cr_assert_eq(listen(l, 1), 0);
	cr_assert_eq(getsockname(l, (struct sockaddr *)&a, &len), 0);
	fds[0] = socket(AF_INET, SOCK_STREAM, 0);
	cr_assert_eq(connect(fds[0], (struct sockaddr *)&a, len), 0);
	fds[1] = accept(l, NULL, NULL);
	cr_assert_geq(fds[1], 0);
	close(l);
}

Test(pipe, passes_an_urgent_byte_on_to_a_socket)
{
	int fds[2];
	int mark = 0;
	tcp_pair(fds);
	struct pollfd p = {.fd = fds[0], .events = POLLPRI};
	memset(&pipe_->end[1], 0, sizeof(pipe_->end[1]));
	flat_pipe_tcp(pipe_, 1, fds[1], NULL);
	for (int i = 0; i < 100; i++) {
		(void)app_send(&client, sent, (size_t)i * 7);
		app_send_urgent(&client, "ab!");
		(void)app_send(&client, sent, 5);
		while (pump() > 0)
			;
		cr_assert_eq(poll(&p, 1, 10000), 1);
		cr_assert_eq(recv(fds[0], got, 1, MSG_OOB), 1);
		cr_assert_eq(got[0], '!');
		size_t want = (size_t)i * 7 + 2;
		cr_assert_eq(recv(fds[0], got, want, MSG_WAITALL), (ssize_t)want);
		cr_assert_eq(memcmp(got + want - 2, "ab", 2), 0);
		cr_assert_eq(ioctl(fds[0], SIOCATMARK, &mark), 0);
		cr_assert_eq(mark, 1);
		cr_assert_eq(recv(fds[0], got, 5, MSG_WAITALL), 5);
		cr_assert_eq(memcmp(got, sent, 5), 0);
	}
}

/* The socket takes parts: none of their ends is urgent, and the one that is comes when there is room. */
Test(pipe, urgent_byte_waits_for_room_in_a_socket)
{
	int fds[2];
	size_t in = 0;
	size_t out = 0;
	char byte = 0;
	tcp_pair(fds);
	memset(&pipe_->end[1], 0, sizeof(pipe_->end[1]));
	flat_pipe_tcp(pipe_, 1, fds[1], NULL);
	while (in < sizeof(sent)) {
		size_t n = app_send(&client, sent + in, sizeof(sent) - in);
		in += n;
		if (pump() == 0 && n == 0)
			break;
	}
	/* One byte of room, at least. */
	cr_assert_gt(recv(fds[0], got, 200000, MSG_WAITALL), 0);
	out = 200000;
	while (pump() > 0)
		;
	app_send_urgent(&client, "!");
	while (byte == 0 && out < in) {
		cr_assert_lt(recv(fds[0], &byte, 1, MSG_OOB), 2);
		ssize_t n = recv(fds[0], got + out, in - out, MSG_DONTWAIT);
		out += n > 0 ? (size_t)n : 0;
		(void)pump();
	}
	struct pollfd p = {.fd = fds[0], .events = POLLPRI};
	while (byte == 0 && pump() > 0)
		;
	if (byte == 0) {
		cr_assert_eq(poll(&p, 1, 10000), 1);
		cr_assert_eq(recv(fds[0], &byte, 1, MSG_OOB), 1);
	}
	cr_assert_eq(byte, '!');
	while (out < in) {
		ssize_t n = recv(fds[0], got + out, in - out, 0);
		cr_assert_gt(n, 0);
		out += (size_t)n;
	}
	cr_assert_eq(memcmp(sent + 200000, got + 200000, in - 200000), 0);
}
