#!/bin/bash
# Places for sessions: one user's processes take four fifths of what flatd has descriptors for, and another user's still find one.
# Unmodified Python under flat-run.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
needs setpriv
[ "$(id -u)" -eq 0 ] || { echo "SKIP places: only root can be another user" && exit 77; }

port && A=$PORT
entry origin 240.9.16.1 http "$A" >"$CONFIG"
# 256 of its own, and 40 sessions' four each.
start flatd bash -c 'ulimit -n 416; exec flatd "$@"' flatd --control "$CONTROL" --config "$CONFIG" --metrics off
wait_for 10 flatctl --control "$CONTROL" ls || die flatd-starts "$(tail -n 5 "$WORK/flatd.log")"

# crowd N: so many processes, each with a session of its own, until its input ends.
cat >"$WORK/crowd.py" <<'END'
import os, socket, sys
for _ in range(int(sys.argv[1])):
    if os.fork() == 0:
        s = socket.socket()
        s.settimeout(20)
        try:
            s.connect(("240.9.16.1", 80))
        except OSError:
            pass
        sys.stdin.read()
        os._exit(0)
sys.stdin.read()
END
chmod 644 "$WORK/crowd.py"
mkfifo -m 644 "$WORK/hold"
# Where others may read it, too.
mkdir -m 755 "$WORK/bin"
cp "$FLAT_BUILD/flat-run" "$FLAT_BUILD"/libflat.so.1 "$FLAT_BUILD/libflat-preload.so" "$WORK/bin/"
chmod 755 "$WORK/bin"/*
start crowd setpriv --reuid 65534 --regid 65534 --clear-groups "$WORK/bin/flat-run" --control "$CONTROL" -- bash -c '"$@" <"$0"' "$WORK/hold" "$PYTHON" "$WORK/crowd.py" 60
exec 9<>"$WORK/hold"
turned_away() { grep -q 'turned away: rule 15: uid 65534 has [0-9]* sessions' "$WORK/flatd.log"; }
wait_for 20 turned_away || die turned-away "$(tail -n 5 "$WORK/flatd.log" "$WORK/crowd.log")"
# Those that try again are there for a moment.
share() { N=$(state "len(s['sessions'])") && [ "$N" -ge 20 ] && [ "$N" -le 34 ]; }
holds one-user-has-a-share wait_for 20 share
mine() { flat-run --control "$CONTROL" -- "$PYTHON" -c 'import socket; print(socket.gethostbyname("origin.e2e.example"))'; }
same another-finds-a-place 240.9.16.1 "$(mine)"
exec 9>&-
left() { [ "$(state "len(s['sessions'])")" -le 1 ]; }
wait_for 20 left || die left "$(tail -n 5 "$WORK/flatd.log")"
same places-come-back 240.9.16.1 "$(mine)"
