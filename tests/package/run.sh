#!/bin/bash
# Installs the build into an empty prefix, moves nothing else, and uses the result as a stranger would:
# a CMake project, a compiler call with pkg-config, the programs, the manual pages.
# FLAT_BUILD: the build folder.
set -u
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
build=${FLAT_BUILD:-$root/build}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
prefix=$work/prefix
status=0

# step NAME COMMAND...
step() {
	local name=$1
	shift
	if "$@" >"$work/log" 2>&1; then
		echo "PASS package/$name"
	else
		cat "$work/log"
		echo "FAIL package/$name"
		status=1
	fi
}

installed() {
	cmake --install "$build" --prefix "$prefix" >/dev/null || return 1
	local file
	for file in bin/flatd bin/flatctl bin/flat-run bin/flatperf include/flat/flat.h \
		include/flat/socket.h include/flat/rpc.h lib/systemd/system/flatd.service; do
		[ -e "$prefix/$file" ] || { echo "no $file" && return 1; }
	done
	for file in libflat.so libflat.so.1 libflat-rpc.so libflat-rpc.so.1 libflat-preload.so pkgconfig/flat.pc pkgconfig/flat-rpc.pc pkgconfig/flat-grpc.pc \
		cmake/libflat/libflatConfig.cmake cmake/libflat/libflatConfigVersion.cmake; do
		compgen -G "$prefix/lib*/$file" >/dev/null || compgen -G "$prefix/lib/*/$file" >/dev/null ||
			{ echo "no $file" && return 1; }
	done
}

by_cmake() {
	cmake -G Ninja -S "$root/tests/package" -B "$work/cmake" -DCMAKE_PREFIX_PATH="$prefix" &&
		cmake --build "$work/cmake" && "$work/cmake/outsider"
}

wrong_version_refused() {
	sed 's/libflat 0.1/libflat 99.0/' "$root/tests/package/CMakeLists.txt" >"$work/99.txt"
	mkdir -p "$work/99" && mv "$work/99.txt" "$work/99/CMakeLists.txt"
	cp "$root/tests/package/outsider.c" "$work/99/"
	! cmake -G Ninja -S "$work/99" -B "$work/99/build" -DCMAKE_PREFIX_PATH="$prefix"
}

by_pkg_config() {
	local pc
	pc=$(dirname "$(find "$prefix" -name flat.pc)")
	# The .pc names the prefix of the build's configuration; here it lies elsewhere.
	# shellcheck disable=SC2046
	gcc -std=c11 -Wall -Wextra -Werror -o "$work/outsider" "$root/tests/package/outsider.c" \
		$(PKG_CONFIG_PATH=$pc pkg-config --define-variable=prefix="$prefix" \
			--define-variable=includedir="$prefix/include" \
			--define-variable=libdir="$(dirname "$pc")" --cflags --libs flat) &&
		LD_LIBRARY_PATH=$(dirname "$pc") "$work/outsider"
}

programs_answer() {
	local name
	for name in flatd flatctl flat-run flatperf; do
		"$prefix/bin/$name" --help | grep -q . || { echo "$name --help says nothing" && return 1; }
		"$prefix/bin/$name" --version | grep -q 0.1.0 || { echo "$name --version" && return 1; }
	done
}

manuals_render() {
	local page n=0
	while read -r page; do
		n=$((n + 1))
		LC_ALL=C.UTF-8 MANROFFSEQ='' man --warnings -E UTF-8 -l -Tutf8 -Z "$page" >/dev/null 2>"$work/man" ||
			return 1
		if [ -s "$work/man" ]; then
			cat "$work/man" && return 1
		fi
	done < <(find "$prefix" -path '*/man/*' -type f)
	echo "$n pages"
	[ $n -ge 3 ]
}

completion_loads() {
	local file n=0
	for file in "$prefix"/share/bash-completion/completions/*; do
		n=$((n + 1))
		bash -n "$file" || return 1
	done
	[ $n -ge 1 ]
}

# Each option that --help names is in the manual page and is completed.
options_known() {
	local name option bad=0
	for name in flatd flatctl flat-run flatperf; do
		for option in $("$prefix/bin/$name" --help | grep -oE -- '--[a-z][a-z0-9-]*' | sort -u); do
			tr -d '\\' <"$(find "$prefix" -path "*/man/*" -name "$name.?")" | grep -qE -- "$option([^a-z0-9-]|$)" ||
				{ echo "the manual page of $name lacks $option" && bad=1; }
			grep -qE -- "$option([^a-z0-9-]|$)" "$prefix/share/bash-completion/completions/$name.bash" ||
				{ echo "the completion of $name lacks $option" && bad=1; }
		done
	done
	[ $bad -eq 0 ]
}

step installed installed
step cmake by_cmake
step wrong-version-refused wrong_version_refused
step pkg-config by_pkg_config
step programs-answer programs_answer
step manuals-render manuals_render
step completion-loads completion_loads
step options-known options_known
exit $status
