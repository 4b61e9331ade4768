#!/bin/bash
# C files are formatted as .clang-format says. To put it right: clang-format -i FILE
set -u
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
if ! command -v clang-format >/dev/null; then
	echo "SKIP no clang-format"
	exit 77
fi
cd "$root" || exit 1
mapfile -t files < <(find lib include shim bench tests examples \( -name '*.c' -o -name '*.h' \))
if [ "${#files[@]}" -eq 0 ]; then
	echo "no C files found"
	exit 1
fi
failed=0
for file in "${files[@]}"; do
	if ! clang-format "$file" | cmp -s - "$file"; then
		echo "$file: not formatted"
		failed=$((failed + 1))
	fi
done
echo "${#files[@]} files checked, $failed not formatted"
[ "$failed" -eq 0 ]
