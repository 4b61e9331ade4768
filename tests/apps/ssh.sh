#!/bin/bash
# sshd with ssh: commands with their status, 10 MB each way, sftp, a connection shared, and ports forwarded both ways.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
needs sshd ssh ssh-keygen sftp curl

[ "$(id -u)" -eq 0 ] || { echo "SKIP ssh: sshd gives sessions to root's callers only" && exit 77; }
mkdir -p /run/sshd
for key in host user; do ssh-keygen -q -t ed25519 -N '' -f "$WORK/$key" || die keys; done
chmod 711 "$WORK"
head -c 10000000 /dev/urandom >"$WORK/big"
BIG=$(hash_of <"$WORK/big")
app ssh 22
app web
ssh_server() {
	cat >"$2/sshd_config" <<-END
		ListenAddress 127.0.0.1:$1
		HostKey $WORK/host
		AuthorizedKeysFile $WORK/user.pub
		StrictModes no
		PidFile none
		PermitRootLogin prohibit-password
		UsePAM no
		Subsystem sftp internal-sftp
	END
	CMD=("$(command -v sshd)" -D -e -f "$2/sshd_config")
}
web_server() { CMD=("$PYTHON" -m http.server --bind 127.0.0.1 -d "$WORK" "$1"); }
mesh
both ssh web
OPTIONS=(-F none -i "$WORK/user" -o IdentitiesOnly=yes -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null
	-o LogLevel=ERROR -o BatchMode=yes -o ConnectTimeout=20)
on() { run ssh "${OPTIONS[@]}" -p "$2" "root@$1" "${@:3}"; }
commands() {
	on "$@" 'echo out; echo err >&2; exit 7' </dev/null 2>&1
	echo "status $?"
	on "$@" sha256sum <"$WORK/big" | cut -d ' ' -f 1
	on "$@" "cat $WORK/big" </dev/null | hash_of
	on "$@" cat <"$WORK/big" | hash_of
	on "$@" -tt 'stty size >/dev/null && echo a terminal' </dev/null | tr -d '\r'
}
each commands ssh commands
files() {
	local to
	to=$(mktemp -d "$WORK/sftp.XXXXXX")
	printf 'get %s %s\nput %s %s\nls %s\n' "$WORK/big" "$to/got" "$WORK/big" "$to/put" "$WORK/host.pub" |
		run sftp -q "${OPTIONS[@]}" -P "$2" -b - "root@$1" | sed 's/^sftp> .*/sftp/; s/ .*//'
	cat "$to/got" "$to/put" | hash_of
}
each sftp ssh files
shared() {
	local socket
	socket=$(mktemp -u "$WORK/master.XXXXXX")
	on "$@" -M -S "$socket" -fN </dev/null >/dev/null
	for n in 1 2 3 4; do on "$@" -S "$socket" "echo $n; head -c 1000000 $WORK/big" </dev/null & done | hash_of >/dev/null
	wait
	for n in 1 2 3; do on "$@" -S "$socket" "echo $n" </dev/null; done
	on "$@" -S "$socket" -O exit </dev/null 2>&1
}
each shared ssh shared
# The client listens and the server connects, then the other way round.
tunnels() {
	local web=127.0.0.1:${NATIVE[web]} local_port remote_port socket
	port && local_port=$PORT
	port && remote_port=$PORT
	socket=$(mktemp -u "$WORK/tunnel.XXXXXX")
	on "$@" -M -S "$socket" -fN -o ExitOnForwardFailure=yes -L "127.0.0.1:$local_port:$web" -R "127.0.0.1:$remote_port:$web" </dev/null >/dev/null
	curl -sS "http://127.0.0.1:$local_port/big" | hash_of
	curl -sS "http://127.0.0.1:$remote_port/big" | hash_of
	on "$@" -S "$socket" -O exit </dev/null 2>&1
}
# ssh listens, and asks the web server, over the mesh as well.
ALSO_OTHERS=1
each tunnels ssh tunnels
ends
