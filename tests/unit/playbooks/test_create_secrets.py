# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What whoever made secrets is told; the module's tests have how they are made."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar, trust_as_template

ROOT = Path(__file__).resolve().parents[3]


@pytest.mark.parametrize(
    ("made", "check", "first"),
    [
        (["vault_a", "vault_b.shop"], False, "v.yml: 2 secrets made: vault_a, vault_b.shop. What was there is as it was."),
        (["vault_a"], True, "v.yml: 1 secret to be made: vault_a. What was there is as it was."),
        ([], False, "v.yml: no secrets made. What was there is as it was."),
    ],
)
def test_it_says_what_was_written_where_and_what_comes_next(made: list[str], check: bool, first: str) -> None:
    tasks = yaml.safe_load((ROOT / "playbooks" / "create_secrets.yml").read_text(encoding="utf-8"))[0]["tasks"]
    text = next(task["ansible.builtin.debug"]["msg"] for task in tasks if "ansible.builtin.debug" in task)
    known: dict[str, Any] = {
        "create_secrets_result": {"path": "v.yml", "password_file": "/x/my inventory/.vault_password", "made": made},
        "ansible_check_mode": check,
        "ansible_inventory_sources": ["/x/my inventory"],
    }
    templar = Templar(loader=DataLoader(), variables=known)
    said = [templar.template(trust_as_template(line)) for line in text]
    assert said[0] == first
    assert said[1].startswith("Its password is in /x/my inventory/.vault_password. Keep that file in a safe place")
    assert said[2] == "Every run needs it: export ANSIBLE_VAULT_PASSWORD_FILE='/x/my inventory/.vault_password'"
    assert said[3] == "Next: ansible-playbook playbooks/TIER.yml -i '/x/my inventory' (TIER is startup, growth or enterprise)."
