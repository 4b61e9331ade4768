#!/bin/bash
# A client that connects to one address again and again gets connections made ahead. What it may do, what is counted and
# what is shown stay what they were: connections, policies that change in between, servers that go, forks.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
port
cat >"$CONFIG" <<END
apiVersion: mesh.libflat.io/v1
kind: Workload
metadata: {name: web, labels: {app: web}}
spec: {selectors: [{uid: $(id -u)}]}
END
cat >"$WORK/deny.yaml" <<END
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: nobody}
spec: {selector: {matchLabels: {app: web}}}
END
start_flatd
over "$PYTHON" "$E2E_ROOT/tests/e2e/tickets_part.py" "$PORT" "$CONFIG" "$WORK/deny.yaml" "$CONTROL" 2>"$WORK/part.log" || E2E_FAILED=1
