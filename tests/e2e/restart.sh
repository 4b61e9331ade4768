#!/bin/bash
# flatd is killed: servers wait for another one without burning the processor, and serve over it again.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
needs redis-server redis-cli nginx curl "$PYTHON"

cat >"$WORK/upper.py" <<'END'
"""Answers each line in upper case, by blocking calls."""
import socketserver
import sys


class Handler(socketserver.StreamRequestHandler):
    def handle(self):
        for line in self.rfile:
            self.wfile.write(line.upper())


socketserver.ThreadingTCPServer.allow_reuse_address = True
with socketserver.ThreadingTCPServer(("127.0.0.1", int(sys.argv[1])), Handler) as server:
    server.serve_forever(poll_interval=30)
END
cat >"$WORK/loop.py" <<'END'
"""One thread, which blocks in accept() where there is nothing: it listens, and answers what is written into a pipe, by NAME."""
import select
import socket
import sys

listener = socket.create_server(("127.0.0.1", int(sys.argv[1])))
waits = select.epoll() if sys.argv[2] == "epoll" else select.poll()
pipe = open(sys.argv[3], "r+b", buffering=0)
waits.register(listener, select.POLLIN)
waits.register(pipe, select.POLLIN)
while True:
    ready = [fd for fd, _ in waits.poll()]
    if listener.fileno() in ready:
        print("accepts", flush=True)
        try:
            listener.accept()[0].close()
        except OSError as e:
            print("accept: errno", e.errno, flush=True)
    if pipe.fileno() in ready:
        print("heard", pipe.readline().decode().strip(), flush=True)
END
cat >"$WORK/ask.py" <<'END'
import socket
import sys

with socket.create_connection((sys.argv[1], 7), timeout=20) as sock:
    sock.sendall(b"hello\n")
    sys.stdout.write(sock.makefile().readline())
END
port && REDIS=$PORT
port && WEB=$PORT
port && UPPER=$PORT
port && HELLO=$PORT
port && EPOLL=$PORT
port && POLL=$PORT
{
	service redis 240.9.8.1 6379 "$REDIS"
	service web 240.9.8.2 80 "$WEB"
	service upper 240.9.8.3 7 "$UPPER"
	service hello 240.9.8.4 7 "$HELLO"
	service epoll 240.9.8.5 7 "$EPOLL"
	service poll 240.9.8.6 7 "$POLL"
} >"$CONFIG"
mkdir "$WORK/www" && echo "a page" >"$WORK/www/index.html" && chmod 755 "$WORK/www"
cat >"$WORK/nginx.conf" <<END
daemon off; error_log $WORK/nginx-error.log; pid $WORK/nginx.pid; worker_processes 2;
events { worker_connections 256; }
http { access_log off; server { listen 127.0.0.1:$WEB; root $WORK/www; } }
END
start_flatd
serve redis "$REDIS" over redis-server --port "$REDIS" --bind 127.0.0.1 --save '' --dir "$WORK"
SERVERS=("$PID")
serve nginx "$WEB" over nginx -e "$WORK/nginx-error.log" -c "$WORK/nginx.conf"
mapfile -t workers < <(wait_for 10 pgrep -P "$PID" && pgrep -P "$PID")
SERVERS+=("${workers[@]}")
serve upper "$UPPER" over "$PYTHON" -B "$WORK/upper.py" "$UPPER"
SERVERS+=("$PID")
serve hello "$HELLO" over "$FLAT_BUILD/examples/hello-server" "$HELLO"
SERVERS+=("$PID")
mkfifo "$WORK/to-epoll" "$WORK/to-poll"
serve loop-epoll "$EPOLL" over "$PYTHON" -B "$WORK/loop.py" "$EPOLL" epoll "$WORK/to-epoll"
serve loop-poll "$POLL" over "$PYTHON" -B "$WORK/loop.py" "$POLL" poll "$WORK/to-poll"

ask() {
	case $1 in
	redis) timeout 20 flat-run --control "$CONTROL" redis-cli -h redis.e2e.example ping ;;
	web) over curl -sS --max-time 20 http://web.e2e.example/ ;;
	upper) over "$PYTHON" -B "$WORK/ask.py" upper.e2e.example ;;
	hello) FLAT_CONTROL=$CONTROL timeout 20 "$FLAT_BUILD/examples/hello-client" hello.e2e.example 7 hi ;;
	esac
}
declare -A WANTED=([redis]=PONG [web]="a page" [upper]=HELLO [hello]=hi)
ask_all() {
	local what
	for what in redis web upper hello; do
		went "$what-$1-path" direct ask $what
		same "$what-$1" "${WANTED[$what]}" "$OUT"
	done
}
# Hundredths of a second of processor time that the servers have used.
used() {
	local pid total=0 stat
	for pid in "${SERVERS[@]}"; do
		stat=$(<"/proc/$pid/stat") || return 1
		read -ra stat <<<"${stat##*) }"
		total=$((total + stat[11] + stat[12]))
	done
	echo $total
}
registered() { [ "$(state "len(set(l['address'] for l in s['listeners']))")" = 6 ]; }

accepts() { grep -c '^accepts' "$WORK/loop-$1.log" || :; }
declare -A ACCEPTS=([epoll]=0 [poll]=0)
accepts_again() { [ "$(accepts "$1")" -gt "${ACCEPTS[$1]}" ]; }

ask_all first
for round in 1 2; do
	for waits in epoll poll; do ACCEPTS[$waits]=$(accepts $waits); done
	kill -9 "$FLATD"
	wait_for 10 gone "$FLATD"
	before=$(used)
	read -rt 1 <> <(:) || :
	after=$(used)
	holds "servers-alive-$round" test -n "$after"
	# A server that spins uses 100 per second; six that look for flatd now and then use next to nothing.
	holds "servers-idle-$round" test $((after - before)) -lt 40
	for waits in epoll poll; do
		# Told of its listener it calls accept(), and has something else to do.
		holds "$waits-told-$round" wait_for 10 accepts_again $waits
		echo "line-$round" >"$WORK/to-$waits"
		holds "$waits-goes-on-$round" wait_for 10 grep -q "heard line-$round" "$WORK/loop-$waits.log"
	done
	start_flatd
	holds "registered-again-$round" wait_for 10 registered
	ask_all "again-$round"
done
