# What Debian packages a command needs, and their installation. Sourced by tests/run and
# examples/quickstart.

# What is missing of the probes on standard input, lines of `package probe`. A probe is the name of a
# command, or of a pkg-config module after `pc:`, or a file after `file:` (a glob).
packages_missing() {
	local package probe
	while read -r package probe; do
		case $probe in
		"") continue ;;
		pc:*) pkg-config --exists "${probe#pc:}" 2>/dev/null && continue ;;
		file:*) compgen -G "${probe#file:}" >/dev/null && continue ;;
		*) command -v "$probe" >/dev/null && continue ;;
		esac
		printf '%s ' "$package"
	done
}

# packages_install LOG PACKAGE...: installs from Debian, as root or with sudo. Services that come with
# a package (redis, nginx, memcached) are not started: what needs one starts its own.
packages_install() {
	local log=$1 sudo=() policy=/usr/sbin/policy-rc.d ours=0 status=0
	shift
	[ $# -gt 0 ] || return 0
	if [ "$(id -u)" -ne 0 ]; then
		if ! command -v sudo >/dev/null || ! sudo -n true 2>/dev/null; then
			echo "missing Debian packages: $*"
			echo "they need root: run as root once, or  apt-get install --no-install-recommends $*"
			return 1
		fi
		sudo=(sudo -n)
	fi
	if [ ! -e $policy ]; then
		ours=1
		printf '#!/bin/sh\nexit 101\n' | "${sudo[@]}" tee $policy >/dev/null
		"${sudo[@]}" chmod 755 $policy
	fi
	local install=("${sudo[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -q
		--no-install-recommends "$@")
	if ! "${install[@]}" >>"$log" 2>&1; then
		"${sudo[@]}" apt-get update -q >>"$log" 2>&1
		"${install[@]}" >>"$log" 2>&1 || status=1
	fi
	[ $ours -eq 0 ] || "${sudo[@]}" rm -f $policy
	if [ $status -ne 0 ]; then
		echo "apt-get could not install: $* (log: $log)"
		tail -n 5 "$log"
	fi
	return $status
}
