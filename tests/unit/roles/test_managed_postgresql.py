# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What follows from the one variable that names a provider's PostgreSQL, and what stays as it is without it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible.errors import AnsibleFilterError
from ansible_collections.uptier.platform.plugins.filter.observability import alert_rule_files, scrape_jobs
from ansible_collections.uptier.platform.plugins.filter.postgresql import managed_postgresql
from ansible_collections.uptier.platform.plugins.plugin_utils import scrape

ROOT = Path(__file__).resolve().parents[3]
RenderRole = Callable[[str, Sequence[str], Mapping[str, Any]], dict[str, str]]
PLAYBOOK = shutil.which("ansible-playbook") or str(Path(sys.executable).with_name("ansible-playbook"))
MANAGED = {"host": "db.provider.example", "port": 25060, "replica_host": "ro.provider.example", "ca": "/x/ca.crt", "admin_user": "admin"}
VALUES = {
    "platform_address": "192.0.2.1",
    "platform_applications": [{"name": "shop", "database": True, "migrate": "run", "version": "1", "release": "none"}],
    "vault_postgresql_user_passwords": {"shop": "s", "shop_ro": "r", "shop_owner": "o"},
    "vault_postgresql_monitor_password": "m",
    "vault_pgbouncer_admin_password": "a",
    "vault_app_secret_key": "k",
    "__app_application": {"name": "shop"},
    "ansible_facts": {"distribution_major_version": "13"},
}
RULES = yaml.safe_load((ROOT / "roles" / "prometheus" / "vars" / "main.yml").read_text(encoding="utf-8"))["__prometheus_default_thresholds"]


def play(*words: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "ANSIBLE_PYTHON_INTERPRETER": sys.executable}
    return subprocess.run([PLAYBOOK, *words], env=environment, cwd=ROOT, capture_output=True, text=True, check=False, timeout=120)


@pytest.fixture
def render(render_role: RenderRole) -> Callable[..., str]:
    def render(role: str, template: str, **more: Any) -> str:
        (text,) = render_role(role, [template], {**VALUES, **more}).values()
        return text

    return render


def test_what_is_left_out_is_filled_in() -> None:
    given = {"host": "db.provider.example", "port": None, "admin_user": "admin", "ca": ""}
    keys = ("port", "replica_host", "replica_port", "admin_database", "ca_file")
    assert [managed_postgresql(given, key) for key in keys] == [
        5432, "db.provider.example", 5432, "postgres", "/etc/ssl/certs/ca-certificates.crt",
    ]  # fmt: skip
    assert managed_postgresql(MANAGED, "replica_port") == 25060
    assert managed_postgresql({}, "host", "postgres-cluster.internal") == "postgres-cluster.internal"
    with pytest.raises(AnsibleFilterError, match="has no 'hots': it has admin_database, admin_user, ca, ca_file, host"):
        managed_postgresql(MANAGED, "hots")


def test_pools_go_to_the_provider(render: Callable[..., str]) -> None:
    text = render("pgbouncer", "pgbouncer.ini.j2", platform_managed_postgresql=MANAGED)
    assert "shop = host=db.provider.example port=25060 dbname=shop user=shop " in text
    assert "shop_ro = host=ro.provider.example port=25060 dbname=shop user=shop_ro " in text
    assert "server_tls_sslmode = verify-full\nserver_tls_ca_file = /etc/uptier/managed-postgresql/ca.crt\n" in text
    assert "server_tls_protocols = tlsv1.3,tlsv1.2\n" in text


def test_pools_go_through_the_router_without_one(render: Callable[..., str]) -> None:
    text = render("pgbouncer", "pgbouncer.ini.j2")
    assert "shop = host=postgres-cluster.internal port=5000 dbname=shop user=shop " in text
    assert "shop_ro = host=postgres-cluster.internal port=5001 dbname=shop user=shop_ro " in text
    assert "server_tls_ca_file = /etc/uptier/pki/ca.crt\nserver_tls_protocols = tlsv1.3\n" in text


def test_migrations_go_to_the_provider(render: Callable[..., str]) -> None:
    text = render("app", "migrate.env.j2", platform_managed_postgresql=MANAGED)
    for line in ('PGHOST="db.provider.example"', 'PGPORT="25060"', 'PGSSLROOTCERT="/etc/uptier/managed-postgresql/ca.crt"'):
        assert line in text


@pytest.mark.parametrize(
    ("managed", "source", "archive"),
    [
        (MANAGED, "host=db.provider.example port=25060 dbname=postgres sslmode=verify-full sslrootcert=/etc/uptier/managed-postgresql/ca.crt", False),
        ({}, "host=127.0.0.1 port=5432 dbname=postgres sslmode=verify-full sslrootcert=/etc/uptier/pki/ca.crt", True),
    ],
)  # fmt: skip
def test_the_exporter_asks_the_provider(render: Callable[..., str], managed: dict[str, Any], source: str, archive: bool) -> None:
    assert source in render("exporters", "postgres.j2", platform_managed_postgresql=managed)
    queries = yaml.safe_load(render("exporters", "postgres-queries.yml.j2", platform_managed_postgresql=managed))
    assert ("pg_archive" in queries) == archive
    assert {"pg_instance", "pg_standby", "pg_slot"} <= set(queries)


def test_the_first_monitoring_host_is_asked_in_the_providers_name() -> None:
    groups = {"all": ["app1", "mon1", "mon2"], "app": ["app1"], "monitoring": ["mon1", "mon2"]}
    hostvars = {name: {"ansible_host": f"192.0.2.{number}"} for number, name in enumerate(groups["all"], 1)}
    jobs = {job["name"]: job for job in scrape_jobs(groups, hostvars, [], managed_postgresql="db.provider.example")}
    assert jobs["postgres"]["targets"] == [{"address": "mon1.internal:9187", "labels": {"instance": "db.provider.example"}}]
    assert "patroni" not in jobs
    names = scrape.rule_sets(jobs.values(), groups)
    assert "postgresql" in names
    assert {"etcd", "backup"} & set(names) == set()
    assert "postgres" not in [job["name"] for job in scrape_jobs(groups, hostvars, [])]


def test_no_rule_misses_patroni_where_there_is_none() -> None:
    def names(*conditions: str) -> set[str]:
        document = yaml.safe_load(alert_rule_files(["postgresql"], RULES, list(conditions))[0]["vars"]["__prometheus_rules"])
        rules = [rule for group in document["groups"] for rule in group["rules"]]
        if "patroni" not in conditions:
            assert [rule["expr"] for rule in rules if "patroni" in rule["expr"] or "absent" in rule["expr"]] == []
        return {rule["alert"] for rule in rules if "alert" in rule}

    assert {"PostgresDown", "DbConnectionsHigh", "TransactionIdsRunOut", "LongTransaction"} <= names()
    assert "DatabaseHasNoLeader" in names("patroni")


@pytest.mark.parametrize("name", ["switchover", "failover", "restart", "upgrade"])
def test_operations_say_that_the_provider_does_them(tmp_path: Path, name: str) -> None:
    inventory = tmp_path / "hosts.yml"
    hosts = {"app1": {"ansible_host": "192.0.2.1"}}
    inventory.write_text(json.dumps({"all": {"vars": {"platform_managed_postgresql": MANAGED}, "children": {"app": {"hosts": hosts}}}}))
    playbook = {"upgrade": "upgrade_postgresql_minor"}.get(name, f"{name}_postgresql")
    done = play("-i", str(inventory), str(ROOT / "playbooks" / f"{playbook}.yml"), "-e", "pg_leader=db1")
    assert done.returncode != 0
    assert "run by a provider (db.provider.example)" in " ".join(done.stdout.split())
