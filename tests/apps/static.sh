#!/bin/bash
# Programs that no library reaches, static and with system calls of their own: busybox httpd and wget, a server and a client in
# Go. They keep the kernel's sockets. As servers they are reached through flatd; as clients they come to it; policies hold
# for both.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
needs busybox curl go "$PYTHON"

mkdir "$WORK/www" "$WORK/bin"
head -c 5000000 /dev/urandom >"$WORK/www/big"
cat >"$WORK/talk.go" <<'END'
// talk serve ADDRESS: gives back what comes, byte by byte plus one. talk ask ADDRESS: 50 connections at a time, prints their sum.
package main

import (
	"fmt"
	"hash/fnv"
	"io"
	"net"
	"os"
	"sync"
)

func answer(conn net.Conn) {
	defer conn.Close()
	buf := make([]byte, 32768)
	for {
		n, err := conn.Read(buf)
		for i := range buf[:n] {
			buf[i]++
		}
		if _, failed := conn.Write(buf[:n]); failed != nil || err != nil {
			return
		}
	}
}

func ask(address string, id int) (uint64, error) {
	conn, err := net.Dial("tcp", address)
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	much := make([]byte, 100000+id*1000)
	for i := range much {
		much[i] = byte(i * id)
	}
	go func() {
		conn.Write(much)
		conn.(*net.TCPConn).CloseWrite()
	}()
	sum := fnv.New64a()
	n, err := io.Copy(sum, conn)
	if err == nil && n != int64(len(much)) {
		err = fmt.Errorf("%d of %d bytes", n, len(much))
	}
	return sum.Sum64(), err
}

func main() {
	if os.Args[1] == "serve" {
		listener, err := net.Listen("tcp", os.Args[2])
		for err == nil {
			var conn net.Conn
			if conn, err = listener.Accept(); err == nil {
				go answer(conn)
			}
		}
		fmt.Println(err)
		os.Exit(1)
	}
	var all sync.WaitGroup
	var total uint64
	var lock sync.Mutex
	status := 0
	for id := 0; id < 50; id++ {
		all.Add(1)
		go func(id int) {
			defer all.Done()
			sum, err := ask(os.Args[2], id)
			lock.Lock()
			defer lock.Unlock()
			total += sum
			if err != nil {
				fmt.Println(err)
				status = 1
			}
		}(id)
	}
	all.Wait()
	fmt.Println(total)
	os.Exit(status)
}
END
CGO_ENABLED=0 GO111MODULE=off GOTOOLCHAIN=local GOCACHE=$FLAT_BUILD/go-cache go build -o "$WORK/bin/talk" "$WORK/talk.go" \
	2>"$WORK/go.log" || die build "$(tail -n 3 "$WORK/go.log")"
cat >"$WORK/echo.py" <<'END'
"""What `talk serve` does."""
import socketserver
import sys


class Handler(socketserver.BaseRequestHandler):
    def handle(self):
        while data := self.request.recv(65536):
            self.request.sendall(bytes((byte + 1) & 255 for byte in data))


class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 128


Server(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
END
app httpd
app talk 7
app echo 7
app www
app guarded
for name in busybox curl; do cp "$(readlink -f "$(command -v $name)")" "$WORK/bin/$name"; done
cp "$(readlink -f "$PYTHON")" "$WORK/bin/guarded-python"
cat >>"$CONFIG" <<END
---
apiVersion: mesh.libflat.io/v1
kind: Workload
metadata: { name: friend, namespace: e2e }
spec: { serviceAccount: friend, selectors: [{ executable: $WORK/bin/curl, executableOwner: $(id -u) }] }
---
apiVersion: mesh.libflat.io/v1
kind: Workload
metadata: { name: guarded, namespace: e2e, labels: { app: guarded } }
spec: { selectors: [{ executable: $WORK/bin/guarded-python, executableOwner: $(id -u) }] }
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: { name: friends, namespace: e2e }
spec:
  selector: { matchLabels: { app: guarded } }
  action: ALLOW
  rules: [{ from: [{ source: { principals: [cluster.local/ns/e2e/sa/friend] } }] }]
END
httpd_server() { CMD=(busybox httpd -f -p "127.0.0.1:$1" -h "$WORK/www"); }
talk_server() { CMD=("$WORK/bin/talk" serve "127.0.0.1:$1"); }
echo_server() { CMD=("$PYTHON" -B "$WORK/echo.py" "$1"); }
www_server() { CMD=("$PYTHON" -m http.server --bind 127.0.0.1 -d "$WORK/www" "$1"); }
guarded_server() { CMD=("$WORK/bin/guarded-python" -m http.server --bind 127.0.0.1 -d "$WORK/www" "$1"); }
mesh
both echo www guarded
# Static servers are flatd's to connect to, and register nothing.
for name in httpd talk; do
	one $name native
	mkdir "$WORK/$name-flat"
	"${name}_server" "${FLAT[$name]}" "$WORK/$name-flat"
	serve "$name-flat" "${FLAT[$name]}" over "${CMD[@]}"
	FLAT_PID[$name]=$PID
	holds "$name-is-said-to-be-static" grep -q static "$WORK/$name-flat.log"
	holds "$name-registers-nothing" eval "! registered ${FLAT[$name]}"
done

pages() { run curl -sS "http://$1:$2/big" | hash_of; }
talks() { run "$PYTHON" -B "$WORK/asks.py" "$1" "$2"; }
cat >"$WORK/asks.py" <<'END'
"""A conversation with `talk serve`."""
import hashlib
import socket
import sys
import threading

with socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=30) as sock:
    much = b"abcdefgh" * 300000
    sender = threading.Thread(target=lambda: (sock.sendall(much), sock.shutdown(socket.SHUT_WR)))
    sender.start()
    digest = hashlib.sha256()
    while data := sock.recv(65536):
        digest.update(data)
    sender.join()
    print(digest.hexdigest())
END
WAYS=(native forwarded)
each httpd httpd pages
each talk talk talks
# Static clients and servers among themselves: the kernel's alone. Static clients of a flat server come through flatd.
WANTED=$("$WORK/bin/talk" ask "127.0.0.1:${NATIVE[talk]}")
went static-to-static-path none "$WORK/bin/talk" ask "127.0.0.1:${FLAT[talk]}"
same static-to-static "$WANTED" "$OUT"
went static-client-path forwarded "$WORK/bin/talk" ask "127.0.0.1:${FLAT[echo]}"
same static-client "$WANTED" "$OUT"
# flat-run says that it cannot; the program runs as it is.
went static-client-over-path forwarded over "$WORK/bin/talk" ask "127.0.0.1:${FLAT[echo]}"
same static-client-over "$WANTED" "$OUT"
fetched() { "$@" | hash_of; }
went wget-path forwarded fetched "$WORK/bin/busybox" wget -q -O - "http://127.0.0.1:${FLAT[www]}/big"
same wget "$(hash_of <"$WORK/www/big")" "$OUT"

# --- the same policy ---

same allowed "$(hash_of <"$WORK/www/big")" "$(over "$WORK/bin/curl" -sS http://guarded.e2e.example/big | hash_of)"
refused() { ! "$@" 2>&1; }
holds static-refused refused "$WORK/bin/busybox" wget -q -O "$WORK/out" "http://127.0.0.1:${FLAT[guarded]}/big"
holds static-over-refused refused over "$WORK/bin/busybox" wget -q -O "$WORK/out" "http://127.0.0.1:${FLAT[guarded]}/big"
holds go-refused refused "$WORK/bin/talk" ask "127.0.0.1:${FLAT[guarded]}"
holds nothing-came test ! -s "$WORK/out"
EXPECTED='refused '
ends
