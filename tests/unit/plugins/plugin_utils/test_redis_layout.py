# SPDX-License-Identifier: GPL-3.0-or-later
"""Which processes run where, who may use them, and what is wrong with a declaration."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from ansible_collections.uptier.platform.plugins.plugin_utils.application import completed
from ansible_collections.uptier.platform.plugins.plugin_utils.redis_layout import (
    LayoutError,
    endpoints,
    layout,
    problems,
    processes,
    rules,
    users,
)
from hypothesis import given
from hypothesis import strategies as st

HOSTS = [{"name": f"app{number}", "address": f"10.0.0.{number}", "zone": "abc"[number - 1]} for number in (1, 2, 3)]
GOOD: dict[str, Any] = {
    "members": HOSTS,
    "masters": 3,
    "replicas": 1,
    "host": "app1",
    "maxmemory_mb": 256,
    "accounts": [{"name": "sample", "password": "s" * 20}],
    "passwords": {"redis_admin_password": "a" * 20, "redis_replication_password": "r" * 20},
}


def test_growth_puts_two_processes_on_each_of_three_hosts() -> None:
    assert [(node["name"], node["port"], node["zone"]) for node in layout(HOSTS, 3, 1, 6379)] == [
        ("app1", 6379, "a"), ("app2", 6379, "b"), ("app3", 6379, "c"), ("app1", 6380, "a"), ("app2", 6380, "b"), ("app3", 6380, "c"),
    ]  # fmt: skip


def test_startup_is_one_process() -> None:
    assert [(node["name"], node["port"]) for node in layout(HOSTS[:1], 1, 0, 7000)] == [("app1", 7000)]
    assert layout([], 1, 0, 6379) == []


@given(st.integers(1, 20), st.integers(1, 8), st.integers(0, 3))
def test_processes_are_dealt_out_evenly(hosts: int, masters: int, replicas: int) -> None:
    members = [{"name": f"h{number}", "address": f"10.0.0.{number}"} for number in range(hosts)]
    nodes = layout(members, masters, replicas, 6379)
    counts = Counter(node["name"] for node in nodes)
    assert len({(node["name"], node["port"]) for node in nodes}) == masters * (1 + replicas)
    names = [member["name"] for member in members]
    assert {name: processes(names, name, masters, replicas) for name in names} == {name: counts.get(name, 0) for name in names}
    assert max(counts.values()) - min(counts.get(member["name"], 0) for member in members) <= 1


def test_applications_get_numbered_names() -> None:
    assert endpoints(HOSTS, 6379) == "redis-1.internal:6379,redis-2.internal:6379,redis-3.internal:6379"
    assert endpoints(HOSTS[:1], 7000, "lan") == "redis-1.lan:7000"


def test_only_applications_with_a_cache_get_a_user() -> None:
    applications = completed([{"name": "sample", "cache": True}, {"name": "plain"}, {"name": "off", "cache": False}])
    assert users(applications, {"sample": "secret"}) == [
        {"name": "sample", "password": "secret", "keys": ["sample:*"], "channels": ["sample:*"]}
    ]
    with pytest.raises(LayoutError, match="no password for it. Add sample"):
        users(applications, {})


def test_rules_hold_a_digest_and_never_the_password() -> None:
    text = rules({"password": "secret", "keys": ["a:*", "b"], "channels": ["a:*"]}, ["+@all", "-@dangerous"])
    assert text == ("on sanitize-payload #2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b ~a:* ~b &a:* +@all -@dangerous")
    assert rules({"password": "secret", "commands": ["+get"]}, ["+@all"]).endswith(" +get")


def test_a_good_declaration_has_no_problem() -> None:
    assert problems(**GOOD) == []
    assert problems(**{**GOOD, "members": HOSTS[:1], "masters": 1, "replicas": 0}) == []


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"masters": 2}, "redis_masters is 2"),
        ({"masters": 1}, "1 with replicas"),
        ({"replicas": 0}, "redis_replicas_per_master is 0 with 3 masters"),
        ({"members": HOSTS[:2]}, "2 hosts in the group for 3 masters"),
        ({"replicas": 3}, "at least 4 are needed"),
        ({"masters": 1, "replicas": 0}, "app2, app3 would run none"),
        ({"host": "db1"}, "does not name this host (db1)"),
        ({"maxmemory_mb": 12}, "redis_maxmemory_mb is 12"),
        ({"accounts": [{"name": "admin", "password": "x" * 20}]}, "admin is reserved"),
        ({"accounts": [{"name": "a", "password": "x" * 20}, {"name": "a", "password": "y" * 20}]}, "a is used twice"),
        ({"accounts": [{"name": "A b", "password": "x" * 20}]}, "'A b' is no user name"),
        ({"accounts": [{"name": "a", "password": "short"}]}, "redis_users[a].password has 5 characters"),
        ({"passwords": {"redis_admin_password": "ä" * 20}}, "printable ASCII"),
        ({"passwords": {"redis_admin_password": "s" * 20}}, "are equal"),
    ],
)
def test_every_problem_names_value_and_fix(change: dict[str, Any], told: str) -> None:
    found = problems(**{**GOOD, **change})
    assert any(told in text for text in found), found
    assert not any("s" * 20 in text or "x" * 20 in text for text in found)
