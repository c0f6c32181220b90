# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Debian releases stand in roles/platform/vars/releases.yml, and nowhere a second time."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from ansible.errors import AnsibleFilterError
from ansible_collections.uptier.platform.plugins.filter.topology import release_value

ROOT = Path(__file__).resolve().parents[3]
HOME = ROOT / "roles" / "platform" / "vars" / "releases.yml"
RELEASES = yaml.safe_load(HOME.read_text(encoding="utf-8"))["platform_releases"]
# Galaxy's metadata of a role is read by Galaxy, so it is literal; test_argument_specs.py compares it.
LITERAL = {*(ROOT / "roles").glob("*/meta/main.yml"), HOME}
NUMBERS = "|".join(RELEASES)
COPIES = re.compile(
    rf"\b({'|'.join(carried['codename'] for carried in RELEASES.values())})\b"  # a codename
    rf"|['\"]({NUMBERS})['\"]\s*:"  # a table by release
    rf"|\((?:{NUMBERS}), (?:{NUMBERS})\)"  # a list of them
    rf"|(?:version|release)\w*'?\]? *(?:is version\(|==|!=|>=|<=|<|>) *['\"]({NUMBERS})['\"]"  # a comparison
)


def code() -> Iterator[Path]:
    for folder, patterns in {"roles": ["*.yml", "*.j2", "*.py"], "playbooks": ["*.yml"], "plugins": ["*.py"], "scripts": ["*.py"]}.items():
        for pattern in patterns:
            yield from sorted((ROOT / folder).rglob(pattern))
    yield from sorted((ROOT / "molecule" / "shared").rglob("*.yml"))
    yield from sorted((ROOT / "tests" / "harness").rglob("*.py"))


def copies(text: str) -> list[str]:
    """Return the lines that are no comment and say for themselves which release there is or what it carries."""
    return [line.strip() for line in text.splitlines() if not line.lstrip().startswith("#") and COPIES.search(line)]


def test_there_is_no_second_copy() -> None:
    found = [
        f"{path.relative_to(ROOT)}: {line}" for path in code() if path not in LITERAL for line in copies(path.read_text(encoding="utf-8"))
    ]
    assert found == [], "take it from roles/platform/vars/releases.yml (in a role: the filter release_value)"


@pytest.mark.parametrize(
    "line",
    [
        'RELEASES = {"12": "bookworm", "13": "trixie"}',
        "x_version: \"{{ '17' if ansible_facts['distribution_major_version'] is version('13', '>=') else '15' }}\"",
        "x_version: \"{{ {'12': '1.22', '13': '1.26'}[ansible_facts['distribution_major_version']] }}\"",
        "{% if ansible_facts['distribution_major_version'] == '12' %}",
        "if release not in (12, 13):",
        "x_suite: trixie-backports",
    ],
)
def test_a_copy_is_found(line: str) -> None:
    assert copies(line) == [line]


def test_all_releases_say_the_same_things() -> None:
    assert len({tuple(sorted(carried)) for carried in RELEASES.values()}) == 1
    assert [value for carried in RELEASES.values() for value in carried.values() if not isinstance(value, str)] == []


def test_documents_name_the_releases_that_there_are() -> None:
    wanted = f"Debian {' or '.join(RELEASES)}"
    pages = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")), *sorted((ROOT / "roles").glob("*/README.md"))]
    named = {str(path.relative_to(ROOT)): re.findall(r"Debian \d+ or \d+", path.read_text(encoding="utf-8")) for path in pages}
    assert wanted in named["README.md"]
    assert {name: found for name, found in named.items() if set(found) - {wanted}} == {}


def test_what_a_release_carries() -> None:
    assert release_value("13", "postgresql") == RELEASES["13"]["postgresql"]


@pytest.mark.parametrize(
    ("release", "name", "said"),
    [
        ("11", "postgresql", "Debian 11 is not supported: hosts run Debian 12 or 13."),
        ("13", "postgres", "releases.yml does not say which postgres Debian 13 carries: it has codename, etcd, nginx, "),
    ],
)
def test_what_is_not_known_is_an_error(release: str, name: str, said: str) -> None:
    with pytest.raises(AnsibleFilterError, match=re.escape(said)):
        release_value(release, name)
