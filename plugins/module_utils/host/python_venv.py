# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What a virtual environment is made from, and which of its generations may go. Pure functions."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence


def identity(requirements: str, python: str) -> str:
    """Return what names a generation: the same requirements on the same Python give the same one."""
    return hashlib.sha256(f"{python}\n{requirements}".encode()).hexdigest()[:12]


def unpinned(requirements: str) -> list[str]:
    """Return the requirements without an exact version or without a hash."""
    text = re.sub(r"\\\n", " ", requirements)
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.lstrip().startswith(("#", "--"))]
    return [line.split()[0] for line in lines if "==" not in line or "--hash=sha256:" not in line]


def outdated(generations: Sequence[str], wanted: str, current: str | None) -> list[str]:
    """Return the generations to remove: all but the wanted one and the one it takes over from (a daemon may still run from it)."""
    return sorted(name for name in generations if name not in (wanted, current))
