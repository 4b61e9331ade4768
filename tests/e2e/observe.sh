#!/bin/bash
# What flatd tells of itself: Prometheus's port (names, labels, values, hostile scrapers), ls, top and why; and that
# nothing is left over when connections have ended.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
needs curl "$PYTHON" ss

port && ECHO=$PORT
port && PLAIN=$PORT
port && SELECTED=$PORT
port && METRICS=$PORT
mkdir "$WORK/bin"
cp "$(readlink -f "$PYTHON")" "$WORK/bin/echo-python"
cp "$(readlink -f "$PYTHON")" "$WORK/bin/client-python"
cp "$(readlink -f "$PYTHON")" "$WORK/bin/stranger-python"

{
	for name in echo client stranger; do
		own_workload $name $name-python | sed "s/app: $name/&, version: v1/"
	done
	service direct 240.9.8.1 80 "$ECHO"
	service forwarded 240.9.8.2 80 "$ECHO" forwarded
	service outside 240.9.8.3 80 "$PLAIN" forwarded
	cat <<END2
---
apiVersion: v1
kind: Service
metadata: { name: selected, namespace: e2e }
spec:
  clusterIP: 240.9.8.4
  selector: { app: echo }
  ports: [{ name: tcp, port: 80, targetPort: $SELECTED, protocol: TCP }]
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: { name: no-strangers, namespace: e2e }
spec:
  selector: { matchLabels: { app: echo } }
  action: DENY
  rules: [{ from: [{ source: { principals: [cluster.local/ns/e2e/sa/stranger] } }] }]
END2
} >"$CONFIG"
start flatd flatd --control "$CONTROL" --config "$CONFIG" --metrics "127.0.0.1:$METRICS" --workers 2
FLATD=$PID
wait_for 10 flatctl --control "$CONTROL" ls || die flatd-starts "$(tail -n 5 "$WORK/flatd.log")"

cat >"$WORK/echo.py" <<'END2'
"""Echoes on every port given."""
import socket
import sys
import threading


def serve(c):
    with c:
        while data := c.recv(65536):
            c.sendall(data)


def accept(port):
    with socket.create_server(("127.0.0.1", int(port)), backlog=512) as s:
        while True:
            c, _ = s.accept()
            threading.Thread(target=quiet, args=(c,), daemon=True).start()


def quiet(c):
    try:
        serve(c)
    except OSError:
        pass


threads = [threading.Thread(target=accept, args=(p,), daemon=True) for p in sys.argv[1:]]
for t in threads:
    t.start()
for t in threads:
    t.join()
END2
cat >"$WORK/client.py" <<'END2'
"""CONNECTIONS times: connects, sends BYTES, has them echoed. All at once, in 8 threads, with `together`."""
import os
import socket
import sys
import threading

host, connections, size = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
bad = []


def once():
    data = os.urandom(size)
    with socket.create_connection((host, 80), timeout=60) as s:
        s.sendall(data)
        got = b""
        while len(got) < size:
            part = s.recv(65536)
            if not part:
                break
            got += part
        if got != data:
            bad.append(len(got))


def many(n):
    try:
        for _ in range(n):
            once()
    except OSError as e:
        bad.append(e)


threads = 8 if sys.argv[4:] == ["together"] else 1
workers = [threading.Thread(target=many, args=(connections // threads,)) for _ in range(threads)]
for w in workers:
    w.start()
for w in workers:
    w.join()
print(len(bad), *bad[:3])
END2
start echo over "$WORK/bin/echo-python" -B "$WORK/echo.py" "$ECHO" "$SELECTED"
ECHOING=$PID
serve outside "$PLAIN" "$PYTHON" -B "$WORK/echo.py" "$PLAIN"
both() { [ "$(state "len(s['listeners'])")" = 2 ]; }
wait_for 30 both || die servers-listen "$(tail -n 3 "$WORK/echo.log")"
client() { over "$WORK/bin/client-python" -B "$WORK/client.py" "$@"; }
# Only the server has a session left.
settled() { [ "$(state "(len(s['connections']), len(s['sessions']))")" = '(0, 1)' ]; }

# --- ways to a server ---

went direct-path direct client direct.e2e.example 10 1000
same direct 0 "$OUT"
went forwarded-path forwarded client forwarded.e2e.example 10 1000
same forwarded 0 "$OUT"
went selector-path direct client selected.e2e.svc.cluster.local 2 1000
same selector-finds-the-listener 0 "$OUT"
went outside-path forwarded client outside.e2e.example 4 300000
same outside-through-flatd 0 "$OUT"
went together-direct-path direct client direct.e2e.example 80 100 together
same together-direct 0 "$OUT"
went together-forwarded-path forwarded client forwarded.e2e.example 80 100 together
same together-forwarded 0 "$OUT"
OUT=$(over "$WORK/bin/stranger-python" -B "$WORK/client.py" direct.e2e.example 1 1)
holds stranger-refused grep -q 'Permission denied' <(echo "$OUT")
OUT=$("$PYTHON" -c "
import socket
s = socket.create_connection(('127.0.0.1', $ECHO), timeout=60)
s.sendall(b'x' * 7)
print(len(s.recv(7, socket.MSG_WAITALL)))")
same plain-client 7 "$OUT"
wait_for 30 settled || fail connections-end "$(state "s['connections']")"

# --- metrics ---

cat >"$WORK/metrics.py" <<'END2'
"""Reads the text format strictly; prints the value of the expression over v(name, **labels)."""
import re
import sys
import urllib.request

answer = urllib.request.urlopen(sys.argv[1], timeout=30)
kind = answer.headers["Content-Type"]
assert kind == "text/plain; version=0.0.4; charset=utf-8", kind
text = answer.read().decode()
assert len(text) == int(answer.headers["Content-Length"]) and text.endswith("\n")
name = r"[a-zA-Z_:][a-zA-Z0-9_:]*"
label = r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\["\\n])*)"'
types, samples, buckets, done = {}, {}, {}, set()
current = None
for line in text.splitlines():
    if m := re.fullmatch(rf"# HELP ({name}) (.+)", line):
        assert m[1] not in done, f"{m[1]} twice"
        current = m[1]
        done.add(current)
    elif m := re.fullmatch(rf"# TYPE ({name}) (counter|gauge|histogram)", line):
        assert m[1] == current and m[1] not in types, line
        types[m[1]] = m[2]
    else:
        m = re.fullmatch(rf"({name})(?:\{{({label}(?:,{label})*)\}})? ([0-9.e+]+)", line)
        assert m, f"no sample: {line}"
        parts = ["_bucket", "_sum", "_count"] if types.get(current) == "histogram" else [""]
        assert m[1] in [current + p for p in parts], f"outside its family: {line}"
        pairs = re.findall(label, m[2] or "")
        assert len({k for k, _ in pairs}) == len(pairs), f"a label twice: {line}"
        key = (m[1], frozenset(pairs))
        assert key not in samples, f"a series twice: {line}"
        value = line.rsplit(" ", 1)[1]
        samples[key] = float(value) if "." in value else int(value)
        assert types[current] != "counter" or current.endswith("_total"), current
        if "le" in (rest := dict(pairs)):
            bound = float(rest.pop("le"))
            before = buckets.get((m[1], *sorted(rest.items())), (-1.0, 0))
            assert bound > before[0] and samples[key] >= before[1], f"not cumulative: {line}"
            buckets[(m[1], *sorted(rest.items()))] = (bound, samples[key])


def v(wanted, **labels):
    """Sum of the samples of this name with these labels."""
    hits = [n for (k, have), n in samples.items() if k == wanted and set(labels.items()) <= have]
    assert hits, f"none: {wanted} {labels}"
    return sum(hits)


def labels_of(wanted):
    return sorted({",".join(sorted(k for k, _ in have)) for k, have in samples if k == wanted})


print(eval(sys.argv[2]))
END2
metric() { "$PYTHON" -B "$WORK/metrics.py" "http://127.0.0.1:$METRICS/metrics" "$1"; }
tcp() { metric "v('istio_tcp_$1_total', destination_service='$2.e2e.example', reporter='$3', path='$4')"; }

same metrics-opened-direct 90 "$(tcp connections_opened direct source direct)"
same metrics-closed-direct 90 "$(tcp connections_closed direct destination direct)"
same metrics-received-direct $((10 * 1000 + 80 * 100)) "$(tcp received_bytes direct source direct)"
same metrics-sent-direct $((10 * 1000 + 80 * 100)) "$(tcp sent_bytes direct destination direct)"
same metrics-received-forwarded $((10 * 1000 + 80 * 100)) "$(tcp received_bytes forwarded source forwarded)"
same metrics-sent-outside $((4 * 300000)) "$(tcp sent_bytes outside source forwarded)"
same metrics-who 90 "$(metric "v('istio_tcp_connections_opened_total', reporter='destination', source_workload='client',
	source_workload_namespace='e2e', source_principal='spiffe://cluster.local/ns/e2e/sa/client', source_app='client',
	source_version='v1', destination_workload='echo', destination_principal='spiffe://cluster.local/ns/e2e/sa/echo',
	destination_service_name='direct', destination_service_namespace='e2e', request_protocol='tcp',
	response_flags='-', connection_security_policy='unknown', path='direct', destination_service='direct.e2e.example')")"
same metrics-plain-client 7 "$(metric "v('istio_tcp_received_bytes_total', reporter='destination',
	source_principal='unknown', connection_security_policy='none')")"
same metrics-refused 1 "$(metric "v('flat_refused_total', reason='policy')")"
same metrics-one-label-set 1 "$(metric "len(labels_of('istio_tcp_sent_bytes_total'))")"
same metrics-sessions 1 "$(metric "v('flat_sessions')")"
same metrics-workers 2 "$(metric "v('flat_workers')")"

# --- the port's manners ---

web() { curl -sS -m 30 -o /dev/null -w '%{http_code}' "$@" "http://127.0.0.1:$METRICS${WHERE:-/metrics}"; }
same healthz ok "$(curl -sS -m 30 "http://127.0.0.1:$METRICS/healthz")"
WHERE=/nothing same not-found 404 "$(WHERE=/nothing web)"
same post-refused 405 "$(web -X POST)"
same body-refused 400 "$(web -d x)"
cat >"$WORK/hostile.py" <<'END2'
"""Scrapers that send nothing, a byte, garbage, or too much, and do not read; then a good one."""
import os
import socket
import sys

where = ("127.0.0.1", int(sys.argv[1]))
held = []
for i in range(100):
    s = socket.create_connection(where, timeout=30)
    if i % 4 == 1:
        s.sendall(b"G")
    if i % 4 == 2:
        s.sendall(b"GET /metrics HTTP/1.1\r\n\r\n")
    try:
        if i % 4 == 3:
            s.sendall(os.urandom(9000))
    except OSError:
        pass
    held.append(s)
with socket.create_connection(where, timeout=30) as s:
    s.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
    answer = b""
    while part := s.recv(4096):
        answer += part
print(answer.split(b"\r\n")[0].decode())
END2
same hostile-scrapers 'HTTP/1.1 200 OK' "$("$PYTHON" -B "$WORK/hostile.py" "$METRICS")"
same still-serves 0 "$(client forwarded.e2e.example 1 10)"

# --- ls, top, why ---

ctl() { flatctl --control "$CONTROL" "$@"; }
top() { ctl top --json | "$PYTHON" -c 'import json, sys
s = {(r["service"], r["path"]): r for r in json.load(sys.stdin)["services"]}
print(eval(sys.argv[1]))' "$1"; }
same top-opened 90 "$(top "s['direct.e2e.example', 'direct']['connections_opened']")"
same top-open 0 "$(top "s['direct.e2e.example', 'direct']['connections']")"
holds top-table grep -qE '^direct\.e2e\.example +direct +0 +90 ' <(ctl top --once)
holds why-allowed grep -q 'allowed, path direct' <(ctl why e2e/client direct.e2e.example:80)
holds why-refused grep -q 'no-strangers' <(ctl why e2e/stranger direct.e2e.example:80)
holds why-forwarded grep -q 'the service asks for it' <(ctl why e2e/client forwarded.e2e.example:80)
holds why-plain grep -q 'path forwarded' <(ctl why plain direct.e2e.example:80)
holds why-no-port grep -q 'has no port 81' <(ctl why e2e/client direct.e2e.example:81)
socket_of() {
	local fd
	for fd in "/proc/$1"/fd/*; do
		[[ $(readlink "$fd") != socket:* ]] || ctl why "$1" "${fd##*/}"
	done
}
holds why-listener grep -q "listens on 127.0.0.1:$ECHO" <(socket_of "$ECHOING")
outside_pid=$(ss -ltnpH "sport = :$PLAIN" | sed -n 's/.*pid=\([0-9]*\).*/\1/p')
holds why-kernel-socket grep -q 'libflat is not loaded' <(socket_of "$outside_pid")
holds why-no-socket grep -q 'it is no socket' <(ctl why "$ECHOING" 0)

# --- nothing is left ---

# A server keeps a few lanes without connections for a while: how many, is a matter of time.
wait_for 30 settled
before=$(state "s['fds'] - s['lanes']")
held() { state "(s['fds'] - s['lanes'] - $before, s['lanes'] < 17, len(s['sessions']), s['ended_sessions_held'])"; }
for way in direct forwarded; do
	client $way.e2e.example 240 10 together >"$WORK/load.log" &
	LOAD=$!
	some() { [ "$(state "len(s['connections'])")" -gt 0 ]; }
	wait_for 10 some
	pkill -9 -P "$LOAD" 2>/dev/null || kill -9 "$LOAD"
	wait "$LOAD" 2>/dev/null
	client $way.e2e.example 240 10 together >/dev/null
done
# None more; fewer, where a scraper's end came late.
back() { [[ "$(held)" =~ ^\((0|-[0-9]+),\ True,\ 1,\ 0\)$ ]]; }
if wait_for 30 back; then pass nothing-is-left; else fail nothing-is-left "$(held)"; fi
stop "$FLATD"
holds ends-on-sigterm gone "$FLATD"
