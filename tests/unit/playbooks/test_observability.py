# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A vendor whose repository does not answer costs nobody the rest of the layer: what its playbook says about order and failures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar, trust_as_template

ROOT = Path(__file__).resolve().parents[3]
PLAYS = yaml.safe_load((ROOT / "playbooks" / "layers" / "observability.yml").read_text(encoding="utf-8"))
VENDORS = yaml.safe_load((ROOT / "roles/platform/vars/vendors.yml").read_text(encoding="utf-8"))["platform_vendors"]
FROM_VENDORS = [package for vendor in VENDORS.values() for package in vendor["tested"]]


def roles() -> list[dict[str, Any]]:
    return [role for play in PLAYS for role in play.get("roles", [])]


def test_what_debian_has_comes_first() -> None:
    """A failure of any kind in a vendor's role then finds exporters, Alertmanager and Prometheus in place."""
    names = [role["role"].rpartition(".")[2] for role in roles()]
    assert set(names[-len(FROM_VENDORS) :]) == set(FROM_VENDORS)


def test_vendors_roles_leave_it_to_the_last_task() -> None:
    for role in roles():
        name = role["role"].rpartition(".")[2]
        assert (role.get("vars") == {f"{name}_unavailable": "later"}) == (name in FROM_VENDORS)


def test_the_last_task_speaks_for_all_of_them_once() -> None:
    last = PLAYS[-1]
    (task,) = last["tasks"]
    assert (task["run_once"], sorted(task["tags"])) == (True, sorted(FROM_VENDORS))
    assert set(last["hosts"].split(":")) >= {group for play in PLAYS for group in play["hosts"].split(":")}
    for name in FROM_VENDORS:
        assert f"'__{name}_install'" in task["vars"]["__platform_withheld"]


def test_each_vendors_role_installs_by_one_task_that_the_last_one_reads() -> None:
    for name in FROM_VENDORS:
        (task,) = yaml.safe_load((ROOT / "roles" / name / "tasks" / "install.yml").read_text(encoding="utf-8"))
        assert (task["uptier.platform.vendor_package"]["package"], task["register"]) == (name, f"__{name}_install")


@pytest.mark.parametrize(
    ("groups", "keeps", "stopped"),
    [([], ["metrics"], True), (["monitoring"], ["metrics"], False), ([], ["etcd"], False), ([], None, False)],
)
def test_monitoring_stops_on_a_host_that_has_left_it(groups: list[str], keeps: list[str] | None, stopped: bool) -> None:
    """And on no other one: `keeps` has metrics where the platform's own Prometheus was. It comes behind the new hosts' monitoring."""
    names = [play["name"] for play in PLAYS]
    place = names.index("Monitoring that has moved to other hosts")
    assert names.index("Monitoring") < place
    (task,) = PLAYS[place]["tasks"]
    found = {} if keeps is None else {"keeps": keeps}
    known = {"group_names": ["app", *groups], "__platform_probe": {"found": found}}
    templar = Templar(loader=DataLoader(), variables=known)
    assert all(templar.evaluate_conditional(trust_as_template(condition)) for condition in task["when"]) == stopped
    units = task["uptier.platform.systemd_units"]["units"]
    assert {unit["state"] for unit in units} == {"stopped"}
    assert {"prometheus.service", "prometheus-alertmanager.service"} < {unit["name"] for unit in units}
