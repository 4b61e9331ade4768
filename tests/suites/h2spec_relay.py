"""
`h2spec_relay.py PORT HOST PORT`: what comes to a port of the kernel goes to a service of the mesh. For clients that the library does not reach,
such as programs in Go. Ends and resets of either side are passed on.
"""
import contextlib
import socket
import struct
import sys
import threading


def pass_on(source, sink):
    try:
        while data := source.recv(65536):
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)
    except OSError:
        for s in (source, sink):
            with contextlib.suppress(OSError):
                s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                s.shutdown(socket.SHUT_RDWR)


def serve(client):
    with client:
        with socket.create_connection((sys.argv[2], int(sys.argv[3]))) as server:
            back = threading.Thread(target=pass_on, args=(server, client))
            back.start()
            pass_on(client, server)
            back.join()


listener = socket.create_server(("127.0.0.1", int(sys.argv[1])))
while True:
    threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()
