#!/bin/bash
# MariaDB, a thread per connection: mysqlslap, a dump read back, big values, a query killed from another connection, and a
# replica.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
needs mariadbd mariadb mariadb-install-db mysqlslap

AS=()
if [ "$(id -u)" -eq 0 ]; then
	AS=(--user=mysql)
	chmod 711 "$WORK"
fi
mariadb-install-db --no-defaults "${AS[@]}" --datadir="$WORK/data" --auth-root-authentication-method=normal --skip-test-db \
	>"$WORK/install.log" 2>&1 || die install "$(tail -n 5 "$WORK/install.log")"
app db 3306
db_server() {
	rm -rf "$2" && cp -a "$WORK/data" "$2"
	CMD=(mariadbd --no-defaults "${AS[@]}" --datadir="$2" --port="$1" --bind-address=127.0.0.1 --socket="$2/socket"
		--innodb-flush-log-at-trx-commit=0 --innodb-buffer-pool-size=32M --skip-name-resolve --max-allowed-packet=64M)
}
mesh
both db
for flavour in native flat; do
	mariadb --no-defaults -u root -S "$WORK/db-$flavour/socket" -e "create user u identified by 'p'; grant all on *.* to u" || die user
done
sql() { run mariadb --no-defaults -u u -pp -h "$1" -P "$2" --protocol=tcp -N -B --max-allowed-packet=64M "${@:3}" 2>&1; }
work() {
	run mysqlslap --no-defaults -u u -pp -h "$1" -P "$2" --protocol=tcp -a -c 8 -i 1 --number-of-queries 400 2>&1 | grep -E 'clients|error'
	sql "$@" -e 'create or replace database d; use d; create table d.t (n int primary key, words longtext);
		insert into d.t select seq, repeat(md5(seq), 50) from seq_1_to_3000'
	sql "$@" -e 'select * from d.t order by n' | hash_of
	run mariadb-dump --no-defaults -u u -pp -h "$1" -P "$2" --protocol=tcp --skip-dump-date d | grep -v '^-- Host' >"$WORK/dump.$WAY"
	hash_of <"$WORK/dump.$WAY"
	sql "$@" d <"$WORK/dump.$WAY"
	sql "$@" -e 'checksum table d.t'
	{
		printf "set @x = '"
		head -c 8000000 /dev/zero | tr '\0' x
		echo "'; select md5(@x), length(@x);"
	} | sql "$@"
}
each work db work
kills() {
	local sleeper
	sql "$@" -e "select 'mark', sleep(40)" &
	sleeper=$!
	running() { [ -n "$(sql "$@" -e "select id from information_schema.processlist where info like '%mark%' and info not like '%processlist%'")" ]; }
	wait_for 10 running "$@"
	sql "$@" -e "$(sql "$@" -e "select concat('kill ', id) from information_schema.processlist where info like '%mark%' and info not like '%processlist%'")"
	wait $sleeper
	echo ended
}
each kill db kills
ends
