#!/bin/bash
# The wire over RDMA verbs, in a virtual machine with soft-RoCE (lib.sh). FLAT_BUILD: the build folder, where the kernel
# is kept.
#
#   tests/vm/run.sh                     the tests: PASS, FAIL and SKIP lines
#   tests/vm/run.sh figures [ROUNDS]    the ring beside ib_write_lat, ib_write_bw and rstream (Debian: perftest,
#                                       rdmacm-utils), 3 rounds; lines to read, no judgement
set -u
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
FLAT_ROOT=$(cd "$here/../.." && pwd)
VM_WORK=$(mktemp -d)
trap 'rm -rf "$VM_WORK"' EXIT
. "$here/lib.sh"
vm_prepare "$FLAT_BUILD/vm-kernel" || exit $?
vm_add ip rdma setpriv "$FLAT_BUILD"/tests/vm-ring || exit 1
if [ "${1:-}" = figures ]; then
	for program in ib_write_lat ib_write_bw rstream; do
		command -v $program >/dev/null || { echo "no $program: install perftest and rdmacm-utils" && exit 1; }
	done
	vm_add ib_write_lat ib_write_bw rstream || exit 1
	echo "${2:-3}" >"$VM_TREE/rounds"
	vm_boot $((200 * ${2:-3} + 60)) "$here/figures.sh"
	exit
fi
vm_add "$FLAT_BUILD"/{flatd,flatctl,flat-run,libflat.so.1,libflat-preload.so} "$FLAT_BUILD"/tests/vm-talk || exit 1
for host in a b; do
	"$FLAT_BUILD/flatctl" ca init "$VM_WORK/ca" 2>/dev/null
	"$FLAT_BUILD/flatctl" ca issue "$VM_WORK/ca" "$VM_TREE/svids-$host" flatd &&
		"$FLAT_BUILD/flatctl" ca issue "$VM_WORK/ca" "$VM_TREE/svids-$host" e2e/shop || exit 1
done >/dev/null
vm_boot 280 "$here/wire.sh"
