#!/bin/bash
# Runs each check of this folder: exit 0 passed, 77 skipped (says why), else failed. A line `PASS`,
# `FAIL` or `SKIP` each. FLAT_BUILD: the build folder. Arguments: names of the checks to run (all).
set -u
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
python=/usr/bin/python3
[ -x "$python" ] || python=python3
status=0
for check in "$here"/*.sh "$here"/*.py; do
	name=$(basename "${check%.*}")
	case $name in run | tree) continue ;; esac
	if [ $# -gt 0 ] && [[ " $* " != *" $name "* ]]; then
		continue
	fi
	case $check in
	*.py) out=$("$python" -B "$check" 2>&1) ;;
	*) out=$(bash "$check" 2>&1) ;;
	esac
	case $? in
	0) echo "PASS lint/$name: $(tail -n 1 <<<"$out")" ;;
	77) echo "SKIP lint/$name: $(tail -n 1 <<<"${out#SKIP }")" ;;
	*)
		printf '%s\n' "$out"
		echo "FAIL lint/$name: $(head -n 1 <<<"$out")"
		status=1
		;;
	esac
done
exit "$status"
