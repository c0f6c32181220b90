# SPDX-License-Identifier: GPL-3.0-or-later
"""What the scripts of the test hosts read: apt sources, inventories, scenarios, the output of tests."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT / "scripts"))

import images  # noqa: E402 - the path has to be set first
import inventory  # noqa: E402
import lab  # noqa: E402
import run_tests  # noqa: E402
from support import Problem  # noqa: E402


def test_one_line_sources() -> None:
    text = "# deb http://no/debian x main\ndeb [arch=amd64 signed-by=/k] http://m/debian bookworm main contrib\ndeb-src http://m/debian bookworm main\n"
    assert list(images.parse_one_line(text)) == [images.Source("http://m/debian", "bookworm")]


def test_deb822_sources() -> None:
    text = (
        "Types: deb deb-src\n# old\nURIs: http://m/debian\nSuites: trixie\n trixie-updates\nComponents: main\n\n"
        "Enabled: no\nTypes: deb\nURIs: http://off/debian\nSuites: trixie\n\n"
        "Types: deb-src\nURIs: http://src/debian\nSuites: trixie\n"
    )
    assert list(images.parse_deb822(text)) == [
        images.Source("http://m/debian", "trixie"),
        images.Source("http://m/debian", "trixie-updates"),
    ]


def test_mirror_of_this_machine_serves_both_releases() -> None:
    sources = [images.Source("http://vendor/apt", "stable"), images.Source("http://m/debian/", "bookworm")]
    assert images.suites_for("trixie", sources) == [
        "deb http://m/debian trixie main",
        "deb http://m/debian trixie-updates main",
        "deb http://m/debian-security trixie-security main",
    ]


def test_security_mirror_is_taken_from_the_sources() -> None:
    sources = [images.Source("http://m/debian", "bookworm"), images.Source("http://s/debian-security", "bookworm-security")]
    assert images.suites_for("bookworm", sources)[-1] == "deb http://s/debian-security bookworm-security main"


def test_no_debian_mirror_is_said() -> None:
    with pytest.raises(Problem, match="name no Debian mirror"):
        images.suites_for("bookworm", [images.Source("http://other/ubuntu", "noble")])


def test_mirror_list(tmp_path: Path) -> None:
    listing = tmp_path / "debian.list"
    listing.write_text("# mirrors\nhttp://m/debian/ priority:1\n", encoding="utf-8")
    assert images.resolve(f"mirror+file:{listing}") == "http://m/debian"


@pytest.mark.parametrize("tier", ["growth", "startup"])
def test_demo_hosts(tier: str) -> None:
    hosts = lab.hosts_of_inventory(ROOT / "inventories" / "demo" / tier)
    numbers = [host.number for host in hosts]
    assert len(set(numbers)) == len(numbers)
    assert all(1 < number < 255 for number in numbers)


def test_demo_has_both_releases() -> None:
    assert {host.release for host in lab.hosts_of_inventory(ROOT / "inventories" / "demo" / "growth")} == {12, 13}


def test_what_ansible_reads_for_each_task_is_not_looked_up() -> None:
    for tier in ("growth", "startup"):
        text = (ROOT / "inventories" / "demo" / tier / "group_vars" / "all" / "lab.yml").read_text(encoding="utf-8")
        reached = {
            name: value
            for name, value in yaml.safe_load(text).items()
            if name.startswith(("lab_", "ansible_")) or name.endswith("_address")
        }
        assert {"lab_name", "lab_net", "ansible_host", "platform_address"} <= set(reached)
        assert {name: value for name, value in reached.items() if "lookup" in value} == {}


def test_a_test_says_its_own_lab_in_its_copy_of_the_inventory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(inventory, "CACHE", tmp_path)
    made = {"ansible_connection": "enter", "lab_name": "mol-x", "lab_net": "10.84.99", "platform_cpus": 1}
    (tmp_path / "labs" / "mol-x").mkdir(parents=True)
    (tmp_path / "labs" / "mol-x" / "inventory.yml").write_text(yaml.safe_dump({"all": {"vars": made}}), encoding="utf-8")
    copied = inventory.copy_for("mol-x", ROOT / "inventories" / "demo" / "growth")
    files = sorted((copied / "group_vars" / "all").glob("*.yml"))  # Ansible reads them in this order, the last one wins
    read = {name: value for path in files for name, value in yaml.safe_load(path.read_text(encoding="utf-8")).items()}
    assert {name: read[name] for name in made} == {**made, "platform_cpus": 2}


def test_a_host_without_release_is_named() -> None:
    with pytest.raises(Problem, match="host a: lab_release is None"):
        lab.Host.read("a", {}, 11)


def test_platforms_get_addresses_in_order(tmp_path: Path) -> None:
    path = tmp_path / "molecule.yml"
    path.write_text("platforms: [{name: a, lab_release: 12, groups: [x]}, {name: b, lab_release: 13, lab_number: 40}]", encoding="utf-8")
    assert [(host.name, host.number, host.groups) for host in lab.hosts_of_molecule(path)] == [("a", 11, ("x",)), ("b", 40, ())]


@pytest.mark.parametrize(
    ("text", "failed", "expected"),
    [
        ("no tests here", False, (1, 0)),
        ("no tests here", True, (0, 1)),
        ("==== 3 passed in 0.92s ====\n", False, (3, 0)),
        ("=== 1 failed, 2 passed, 1 error in 61.03s (0:01:01) ===\n", True, (2, 2)),
        ("==== 3 passed in 0.92s ====\nconverge failed\n", True, (3, 1)),
        ("2 passed in 0.10s\n", False, (2, 0)),
    ],
)
def test_counts(text: str, failed: bool, expected: tuple[int, int]) -> None:
    assert run_tests.count(text, failed) == expected


@pytest.mark.parametrize("reachable", [True, False])
def test_the_demo_does_without_a_vendor_who_does_not_answer(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, reachable: bool) -> None:
    asked = []

    def urlopen(url: str, **dummy: float) -> contextlib.nullcontext[None]:
        asked.append(url)
        if not reachable:
            raise OSError("Name or service not known")
        return contextlib.nullcontext()

    monkeypatch.setattr(inventory.urllib.request, "urlopen", urlopen)
    page = tmp_path / "group_vars" / "all" / "vendor.yml"
    page.parent.mkdir(parents=True)
    inventory.decide_vendor_software(tmp_path)
    assert yaml.safe_load(page.read_text(encoding="utf-8")) == {"platform_grafana_enabled": reachable, "platform_logs_enabled": reachable}
    assert asked == ["https://apt.grafana.com/gpg-full.key"]
