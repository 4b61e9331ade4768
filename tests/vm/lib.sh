# A virtual machine with soft-RoCE devices, emulated by QEMU: the kernel of Debian's linux-image-amd64, an initramfs of
# busybox and the programs that are asked for, no disk, no network to the outside. Sourced by the scripts of this folder.
#
#   vm_prepare CACHE            kernel and modules are in CACHE; 77 with a SKIP line where they cannot be had
#   vm_add PROGRAM...           goes into the guest's /bin, with its shared libraries where they are here
#   vm_boot SECONDS SCRIPT      boots, runs SCRIPT there; its output and its status (124: no end in time)
#
# FLAT_ROOT: the project. VM_WORK: a folder of the caller's.
VM_MODULES="crypto/crc32_generic fs/configfs/configfs net/ipv4/udp_tunnel net/ipv6/ip6_udp_tunnel drivers/infiniband/core/ib_core
	drivers/infiniband/core/ib_uverbs drivers/infiniband/core/ib_cm drivers/infiniband/core/iw_cm
	drivers/infiniband/core/rdma_cm drivers/infiniband/core/rdma_ucm
	drivers/infiniband/sw/rxe/rdma_rxe drivers/net/veth"

# The package of the newest kernel, by name.
vm_kernel_package() {
	apt-cache depends linux-image-amd64 2>/dev/null | sed -n 's/^ *Depends: \(linux-image-[^ ]*\)$/\1/p' | head -n 1
}

# vm_fetch CACHE: the kernel and the modules named above, not the other 400 MB.
vm_fetch() {
	local package wanted=("./boot/vmlinuz-*") module
	package=$(vm_kernel_package)
	for module in $VM_MODULES; do wanted+=("./lib/modules/*/kernel/$module.ko"); done
	rm -rf "$1.new" && mkdir -p "$1.new" || return 1
	(cd "$1.new" && apt-get download -q "${package:-linux-image-amd64}" &&
		dpkg-deb --fsys-tarfile linux-image-*.deb | tar x --wildcards "${wanted[@]}" && rm -f linux-image-*.deb) >"$1.log" 2>&1 ||
		return 1
	rm -rf "$1" && mv "$1.new" "$1"
}

vm_prepare() {
	VM_CACHE=$1
	if [ "$(uname -m)" != x86_64 ]; then
		echo "SKIP verbs: the machine of these tests is an x86-64 one"
		return 77
	fi
	if ! command -v qemu-system-x86_64 >/dev/null; then
		echo "SKIP verbs: qemu-system-x86_64 is not installed and cannot be"
		return 77
	fi
	if ! compgen -G "$VM_CACHE/boot/vmlinuz-*" >/dev/null; then
		# Lists that are old, or not there, are renewed as root alone.
		if ! vm_fetch "$VM_CACHE" && ! { apt-get update -q >/dev/null 2>&1 && vm_fetch "$VM_CACHE"; }; then
			echo "the kernel ($(vm_kernel_package)) could not be fetched: $(tail -n 1 "$VM_CACHE.log")"
			return 1
		fi
	fi
	VM_TREE=$VM_WORK/tree
	mkdir -p "$VM_TREE"/{bin,sbin,proc,sys,dev,tmp,run,etc,root,modules,usr/lib} || return 1
	ln -sfn ../bin "$VM_TREE/usr/bin"
	local module
	for module in $VM_MODULES; do
		cp "$VM_CACHE"/lib/modules/*/kernel/"$module.ko" "$VM_TREE/modules/" || return 1
	done
	cp "$(command -v busybox)" "$VM_TREE/bin/busybox" || return 1
	# Providers are loaded by name, not linked.
	local provider
	for provider in /usr/lib/*-linux-gnu/libibverbs/librxe-*.so; do vm_add_file "$provider" || return 1; done
	vm_add_file /etc/libibverbs.d/rxe.driver
}

# vm_add_file FILE: at the same place there, with the libraries that it wants.
vm_add_file() {
	local library
	mkdir -p "$VM_TREE$(dirname "$1")" && cp -L "$1" "$VM_TREE$1" || return 1
	while read -r library; do
		[ -e "$VM_TREE$library" ] || { mkdir -p "$VM_TREE$(dirname "$library")" && cp -L "$library" "$VM_TREE$library"; } ||
			return 1
	done < <(ldd "$1" 2>/dev/null | sed -nE 's/^.*[[:space:]](\/[^ ]*) \(0x.*$/\1/p')
}

vm_add() {
	local program path
	for program; do
		path=$(command -v "$program") || path=$program
		vm_add_file "$path" || return 1
		[ "$(dirname "$path")" = /bin ] || [ "$(dirname "$path")" = /usr/bin ] ||
			mv "$VM_TREE$path" "$VM_TREE/bin/${path##*/}" || return 1
	done
}

# What the guest runs first. Devices: rxe0 and rxe1 on the two ends of a veth pair, 10.77.0.1 and 10.77.0.2. Both are in
# the one network namespace in which rxe has its sockets (Linux 6.1), so rules keep the kernel from taking the shortcut
# over lo: what is sent to the other end leaves through the pair.
vm_init() {
	cat <<'END'
#!/bin/busybox sh
/bin/busybox --install -s /sbin
export PATH=/bin:/sbin HOME=/root
mount -t proc none /proc
mount -t sysfs none /sys
mount -t devtmpfs none /dev
mkdir -p /dev/shm /dev/pts
mount -t tmpfs none /tmp
mount -t tmpfs none /run
exec >/dev/ttyS1 2>&1 </dev/null
stty -F /dev/ttyS1 raw
END
	local module
	for module in $VM_MODULES; do echo "insmod /modules/${module##*/}.ko || echo 'module ${module##*/}: cannot be loaded'"; done
	cat <<'END'
# busybox's shell takes its own command of that name first.
ip() { /bin/ip "$@"; }
hosts() {
	ip link add veth0 mtu ${1:-1500} type veth peer name veth1 mtu ${1:-1500}
	for i in 0 1; do
		echo 0 >/proc/sys/net/ipv4/conf/veth$i/rp_filter
		echo 1 >/proc/sys/net/ipv4/conf/veth$i/accept_local
		ip addr add 10.77.0.$((i + 1))/24 dev veth$i
		# One processor takes all packets: on two, those of one connection overtake each other, which it pays
		# for as if they were lost.
		echo 1 >/sys/class/net/veth$i/queues/rx-0/rps_cpus
		ip link set veth$i up
		ip rule add pref $((10 + i)) iif veth$i lookup local
		ip route add 10.77.0.$((2 - i)) dev veth$i src 10.77.0.$((i + 1)) table 100
	done
	ip rule add pref 20 to 10.77.0.0/24 from 0.0.0.0 lookup 100
	ip rule add pref 30 lookup local
	ip rule del pref 0
	ip rule add pref 15 from 10.77.0.1 to 10.77.0.2 lookup 100
	ip rule add pref 16 from 10.77.0.2 to 10.77.0.1 lookup 100
	rdma link add rxe0 type rxe netdev veth0
	rdma link add rxe1 type rxe netdev veth1
}
echo 0 >/proc/sys/net/ipv4/conf/all/rp_filter
ip link set lo up
. /test.sh
END
}

vm_boot() {
	local limit=$1 script=$2 status
	vm_init >"$VM_TREE/init" && chmod 755 "$VM_TREE/init" || return 1
	{
		echo "( $(cat "$script")"
		echo ")"
		echo 'echo "VM-STATUS $?"'
		echo 'sync; poweroff -f'
	} >"$VM_TREE/test.sh"
	(cd "$VM_TREE" && find . | busybox cpio -o -H newc >"$VM_WORK/initramfs" 2>/dev/null) || return 1
	timeout -k 5 "$limit" qemu-system-x86_64 -accel tcg,thread=multi -cpu max -smp 2 -m 1024 -nodefaults -no-user-config \
		-display none -no-reboot -kernel "$(compgen -G "$VM_CACHE/boot/vmlinuz-*" | head -n 1)" -initrd "$VM_WORK/initramfs" \
		-append "console=ttyS0 quiet panic=-1 mitigations=off" \
		-serial "file:$VM_WORK/console" -serial "file:$VM_WORK/output" >"$VM_WORK/qemu.log" 2>&1 </dev/null
	status=$?
	sed '/^VM-STATUS /d' "$VM_WORK/output"
	[ $status -eq 124 ] && { echo "no end after $limit s" && tail -n 5 "$VM_WORK/console" && return 124; }
	status=$(sed -n 's/^VM-STATUS //p' "$VM_WORK/output")
	[ -n "$status" ] || { echo "the machine ended early: $(tail -n 5 "$VM_WORK/console" "$VM_WORK/qemu.log")" && return 1; }
	return "$status"
}
