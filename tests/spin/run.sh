#!/bin/bash
# Checks the models of docs/design/core.md and verbs.md; each variant that breaks a rule must be found wrong.
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
	if ! spin -a "$@" "$here/$name.pml" >spin.log 2>&1 || ! gcc -w -O2 -DSAFETY -o pan pan.c 2>gcc.log; then
		echo "FAIL spin/$name $*: $(tail -n 1 spin.log gcc.log)"
		status=1
		return
	fi
	./pan -m100000 >pan.log 2>&1
	errors=$(sed -n 's/.*errors: \([0-9]*\).*/\1/p' pan.log)
	# A search that was cut short proves nothing.
	if [ "$wanted" = 0 ] && grep -qE 'max search depth too small|out of memory|Search not completed' pan.log; then
		errors=incomplete
	fi
	if { [ "$wanted" = 0 ] && [ "$errors" = 0 ]; } || { [ "$wanted" = some ] && [ "${errors:-0}" -gt 0 ]; }; then
		echo "PASS spin/$name${*:+ $*}: $errors errors, as it must be"
	else
		echo "FAIL spin/$name${*:+ $*}: ${errors:-no result} errors, wanted $wanted"
		status=1
	fi
}
model wake 0
model wake some -DNO_FENCE
model room 0
model room some -DVIEW_ALONE
model room some -DWIDE
model room some -DNO_FENCE
model sleepers 0
model sleepers some -DLOOK_FIRST
model sleepers some -DRING_FIRST
model sleepers some -DNO_LOOK
model naps 0
model naps some -DLOOK_FIRST
model naps some -DNAP_FIRST
model naps some -DTAKE_ANY
model naps some -DSAME_NUMBER
model naps some -DTAKE_LATE
model naps some -DLEAVE_ARMED
model waiters 0
model waiters some -DTAKE_LAST
model waiters some -DNO_LOCK
model waiters some -DLATE_JOIN
model attach 0
model attach some -DREUSE_EARLY
model attach some -DNO_COMPLETION
model attach some -DCUT_BY_WORDS
model attach some -DSAME_LANE
model carrier 0
model carrier some -DNO_STOP
model carrier some -DNO_RESEND
model carrier some -DNO_WAIT
model directory 0
model directory some -DNO_TURN
model directory some -DLATE_TURN
model directory some -DNO_SECOND
model directory some -DEMPTY
model directory some -DNO_EPOCH
model ticket 0
model ticket some -DDECIDED_AHEAD
model ticket some -DKEEP_ID
model ticket some -DGIVE_REFUSED
model ticket some -DGIVE_UNREAD
model ticket some -DDROP_WAITING
exit $status
