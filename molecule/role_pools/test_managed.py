# SPDX-License-Identifier: GPL-3.0-or-later
"""What applications have of a provider's server, what the server sees of us, and what is refused."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest
import yaml
from harness.platform import wait

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).resolve().parent
PLAIN = {"ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "ANSIBLE_FORCE_COLOR": "0", "ANSIBLE_NOCOLOR": "1"}
PROVIDERS = {"app12": "prov12", "app13": "prov13"}
PASSWORDS = {"shop": 'qu"o$te-0123456789', "shop_ro": "molecule-reader-0123456789", "shop_owner": "molecule-owner-0123456789"}
OTHERS = ("molecule-provider-0123456789", "molecule-monitor-0123456789")
CA = "/etc/uptier/managed-postgresql/ca.crt"
CLIENTS = pytest.mark.parametrize("name", PROVIDERS)
SERVERS = pytest.mark.parametrize("name", PROVIDERS.values())


def pool(lab, name, sql, user="shop", database=None):
    password = PASSWORDS[user].replace("'", "'\\''")
    return lab.host(name).run(
        f"PGPASSWORD='{password}' PGCONNECT_TIMEOUT=60 psql -h 127.0.0.1 -p 6432 -U {user} -XAtc \"{sql}\" {database or user}"
    )


def direct(lab, name, sql, user="shop_owner"):
    target = f"host=db.provider.test user={user} dbname=shop sslmode=verify-full sslrootcert={CA}"
    return lab.host(name).run(f"PGPASSWORD={PASSWORDS[user]} psql -XAtc \"{sql}\" '{target}'")


def provider(lab, name, sql, database="postgres"):
    done = lab.host(name).run(f'cd / && runuser -u postgres -- psql -XAtc "{sql}" {database}')
    assert done.rc == 0, done.stderr
    return done.stdout.strip()


def playbook(lab, name, *options):
    """Run a playbook of this scenario; return its end code and all it said in one line."""
    inventory = ROOT / ".cache/labs" / lab.name / "inventory.yml"
    done = subprocess.run(
        ["ansible-playbook", "-i", str(inventory), str(HERE / name), *options],
        cwd=ROOT, env={**os.environ, **PLAIN}, capture_output=True, text=True, check=False, timeout=900,
    )  # fmt: skip
    return done.returncode, " ".join((done.stdout + done.stderr).split())


@CLIENTS
def test_the_authority_of_the_cache_is_there_and_leads_to_it(lab, name):
    host = lab.host(name)
    authority = host.file("/etc/uptier/managed-redis/ca.crt")
    assert (authority.user, authority.mode) == ("root", 0o644)
    asked = "printf 'AUTH default molecule-cache-0123456789\\r\\nDBSIZE\\r\\nQUIT\\r\\n'"
    shown = host.check_output(
        f"{asked} | openssl s_client -quiet -verify_return_error -verify_hostname db.provider.test -CAfile {authority.path} "
        "-connect db.provider.test:6379 2>/dev/null"
    )
    # Nobody has written a key there.
    assert shown.split() == ["+OK", ":0", "+OK"]


@SERVERS
def test_nothing_was_installed_or_written_on_the_server(lab, name):
    host = lab.host(name)
    assert host.run("dpkg -l | diff - /root/packages").stdout == ""
    # The pooler in front of the other server there was given another size meanwhile.
    find = "find /etc /usr /opt /root /home /var/lib/uptier -newer /root/noted -type f ! -path '*pgbouncer*' 2>/dev/null || true"
    assert host.check_output(find) == ""


@SERVERS
def test_users_are_there_and_none_is_more_than_it_has_to_be(lab, name):
    roles = provider(lab, name, "select rolname from pg_roles where rolname !~ '^pg_' order by 1").split()
    assert roles == ["admin", "helper", "monitor", "postgres", "shop", "shop_owner", "shop_ro"]
    mighty = "select string_agg(rolname, ',') from pg_roles where rolsuper or rolreplication or rolbypassrls"
    assert provider(lab, name, mighty) == "postgres"
    assert provider(lab, name, "select string_agg(rolname, ',' order by 1) from pg_roles where rolcreatedb and not rolsuper") == "admin"
    assert provider(lab, name, "select pg_get_userbyid(datdba) from pg_database where datname = 'shop'") == "shop_owner"


@SERVERS
def test_indexes_and_partitions_are_there(lab, name):
    indexes = (
        "select count(*) from pg_index join pg_class c on c.oid = indexrelid where indisvalid and relname in ('users_email', 'events_id')"
    )
    assert provider(lab, name, indexes, "shop") == "2"
    assert provider(lab, name, "select count(*) from pg_inherits where inhparent = 'events'::regclass", "shop") == "3"
    owners = "select distinct pg_get_userbyid(relowner) from pg_class where relnamespace = 'public'::regnamespace"
    assert provider(lab, name, owners, "shop") == "shop_owner"


@CLIENTS
def test_the_timer_looks_after_partitions_and_reports(lab, name):
    host = lab.host(name)
    assert host.run("systemctl is-active postgresql-managed-partitions.timer").stdout.strip() == "active"
    done = host.run("timeout 300 systemctl start postgresql-managed-partitions")  # after a failure it would wait for the restart
    assert done.rc == 0, host.run("journalctl -u postgresql-managed-partitions -n 20 --no-pager").stdout
    metrics = host.check_output("cat /var/lib/prometheus/node-exporter/postgresql_managed_partitions.prom")
    assert "pg_partitions_run_success 1\n" in metrics
    assert 'pg_partitions_ahead{database="shop",table="public.events"} 2\n' in metrics
    config = host.file("/etc/uptier/managed-postgresql/partitions.json")
    assert (config.mode, config.user) == (0o600, "root")
    assert OTHERS[0] not in config.content_string, "the administrator's password has no business on a host"


@SERVERS
def test_no_password_reached_the_server(lab, name):
    log = lab.host(name).check_output("cat /var/log/postgresql/*main.log")
    assert 'ALTER ROLE "shop" PASSWORD' in log
    assert [password for password in (*PASSWORDS.values(), *OTHERS) if password in log] == []


@CLIENTS
def test_applications_read_and_write_through_their_pools(lab, name):
    assert direct(lab, name, "create table if not exists later (n int)").rc == 0
    assert pool(lab, name, "insert into later values (1) returning n").stdout.split()[0] == "1"
    assert int(pool(lab, name, "select count(*) from later", "shop_ro").stdout) >= 1
    assert "permission denied" in pool(lab, name, "create table x (n int)").stderr
    assert "read-only transaction" in pool(lab, name, "insert into later values (2)", "shop_ro").stderr
    assert "permission denied" in pool(lab, name, "begin read write; insert into later values (2)", "shop_ro").stderr


@CLIENTS
def test_the_way_of_the_pools_is_encrypted_and_leads_to_the_provider(lab, name):
    seen = pool(lab, name, "select version || ' ' || host(inet_server_addr()) from pg_stat_ssl where pid = pg_backend_pid()")
    assert seen.stdout.strip() == f"{'TLSv1.2' if name == 'app12' else 'TLSv1.3'} {lab.addresses[PROVIDERS[name]]}", seen.stderr
    configured = lab.host(name).check_output("grep -h ^shop /etc/pgbouncer/pgbouncer.ini")
    assert "shop = host=db.provider.test port=5432" in configured
    assert "shop_ro = host=ro.provider.test port=5432" in configured


@CLIENTS
def test_metrics_come_from_the_provider(lab, name):
    keys = "--cacert /etc/uptier/pki/ca.crt --cert /etc/uptier/pki/host.crt --key /etc/uptier/pki/host.key"

    def answered():
        seen = lab.host(name).run(f"curl -sS {keys} https://localhost:9187/metrics").stdout
        return seen if "\npg_up 1\n" in seen else None

    page = wait("metrics of the server", answered, 60)
    assert "pg_instance_max_connections" in page
    assert 'datname="shop"' in page
    assert "pg_archive_" not in page


def test_a_password_that_was_changed_there_is_put_right(lab):
    provider(lab, "prov13", "alter role shop_ro password 'somebody-changed-it'")
    apply = ("converge.yml", "--limit=app13", "--tags=postgresql_managed")
    code, said = playbook(lab, *apply, "-e", json.dumps({"postgresql_managed_left_out": ["app12"]}))
    assert code != 0
    assert "The passwords of shop_ro are other ones at the server than in the vault, and app12, where they are in use, take no part" in said
    code, said = playbook(lab, *apply)
    assert code == 0, said
    assert "changed=1 " in said
    assert int(direct(lab, "app13", "select count(*) from users", "shop_ro").stdout) == 0


def test_what_is_refused_says_why(lab):
    before = [lab.host(name).check_output(f"sha256sum {CA}") for name in PROVIDERS]
    code, said = playbook(lab, "refused.yml")
    assert code == 0, said
    cases = yaml.safe_load((HERE / "refused.yml").read_text(encoding="utf-8"))[0]["vars"]["molecule_refused"]
    assert said.count("All assertions passed") == sum(map(len, cases.values())), said
    after = [lab.host(name).check_output(f"sha256sum {CA}") for name in PROVIDERS]
    assert after == before, "pools would not reach the server any more"
