"""
Clients of an origin (http_origin.py) until a file is there, and what came of their requests. Arguments: host, file.
Four clients, on kept connections and on new ones, with bodies and without; header x-n: a number.
Prints: answers, failures, servers that answered, values of x-epoch, the first failures.
"""
import http.client
import os
import re
import sys
import threading

host, until = sys.argv[1:]
lock, good, bad, names, epochs = threading.Lock(), [0], [], set(), set()


def ask(c, k, n):
    body = b"x" * 3000 if n % 7 == 0 else None
    c.request("POST" if body else "GET", "/echo", body, {"x-n": str(k + n)})
    r = c.getresponse()
    name = re.search(rb'"name": "([^"]*)"', r.read())
    with lock:
        epochs.add(r.getheader("x-epoch"))
        if r.status == 200 and name:
            names.add(name.group(1))
            good[0] += 1
        else:
            bad.append(str(r.status))


def client(k):
    c, n = http.client.HTTPConnection(host, timeout=20), 0
    while not os.path.exists(until):
        n += 1
        if k == 3 or n % 50 == 0:
            c.close()
        try:
            ask(c, k, n)
        except Exception as e:
            with lock:
                bad.append(repr(e))
            c.close()


threads = [threading.Thread(target=client, args=(k,)) for k in range(4)]
for t in threads:
    t.start()
for t in threads:
    t.join()
print(good[0], len(bad), len(names), len(epochs), " ".join(bad[:5]))
