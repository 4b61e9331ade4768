#!/bin/bash
# clang-tidy on every C file of the product, with the checks of .clang-tidy. Takes minutes: only where
# FLAT_LINT_TIDY is set, as .ci/run does. FLAT_BUILD: a build folder with compile_commands.json.
set -u
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
build=${FLAT_BUILD:-$root/build}
if [ -z "${FLAT_LINT_TIDY:-}" ]; then
	echo "SKIP clang-tidy runs in .ci/run, or with FLAT_LINT_TIDY=1"
	exit 77
fi
if ! command -v clang-tidy >/dev/null; then
	echo "SKIP no clang-tidy"
	exit 77
fi
cd "$root" || exit 1
mapfile -t files < <(find lib shim bench examples -name '*.c')
# Two a call: a larger share leaves one core idle at the end, one by one the start-up costs more.
printf '%s\n' "${files[@]}" |
	xargs -P "$(nproc)" -n 2 clang-tidy -p "$build" --quiet --warnings-as-errors='*' \
		--extra-arg=-Wno-unknown-warning-option >"$build/tidy.out" 2>"$build/tidy.err"
grep -E '(error|warning): ' "$build/tidy.out" | sed "s,^$root/,," | sort -u >"$build/tidy.log"
# What it could not read at all it says elsewhere.
grep -hE '^(Error|LLVM ERROR)|error: ' "$build/tidy.err" | sort -u >>"$build/tidy.log"
cat "$build/tidy.log"
echo "${#files[@]} files checked, $(wc -l <"$build/tidy.log") findings"
[ "${#files[@]}" -gt 0 ] && [ ! -s "$build/tidy.log" ]
