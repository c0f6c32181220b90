# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""For how long nobody could write, by the moments at which somebody did. Pure functions; `probe_apply` writes."""

from __future__ import annotations

from collections.abc import Sequence


def longest_gap(moments: Sequence[float], since: float) -> float | None:
    """Return the longest gap between successes, from the last one before `since` (or `since`) on; None where none came after it."""
    after = [moment for moment in moments if moment > since]
    if not after:
        return None
    before = [moment for moment in moments if moment <= since]
    line = [before[-1] if before else since, *after]
    return max(later - earlier for earlier, later in zip(line, line[1:], strict=False))
