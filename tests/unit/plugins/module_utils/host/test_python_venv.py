# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Generations of plugins/modules/python_venv.py."""

from __future__ import annotations

from pathlib import Path

from ansible_collections.uptier.platform.plugins.module_utils.host.python_venv import identity, outdated, unpinned

PINNED = "# remark\npatroni==4.1.5 \\\n    --hash=sha256:aa \\\n    --hash=sha256:bb\nclick==8.5.1 --hash=sha256:cc\n"
ROLE = Path(__file__).resolve().parents[5] / "roles" / "postgresql" / "files" / "patroni-requirements.txt"


def test_requirements_and_python_name_the_generation() -> None:
    assert identity(PINNED, "3.11.2") == identity(PINNED, "3.11.2")
    assert len({identity(PINNED, "3.11.2"), identity(PINNED, "3.13.5"), identity(PINNED + "x", "3.11.2")}) == 3


def test_every_entry_needs_version_and_hash() -> None:
    assert unpinned(PINNED) == []
    assert unpinned("patroni>=4 --hash=sha256:aa\nclick==8.5.1\n") == ["patroni>=4", "click==8.5.1"]


def test_the_generation_in_use_stays_until_the_next_switch() -> None:
    assert outdated(["a", "b", "c"], "c", "b") == ["a"]
    assert outdated(["c"], "c", "") == []


def test_the_shipped_requirements_are_pinned_and_new_enough() -> None:
    text = ROLE.read_text(encoding="utf-8")
    assert unpinned(text) == []
    version = next(line.split("==")[1].split()[0] for line in text.splitlines() if line.startswith("patroni=="))
    assert tuple(map(int, version.split("."))) >= (4, 1)
