# SPDX-License-Identifier: GPL-3.0-or-later
"""Every problem of an inventory, by the message that a user reads."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import yaml
from ansible_collections.uptier.platform.plugins.plugin_utils import ports
from ansible_collections.uptier.platform.plugins.plugin_utils import preflight as p

DATA = Path(__file__).resolve().parents[4] / "roles" / "platform" / "vars"
TIERS = yaml.safe_load((DATA / "tiers.yml").read_text(encoding="utf-8"))["platform_tiers"]
RELEASES = yaml.safe_load((DATA / "releases.yml").read_text(encoding="utf-8"))["platform_releases"]
APPLICATION = {
    "name": "shop",
    "database": True,
    "cache": True,
    "version": "1.0.0",
    "release": "build/shop.tar.gz",
    "services": [{"name": "web", "kind": "web", "command": "run", "port": 3000, "instances": 2, "health": "/api/health"}],
}
GROUPS = {
    "gateway": ["gw1", "gw2"],
    "app": ["app1", "app2", "app3"],
    "postgresql": ["db1", "db2"],
    "etcd": ["app1", "app2", "app3"],
    "redis": ["app1", "app2", "app3"],
    "monitoring": ["mon1"],
    "backup": ["mon1"],
}
HOSTS = ["gw1", "gw2", "app1", "app2", "app3", "db1", "db2", "mon1"]
RELEASE = {"db1": "12", "db2": "12", "mon1": "12", "gw1": "12"}
STRONG = "kJ8sLq2mZx7Rt4Vb9Wn3Hc6Yd1Pf5Gg0"


def context(**changes):
    """A growth platform with nothing wrong, and what a test changes in it."""
    page = {"platform_domain": "example.org", "platform_virtual_address": "10.0.0.100/24"}
    hostvars = {host: {"ansible_host": f"10.0.0.{number}", **page} for number, host in enumerate(HOSTS, 1)}
    given = {
        "tier": "growth",
        "tiers": TIERS,
        "releases": RELEASES,
        "groups": {"all": list(HOSTS), "ungrouped": [], **copy.deepcopy(GROUPS)},
        "hostvars": hostvars,
        "applications": [copy.deepcopy(APPLICATION)],
        "expected_users": 20000,
        "known_variables": frozenset(
            {"redis_memory_share", "platform_domain", "platform_virtual_address", "platform_address", "ansible_host"}
        ),
        "prefixes": ("redis_", "platform_"),
        "probes": {host: {"release": RELEASE.get(host, "13"), "problems": []} for host in HOSTS},
    }
    given.update(changes)
    return p.Context(**given)


def text(found):
    return p.message(p.problems_of(found))


def one(where_and_seen, fix):
    return f"1 problem has to be solved first. Nothing was changed on any host.\n  1. {where_and_seen}.\n     {fix}"


def test_nothing_is_wrong():
    assert p.problems_of(context()) == []


def test_unknown_group():
    found = context()
    found.groups["databases"] = ["db1"]
    assert text(found) == one(
        "group databases is unknown, its hosts (db1) get nothing from it",
        "The platform's groups are gateway, app, postgresql, etcd, redis, monitoring, backup; name a group of your own in platform_other_groups.",
    )


def test_misspelt_group():
    found = context()
    found.groups["postgressql"] = ["db1"]
    assert "     Did you mean postgresql? The platform's groups are" in text(found)


@pytest.mark.parametrize("field", ["other_groups", "structural_groups"])
def test_groups_of_the_user_are_accepted(field):
    found = context(**{field: frozenset({"berlin"})})
    found.groups.update(berlin=["db1"], zone_a=["db1"], region_eu=["db2"])
    assert p.problems_of(found) == []


def test_host_without_a_group():
    found = context()
    found.groups["ungrouped"] = ["mon1"]
    assert text(found) == one(
        "host mon1 is in no group, so nothing would run on it",
        "Put it into one of gateway, app, postgresql, etcd, redis, monitoring, backup, or take it out of the inventory.",
    )


def test_misspelt_variable():
    found = context()
    found.hostvars["app1"]["redis_memory_shar"] = 0.2
    assert text(found) == one(
        "variable redis_memory_shar is set for app1, and no role reads it",
        "Did you mean redis_memory_share? Correct the name, remove it, or name it in platform_ignored_variables.",
    )


def test_variable_misspelt_for_all_is_named_once():
    found = context()
    for host in HOSTS:
        found.hostvars[host]["platform_domian"] = "x"
    assert "variable platform_domian is set for all hosts, and no role reads it." in text(found)
    assert p.problems_of(context(hostvars=found.hostvars, ignored_variables=frozenset({"platform_domian"}))) == []


def test_unknown_tier():
    found = context(tier="grwoth")
    assert text(found) == one(
        "platform_tier is 'grwoth', which is not a tier", "Did you mean growth? Use one of startup, growth, enterprise."
    )


def test_no_tier():
    """platform.yml run by itself: roles would take the numbers of the smallest tier."""
    assert text(context(tier="", expected_users=None)) == one(
        "platform_tier is not set, so it is not known which numbers hold",
        "Run the playbook of a tier (playbooks/startup.yml, playbooks/growth.yml, playbooks/enterprise.yml), or set it.",
    )


def test_minimum_of_the_tier():
    found = context()
    found.groups["gateway"].remove("gw2")
    assert text(found) == one(
        "group gateway has 1 host, the tier growth needs at least 2",
        "Add hosts to the group, or run the playbook of a smaller tier.",
    )


def test_a_minimum_is_lowered_with_a_reason():
    found = context()
    found.groups["gateway"].remove("gw2")
    found.minima = [{"group": "gateway", "hosts": 1, "reason": "the provider's balancer is in front"}]
    assert "group gateway" not in text(found)
    assert p.notices_of(found) == [
        "Group gateway: 1 hosts are enough, in place of the 2 of the tier growth: the provider's balancer is in front"
    ]
    found.minima = [{"group": "gateway", "hosts": 1, "reason": " "}]
    assert "variable platform_minima, group gateway has no reason" in text(found)
    assert "group gateway has 1 host, the tier growth needs at least 2" in text(found)
    found.minima = [{"group": "gateway", "hosts": 0, "reason": "none"}]
    assert "group gateway is 0 hosts, and the platform cannot do without" in text(found)


def test_redis_may_be_left_out_with_a_reason():
    found = context()
    found.groups["redis"] = []
    assert "group redis has 0 hosts, the tier growth needs at least 3" in text(found)
    found.minima = [{"group": "redis", "hosts": 0, "reason": "sessions are in PostgreSQL"}]
    assert "group redis" not in text(found)


def test_maximum_of_the_tier():
    found = context(tier="startup", expected_users=None)
    assert (
        "group app has 3 hosts, the tier startup is made for at most 2.\n     Run the playbook of a larger tier, or take hosts out."
        in text(found)
    )


def test_users_fit_another_tier():
    assert text(context(expected_users=60000)) == one(
        "platform_expected_users is 60,000, the tier growth is made for 1,000 to 50,000", "Run playbooks/enterprise.yml."
    )


def test_users_fit_no_tier():
    assert text(context(expected_users=-5)) == one(
        "platform_expected_users is -5, the tier growth is made for 1,000 to 50,000", "Correct the number."
    )


def test_even_number_of_etcd_members():
    found = context()
    found.groups["etcd"].append("gw2")
    assert text(found) == one(
        "group etcd has 4 members (app1, app2, app3, gw2), an even number, which survives no more failures than 3 would", "Make it 3 or 5."
    )


def test_one_address_twice():
    found = context()
    found.hostvars["db2"] = {"ansible_host": "10.0.0.6"}
    assert text(found) == one("hosts db1, db2 share one address, 10.0.0.6", "Give each its own platform_address (or ansible_host).")


def test_no_address():
    found = context()
    found.hostvars["db2"] = {"ansible_host": "db2.example.org"}
    assert text(found) == one("host db2 has no address", "Set platform_address (or ansible_host) to its internal IP address.")


def test_unusable_address():
    found = context()
    found.hostvars["db2"] = {"platform_address": "db2.example.org"}
    assert text(found) == one(
        "host db2 has no usable address: platform_address is 'db2.example.org', which is not an IP address",
        "Set platform_address (or ansible_host) to its internal IP address.",
    )


def test_memory_over_100_percent():
    found = context()
    found.hostvars["app1"]["redis_memory_share"] = 0.7
    assert text(found) == one(
        "host app1 allocates 110% of its memory (redis_memory_share 0.70, app_memory_share 0.40)",
        "Lower some of them in host_vars or group_vars, or move a component to another host.",
    )


def test_a_share_that_is_a_text_counts():
    found = context()
    found.hostvars["app1"]["redis_memory_share"] = "0.7"
    assert "host app1 allocates 110% of its memory (redis_memory_share 0.70, app_memory_share 0.40)." in text(found)


@pytest.mark.parametrize("value", ["a lot", "30%", 30, -0.1, True, [0.3]])
def test_a_share_that_is_none(value):
    found = context()
    for host in GROUPS["redis"]:
        found.hostvars[host]["redis_memory_share"] = value
    assert text(found) == one(
        f"variable redis_memory_share is {value!r} on app1, app2, app3, which is not a fraction of the memory",
        "Write a number from 0 to 1, for example 0.25.",
    )


def test_shares_of_every_tier_fit_one_host_where_the_tier_puts_them_together():
    everything = {group: ["one"] for group in p.KNOWN_GROUPS}
    found = context(
        tier="startup",
        expected_users=None,
        groups={"all": ["one"], "ungrouped": [], **everything},
        hostvars={"one": {"ansible_host": "10.0.0.1", "platform_domain": "example.org"}},
        probes={"one": {"release": "13", "problems": []}},
    )
    assert p.problems_of(found) == []


SECRET = {"name": "vault_redis_admin_password", "needed_by": "redis", "length": 32}


@pytest.mark.parametrize(
    ("value", "seen"),
    [
        ("changeme", "is a placeholder"),
        ("secure_password", "is a placeholder"),
        ("<your password here>", "is a placeholder"),
        ("xxxxxxxxxxxxxxxxxxxxxxxx", "is a placeholder"),
        ("k3J9", "has 4 characters, at least 16 are needed"),
    ],
)
def test_weak_secret(value, seen):
    found = context(secrets=[SECRET])
    found.hostvars["app1"]["vault_redis_admin_password"] = value
    assert text(found) == one(
        f"secret vault_redis_admin_password {seen}",
        "Remove it from the vault file and run playbooks/create_secrets.yml, which makes a strong one.",
    )
    assert value not in text(found)


def test_missing_secret():
    assert text(context(secrets=[SECRET])) == one(
        "secret vault_redis_admin_password is missing", "Run playbooks/create_secrets.yml, which makes what is missing."
    )


def test_misspelt_secret():
    found = context(secrets=[SECRET])
    found.hostvars["app1"]["vault_redis_admin_pasword"] = STRONG
    assert "vault_redis_admin_pasword is set: did you mean vault_redis_admin_password? Run playbooks" in text(found)


def test_missing_secrets_of_users_are_one_problem():
    declared = [{"name": "vault_postgresql_user_passwords", "needed_by": "postgresql", "length": 32, "per": "database_user"}]
    found = context(secrets=declared)
    found.hostvars["db1"]["vault_postgresql_user_passwords"] = {"shop": STRONG}
    assert text(found) == one(
        "secrets vault_postgresql_user_passwords.shop_owner, vault_postgresql_user_passwords.shop_ro are missing",
        "Run playbooks/create_secrets.yml, which makes what is missing.",
    )


def test_secret_of_a_component_that_is_not_there():
    assert p.problems_of(context(secrets=[{**SECRET, "needed_by": "nothing"}])) == []


def test_several_instances_without_a_health_path():
    found = context()
    service = found.applications[0]["services"][0]
    del service["health"]
    service["instances"] = 3
    assert text(found) == one(
        "platform_applications[0] shop, service web: health is missing, so nobody could tell which of its instances can serve, or a good "
        "release from a bad one",
        "Give the path that answers 200 when an instance can serve, for example health: /api/health.",
    )


def test_ports_used_by_two_services():
    found = context()
    found.applications[0]["services"].append({"name": "admin", "command": "run", "path": "/admin", "port": 3001, "health": "/"})
    assert text(found) == one(
        "platform_applications[0] shop, service admin: port is 3001, and its instances take 3001 to 3002, the last of them for the "
        "instance that starts with a release: 3001 belongs to shop, service web",
        "Give one of them another port.",
    )


def test_the_spare_port_of_a_web_service_is_taken():
    found = context()
    found.applications[0]["services"].append({"name": "events", "kind": "worker", "command": "run", "port": 3002, "instances": 1})
    assert "shop, service events: port is 3002, and its instances take 3002 to 3002: 3002 belongs to shop, service web." in text(found)
    found.applications[0]["services"][1]["port"] = 3003
    assert p.problems_of(found) == []


@pytest.mark.parametrize(
    ("port", "who", "host"),
    [
        (9100, "the host exporter", "app1"),
        (12345, "Alloy", "app1"),
        (6432, "PgBouncer", "app1"),
        (8404, "HAProxy's metrics", "app1"),
        (2380, "etcd's peers", "app1"),
        (6380, "Redis", "app1"),
        (16380, "Redis' cluster bus", "app1"),
        (19121, "the Redis exporter behind its TLS", "app1"),
        (8081, "nginx's status page", "gw1"),
        (9115, "the exporter that probes", "mon1"),
        (9096, "Loki's inner port", "mon1"),
        (8432, "pgBackRest", "db1"),
        (8432, "pgBackRest", "mon1"),
    ],
)
def test_port_used_by_a_component(port, who, host):
    found = context()
    found.groups["app"] = list(dict.fromkeys(["app1", "app2", "app3", host]))
    found.applications[0]["services"][0].update(port=port, instances=1)
    assert f"port {port} is wanted by {who} and by service shop.web on" in text(found)
    assert host in text(found)


def test_grafana_and_a_service_may_have_one_number():
    """One listens on the host's address, the other on loopback."""
    found = context()
    found.groups["app"].append("mon1")
    assert p.check_ports(found) == []
    found.hostvars["mon1"]["loki_port"] = 3000
    assert "port 3000 is wanted by Grafana and by Loki on mon1" in text(found)


def test_port_moved_by_a_variable_is_free():
    found = context()
    found.applications[0]["services"][0]["port"] = 6431
    assert "port 6432 is wanted by PgBouncer and by service shop.web" in text(found)
    for host in GROUPS["app"]:
        found.hostvars[host]["pgbouncer_listen_port"] = "6430"
    assert p.problems_of(found) == []


@pytest.mark.parametrize("name", [name for name, port in ports.table().items() if port.variable], ids=str)
def test_a_port_is_looked_for_where_the_user_put_it(name):
    port, found = ports.table()[name], context()
    host = found.groups[port.groups[0]][0]
    for other in found.groups[port.groups[0]]:
        found.hostvars[other][port.variable] = 30000
    seen = {one.port for one in p.listeners(found, host) if one.who == port.who}
    assert 30000 in seen
    assert port.keeps_default == (port.port in seen)


@pytest.mark.parametrize(
    ("value", "seen", "fix"),
    [
        (70000, "variable postgresql_port is 70000 on db1, db2, which is not a port", "Use a number from 1 to 65535."),
        (0, "variable postgresql_port is 0 on db1, db2, which is not a port", "Use a number from 1 to 65535."),
        ("5433x", "variable postgresql_port is '5433x' on db1, db2, which is not a port", "Use a number from 1 to 65535."),
        (True, "variable postgresql_port is True on db1, db2, which is not a port", "Use a number from 1 to 65535."),
        (None, "variable postgresql_port is None on db1, db2, which is not a port", "Use a number from 1 to 65535."),
        (
            543,
            "variable postgresql_port is 543 on db1, db2, and PostgreSQL does not run as root, which alone may use it",
            "Use 1024 to 65535.",
        ),
    ],
)
def test_a_variable_that_is_no_port(value, seen, fix):
    found = context()
    for host in GROUPS["postgresql"]:
        found.hostvars[host]["postgresql_port"] = value
    assert text(found) == one(seen, fix)


def test_the_cluster_bus_needs_a_port_too():
    found = context()
    for host in GROUPS["redis"]:
        found.hostvars[host]["redis_port"] = 60000
    seen = "is 60000 on app1, app2, app3, and Redis' cluster bus is 10000 above it"
    assert p.check_port_variables(found) == [p.Problem("variable redis_port", seen, "Use 1024 to 55525.")]


def test_members_that_one_setting_leads_to_have_one_port():
    found = context()
    found.hostvars["db2"]["postgresql_port"] = 5433
    assert text(found) == one(
        "variable postgresql_port is 5432 on db1 and 5433 on db2", "All hosts of postgresql have one; set it in group_vars."
    )
    found.hostvars["db2"]["postgresql_port"] = "5432"
    found.hostvars["db2"]["exporters_postgres_port"] = 9188
    assert p.problems_of(found) == []


def test_a_count_that_is_no_number_ends_no_check():
    found = context()
    found.applications[0]["services"][0].update(instances="2 (per host)", port="3000")
    assert p.check_ports(found) == []
    assert "shop, service web: instances is '2 (per host)', which is not a whole number." in text(found)


EXTRA = {"name": "reports", "from": "203.0.113.7", "to": "postgresql", "protocol": "tcp", "ports": [5432], "why": "reports"}
SOURCES = "any, all, admin, app, backup, etcd, gateway, monitoring, postgresql, redis, an address or a network"


@pytest.mark.parametrize(
    ("changes", "seen", "fix"),
    [
        ({"from": "aap"}, "goes from 'aap', which is not a group of the inventory", f"Use one of {SOURCES}."),
        ({"from": "203.0.113.700"}, "goes from '203.0.113.700', which is not a group of the inventory", f"Use one of {SOURCES}."),
        ({"to": "any"}, "goes to 'any', which is not a group of the inventory", "Use one of all, app, backup, etcd, gateway, monitoring, "),
        ({"to": "db1"}, "goes to 'db1', which is not a group of the inventory", "Use one of all, app, backup, etcd, gateway, monitoring, "),
        ({"from": "redis"}, "goes from redis, a group without hosts, so nothing would match it", "Put hosts into the group, or remove the flow."),
        ({"ports": []}, "has no ports", "Name at least one; a flow without any would open all of them."),
        ({"ports": [0, 70000]}, "has the port 0, 70000", "Use numbers from 1 to 65535."),
        ({"protocol": "icmp"}, "has ports, and icmp knows none", "Write ports: []."),
        ({"name": 'a" drop'}, "has the name 'a\" drop'", "Use letters, digits, spaces, dots, - and _, 64 at most."),
    ],
)  # fmt: skip
def test_a_flow_of_the_user_that_would_do_nothing(changes, seen, fix):
    found = context(extra_flows=[EXTRA | changes])
    if changes.get("from") == "redis":
        found.groups["redis"] = []
    assert [(problem.seen, problem.fix[: len(fix)]) for problem in p.check_flows(found)] == [(seen, fix)]
    assert p.check_flows(context(extra_flows=[EXTRA])) == []


@pytest.mark.parametrize(
    ("host", "release", "seen"),
    [
        (
            "db2",
            "13",
            "group postgresql mix releases (Debian 12 on db1, Debian 13 on db2); PostgreSQL 15 and 17 cannot replicate with each other",
        ),
        (
            "app2",
            "12",
            "group redis mix releases (Debian 12 on app2, Debian 13 on app1, app3); Redis 7.0 and 8.0 cannot replicate with each other",
        ),
        (
            "mon1",
            "13",
            "groups backup and postgresql mix releases (Debian 12 on db1, db2, Debian 13 on mon1); pgBackRest 2.45 and 2.55 refuse each other",
        ),
    ],
)
def test_members_of_one_store_on_two_releases(host, release, seen):
    found = context()
    found.probes[host]["release"] = release
    assert f"{seen}.\n     Put all of them on one Debian release." in text(found)


def test_all_problems_in_one_message():
    found = context(tier="growth", expected_users=60000)
    found.groups["gateway"].remove("gw2")
    found.probes["db1"]["problems"] = [{"seen": "does not answer", "fix": "Check it."}]
    assert text(found) == (
        "3 problems have to be solved first. Nothing was changed on any host.\n"
        "  1. host db1 does not answer.\n     Check it.\n"
        "  2. group gateway has 1 host, the tier growth needs at least 2.\n     Add hosts to the group, or run the playbook of a smaller tier.\n"
        "  3. platform_expected_users is 60,000, the tier growth is made for 1,000 to 50,000.\n     Run playbooks/enterprise.yml."
    )


GOOD = {"uid": "0", "os": "debian|13", "python": "3.13", "interpreter": "/usr/bin/python3", "become": False}


def test_a_good_host():
    assert p.judge_probe(GOOD, RELEASES) == {"release": "13", "python": "3.13", "unpacked": [], "login": {}, "problems": []}
    assert p.judge_probe({**GOOD, "uid": "1000", "become": True, "become_uid": "0"}, RELEASES)["problems"] == []


@pytest.mark.parametrize(
    ("changes", "seen", "fix"),
    [
        ({"os": "debian|11"}, "runs Debian 11", "Install Debian 12 or 13; nothing else is supported."),
        ({"os": "ubuntu|24.04"}, "runs ubuntu 24.04", "Install Debian 12 or 13; nothing else is supported."),
        ({"os": "|"}, "runs an unknown system", "Install Debian 12 or 13; nothing else is supported."),
        ({"python": ""}, "has no Python at /usr/bin/python3", "Install it: apt-get install python3."),
        ({"python": "3.9"}, "has Python 3.9 at /usr/bin/python3", "Set ansible_python_interpreter to a Python 3.11 or newer."),
        (
            {"uid": "1000"},
            "is reached as uid 1000, which is not root, and nothing says how to become root",
            "Set ansible_become: true in group_vars/all.",
        ),
        (
            {"uid": "1000", "become": True, "become_uid": "", "become_error": "sh: 1: sudo: not found\n"},
            "does not let the user become root (sh: 1: sudo: not found)",
            "Install sudo and permit the user all commands, or give the password (--ask-become-pass).",
        ),
        (
            {"error": "Failed to connect to the host via ssh: ssh: connect to host 10.0.0.9 port 22: Connection timed out"},
            "does not answer",
            "Check its address, that it runs, and that the network lets SSH through.",
        ),
        (
            {"error": "@@@ WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED! @@@ ... Host key verification failed."},
            "has a different host key than before",
            "Compare the key; remove the old one with ssh-keygen -R if the change was yours.",
        ),
        ({"error": "odd\n  thing"}, "cannot be reached (odd thing)", "Check ansible_host, ansible_user and ansible_connection."),
    ],
)
def test_a_host_that_cannot_be_used(changes, seen, fix):
    assert p.judge_probe({**GOOD, **changes}, RELEASES)["problems"] == [{"seen": seen, "fix": fix}]


# --- connections: processes -> pools -> server ---


def test_the_pools_of_all_hosts_are_more_than_the_server_accepts():
    found = context(prefixes=())
    for host in found.groups["postgresql"]:
        found.hostvars[host]["postgresql_max_connections"] = 130
    assert p.message(p.check_connections(found)[:1]) == one(
        "PostgreSQL on db1, db2 accepts 130 connections, but the pools of 3 application hosts may take 120 (app1 40, app2 40, app3 40) "
        "and 20 are reserved: 140",
        "Set postgresql_max_connections to 140 or more, or pgbouncer_connection_budget to 110 or less.",
    )
    assert len(p.check_connections(found)) == 1


@pytest.mark.parametrize(("maximum", "problems"), [(140, 0), (139, 1)])
def test_connections_at_the_limit(maximum, problems):
    found = context(prefixes=())
    found.hostvars["db2"]["postgresql_max_connections"] = maximum
    assert len(p.check_connections(found)) == problems


def test_pools_of_the_user_are_counted():
    found = context(prefixes=())
    found.hostvars["app2"]["pgbouncer_databases"] = [{"name": "shop", "size": 150}, {"name": "shop_ro", "size": 10}]
    seen = p.check_connections(found)[0].seen
    assert "may take 240 (app1 40, app2 160, app3 40) and 20 are reserved: 260" in seen


def test_processes_open_more_than_the_pools_accept():
    found = context()
    found.applications[0]["services"][0].update(instances=10, database_connections=200)
    assert text(found) == one(
        "the processes of shop may open 2200 connections to the pools of their host, which accept 2000",
        "Set pgbouncer_max_client_conn to 2200 or more, or lower instances or database_connections of the services.",
    )
    found.applications[0]["services"][0].update(instances=9)
    assert p.problems_of(found) == []


def test_a_budget_without_a_connection_for_each_pool():
    found = context(prefixes=())
    for host in found.groups["app"]:
        found.hostvars[host]["pgbouncer_connection_budget"] = 5
    assert text(found) == one(
        "variable pgbouncer_connection_budget: 5 connections are too few for 1 databases on 3 hosts, each with a read-write and a "
        "read-only pool: at least 6 are needed",
        "Raise pgbouncer_connection_budget.",
    )


@pytest.mark.parametrize("cache", [False, True])
def test_a_job_that_every_host_would_run_is_named(cache):
    found = context()
    found.applications[0]["cache"] = cache
    found.applications[0]["services"].append({"name": "nightly", "kind": "cron", "command": "x", "schedule": "daily"})
    assert [str(problem) for problem in p.check_jobs(found)] == (
        []
        if cache
        else [
            "job shop-nightly would be run by each of 3 application hosts: its application has no cache, where they agree on who runs it. "
            "Set cache: true for the application."
        ]
    )


def test_without_a_database_connections_do_not_matter():
    found = context(prefixes=())
    found.applications[0]["database"] = False
    found.hostvars["db1"]["postgresql_max_connections"] = 1
    assert p.check_connections(found) == []


# -- a provider's PostgreSQL -----------------------------------------------------------------------------------------

MANAGED = {"host": "db.provider.example", "admin_user": "admin"}


def provided(*, secret=STRONG, **changes):
    """The platform of `context` whose PostgreSQL is a provider's."""
    found = context(managed={**MANAGED, **changes})
    for group in ("postgresql", "etcd", "backup"):
        found.groups[group] = []
    found.groups["all"] = [host for host in HOSTS if host not in ("db1", "db2")]
    for host in HOSTS:
        found.hostvars[host]["vault_postgresql_managed_password"] = secret
    return found


def test_a_provider_spares_the_hosts_of_the_database():
    assert p.problems_of(provided()) == []
    assert "group postgresql has 0 hosts" in text(context(groups={**GROUPS, "postgresql": [], "all": HOSTS}))


@pytest.mark.parametrize(
    ("changes", "where_and_seen", "fix"),
    [
        (
            {"host": ""},
            "variable platform_managed_postgresql.host is not set",
            "Set it to the name of the provider's server, as in its certificate.",
        ),
        (
            {"admin_user": None},
            "variable platform_managed_postgresql.admin_user is not set",
            "Set it to the user with CREATEROLE and CREATEDB that the provider gave you.",
        ),
        (
            {"host": "postgresql://admin:s3cret@db.provider.example:5432/postgres"},
            "variable platform_managed_postgresql.host is a URL or a connection string, not the name of a host",
            "Give the name of the host alone; port, user and database have keys of their own, the password is in the vault file.",
        ),
        (
            {"port": 543200},
            "variable platform_managed_postgresql.port is 543200, which is not a port",
            "Correct it; 5432 is the usual one.",
        ),
        (
            {"admin_user": "shop_owner"},
            "variable platform_managed_postgresql.admin_user is shop_owner, which is the name of a user that the platform creates for itself",
            "Use another user as the administrator, or rename the application.",
        ),
        (
            {"secret": " "},
            "secret vault_postgresql_managed_password is missing, and cannot be generated",
            "Put the password of admin at the provider into the vault file (ansible-vault edit) under this name.",
        ),
        (
            {"ca": "provider.crt"},
            "variable platform_managed_postgresql.ca is provider.crt, which is not an absolute path",
            'Write it with its directory, for example "{{ inventory_dir }}/files/provider-ca.crt".',
        ),
        (
            {"ca": "/nowhere/ca.crt"},
            "variable platform_managed_postgresql.ca names /nowhere/ca.crt, which cannot be read on the controller",
            "Put the file there that the provider offers.",
        ),
    ],
)
def test_a_providers_server_that_is_described_badly(changes, where_and_seen, fix):
    assert text(provided(**changes)) == one(where_and_seen, fix)


def test_an_authority_that_is_none():
    found = provided(ca="/tmp/ca.crt")
    found.managed_ca = "<html>log in first</html>"
    assert "names /tmp/ca.crt, which contains no certificate in PEM format." in text(found)
    found.managed_ca = "-----BEGIN CERTIFICATE-----\n..."
    assert p.problems_of(found) == []


@pytest.mark.parametrize(
    ("group", "host", "words"),
    [
        ("postgresql", "gw1", "has a host (gw1) while platform_managed_postgresql is set, and a platform has one PostgreSQL only"),
        ("backup", "mon1", "has a host (mon1) while platform_managed_postgresql is set, and the provider makes its backups"),
    ],
)
def test_a_provider_and_hosts_of_ones_own(group, host, words):
    found = provided()
    found.groups[group] = [host]
    assert text(found) == one(f"group {group} {words}", "Take the hosts out of the group, or remove platform_managed_postgresql.")


def cached(*, secret=STRONG, **changes):
    """The platform of `context` whose Redis is a provider's."""
    found = context(managed_redis={"host": "cache.provider.example", **changes})
    found.groups["redis"] = []
    for host in HOSTS:
        found.hostvars[host]["vault_redis_managed_password"] = secret
    return found


def test_a_provider_spares_the_hosts_of_redis():
    assert p.problems_of(cached()) == []
    assert "group redis has 0 hosts" in text(context(groups={**GROUPS, "redis": [], "all": HOSTS}))


@pytest.mark.parametrize(
    ("changes", "where_and_seen", "fix"),
    [
        (
            {"host": ""},
            "variable platform_managed_redis.host is not set",
            "Set it to the name of the provider's server, as in its certificate.",
        ),
        (
            {"host": "rediss://default:s3cret@cache.provider.example:6379"},
            "variable platform_managed_redis.host is a URL or a connection string, not the name of a host",
            "Give the name of the host alone; port, user and database have keys of their own, the password is in the vault file.",
        ),
        ({"port": 0}, "variable platform_managed_redis.port is 0, which is not a port", "Correct it; 6379 is the usual one."),
        (
            {"ca": "/nowhere/ca.crt"},
            "variable platform_managed_redis.ca names /nowhere/ca.crt, which cannot be read on the controller",
            "Put the file there that the provider offers.",
        ),
        (
            {"secret": " "},
            "secret vault_redis_managed_password is missing, and cannot be generated",
            "Put the password at the provider into the vault file (ansible-vault edit) under this name.",
        ),
    ],
)
def test_a_providers_redis_that_is_described_badly(changes, where_and_seen, fix):
    assert text(cached(**changes)) == one(where_and_seen, fix)


@pytest.mark.parametrize("word", [False, "false", "no"])
def test_an_authority_that_nobody_would_ask(word):
    found = cached(ca="/tmp/ca.crt", tls=word)
    found.managed_redis_ca = "-----BEGIN CERTIFICATE-----\n..."
    assert text(found) == one(
        "variable platform_managed_redis.ca names an authority while tls is false, so that nothing would be verified",
        "Remove platform_managed_redis.ca, or let tls be true.",
    )


def test_a_providers_redis_and_hosts_of_ones_own():
    found = cached()
    found.groups["redis"] = ["mon1"]
    seen = "group redis has a host (mon1) while platform_managed_redis is set, and a platform has one Redis only"
    assert one(seen, "Take the hosts out of the group, or remove platform_managed_redis.") in text(found)


def test_users_of_a_providers_databases_need_their_passwords():
    found = provided()
    found.secrets = yaml.safe_load((DATA / "secrets.yml").read_text(encoding="utf-8"))["platform_secrets"]
    missing = text(found)
    assert "vault_postgresql_user_passwords.shop_owner" in missing
    assert "vault_postgresql_monitor_password" in missing
    assert "vault_postgresql_superuser_password" not in missing
    assert "did you mean" not in missing


def test_the_exporter_of_a_providers_server_has_its_port():
    found = provided()
    found.applications[0]["services"][0]["port"] = 9187
    found.groups["app"].append("mon1")
    assert "port 9187 is wanted by the PostgreSQL exporter and by service shop.web on mon1" in text(found)


def living(**changes):
    """A platform whose etcd and Redis live on the addresses and ports of the inventory."""
    found = context(**changes)
    for host in GROUPS["etcd"]:
        address = found.hostvars[host]["ansible_host"]
        found.probes[host]["found"] = {"lives": {"etcd_peer": f"{address}:2380", "etcd_client": f"{address}:2379", "redis": address}}
    return found


def test_a_living_member_keeps_its_address():
    found = living()
    assert p.check_moved(found) == []
    host = GROUPS["etcd"][0]
    former, found.hostvars[host]["ansible_host"] = found.hostvars[host]["ansible_host"], "10.0.0.77"
    (problem,) = p.check_moved(found)
    assert (problem.where, problem.fix.split(".  ")[0].startswith(f"Give it {former} again.")) == (f"host {host}", True)
    seen = f"has the address 10.0.0.77 in the inventory, and the others know its member of etcd and its nodes of Redis under {former}"
    assert problem.seen == seen
    found.hostvars[host].update(etcd_address=former, redis_address=former)
    assert p.check_moved(found) == [], "it was said where they are"


def test_what_lives_on_a_host_of_no_use_to_its_group_is_seen():
    found = context()
    for host in HOSTS:
        found.probes[host]["found"] = {"keeps": ["redis", "repository"] if host == "db1" else []}
    assert "group redis has no host on which Redis lives (app1, app2, app3), and it lives on db1" in text(found)
    assert any(line.startswith("Backups move from db1 to mon1") for line in p.notices_of(found))


@pytest.mark.parametrize(("name", "port"), [("etcd_peer_port", 2380), ("etcd_client_port", 2379)])
def test_a_living_etcd_keeps_its_ports(name, port):
    found = living()
    for host in HOSTS:
        found.hostvars[host][name] = "12380"
    (problem,) = p.check_moved(found)
    members = p.listed(GROUPS["etcd"])
    assert problem.where == f"variable {name}"
    assert problem.seen == f"is 12380, and the members of etcd on {members} are known to the others under {port}"
    assert problem.fix.startswith(f"Set it back to {port}: ")
    assert p.check_moved(context()) == [], "before there is a cluster any port will do"


def sized(memory, **variables):
    """A platform whose hosts have this memory in MiB, as the probe sees it."""
    found = context()
    for host in HOSTS:
        found.probes[host]["found"] = {"memory_mb": memory, "cpus": 2}
        found.hostvars[host].update(variables)
    return found


@pytest.mark.parametrize(
    ("memory", "variables", "said"),
    [
        (16384, {}, ""),
        # What the user says counts, whatever was seen.
        (100, {"platform_memory_mb": 16384}, ""),
        (
            16384,
            {"platform_memory_mb": "8000", "postgresql_memory_share": 0.01},
            "hosts db1, db2: 80 MiB are too little for PostgreSQL, which needs",
        ),
        (
            2048,
            {"postgresql_memory_mb": 16384, "postgresql_max_connections": 5000},
            "hosts db1, db2: 5000 connections do not fit into 16384 MiB",
        ),
        (
            2048,
            {"redis_maxmemory_mb": 16},
            "group redis: redis_maxmemory_mb is 16. At least 32 MiB for each process. Raise redis_memory_share.",
        ),
        (8192, {"redis_memory_share": 0.003}, "group redis: redis_maxmemory_mb is 12. At least 32 MiB for each process."),
        (8192, {"app_memory_share": "0.001"}, "hosts app1, app2, app3: 8 MiB (share 0.001 of 8192) leave 2 MiB for each of 3 processes"),
        (
            8192,
            {"app_memory_mb": 90, "app_memory_share": 0.1},
            "hosts app1, app2, app3: 9 MiB (share 0.1 of 90) leave 3 MiB for each of 3 processes",
        ),
    ],
)
def test_what_a_role_would_refuse_of_a_hosts_memory(memory, variables, said):
    found = sized(memory, **variables)
    problems = [str(problem) for problem in (*p.check_parts(found), *p.check_redis(found))]
    assert len(problems) == bool(said), problems
    assert said in "".join(problems)


def test_a_process_may_not_take_more_than_the_host_has():
    found = sized(8192)
    found.applications[0]["services"][0]["limits"] = {"memory_mb": 9000}
    assert "hosts app1, app2, app3: shop-web may take 9000 MiB in each process, more than the 8192 MiB of the host" in text(found)
    assert "Lower limits.memory_mb of the service, or leave it out." in text(found)
    found.applications[0]["services"][0]["limits"] = {"memory_mb": 8192}
    assert "in each process" not in "".join(map(str, p.problems_of(found)))


@pytest.mark.parametrize(("masters", "problems"), [(0, 0), (3, 0), (1, 0), (5, 1)])
def test_a_shape_that_the_running_cluster_cannot_take(masters, problems):
    """The tier declares three masters; a new host remembers none."""
    found = context()
    for host, count in zip(GROUPS["redis"], (0, masters, masters), strict=True):
        found.probes[host]["found"] = {"redis_masters": count}
    assert len(p.problems_of(found)) == problems
    if masters == 5:
        assert text(found) == one(
            "group redis carries a cluster of 5 masters, as app2 remembers it, and 3 are declared",
            "Run playbooks/scale_redis.yml -e redis_masters=3 first: it moves the slots of those that leave, for which this run would already "
            "close the firewall. Or set redis_masters: 5 (docs/how-to/scale-redis.md).",
        )
