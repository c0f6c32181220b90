# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What users of the databases see, what intruders do not, and what is left when a part dies."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import time
from pathlib import Path

import pytest
import yaml
from harness.gaps import longest_gap
from harness.platform import Run

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).resolve().parent
PKI = "/etc/uptier/pki"
# Molecule asks for colours, which would stand between the figures of the recap.
PLAIN = {"ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "ANSIBLE_FORCE_COLOR": "0", "ANSIBLE_NOCOLOR": "1"}
CHOSEN = yaml.safe_load((HERE / "group_vars" / "all.yml").read_text(encoding="utf-8"))
PASSWORDS = {"postgres": CHOSEN["vault_postgresql_superuser_password"], **CHOSEN["vault_postgresql_user_passwords"]}
PAIR = ("db1", "db2")
REPOSITORY, SECOND = "/var/lib/pgbackrest", "/var/lib/pgbackrest-second"
# For what takes seconds on an idle machine, and follows from no setting: others may have the processors for a while.
SETTLED = 180
# What a busy machine may take to switch to another segment and to put it into the repository.
UPLOADED = 30
# A lease of 20 s, and the same room.
FAILOVER_SECONDS = 120


def members(lab, asked):
    """Return Patroni's members by name; none while it does not answer."""
    done = lab.host(asked).run("patronictl list -f json")
    return {entry["Member"]: entry for entry in json.loads(done.stdout)} if done.rc == 0 else {}


def role(lab, name):
    return members(lab, name).get(name, {}).get("Role")


def ask(lab, name, sql, database="postgres"):
    return lab.host(name).run(f'cd / && runuser -u postgres -- psql -XAtc "{sql}" {database}')


def local(lab, name, sql, database="postgres"):
    done = ask(lab, name, sql, database)
    assert done.rc == 0, done.stderr
    return done.stdout.strip()


def leads(lab):
    """Return who of the pair leads at this moment; None when nobody does."""
    return next((name for name in PAIR if ask(lab, name, "select pg_is_in_recovery()").stdout.strip() == "f"), None)


def leader(lab):
    return until(SETTLED, "somebody leads the pair", lambda: leads(lab))


def follows(lab, name, other, column="state", value="streaming"):
    """Tell whether a member streams from the leader. PostgreSQL is asked: a start of patronictl takes a second of processor."""
    return ask(lab, other, f"select {column} from pg_stat_replication where application_name = '{name}'").stdout.strip() == value


def synchronous(lab):
    first = leader(lab)
    other = next(name for name in PAIR if name != first)
    # Patroni allows the standby to lead once it has seen the same.
    return follows(lab, other, first, "sync_state", "sync") and role(lab, first) == "Leader" and role(lab, other) == "Sync Standby"


def until(seconds, what, probe):
    deadline = time.monotonic() + seconds
    while not (seen := probe()):
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        time.sleep(1)
    return seen


def arrived(host, segment, repository=REPOSITORY):
    """Return where a segment of WAL is in the repository of a host; nothing before it is there."""
    return host.run(f"find {repository}/archive -name '{segment}-*.zst'").stdout.strip()


def target(lab, user="sample", hosts=PAIR, mode="read-write", **options):
    given = {
        "host": ",".join(lab.addresses[name] for name in hosts), "dbname": "sample", "user": user,
        "password": PASSWORDS.get(user, PASSWORDS["postgres"]), "sslmode": "verify-full", "sslrootcert": f"{PKI}/ca.crt",
        "target_session_attrs": mode, "connect_timeout": 30, **options,
    }  # fmt: skip
    quoted = {key: str(value).replace("\\", "\\\\").replace("'", "\\'") for key, value in given.items()}
    return " ".join(f"{key}='{value}'" for key, value in quoted.items())


def remote(lab, sql, **options):
    return lab.host("repo").run(f'psql -XAtq {shlex.quote(target(lab, **options))} -c "{sql}"')


def playbook(lab, path, *options):
    """Run a playbook on the hosts of the scenario."""
    started = time.monotonic()
    done = subprocess.run(
        ["ansible-playbook", "-i", str(ROOT / ".cache/labs" / lab.name / "inventory.yml"), str(path), *options],
        cwd=ROOT, env={**os.environ, **PLAIN}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return Run(done.returncode, done.stdout + done.stderr, time.monotonic() - started)


def converge(lab, *options):
    """Run the scenario's playbook once more."""
    return playbook(lab, HERE / "converge.yml", *options)


def postmaster(lab, name):
    return lab.host(name).run("head -1 /var/lib/postgresql/*/main/postmaster.pid").stdout.strip()


def patroni(lab, name):
    return lab.host(name).run("systemctl show -P MainPID patroni").stdout.strip()


def connections(lab):
    return int(re.search(r"max_connections: '?(\d+)", lab.host("db1").run("patronictl show-config").stdout).group(1))


@pytest.fixture(scope="module", autouse=True)
def unswitched(lab):
    """Write a little before all tests; return by repository the segment and the time: archive_timeout is to bring it, while tests go on."""
    sql = "select pg_walfile_name(pg_current_wal_lsn()), extract(epoch from clock_timestamp()) from pg_logical_emit_message(true, '', 'x')"
    return {name: local(lab, database, sql).split("|") for name, database in (("repo", leader(lab)), ("solo", "solo"))}


def test_one_leads_and_the_other_has_every_commit(lab):
    until(SETTLED, "a synchronous standby", lambda: synchronous(lab))
    assert role(lab, "solo") == "Leader"


@pytest.mark.parametrize(("name", "version"), [("db1", "15"), ("solo", "17")])
def test_the_server_is_as_promised(lab, name, version):
    shown = {key: local(lab, name, f"show {key}") for key in ("data_checksums", "wal_level", "archive_mode", "ssl_min_protocol_version")}
    assert shown == {"data_checksums": "on", "wal_level": "logical", "archive_mode": "on", "ssl_min_protocol_version": "TLSv1.3"}
    assert local(lab, name, "show server_version").startswith(version)
    collation = local(lab, name, "select datlocprovider::text || ' ' || coalesce(datcollate, '') from pg_database where datname = 'sample'")
    assert collation == ("b C.UTF-8" if version == "17" else "c C.UTF-8")
    assert local(lab, name, "select count(*) from pg_stat_statements") != "0"
    head = lab.host(name).run("head -25 /etc/patroni/patroni.yml").stdout
    assert local(lab, name, "show shared_buffers") in head


def test_users_can_do_what_they_are_for_and_nothing_more(lab):
    assert remote(lab, "create table if not exists w(number int)", user="sample_owner").rc == 0
    assert remote(lab, "insert into w values (0) returning number").stdout.strip() == "0"
    assert "permission denied" in remote(lab, "create table x(i int)").stderr
    assert "permission denied" in remote(lab, "drop database postgres").stderr + remote(lab, "create role x").stderr
    assert remote(lab, "select count(*) from w", user="sample_ro", mode="any").rc == 0
    assert "read-only transaction" in remote(lab, "insert into w values (1)", user="sample_ro", mode="any", hosts=(leader(lab),)).stderr
    assert (
        "permission denied"
        in remote(lab, "begin read write; insert into w values (1)", user="sample_ro", mode="any", hosts=(leader(lab),)).stderr
    )


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"user": "postgres", "dbname": "postgres"}, "pg_hba.conf rejects"),
        ({"user": "replicator"}, "pg_hba.conf rejects"),
        ({"user": "monitor"}, "pg_hba.conf rejects"),
        ({"sslmode": "disable"}, "pg_hba.conf rejects"),
        ({"password": "wrong"}, "password authentication failed"),
        ({"dbname": "postgres"}, "pg_hba.conf rejects"),
        ({"sslmode": "verify-full", "sslrootcert": "/etc/ssl/certs/ca-certificates.crt"}, "certificate verify failed"),
    ],
)
def test_who_may_not_come_in_does_not(lab, options, words):
    done = remote(lab, "select 1", **{"hosts": (leader(lab),), "mode": "any", **options})
    assert done.rc != 0
    assert words in done.stderr


def test_every_port_speaks_tls_1_3_only_and_knows_its_callers(lab):
    client = f"-cert {PKI}/host.crt -key {PKI}/host.key"
    shown = "2>/dev/null | grep -aE '^New|HTTP/1'"
    for port, more in ((5432, "-starttls postgres"), (8008, ""), (8432, "")):
        command = f"echo | timeout 60 openssl s_client -CAfile {PKI}/ca.crt -connect {lab.addresses['db1']}:{port} {more}"
        assert "TLSv1.3" in lab.host("repo").run(f"{command} -tls1_3 {client} {shown}").stdout, port
        assert "Cipher is (NONE)" in lab.host("repo").run(f"{command} -tls1_2 {client} {shown}").stdout, port
    stranger = f"(printf 'GET / HTTP/1.0\\r\\n\\r\\n'; sleep 1) | timeout 20 openssl s_client -quiet -connect {lab.addresses['db1']}:8008"
    assert "HTTP/1" not in lab.host("repo").run(f"({stranger}) {shown}").stdout


def test_secrets_are_shown_to_nobody(host):
    assert host.run("ps -eo args | grep -cE '[m]olecule-[a-z]+-0123456789'").stdout.strip() == "0"
    found = host.run(
        "find /etc /opt/uptier /var/lib/uptier /usr/local -type f -perm -o=r -print0 | xargs -0 grep -lE 'molecule-[a-z]+-0123456789'"
    ).stdout
    assert found == ""
    assert host.run("journalctl --no-pager | grep -cE 'molecule-[a-z]+-0123456789'").stdout.strip() == "0"


def test_auditors_find_who_changed_a_role(lab):
    name = leader(lab)
    local(lab, name, "alter role sample_ro connection limit 7")
    journal = "journalctl -u patroni --no-pager | grep"
    search = f"{journal} 'AUDIT: SESSION' | grep -i 'alter role sample_ro connection limit 7'"
    assert ",ROLE,ALTER ROLE," in until(SETTLED, "the change in the journal", lambda: lab.host(name).run(search).stdout)
    assert lab.host(name).run(f"{journal} 'connection authorized: user='").rc == 0


def test_damage_is_found(lab):
    """An index that does not have every row of its table; queries that use it give wrong answers, and nothing else tells."""
    for name in (leader(lab), *PAIR, "solo"):
        done = lab.host(name).run("systemctl start postgresql-check")
        assert done.rc == 0, lab.host(name).run("journalctl -u postgresql-check -n 20 --no-pager").stdout
    ready = "update pg_index set indisready = {} where indexrelid = 'damaged_id'::regclass"
    try:
        local(lab, "solo", "create table damaged as select generate_series(1, 1000) as id; create index damaged_id on damaged (id)")
        local(lab, "solo", ready.format("false"))
        local(lab, "solo", "insert into damaged values (1001)")
        local(lab, "solo", ready.format("true"))
        assert lab.host("solo").run("systemctl start postgresql-check").rc != 0
        search = "journalctl -u postgresql-check --no-pager | grep 'lacks matching index tuple'"
        until(SETTLED, "the damage in the journal", lambda: lab.host("solo").run(search).rc == 0)
    finally:
        local(lab, "solo", "drop table if exists damaged")
    assert lab.host("solo").run("systemctl start postgresql-check").rc == 0


def test_a_new_patroni_takes_over_the_running_server(lab):
    name = leader(lab)
    before = postmaster(lab, name)
    for command in ("systemctl restart patroni", "kill -9 $(systemctl show -P MainPID patroni)"):
        old = patroni(lab, name)
        assert lab.host(name).run(command).rc == 0
        until(SETTLED, "a new Patroni", lambda old=old: patroni(lab, name) not in (old, "0"))
    until(SETTLED, "the leader's lock", lambda: role(lab, name) == "Leader")
    assert postmaster(lab, name) == before


def test_there_is_a_backup_and_wal_arrives_encrypted(lab, unswitched):
    for name, (segment, written) in unswitched.items():
        backup = json.loads(lab.host(name).run("cd / && runuser -u postgres -- pgbackrest info --output=json").stdout)[0]
        assert backup["status"]["code"] == 0
        assert backup["cipher"] == "aes-256-cbc"
        assert backup["backup"][0]["type"] == "full"
        # Nothing before has switched by hand: archive_timeout brings it.
        path = until(SETTLED, f"{segment} in the repository of {name}", lambda segment=segment, name=name: arrived(lab.host(name), segment))
        assert lab.host(name).run(f"head -c 8 {path}").stdout.startswith("Salted__")
        after = float(lab.host(name).run(f"stat -c %.9Y {path}").stdout) - float(written)
        print(f"measured: a write without any after it was in the archive of {name} after {after:.0f} s")
        assert after < 60 + UPLOADED
        timers = lab.host(name).run("systemctl list-timers --no-legend 'pgbackrest-backup@*'").stdout
        assert timers.count("pgbackrest-backup@") == 2 * (2 if name == "solo" else 3)  # once a day in the tier startup
        assert "pgbackrest-verify" in lab.host(name).run("systemctl list-timers --no-legend 'pgbackrest-verify*'").stdout


PROVE = "/usr/bin/python3 /usr/local/lib/uptier/backup-verify/pgbackrest_verify.py /etc/pgbackrest/verify.json"
LEFT = (
    "ls -A /var/lib/uptier/backup-verify; systemctl list-units --all --no-legend 'uptier-backup-verify-*'; pgrep -f [b]ackup-verify/proof"
)


@pytest.mark.parametrize("name", ["repo", "solo"])
def test_a_backup_is_proven_and_its_report_cannot_be_changed_unseen(lab, name):
    """The unit of the timer, as systemd starts it; a random point and a tablespace come with it."""
    host, metrics = lab.host(name), "/var/lib/prometheus/node-exporter"
    where = leader(lab) if name == "repo" else name
    # A tablespace that is younger than the backup: its WAL must not reach the directory of the live one.
    host.run(f"install -d {metrics}")
    for member in PAIR if name == "repo" else [name]:
        lab.host(member).run("install -d -o postgres /var/lib/postgresql/younger")
    local(lab, where, "create tablespace younger location '/var/lib/postgresql/younger'")
    local(lab, where, "create table moved (at timestamptz) tablespace younger")
    local(lab, where, "insert into moved select now()")
    before = lab.host(where).run("find /var/lib/postgresql/younger -type f -printf '%p %s %T@\\n'").stdout
    segment = local(lab, where, "select pg_walfile_name(pg_switch_wal())")
    until(SETTLED, "the segment's arrival", lambda: arrived(host, segment))
    done = host.run("systemctl start pgbackrest-verify")
    assert done.rc == 0, host.run("journalctl --no-pager -n 40 -u pgbackrest-verify").stdout
    assert lab.host(where).run("find /var/lib/postgresql/younger -type f -printf '%p %s %T@\\n'").stdout == before
    figures = dict(line.rsplit(" ", 1) for line in host.run(f"grep -v '#' {metrics}/backup_verify_main.prom").stdout.splitlines())
    assert figures['backup_verify_success{stanza="main",repo="1"}'] == "1"
    assert figures['backup_verify_check_success{stanza="main",repo="1",check="amcheck"}'] == "1"
    rto, rpo = (float(figures[f'backup_verify_{what}_seconds{{stanza="main",repo="1"}}']) for what in ("rto", "rpo"))
    print(f"measured: {name} was restored and served after {rto:.1f} s, {rpo:.0f} s would have been lost")
    # A segment comes every minute, and with it the heartbeats in it.
    assert 0 < rpo < 300
    targets = [figures[f'backup_verify_{what}_target_seconds{{stanza="main",repo="1"}}'] for what in ("rto", "rpo")]
    assert targets == ["3600", "300"], "what the tiers startup and growth promise"
    # A label that nobody knows is a mistake of whoever asks: no alert comes of it.
    mistaken = host.run(f"{PROVE} level=repository checksums=false settle_seconds=0 backup=20200101-000000F")
    assert mistaken.rc == 1
    assert "no_such_point        point" in mistaken.stdout
    assert 'backup_verify_success{stanza="main",repo="1"} 1\n' in host.run(f"cat {metrics}/backup_verify_main.prom").stdout
    report = host.run("ls /var/lib/uptier/backup-reports/*.json | tail -1").stdout.strip()
    signed = f"-CAfile {PKI}/ca.crt -purpose any -no_check_time -out /dev/null"
    check = f"openssl cms -verify -binary -inform PEM -in {report}.p7s -content {report} {signed}"
    assert host.run(check).rc == 0
    assert host.run(f"{PROVE} --check {report} {report.replace('.json', '.html')}").rc == 0
    host.run(f'sed -i \'s/"rto_seconds": /"rto_seconds": 9/\' {report}')
    assert host.run(check).rc != 0
    assert "changed" in host.run(f"{PROVE} --check {report}").stderr
    host.run(f"rm {report} {report}.p7s")
    assert host.run(LEFT).stdout.split() == [".lock"]
    local(lab, where, "drop table moved")
    local(lab, where, "drop tablespace younger")


def edited(script):
    """Return the command that changes pgBackRest's settings in place: they are mounted."""
    return f"settings=$(sed '{script}' /etc/pgbackrest/pgbackrest.conf); echo \"$settings\" > /etc/pgbackrest/pgbackrest.conf"


# One fault each on a copy of the repository, what the proof is given, and the reason that it must name.
FLIP = (
    "python3 -c \"import sys; f = open(sys.argv[1], 'r+b'); f.seek(0, 2); n = f.tell() // 2; f.seek(n); b = f.read(1); f.seek(n); "
    'f.write(bytes([b[0] ^ 255]))" '
)
FULL, MIDDLE = "$(ls -d backup/main/2*F | head -1)", "$(ls archive/main/*/*/*-*.zst | tail -2 | head -1)"
FAULTS = [
    (f"{FLIP} {FULL}/bundle/1", "", "file_damaged"),
    (f"rm {FULL}/bundle/1", "", "file_missing"),
    (f"rm -r {FULL}", "checksums=false", "backup_missing"),
    (f"{FLIP} {MIDDLE}", "", "wal_damaged"),
    (f"rm {MIDDLE}", "checksums=false", "wal_missing"),
    ("rm backup/main/backup.info", "checksums=false", "info_missing"),
    ("rm backup/main/backup.info*", "", "no_stanza"),
    ("true", "checksums=false max_archive_age_seconds=0", "archive_stale"),
    ("true", "checksums=false max_age_seconds=0", "backup_too_old"),
    ("true", "checksums=false backup=20200101-000000F", "no_such_point"),
    (edited("s/^repo1-cipher-pass=.*/repo1-cipher-pass=another-key-0123456789/"), "", "wrong_key"),
    (edited("/^repo1-cipher/d"), "", "missing_key"),
    (f"mount -t tmpfs tmpfs {REPOSITORY}", "", "no_stanza"),
    (f"mount -o remount,bind,ro {REPOSITORY}", "", "repository_read_only"),
]


def reasons(host, faults):
    """Return what the proof says of each fault; in a mount namespace, where a copy lies over the repository: backups go on meanwhile."""
    script = [
        "set -e",
        f"copy=$(mktemp -d /var/lib/copy.XXXX); cp -a {REPOSITORY} /etc/pgbackrest/pgbackrest.conf $copy",
        'trap "rm -rf $copy" EXIT',
    ]
    for number, (damage, options, dummy) in enumerate(faults):
        options = f"level=repository settle_seconds=0 reports= metrics= max_archive_age_seconds=100000 {options}"
        inside = (
            f"mount --bind $copy/{number} {REPOSITORY}; mount --bind $copy/{number}.conf /etc/pgbackrest/pgbackrest.conf; "
            f"cd {REPOSITORY}; {damage}; cd /; {PROVE} {options} || true"
        )
        script += [
            f"cp -a $copy/pgbackrest $copy/{number}; cp -a $copy/pgbackrest.conf $copy/{number}.conf",
            f"echo '## {number}'; copy=$copy unshare --mount sh -c {shlex.quote(inside)}",
        ]
    done = host.run("bash -c %s", "\n".join(script))
    assert done.rc == 0, done.stdout + done.stderr
    said = done.stdout.split("## ")[1:]
    return [" ".join(line.split()[0] for line in part.splitlines()[1:] if not line.startswith(("good ", "main "))) for part in said]


@pytest.mark.parametrize("name", ["repo", "solo"])
def test_each_fault_of_a_repository_has_its_own_reason(lab, name):
    assert reasons(lab.host(name), FAULTS) == [reason for dummy, dummy, reason in FAULTS]


@pytest.mark.parametrize("name", ["repo", "solo"])
def test_damage_of_the_live_database_and_a_wrong_answer_are_found_and_a_kill_leaves_nothing(lab, name):
    host, where = lab.host(name), leader(lab) if name == "repo" else name
    # The index was made with another function than the one that there is now, as after a change of collation.
    local(lab, where, "create function shifted(int) returns int language sql immutable as 'select $1'".replace("$", "\\$"))
    local(lab, where, "create table damaged as select generate_series(1, 100) as id")
    local(lab, where, "create index damaged_shifted on damaged (shifted(id))")
    local(lab, where, "create or replace function shifted(int) returns int language sql immutable as 'select $1 + 1'".replace("$", "\\$"))
    segment = local(lab, where, "select pg_walfile_name(pg_switch_wal())")
    until(SETTLED, "the segment's arrival", lambda: arrived(host, segment))
    probes = json.dumps([{"name": "rows", "database": "postgres", "sql": "select count(*) from damaged", "expected": "99"}])
    missed = "targets_required=true rto_target_seconds=0.1"
    done = host.run(f"{PROVE} checksums=false reports= metrics= {missed} %s", f"probes={probes}")
    assert done.rc == 1
    assert "rto_missed           rto_target" in done.stdout
    assert "good                 rpo_target" in done.stdout
    assert "index_damaged" in done.stdout
    assert "damaged_shifted" in done.stdout
    assert "probe_differs        probe rows" in done.stdout
    local(lab, where, "drop table damaged")
    local(lab, where, "drop function shifted")
    # Killed while the restored server is there; the next one, of any kind, removes what is left.
    wait = "for i in $(seq 1800); do systemctl is-active -q uptier-backup-verify-main-server && break; sleep 0.1; done"
    host.run(f"sh -c '{PROVE} checksums=false reports= metrics= amcheck=false & p=$!; {wait}; kill -9 $p'")
    assert "proof-" in host.run(LEFT).stdout
    host.run(f"{PROVE} level=repository checksums=false reports= metrics= settle_seconds=0")
    assert host.run(LEFT).stdout.split() == [".lock"]


def test_indexes_are_as_declared_and_used(lab):
    for name in (leader(lab), "solo"):
        text = "CREATE INDEX idx_user_cards_user_id ON public.user_cards USING btree (user_id) WHERE (is_refunded = false)"
        assert local(lab, name, "select pg_get_indexdef('idx_user_cards_user_id'::regclass)", "sample") == text
        rows = "select g % 10000, g % 9999, now() + g * interval '1 ms' from generate_series(1, 100000) g"
        local(lab, name, f"insert into transactions {rows}; analyze transactions", "sample")
        for column, value in (("user_id", "7"), ("wallet_id", "7"), ("at", "(select max(at) from transactions)")):
            plan = local(lab, name, f"explain select * from transactions where {column} = {value}", "sample")
            assert re.search(rf"(Index|Bitmap Index) Scan .*{column}_idx|Scan .*on transactions_\d+_\d+_.*{column}", plan), plan
        assert local(lab, name, "select count(*) from pg_index where not indisvalid", "sample") == "0"


def test_the_timer_makes_partitions_ahead_on_the_leader_and_all_report(lab):
    config = "/etc/uptier/postgresql/partitions.json"
    command = f"python3 -B /usr/local/lib/uptier/partitions/postgresql_partitions.py {config} --now 2031-10-20"
    first, listed = leader(lab), "select string_agg(relname, ' ' order by relname) from pg_class where relname ~ '^transactions_2031_..$'"
    follower = next(name for name in PAIR if name != first)
    assert lab.host(follower).run(command).rc == 0
    assert local(lab, first, listed, "sample") == ""
    assert lab.host(first).run(command).stdout.count("done: ") == 3
    assert lab.host(first).run(command).stdout == ""
    assert local(lab, first, listed, "sample") == "transactions_2031_10 transactions_2031_11 transactions_2031_12"
    row = "insert into transactions values (1, 1, '2031-10-15') returning tableoid::regclass"
    assert remote(lab, row).stdout.strip() == "transactions_2031_10"
    assert remote(lab, "select count(*) from transactions_2031_10", user="sample_ro", mode="any").stdout.strip() == "1"
    for name in (*PAIR, "solo"):
        host = lab.host(name)
        assert host.run("systemctl is-active postgresql-partitions.timer").stdout.strip() == "active"
        host.run("mkdir -p /var/lib/prometheus/node-exporter")
        done = host.run("systemctl start postgresql-partitions")
        assert done.rc == 0, host.run("journalctl -u postgresql-partitions -n 20 --no-pager").stdout
        metrics = host.run("cat /var/lib/prometheus/node-exporter/postgresql_partitions.prom").stdout
        assert "pg_partitions_run_success 1\n" in metrics
        assert 'pg_partitions_ahead{database="sample",table="public.transactions"} 2\n' in metrics


def interrupted_build(lab, name):
    """Leave an index as a build leaves it that had to wait for a transaction and gave up."""
    local(lab, name, "drop index idx_user_cards_user_id", "sample")
    writer = "begin; insert into user_cards values (1, false); select pg_sleep(600)"
    lab.host(name).run(f'cd / && PGAPPNAME=writer nohup runuser -u postgres -- psql -Xqc "{writer}" sample >/dev/null 2>&1 &')
    seen = "from pg_stat_activity where application_name = 'writer'"
    until(SETTLED, "a transaction that stays open", lambda: local(lab, name, f"select wait_event {seen}") == "PgSleep")
    build = "set lock_timeout = '500ms'; create index concurrently idx_user_cards_user_id on user_cards (user_id)"
    command = " ".join(f'-c "{statement.strip()}"' for statement in build.split(";"))
    assert lab.host(name).run(f"cd / && runuser -u postgres -- psql -Xq {command} sample").rc != 0
    local(lab, name, f"select pg_terminate_backend(pid) {seen}")
    invalid = "select count(*) from pg_index where indexrelid = 'idx_user_cards_user_id'::regclass and not indisvalid"
    assert local(lab, name, invalid, "sample") == "1"


def test_a_second_run_repairs_an_index_and_tells_what_needs_a_restart(lab):
    name = leader(lab)
    interrupted_build(lab, name)
    before = {name: postmaster(lab, name) for name in (*PAIR, "solo")}
    run = converge(lab, "--extra-vars", f"connections={connections(lab) + 1}")
    said = " ".join(run.output.split())
    predicate = "select pg_get_expr(indpred, indrelid) from pg_index where indisvalid and indexrelid = 'idx_user_cards_user_id'::regclass"
    assert local(lab, name, predicate, "sample") == "(is_refunded = false)"
    assert "there is no table public.later" in said
    assert "must be restarted before max_connections" in said
    assert {name: postmaster(lab, name) for name in (*PAIR, "solo")} == before
    # The setting, which takes others with it, and the index. That nothing is left to be done shows the run after the failover.
    prefix, changed = "uptier.platform.postgresql : ", [entry.split(": ", 1) for entry in run.changed_tasks()]
    assert [host for host, task in changed if task == f"{prefix}Service | Scripts, indexes and partitions"] == [name], changed
    assert [entry for entry in changed if entry[0] == "repo" or not entry[1].startswith(prefix)] == [], changed


def test_the_leaders_host_dies_and_nothing_acknowledged_is_lost(lab):
    until(SETTLED, "a synchronous standby", lambda: synchronous(lab))
    first = leader(lab)
    other = next(name for name in PAIR if name != first)

    def written(name):
        return int(ask(lab, name, "select count(*) from w", "sample").stdout.strip() or 0)

    lab.host("repo").run("rm -f /tmp/stop")
    before = written(first)
    writer = subprocess.Popen(
        ["docker", "exec", "-i", lab.container("repo"), "bash", "-s", "--", target(lab, connect_timeout=3)],
        stdin=(HERE / "writer.sh").open(), stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        until(SETTLED, "ten writes", lambda: written(first) >= before + 10)
        lab.kill(first)
        until(FAILOVER_SECONDS, f"{other} leads", lambda: leads(lab) == other)
        before = until(SETTLED, "rows there", lambda: written(other))
        until(SETTLED, "ten writes after the failover", lambda: written(other) >= before + 10)
    finally:
        lab.host("repo").run("touch /tmp/stop")
        lab.start(first)
    acknowledged = [line.split() for line in writer.communicate(timeout=SETTLED)[0].splitlines()]
    times = [float(stamp) for stamp, dummy in acknowledged]
    gap = longest_gap(times, times[0])
    print(f"measured: longest gap between acknowledged writes: {gap:.1f} s")
    assert gap < FAILOVER_SECONDS
    present = set(local(lab, other, "select number from w", "sample").split())
    assert {number for dummy, number in acknowledged} <= present
    until(2 * SETTLED, f"{first} follows", lambda: follows(lab, first, other))


def test_a_run_after_the_failover_changes_nothing(lab):
    """On all hosts: what a run just after the first one shows is shown by it as well."""
    before = {name: postmaster(lab, name) for name in (*PAIR, "solo")}
    run = converge(lab, "--extra-vars", f"connections={connections(lab)}")
    assert run.changed_tasks() == []
    assert sorted(run.hosts) == sorted(lab.addresses)
    assert {name: postmaster(lab, name) for name in (*PAIR, "solo")} == before


def test_the_way_from_the_backup_across_the_failover_is_proven_and_faults_on_it_are_named(lab):
    host = lab.host("repo")
    # Two, so that the first one of the timeline is not the newest of all, which nobody could miss.
    for word in ("first", "second"):
        local(lab, leader(lab), f"select pg_logical_emit_message(true, 'test', '{word}')")
        segment = local(lab, leader(lab), "select pg_walfile_name(pg_switch_wal())")
    timeline = segment[:8]
    assert int(timeline, 16) > 1
    until(SETTLED, "the segment's arrival", lambda: arrived(host, segment))
    first = f"$(ls archive/main/*/{timeline}*/*-*.zst | head -1)"
    faults = [
        ("true", "checksums=false", ""),
        (f"rm archive/main/*/{timeline}.history", "checksums=false", "history_missing"),
        (f"rm {first}", "checksums=false", "wal_missing_at_switch"),
    ]
    assert reasons(host, faults) == [reason for dummy, dummy, reason in faults]
    done = host.run(f"{PROVE} checksums=false reports= metrics= backup=oldest")
    assert done.rc == 0, done.stdout + done.stderr


def test_the_second_repository_has_it_all_and_its_loss_a_reason_of_its_own(lab):
    """WAL comes there from the first one, across the failover too."""
    host = lab.host("repo")
    segment = local(lab, leader(lab), "select pg_walfile_name(pg_switch_wal()) from pg_logical_emit_message(true, 'test', 'third')")
    path = until(SETTLED, f"{segment} in the second repository", lambda: arrived(host, segment, SECOND))
    assert host.run(f"head -c 8 {path}").stdout.startswith("Salted__")
    prove = f"{PROVE} repository=2 level=repository settle_seconds=0 reports= metrics= max_archive_age_seconds=100000"
    done = host.run(f"{prove} checksums=true")
    assert done.rc == 0, done.stdout + done.stderr
    lost = host.run(f"unshare --mount sh -c 'mount -t tmpfs tmpfs {SECOND}; {prove}'")
    assert lost.rc == 1
    assert "no_stanza" in lost.stdout
    assert "main, repository 2: " in lost.stderr
    # It is on the disk of the first one, which this inventory accepts; another one would not.
    look = f"python3 -B /usr/local/lib/uptier/pgbackrest-backup.py --stanza=main --type=none --path={REPOSITORY} --mount={SECOND}"
    away = host.run(look)
    assert (away.rc, away.stdout.partition(",")[0]) == (4, f"Repository 2 gets nothing: {SECOND} is on the file system of /")
    assert host.run(f"unshare --mount sh -c 'mount -t tmpfs tmpfs {SECOND}; {look}'").rc == 0


# What a host finds when it comes back after an outage: these timers were due while it was off.
MISSED = """
set -eu
for timer in {timers}; do
  systemctl stop $timer
  mkdir -p /run/systemd/system/$timer.d
  printf '[Timer]\\nRandomizedDelaySec=0\\n' > /run/systemd/system/$timer.d/at-once.conf
  touch -d '-8 days' /var/lib/systemd/timers/stamp-$timer
done
systemctl daemon-reload
systemctl start {timers}
"""
SCHEDULED = ("pgbackrest-backup@incr", "pgbackrest-backup@diff", "pgbackrest-verify")


def test_after_a_failover_an_outage_is_made_up_for_and_nothing_piles_up(lab):
    """Two backups, expiry and a proof are due at once, and systemd starts them: none fails, and one backup is taken."""
    host, timers = lab.host("repo"), [f"{unit}.timer" for unit in SCHEDULED]
    shown = "systemctl show -P {} " + " ".join(SCHEDULED)
    begun = host.run(shown.format("ExecMainStartTimestampMonotonic")).stdout.split()
    before = host.run(f"ls {REPOSITORY}/backup/main | grep ^2").stdout.split()
    since = host.run("date +%s").stdout.strip()
    script = MISSED.format(timers=" ".join(timers))
    try:
        done = host.run("sh -c %s", script)
        assert done.rc == 0, done.stderr
        until(
            SETTLED,
            "all to have been started",
            lambda: not set(begun) & set(host.run(shown.format("ExecMainStartTimestampMonotonic")).stdout.split()),
        )
        until(SETTLED, "all to have ended", lambda: set(host.run(shown.format("ActiveState")).stdout.split()) == {"inactive"})
    finally:
        host.run("rm -r /run/systemd/system/pgbackrest-*.timer.d; systemctl daemon-reload; systemctl restart " + " ".join(timers))
    said = host.run(f"journalctl --no-pager -o cat --since=@{since} {' '.join(f'-u {unit}' for unit in SCHEDULED)}").stdout
    assert host.run(shown.format("Result")).stdout.split() == ["success"] * 3, said
    # The lock is held by one of the two; the other one says so. Where it came later than that, it took its own.
    taken = set(host.run(f"ls {REPOSITORY}/backup/main | grep ^2").stdout.split()) - set(before)
    assert len(taken) + said.count("Another backup is running, which serves as well") == 2, said
    assert taken
    last = json.loads(host.run("cd / && runuser -u postgres -- pgbackrest info --output=json").stdout)[0]["backup"][-1]
    timeline = local(lab, leader(lab), "select substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8)")
    assert last["archive"]["start"].startswith(timeline)
    # Nothing is due now: timers that are started once more begin nothing.
    assert host.run("systemctl list-jobs --no-legend").stdout.strip() == ""
    assert set(host.run(shown.format("ActiveState")).stdout.split()) == {"inactive"}


def newest(host, repository):
    """Return the label of the newest backup in a repository; empty where there is none."""
    return host.run(f"ls {repository}/backup/main | grep ^2 | tail -1").stdout.strip()


# The directory below a mount: on the host's own disk, empty, and root's.
BARE = f"""
set -eu; cd /
real=$(mktemp -d /var/lib/real.XXXX) point=$(mktemp -d /var/lib/point.XXXX); chmod 755 $point
trap 'umount --lazy {SECOND} $real; rmdir $real $point' EXIT
mount --bind {SECOND} $real
mount --bind $point {SECOND}
back_up() {{
  runuser -u postgres -- python3 -B /usr/local/lib/uptier/pgbackrest-backup.py --stanza=main --type=incr --repositories=2 \\
    --path={REPOSITORY} --mount={SECOND}
}}
"""
AWAY = f'{BARE} status=0; back_up || status=$?; echo "## $status $(find $point -mindepth 1 | wc -l)"'
# A new backup has begun in what is mounted there when that goes away, with files of it still open. WAL comes there as ever.
GOES_AWAY = f"""{BARE}
mount -t tmpfs -o size=512m tmpfs {SECOND}; cp -a $real/backup {SECOND}; mkdir {SECOND}/archive; mount --bind $real/archive {SECOND}/archive
chown -R postgres {SECOND}
before=$(ls {SECOND}/backup/main | grep -c ^2)
back_up & running=$!
until test $(ls {SECOND}/backup/main | grep -c ^2) -gt $before; do kill -0 $running; sleep 0.02; done
umount --lazy {SECOND}
status=0; wait $running || status=$?; echo "## $status $(find $point -mindepth 1 | wc -l)"
"""


@pytest.mark.parametrize(
    ("script", "words"),
    [(AWAY, f"because it cannot be used now: {SECOND} is on the file system of /"), (GOES_AWAY, "(status ")],
    ids=["before", "meanwhile"],
)
def test_a_mount_that_goes_away_leaves_nothing_on_the_hosts_own_disk(lab, script, words):
    """Before a backup, and in the middle of one. The first repository gets its backup."""
    host = lab.host("repo")
    before = newest(host, REPOSITORY)
    done = host.run("unshare --mount bash -c %s", script)
    assert done.rc == 0, done.stdout + done.stderr
    assert "## 4 0\n" in done.stdout, done.stdout + done.stderr
    assert f"Repository 2 got no backup{',' if words.startswith('because') else ''} {words}" in done.stdout
    assert newest(host, REPOSITORY) != before


# Four minutes: `make test-full`.
if os.environ.get("UPTIER_FULL"):

    def test_the_cluster_comes_back_from_the_second_repository_when_the_first_one_is_lost(lab):
        """Everything that was acknowledged, and the first repository begins anew."""
        host, first = lab.host("repo"), leader(lab)
        local(lab, first, "create table kept as select generate_series(1, 1000) as n")
        local(lab, first, "select pg_switch_wal()")
        segment = local(lab, first, "select pg_walfile_name(pg_switch_wal()) from pg_logical_emit_message(true, 'test', 'kept')")
        until(SETTLED, f"{segment} in the second repository", lambda: arrived(host, segment, SECOND))
        label = newest(host, SECOND)
        assert host.run(f"rm -r {REPOSITORY}/archive {REPOSITORY}/backup").rc == 0
        for name in PAIR:
            lab.host(name).run("systemctl kill -s KILL patroni; pkill -KILL -u postgres postgres; rm -rf /var/lib/postgresql/15/main")
        groups = {
            "postgresql_group": "postgresql",
            "postgresql_etcd_group": "etcd",
            "postgresql_client_group": "app",
            "pgbackrest_backup_group": "backup",
        }
        asked = {**groups, "pg_confirm": "main", "pg_restore_repository": 2, "pg_restore_application": ""}
        run = playbook(
            lab, ROOT / "playbooks" / "restore_postgresql.yml",
            "--extra-vars", f"@{HERE / 'group_vars' / 'all.yml'}", "--extra-vars", json.dumps(asked),
        )  # fmt: skip
        said = " ".join(run.output.split())
        assert " in repository 2" in said, run.output[-4000:]
        assert f"from the backup {label} " in said, run.output[-4000:]
        for name in PAIR:
            until(
                SETTLED,
                f"the rows on {name}",
                lambda name=name: ask(lab, name, "select count(*), sum(n) from kept").stdout.strip() == "1000|500500",
            )
        taken = re.search(r"and (\S+) is the new backup", said)
        assert taken, run.output[-4000:]
        # Each repository has a new one; the first one has what comes from here on.
        assert newest(host, SECOND) > label
        assert newest(host, REPOSITORY) > label
        assert taken[1] in (newest(host, REPOSITORY), newest(host, SECOND))
        print(f"measured: the first repository lost, restored from the second one: {run.seconds:.0f} s")
        for name in PAIR:
            lab.host(name).run("rm -rf /var/lib/postgresql/15/restored-aside-*")


def test_a_standby_without_data_is_rebuilt_from_the_repository(lab):
    first = leader(lab)
    follower = next(name for name in PAIR if name != first)
    lab.host(follower).run("systemctl stop patroni && rm -rf /var/lib/postgresql/15/main && systemctl start patroni")
    until(2 * SETTLED, f"{follower} follows", lambda: follows(lab, follower, first))
    assert "restore command end: completed successfully" in lab.host(follower).run("cat /var/log/pgbackrest/main-restore.log").stdout


def test_a_leader_without_patroni_is_stopped_within_its_lease(lab):
    host, started = lab.host("solo"), time.monotonic()
    host.run("mv /opt/uptier/patroni /opt/uptier/gone; kill -9 $(systemctl show -P MainPID patroni)")
    try:
        # The lease is 20 s; a busy machine takes longer for each start of Patroni that is tried first.
        until(FAILOVER_SECONDS, "PostgreSQL stopped", lambda: host.run("test -e /var/lib/postgresql/17/main/postmaster.pid").rc != 0)
    finally:
        host.run("mv /opt/uptier/gone /opt/uptier/patroni; systemctl reset-failed patroni; systemctl start patroni")
    print(f"measured: a leader without Patroni was stopped after {time.monotonic() - started:.0f} s")
    # etcd still says what Patroni said before it was killed, for as long as its lease goes on: the server is asked.
    until(SETTLED, "solo leads again", lambda: ask(lab, "solo", "select not pg_is_in_recovery()").stdout.strip() == "t")


def test_a_cluster_that_was_adopted_has_its_rows_and_roles(lab):
    """After everything that happened to it; its former settings are kept aside."""
    assert local(lab, "solo", "select count(*), sum(n) from t", "somebodys") == "1000|500500"
    assert local(lab, "solo", "select rolconnlimit from pg_roles where rolname = 'somebody'") == "7"
    assert lab.host("solo").run("ls /var/lib/postgresql/17/adopted/etc/pg_hba.conf /etc/postgresql/17/main").stdout.split() == [
        "/var/lib/postgresql/17/adopted/etc/pg_hba.conf"
    ]
