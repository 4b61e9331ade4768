#!/bin/bash
# Checks the models; the one without its fence must be found wrong.
set -u
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work" || exit 1
status=0
# model NAME WANTED-ERRORS(0|some) SPIN-OPTIONS...
model() {
	local name=$1 wanted=$2 errors
	shift 2
	rm -f pan* ./*.trail
	if ! spin -a "$@" "$here/$name.pml" >spin.log 2>&1 || ! gcc -O2 -DSAFETY -o pan pan.c 2>gcc.log; then
		echo "FAIL spin/$name $*: $(tail -n 1 spin.log gcc.log)"
		status=1
		return
	fi
	errors=$(./pan -m100000 | sed -n 's/.*errors: \([0-9]*\).*/\1/p')
	if { [ "$wanted" = 0 ] && [ "$errors" = 0 ]; } || { [ "$wanted" = some ] && [ "${errors:-0}" -gt 0 ]; }; then
		echo "PASS spin/$name${*:+ $*}: $errors errors, as it must be"
	else
		echo "FAIL spin/$name${*:+ $*}: ${errors:-no result} errors, wanted $wanted"
		status=1
	fi
}
model wake 0
model wake some -DNO_FENCE
exit $status
