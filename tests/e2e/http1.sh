#!/bin/bash
# The reader of HTTP/1 beside another parser (python3-h11): what ours takes, the other takes and reads alike.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
"$PYTHON" -c 'import h11' 2>/dev/null || { echo "SKIP http1: no python3-h11" && exit 77; }

seed=$$
OUT=$("$PYTHON" "$E2E_ROOT/tests/e2e/http1_twin.py" "$FLAT_BUILD/tests/http1-dump" $seed 4000)
status=$?
echo "seed $seed: $(tail -n 1 <<<"$OUT")"
[ $status -eq 0 ] || tail -n 12 <<<"$OUT"
same twin 0 $status
