# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Mistakes that people make in an inventory, each with all that preflight says of it; and inventories without any.

The inventories are loaded by Ansible itself. Each mistake is made in a copy of inventories/prod.
"""

from __future__ import annotations

import json
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible.template import trust_as_template
from ansible_collections.uptier.platform.plugins.plugin_utils import layers, preflight, specification

sys.path.insert(0, str(Path(__file__).parent))
from inventories import context_of, problems_of

ROOT = Path(__file__).resolve().parents[4]
PROD = ROOT / "inventories" / "prod"
SAID = yaml.safe_load(Path(__file__).with_name("mistakes.yml").read_text(encoding="utf-8"))
Change = Callable[[dict[str, Any], dict[str, Any]], Any]


class Loader(yaml.SafeLoader):
    """As Ansible reads a page: a text tagged `!unsafe` is a text."""


Loader.add_constructor("!unsafe", Loader.construct_scalar)


def read(path: Path) -> dict[str, Any]:
    return yaml.load(path.read_text(encoding="utf-8"), Loader=Loader)


def write(path: Path, value: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(value if isinstance(value, str) else yaml.safe_dump(value, sort_keys=False, allow_unicode=True), encoding="utf-8")


def page(**values: Any) -> Change:
    return lambda hosts, page: page.update(values)


def without(name: str) -> Change:
    return lambda hosts, page: page.pop(name)


def app(**values: Any) -> Change:
    return lambda hosts, page: page["platform_applications"][0].update(values)


def web(**values: Any) -> Change:
    return lambda hosts, page: page["platform_applications"][0]["services"][0].update(values)


def host(name: str, **values: Any) -> Change:
    return lambda hosts, page: hosts["all"]["hosts"][name].update(values)


def members(group: str, *names: str) -> Change:
    return lambda hosts, page: hosts["all"]["children"].__setitem__(group, {"hosts": dict.fromkeys(names)})


def renamed(old: str, new: str) -> Change:
    def change(hosts: dict[str, Any], page: dict[str, Any]) -> None:
        for group in [hosts["all"], *hosts["all"]["children"].values()]:
            group["hosts"] = {new if name == old else name: value for name, value in group["hosts"].items()}

    return change


def all_of(*changes: Change) -> Change:
    return lambda hosts, page: [change(hosts, page) for change in changes]


CASES: dict[str, Change] = {
    "a variable with another prefix": page(platfrom_virtual_address="10.20.0.10/24"),
    "the only virtual address misspelt": all_of(without("platform_virtual_address"), page(platfrom_virtual_address="10.20.0.10/24")),
    "zones for zone": host("db1", zones="a"),
    "a connection variable misspelt": host("db1", ansible_hots="10.20.0.31"),
    "a virtual address without a prefix length": page(platform_virtual_address="10.20.0.10"),
    "no virtual address": without("platform_virtual_address"),
    "the virtual address of a host": page(platform_virtual_address="10.20.0.11/24"),
    "a virtual address of IPv6": page(platform_virtual_address="fd00::1/64"),
    "a virtual address that is a network": page(platform_virtual_address="10.20.0.0/24"),
    "another tier on the page": page(platform_tier="startup"),
    "instances: max": web(instances="max"),
    "instances: 2 (per host)": web(instances="2 (per host)"),
    "no instances": web(instances=0),
    "instances in quotes": web(instances="2"),
    "a share that is a text": page(redis_memory_share="0.7"),
    "a share in percent": page(app_memory_share="40%"),
    "a version without quotes": app(version=1.10),
    "cron for a calendar": page(pgbackrest_schedule={"full": "daily", "diff": "", "incr": "0 */6 * * *"}),
    "half a schedule": page(pgbackrest_schedule={"incr": "hourly"}),
    "no calendar": page(postgresql_check_schedule="every sunday"),
    "an index with an unknown key": page(
        postgresql_indexes=[{"database": "shop", "table": "orders", "name": "by_user", "column": ["user"]}]
    ),
    "partitions with an unknown key": page(
        postgresql_partitions=[{"database": "shop", "table": "events", "interval": "monthly", "retain": 3}]
    ),
    "an index in an unknown database": page(
        postgresql_indexes=[{"database": "shpo", "table": "orders", "name": "by_user", "columns": ["user"]}]
    ),
    "a cache that is not there": page(nginx_site_settings=[{"name": "shop", "locations": [{"path": "/api/", "cache_seconds": 5}]}]),
    "a user of the cache": page(redis_users=[{"name": "admin", "password": "short", "keys": ["*"]}]),
    "a router id of VRRP": page(keepalived_router_id=300),
    "no backups kept": page(pgbackrest_full_retention_days=0),
    "a pool of the administrator": page(pgbouncer_databases=[{"name": "shop", "database": "shop", "user": "platform_admin", "size": 1}]),
    "a domain with a scheme": app(domains=["https://shop.example.org"]),
    "a domain with umlauts": app(domains=["müller.example.org"]),
    "secrets of no application": page(app_secret_env={"shpo": {"KEY": "x"}}),
    "an unknown severity": page(
        alertmanager_channels=[{"name": "on-call", "kind": "webhook", "severities": ["error"], "url": "https://hooks.example.org"}]
    ),
    "a key of a channel misspelt": page(
        alertmanager_channels=[{"name": "on-call", "kind": "webhook", "severity": ["critical"], "url": "https://hooks.example.org"}]
    ),
    "a channel without what its kind needs": page(
        alertmanager_channels=[{"name": "team", "kind": "slack", "severities": ["critical"], "url": "hooks.example.org"}]
    ),
    "a secret of a channel that is not there": page(
        alertmanager_channels=[{"name": "duty", "kind": "pagerduty", "severities": ["critical"], "key": "{{ vault_duty_key }}"}]
    ),
    "email without a mail server": page(
        alertmanager_channels=[{"name": "team", "kind": "email", "severities": ["critical"], "to": "ops@example.org"}]
    ),
    "keys of a limit": page(nginx_rate_limits=[{"name": "general", "key": "ip", "per_minutes": 10, "burst": 1}]),
    "a site with an unknown limit": page(nginx_site_settings=[{"name": "shop", "rate_limits": ["generl"]}]),
    "an archive that is not there, and keys that nobody has": page(
        nginx_site_settings=[
            {
                "name": "shop",
                "archive": "nothing/site.tar",
                "static_paths": [],
                "auth_paths": [],
                "locations": [{"path": "/", "api_keys": "partner"}, {"path": "/files/", "static": True}],
            }
        ]
    ),
    "an origin with a path": page(nginx_site_settings=[{"name": "shop", "cors": {"origins": ["https://app.example.org/x"]}}]),
    "proxies only, and none": page(nginx_trusted_proxies_only=True),
    "settings for an unknown site": page(nginx_site_settings=[{"name": "shpo", "client_max_body_mb": 10}]),
    "a setting of a site misspelt": page(nginx_site_settings=[{"name": "shop", "read_timeuot": 10}]),
    "a site written by hand": page(
        nginx_extra_sites=[{"name": "Blog", "domains": ["shop.example.org", "https://x.org"], "upstream": "app1"}]
    ),
    "a health path without its slash": web(health="api/health"),
    "a path without its slash": web(path="api"),
    "a service name with a space": web(name="My Web"),
    "port 80": web(port=80),
    "port 70000": web(port=70000),
    "a port of the platform": web(port=8443),
    "backups on a database host": members("backup", "db1"),
    "two backup hosts": members("backup", "mon1", "gw1"),
    "numbers of hosts and of the group": all_of(renamed("app1", "redis-2"), renamed("app2", "redis-3"), renamed("app3", "redis-4")),
    "an underscore in a host name": renamed("db1", "db_1"),
    "capitals in a host name": renamed("db1", "DB1"),
    "a long host name": renamed("db1", "d" * 60),
    "an umlaut in a host name": renamed("db1", "größe"),
    "an address for a host name": renamed("db1", "10.20.0.31"),
    "a group's name for a host": renamed("db1", "postgresql"),
    "localhost": renamed("db1", "localhost"),
    "an IPv6 address": host("db1", platform_address="fd00::31"),
    "loopback": host("db1", platform_address="127.0.0.1"),
    "a flow from an unknown group": page(
        platform_flows_extra=[{"name": "x", "from": "bastion", "to": "app", "protocol": "tcp", "ports": [22], "why": "y"}]
    ),
    "a flow without ports": page(
        platform_flows_extra=[{"name": "x", "from": "app", "to": "app", "protocol": "tcp", "port": 22, "why": "y"}]
    ),
    "two masters": page(redis_masters=2),
    "more replicas than hosts": page(redis_masters=5, redis_replicas_per_master=3),
    "a time zone that is none": page(platform_timezone="Europe Berlin"),
    "timings of etcd": page(etcd_heartbeat_ms=300),
    "a truth value that is none": page(hardening_ssh_passwords="maybe"),
    "off without quotes": page(postgresql_watchdog=False),
    "a number with a comma": page(platform_expected_users="20,000"),
    "a text for a list": page(platform_admin_addresses="10.0.0.0/8"),
    "a line without a value": page(platform_domain=None),
    "a template of nothing": page(platform_timezone="{{ timezon }}"),
    "pools written by hand": page(pgbouncer_databases=[{"name": "shop", "database": "shop", "user": "other", "size": 0}]),
    "Let's Encrypt without consent": page(acme_provider="acme"),
    "an unknown provider": page(acme_provider="letsencrypt"),
    "provided without files": page(acme_provider="provided"),
    "a file that is not there": page(
        acme_provider="provided",
        acme_sites=[{"name": "shop", "domains": ["shop.example.org"], "certificate": "/nothing/shop.crt", "key": "/x"}],
    ),
    "a retention with a space": page(prometheus_retention="30 days"),
    "an application called postgres": app(name="postgres"),
    "an unknown kind": web(kind="job"),
    "a service that becomes a job as cron writes it": web(kind="cron", schedule="0 3 * * *"),
    "memory with a unit": page(platform_memory_mb="8G"),
    "a version of a package without quotes": page(loki_version=3.10),
    "an empty page": lambda hosts, page: page.clear(),
    "a network that is none": page(
        platform_admin_addresses=["office.example.org", "10.0.0.0/8"],
        postgresql_client_networks=["10.20.1.7", "all"],
    ),
    "a domain of the page with a scheme": page(
        platform_domain="https://shop.example.org", platform_grafana_domain="graphs.example.org:443"
    ),
    "too little memory for a node of Redis": page(redis_maxmemory_mb=1),
    "an index of nothing": page(postgresql_indexes=[{"database": "shop", "table": "orders", "name": "by_user"}]),
    "a mail server without a port": page(alertmanager_smtp_smarthost="mail.example.org"),
    "a name for an e-mail address": page(acme_provider="acme", acme_agree_to_terms=True, acme_email="ops"),
    "an address for a domain": all_of(app(domains=["203.0.113.7"]), page(acme_provider="acme", acme_agree_to_terms=True)),
    "a text with braces": page(platform_domain="shop{{example.org"),
    "a redis group of two": members("redis", "app1", "app2"),
}


def broken(folder: Path, change: Change) -> Path:
    hosts, values = read(PROD / "hosts.yml"), read(PROD / "group_vars" / "all" / "platform.yml")
    change(hosts, values)
    write(folder / "hosts.yml", hosts)
    write(folder / "group_vars" / "all" / "platform.yml", values)
    return folder


@pytest.mark.parametrize("mistake", CASES)
def test_a_mistake_is_said_once_and_whole(tmp_path: Path, mistake: str) -> None:
    """mistakes.yml has the messages; nothing is there for what is right."""
    assert problems_of([broken(tmp_path / "prod", CASES[mistake])], "growth") == SAID[mistake]


def test_every_mistake_has_its_messages() -> None:
    assert list(SAID) == list(CASES)


INVENTORIES = {
    "prod": ("growth", [PROD]),
    "staging": ("startup", [ROOT / "inventories" / "staging"]),
    "demo, startup": ("startup", [ROOT / "inventories" / "demo" / "startup"]),
    "demo, growth": ("growth", [ROOT / "inventories" / "demo" / "growth"]),
}


@pytest.mark.parametrize("name", INVENTORIES)
def test_our_own_inventories_are_right(name: str) -> None:
    tier, sources = INVENTORIES[name]
    context = context_of(sources, tier)
    assert [str(problem) for problem in preflight.problems_of(context)] == []
    assert preflight.notices_of(context) == []


def test_the_inventory_of_the_growth_scenario_is_right(tmp_path: Path) -> None:
    """As scripts/inventory.py lays it over the demo's."""
    for source in (ROOT / "inventories" / "demo" / "growth", ROOT / "molecule" / "tier_growth" / "inventory"):
        shutil.copytree(source, tmp_path, dirs_exist_ok=True)
    context = context_of([tmp_path], "growth")
    assert [str(problem) for problem in preflight.problems_of(context)] == []
    assert preflight.notices_of(context) == []


def test_variables_of_nobody_are_named_once_and_stop_nobody(tmp_path: Path) -> None:
    change = page(billing_host="10.20.0.90", billing_port=5000, billing_url="{{ billing_host }}:80")
    context = context_of([broken(tmp_path / "prod", change)], "growth")
    assert preflight.problems_of(context) == []
    assert preflight.notices_of(context) == [
        "Nothing reads these variables of the inventory: billing_port, billing_url. If that is meant so, name them (or a pattern such as "
        "shop_*) in platform_ignored_variables."
    ]
    ignored = all_of(change, page(platform_ignored_variables=["billing_*"]))
    assert preflight.notices_of(context_of([broken(tmp_path / "other", ignored)], "growth")) == []


def test_hosts_without_groups_are_the_only_problem(tmp_path: Path) -> None:
    """Also what Ansible leaves of a file in which a host's name is a number."""
    write(tmp_path / "hosts.yml", {"all": {"hosts": {"one": None, "two": None}}})
    (found,) = problems_of([tmp_path], "growth", {"ansible_inventory_sources": ["x"]})
    assert found.startswith("inventory x has hosts (one, two), and no groups. Put them into gateway, app, ")


@pytest.mark.parametrize("text", ["abc{{def0123456789", "abc{% def0123456789", "abc{#def0123456789"])
def test_a_secret_with_braces_is_not_missing_and_not_shown(text: str) -> None:
    assert problems_of([PROD], "growth", {"vault_haproxy_stats_password": trust_as_template(text)}) == [
        "secret vault_haproxy_stats_password is taken for a template, as it has {{, {% or {#, and is none. Correct it; where the text is meant "
        "as it is, say so: vault_haproxy_stats_password: !unsafe 'TEXT'."
    ]
    assert problems_of([PROD], "growth", {"vault_haproxy_stats_password": text}) == []


def test_an_inventory_without_hosts_is_the_only_problem(tmp_path: Path) -> None:
    missing = tmp_path / "prdo"
    assert problems_of([missing], "growth", {"ansible_inventory_sources": [str(missing)]}) == [
        f"inventory {missing} has no hosts. Correct the path behind -i; a warning of Ansible above says what could not be read. "
        "inventories/prod is the example to copy."
    ]


def test_two_inventories_would_have_two_authorities(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    broken(
        one,
        lambda hosts, page: [
            hosts["all"]["hosts"].pop("mon1"),
            hosts["all"]["children"].pop("monitoring"),
            hosts["all"]["children"].pop("backup"),
        ],
    )
    write(
        other / "hosts.yml",
        {"all": {"children": {group: {"hosts": {"mon1": {"ansible_host": "10.20.0.41"}}} for group in ("monitoring", "backup")}}},
    )
    assert problems_of([one, other], "growth") == [
        "hosts of several inventories have different authorities, so that they would not trust each other: "
        f"{one}/pki (gw1, gw2, app1, app2 and 3 more) and {other}/pki (mon1). Keep one platform in one inventory; or set "
        "pki_authority_directory and acme_authority_directory for all hosts to one absolute path."
    ]
    both = {"pki_authority_directory": "/srv/pki", "acme_authority_directory": "/srv/pki"}
    assert problems_of([one, other], "growth", both) == []


def test_a_directory_of_several_files_is_one_inventory_and_one_below_it_another(tmp_path: Path) -> None:
    """Given as a directory, or file by file."""
    top = broken(tmp_path / "top", lambda hosts, page: None)
    hosts = read(top / "hosts.yml")
    monitoring = {"all": {"hosts": {"mon1": hosts["all"]["hosts"].pop("mon1")}, "children": {}}}
    for group in ("monitoring", "backup"):
        monitoring["all"]["children"][group] = hosts["all"]["children"].pop(group)
    write(top / "hosts.yml", hosts)
    write(top / "monitoring.yml", monitoring)
    assert problems_of([top], "growth") == []
    assert problems_of([top / "hosts.yml", top / "monitoring.yml"], "growth") == []
    (top / "below").mkdir()
    (top / "monitoring.yml").rename(top / "below" / "monitoring.yml")
    (found,) = problems_of([top], "growth")
    assert "have different authorities, so that they would not trust each other" in found
    assert f"{top}/below/pki (mon1)" in found


def test_texts_of_the_command_line_are_what_they_stand_for(tmp_path: Path) -> None:
    """-e NAME=VALUE makes texts of all values, and an INI file of false and true."""
    texts = {"hardening_ssh_passwords": "false", "postgresql_ttl": "30", "redis_masters": "3", "platform_expected_users": "20000"}
    assert problems_of([PROD], "growth", texts) == []


READ = ["nginx_sites", "nginx_upstreams", "pgbouncer_databases", "alertmanager_channels", "redis_masters", "app_secret_env", "acme_sites"]


INI = """
[gateway]
gw1 ansible_host=10.9.0.1
gw2 ansible_host=10.9.0.2
[app]
app1 ansible_host=10.9.0.3
app2 ansible_host=10.9.0.4
app3 ansible_host=10.9.0.5
[postgresql]
db1 ansible_host=10.9.0.6 postgresql_synchronous=false
db2 ansible_host=10.9.0.7 postgresql_synchronous=false
[etcd:children]
app
[redis:children]
app
[monitoring]
mon1 ansible_host=10.9.0.8
[backup]
mon1
[all:vars]
platform_domain=shop.example.org
platform_virtual_address=10.9.0.100/24
platform_admin_addresses=["10.9.9.0/24"]
platform_expected_users=20000
hardening_ssh_passwords=false
redis_memory_share=0.2
"""


def test_an_inventory_of_ini_is_right(tmp_path: Path) -> None:
    write(tmp_path / "hosts", INI)
    assert problems_of([tmp_path / "hosts"], "growth") == []


@pytest.mark.parametrize("given", [0, "text", ["a"], {"a": 1}, None, True, 1.5])
def test_no_value_ends_the_check(given: Any) -> None:
    """Whatever stands there is a problem, or right: all variables of the page, and those that checks read, have it at once."""
    names = [*layers.defaults("platform"), *READ, *(f"{name}_memory_share" for name in preflight.SHARES)]
    found = problems_of([PROD], "growth", dict.fromkeys(set(names) - {"platform_tier"}, given))
    assert len(found) > 10


@pytest.mark.parametrize("path", sorted(ROOT.glob("molecule/**/*.yml")), ids=lambda path: str(path.relative_to(ROOT / "molecule")))
def test_variables_of_scenarios_are_as_specified(path: Path) -> None:
    """Where they are written out; what is a template, or refused by purpose in a side effect, is not known here."""
    if path.name in ("molecule.yml", "side_effect.yml"):
        return
    document = read(path)
    groups = [document] if isinstance(document, dict) else [play.get("vars") or {} for play in document]
    wrong = [
        str(problem)
        for variables in groups
        for name, value in variables.items()
        if name in layers.specifications() and "{{" not in json.dumps(value, default=str)
        for problem in specification.problems_of(name, layers.specifications()[name], value)
    ]
    assert wrong == []


@pytest.mark.parametrize(
    "path", sorted(ROOT.glob("docs/**/*.md")) + sorted(ROOT.glob("roles/*/README.md")), ids=lambda path: str(path.relative_to(ROOT))
)
def test_examples_in_documents_are_as_specified(path: Path) -> None:
    wrong = []
    for block in re.findall(r"^```yaml\n(.*?)^```", path.read_text(encoding="utf-8"), re.M | re.S):
        try:
            document = yaml.safe_load(block)
        except yaml.YAMLError:  # a part of a file
            continue
        for name, value in document.items() if isinstance(document, dict) else ():
            if name in layers.specifications() and value is not None and "{{" not in json.dumps(value, default=str):
                wrong += [str(problem) for problem in specification.problems_of(name, layers.specifications()[name], value)]
    assert wrong == []
