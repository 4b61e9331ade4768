#!/bin/bash
# Each public header compiles alone, as C11 and as C++17, without a warning and without _GNU_SOURCE.
set -u
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
flags=(-Wall -Wextra -Wpedantic -Wshadow -Wundef -Werror -fsyntax-only -I"$root/include")
if command -v g++ >/dev/null; then
	cxx=(g++)
elif command -v clang >/dev/null; then
	cxx=(clang)
else
	echo "SKIP no C++ compiler (Debian: g++)"
	exit 77
fi

checked=0
failed=0
while read -r header; do
	checked=$((checked + 1))
	include="#include <${header#"$root"/include/}>"
	if ! printf '%s\nextern int lint_unit;\n' "$include" | gcc -std=c11 "${flags[@]}" -x c -; then
		echo "$header does not compile alone as C11"
		failed=$((failed + 1))
	fi
	if ! printf '%s\nextern int lint_unit;\n' "$include" |
		"${cxx[@]}" -std=c++17 "${flags[@]}" -x c++ -; then
		echo "$header does not compile alone as C++17"
		failed=$((failed + 1))
	fi
done < <(find "$root/include" -name '*.h')
echo "$checked headers checked, $failed failures"
[ "$checked" -gt 0 ] && [ "$failed" -eq 0 ]
