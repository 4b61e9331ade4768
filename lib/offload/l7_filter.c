#include "offload/l7_filter.h"

bool flat_l7_filter_client(const struct flat_l7 *l7, const struct flat_workload *client,
			   struct flat_filter_whose *whose)
{
	*whose = (struct flat_filter_whose){
	    .at = l7->conn->gate ? FLAT_FILTER_GATEWAY : FLAT_FILTER_CLIENT,
	    .workload = l7->conn->gate ? l7->x.client : client,
	    .port = l7->port,
	    .other_port = l7->port,
	};
	return !l7->shadow && (l7->conn->gate || client);
}

bool flat_l7_filter_server(const struct flat_l7 *l7, struct flat_filter_whose *whose)
{
	const struct flat_listener *l = l7->x.target.listener;

	if (!l)
		return false;
	*whose = (struct flat_filter_whose){
	    .at = FLAT_FILTER_SERVER,
	    .workload = l->session->workload,
	    .port = l->addr.port,
	    .other_port = l7->x.port ? l7->x.port->number : l7->port,
	};
	return true;
}
