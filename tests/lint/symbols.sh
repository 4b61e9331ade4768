#!/bin/bash
# libflat.so.1 and libflat-rpc.so.1 export what lib/*.map list, no more and no less; libflat-preload.so exports
# what shim/*.map lists, and each of these is a name of libc that it takes the place of.
# FLAT_BUILD: the build folder.
set -u
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
build=${FLAT_BUILD:-$root/build}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
failed=0

# Global names of a version script, sorted.
map_names() {
	sed -e 's,/\*.*\*/,,g' "$@" | awk '
		/global:/ { on = 1; next }
		/local:|^}/ { on = 0 }
		on { gsub(/[ \t;]/, ""); if ($0 != "") print }' | sort -u
}

# Names a library exports, without versions and version nodes, sorted.
exported() {
	nm -D --defined-only "$1" | awk '$2 != "A" { sub(/@.*/, "", $3); print $3 }' | sort -u
}

# same NAME WANTED FOUND
same() {
	if ! diff -u --label "$1: map" --label "$1: exported" "$2" "$3" | grep '^[+-]'; then
		echo "$1: $(wc -l <"$3") exported names, as the map says"
	else
		echo "$1: exports and map differ (+ exported only, - in the map only)"
		failed=1
	fi
}

for lib in libflat.so libflat-rpc.so libflat-preload.so; do
	if [ ! -e "$build/$lib" ]; then
		echo "no $build/$lib: build first"
		exit 1
	fi
done

for lib in libflat libflat-rpc; do
	map_names "$root/lib/$lib.map" >"$work/lib.map"
	exported "$build/$lib.so" >"$work/lib.sym"
	[ -s "$work/lib.map" ] || failed=1
	same $lib.so "$work/lib.map" "$work/lib.sym"
	soname=$(readelf -d "$build/$lib.so" | sed -n 's/.*(SONAME).*\[\(.*\)\]/\1/p')
	if [ "$soname" != $lib.so.1 ]; then
		echo "$lib.so: soname is '$soname', wanted $lib.so.1"
		failed=1
	fi
done

exported "$build/libflat-preload.so" >"$work/shim.sym"
[ -s "$work/shim.sym" ] || failed=1
if ls "$root"/shim/*.map >/dev/null 2>&1; then
	map_names "$root"/shim/*.map >"$work/shim.map"
	same libflat-preload.so "$work/shim.map" "$work/shim.sym"
fi
for lib in $(ldd "$build/libflat-preload.so" | awk '$3 ~ /\/libc\.so/ { print $3 }'); do
	exported "$lib"
done | sort -u >"$work/libc.sym"
if comm -23 "$work/shim.sym" "$work/libc.sym" | grep .; then
	echo "libflat-preload.so: these exported names are no names of libc"
	failed=1
else
	echo "libflat-preload.so: each of its $(wc -l <"$work/shim.sym") names is one of libc's"
fi
exit "$failed"
