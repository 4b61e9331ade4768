#!/bin/bash
# The wire over RDMA verbs, in a virtual machine with soft-RoCE (lib.sh). PASS, FAIL and SKIP lines.
# FLAT_BUILD: the build folder, where the kernel is kept.
set -u
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
FLAT_ROOT=$(cd "$here/../.." && pwd)
VM_WORK=$(mktemp -d)
trap 'rm -rf "$VM_WORK"' EXIT
. "$here/lib.sh"
vm_prepare "$FLAT_BUILD/vm-kernel" || exit $?
vm_add ip rdma setpriv "$FLAT_BUILD"/{flatd,flatctl,flat-run,libflat.so.1,libflat-preload.so} "$FLAT_BUILD"/tests/vm-{talk,ring} || exit 1
for host in a b; do
	"$FLAT_BUILD/flatctl" ca init "$VM_WORK/ca" 2>/dev/null
	"$FLAT_BUILD/flatctl" ca issue "$VM_WORK/ca" "$VM_TREE/svids-$host" flatd &&
		"$FLAT_BUILD/flatctl" ca issue "$VM_WORK/ca" "$VM_TREE/svids-$host" e2e/shop || exit 1
done >/dev/null
vm_boot 280 "$here/wire.sh"
