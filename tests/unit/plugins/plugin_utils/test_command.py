# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""On which host a command runs, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.uptier.platform.plugins.filter import application as filters
from ansible_collections.uptier.platform.plugins.module_utils.application.release import Seen
from ansible_collections.uptier.platform.plugins.plugin_utils import application as model
from ansible_collections.uptier.platform.plugins.plugin_utils import command as module
from ansible_collections.uptier.platform.plugins.plugin_utils.deploy import Host
from hypothesis import given
from hypothesis import strategies as st

WEB = {"name": "web", "command": "run", "port": 3000, "health": "/up"}
WORKER = {"name": "worker", "kind": "worker", "command": "work"}
GIVEN = [{"name": "shop", "version": "1", "release": "shop-1.tar", "services": [WEB, WORKER]}, {"name": "db"}]
APPLICATIONS = model.completed(GIVEN)
HOSTS = ("app1", "app2", "app3")


def host(name: str, web: bool = True, worker: bool = True, current: str = "1") -> Host:
    return Host(name, current, seen={"shop-web": {3000: Seen(web, True, "1")}, "shop-worker": {1: Seen(worker, True, "1")}})


def fleet(*hosts: Host) -> dict[str, Host]:
    return {one.name: one for one in hosts}


def choose(hosts: dict[str, Host], **more: Any) -> module.Choice:
    return module.choose(module.Request(**{"application": "shop", "command": "node clear.js", "hosts": HOSTS, **more}), APPLICATIONS, hosts)


ALL = fleet(*map(host, HOSTS))


def test_it_runs_on_the_first_host_as_the_first_service() -> None:
    assert choose(ALL) == module.Choice("app1", "shop-web", "1")


def test_a_host_that_is_named_need_not_run_the_service() -> None:
    assert choose(fleet(host("app1"), host("app2", web=False)), host="app2").host == "app2"


@given(st.lists(st.sampled_from(["gone", "bare", "stopped", "runs"]), min_size=3, max_size=3))
def test_it_runs_where_the_service_does(states: list[str]) -> None:
    made = {
        "bare": lambda name: host(name, current="", worker=False),
        "stopped": lambda name: host(name, worker=False),
        "runs": host,
    }
    seen = fleet(*(made[state](name) for name, state in zip(HOSTS, states, strict=True) if state != "gone"))
    found = choose(seen, service="worker")
    if "runs" in states:
        assert found == module.Choice(HOSTS[states.index("runs")], "shop-worker", "1")
    else:
        assert (found.host, len(found.refusals)) == ("", 1)


@pytest.mark.parametrize(
    ("hosts", "more", "said"),
    [
        (ALL, {"application": "shpo"}, "There is no application shpo. Did you mean shop? Applications with a release: shop."),
        (ALL, {"application": ""}, "No application is named. Applications with a release: shop."),
        (ALL, {"application": "db"}, "db has no service that a command could run as. There are none."),
        (ALL, {"service": "wroker"}, "shop has no service wroker. Did you mean worker? There are web, worker."),
        (ALL, {"host": "app4"}, "app4 is no application host. Did you mean app3? There are app1, app2, app3."),
        (ALL, {"command": ""}, "No command is given. Say it as one value"),
        (ALL, {"command": "echo 'a"}, "The command has a quote that does not end (No closing quotation). Close it."),
        (ALL, {"command": "node", "cut": True}, "Only `node` of the command has arrived. Say it as one value: -e \"command='node"),
        (fleet(host("app2", current="")), {}, "No release of shop is on any host. app1, app3 did not answer. Run deploy.yml"),
        (fleet(host("app2", web=False)), {}, "No instance of shop-web runs on any host. app1, app3 did not answer. Name a host"),
        (fleet(host("app2"), host("app3", current="")), {"host": "app1"}, "app1 did not answer. shop is released on app2."),
        (fleet(host("app2"), host("app3", current="")), {"host": "app3"}, "No release of shop is on app3, but on app2."),
    ],
)
def test_what_is_refused(hosts: dict[str, Host], more: dict[str, Any], said: str) -> None:
    refusals = choose(hosts, **more).refusals
    assert len(refusals) == 1, refusals
    assert refusals[0].startswith(said)


def test_all_that_is_wrong_is_said_at_once() -> None:
    assert len(choose(ALL, service="no", host="no", command="").refusals) == 3


def test_the_filter_reads_what_the_hosts_have_told() -> None:
    told = {
        "current": "1", "previous": "", "origin": None, "releases": [], "migrated": [],
        "instances": {"shop-web": {"3000": {"active": True, "enabled": True, "release": "1"}}},
    }  # fmt: skip
    hostvars = {"app1": {"__app_seen": {"failure": {"reason": "unreachable"}}}, "app2": {"__app_seen": {"applications": {"shop": told}}}}
    request = {"application": "shop", "command": "node", "service": "", "host": "", "cut": False}
    found = filters.command_choice(GIVEN, request, hostvars, ["app1", "app2"])
    assert found == {"host": "app2", "unit": "shop-web", "release": "1", "refusals": []}
