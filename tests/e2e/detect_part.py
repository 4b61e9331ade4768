"""
What ports of no declared protocol are used for. detect_part.py COMMAND ...
  serve NAME PORT [ADDRESS]   answers requests of HTTP/1 with its name and their path, the first of HTTP/2 with its name; other connections
                              with its name and what came until the end or a line's end, in brackets
  say HOST PORT PIECE...      sends the pieces, one by one, with 100 ms between; "-": and no more; then prints what comes until the end
  gone HOST PORT TEXT         sends it and is gone
"""
import socket
import sys
import threading
import time


def talk(s, name):
    data = b""
    while b"\n" not in data:
        piece = s.recv(65536)
        if not piece:
            break
        data += piece
    if data.startswith(b"PRI * HTTP/2.0"):
        talk_2(s, name)
        return
    if b" HTTP/1." not in data.split(b"\n")[0]:
        print("bytes", data, flush=True)
        s.sendall(name + b" [" + data.strip() + b"]\n")
        return
    while True:
        while b"\r\n\r\n" not in data:
            piece = s.recv(65536)
            if not piece:
                return
            data += piece
        head, data = data.split(b"\r\n\r\n", 1)
        body = name + b" " + head.split()[1] + b"\n"
        s.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)


def talk_2(s, name):
    """To the first stream, whatever it asks for: fields are literals of HPACK."""
    status = b"\0\x07:status\x03200"
    s.sendall(b"\0\0\0\4\0\0\0\0\0" + b"\0\0\0\4\1\0\0\0\0")
    s.sendall(b"\0\0%c\1\4\0\0\0\1" % len(status) + status + b"\0\0%c\0\1\0\0\0\1" % (len(name) + 3) + name + b" h2")
    while s.recv(65536):
        pass


def one(s, name):
    with s:
        try:
            talk(s, name)
        except OSError as e:
            print(e, flush=True)


def serve(name, port, address="127.0.0.1"):
    listener = socket.create_server((address, int(port)), backlog=64)
    while True:
        s = listener.accept()[0]
        threading.Thread(target=one, args=(s, name.encode()), daemon=True).start()


def say(host, port, *pieces):
    with socket.create_connection((host, int(port)), timeout=20) as s:
        try:
            for i, piece in enumerate(pieces):
                if piece == "-":
                    s.shutdown(socket.SHUT_WR)
                    break
                if i:
                    time.sleep(0.1)
                s.sendall(piece.encode().decode("unicode_escape").encode("latin-1"))
            while piece := s.recv(65536):
                sys.stdout.write(piece.decode("latin-1"))
                sys.stdout.flush()
        except ConnectionError:
            print("cut")


def gone(host, port, text):
    s = socket.create_connection((host, int(port)), timeout=20)
    s.sendall(text.encode())
    s.close()


{"serve": serve, "say": say, "gone": gone}[sys.argv[1]](*sys.argv[2:])
