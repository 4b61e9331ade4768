/* Values that the kinds of HTTP routing share. */
#ifndef FLAT_CONTROL_HTTP_COMMON_H
#define FLAT_CONTROL_HTTP_COMMON_H

#include "control/schema.h"

/** A duration such as 1.5s, 100ms, 1h: whole milliseconds, at least 1 where it is more than 0. false: an error. */
bool cfg_duration_ms(struct cfg *cfg, const struct yaml_node *node, uint32_t *out);

/** A decimal number with up to three places, in thousandths; false with an error. */
bool cfg_thousandths(struct cfg *cfg, const struct yaml_node *node, uint32_t *out);

/** Likewise whole seconds, up to 99999h: what Gateway API's durations hold. */
bool cfg_duration_s(struct cfg *cfg, const struct yaml_node *node, uint32_t *out);

/** A percentage from 0 to 100 with up to four decimals, in millionths; 0 with an error. */
uint32_t cfg_millionths(struct cfg *cfg, const struct yaml_node *node);

/** `{value: 12.5}`, likewise. */
uint32_t cfg_percentage(struct cfg *cfg, const struct yaml_node *node);

/** A StringMatch: `{exact: a}`, `{prefix: a}`, `{regex: a}`; `{}` is presence where `presence` allows it. */
void cfg_text_match(struct cfg *cfg, const struct yaml_node *node, bool presence,
		    struct flat_text_match *out);

/**
 * The name of a header that rules may look at, or change (then not one that says how a message is carried); NULL with
 * an error.
 */
const char *cfg_header_name(struct cfg *cfg, const struct yaml_node *node, bool change);

/**
 * `sessionPersistence` of a route's rule, whose name in the messages and in tokens is `id` (mesh/persist.h); NULL with an error.
 */
const struct flat_persistence *cfg_api_persistence(struct cfg *cfg, const struct yaml_node *node,
						   const char *id);

/** A mapping from names to StringMatches. NULL and *n 0 on error. */
const struct flat_named_match *cfg_named_matches(struct cfg *cfg, const struct yaml_node *node,
						 bool headers, uint32_t *n);

/** `headers: {request: {set, add, remove}, response: {...}}`. */
void cfg_header_ops(struct cfg *cfg, const struct yaml_node *node, struct flat_header_ops *request,
		    struct flat_header_ops *response);

/** A host name of a service or wildcard, in lower case; NULL with an error. */
const char *cfg_host(struct cfg *cfg, const struct yaml_node *node, bool wildcard);

/** A host that requests are sent with, and its port if it names one, in lower case; NULL with an error. */
const char *cfg_host_port(struct cfg *cfg, const struct yaml_node *node);

/** The value of a header that rules set; NULL with an error. */
const char *cfg_header_value(struct cfg *cfg, const struct yaml_node *node);

/** Names of headers that rules remove: ops->remove. */
void cfg_header_names(struct cfg *cfg, const struct yaml_node *node, struct flat_header_ops *ops);

/** A URL's piece that goes into a start line or a header: visible ASCII; NULL with an error. */
const char *cfg_url_text(struct cfg *cfg, const struct yaml_node *node);

/**
 * A path, or a piece of one, that requests are compared with: spelled as theirs are (codec/path.h), with a warning where no request's is
 * so. `text` is what `node` says (NULL: nothing); `ends`: paths end with it. In the pool; NULL: nothing, or no memory.
 */
const char *cfg_path_spelled(struct cfg *cfg, const struct yaml_node *node, const char *text,
			     bool ends);

/** Likewise what a match of a path compares with; a regular expression stays as it is. */
void cfg_path_match(struct cfg *cfg, const struct yaml_node *node, struct flat_text_match *match);

/** A warning where the name of a method (NULL: none) has small letters: requests' have not, and so it matches nothing. */
void cfg_method_case(struct cfg *cfg, const struct yaml_node *node, const char *name);

/** Texts of a list joined by commas; NULL with an error or for an empty list. */
const char *cfg_joined(struct cfg *cfg, const struct yaml_node *node);

/** exportTo: namespaces, ".", "*" and "~"; an empty list says nothing. */
void cfg_export_to(struct cfg *cfg, const struct yaml_node *node, struct flat_export *out);

/** The same as a text with commas: the annotation networking.istio.io/exportTo of a Service. */
void cfg_export_annotation(struct cfg *cfg, const struct yaml_node *node, struct flat_export *out);

#endif
