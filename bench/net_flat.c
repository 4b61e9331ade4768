/* SPDX-License-Identifier: Apache-2.0 */
#include <flat/socket.h>

#include "net.h"

const struct perf_net perf_net_flat = {
    .name = "flat",
    .socket = flat_socket,
    .connect = flat_connect,
    .bind = flat_bind,
    .listen = flat_listen,
    .accept = flat_accept,
    .send = flat_send,
    .recv = flat_recv,
    .poll = flat_poll,
    .epoll_create = flat_epoll_create1,
    .epoll_ctl = flat_epoll_ctl,
    .epoll_wait = flat_epoll_wait,
    .setsockopt = flat_setsockopt,
    .getsockname = flat_getsockname,
    .getaddrinfo = flat_getaddrinfo,
    .freeaddrinfo = flat_freeaddrinfo,
    .shutdown = flat_shutdown,
    .close = flat_close,
    .send_reserve = flat_send_reserve,
    .send_commit = flat_send_commit,
    .recv_view = flat_recv_view,
    .recv_release = flat_recv_release,
};
