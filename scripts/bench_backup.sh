# Runs on the test host of bench_backup.py: bench_backup.sh SCALE ROUNDS. Prints lines "plain SECONDS" and "proof RESTORE RECOVERY AMCHECK".
set -eu
cd /
bin=$(ls -d /usr/lib/postgresql/*/bin)
scratch=/var/lib/uptier/plain
proofs=$(mktemp -d)
as() { runuser -u postgres -- "$@"; }
now() { date +%s.%N; }
stop() {
  as "$bin/pg_ctl" -D $scratch -m immediate stop >/dev/null 2>&1 || true
  rm -rf $scratch
}
trap 'stop; rm -rf $proofs' EXIT

as "$bin/pgbench" -i -q -s "$1" postgres >/dev/null 2>&1
as pgbackrest --stanza=main --type=full backup
as "$bin/pgbench" -T 10 -c 2 postgres >/dev/null 2>&1
as psql -XAtqc "SELECT pg_switch_wal()" postgres >/dev/null
sleep 5
for round in $(seq "$2"); do
  stop
  install -d -o postgres -m 700 $scratch
  begin=$(now)
  as pgbackrest --stanza=main --pg1-path=$scratch --archive-mode=off --log-level-console=off restore
  echo "local all all trust" | as tee $scratch/pg_hba.conf >/dev/null
  as tee $scratch/postgresql.conf >/dev/null <<END
listen_addresses = ''
unix_socket_directories = '$scratch'
shared_buffers = 128MB
hot_standby = off
fsync = off
END
  as "$bin/pg_ctl" -D $scratch -l $scratch/log -w -t 600 start >/dev/null
  until as psql -h $scratch -XAtc "SELECT 1" postgres >/dev/null 2>&1; do sleep 0.1; done
  echo "plain $(python3 -c "print($(now) - $begin)")"
  stop
  /usr/bin/python3 /usr/local/lib/uptier/backup-verify/pgbackrest_verify.py /etc/pgbackrest/verify.json \
    checksums=false cpu_percent=0 memory_mb=2048 metrics= reports="$proofs/$round" >/dev/null
  python3 -c "
import glob, json
found = json.load(open(glob.glob('$proofs/$round/*.json')[0]))
seconds = {check['name']: check['seconds'] for check in found['checks']}
print('proof', found['phases']['restore'], found['phases']['recovery'], seconds['amcheck'])"
done
