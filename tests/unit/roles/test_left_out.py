# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Whose passwords a run with --limit leaves alone: of those that hosts go on with that it is not for."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[3]
PROD = ROOT / "inventories" / "prod"
MEMBERS, CLIENTS = ("postgres", "replicator", "rewinder"), ("shop", "shop_owner", "shop_ro")


@pytest.mark.parametrize(
    ("limit", "members", "clients"),
    [
        (None, [], []),
        ("all", [], []),
        ("db1", ["db2"], ["app1", "app2", "app3"]),
        ("postgresql:app", [], []),
        ("db2,app*", ["db1"], []),
        ("all:!app2", [], ["app2"]),
    ],
)
def test_who_is_left_out(
    rendering: Any, variable_files: Callable[..., list[Path]], limit: str | None, members: list[str], clients: list[str]
) -> None:
    shown = rendering({"platform_tier": "growth", **({"ansible_limit": limit} if limit else {})}, PROD)
    found = shown.show("{{ __postgresql_elsewhere }}", variable_files("postgresql"), "db1")
    assert {name: hosts for name, hosts in found.items() if name in MEMBERS} == dict.fromkeys(MEMBERS, members)
    assert {name: sorted(hosts) for name, hosts in found.items() if name in CLIENTS} == dict.fromkeys(CLIENTS, clients)
    left_out = shown.show(
        "{{ postgresql_managed_left_out }}", variable_files("postgresql_managed"), "app1", {"ansible_play_hosts": ["app1"]}
    )
    assert sorted(left_out) == clients
