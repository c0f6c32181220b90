# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Positions in PostgreSQL's log and the histories of its timelines, as text and as numbers. Pure."""

from __future__ import annotations

import re

SEGMENT_BYTES = 16 << 20  # PostgreSQL's own; initdb --wal-segsize makes another


def lsn(text: str) -> int:
    """Return a position as a number.

    Raises:
        ValueError: it is none.
    """
    high, slash, low = text.partition("/")
    if not slash or not re.fullmatch(r"[0-9A-Fa-f]{1,8}", high) or not re.fullmatch(r"[0-9A-Fa-f]{1,8}", low):
        raise ValueError(f"{text} is no position of PostgreSQL, such as 0/3000028")
    return (int(high, 16) << 32) + int(low, 16)


def lsn_text(position: int) -> str:
    """Return a position as PostgreSQL writes it."""
    return f"{position >> 32:X}/{position & 0xFFFFFFFF:X}"


def parse_history(text: str) -> list[tuple[int, int]]:
    """Return timelines and the position at which each was left, oldest first.

    Raises:
        ValueError: that is no history.
    """
    found = []
    for line in text.splitlines():
        words = line.split(None, 2)
        if not words or words[0].startswith("#"):
            continue
        if len(words) < 2:
            raise ValueError(f"this line has no position: {line[:80]}")
        found.append((int(words[0]), lsn(words[1])))
    if not found:
        raise ValueError("it is empty")
    return found
