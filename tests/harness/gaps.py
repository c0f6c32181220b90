# SPDX-License-Identifier: GPL-3.0-or-later
"""The longest gap between moments, computed by the function with which the collection measures an outage."""

from __future__ import annotations

import runpy
from collections.abc import Callable, Sequence

from .platform import ROOT

# By its path: the tests run where the collection may be importable under no name.
longest_gap: Callable[[Sequence[float], float], float | None] = runpy.run_path(str(ROOT / "plugins/module_utils/postgresql/probe.py"))[
    "longest_gap"
]
