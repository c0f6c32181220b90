# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What is wrong, as every check says it. Pure."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong: `where` and `seen` make one sentence, without its full stop; `fix` is the next one."""

    where: str
    seen: str
    fix: str

    def __str__(self) -> str:
        return f"{self.where} {self.seen}. {self.fix}"


def nearest(name: str, known: Iterable[str]) -> str:
    """Return 'Did you mean X? ' or nothing."""
    match = difflib.get_close_matches(name, sorted(known), n=1, cutoff=0.7)
    return f"Did you mean {match[0]}? " if match else ""


def listed(items: Iterable[Any]) -> str:
    return ", ".join(str(item) for item in items)
