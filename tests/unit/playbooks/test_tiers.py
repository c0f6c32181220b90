# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The playbooks of the tiers, as Ansible loads them: one set of layers, and each tier's numbers in all of them."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible.parsing.dataloader import DataLoader
from ansible.playbook import Playbook
from ansible.template import Templar, trust_as_template
from ansible.vars.manager import VariableManager

ROOT = Path(__file__).resolve().parents[3]
TIERS = list(yaml.safe_load((ROOT / "roles/platform/vars/tiers.yml").read_text(encoding="utf-8"))["platform_tiers"])
HAVE_HOSTS = yaml.safe_load((ROOT / "playbooks" / "tasks" / "have_hosts.yml").read_text(encoding="utf-8"))[0]["ansible.builtin.assert"]
LAYERS = ["preflight", "foundation", "state", "application", "edge", "observability"]


@functools.cache
def plays(name: str) -> list[Any]:
    loader = DataLoader()
    return Playbook.load(
        str(ROOT / "playbooks" / f"{name}.yml"), variable_manager=VariableManager(loader=loader), loader=loader
    ).get_plays()


def layer(play: Any) -> str:
    return Path(play.get_path().rpartition(":")[0]).stem


@pytest.mark.parametrize("tier", TIERS)
def test_a_tier_is_all_layers_with_its_numbers(tier: str) -> None:
    found = plays(tier)
    assert list(dict.fromkeys(layer(play) for play in found)) == LAYERS
    assert {play.vars["platform_tier"] for play in found} == {tier}
    assert [play.name for play in found if layer(play) not in play.tags] == [], "not reached by --tags of its layer"


def test_every_layer_is_in_the_platform() -> None:
    """own_*.yml stand among the layers for the operations' sake; they change nothing."""
    files = {path.stem for path in (ROOT / "playbooks" / "layers").glob("*.yml")}
    assert files - {"own_applications", "own_postgresql", "own_redis"} == set(LAYERS)


def test_the_layers_name_no_tier() -> None:
    """Run by itself, platform.yml has none, and preflight refuses that."""
    assert [play.name for play in plays("platform") if "platform_tier" in play.vars] == []


@pytest.mark.parametrize("tier", TIERS)
def test_a_tier_says_how_it_is_run(tier: str) -> None:
    head = (ROOT / "playbooks" / f"{tier}.yml").read_text(encoding="utf-8").split("- name:")[0]
    assert f"ansible-playbook playbooks/{tier}.yml -i inventories/prod" in head
    assert f"--tags {LAYERS[0]},{LAYERS[1]} ({', '.join(LAYERS[2:-1])}, {LAYERS[-1]} alike)" in head


@pytest.mark.parametrize("path", sorted((ROOT / "playbooks").glob("*.yml")), ids=lambda path: path.stem)
def test_an_inventory_without_hosts_is_refused(path: Path) -> None:
    """A wrong path behind -i is only a warning to Ansible, and a play without hosts ends green."""
    first = plays(path.stem)[0]
    seen = [
        Templar(loader=DataLoader(), variables={"groups": {"all": hosts}}).template(trust_as_template(first.hosts))
        for hosts in ([], ["db1"])
    ]
    assert seen == ["localhost", "all"]
    # Who says it: preflight, among all problems, or the one file of all others.
    assert layer(first) == "preflight" or "tasks/have_hosts.yml" in Path(first.get_path().rpartition(":")[0]).read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("groups", "group", "ending"),
    [
        ({"all": []}, "all", ". Correct the path behind -i; a warning of Ansible above says what could not be read."),
        ({"all": []}, "redis", ". Correct the path behind -i; a warning of Ansible above says what could not be read."),
        ({"all": ["a"]}, "redis", " in the group redis, where this would act. Add them, or correct the path behind -i."),
        ({"all": ["a"], "redis": ["a"]}, "redis", None),
    ],
)
def test_what_is_said_without_hosts(groups: dict[str, list[str]], group: str, ending: str | None) -> None:
    task = yaml.safe_load((ROOT / "playbooks" / "tasks" / "have_hosts.yml").read_text(encoding="utf-8"))[0]
    known = {name: trust_as_template(text) for name, text in task["vars"].items()}
    templar = Templar(
        loader=DataLoader(), variables={**known, "groups": groups, "have_hosts_group": group, "ansible_inventory_sources": ["x"]}
    )
    assert templar.evaluate_conditional(trust_as_template(HAVE_HOSTS["that"])) is (ending is None)
    if ending:
        assert templar.template(trust_as_template(HAVE_HOSTS["fail_msg"])) == f"The inventory x has no hosts{ending}"
