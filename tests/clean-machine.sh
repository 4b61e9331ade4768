#!/bin/bash
# The README's two commands on a machine that has nothing: a fresh Debian 12 in a chroot, made by
# debootstrap from the mirror this machine uses, kept as an archive for the next time.
#
#   tests/clean-machine.sh [quickstart|tests]...    (both)
#
# FLAT_CLEAN_CACHE: folder of the archive (default ~/.cache/libflat). FLAT_CLEAN_TESTS: arguments of
# tests/run in the chroot (default --quick). Needs root and debootstrap. The last line is "N passed, N failed".
set -u
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$root" || exit 1
. tests/packages.sh
cache=${FLAT_CLEAN_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/libflat}
suite=bookworm
passed=0
failed=0
skipped=0

finish_line() {
	[ $skipped -eq 0 ] || echo "$skipped skipped"
	echo "$passed passed, $failed failed"
	[ $failed -eq 0 ]
	exit
}
skip() {
	echo "SKIP clean-machine: $*"
	skipped=$((skipped + 1))
	finish_line
}

[ "$(id -u)" -eq 0 ] || skip "chroot and mount need root"
if ! command -v debootstrap >/dev/null; then
	packages_install /dev/null debootstrap >/dev/null || skip "debootstrap can't be installed here"
fi

work=$(mktemp -d)
chroot=$work/root
mounts=()
child=
# Ends what still runs inside, then takes the mounts off, in reverse; nothing is removed under a mount.
clean_up() {
	local i pid
	[ -z "$child" ] || kill "$child" 2>/dev/null
	for pid in /proc/[0-9]*; do
		if [ "$(readlink "$pid/root" 2>/dev/null)" = "$chroot" ]; then
			kill -9 "${pid#/proc/}" 2>/dev/null
		fi
	done
	for ((i = ${#mounts[@]} - 1; i >= 0; i--)); do
		umount -R "${mounts[i]}" 2>/dev/null || umount -Rl "${mounts[i]}"
	done
	mounts=()
	if grep -q " $chroot" /proc/self/mounts; then
		echo "clean-machine: mounts are left below $chroot" >&2
	else
		rm -rf --one-file-system "$work"
	fi
}
trap clean_up EXIT
trap 'exit 130' INT TERM HUP

# attach TYPE SOURCE PLACE [OPTIONS]
attach() {
	mkdir -p "$chroot$3"
	mount -t "$1" ${4:+-o "$4"} "$2" "$chroot$3" || skip "mount of $3 is not allowed here"
	mounts+=("$chroot$3")
}

# The first Debian mirror in apt's own configuration.
mirror() {
	apt-get indextargets --format '$(REPO_URI) $(CODENAME) $(COMPONENT)' 2>/dev/null |
		awk -v suite=$suite '$2 == suite && $3 == "main" { print $1; exit }'
}

# --- the machine ---

start=$SECONDS
mkdir -p "$cache"
archive=$cache/$suite-minbase.tar
uri=$(mirror)
: "${uri:=http://deb.debian.org/debian}"
if [ -e "$archive" ] && [ -z "$(find "$archive" -mtime +7)" ]; then
	echo "== clean machine from $archive"
	mkdir -p "$chroot" && tar -C "$chroot" -xpf "$archive" || exit 1
else
	echo "== clean machine: debootstrap $suite from $uri"
	if ! debootstrap --variant=minbase $suite "$chroot" "$uri" >"$work/debootstrap.log" 2>&1; then
		tail -n 5 "$work/debootstrap.log"
		echo "FAIL clean-machine/debootstrap"
		failed=$((failed + 1))
		finish_line
	fi
	rm -f "$chroot"/var/cache/apt/archives/*.deb
	tar -C "$chroot" -cf "$archive.new" . && mv "$archive.new" "$archive"
fi
echo "== ready after $((SECONDS - start)) s"

attach proc proc /proc
# With what is mounted below them: control groups, pseudo terminals.
for place in /sys /dev; do
	mkdir -p "$chroot$place"
	mount --rbind $place "$chroot$place" && mount --make-rslave "$chroot$place" ||
		skip "mount of $place is not allowed here"
	mounts+=("$chroot$place")
done
attach tmpfs run /run mode=755
attach tmpfs tmp /tmp mode=1777
# What apt needs to reach its mirror the way this machine does.
cp /etc/resolv.conf /etc/hosts "$chroot/etc/" 2>/dev/null
for file in /etc/apt/apt.conf /etc/apt/apt.conf.d/*proxy*; do
	[ -e "$file" ] && cp "$file" "$chroot/etc/apt/apt.conf.d/"
done
if [ -d /usr/local/share/ca-certificates ]; then
	cp -r /usr/local/share/ca-certificates "$chroot/usr/local/share/"
fi
mkdir -p "$chroot/usr/src/libflat"
git archive HEAD 2>/dev/null | tar -C "$chroot/usr/src/libflat" -xf - || cp -r . "$chroot/usr/src/libflat"

# --- the two commands ---

# command_in NAME COMMAND...: runs it in the chroot as root, with an environment of its own.
command_in() {
	local name=$1 begin=$SECONDS status
	shift
	echo "== clean machine: $*"
	env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root TERM=dumb \
		${http_proxy:+http_proxy="$http_proxy"} ${https_proxy:+https_proxy="$https_proxy"} \
		chroot "$chroot" /bin/bash -c 'cd /usr/src/libflat && exec "$@"' bash "$@" &
	child=$!
	wait "$child"
	status=$?
	child=
	if [ $status -eq 0 ]; then
		echo "PASS clean-machine/$name ($((SECONDS - begin)) s)"
		passed=$((passed + 1))
	else
		echo "FAIL clean-machine/$name: status $status after $((SECONDS - begin)) s"
		failed=$((failed + 1))
	fi
}

[ $# -gt 0 ] || set -- quickstart tests
for what in "$@"; do
	case $what in
	quickstart)
		command_in quickstart examples/quickstart
		command_in quickstart-again examples/quickstart
		# By an ordinary user, whose tree it is.
		chown -R 65534:65534 "$chroot/usr/src/libflat"
		command_in quickstart-user setpriv --reuid 65534 --regid 65534 --clear-groups examples/quickstart
		chown -R 0:0 "$chroot/usr/src/libflat"
		;;
	# shellcheck disable=SC2086
	tests) command_in tests tests/run ${FLAT_CLEAN_TESTS:---quick} ;;
	*) echo "clean-machine: no part '$what'" >&2 && exit 2 ;;
	esac
done
finish_line
