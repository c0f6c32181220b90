# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The plan of plugins/modules/etcd_member.py: when a host joins, when a cluster is formed."""

from __future__ import annotations

import pytest
from ansible_collections.uptier.platform.plugins.module_utils.etcd.members import EtcdError, environment, plan

MEMBERS = [{"name": f"app{number}", "address": f"10.0.0.{number}"} for number in (1, 2, 3)]


def entry(number: int, name: str | None = None) -> dict[str, object]:
    return {"ID": str(100 + number), "name": f"app{number}" if name is None else name, "peerURLs": [f"https://10.0.0.{number}:2380"]}


def test_a_host_with_data_is_left_alone() -> None:
    assert plan("app1", MEMBERS, True, None).action == "keep"


def test_where_nobody_answers_the_cluster_is_to_be_formed() -> None:
    assert plan("app1", MEMBERS, False, None).action == "form"


def test_a_new_host_is_added_with_the_members_that_run() -> None:
    planned = plan("app2", MEMBERS, False, [entry(1)])
    assert (planned.action, planned.remove, planned.add) == ("join", [], True)
    assert planned.initial_cluster == "app1=https://10.0.0.1:2380,app2=https://10.0.0.2:2380"


def test_an_announced_host_is_not_added_twice() -> None:
    planned = plan("app2", MEMBERS, False, [entry(1), entry(2, "")])
    assert (planned.action, planned.add) == ("join", False)


def test_a_host_that_lost_its_data_is_removed_and_added() -> None:
    planned = plan("app2", MEMBERS, False, [entry(1), entry(2), entry(3)])
    assert (planned.action, planned.remove, planned.add) == ("replace", ["102"], True)
    assert planned.initial_cluster.count("app2=") == 1


def test_a_host_with_a_new_address_replaces_its_old_entry() -> None:
    moved = {"ID": "102", "name": "app2", "peerURLs": ["https://10.0.0.99:2380"]}
    planned = plan("app2", MEMBERS, False, [entry(1), moved])
    assert planned.remove == ["102"]
    assert "10.0.0.99" not in planned.initial_cluster


def test_another_announced_member_gets_its_name_from_the_inventory() -> None:
    assert "app3=https://10.0.0.3:2380" in plan("app2", MEMBERS, False, [entry(1), entry(3, "")]).initial_cluster


def test_a_host_outside_the_members_is_refused_with_their_names() -> None:
    with pytest.raises(EtcdError, match="app1, app2, app3") as caught:
        plan("db1", MEMBERS, False, None)
    assert caught.value.reason == "not_a_member"


def test_the_environment_says_that_the_cluster_exists() -> None:
    assert environment(plan("app2", MEMBERS, False, [entry(1)])).startswith("ETCD_INITIAL_CLUSTER_STATE=existing\n")
