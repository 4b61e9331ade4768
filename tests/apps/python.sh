#!/bin/bash
# Python: asyncio streams, multiprocessing (connections, managers, a pool of forked workers that accept), uvicorn with two
# workers, gunicorn with forked and threaded workers and a reload under load.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
needs "$PYTHON" uvicorn gunicorn ab curl

cat >"$WORK/served.py" <<'END'
"""Servers: asyncio, listener, manager, prefork, spawn; `served.py KIND PORT`."""
import asyncio
import multiprocessing
import multiprocessing.connection
import multiprocessing.managers
import signal
import socket
import sys


async def echo(reader, writer):
    while data := await reader.read(65536):
        writer.write(data.swapcase())
        await writer.drain()
    writer.write_eof()
    writer.close()
    await writer.wait_closed()


async def streams(port):
    server = await asyncio.start_server(echo, "127.0.0.1", port)
    async with server:
        await server.serve_forever()


def listener(port):
    with multiprocessing.connection.Listener(("127.0.0.1", port), backlog=50, authkey=b"key") as listening:
        while True:
            with listening.accept() as conn:
                while (got := conn.recv()) is not None:
                    conn.send((len(got), got[::-1]))


class Store(multiprocessing.managers.BaseManager):
    """Serves one dictionary."""


def manager(port):
    things = {}
    Store.register("things", callable=lambda: things)
    Store(("127.0.0.1", port), b"key").get_server().serve_forever()


def worker(listening):
    while True:
        conn, _ = listening.accept()
        with conn:
            while data := conn.recv(65536):
                conn.sendall(data.swapcase())


def workers(port, how):
    listening = socket.create_server(("127.0.0.1", port), backlog=50)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(5))
    context = multiprocessing.get_context(how)
    pool = [context.Process(target=worker, args=(listening,), daemon=True) for _ in range(3)]
    for process in pool:
        process.start()
    for process in pool:
        process.join()


if __name__ == "__main__":
    kind, where = sys.argv[1], int(sys.argv[2])
    if kind == "asyncio":
        asyncio.run(streams(where))
    elif kind in ("fork", "spawn"):
        workers(where, kind)
    else:
        {"listener": listener, "manager": manager}[kind](where)
END
cat >"$WORK/asks.py" <<'END'
"""Their clients; `asks.py KIND HOST PORT` prints a hash of the answers."""
import asyncio
import hashlib
import multiprocessing.connection
import sys

from served import Store

kind, host, port = sys.argv[1], sys.argv[2], int(sys.argv[3])


async def talk(n):
    reader, writer = await asyncio.open_connection(host, port)
    text = b"Connection %d. " % n * (1000 + 500 * n)

    async def send():
        writer.write(text)
        await writer.drain()
        writer.write_eof()
    sender = asyncio.create_task(send())
    got = await asyncio.wait_for(reader.read(-1), 30)
    await sender
    writer.close()
    assert got == text.swapcase(), f"{len(got)} of {len(text)} bytes"
    return hashlib.sha256(got).hexdigest()


async def streams():
    return " ".join(await asyncio.gather(*(talk(n) for n in range(40))))


def listener():
    out = []
    for n in range(5):
        with multiprocessing.connection.Client((host, port), authkey=b"key") as conn:
            for size in (0, 1, 70000, 3000000):
                conn.send(bytes([n]) * size + b"end")
                out.append(str(conn.recv()[0]))
            conn.send(None)
    return " ".join(out)


def manager():
    Store.register("things")
    store = Store((host, port), b"key")
    store.connect()
    things = store.things()
    for n in range(100):
        things.update({n: "x" * n})
    return str(sum(len(things.get(n)) for n in range(100)))


if kind in ("asyncio", "fork", "spawn"):
    answer = asyncio.run(streams())
else:
    answer = {"listener": listener, "manager": manager}[kind]()
print(hashlib.sha256(answer.encode()).hexdigest())
END
cat >"$WORK/waits.py" <<'END'
"""`waits.py HOST PORT`: a thread waits on an epoll instance of pipes while another puts the first connections in."""
import os
import select
import socket
import sys
import threading
import time

total = 0
for turn in range(20):
    poll = select.epoll()
    inside, outside = os.pipe()
    poll.register(inside, select.EPOLLIN)
    known, told = {inside}, []
    waiter = threading.Thread(target=lambda: [told.extend(poll.poll(30)) for _ in range(2)])
    waiter.start()
    time.sleep(0.01)
    with socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=30) as sock:
        known.add(sock.fileno())
        poll.register(sock.fileno(), select.EPOLLIN | select.EPOLLONESHOT)
        sock.sendall(b"x")
        while not told:
            time.sleep(0.001)
        os.write(outside, b"x")
        waiter.join()
    total += sum(fd in known for fd, _ in told)
    if any(fd not in known for fd, _ in told):
        print("told of what nobody put in:", told)
    poll.close()
    os.close(inside)
    os.close(outside)
print(total)
END
cat >"$WORK/web.py" <<'END'
"""The same site by ASGI and by WSGI."""
import hashlib


async def asgi(scope, receive, send):
    if scope["type"] != "http":
        return
    digest = hashlib.sha256()
    while True:
        event = await receive()
        digest.update(event.get("body", b""))
        if not event.get("more_body"):
            break
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"100064")]})
    await send({"type": "http.response.body", "body": digest.hexdigest().encode() + b"w" * 100000})


def wsgi(environ, start_response):
    body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
    start_response("200 OK", [("Content-Length", "100064")])
    return [hashlib.sha256(body).hexdigest().encode() + b"w" * 100000]
END
KINDS=(asyncio listener manager fork spawn)
for kind in "${KINDS[@]}"; do
	app $kind 7
	eval "${kind}_server() { CMD=('$PYTHON' -B '$WORK/served.py' $kind \"\$1\"); }"
done
app uvicorn
app gunicorn
app gthread
IN=(env -C "$WORK" PYTHONDONTWRITEBYTECODE=1)
uvicorn_server() { CMD=("${IN[@]}" uvicorn --host 127.0.0.1 --port "$1" --workers 2 --log-level warning web:asgi); }
gunicorn_server() { CMD=("${IN[@]}" gunicorn -b "127.0.0.1:$1" -w 3 --graceful-timeout 5 web:wsgi); }
gthread_server() { CMD=("${IN[@]}" gunicorn -b "127.0.0.1:$1" -w 2 -k gthread --threads 4 --keep-alive 5 --graceful-timeout 5 web:wsgi); }
mesh
both "${KINDS[@]}" uvicorn gunicorn gthread
asks() { run "$PYTHON" -B "$WORK/asks.py" "$3" "$1" "$2"; }
for kind in "${KINDS[@]}"; do each $kind $kind asks $kind; done
waits() { run "$PYTHON" -B "$WORK/waits.py" "$1" "$2"; }
each epoll asyncio waits

head -c 3000000 /dev/urandom >"$WORK/body"
pages() {
	run curl -sS -H Expect: --data-binary "@$WORK/body" "http://$1:$2/" | hash_of
	run curl -sS -H Expect: -T "$WORK/body" "http://$1:$2/" | hash_of
	run ab -q -c 8 -n 400 -r "http://$1:$2/" 2>&1 | grep -E '^(Complete|Failed|Non-2xx|apr)'
	run ab -q -c 8 -n 400 -k -r "http://$1:$2/" 2>&1 | grep -E '^(Complete|Failed|Non-2xx|apr)'
}
up() { curl -sS -o "$WORK/up" "http://127.0.0.1:$1/"; }
for name in uvicorn gunicorn gthread; do
	wait_for 10 up "${NATIVE[$name]}" && wait_for 10 up "${FLAT[$name]}" || die "$name-up"
	each $name $name pages
done
reloads() {
	local master=${FLAT_PID[gunicorn]} before load
	[ "$WAY" != native ] || master=${NATIVE_PID[gunicorn]}
	before=$(pgrep -P "$master" | head -n 1)
	run ab -q -c 4 -n 1500 -r "http://$1:$2/" 2>&1 | grep -E '^(Complete|Failed|Non-2xx|apr)' &
	load=$!
	kill -HUP "$master"
	wait_for 10 ended "$before" || echo "worker $before stays"
	wait "$load"
}
each reload gunicorn reloads
ends
