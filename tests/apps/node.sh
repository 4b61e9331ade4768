#!/bin/bash
# node: an HTTP server with requests on kept connections, HTTP/2 without TLS, plain sockets with half close, and a cluster whose workers
# are replaced.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
needs node

cat >"$WORK/server.js" <<'END_JS'
const cluster = require('cluster'), crypto = require('crypto'), http = require('http'), http2 = require('http2'), net = require('net');
const [kind, port] = process.argv.slice(2);
function answer(request, response) {
  const hash = crypto.createHash('sha256');
  request.on('data', (part) => hash.update(part));
  request.on('end', () => response.end(hash.digest('hex') + 'w'.repeat(100000)));
}
const servers = {
  http: () => http.createServer(answer),
  cluster: () => http.createServer(answer),
  http2: () => http2.createServer(answer),
  sockets: () => net.createServer({allowHalfOpen: true}, (socket) => {
    const hash = crypto.createHash('sha256');
    socket.on('data', (part) => hash.update(part));
    socket.on('end', () => socket.end(hash.digest('hex')));
  }),
};
if (kind === 'cluster' && cluster.isPrimary) {
  for (let i = 0; i < 3; i++) cluster.fork();
  cluster.on('exit', (worker) => { if (worker.exitedAfterDisconnect) cluster.fork(); });
  process.on('SIGHUP', () => { for (const id in cluster.workers) cluster.workers[id].disconnect(); });
  process.on('SIGTERM', () => { for (const id in cluster.workers) cluster.workers[id].kill(); process.exit(3); });
} else {
  servers[kind]().listen(+port, '127.0.0.1');
}
END_JS
cat >"$WORK/client.js" <<'END_JS'
const crypto = require('crypto'), http = require('http'), http2 = require('http2'), net = require('net');
const [kind, host, port] = process.argv.slice(2);
const hash = (data) => crypto.createHash('sha256').update(data).digest('hex');
const body = (n) => Buffer.alloc(50000 + n * 1000, String(n));
const all = (stream, done) => {
  const parts = [];
  stream.on('data', (part) => parts.push(part));
  stream.on('end', () => done(hash(Buffer.concat(parts))));
};
const agent = new http.Agent({keepAlive: true, maxSockets: 4});
let session;
const ask = {
  http: (n) => new Promise((done, fail) => {
    const request = http.request({host, port, method: 'POST', agent}, (response) => all(response, done));
    request.on('error', fail);
    request.end(body(n));
  }),
  http2: (n) => new Promise((done, fail) => {
    session = session || http2.connect(`http://${host}:${port}`);
    const request = session.request({':method': 'POST', ':path': '/' + n});
    request.on('error', fail);
    all(request, done);
    request.end(body(n));
  }),
  sockets: (n) => new Promise((done, fail) => {
    const socket = net.connect({host, port, allowHalfOpen: true}, () => socket.end(body(n)));
    socket.on('error', fail);
    all(socket, done);
  }),
};
ask.cluster = ask.http;
(async () => {
  const answers = await Promise.all([...Array(60).keys()].map((n) => ask[kind](n)));
  console.log(answers.length, hash(answers.join()));
  if (kind === 'http') {
    const response = await fetch(`http://${host}:${port}/`, {method: 'PUT', body: body(7)});
    console.log(response.status, hash(await response.text()));
  }
  agent.destroy();
  if (session) session.close();
})().catch((error) => { console.log('error', error.message); process.exit(2); });
END_JS
declare -A KINDS=([http]=80 [http2]=80 [sockets]=7 [cluster]=80)
for kind in http http2 sockets cluster; do
	app $kind "${KINDS[$kind]}"
	eval "${kind}_server() { CMD=(node '$WORK/server.js' $kind \"\$1\"); }"
done
mesh
both http http2 sockets cluster
client() { run node "$WORK/client.js" "$3" "$1" "$2"; }
for kind in http http2 sockets cluster; do each $kind $kind client $kind; done
WAYS=(native direct)
replaced() {
	local master=${FLAT_PID[cluster]} before
	[ "$WAY" != native ] || master=${NATIVE_PID[cluster]}
	before=$(pgrep -P "$master" | tr '\n' ' ')
	kill -HUP "$master"
	others() { [ "$(pgrep -P "$master" | wc -w)" = 3 ] && ! pgrep -P "$master" | grep -qwE "${before// /|}0"; }
	wait_for 10 others || echo "workers stay: $before $(pgrep -P "$master")"
	# The new ones are there, and may not listen yet.
	wait_for 10 answered "$1" "$2"
	echo "$ANSWER"
}
answered() {
	ANSWER=$(client "$1" "$2" cluster)
	[[ $ANSWER != *ECONNREFUSED* ]]
}
each replaced cluster replaced
ends
