# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""How long something is waited for."""

from __future__ import annotations

import time


class Deadline:
    """A moment by the monotonic clock, which no change of the host's time moves."""

    def __init__(self, seconds: float, began: float | None = None) -> None:
        self.seconds = seconds
        self._began = time.monotonic() if began is None else began

    @property
    def since(self) -> float:
        """Seconds since the waiting began."""
        return time.monotonic() - self._began

    @property
    def passed(self) -> bool:
        return self.since >= self.seconds
