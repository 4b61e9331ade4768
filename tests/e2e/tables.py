"""
Random tables of routes and policies, and what Istio's reference says of random requests to them: the oracle is written from the
reference (Virtual Service, Authorization Policy) and from what Envoy does with what Istio makes of them, not from our code.
  tables.py routes|policies SEED TABLES FOLDER GATEWAY-PORT SERVER-PORT...   writes FOLDER/tables.json
  tables.py ask FOLDER [TABLE]                                               asks, prints what differs
"""
import ipaddress
import json
import os
import random
import re
import socket
import sys

SERVERS = "abc"


def document(kind, name, spec, api="networking.istio.io/v1", **more):
    return {"apiVersion": api, "kind": kind, "metadata": {"name": name, "namespace": "edge", **more}, "spec": spec}


# --- routes ---

PATHS = ["/", "/a", "/a/", "/ab", "/a/b", "/A", "/a/B", "/a.b", "/a%20b", "/b", "/a/b/c"]
REGEXES = ["/a.*", "/[ab]+", "/a/?", ".*", "/(a|ab)", "/a(b)?/.*", "(?i)/A", "/a/[^/]+/c", "/a\\.b"]


class Routes:
    """Tables of routes: a host each."""

    def __init__(self, rng, port):
        self.rng, self.port = rng, port

    def text(self, *values):
        kind = self.rng.choice(["exact", "exact", "prefix", "regex", "present"])
        if kind == "present":
            return self.rng.choice([{}, {"regex": "*"}])
        if kind == "regex":
            return {"regex": self.rng.choice(["[0-9]+", "1|2", ".+", ".*", "(?i)A.*"])}
        return {kind: self.rng.choice(values)}

    def match(self, host):
        r, m = self.rng, {}
        if r.random() < .8:
            kind = r.choice(["exact", "prefix", "prefix", "regex"])
            m["uri"] = {kind: r.choice(REGEXES if kind == "regex" else PATHS)}
        if r.random() < .15:
            m["ignoreUriCase"] = True
        if r.random() < .25:
            m["headers"] = {n: self.text("1", "1,2", "ab") for n in r.sample(["x-a", "x-b"], r.choice([1, 2]))}
        if r.random() < .15:
            m["withoutHeaders"] = {"x-b": self.text("1", "ab")}
        if r.random() < .2:
            m["method"] = r.choice([{"exact": "GET"}, {"prefix": "P"}, {"regex": "G.T|PUT"}])
        if r.random() < .2:
            m["queryParams"] = {r.choice("qp"): self.text("1", "a%20b")}
        if r.random() < .15:
            m["authority"] = r.choice([{"exact": host}, {"exact": host + ":8080"}, {"regex": ".*:8080"}])
        if r.random() < .08:
            m["port"] = r.choice([self.port, 80])
        if r.random() < .08:
            m["gateways"] = r.choice([["edge/gw"], ["mesh"]])
        return m

    def changes(self, names):
        r, o = self.rng, {}
        for what in ("set", "add"):
            if r.random() < .6:
                o[what] = {n: what + r.choice("12") for n in r.sample(names, r.choice([1, 2]))}
        if r.random() < .4:
            o["remove"] = r.sample(names, 1)
        return o

    def headers(self):
        h = {"request": self.changes(["x-set", "x-a", "x-new"]), "response": self.changes(["x-set", "x-old"])}
        if self.rng.random() < .15:
            h["request"].setdefault("set", {})["host"] = "set%d.example" % self.rng.randrange(9)
        return h

    def action(self, i):
        r = self.rng
        kind = r.choice(["route"] * 5 + ["redirect", "direct"])
        if kind == "redirect":
            d = {"redirectCode": r.choice([301, 302, 307])}
            if r.random() < .6:
                d["uri"] = r.choice(["/n%d" % i, "/n%d?z" % i])
            if r.random() < .5:
                d["authority"] = "o%d.example" % i
            if r.random() < .4:
                d["scheme"] = r.choice(["http", "https"])
            if r.random() < .4:
                d["port"] = r.choice([80, 443, 8080])
            elif r.random() < .3:
                d["derivePort"] = "FROM_REQUEST_PORT"
            return {"redirect": d}
        if kind == "direct":
            return {"directResponse": {"status": r.choice([202, 403, 503]), "body": {"string": "body%d" % i}}}
        destinations = []
        for server in r.sample(SERVERS, r.choice([1, 1, 2])):
            destinations.append({"destination": {"host": server + ".up.example", "port": {"number": 80}}})
            if r.random() < .3:
                destinations[-1]["headers"] = self.headers()
        for d in destinations[1:] and destinations:
            d["weight"] = 1
        route = {"route": destinations}
        if r.random() < .4:
            route["rewrite"] = r.choice([{"uri": "/n"}, {"uri": "/n/"}, {"authority": "rw.example"},
                                         {"uriRegexRewrite": {"match": "/([a-z]+)", "rewrite": "/z\\1"}}])
        return route

    def table(self, host):
        routes = []
        for i in range(self.rng.randrange(1, 6)):
            route = {"name": "r%d" % i, **self.action(i)}
            if self.rng.random() < .9:
                route["match"] = [self.match(host) for _ in range(self.rng.choice([1, 1, 2]))]
            if self.rng.random() < .4:
                route["headers"] = self.headers()
            routes.append(route)
        return routes

    def request(self, host):
        r = self.rng
        path = r.choice(["/", "/a", "/a/", "/a/b", "/ab", "/A", "/a/B", "/b", "/a.b", "/a%20b", "/c", "/a/x/c", "/aa"])
        spelling = r.choice([path] * 4 + [path.replace("a", "%61"), path.replace("/", "//"), "/x/.." + path, "/." + path])
        fields = [(n, r.choice(["1", "2", "1,2", "ab", ""])) for n in ("x-a", "X-B") if r.random() < .4]
        fields += [("x-a", r.choice(["1", "2"]))] * (r.random() < .1)
        return {"method": r.choice(["GET", "GET", "POST", "PUT"]), "path": path, "spelling": spelling, "fields": fields,
                "query": r.choice([None] * 4 + ["", "q", "q=1", "q=1&q=2", "q=2&q=1", "q=a%20b", "Q=1", "p=1&q=1"]),
                "authority": r.choice([host, host, host.upper(), host + ":8080"])}


def text_holds(m, value):
    """StringMatch: an absent value holds for nothing."""
    if value is None:
        return False
    if not m or m.get("regex") == "*":
        return True
    if "regex" in m:
        return re.fullmatch(m["regex"], value) is not None
    return value == m["exact"] if "exact" in m else value.startswith(m["prefix"])


def values_of(request, name):
    return [v for n, v in request["fields"] if n.lower() == name.lower()]


def match_holds(m, q, port):
    uri, path = m.get("uri"), q["path"]
    if uri and m.get("ignoreUriCase") and "regex" not in uri:
        uri, path = {k: v.lower() for k, v in uri.items()}, path.lower()
    parameters = {}
    for pair in (q["query"] or "").split("&"):
        parameters.setdefault(*(pair.split("=", 1) + [""])[:2])
    without = m.get("withoutHeaders", {})
    return ((not uri or text_holds(uri, path)) and
            ("method" not in m or text_holds(m["method"], q["method"])) and
            ("authority" not in m or text_holds(m["authority"], q["authority"])) and
            m.get("port", port) == port and "edge/gw" in m.get("gateways", ["edge/gw"]) and
            all(any(text_holds(t, v) for v in values_of(q, n)) for n, t in m.get("headers", {}).items()) and
            not any(text_holds(t, v) for n, t in without.items()
                    for v in values_of(q, n) or ([""] if t and t.get("regex") != "*" else [])) and
            all(text_holds(t, parameters.get(n)) for n, t in m.get("queryParams", {}).items()))


def change(fields, lists):
    """Envoy: of one list all is taken away, then set, then added; lists follow each other."""
    for ops in lists:
        for o in ops:
            for n in o.get("remove", []):
                fields.pop(n, None)
        for o in ops:
            fields.update({n: [v] for n, v in o.get("set", {}).items() if n != "host"})
        for o in ops:
            for n, v in o.get("add", {}).items():
                fields.setdefault(n, []).append(v)
    return {n: ",".join(v) for n, v in fields.items()}


def ops_of(route, destination, side):
    """Istio: of one destination one list with the route's; of several Envoy changes by the destination's first."""
    own, its = route.get("headers", {}).get(side, {}), (destination or {}).get("headers", {}).get(side, {})
    return [[own, its]] if len(route.get("route", [])) < 2 else [[its], [own]]


def new_host(route, destination, q):
    own, its = (x.get("headers", {}).get("request", {}).get("set", {}).get("host") for x in (route, destination))
    return route.get("rewrite", {}).get("authority") or own or its or q["authority"]


def new_path(route, match, path):
    rewrite, uri = route.get("rewrite", {}), (match or {}).get("uri", {"prefix": "/"})
    if "uriRegexRewrite" in rewrite:
        return re.sub("/([a-z]+)", "/z\\1", path)
    if "uri" not in rewrite:
        return path
    return re.sub("//+", "/", rewrite["uri"] + path[len(uri["prefix"]):]) if "prefix" in uri else rewrite["uri"]


def location(r, q, port):
    scheme = r.get("scheme", "http")
    to = r.get("port", port if "derivePort" in r else 0)
    host, _, own = q["authority"].partition(":")
    host = r.get("authority") or (host if to or not own else q["authority"])
    if to and to != {"http": 80, "https": 443}[scheme]:
        host += ":%d" % to
    path = r.get("uri", q["path"])
    return "%s://%s%s%s" % (scheme, host, path, "" if "?" in path or q["query"] is None else "?" + q["query"])


def route_answers(table, q, port):
    """What may come: of several destinations each."""
    for route in table:
        match = None
        for match in route.get("match", [None]):
            if match is None or match_holds(match, q, port):
                break
        else:
            continue
        answers = []
        for d in route.get("route", [None]):
            answer = {"response": change({"x-old": ["o"]} if d else {}, ops_of(route, d, "response"))}
            if "redirect" in route:
                answer.update(status=route["redirect"]["redirectCode"], location=location(route["redirect"], q, port))
            elif "directResponse" in route:
                answer.update(status=route["directResponse"]["status"], body=route["directResponse"]["body"]["string"])
            else:
                fields = {n.lower(): values_of(q, n) for n, _ in q["fields"]}
                query = "" if q["query"] is None else "?" + q["query"]
                answer.update(status=200, server=d["destination"]["host"][0], path=new_path(route, match, q["path"]) + query,
                              host=new_host(route, d, q), request=change(fields, ops_of(route, d, "request")))
            answers.append(answer)
        return answers
    return [{"status": 404, "response": {}}]


# --- policies ---

IPS = ["127.0.0.1", "127.0.0.2", "127.0.0.0/30", "10.0.0.0/8", "::1"]
LISTS = {"ipBlocks": IPS, "remoteIpBlocks": IPS, "principals": ["*", "cluster.local/*"], "namespaces": ["*", "a*"],
         "requestPrincipals": ["*", "is/*"], "hosts": ["x.example", "X.*", "*.example", "*", "y.example", "x.example:*"],
         "methods": ["GET", "P*", "*T", "*"], "ports": ["80"],
         "paths": ["/", "/a", "/a/b", "/a*", "*b", "*", "/a/{*}", "/{*}/b", "/a/{**}", "/{**}/c", "/a/{**}/c", "/admin"]}
SOURCE, OPERATION = list(LISTS)[:5], list(LISTS)[5:]
KEYS = {"request.headers[x-a]": ["1", "a*", "*b", "*", "1,2"], "request.headers[X-B]": ["1", "*"], "source.ip": IPS,
        "remote.ip": IPS, "destination.port": ["80"], "request.headers[:method]": ["GET"], "source.principal": ["*"]}


class Policies:
    """Tables of AuthorizationPolicies for a gateway whose clients show no identity and no token."""

    def __init__(self, rng, port):
        self.rng = rng
        LISTS["ports"] = KEYS["destination.port"] = [str(port), "80"]

    def some(self, values):
        return self.rng.sample(values, self.rng.randrange(1, min(3, len(values)) + 1))

    def clause(self, names):
        clause = {}
        for n in self.rng.sample(names, self.rng.choice([1, 1, 2])):
            clause[self.rng.choice([n, n, "not" + n[0].upper() + n[1:]])] = self.some(LISTS[n])
        return clause

    def rule(self):
        r, rule = self.rng, {}
        if r.random() < .45:
            rule["from"] = [{"source": self.clause(SOURCE)} for _ in range(r.choice([1, 1, 2]))]
        if r.random() < .65:
            rule["to"] = [{"operation": self.clause(OPERATION)} for _ in range(r.choice([1, 1, 2]))]
        if r.random() < .4:
            key = r.choice(list(KEYS))
            rule["when"] = [{"key": key, r.choice(["values", "values", "notValues"]): self.some(KEYS[key])}]
        return rule

    def table(self, _host):
        policies = []
        for _ in range(self.rng.choice([1, 2, 3])):
            policies.append({"action": self.rng.choice(["ALLOW", "ALLOW", "DENY", "AUDIT"])})
            if self.rng.random() < .93:
                policies[-1]["rules"] = [self.rule() for _ in range(self.rng.choice([1, 1, 2]))]
        return policies

    def request(self, _host):
        r = self.rng
        path = r.choice(["/", "/a", "/a/b", "/a/b/c", "/admin", "/a/", "/ab", "/a/x/c", "/x/b", "/a/b/d/c"])
        return {"method": r.choice(["GET", "POST", "PUT"]), "path": path, "query": r.choice([None, None, "q=/b"]),
                "spelling": r.choice([path, path.replace("a", "%61"), path.replace("/", "//"), "/x/.." + path]),
                "authority": r.choice(["x.example", "x.example", "X.EXAMPLE", "y.example", "a.x.example", "x.examples"]),
                "fields": [(n, r.choice(["1", "12", "ab", "1,2", ""])) for n in ("x-a", "X-B") if r.random() < .5],
                "client": r.choice(["127.0.0.1", "127.0.0.2", "127.0.0.9"])}


def value_holds(pattern, value, any_value=False):
    if value is None:
        return False
    if pattern == "*":
        return any_value or value != ""
    if pattern.startswith("*"):
        return value.endswith(pattern[1:])
    return value.startswith(pattern[:-1]) if pattern.endswith("*") else value == pattern


def path_holds(pattern, path):
    if "{" not in pattern:
        return value_holds(pattern, path)
    parts = re.split(r"(\{\*\*?\})", pattern)
    return re.fullmatch("".join({"{*}": "[^/]+", "{**}": ".*"}.get(p, re.escape(p)) for p in parts), path) is not None


def attribute_holds(name, value, q, port):
    if name in ("ipBlocks", "remoteIpBlocks", "source.ip", "remote.ip"):
        return ipaddress.ip_address(q["client"]) in ipaddress.ip_network(value)
    if name in ("ports", "destination.port"):
        return int(value) == port
    if name == "hosts":
        return value_holds(value.lower(), q["authority"].lower())
    if name in ("methods", "request.headers[:method]"):
        return value_holds(value, q["method"])
    if name == "paths":
        return path_holds(value, q["path"])
    if name.startswith("request.headers["):
        return any(value_holds(value, v, True) for v in values_of(q, name[16:-1]))
    return False  # who shows no identity and no token has none


def clause_holds(clause, q, port):
    for name, values in clause.items():
        negative = name.startswith("not")
        plain = name[3].lower() + name[4:] if negative else name
        if any(attribute_holds(plain, v, q, port) for v in values) == negative:
            return False
    return True


def rule_holds(rule, q, port):
    return (("from" not in rule or any(clause_holds(f["source"], q, port) for f in rule["from"])) and
            ("to" not in rule or any(clause_holds(t["operation"], q, port) for t in rule["to"])) and
            all(any(attribute_holds(c["key"], v, q, port) for v in c.get("values", c.get("notValues"))) == ("values" in c)
                for c in rule.get("when", [])))


def policy_answers(table, q, port):
    def any_holds(action):
        return any(rule_holds(r, q, port) for p in table if p["action"] == action for r in p.get("rules", []))
    allowed = not any_holds("DENY") and (any_holds("ALLOW") or all(p["action"] != "ALLOW" for p in table))
    return [{"status": 200 if allowed else 403}]


# --- asking ---

def talk(port, q):
    target = q["spelling"] + ("" if q["query"] is None else "?" + q["query"])
    head = "%s %s HTTP/1.1\r\nHost: %s\r\nContent-Length: 0\r\n" % (q["method"], target, q["authority"])
    head += "".join("%s: %s\r\n" % (n, v) for n, v in q["fields"]) + "Connection: close\r\n\r\n"
    with socket.create_connection(("127.0.0.1", port), 20, (q.get("client", "127.0.0.1"), 0)) as s:
        s.sendall(head.encode())
        data = s.makefile("rb").read()
    head, _, body = data.partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")
    fields = {}
    for line in lines[1:]:
        n, _, v = line.partition(": ")
        fields.setdefault(n.lower(), []).append(v)
    return int(lines[0].split()[1]), {n: ",".join(v) for n, v in fields.items()}, body.decode()


def seen(status, fields, body):
    """An answer in the oracle's terms."""
    answer = {"status": status, "response": {n: fields[n] for n in ("x-set", "x-old") if n in fields}}
    if "location" in fields:
        answer["location"] = fields["location"]
    elif status == 200:
        told = json.loads(body)
        request = {}
        for n, v in told["headers"]:
            request.setdefault(n.lower(), []).append(v)
        answer.update(server=told["name"], path=told["path"], host=request.pop("host")[0],
                      request={n: ",".join(v) for n, v in request.items() if n in ("x-a", "x-b", "x-set", "x-new")})
    elif status != 404:
        answer["body"] = body
    return answer


def ask(state, only):
    port, bad, n = state["port"], 0, 0
    for t, (table, requests) in enumerate(state["tables"]):
        for q in requests if only is None or t == only else []:
            want = (route_answers if state["kind"] == "routes" else policy_answers)(table, q, port)
            got = talk(port, q)
            got = seen(*got) if state["kind"] == "routes" else {"status": got[0]}
            n += 1
            if got not in want:
                bad += 1
                print("table %d: %s\n  request %s\n  wanted  %s\n  got     %s" % (t, json.dumps(table), q, want, got))
    print("%d requests, %d differ" % (n, bad))
    return bad


def main():
    if sys.argv[1] == "ask":
        with open(os.path.join(sys.argv[2], "tables.json")) as f:
            sys.exit(ask(json.load(f), int(sys.argv[3]) if len(sys.argv) > 3 else None) != 0)
    kind, folder, port = sys.argv[1], sys.argv[4], int(sys.argv[5])
    rng = random.Random(int(sys.argv[2]))
    maker = {"routes": Routes, "policies": Policies}[kind](rng, port)
    tables = []
    for t in range(int(sys.argv[3])):
        host = "t%d.example" % t
        tables.append((maker.table(host), [maker.request(host) for _ in range(40)]))
    with open(os.path.join(folder, "tables.json"), "w") as f:
        json.dump({"kind": kind, "port": port, "tables": tables}, f)
    base = [document("Workload", "ingress", {"serviceAccount": "ingress", "selectors": [{"executable": folder + "/nobody"}]},
                     "mesh.libflat.io/v1", labels={"istio": "gw"}),
            document("Gateway", "gw", {"selector": {"istio": "gw"}, "servers": [
                {"port": {"number": port, "name": "http", "protocol": "HTTP"}, "hosts": ["*"]}]})]
    for i, server in enumerate(sys.argv[6:]):
        base.append(document("ServiceEntry", SERVERS[i], {
            "hosts": [SERVERS[i] + ".up.example"], "addresses": ["240.9.17.%d" % (i + 1)], "resolution": "STATIC",
            "ports": [{"number": 80, "name": "http", "protocol": "HTTP"}],
            "endpoints": [{"address": "127.0.0.1", "ports": {"http": int(server)}}]}))
    to_a = [{"route": [{"destination": {"host": "a.up.example", "port": {"number": 80}}}]}]
    for t, (table, _) in enumerate(tables):
        if kind == "routes":
            base.append(document("VirtualService", "t%d" % t, {
                "hosts": ["t%d.example" % t], "gateways": ["edge/gw"], "http": table}))
            continue
        with open(os.path.join(folder, "table-%d" % t), "w") as f:
            f.writelines("---\n%s\n" % json.dumps(d) for d in base + [
                document("VirtualService", "all", {"hosts": ["*"], "gateways": ["edge/gw"], "http": to_a})] + [
                    document("AuthorizationPolicy", "p%d" % i, {"selector": {"matchLabels": {"istio": "gw"}}, **p},
                             "security.istio.io/v1") for i, p in enumerate(table)])
    if kind == "routes":
        with open(os.path.join(folder, "table"), "w") as f:
            f.writelines("---\n%s\n" % json.dumps(d) for d in base)


main()
