# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Playbooks of PostgreSQL's operations: a play that uses what they share has read it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[3]
SHARED = set(yaml.safe_load((ROOT / "playbooks" / "vars" / "postgresql.yml").read_text(encoding="utf-8")))
PLAYBOOKS = sorted(path for path in ROOT.glob("playbooks/*.yml") if "vars/postgresql.yml" in path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("path", PLAYBOOKS, ids=lambda path: path.stem)
def test_a_play_has_read_the_variables_that_it_uses(path: Path) -> None:
    for play in yaml.safe_load(path.read_text(encoding="utf-8")):
        own = set(play.get("vars") or {})
        text = yaml.safe_dump({key: value for key, value in play.items() if key != "name"})
        used = {name for name in SHARED - own if re.search(rf"(?<![\w.]){name}\b", text)}
        if used:
            assert "vars/postgresql.yml" in (play.get("vars_files") or []), f"{play['name']}: {', '.join(sorted(used))}"


def test_there_are_such_playbooks() -> None:
    assert len(PLAYBOOKS) > 4
