#!/bin/bash
# PostgreSQL, a process per connection: pgbench (COPY, prepared statements, a connection per transaction), COPY both ways,
# LISTEN and NOTIFY, a query cancelled, pg_dump, and a base backup that streams the log beside it.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
PATH=$(printf '%s:' /usr/lib/postgresql/*/bin)$PATH
needs postgres initdb pgbench psql pg_dump pg_basebackup

app pg 5432
# It refuses to run as root.
AS=()
if [ "$(id -u)" -eq 0 ]; then
	AS=(setpriv --reuid postgres --regid postgres --clear-groups)
	chown postgres "$WORK"
	# The build may lie in a folder that only root may enter: the user needs an installed one.
	(umask 022 && cmake --install "$FLAT_BUILD" --prefix "$WORK/usr") >"$WORK/install.log" || die install
	PATH=$WORK/usr/bin:$PATH
fi
"${AS[@]}" env -C / initdb -D "$WORK/data" -A trust -U test --no-sync >"$WORK/initdb.log" 2>&1 || die initdb
pg_server() {
	rm -rf "$2" && cp -a "$WORK/data" "$2"
	CMD=("${AS[@]}" env -C / postgres -D "$2" -p "$1" -k "$WORK" -c listen_addresses=127.0.0.1 -c fsync=off -c max_connections=50)
}
mesh
both pg
export PGUSER=test PGDATABASE=postgres PGCONNECT_TIMEOUT=20
query() { run psql -X -q -A -t -h "$1" -p "$2" "${@:3}"; }
WAY=native
ready() { query 127.0.0.1 "$1" -c 'select 1'; }
for port in "${NATIVE[pg]}" "${FLAT[pg]}"; do wait_for 20 ready "$port" || die ready; done

# pgbench says how many transactions were made; the sums tell whether all took effect.
bench() {
	run pgbench -h "$1" -p "$2" -i -s 2 -q 2>&1 | grep -cE '^done'
	run pgbench -h "$1" -p "$2" -n -c 8 -j 2 -t 50 2>&1 | grep -E 'actually processed|failed'
	run pgbench -h "$1" -p "$2" -n -c 4 -j 2 -t 400 -S -M prepared 2>&1 | grep -E 'actually processed|failed'
	run pgbench -h "$1" -p "$2" -n -C -c 4 -j 2 -t 10 -S 2>&1 | grep -E 'actually processed|failed'
	query "$1" "$2" -c 'select count(*), sum(abalance) - (select sum(bbalance) from pgbench_branches) from pgbench_accounts' \
		-c 'select count(*) from pgbench_history'
}
each pgbench pg bench

seq 300000 | sed 's/.*/&\ttext of row &/' >"$WORK/rows"
copies() {
	query "$1" "$2" -c 'drop table if exists rows' -c 'create table rows (n int, words text)' 2>/dev/null
	query "$1" "$2" -c '\copy rows from stdin' <"$WORK/rows"
	query "$1" "$2" -c '\copy rows to stdout' | hash_of
	run pg_dump -h "$1" -p "$2" -t rows | grep -v restrict | hash_of
}
each copy pg copies

listens() {
	query "$1" "$2" -f - <<-END 2>&1 | sed 's/PID [0-9]*/PID/'
		listen news;
		\! ${OVER[*]} psql -X -q -h $1 -p $2 -c "notify news, 'one'" -c "notify news, 'two'"
		select 'after';
	END
}
listens_way() {
	case $WAY in native | plain) OVER=() ;; *) OVER=(flat-run --control "$CONTROL") ;; esac
	listens "$@"
}
each listen pg listens_way

# --foreground: to psql alone; else it gets the signal twice, as one of its group too.
cancels() { run timeout --foreground -s INT 1 psql -X -q -h "$1" -p "$2" -c 'select pg_sleep(40)' 2>&1 || [ $? -eq 124 ]; }
each cancel pg cancels

backup() {
	local to
	to=$(mktemp -d "$WORK/backup.XXXXXX")
	run pg_basebackup -h "$1" -p "$2" -D "$to" -X stream -c fast --no-sync 2>&1
	pg_verifybackup "$to" 2>&1
}
each basebackup pg backup
STOP_SIGNAL=INT
ends
