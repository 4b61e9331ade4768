"""nginx with a 1 KB file and wrk with kept-alive connections, both unmodified."""

import os
import re

from case import Case
from procs import RunError, listening, run

CONFIG = """daemon off;
master_process off;
pid {folder}/nginx.pid;
error_log stderr error;
events {{ worker_connections 4096; }}
http {{
	access_log off;
	keepalive_requests 1000000000;
	client_body_temp_path {folder}/body;
	proxy_temp_path {folder}/proxy;
	fastcgi_temp_path {folder}/fastcgi;
	uwsgi_temp_path {folder}/uwsgi;
	scgi_temp_path {folder}/scgi;
	server {{ {listen} root {folder}/root; }}
}}
"""


def serve(site):
    folder = os.path.join(site.context.folder, f"nginx-{site.port}")
    os.makedirs(os.path.join(folder, "root"))
    os.chmod(folder, 0o755)
    with open(os.path.join(folder, "root", "1k"), "wb") as f:
        f.write(b"x" * 1024)
    with open(os.path.join(folder, "nginx.conf"), "w") as f:
        listen = "".join(f"listen {site.bind}:{port}; " for port in site.ports or (site.port,))
        f.write(CONFIG.format(folder=folder, listen=listen))
    return site.programs.start(
        "nginx",
        site.server_command(site.context.program("nginx"), "-p", folder, "-c",
                            f"{folder}/nginx.conf"),
        site.env, ready=lambda _p: listening(site.port, site.net))


def measure_with(clients):
    def measure(site):
        out = run(site.command("wrk", "-t", 1, "-c", clients, "-d",
                               f"{max(1, round(site.seconds))}s",
                               f"http://{site.host}:{site.client_port}/1k"), site.env)
        rate = re.search(r"Requests/sec: *([0-9.]+)", out)
        wrong = re.search(r"Socket errors.*|Non-2xx.*", out)
        if not rate or wrong or float(rate.group(1)) <= 0:
            raise RunError(f"wrk: {wrong.group(0) if wrong else out.strip()[-200:]}")
        return float(rate.group(1)) * 1e-3
    return measure


CASES = [
    Case(name=f"nginx-c{clients}", title=f"nginx, 1 KB file, wrk -c {clients}", unit="k req/s",
         better="higher", serve=serve, measure=measure_with(clients),
         ways=("kernel", "shim", "shim-forwarded", "haproxy", "envoy"), needs=("nginx", "wrk"),
         bars={"shim": bar})
    for clients, bar in ((1, "5x kernel"), (32, "1.5x kernel"))
]
