# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Scrape jobs derived from the inventory."""

from __future__ import annotations

import pytest
from ansible_collections.uptier.platform.plugins.filter.observability import scrape_jobs
from ansible_collections.uptier.platform.plugins.plugin_utils import scrape
from ansible_collections.uptier.platform.plugins.plugin_utils.application import completed

GROUPS = {
    "all": ["gw1", "app1", "app2", "db1", "mon1"],
    "ungrouped": [],
    "gateway": ["gw1"],
    "app": ["app1", "app2"],
    "etcd": ["app1", "app2"],
    "redis": ["app1", "app2"],
    "postgresql": ["db1"],
    "monitoring": ["mon1"],
    "backup": ["mon1"],
}
HOSTVARS = {
    "gw1": {"ansible_host": "10.0.0.11", "zone": "a"},
    "app1": {"ansible_host": "10.0.0.21"},
    "app2": {"ansible_host": "10.0.0.22"},
    "db1": {"ansible_host": "10.0.0.31"},
    "mon1": {"ansible_host": "10.0.0.41"},
}
NODES = [{"name": name, "port": port} for name in ("app1", "app2") for port in (6379, 6380, 6381)]
APPLICATIONS = [
    {
        "name": "sample",
        "domains": ["demo.test"],
        "services": [
            {"name": "web", "kind": "web", "command": "run", "port": 3000, "instances": 2, "health": "/api/health", "metrics": "/metrics"},
            {"name": "worker", "kind": "worker", "command": "run", "instances": 1},
        ],
    }
]


@pytest.fixture
def jobs():
    return {job["name"]: job for job in scrape_jobs(GROUPS, HOSTVARS, APPLICATIONS, NODES, ["grafana", "loki"], "10.0.0.100/24")}


def addresses(job):
    return [target["address"] for target in job["targets"]]


def test_every_host_is_asked_and_carries_its_groups(jobs):
    assert len(jobs["node"]["targets"]) == 5
    first = jobs["node"]["targets"][0]
    assert first == {"address": "gw1.internal:9100", "labels": {"instance": "gw1", "groups": ",gateway,", "zone": "a"}}
    assert jobs["node"]["targets"][1]["labels"]["groups"] == ",app,etcd,redis,"


def test_components_are_asked_where_their_group_is(jobs):
    assert addresses(jobs["postgres"]) == ["db1.internal:9187"]
    assert addresses(jobs["patroni"]) == ["db1.internal:8008"]
    assert addresses(jobs["haproxy"]) == ["app1.internal:8404", "app2.internal:8404"]
    assert addresses(jobs["etcd"]) == ["app1.internal:2379", "app2.internal:2379"]
    assert "grafana" not in jobs
    assert "loki" not in jobs


def test_each_redis_instance_is_a_target(jobs):
    labels = [target["labels"] for target in jobs["redis"]["targets"]]
    assert len(labels) == 6
    assert labels[1] == {
        "instance": "app1",
        "port": "6380",
        "address": "10.0.0.21",
        "__metrics_path__": "/scrape",
        "__param_target": "rediss://app1.internal:6380",
    }


def test_application_instances_are_asked_through_the_router(jobs):
    targets = jobs["app"]["targets"]
    assert len(targets) == 4
    assert targets[1]["address"] == "app1.internal:8404"
    assert targets[1]["labels"] == {
        "instance": "app1",
        "application": "sample",
        "service": "sample-web",
        "index": "1",
        "__metrics_path__": "/metrics/sample-web/1",
    }


def test_the_service_is_probed_through_every_door(jobs):
    job = jobs["probe-service"]
    assert job["tls"] is False
    assert [target["labels"]["instance"] for target in job["targets"]] == ["gw1", "virtual-address"]
    assert job["targets"][1]["labels"]["__param_target"] == "https://10.0.0.100/api/health"
    assert job["targets"][1]["labels"]["__param_hostname"] == "demo.test"


def test_a_service_with_a_name_of_its_own_is_probed_under_it():
    admin = {"name": "admin", "domains": ["admin.test"], "health": "/ready"}
    applications = [{**APPLICATIONS[0], "services": [admin, *APPLICATIONS[0]["services"]]}]
    job = scrape.service_probes([{"name": "gw1", "address": "10.0.0.11"}], "", completed(applications), "127.0.0.1:9115")
    assert [(target["labels"]["vhost"], target["labels"]["__param_target"]) for target in job["targets"]] == [
        ("demo.test", "https://10.0.0.11/api/health"),
        ("admin.test", "https://10.0.0.11/ready"),
    ]


def test_targets_of_a_job_differ_in_their_labels(jobs):
    for job in jobs.values():
        shown = [tuple(sorted((k, v) for k, v in target["labels"].items() if not k.startswith("__"))) for target in job["targets"]]
        assert len(set(shown)) == len(shown), job["name"]


def test_one_host_alone_asks_only_itself():
    jobs = scrape_jobs({"all": ["one"]}, {"one": {"ansible_host": "10.0.0.1"}}, [])
    assert [job["name"] for job in jobs] == ["node"]


def test_rules_of_present_components_only(jobs):
    names = scrape.rule_sets(jobs.values(), GROUPS)
    assert {"meta", "hosts", "postgresql", "redis", "backup", "probes", "application"} <= set(names)
    assert "loki" not in names
    assert scrape.rule_sets([{"name": "node", "targets": [1]}], {}) == ["meta", "hosts", "security"]


def test_external_probes_carry_their_kind():
    job = scrape.external_probes([{"name": "payments", "url": "https://api.example.com/", "kind": "oauth"}], "127.0.0.1:9115")
    assert job["targets"][0]["labels"]["kind"] == "oauth"
    assert job["targets"][0]["labels"]["__param_module"] == "https_external"
