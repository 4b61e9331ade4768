#!/bin/bash
# The rsync daemon: a tree sent and fetched, then once more after changes, so that only differences travel.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
needs rsync

mkdir "$WORK/tree"
for n in $(seq 200); do
	mkdir -p "$WORK/tree/$((n % 7))"
	head -c $((n * 500)) /dev/urandom >"$WORK/tree/$((n % 7))/$n"
done
head -c 20000000 /dev/urandom >"$WORK/tree/big"
app rsync 873
rsync_server() {
	cat >"$2/conf" <<-END
		pid file = $2/pid
		use chroot = no
		max connections = 20
		log file = $2/log
		[here]
		path = $WORK/tree
		read only = yes
		[there]
		path = $WORK/store
		read only = no
	END
	[ "$(id -u)" -ne 0 ] || sed -i '1i uid = root\ngid = root' "$2/conf"
	CMD=(rsync --daemon --no-detach --config="$2/conf" --port="$1" --address=127.0.0.1)
}
mesh
both rsync
tree_of() { (cd "$1" && find . -type f -print0 | sort -z | xargs -0 sha256sum | hash_of); }
copies() {
	local to
	to=$(mktemp -d "$WORK/to.XXXXXX")
	rm -rf "$WORK/store" && mkdir "$WORK/store"
	run rsync --port "$2" "rsync://$1/" | tr -s ' '
	run rsync -a --port "$2" "rsync://$1/here/" "$to/" 2>&1
	tree_of "$to"
	printf 'changed' | dd of="$to/big" bs=1 seek=5000000 conv=notrunc 2>/dev/null
	run rsync -a -I --stats --no-whole-file --port "$2" "rsync://$1/here/" "$to/" | grep -E '^(Number of regular files|Literal|Matched)'
	tree_of "$to"
	run rsync -az --port "$2" "$to/" "rsync://$1/there/" 2>&1
	tree_of "$WORK/store"
	rm "$to/big"
	run rsync -a --delete --port "$2" "$to/" "rsync://$1/there/" 2>&1
	tree_of "$WORK/store"
}
each copies rsync copies
ends
