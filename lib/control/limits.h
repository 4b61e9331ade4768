/* Bounds of what is read from configuration files, each with the reason for its number. */
#ifndef FLAT_CONTROL_LIMITS_H
#define FLAT_CONTROL_LIMITS_H

/* One file. 10,000 services with 100,000 endpoints are about 15 MB of YAML. */
#define FLAT_CONFIG_FILE_BYTES_MAX ((size_t)64 << 20)
/* All files of one load together. */
#define FLAT_CONFIG_TOTAL_BYTES_MAX ((size_t)256 << 20)
/* Files of one load: a folder of more is not a folder of configuration. 10,000 services are 20,000 files where each Service
 * and each EndpointSlice has its own. */
#define FLAT_CONFIG_FILES_MAX 50000U
/* Documents of one file. */
#define FLAT_CONFIG_DOCUMENTS_MAX 100000U
/* Nested lists and mappings. Our deepest field is at 10; a List and a ConfigMap add a few. */
#define FLAT_CONFIG_DEPTH_MAX 32U
/* Values of one document, each alias counted as often as it is used: a few hundred bytes of aliases to
 * aliases would otherwise stand for billions of values ("billion laughs"). */
#define FLAT_CONFIG_VALUES_MAX 4000000U
/* Memory that one load may use for what it keeps, and again for what it throws away. */
#define FLAT_CONFIG_MEMORY_MAX ((size_t)2 << 30)
/* Text of the files whose documents are kept from load to load: these take about 4.5 bytes for each. */
#define FLAT_CONFIG_CACHED_BYTES_MAX ((size_t)64 << 20)
/* Memory of documents that are of no use any more, beside as much as is in use, before all are read anew. */
#define FLAT_CONFIG_CACHED_SLACK ((size_t)4 << 20)
/* One scalar: names and addresses are below 300 bytes; only a ConfigMap's text is long. */
#define FLAT_CONFIG_SCALAR_MAX ((size_t)1 << 20)
/* A name, a host, a label: 253 is the DNS limit, a label key may be prefix/name with 253 + 1 + 63. */
#define FLAT_CONFIG_NAME_MAX 320U
/* Ports of one service, hosts or addresses of one ServiceEntry (Kubernetes and Istio: 256). */
#define FLAT_CONFIG_PORTS_MAX 256U
/* Certificates of a gateway's server, as in Gateway API: each may be looked at with a handshake. */
#define FLAT_CONFIG_CERTIFICATES_MAX 64U
#define FLAT_CONFIG_HOSTS_MAX 256U
#define FLAT_CONFIG_ADDRESSES_MAX 256U
/* Endpoints of one service, times its ports. */
#define FLAT_CONFIG_ENDPOINTS_MAX 100000U
/* Rules, sources, operations, conditions of one policy, and values of one of those lists. */
#define FLAT_CONFIG_LIST_MAX 10000U
/* Headers or query parameters of one match, headers changed by one route: a request has at most 100. */
#define FLAT_CONFIG_MATCHES_MAX 100U
/* What an authorizer sees of a body: it waits in the buffer of its request, with the head. */
#define FLAT_CONFIG_CHECK_BODY_MAX 32768U
/* Copies of one request: each costs as much as the request. */
#define FLAT_CONFIG_MIRRORS_MAX 16U
/* Body of a direct response: Envoy's default bound of 4 KiB. It is sent in one piece. */
#define FLAT_CONFIG_BODY_MAX 4096U
/* Retries of one request: more only hurt a server that is in trouble. */
#define FLAT_CONFIG_RETRIES_MAX 100U
/* Selectors of one Workload. */
#define FLAT_CONFIG_SELECTORS_MAX 64U

#endif
