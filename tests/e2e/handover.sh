#!/bin/bash
# flatd --take-over: a successor serves from one moment to the next; connections go on at the predecessor, which ends with the
# last of them; nobody who connects meanwhile is turned away, and policies still end what they no longer allow.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
needs curl

part=$E2E_ROOT/tests/e2e/handover_part.py
port && ECHO=$PORT
port && OTHER=$PORT
port && METRICS=$PORT
port && GATE=$PORT
port && WEB=$PORT
port && ONCE_A=$PORT
port && ONCE_B=$PORT
port && JAIL=$PORT
cp "$(readlink -f "$PYTHON")" "$WORK/server-python"
cp "$(readlink -f "$PYTHON")" "$WORK/client-python"

base() {
	service direct 240.9.7.1 7 "$ECHO"
	service forwarded 240.9.7.2 7 "$ECHO" forwarded
	service other 240.9.7.3 7 "$OTHER"
	service once-a 240.9.7.4 7 "$ONCE_A"
	service once-b 240.9.7.5 7 "$ONCE_B"
	service jail 240.9.7.6 7 "$JAIL"
	workload server "$WORK/server-python"
	cat <<END
---
apiVersion: mesh.libflat.io/v1
kind: Workload
metadata: { name: client, namespace: e2e }
spec: { serviceAccount: client, selectors: [{ executable: $WORK/client-python }] }
---
apiVersion: mesh.libflat.io/v1
kind: Workload
metadata: { name: gate, namespace: e2e, labels: { istio: gate } }
spec: { selectors: [{ executable: /nobody }] }
---
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: { name: other, namespace: e2e }
spec: { selector: { matchLabels: { app: none } }, mtls: { mode: STRICT } }
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: { name: web, namespace: e2e }
spec:
  hosts: [web.e2e.example]
  resolution: STATIC
  location: MESH_INTERNAL
  ports: [{ number: 80, name: http, protocol: HTTP }]
  endpoints: [{ address: 127.0.0.1, ports: { http: $WEB } }]
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: { name: gate, namespace: e2e }
spec: { selector: { istio: gate }, servers: [{ port: { number: $GATE, protocol: HTTP }, hosts: ["*"] }] }
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: { name: web, namespace: e2e }
spec: { hosts: ["*"], gateways: [gate], http: [{ route: [{ destination: { host: web.e2e.example } }] }] }
END
}
deny() {
	cat <<END
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: { name: deny, namespace: e2e }
spec: { selector: { matchLabels: { app: server } }, action: DENY, rules: [{ from: [{ source: { principals: ["cluster.local/ns/e2e/sa/client"] } }] }] }
END
}
launch() {
	start "$1" flatd --control "$CONTROL" --config "$CONFIG" --metrics "127.0.0.1:$METRICS" --gateway e2e/gate "${@:2}"
}
answers() { flatctl --control "$CONTROL" ls; }
is_of() { curl -sS -m 5 "http://127.0.0.1:$METRICS/metrics" | grep -q "^flat_sessions_opened\|^flat_build_info" && [ "$(sed -n 's/.*serving on.*/x/p' "$WORK/$1.log")" = x ]; }
retired() { grep -q 'retired: ' "$WORK/$1.log"; }
ready() { [ "$(head -n 1 "$WORK/$1.log" 2>/dev/null)" = connected ]; }
said_goaway() { [ -n "$(said goaway)" ]; }
said() { sed -n 2p "$WORK/$1.log"; }
counted() { [ -n "$(said "$1")" ]; }
run() { start "$1" over "$WORK/client-python" -B "$part" "${@:2}"; }

base >"$CONFIG"
launch flatd-a
A=$PID
wait_for 10 answers || die flatd-starts "$(tail -n 5 "$WORK/flatd-a.log")"
serve echo "$ECHO" over "$WORK/server-python" -B "$part" serve "$ECHO"
serve other "$OTHER" over "$WORK/server-python" -B "$part" inherit "$OTHER"
HEIR=$PID
serve web "$WEB" over "$WORK/server-python" -B "$E2E_ROOT/tests/e2e/http_origin.py" "$WEB" a
mkdir "$WORK/root"
serve jail "$JAIL" over "$WORK/server-python" -B "$part" jail "$JAIL" "$WORK/root"
start once-a over "$WORK/server-python" -B "$part" once "$ONCE_A"
start once-b over "$WORK/server-python" -B "$part" once "$ONCE_B"
listeners() { [ "$(state "len(s['listeners'])")" = "$1" ]; }
wait_for 10 listeners 6 || die listeners

names='direct forwarded plain'
run hold-direct hold direct.e2e.example 7 "$WORK/stop"
HOLD=$PID
run hold-once-a hold once-a.e2e.example 7 "$WORK/stop"
HOLD_ONCE_A=$PID
wait_for 10 listeners 5 || die listener-of-one
run hold-forwarded hold forwarded.e2e.example 7 "$WORK/stop"
start hold-plain "$WORK/client-python" -B "$part" hold 127.0.0.1 "$ECHO" "$WORK/stop"
run churn-direct churn direct.e2e.example 7 "$WORK/stop-churn"
run churn-forwarded churn forwarded.e2e.example 7 "$WORK/stop-churn"
start churn-plain "$WORK/client-python" -B "$part" churn 127.0.0.1 "$ECHO" "$WORK/stop-churn"
for name in $names; do
	wait_for 10 ready "hold-$name" && wait_for 10 ready "churn-$name" || die "client-$name" "$(cat "$WORK/hold-$name.log")"
done
start goaway "$PYTHON" -B "$part" goaway "$GATE"
wait_for 10 ready goaway || die goaway "$(cat "$WORK/goaway.log")"
read -rt 0.3 <> <(:) || :

for round in b c; do
	launch "flatd-$round" --take-over
	holds "successor-$round" wait_for 10 is_of "flatd-$round"
	holds "predecessor-$round-retired" wait_for 10 retired "flatd-$([ $round = b ] && echo a || echo b)"
	FLATD=$PID
	if [ $round = b ]; then
		holds listeners-b listeners 5
		run hold-once-b hold once-b.e2e.example 7 "$WORK/stop"
		HOLD_ONCE_B=$PID
	fi
	holds "listeners-left-$round" wait_for 10 listeners 4
	same "new-connection-$round" "b'hi'" "$(over "$WORK/client-python" -c 'import socket; s = socket.create_connection(("direct.e2e.example", 7), 10); s.sendall(b"hi"); print(s.recv(9))')"
	same "plain-$round" "b'hi'" "$("$WORK/client-python" -c "import socket; s = socket.create_connection(('127.0.0.1', $ECHO), 10); s.sendall(b'hi'); print(s.recv(9))")"
	same "gateway-$round" 200 "$(curl -sS -m 10 -o /dev/null -w '%{http_code}' "http://127.0.0.1:$GATE/status/200")"
	[ $round = c ] || { holds http2-client-told wait_for 10 said_goaway && same http2-client-goes told "$(said goaway)"; }
	holds "predecessor-$round-alive" kill -0 "$A"
done

touch "$WORK/stop-churn"
for name in $names; do
	wait_for 20 counted "churn-$name"
	same "churn-$name-failed ($(said "churn-$name"))" 0 "$(said "churn-$name" | cut -d ' ' -f 2)"
done

# A listener whose anchor the first flatd made, in a new process image that asks the third.
kill -USR1 "$HEIR"
inherited() { grep -q inherited "$WORK/other.log"; }
holds exec-inherits wait_for 10 inherited
went exec-serves direct over "$WORK/client-python" -c 'import socket; s = socket.create_connection(("other.e2e.example", 7), 10); s.sendall(b"hi"); print(s.recv(9))'

# The predecessor still watches over what it kept, and who served it is known where he listens no more, by a flatd that took him over too.
for name in once-a once-b; do
	holds "$name-goes-on" test "$(cat "$WORK/hold-$name.log")" = connected
done
apply < <(base && deny)
holds revoked-at-the-predecessor wait_for 10 gone "$HOLD"
holds revoked-of-a-listener-closed-before wait_for 10 gone "$HOLD_ONCE_A"
holds revoked-of-a-listener-closed-since wait_for 10 gone "$HOLD_ONCE_B"
apply < <(base)

# A server that does nothing but accept is told of connections by flatds that it has never asked.
for name in direct jail; do
	run "since-$name" hold "$name.e2e.example" 7 "$WORK/stop-since"
	wait_for 10 ready "since-$name" || die "client-since-$name" "$(cat "$WORK/since-$name.log")"
done
touch "$WORK/stop"
wait_for 20 counted hold-plain
holds "kept-connection ($(said hold-plain) pieces, longest ms)" test "$(said hold-plain | cut -d ' ' -f 1)" -gt 50
holds predecessor-ends wait_for 10 gone "$A"
touch "$WORK/stop-since"
for name in direct jail; do
	wait_for 20 counted "since-$name"
	holds "$name-outlives-predecessor ($(said "since-$name") pieces, longest ms)" test "$(said "since-$name" | cut -d ' ' -f 1)" -gt 1
	same "$name-without-predecessor" "b'hi'" "$(over "$WORK/client-python" -c "import socket; s = socket.create_connection(('$name.e2e.example', 7), 10); s.sendall(b'hi'); print(s.recv(9))")"
done
holds successor-stays kill -0 "$FLATD"
holds control-stays answers

# A successor that cannot say in time that it serves: its predecessor goes on, and there are never two.
CONTROL=$WORK/alone.sock
start alone flatd --control "$CONTROL" --config "$CONFIG" --metrics off
wait_for 10 answers || die alone
start middle "$PYTHON" -B "$part" middle "$WORK/middle.sock.admin" "$CONTROL.admin"
wait_for 10 ready middle || die middle "$(cat "$WORK/middle.log")"
start late flatd --control "$WORK/middle.sock" --config "$CONFIG" --metrics off --take-over
holds late-successor-ends wait_for 10 gone "$PID"
holds late-successor-says-why grep -q 'the predecessor has waited too long, and goes on itself' "$WORK/late.log"
holds its-predecessor-goes-on answers
holds no-admin-socket-of-its-own test ! -e "$WORK/middle.sock.adnew" -a -S "$WORK/middle.sock.admin"

# A flatd without privileges, whose sockets take no more than the system's default at a time, hands over more than that.
if [ "$(id -u)" != 0 ] || ! setpriv --reuid 65534 --regid 65534 --clear-groups test -r "$FLAT_BUILD/libflat-preload.so"; then
	exit 0
fi
ANYBODY=(setpriv --reuid 65534 --regid 65534 --clear-groups)
MANY=500
mkdir "$WORK/user" && chown 65534:65534 "$WORK/user"
cat >"$WORK/many.py" <<END
import socket, time
v = [socket.create_server(("127.0.0.1", 0)) for _ in range($MANY)]
print("listening", flush=True)
time.sleep(600)
END
chmod 644 "$WORK/many.py"
CONTROL=$WORK/user/control.sock
start user-a "${ANYBODY[@]}" flatd --control "$CONTROL" --config "$CONFIG" --metrics off
wait_for 10 answers || die user-flatd
start many "${ANYBODY[@]}" flat-run --control "$CONTROL" "$PYTHON" "$WORK/many.py"
all_listen() { [ "$(state "len(s['listeners'])")" = $MANY ]; }
wait_for 30 all_listen || die many-listen "$(tail -n 3 "$WORK/many.log")"
start user-b "${ANYBODY[@]}" flatd --control "$CONTROL" --config "$CONFIG" --metrics off --take-over
holds user-predecessor-retired wait_for 20 retired user-a
holds user-listeners wait_for 10 all_listen
