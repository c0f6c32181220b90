# SPDX-License-Identifier: GPL-3.0-or-later
"""Names in certificates and in /etc/hosts."""

from __future__ import annotations

from ansible_collections.uptier.platform.plugins.plugin_utils.names import certificate_names, hosts_entries

GROUPS = {
    "all": ["app1", "db1", "db2"],
    "app": ["app1"],
    "redis": ["db2", "app1"],
    "postgresql": ["db1", "db2"],
    "debian12": ["db1"],
}
HOSTVARS = {"app1": {"ansible_host": "10.0.0.11"}, "db1": {"ansible_host": "10.0.0.21"}, "db2": {"platform_address": "10.0.0.22"}}


def test_certificate_of_a_database_host():
    assert certificate_names("db1", "10.0.0.21", GROUPS, "internal") == [
        "db1.internal",
        "db1",
        "postgresql.internal",
        "postgres-cluster.internal",
        "localhost",
        "10.0.0.21",
        "127.0.0.1",
    ]


def test_certificate_of_a_redis_host_carries_its_number():
    names = certificate_names("app1", "10.0.0.11", GROUPS, "corp.example")
    assert names == [
        "app1.corp.example",
        "app1",
        "app.corp.example",
        "redis.corp.example",
        "redis-2.corp.example",
        "localhost",
        "10.0.0.11",
        "127.0.0.1",
    ]


def test_groups_of_the_user_are_no_names():
    assert "debian12.internal" not in certificate_names("db1", "10.0.0.21", GROUPS, "internal")


def test_a_host_without_groups():
    assert certificate_names("x", "127.0.0.1", {"all": ["x"]}, "internal") == ["x.internal", "x", "localhost", "127.0.0.1"]


def test_application_hosts_reach_the_cluster_through_their_router():
    assert hosts_entries("app1", HOSTVARS, GROUPS, "internal") == [
        {"address": "10.0.0.11", "names": ["app1.internal", "app1", "redis-2.internal"]},
        {"address": "10.0.0.21", "names": ["db1.internal", "db1"]},
        {"address": "10.0.0.22", "names": ["db2.internal", "db2", "redis-1.internal"]},
        {"address": "127.0.0.1", "names": ["postgres-cluster.internal"]},
    ]


def test_other_hosts_reach_all_members():
    assert hosts_entries("db1", HOSTVARS, GROUPS, "internal")[3:] == [
        {"address": "10.0.0.21", "names": ["postgres-cluster.internal"]},
        {"address": "10.0.0.22", "names": ["postgres-cluster.internal"]},
    ]


def test_without_databases_there_is_no_cluster_name():
    assert len(hosts_entries("app1", HOSTVARS, {"all": ["app1"]}, "internal")) == 1
