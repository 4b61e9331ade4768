#!/bin/bash
# Names for confined workloads: programs that know nothing of libflat find mesh names by whatever name server they ask, and all other
# names at that server; who is not confined gets nothing of it, and nobody's flood holds others up.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
needs busybox dig
[ "$(id -u)" -eq 0 ] || { echo "SKIP confined_dns: only root can confine" && exit 77; }

cgroups
tidy() {
	leave_cgroups d$$/below o$$/in d$$ o$$ free$$
}

part=$E2E_ROOT/tests/e2e/confined_dns_part.py
# Name servers have port 53: at addresses of the loopback of this script's own.
NET=127.$((64 + $$ / 250 % 60)).$(($$ % 250))
NS1=$NET.1 NS2=$NET.2 NOBODY=$NET.9
port && WEB=$PORT
port && CONFINE=$PORT
mkdir "$WORK/www" "$WORK/etc"
echo page >"$WORK/www/page"

base() {
	cat <<END
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: { name: db, namespace: e2e }
spec:
  hosts: [db.e2e.example, six.e2e.example, "*.wild.e2e.example"]
  addresses: [${2:-240.9.21.1}]
  location: MESH_INTERNAL
  resolution: STATIC
  ports: [{ number: 80, name: http }]
  endpoints: [{ address: 127.0.0.1, ports: { http: $WEB } }]
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: { name: given, namespace: e2e }
spec:
  hosts: [given.e2e.example]
  location: MESH_INTERNAL
  resolution: STATIC
  ports: [{ number: 80, name: http }]
  endpoints: [{ address: 127.0.0.1, ports: { http: $WEB } }]
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: { name: six, namespace: e2e }
spec:
  hosts: [six6.e2e.example]
  addresses: ["fd00::5"]
  location: MESH_INTERNAL
  resolution: STATIC
  ports: [{ number: 80, name: http }]
  endpoints: [{ address: 127.0.0.1, ports: { http: $WEB } }]
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: { name: secret, namespace: e2e }
spec:
  hosts: [secret.e2e.example]
  addresses: [240.9.21.3]
  exportTo: ["."]
  location: MESH_INTERNAL
  resolution: STATIC
  ports: [{ number: 80, name: http }]
  endpoints: [{ address: 127.0.0.1, ports: { http: $WEB } }]
---
apiVersion: v1
kind: Service
metadata: { name: shop, namespace: e2e }
spec: { clusterIP: 240.9.21.4, selector: { app: shop }, ports: [{ name: http, port: 80 }] }
---
apiVersion: mesh.libflat.io/v1
kind: Workload
metadata: { name: d$$, namespace: e2e, labels: { app: client } }
spec: { serviceAccount: client, confined: ${1:-true}, selectors: [{ cgroup: /flat/e2e/d$$ }] }
---
apiVersion: mesh.libflat.io/v1
kind: Workload
metadata: { name: o$$, namespace: other }
spec: { serviceAccount: other, confined: true, selectors: [{ cgroup: /flat/e2e/o$$ }] }
---
apiVersion: mesh.libflat.io/v1
kind: Workload
metadata: { name: i$$, namespace: e2e }
spec: { serviceAccount: inner, confined: true, selectors: [{ cgroup: /flat/e2e/o$$/in }] }
END
}
# In the workload's cgroup, without the library; `other`: in one of another namespace; `free`: where nobody is confined.
confined() { flat-run --control "$CONTROL" --off --workload "d$$.e2e" -- "$@"; }
other() { flat-run --control "$CONTROL" --off --workload "o$$.e2e" -- "$@"; }
free() { flat-run --control "$CONTROL" --off --workload "free$$.e2e" -- "$@"; }
# In a cgroup by its path.
inside() { bash -c 'echo 0 >"$0/cgroup.procs" && exec "$@"' "$CGROUPS$1" "${@:2}"; }
raw() { confined "$PYTHON" "$part" "$@"; }

base >"$CONFIG"
launch_first
ready() { [ -s "$WORK/$1.log" ]; }
for i in 1 2; do
	start "ns$i" "$PYTHON" "$part" serve "$NET.$i" "7.7.7.$i" "$WORK/ns$i.names"
	wait_for 20 ready "ns$i" || die "name-server-$i"
done
V6=
if [ -n "$(ss -ltnH 'src [::1]')" ] || [ -e /proc/net/if_inet6 ]; then
	start ns6 "$PYTHON" "$part" serve ::1 7.7.7.6 "$WORK/ns6.names"
	wait_for 20 ready ns6 && grep -q ready "$WORK/ns6.log" && V6=yes
fi
serve web "$WEB" "$PYTHON" -m http.server -d "$WORK/www" -b 127.0.0.1 "$WEB"

# --- names of the mesh ---

same by-address-bytes "240.9.21.1 from $NS1 53" "$(raw ask $NS1 db.e2e.example)"
same connected "240.9.21.1 from $NS1 53 peer $NS1 53" "$(raw connected $NS1 db.e2e.example)"
same bound "240.9.21.1 from $NS1 53" "$(raw bound $NS1 db.e2e.example)"
same mapped "240.9.21.1 from ::ffff:$NS1 53 peer ::ffff:$NS1 53" "$(raw connected ::ffff:$NS1 db.e2e.example)"
same mapped-unconnected "240.9.21.1 from ::ffff:$NS1 53" "$(raw ask ::ffff:$NS1 db.e2e.example)"
same any-case "240.9.21.1 from $NS1 53" "$(raw ask $NS1 DB.e2e.Example)"
same of-no-server "240.9.21.1 from $NOBODY 53" "$(raw ask $NOBODY db.e2e.example)"
# Its number of 23 bits is the highest, and 127.255.255.255 is no address of a host.
same last-of-the-aliases "240.9.21.1 from 192.168.223.170 53" "$(raw ask 192.168.223.170 db.e2e.example)"
same with-edns "240.9.21.1 from $NS1 53" "$(raw ask $NS1 db.e2e.example 1 1232)"
same no-data "nothing from $NS1 53" "$(raw ask $NS1 db.e2e.example 28)"
same no-https "nothing from $NS1 53" "$(raw ask $NS1 db.e2e.example 65)"
same any "240.9.21.1 from $NS1 53" "$(raw ask $NS1 db.e2e.example 255)"
same six "fd00::5 from $NS1 53" "$(raw ask $NS1 six6.e2e.example 28)"
same six-has-no-a "nothing from $NS1 53" "$(raw ask $NS1 six6.e2e.example 1)"
GIVEN=$(flat-run --control "$CONTROL" --workload "d$$.e2e" -- "$PYTHON" -c 'import socket; print(socket.gethostbyname("given.e2e.example"))')
same as-the-library "$GIVEN from $NS1 53" "$(raw ask $NS1 given.e2e.example)"
holds allocated test "${GIVEN%.*.*}" = 240.240
for name in shop.e2e shop.e2e.svc shop.e2e.svc.cluster.local; do
	same "service-$name" "240.9.21.4 from $NS1 53" "$(raw ask $NS1 $name)"
done
same veiled-seen "240.9.21.3 from $NS1 53" "$(raw ask $NS1 secret.e2e.example)"
same veiled-hidden "7.7.7.1 from $NS1 53" "$(other "$PYTHON" "$part" ask $NS1 secret.e2e.example)"
mkdir "$CGROUPS/flat/e2e/d$$/below"
same cgroup-below "240.9.21.3 from $NS1 53 peer $NS1 53" "$(inside "/flat/e2e/d$$/below" "$PYTHON" "$part" connected $NS1 secret.e2e.example)"
same confined-twice "240.9.21.3 from $NS1 53 peer $NS1 53" "$(inside "/flat/e2e/o$$/in" "$PYTHON" "$part" connected $NS1 secret.e2e.example)"
same confined-twice-unconnected "240.9.21.3 from $NS1 53" "$(inside "/flat/e2e/o$$/in" "$PYTHON" "$part" ask $NS1 secret.e2e.example)"
same confined-twice-others "7.7.7.2 from $NS2 53" "$(inside "/flat/e2e/o$$/in" "$PYTHON" "$part" ask $NS2 other.test)"
same confined-twice-stream "240.9.21.3 7.7.7.2" "$(inside "/flat/e2e/o$$/in" "$PYTHON" "$part" stream $NS2 secret.e2e.example other.test)"
if [ -n "$V6" ]; then
	same by-v6 "240.9.21.1 from ::1 53 peer ::1 53" "$(raw connected ::1 db.e2e.example)"
	same by-v6-unconnected "240.9.21.1 from ::1 53" "$(raw ask ::1 db.e2e.example)"
	same by-v6-others "7.7.7.6 from ::1 53 peer ::1 53" "$(raw connected ::1 other.test)"
fi
holds never-asked-for bash -c "! grep -q e2e.example '$WORK/ns1.names' || ! grep -v secret '$WORK/ns1.names' | grep -q e2e.example"

# --- programs ---

same dig 240.9.21.1 "$(confined dig +short +tries=1 @$NS1 db.e2e.example)"
same dig-edns 240.9.21.1 "$(confined dig +short +tries=1 +bufsize=1400 +dnssec @$NS1 db.e2e.example)"
same dig-tcp 240.9.21.1 "$(confined dig +short +tries=1 +tcp @$NS1 db.e2e.example)"
same dig-tcp-others 7.7.7.1 "$(confined dig +short +tries=1 +tcp @$NS1 other.test)"
holds dig-status grep -q 'status: NXDOMAIN' <<<"$(confined dig +tries=1 @$NS1 a.none)"
holds nslookup grep -q 'Address.*: 240.9.21.1' <<<"$(confined busybox nslookup db.e2e.example $NS1 2>&1)"
# With a resolver's own configuration, in a mount namespace.
echo "nameserver $NS1" >"$WORK/etc/resolv.conf"
echo "search e2e.svc.cluster.local e2e.example" >>"$WORK/etc/resolv.conf"
resolving() { confined unshare -m bash -c 'mount --bind "$0" /etc/resolv.conf && exec "$@"' "$WORK/etc/resolv.conf" "$@"; }
if ! unshare -m true 2>/dev/null || [ ! -e /etc/resolv.conf ]; then
	echo "SKIP $E2E_NAME/wget-by-name: no mount namespaces, or no /etc/resolv.conf"
else
	went wget-by-name forwarded resolving busybox wget -q -O - http://db.e2e.example/page
	same wget-by-name-bytes page "$OUT"
	same by-search "240.9.21.1" "$(resolving "$PYTHON" -c 'import socket; print(socket.getaddrinfo("db", 80, socket.AF_INET)[0][4][0])')"
	same getaddrinfo "240.9.21.4" "$(resolving "$PYTHON" -c 'import socket; print(socket.getaddrinfo("shop", 80, socket.AF_INET)[0][4][0])')"
fi

# --- all other names ---

same others "7.7.7.1 from $NS1 53 peer $NS1 53" "$(raw connected $NS1 other.test)"
same others-at-who-was-asked "7.7.7.2 from $NS2 53" "$(raw ask $NS2 other.test)"
same wildcards-are-dns-s "7.7.7.1 from $NS1 53" "$(raw ask $NS1 a.wild.e2e.example)"
same single-labels-are-dns-s "7.7.7.1 from $NS1 53" "$(raw ask $NS1 shop)"
same no-such-name "rcode 3 from $NS1 53" "$(raw ask $NS1 a.none)"
same two-servers-one-socket "$NS1=7.7.7.1 $NS2=7.7.7.2" "$(raw several $NS1 $NS2)"
same long-answers "$(printf '7.7.7.1 %.0s' {1..61})from $NS1 53" "$(raw ask $NS1 big.test)"
same nobody-there "rcode 2 from $NOBODY 53" "$(raw ask $NOBODY other.test)"
same another-id True "$("$PYTHON" -c "print(len({l.split()[2] for l in open('$WORK/ns1.names') if l.startswith('other')} - {'1234', '0'}) > 0)")"
same wrong-sources "7.7.7.1 from $NS1 53" "$(raw ask $NS1 hostile.test)"
same junk-is-not-an-answer "rcode 2 from $NS1 53" "$(raw ask $NS1 flood.test)"
same native "7.7.7.1 from $NS1 53" "$(free "$PYTHON" "$part" ask $NS1 db.e2e.example)"

# --- hostile ---

same malformed "rcode 1 from $NS1 53" "$(raw raw $NS1 123401000001000000000000c00c00010001)"
same two-questions "rcode 1 from $NS1 53" "$(raw raw $NS1 123401000002000000000000016100000100010161000001000100)"
same too-short silence "$(raw raw $NS1 1234)"
same no-query silence "$(raw raw $NS1 12348100000100000000000001610000010001)"
for to in 127.0.0.1 127.200.1.1 ::1; do
	same "outsider-$to" silence "$(free "$PYTHON" "$part" outside $to "$CONFINE" db.e2e.example)"
done
same outsider-marked silence "$(free "$PYTHON" "$part" marked 127.200.1.1 "$CONFINE" db.e2e.example 12345)"
same by-its-own-wish silence "$(raw outside 127.200.1.1 "$CONFINE" db.e2e.example)"
descriptors() { find "/proc/$FLATD/fd" -type l | wc -l; }
BEFORE=$(descriptors)
as_before() { [ "$(descriptors)" -lt $((BEFORE + 20)) ]; }
OUT=$(raw flood $NS1 600 "$FLATD")
MOST=${OUT##* }
same flood-of-queries "7.7.7.1 from $NS1 53" "${OUT% *}"
holds "flood-waits ($BEFORE descriptors, then $MOST)" test "$MOST" -gt $((BEFORE + 100))
holds flood-is-bounded test "$MOST" -lt $((BEFORE + 300))
same flood-of-one-other-s "240.9.21.1 from $NS1 53" "$(other "$PYTHON" "$part" ask $NS1 db.e2e.example)"

# --- over TCP ---

same stream "240.9.21.1" "$(raw stream $NS1 db.e2e.example)"
same stream-mixed "240.9.21.1 7.7.7.1 240.9.21.3 7.7.7.1" "$(raw stream $NS1 db.e2e.example other.test secret.e2e.example more.test)"
same stream-veiled "240.9.21.1 7.7.7.2" "$(other "$PYTHON" "$part" stream $NS2 db.e2e.example secret.e2e.example)"
same stream-nobody-there reset "$(raw stream $NOBODY other.test)"
same stream-nobody-there-mesh 240.9.21.1 "$(raw stream $NOBODY db.e2e.example)"
same stream-bytewise "240.9.21.1 end" "$(raw bytewise $NS1 db.e2e.example)"
same stream-bytewise-others "7.7.7.1 end" "$(raw bytewise $NS1 other.test)"
same stream-malformed "rcode 1" "$(raw junk $NS1 0012123401000001000000000000c00c00010001)"
same stream-junk True "$(out=$(raw junk $NS1 0002abcd) && [[ $out = ended || $out = reset ]] && echo True)"
same stream-idle "240.9.21.1 of 40" "$(raw idle $NS1 40)"
wait_for 30 as_before
same stream-for-its-own "240.9.21.1 for it" "$(raw oldest $NS1 31)"
same stream-after-that 240.9.21.1 "$(raw stream $NS1 db.e2e.example)"

holds flood-goes-by wait_for 30 as_before

# --- policies ---

apply < <(base && registry_only)
same registry-only-names "240.9.21.1 from $NS1 53" "$(raw ask $NS1 db.e2e.example)"
same registry-only-others "7.7.7.1 from $NS1 53" "$(raw ask $NS1 other.test)"
same registry-only-stream 240.9.21.1 "$(raw stream $NS1 db.e2e.example)"
same registry-only-stream-others "rcode 5" "$(raw stream $NS1 other.test)"
apply < <(base)

# --- flatd comes and goes ---

start stays flat-run --control "$CONTROL" --off --workload "d$$.e2e" -- "$PYTHON" "$part" stay $NS1 db.e2e.example "$WORK/turns"
# stays: what the socket that was there all the time is told now.
stays() {
	local n
	n=$(wc -l <"$WORK/stays.log")
	echo >>"$WORK/turns"
	told() { [ "$(wc -l <"$WORK/stays.log")" -gt "$n" ]; }
	wait_for 20 told && tail -n 1 "$WORK/stays.log"
}
same stays "240.9.21.1 from $NS1 53" "$(stays)"
start hammer flat-run --control "$CONTROL" --off --workload "d$$.e2e" -- "$PYTHON" "$part" hammer $NS1 db.e2e.example "$WORK/stop"
HAMMER=$PID
start hammer-others flat-run --control "$CONTROL" --off --workload "d$$.e2e" -- "$PYTHON" "$part" hammer $NS1 other.test "$WORK/stop"
HAMMER_OTHERS=$PID
launch second --take-over
SECOND=$PID
holds predecessor-ends wait_for 20 gone "$FLATD"
same after-take-over "240.9.21.1 from $NS1 53" "$(stays)"
touch "$WORK/stop"
wait_for 20 gone "$HAMMER"
wait_for 20 gone "$HAMMER_OTHERS"
same take-over-loses-nothing "0 lost" "$(tail -n 1 "$WORK/hammer.log")"
same take-over-loses-no-others "0 lost" "$(tail -n 1 "$WORK/hammer-others.log")"
apply < <(base true 240.9.21.7)
same another-address "240.9.21.7 from $NS1 53" "$(raw ask $NS1 db.e2e.example)"
kill -9 "$SECOND"
wait "$SECOND" 2>/dev/null
# What io_uring holds of its sockets the kernel lets go a moment after the process: a question may still be put there.
refuses() { [ "$(raw brief $NS1 other.test)" = refused ]; }
holds without-flatd wait_for 20 refuses
same without-flatd-stream refused "$(raw stream $NS1 other.test)"
same without-flatd-others "7.7.7.1 from $NS1 53" "$(free "$PYTHON" "$part" ask $NS1 other.test)"
launch third
THIRD=$PID
wait_for 20 flatctl --control "$CONTROL" ls
same a-new-flatd "240.9.21.7 from $NS1 53" "$(raw ask $NS1 db.e2e.example)"
same a-new-flatd-stays "240.9.21.7 from $NS1 53" "$(stays)"
apply < <(base false)
same let-go "7.7.7.1 from $NS1 53 peer $NS1 53" "$(raw connected $NS1 db.e2e.example)"
apply < <(base)
same confined-again "240.9.21.1 from $NS1 53 peer $NS1 53" "$(raw connected $NS1 db.e2e.example)"
stop "$THIRD"
same stopped-is-closed refused "$(raw brief $NS1 other.test)"
holds released flatctl release "/flat/e2e/d$$" "/flat/e2e/o$$" "/flat/e2e/o$$/in"
same released-is-open "7.7.7.1 from $NS1 53 peer $NS1 53" "$(raw connected $NS1 db.e2e.example)"
same released-is-open-stream 7.7.7.1 "$(raw stream $NS1 db.e2e.example)"
same released-twice "/flat/e2e/d$$ was not confined" "$(flatctl release "/flat/e2e/d$$")"
