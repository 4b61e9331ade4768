#include "control/service_common.h"

#include <string.h>
#include <strings.h>

static const struct {
	const char *name;
	enum flat_protocol protocol;
} protocols[] = {
    {"tcp", FLAT_PROTOCOL_TCP},
    {"http", FLAT_PROTOCOL_HTTP},
    {"http2", FLAT_PROTOCOL_HTTP2},
    {"kubernetes.io/h2c", FLAT_PROTOCOL_HTTP2},
    {"grpc", FLAT_PROTOCOL_GRPC},
    {"grpc-web", FLAT_PROTOCOL_GRPC_WEB},
    {"https", FLAT_PROTOCOL_HTTPS},
    {"tls", FLAT_PROTOCOL_TLS},
    {"mongo", FLAT_PROTOCOL_MONGO},
    {"mysql", FLAT_PROTOCOL_MYSQL},
    {"redis", FLAT_PROTOCOL_REDIS},
    {"kubernetes.io/ws", FLAT_PROTOCOL_HTTP},
    {"kubernetes.io/wss", FLAT_PROTOCOL_HTTPS},
};

bool cfg_protocol(const char *text, const char *port_name, enum flat_protocol *out, bool *declared)
{
	bool unheeded;
	size_t i, len;

	declared = declared ? declared : &unheeded;
	*declared = false;
	*out = FLAT_PROTOCOL_TCP;
	for (i = 0; text && i < FLAT_ARRAY_SIZE(protocols); i++) {
		if (strcasecmp(protocols[i].name, text) == 0) {
			*out = protocols[i].protocol;
			*declared = true;
			return true;
		}
	}
	if (text)
		return false;
	/* "grpc-web-x" is grpc-web, "http-admin" is http: the longest name that fits. */
	for (i = 0, len = 0; port_name && i < FLAT_ARRAY_SIZE(protocols); i++) {
		size_t n = strlen(protocols[i].name);

		if (n > len && strncasecmp(port_name, protocols[i].name, n) == 0 &&
		    (port_name[n] == '\0' || port_name[n] == '-')) {
			*out = protocols[i].protocol;
			*declared = true;
			len = n;
		}
	}
	return true;
}

const char *cfg_port_name(struct cfg *cfg, const struct yaml_node *node)
{
	const char *name = cfg_string(cfg, node);

	return name ? name : "";
}

void cfg_warn_opaque(struct cfg *cfg, const struct flat_where *where, enum flat_protocol protocol)
{
	if (protocol == FLAT_PROTOCOL_TCP || flat_protocol_is_tls(protocol) ||
	    flat_protocol_is_http(protocol))
		return;
	cfg_warn(cfg, where, FLAT_DIAG_NOT_HONOURED, NULL,
		 "protocol %s is not honoured: its bytes are carried as TCP",
		 flat_protocol_name(protocol));
}
