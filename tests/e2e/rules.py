"""
What Istio's and Gateway API's references say, row by row, of configurations and of requests. A row of ASKED is a request and the
status that the reference gives it, to the gateway or (MESH) by a client in the mesh; one of CHECKED is a configuration and what
`flatctl check` has to say of it.
  rules.py config GATEWAY-PORT API-GATEWAY-PORT SERVER-PORT   the configuration of ASKED, on standard output
  rules.py ask PORT gateway|api|mesh   asks; in the mesh an address of the wildcard service
  rules.py check FLATCTL FOLDER
"""
import json
import os
import socket
import subprocess
import sys


def document(kind, name, spec, namespace="shop", api="networking.istio.io/v1", **more):
    return {"apiVersion": api, "kind": kind, "metadata": {"name": name, "namespace": namespace, **more}, "spec": spec}


def virtual(name, host, routes, namespace="shop", **more):
    return document("VirtualService", name, {"hosts": [host], "http": routes, **more}, namespace)


def direct(status, *match):
    return {"directResponse": {"status": status}, **({"match": list(match)} if match else {})}


def policy(name, spec, namespace="edge"):
    return document("AuthorizationPolicy", name, spec, namespace, "security.istio.io/v1")


def deny(name, host, **operation):
    return policy(name, {"action": "DENY", "selector": {"matchLabels": {"gw": "i"}},
                         "rules": [{"to": [{"operation": {"hosts": [host], **operation}}]}]})


GATES = {"gateways": ["edge/gw"]}
ALL = {"from": "All"}
API = "gateway.networking.k8s.io/v1"


def http_route(name, host, rules):
    return document("HTTPRoute", name, {"parentRefs": [{"name": "api", "namespace": "edge"}], "hostnames": [host], "rules": rules}, "shop", API)


def rule(status, match=None, **more):
    """A rule of an HTTPRoute that answers by itself: a redirection's status tells them apart."""
    return {"filters": [{"type": "RequestRedirect", "requestRedirect": {"statusCode": status, "hostname": "x.example"}}],
            **({"matches": [match]} if match else {}), **more}


def of_clients(name, subset, labels):
    return document("DestinationRule", name, {"host": "only.far.svc.cluster.local", "subsets": [{"name": subset}],
                                              "workloadSelector": {"matchLabels": labels}}, "edge")


def to_subset(subset):
    return {"route": [{"destination": {"host": "only.far.svc.cluster.local", "subset": subset}}]}


def config(gate, api, origin):
    return [
        document("Workload", "ingress", {"selectors": [{"executable": "/nobody"}]}, "edge", "mesh.libflat.io/v1",
                 labels={"gw": "i", "gateway.networking.k8s.io/gateway-name": "api"}),
        document("Gateway", "gw", {"selector": {"gw": "i"}, "servers": [
            {"port": {"number": gate, "name": "http", "protocol": "HTTP"}, "hosts": ["*"]}]}, "edge"),
        document("Gateway", "api", {"gatewayClassName": "istio", "listeners": [
            {"name": "a", "port": api, "protocol": "HTTP", "allowedRoutes": {"namespaces": ALL}}]}, "edge", API),
        # exportTo is for gateways too.
        virtual("seen", "seen.example", [direct(201)], exportTo=["edge"], **GATES),
        virtual("hidden", "hidden.example", [direct(201)], exportTo=["."], **GATES),
        # The longest wildcard, and no route of it where an exact host has none.
        virtual("wide", "*.example", [direct(202)], **GATES),
        virtual("long", "*.deep.example", [direct(203)], **GATES),
        virtual("exact", "a.deep.example", [direct(204, {"uri": {"exact": "/only"}})], **GATES),
        # Paths in any spelling.
        virtual("paths", "paths.example", [direct(205, {"uri": {"exact": "/caf%c3%a9"}}), direct(206, {"uri": {"prefix": "/%7Euser"}}),
                                           direct(207)], **GATES),
        deny("tilde", "paths.example", paths=["/%7eroot/*"]),
        deny("small", "paths.example", paths=["/%c3%a4"]),
        deny("template", "paths.example", paths=["/x/{*}/%7e"]),
        # Of a delegate, and of the route that follows.
        virtual("root", "root.example", [{"match": [{"uri": {"prefix": "/a"}}], "delegate": {"name": "leaf", "namespace": "far"}}, direct(209)],
                **GATES),
        document("VirtualService", "leaf", {"http": [
            {"match": [{"method": {"exact": "PUT"}}], "directResponse": {"status": 208}},
            {"route": [{"destination": {"host": "only"}}]}]}, "far"),
        # "only" is a service of namespace far alone.
        document("Service", "only", {"ports": [{"port": 80, "name": "http", "targetPort": origin}]}, "far", "v1"),
        {"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
         "metadata": {"name": "only-1", "namespace": "far", "labels": {"kubernetes.io/service-name": "only"}},
         "ports": [{"name": "http", "port": origin}], "endpoints": [{"addresses": ["127.0.0.1"]}]},
        # Rules for some clients alone: the gateway is one of the first's.
        of_clients("mine", "mine", {"gw": "i"}),
        of_clients("theirs", "theirs", {"gw": "j"}),
        virtual("mine", "mine.example", [to_subset("mine")], **GATES),
        virtual("theirs", "theirs.example", [to_subset("theirs")], **GATES),
        # HTTPRoute: what is more specific first, whatever the order.
        http_route("prefixes", "api.example", [
            rule(301, {"path": {"type": "PathPrefix", "value": "/"}}),
            rule(302, {"path": {"type": "PathPrefix", "value": "/a%7e"}}),
            rule(303, {"path": {"type": "Exact", "value": "/a~/b"}}),
            rule(307, {"path": {"type": "PathPrefix", "value": "/a~"}, "headers": [{"name": "X-One", "value": "1"}]}),
            rule(308, {"path": {"type": "PathPrefix", "value": "/a~"}, "method": "PUT"})]),
        http_route("filters", "later.example", [{"filters": [{"type": "Later"}], "backendRefs": [{"name": "only", "port": 80}]}]),
        # A name below a wildcard service.
        document("ServiceEntry", "wild", {"hosts": ["*.wild.example"], "addresses": ["240.9.7.0/24"], "location": "MESH_INTERNAL",
                                          "resolution": "STATIC", "ports": [{"number": 80, "name": "http"}],
                                          "endpoints": [{"address": "127.0.0.1", "ports": {"http": origin}}]}),
        virtual("below", "own.wild.example", [direct(210)]),
        virtual("lower", "*.more.wild.example", [direct(211)]),
    ]


# Method, host, path, fields, status.
ASKED = [
    ("GET", "seen.example", "/", {}, 201),
    ("GET", "hidden.example", "/", {}, 202),
    ("GET", "b.example", "/", {}, 202),
    ("GET", "B.Deep.Example", "/", {}, 203),
    ("GET", "x.y.deep.example", "/", {}, 203),
    ("GET", "deep.example", "/", {}, 202),
    ("GET", "a.deep.example", "/only", {}, 204),
    ("GET", "a.deep.example", "/", {}, 404),
    ("GET", "example", "/", {}, 404),
    ("GET", "paths.example", "/caf%C3%A9", {}, 205),
    ("GET", "paths.example", "/caf%c3%a9", {}, 205),
    ("GET", "paths.example", "/~user/x", {}, 206),
    ("GET", "paths.example", "/%7euser", {}, 206),
    ("GET", "paths.example", "/~root/x", {}, 403),
    ("GET", "paths.example", "/%7Eroot/x", {}, 403),
    ("GET", "paths.example", "/%C3%A4", {}, 403),
    ("GET", "paths.example", "/%c3%a4", {}, 403),
    ("GET", "paths.example", "/x/y/~", {}, 403),
    ("GET", "paths.example", "/x/y/z/~", {}, 207),
    ("PUT", "root.example", "/a", {}, 208),
    ("GET", "root.example", "/a", {}, 200),
    ("PUT", "root.example", "/b", {}, 209),
    ("GET", "mine.example", "/", {}, 200),
    ("GET", "theirs.example", "/", {}, 503),
]
API_ASKED = [
    ("GET", "api.example", "/", {}, 301),
    ("GET", "api.example", "/a~/c", {}, 302),
    ("GET", "api.example", "/a%7E", {}, 302),
    ("GET", "api.example", "/a~b", {}, 301),
    ("GET", "api.example", "/a~/b", {}, 303),
    ("GET", "api.example", "/a~/c", {"x-one": "1"}, 307),
    ("PUT", "api.example", "/a~/c", {"x-one": "1"}, 308),
    ("PUT", "api.example", "/a~/b", {}, 303),
    ("GET", "later.example", "/", {}, 500),
]
MESH = [
    ("GET", "own.wild.example", "/", {}, 210),
    ("GET", "OWN.wild.example:80", "/", {}, 210),
    ("GET", "x.more.wild.example", "/", {}, 211),
    ("GET", "other.wild.example", "/", {}, 200),
    ("GET", "more.wild.example", "/", {}, 200),
]

WEB = document("Service", "web", {"ports": [{"port": 80, "name": "http"}]}, api="v1")


def filtered(*filters):
    return document("HTTPRoute", "r", {"parentRefs": [{"group": "", "kind": "Service", "name": "web"}], "rules": [
        {"filters": list(filters), "backendRefs": [{"name": "web", "port": 80}]}]}, api=API)


def of_paths(*paths):
    return policy("p", {"action": "DENY", "rules": [{"to": [{"operation": {"paths": list(paths)}}]}]})


def in_match(match):
    return document("HTTPRoute", "r", {"parentRefs": [{"group": "", "kind": "Service", "name": "web"}], "rules": [
        {"matches": [match], "filters": [{"type": "URLRewrite", "urlRewrite": {"path": {"type": "ReplacePrefixMatch", "replacePrefixMatch": "/b"}}}],
         "backendRefs": [{"name": "web", "port": 80}]}]}, api=API)


def does(**more):
    return virtual("v", "a.example", [{"route": [{"destination": {"host": "web"}}], **more}])


REMOVE = {"type": "RequestHeaderModifier", "requestHeaderModifier": {"remove": ["a", "b", "c"]}}
# Documents, the severity of what is said ("": nothing), a piece of it.
CHECKED = [
    ([of_paths("/a", "/a/*", "*.css", "*", "/{*}/b", "/{**}", "/.well-known/*")], "", ""),
    ([of_paths("/a?b=c")], "warning", "no request's path is like"),
    ([of_paths("//a")], "warning", "no request's path is like"),
    ([of_paths("/a/../b")], "warning", "no request's path is like"),
    ([of_paths("/a%2fb")], "warning", "no request's path is like"),
    ([of_paths("a")], "warning", "no request's path is like"),
    ([policy("p", {"rules": [{"when": [{"key": "request.auth.claims[sub]", "values": ["spiffe://a/b"]}]}]})], "", ""),
    ([policy("p", {"rules": [{"from": [{"source": {"principals": ["spiffe://a/b"]}}]}]})], "error", "remove \"spiffe://\""),
    ([WEB, filtered(REMOVE)], "", ""),
    ([WEB, filtered(REMOVE, {"type": "RequestHeaderModifier", "requestHeaderModifier": {"remove": ["d"]}})], "error", "a second filter of type"),
    ([WEB, filtered({"type": "URLRewrite"})], "error", "type and field differ"),
    ([WEB, filtered({"type": "Later"})], "warning", "the rule answers 500"),
    ([WEB, filtered({"type": "ExternalAuth", "externalAuth": {"protocol": "GRPC"}})], "warning", "the rule answers 500"),
    ([of_paths("/a/{*}.txt")], "error", "is no path template"),
    ([of_paths("/{**}/a/{*}")], "error", "is no path template"),
    ([of_paths("/a/{**}/b", "/{*}/{*}/{**}")], "", ""),
    ([policy("p", {"rules": [{"to": [{"operation": {"methods": ["GET", "P*"]}}]}]})], "", ""),
    ([policy("p", {"action": "DENY", "rules": [{"to": [{"operation": {"methods": ["get"]}}]}]})], "warning", "no request's method"),
    ([policy("p", {"rules": [{"when": [{"key": "request.headers", "values": ["a"]}]}]})], "error", "without a name"),
    ([WEB, in_match({"path": {"type": "PathPrefix", "value": "/a"}})], "", ""),
    ([WEB, in_match({"method": "GET"})], "", ""),
    ([WEB, in_match({"method": "get"})], "warning", "no request's method"),
    ([WEB, in_match({"path": {"type": "Exact", "value": "/a"}})], "error", "where no prefix is matched"),
    ([WEB, filtered({"type": "URLRewrite", "urlRewrite": {"path": {"type": "ReplaceFullPath", "replacePrefixMatch": "/b"}}})], "error", "as type says"),
    ([WEB, does()], "", ""),
    ([WEB, does(rewrite={})], "error", "a rewrite of nothing"),
    ([WEB, does(fault={"abort": {"percentage": {"value": 100}}})], "error", "field \"httpStatus\" is missing"),
    ([WEB, does(fault={"delay": {"percentage": {"value": 100}}})], "error", "field \"fixedDelay\" is missing"),
    ([WEB, does(fault={"abort": {"grpcStatus": "UNAVAILABLE", "percentage": {"value": 100}}})], "", ""),
    ([virtual("v", "a.example", [{"redirect": {"redirectCode": 302}}])], "warning", "a redirect to where the request came"),
    ([virtual("v", "a.example", [{"redirect": {"scheme": "https"}}])], "", ""),
    ([document("Service", "w", {"ports": [{"port": 80, "name": "http"}], "publishNotReadyAddresses": True}, api="v1")], "", ""),
]


def talk(address, row):
    method, host, path, fields, _ = row
    head = "%s %s HTTP/1.1\r\nHost: %s\r\nContent-Length: 0\r\nConnection: close\r\n" % (method, path, host)
    with socket.create_connection(address, 20) as s:
        s.sendall((head + "".join("%s: %s\r\n" % f for f in fields.items()) + "\r\n").encode())
        return int(s.makefile("rb").readline().split()[1])


def ask(rows, address):
    bad = 0
    for row in rows:
        got = talk(address, row)
        if got != row[-1]:
            bad += 1
            print("%s: got %d" % (row, got))
    print("%d asked, %d differ" % (len(rows), bad))
    return bad


def check(flatctl, folder):
    bad = 0
    for i, (documents, severity, piece) in enumerate(CHECKED):
        path = os.path.join(folder, "check-%d.yaml" % i)
        with open(path, "w") as f:
            f.write("\n---\n".join(json.dumps(d) for d in documents))
        out = subprocess.run([flatctl, "check", "--json", path], capture_output=True, text=True)
        worst = "error" if '"error"' in out.stdout else "warning" if '"warning"' in out.stdout else ""
        if worst != severity or piece not in out.stdout.replace('\\"', '"') or (out.returncode == 0) != (severity != "error"):
            bad += 1
            print("%s: %d %s%s" % (documents, out.returncode, out.stdout, out.stderr))
    print("%d checked, %d differ" % (len(CHECKED), bad))
    return bad


def main():
    what = sys.argv[1]
    if what == "config":
        print("\n---\n".join(json.dumps(d) for d in config(*map(int, sys.argv[2:5]))))
        return 0
    if what == "check":
        return check(*sys.argv[2:4])
    port, rows = int(sys.argv[2]), {"gateway": ASKED, "api": API_ASKED, "mesh": MESH}[sys.argv[3]]
    return ask(rows, ("240.9.7.1" if rows is MESH else "127.0.0.1", port))


sys.exit(main() != 0)
