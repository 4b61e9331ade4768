"""
An external authorizer over HTTP, as Istio's sample: `ext_authz.py PORT [HEADER]`. "x-ext-authz: allow" (or HEADER's) is allowed, "error" is answered
500, "slow" after a second, "long" denied with a body of 40 KB, "login" sent elsewhere; anything else is denied. What it was asked goes back in x-ext-authz-asked.
"""
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


WANT = (sys.argv[2:] or ["x-ext-authz"])[0]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_any(self):
        want = self.headers.get(WANT, "")
        asked = f"{self.command} {self.headers['host']} {self.path} " + \
            ",".join(sorted(n.lower() for n in self.headers.keys()))
        if want == "slow":
            time.sleep(1)
        status = {"allow": 200, "slow": 200, "error": 500, "login": 302}.get(want, 403)
        body = b"" if status == 200 else b"y" * 40000 if want == "long" else b"denied by ext_authz\n"
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("x-ext-authz-check-result", "allowed" if status == 200 else "denied")
        self.send_header("x-ext-authz-asked", asked)
        self.send_header("x-user", "from-authorizer")
        if status == 302:
            self.send_header("Location", "/login")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_GET = do_POST = do_PUT = do_HEAD = do_DELETE = do_OPTIONS = do_any

    def log_message(self, *args):
        # In one piece: print() writes each of its arguments, and other threads' come between.
        sys.stdout.write(" ".join(str(a) for a in (self.client_address[1], *args)) + "\n")
        sys.stdout.flush()


ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
