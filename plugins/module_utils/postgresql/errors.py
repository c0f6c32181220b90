# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The one base of what can go wrong with PostgreSQL, Patroni and pgBackRest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


class PostgresqlError(Exception):
    """What was seen, where, and what to do; `reason` is for programs."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class Refusal(PostgresqlError):
    """Nothing was done, and why.

    `candidates` are the members that were considered. `passes_within` is for how many seconds it is worth while to ask again,
    because it may end by itself.
    """

    def __init__(self, reason: str, message: str, candidates: Sequence[Mapping[str, Any]] = ()) -> None:
        super().__init__(reason, message)
        self.candidates = list(candidates)
        self.passes_within = 0.0


class OperationError(PostgresqlError):
    """Something was begun and did not end well; `candidates` are the members that were considered before."""

    def __init__(self, reason: str, message: str, candidates: Sequence[Mapping[str, Any]] = ()) -> None:
        super().__init__(reason, message)
        self.candidates = list(candidates)


class Busy(PostgresqlError):
    """Somebody else works on the cluster; the text says who."""

    def __init__(self, holder: str) -> None:
        super().__init__("busy", holder)
