#!/bin/bash
# node: an HTTP server in one process, and a cluster (connections come by messages from the master), with libuv's io_uring
# asked for and not; a client that makes 40 requests at a time.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
needs node

cat >"$WORK/server.js" <<'END_JS'
const cluster = require('cluster'), crypto = require('crypto'), http = require('http');
const workers = +process.argv[3];
if (workers && cluster.isPrimary) {
  for (let i = 0; i < workers; i++) cluster.fork();
} else {
  http.createServer((request, response) => {
    const hash = crypto.createHash('sha256');
    request.on('data', (part) => hash.update(part));
    request.on('end', () => {
      response.setHeader('x-pid', process.pid);
      response.end(hash.digest('hex') + 'w'.repeat(200000));
    });
  }).listen(+process.argv[2], '127.0.0.1');
}
END_JS
cat >"$WORK/client.js" <<'END_JS'
const crypto = require('crypto'), http = require('http');
const [host, port] = process.argv.slice(2);
const answers = [], pids = new Set();
function one(n) {
  const request = http.request({host, port, method: 'POST', agent: false}, (response) => {
    const hash = crypto.createHash('sha256');
    pids.add(response.headers['x-pid']);
    response.on('data', (part) => hash.update(part));
    response.on('end', () => {
      answers[n] = hash.digest('hex');
      if (Object.keys(answers).length === 40)
        console.log(pids.size, crypto.createHash('sha256').update(answers.join()).digest('hex'));
    });
  });
  request.on('error', (error) => { console.log('error', error.message); process.exit(2); });
  request.end(Buffer.alloc(300000, String(n)));
}
for (let n = 0; n < 40; n++) one(n);
END_JS

declare -A FLAT
port && NATIVE=$PORT
net=0
for kind in one cluster ring; do
	port && FLAT[$kind]=$PORT
	net=$((net + 1))
	service "$kind" "240.9.22.$net" 80 "$PORT"
	service "$kind-forwarded" "240.9.23.$net" 80 "$PORT" forwarded
done >"$CONFIG"
start_flatd
serve native "$NATIVE" node "$WORK/server.js" "$NATIVE" 0
WANTED=$(timeout 60 node "$WORK/client.js" 127.0.0.1 "$NATIVE" | cut -d ' ' -f 2)
[ -n "$WANTED" ] || die native

ask_over() { over timeout 60 node "$WORK/client.js" "$@"; }
for kind in one cluster ring; do
	export UV_USE_IO_URING=0
	workers=0
	[ $kind != ring ] || UV_USE_IO_URING=1
	[ $kind != cluster ] || workers=2
	serve $kind "${FLAT[$kind]}" over node "$WORK/server.js" "${FLAT[$kind]}" $workers
	for way in direct forwarded; do
		suffix=${way#direct}
		went "$kind-$way-path" $way ask_over "$kind${suffix:+-$suffix}.e2e.example" 80
		same "$kind-$way" "$WANTED" "${OUT#* }"
	done
	same "$kind-plain" "$WANTED" "$(timeout 60 node "$WORK/client.js" 127.0.0.1 "${FLAT[$kind]}" | cut -d ' ' -f 2)"
done
