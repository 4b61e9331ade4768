#!/bin/bash
# Other libraries that take the same names or allocate for the program: malloc libraries, a wrapper of socket calls before and
# behind libflat, address sanitizers, programs that have a name themselves, or a system call. Behaviours of tests/parity say the same as they do alone, and go over libflat.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
needs gcc clang

BEHAVIOURS=(
	accept_many_in_order connect_nonblocking connect_dup_connects_both descriptor_dup ending_half_close
	ending_close_keeps_sleeping_reader epoll_level epoll_nested_mixed message_waitall process_child_uses_socket
	process_exec_both_ways process_spawn ready_poll_mixed signal_interrupts_recv signal_cancel_recv signal_jumps_out_of_recv
	stdio_lines_both_ways zerocopy_completes
)
OURS=$FLAT_BUILD/libflat-preload.so
PARITY=$FLAT_BUILD/tests/flat-parity
export TMPDIR=$WORK

port
ALONE=$PORT
port
service company 127.0.0.1 "$PORT" "$PORT" >"$CONFIG"
start_flatd

for b in "${BEHAVIOURS[@]}"; do
	PARITY_PORT=$ALONE "$PARITY" "$b" >"$WORK/$b.alone" 2>&1
	grep -qx end "$WORK/$b.alone" || die "$b" "it does not end alone: $(tail -n 1 "$WORK/$b.alone")"
done

# company NAME PROGRAM ENVIRONMENT...: each behaviour is as it was alone, and there were connections over libflat.
company() {
	local name=$1 program=$2 b differ=() before after
	shift 2
	before=$(opened direct)
	for b in "${BEHAVIOURS[@]}"; do
		env "$@" FLAT_CONTROL="$CONTROL" PARITY_PORT="$PORT" timeout 20 "$program" "$b" >"$WORK/$b.with" 2>&1
		cmp -s "$WORK/$b.alone" "$WORK/$b.with" || differ+=("$b")
	done
	after=$(opened direct)
	if [ $((after - before)) -lt ${#BEHAVIOURS[@]} ]; then
		fail "$name" "$((after - before)) connections over libflat"
	elif [ ${#differ[@]} -eq 0 ]; then
		pass "$name"
	else
		b=${differ[0]}
		fail "$name" "${differ[*]}: $(diff "$WORK/$b.alone" "$WORK/$b.with" | head -n 8 | tr '\n' '|')"
	fi
}

# The libraries by their soname: the dynamic linker knows where they lie.
for lib in libjemalloc.so.2 libtcmalloc_minimal.so.4; do
	company "${lib%%.*}-before" "$PARITY" LD_PRELOAD="$lib:$OURS"
	company "${lib%%.*}-behind" "$PARITY" LD_PRELOAD="$OURS:$lib"
done

gcc -shared -fPIC -O1 -D_GNU_SOURCE -o "$WORK/wrapper.so" "$E2E_ROOT/tests/e2e/company_wrapper.c" >"$WORK/gcc.log" 2>&1 ||
	die wrapper "it does not compile"
company wrapper-before "$PARITY" LD_PRELOAD="$WORK/wrapper.so:$OURS" WRAPPER_LOG="$WORK/calls"
holds wrapper-before-saw-calls awk '$1 > 0 { n++ } END { exit n == 0 }' "$WORK/calls"
rm -f "$WORK/calls"
# Behind, it sees what libflat hands on to it: descriptors of the kernel's.
company wrapper-behind "$PARITY" LD_PRELOAD="$OURS:$WORK/wrapper.so" WRAPPER_LOG="$WORK/calls"
holds wrapper-behind-saw-calls awk '$1 > 0 { n++ } END { exit n == 0 }' "$WORK/calls"

SOURCES=("$E2E_ROOT"/tests/parity/*.c)
gcc -O1 -w -D_GNU_SOURCE -rdynamic -o "$WORK/own" "${SOURCES[@]}" "$E2E_ROOT/tests/e2e/company_sigaction.c" -pthread \
	>>"$WORK/gcc.log" 2>&1 || die own "it does not compile"
company own-sigaction "$WORK/own" LD_PRELOAD="$OURS"

# bun PROGRAM OPTION...: has the version node of Bun.
bun() {
	local program=$1
	shift
	gcc -O1 -w -D_GNU_SOURCE "$@" -Wl,--version-script="$WORK/bun.map",--export-dynamic-symbol='n*api_*' -o "$program" \
		"${SOURCES[@]}" "$E2E_ROOT/tests/e2e/company_bun.c" -pthread >>"$WORK/gcc.log" 2>&1
}
echo "BUN_1.2 { global: napi_*; node_api_*; local: *; };" >"$WORK/bun.map"
bun "$WORK/bun" || die own-wait "it does not compile"
company own-wait "$WORK/bun" LD_PRELOAD="$OURS"
bun "$WORK/bun-1.3" -DBEFORE_1_4 || die own-calls "it does not compile"
BEFORE=$(opened direct)
LD_PRELOAD=$OURS FLAT_CONTROL=$CONTROL PARITY_PORT=$PORT timeout 60 "$WORK/bun-1.3" epoll_level >"$WORK/epoll_level.with" 2>&1
holds own-calls cmp "$WORK/epoll_level.alone" "$WORK/epoll_level.with"
holds own-calls-of-the-kernel test "$(opened direct)" -eq "$BEFORE"

# Sanitizers in the program itself: theirs are the first functions of each name.
export ASAN_OPTIONS=detect_leaks=0
clang -fsanitize=address -O1 -w -D_GNU_SOURCE -o "$WORK/asan" "${SOURCES[@]}" -pthread >>"$WORK/gcc.log" 2>&1 ||
	die asan "it does not compile"
company asan-built "$WORK/asan" LD_PRELOAD="$OURS"
