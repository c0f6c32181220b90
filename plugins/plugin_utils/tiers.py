# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Tier profiles: the numbers in which startup, growth and enterprise differ."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class TierError(ValueError):
    """Unknown tier or unknown key; the message lists what there is."""


def tier_value(profiles: Mapping[str, Mapping[str, Any]], tier: str, key: str) -> Any:
    """Return one number of one tier."""
    if tier not in profiles:
        raise TierError(f"Unknown tier {tier!r}: use one of {', '.join(profiles)}.")
    if key not in profiles[tier]:
        raise TierError(f"The tier {tier} has no value {key!r}: it has {', '.join(sorted(profiles[tier]))}.")
    return profiles[tier][key]
