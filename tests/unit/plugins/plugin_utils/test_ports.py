# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The table of ports, and that it is the only place that knows them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from ansible.errors import AnsibleFilterError
from ansible_collections.uptier.platform.plugins.filter.firewall import firewall_rules
from ansible_collections.uptier.platform.plugins.filter.observability import scrape_jobs
from ansible_collections.uptier.platform.plugins.filter.ports import endpoints, port_of
from ansible_collections.uptier.platform.plugins.plugin_utils import ports
from ansible_collections.uptier.platform.plugins.plugin_utils.data import read

ROOT = Path(__file__).resolve().parents[4]
TABLE = ports.table()
LISTED = list(TABLE.values())
FLOWS = ports.tables()[1]
GROUPS = {"all", "gateway", "app", "postgresql", "etcd", "redis", "monitoring", "backup"}
# Ansible's own variables, which no role takes.
OF_ANSIBLE = {"ansible_port"}

HOSTVARS = {
    "gw1": {"ansible_host": "10.0.0.1"},
    "app1": {"ansible_host": "10.0.0.11"},
    "db1": {"ansible_host": "10.0.0.21", "postgresql_port": "5433"},
    "db2": {"ansible_host": "10.0.0.22", "postgresql_port": 5433, "exporters_postgres_port": 9188},
    "mon1": {"ansible_host": "10.0.0.31", "loki_port": 3101},
    "mon2": {"ansible_host": "10.0.0.32"},
}
INVENTORY = {
    "all": list(HOSTVARS),
    "gateway": ["gw1"],
    "app": ["app1"],
    "etcd": ["app1"],
    "redis": ["app1"],
    "postgresql": ["db1", "db2"],
    "monitoring": ["mon1", "mon2"],
    "backup": ["mon1"],
}


def numbers(**more) -> ports.Numbers:
    return ports.Numbers(
        {host: {**HOSTVARS[host], **more.get(host, {})} for host in HOSTVARS}, INVENTORY, read("tiers.yml")["platform_tiers"]["growth"]
    )


# The table --------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("port", LISTED, ids=lambda port: port.name)
def test_a_port_is_whole(port: ports.Port) -> None:
    assert set(port.groups) <= GROUPS
    assert port.bind in {"loopback", "address", "both", "every"}
    assert port.protocol in {"tcp", "udp"}
    assert port.tls in ports.PROTECTION
    assert [bool(port.variable), bool(port.fixed), bool(port.of)].count(True) == 1, "moved by a variable, or by another port, or not at all"
    assert bool(port.port) != bool(port.of)


def test_a_number_is_given_once() -> None:
    for counted in (Counter(port.name for port in LISTED), Counter(ports.default(name) for name in TABLE)):
        assert [what for what, times in counted.items() if times > 1] == []


def listening_role(port: ports.Port) -> Path:
    (role,) = (path for path in ROOT.glob("roles/*") if port.variable.startswith(f"{path.name}_") and defaults_of(path, port.variable))
    return role


def defaults_of(role: Path, variable: str) -> object:
    return (yaml.safe_load((role / "defaults" / "main.yml").read_text(encoding="utf-8")) or {}).get(variable)


@pytest.mark.parametrize("port", [port for port in LISTED if port.variable not in {"", *OF_ANSIBLE}], ids=lambda port: port.name)
def test_a_variable_is_one_that_a_role_takes(port: ports.Port) -> None:
    role = listening_role(port)
    options = yaml.safe_load((role / "meta" / "argument_specs.yml").read_text(encoding="utf-8"))["argument_specs"]["main"]["options"]
    assert options[port.variable]["type"] == "int"
    assert options[port.variable]["default"] == port.port
    assert defaults_of(role, port.variable) == port.port


@pytest.mark.parametrize("flow", FLOWS, ids=lambda flow: flow["name"])
def test_a_flow_leads_to_hosts_that_listen_there(flow) -> None:
    for name in flow.get("ports", ()):
        port = TABLE[name]
        assert port.bind != "loopback", f"{name} listens on loopback"
        # A provider's server is asked by the exporter of a monitoring host.
        assert {flow["to"], "all"} & set(port.groups) or flow["name"] == "metrics-provider"


def test_what_others_can_reach_is_in_a_flow() -> None:
    named = {name for flow in FLOWS for name in flow.get("ports", ())}
    assert {port.name for port in LISTED if port.bind != "loopback"} - named == set()


# What it becomes --------------------------------------------------------------------------------------------------------------


def test_numbers_are_what_the_user_set_for_the_host() -> None:
    found = numbers()
    assert [found.on(host, "postgresql") for host in ("db1", "app1")] == [5433, 5432]
    assert found.on("app1", "redis-bus") == 16379
    assert numbers(app1={"redis_port": 7000}).on("app1", "redis-bus") == 17000
    assert found.all_on("app1", "redis") == [6379, 6380, 6381, 6382, 6383, 6384], "all six processes of the tier are on the one host"
    assert numbers(app1={"redis_masters": 1, "redis_replicas_per_master": 0}).all_on("app1", "redis-bus") == [16379]
    assert found.all_on("gw1", "ssh") == [22]
    assert numbers(gw1={"ansible_port": 2222}).all_on("gw1", "ssh") == [22, 2222], "it may be the port of a forwarder"


@pytest.mark.parametrize("value", [0, 65536, "", None, "5432x", -1, 5432.5, True, "5432 "])
def test_what_is_no_port(value) -> None:
    if value == "5432 ":
        assert ports.valid(value) == 5432
    else:
        assert ports.valid(value) is None
        with pytest.raises(ports.PortError, match=r"postgresql_port is .* on db1, which is not a port\. Use a number from 1 to 65535\."):
            numbers(db1={"postgresql_port": value}).on("db1", "postgresql")


def test_hosts_that_one_setting_leads_to_agree() -> None:
    assert port_of(["db1", "db2"], "postgresql", HOSTVARS) == 5433
    assert port_of([], "postgresql", HOSTVARS) == 5432
    assert port_of([], "redis-bus", HOSTVARS) == 16379
    message = r"^postgresql_port is 5433 on db1 and 5432 on mon1\. One setting leads to all of them: set it once for their group\.$"
    with pytest.raises(AnsibleFilterError, match=message):
        port_of(["db1", "mon1"], "postgresql", HOSTVARS)
    with pytest.raises(AnsibleFilterError, match="There is no port 'postgres': there are ssh, "):
        port_of([], "postgres", HOSTVARS)


def test_endpoints_have_each_host_s_own_port() -> None:
    assert endpoints(["mon1", "mon2"], "loki", HOSTVARS, "lan") == ["mon1.lan:3101", "mon2.lan:3100"]


def test_flows_open_what_listens_on_each_host() -> None:
    def opened(host: str, name: str) -> list[int]:
        return next(rule["ports"] for rule in firewall_rules([], host, INVENTORY, HOSTVARS, "startup") if rule["name"] == name)

    assert opened("db1", "postgresql") == [5433]
    assert opened("db1", "metrics-postgresql") == [8008, 9187]
    assert opened("db2", "metrics-postgresql") == [8008, 9188]
    assert (opened("mon1", "logs"), opened("mon2", "logs")) == ([3101], [3100])


def test_metrics_are_asked_where_each_host_has_them() -> None:
    jobs = {job["name"]: [target["address"] for target in job["targets"]] for job in scrape_jobs(INVENTORY, HOSTVARS, [])}
    assert jobs["postgres"] == ["db1.internal:9187", "db2.internal:9188"]
    assert jobs["loki"] == ["mon1.internal:3101", "mon2.internal:3100"]


# Nowhere else -----------------------------------------------------------------------------------------------------------------

# A port of the table in another place, and why it may stand there.
COPIES = {
    "roles/postgresql/files/restore_wal.py": "what pgBackRest itself takes where its file names none",
    "plugins/module_utils/etcd/members.py": "etcd's own ports, where a task names none",
    "plugins/plugin_utils/databases.py": "PostgreSQL's own port, for a provider's server",
    "roles/platform/meta/argument_specs.yml": "the same, in words",
    "roles/postgresql_managed/defaults/main.yml": "the same",
    "plugins/plugin_utils/redis_layout.py": "Redis' own port, for a provider's server",
    "roles/redis_managed/defaults/main.yml": "the same",
}
# Modules are usable without the platform: their options default to what the daemon itself has.
OF_MODULES = re.compile(r"plugins/(modules/\w+|module_utils/postgresql/\w+|module_utils/redis/\w+|doc_fragments/\w+)\.py")
# 80 and 443 cannot be moved; nginx, which listens there, says so itself. Numbers in texts about them do not matter.
NUMBER = re.compile(
    rf"(?<![\w.,]){'(?:' + '|'.join(str(ports.default(name)) for name, port in TABLE.items() if not port.root or port.port > 1024) + ')'}(?![\w.,]\d|\d)"
)
SOURCES = (
    *ROOT.glob("roles/*/defaults/main.yml"),
    *ROOT.glob("roles/*/meta/argument_specs.yml"),
    *ROOT.glob("roles/*/vars/*.yml"),
    *ROOT.glob("roles/*/tasks/*.yml"),
    *ROOT.glob("roles/*/handlers/*.yml"),
    *(path for path in ROOT.glob("roles/*/templates/**/*") if path.is_file()),
    *ROOT.glob("roles/*/files/*.py"),
    *ROOT.glob("playbooks/**/*.yml"),
    *ROOT.glob("plugins/**/*.py"),
)


def copies(path: Path) -> Iterator[str]:
    name = str(path.relative_to(ROOT))
    own = {port.variable: port.port for port in LISTED if port.variable}
    variable = ""
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if line.lstrip().startswith('"""'):
            continue  # an example
        code = re.sub(r"(^|\s)#.*|\{#.*?#\}", "", line)
        named = re.match(r"\s*(\w+):", code)
        if named and named[1] not in ("default", "type", "description"):
            variable = named[1]
        if NUMBER.search(code) and own.get(variable) != int(NUMBER.search(code)[0]):
            yield f"{name}:{number}: {line.strip()}"


def test_no_port_stands_a_second_time() -> None:
    found = [
        line
        for path in SOURCES
        if path.name != "flows.yml" and str(path.relative_to(ROOT)) not in COPIES and not OF_MODULES.fullmatch(str(path.relative_to(ROOT)))
        for line in copies(path)
    ]
    assert found == [], "take it from the table: the filters port_of and endpoints, or plugin_utils/ports.py"


@pytest.mark.parametrize("name", COPIES)
def test_a_copy_that_is_accounted_for_is_still_there(name: str) -> None:
    assert list(copies(ROOT / name)) != []
