# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What keeps a provider's server from being used, by the message that a user reads."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.uptier.platform.plugins.module_utils.postgresql.server import problems_of

SEEN: dict[str, Any] = {
    "user": "admin", "superuser": False, "release": 17, "version": "17.5", "standby": False, "createdb": True, "createrole": True,
    "connections": 97, "grants": ["pg_monitor"],
}  # fmt: skip
NEEDS = ("createdb", "createrole")


def problems(reads_only: bool = False, **changes: Any) -> list[str]:
    return problems_of({**SEEN, **changes}, "db:5432", NEEDS, ["pg_monitor"], 97, reads_only)


def test_nothing_is_wrong() -> None:
    assert problems() == []
    assert problems(superuser=True, createdb=False, createrole=False, grants=[]) == []
    assert problems(release=15, grants=[]) == []


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        (
            {"release": 13, "version": "13.22"},
            "db:5432 runs PostgreSQL 13.22; 15 is the oldest that is supported. Upgrade it at the provider.",
        ),
        ({"standby": True}, "db:5432 is a read replica, which takes no writes. Give the primary as the host, the replica as replica_host."),
        (
            {"createdb": False},
            "The user admin of db:5432 lacks CREATEDB. Have an administrator there run: ALTER ROLE admin CREATEDB.",
        ),
        (
            {"createdb": False, "createrole": False},
            "The user admin of db:5432 lacks CREATEDB and CREATEROLE. Have an administrator there run: ALTER ROLE admin CREATEDB CREATEROLE.",
        ),
        (
            {"grants": []},
            "The user admin of db:5432 cannot grant pg_monitor. Have an administrator there run: GRANT pg_monitor TO admin WITH ADMIN OPTION.",
        ),
        (
            {"connections": 96},
            "db:5432 accepts 96 connections, and up to 97 may be needed. Lower pgbouncer_connection_budget, "
            "or choose a larger server at the provider.",
        ),
    ],
)
def test_each_problem_says_what_to_do(changes: dict[str, Any], text: str) -> None:
    assert problems(**changes) == [text]


def test_a_replica_only_has_to_be_new_enough() -> None:
    assert problems(reads_only=True, standby=True, createdb=False, grants=[], connections=1) == []
    assert len(problems(reads_only=True, release=14, version="14.20")) == 1
