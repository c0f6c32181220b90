# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A port that a user moves is moved everywhere: what all roles compute and write is rendered as it comes, and with every port moved."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.uptier.platform.plugins.plugin_utils import ports

ROOT = Path(__file__).resolve().parents[3]
SHARED = ROOT / "playbooks" / "vars" / "postgresql.yml"
MOVABLE = [name for name, port in ports.table().items() if port.variable]
# One host for each group that shares nothing; what is on one host is asked on that host.
HOSTS = {"gw1": ["gateway"], "app1": ["app", "etcd", "redis"], "db1": ["postgresql"], "mon1": ["monitoring", "backup"]}
# The role, a host that has it, and its templates that name a port.
ROLES = {
    "alertmanager": ("mon1", ["alertmanager.default.j2", "amtool.yml.j2"]),
    "alloy": ("db1", ["alloy.default.j2", "config.alloy.j2"]),
    "app": ("app1", ["app.env.j2", "migrate.env.j2"]),
    "etcd": ("app1", ["etcd.env.j2", "bootstrap.env.j2"]),
    "exporters": ("app1", ["node.j2", "redis.j2", "redis.json.j2", "pgbouncer.json.j2"]),
    "exporters:gateway": ("gw1", ["gateway.json.j2"]),
    "exporters:database": ("db1", ["postgres.j2"]),
    "exporters:monitoring": ("mon1", ["blackbox.j2"]),
    "firewall": ("app1", []),
    "firewall:gateway": ("gw1", []),
    "firewall:database": ("db1", []),
    "firewall:monitoring": ("mon1", []),
    "grafana": ("mon1", ["grafana.ini.j2", "datasources.yml.j2"]),
    "haproxy": ("app1", ["haproxy.cfg.j2"]),
    "keepalived": ("gw1", ["check_gateway.sh.j2"]),
    "loki": ("mon1", ["config.yml.j2"]),
    "nginx": ("gw1", ["default.conf.j2", "upstreams.conf.j2"]),
    "pgbackrest": ("db1", ["pgbackrest.conf.j2"]),
    "pgbackrest:backup": ("mon1", ["pgbackrest.conf.j2"]),
    "pgbouncer": ("app1", ["listen.ini.j2", "pgbouncer.ini.j2"]),
    "postgresql": ("db1", ["patroni.yml.j2", "check.j2", "heartbeat.service.j2", "partitions.json.j2"]),
    # What the playbooks of operations share.
    "playbooks": ("db1", []),
    "prometheus": ("mon1", ["prometheus.default.j2", "prometheus.yml.j2"]),
    "redis": ("app1", ["node.conf.j2"]),
}
VALUES: dict[str, Any] = {
    "platform_tier": "growth",
    "platform_domain": "demo.test",
    "platform_memory_mb": 16384,
    "platform_cpus": 4,
    # Another shape than the tier's.
    "redis_masters": 1,
    "redis_replicas_per_master": 0,
    "platform_virtual_address": "10.0.0.100/24",
    "ansible_facts": {"distribution_major_version": "13", "memtotal_mb": 16384, "processor_vcpus": 4},
    "platform_applications": [
        {
            "name": "shop",
            "domains": ["shop.test"],
            "database": True,
            "cache": True,
            "release": "/shop.tar.gz",
            "migrate": "true",
            "services": [{"name": "web", "kind": "web", "command": "run", "port": 4000, "instances": 2, "health": "/up", "metrics": "/m"}],
        }
    ],
    "vault_postgresql_user_passwords": dict.fromkeys(("shop", "shop_ro", "shop_owner"), "0123456789abcdef"),
    "vault_redis_user_passwords": {"shop": "0123456789abcdefg"},
    # What the loops of the roles give a template.
    "__app_application": {"name": "shop", "database": True, "cache": True, "env": {}},
}
# Variables that hold a port, or an address with one. The others cost time.
SPEAKS_OF_PORTS = re.compile(r"_ports?\b|port_of|endpoints|firewall_rules|scrape_jobs|redis_nodes|redis_layout|upstreams|\b\d{4,5}\b")
SECRET = re.compile(r"\bvault_\w+")


def secrets() -> dict[str, str]:
    """A value for every secret that a default reads."""
    names = {name for path in ROOT.glob("roles/*/defaults/main.yml") for name in SECRET.findall(path.read_text(encoding="utf-8"))}
    return {name: f"{name}-0123456789" for name in names}


def render_all(rendering: Any, hosts: Path, moved: dict[str, int]) -> dict[str, str]:
    """Return what each role computes and writes, as text, by role and name of variable or template."""
    shown = rendering({**secrets(), **VALUES, **moved}, hosts)
    found = {}
    for label, (host, templates) in ROLES.items():
        role = label.partition(":")[0]
        folder = ROOT / "roles" / role
        files = [folder / "defaults" / "main.yml", folder / "vars" / "main.yml"]
        files = [path for path in (files if folder.is_dir() else [SHARED]) if path.is_file()]
        defaults, internal = ([yaml.safe_load(path.read_text(encoding="utf-8")) for path in files] + [{}])[:2]
        names = [name for name, value in defaults.items() if SPEAKS_OF_PORTS.search(f"{name} {value}")]
        # Of the internal ones, those that are one text: the addresses at which a role asks its own daemon.
        names += [name for name, value in internal.items() if isinstance(value, str) and SPEAKS_OF_PORTS.search(value)]
        parts = [f"'{name}': lookup('ansible.builtin.vars', '{name}')" for name in names]
        parts += [f"'{name}': lookup('ansible.builtin.template', '{folder / 'templates' / name}')" for name in templates]
        for name, value in shown.show("{{ {" + ", ".join(parts) + "} }}", files, host).items():
            found[f"{label}: {name}"] = value if isinstance(value, str) else json.dumps(value)
    return found


# Far enough apart for the processes of Redis, and found nowhere else.
MOVED = {ports.table()[name].variable: 21000 + 20 * number for number, name in enumerate(MOVABLE)}


@pytest.fixture(scope="module")
def rendered(rendering: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, str], dict[str, str]]:
    """What is rendered by default, and with all ports moved."""
    hosts = tmp_path_factory.mktemp("ports") / "hosts.yml"
    inventory = {
        "all": {
            "hosts": {host: {"ansible_host": f"10.0.0.{number}"} for number, host in enumerate(HOSTS, 11)},
            "children": {group: {"hosts": {host: {}}} for host, groups in HOSTS.items() for group in groups},
        }
    }
    hosts.write_text(yaml.safe_dump(inventory), encoding="utf-8")
    return render_all(rendering, hosts, {}), render_all(rendering, hosts, MOVED)


def count(number: int, text: str) -> int:
    return len(re.findall(rf"(?<![\d.]){number}(?!\d)", text))


@pytest.mark.parametrize("name", MOVABLE)
def test_a_moved_port_is_moved_everywhere(rendered: tuple[dict[str, str], dict[str, str]], name: str) -> None:
    before, after = rendered
    port = ports.table()[name]
    old, new = port.port, MOVED[port.variable]
    followed = 0
    for where, text in before.items():
        expected, now = count(old, text), count(new, after[where])
        followed += now
        kept = count(old, after[where])
        if port.keeps_default:
            assert (kept, now) in ((expected, expected), (0, 0)), where
        else:
            assert (kept, now) == (0, expected), f"{where}: {kept} times {old}, {now} times {new}, expected {expected}"
    assert followed > 0, "it is rendered nowhere"


def test_metrics_are_asked_of_the_processes_that_there_are(rendered: tuple[dict[str, str], dict[str, str]]) -> None:
    """Redis may have another shape than the tier's."""
    before, dummy = rendered
    asked, there = (json.loads(before[where]) for where in ("prometheus: prometheus_redis_nodes", "redis: redis_cluster_nodes"))
    assert [(node["name"], node["port"]) for node in asked] == [(node["name"], node["port"]) for node in there] == [("app1", 6379)]
