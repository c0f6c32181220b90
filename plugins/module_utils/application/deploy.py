# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The lock of a release and the record of releases, as data. Pure functions; moments are seconds since 1970.

A lock is {holder: {id, who, controller, process}, what, since, until}. Whoever works renews it before each step, so that a
lock whose holder is gone ends by itself after the longest step. `id` names one run of Ansible in the whole world.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

# Releases that a host remembers, of one application.
RECORDS = 50


def state_of(lock: Mapping[str, Any] | None, run: str, now: float, dead: str = "") -> str:
    """Return what a lock is to a run: free, mine, expired, dead (its holder is known to be gone) or held."""
    if not lock:
        return "free"
    holder = lock["holder"]["id"]
    if holder == run:
        return "mine"
    if now >= lock["until"]:
        return "expired"
    return "dead" if dead and holder == dead else "held"


def taken(lock: Mapping[str, Any] | None, holder: Mapping[str, Any], what: str, now: float, seconds: float) -> dict[str, Any]:
    """Return the lock as its holder has it from now on; a lock that is renewed keeps the moment at which it was taken."""
    mine = lock is not None and lock["holder"]["id"] == holder["id"]
    return {"holder": dict(holder), "what": what, "since": lock["since"] if mine and lock else now, "until": now + seconds}


def shown(moment: float) -> str:
    """Return a moment for people."""
    return datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def held_text(application: str, lock: Mapping[str, Any]) -> str:
    """Return who holds a lock, since when, and when it ends."""
    holder = lock["holder"]
    return (
        f"{application} is being released by {holder['who']} on {holder['controller']} (process {holder['process']}) since "
        f"{shown(lock['since'])}: {lock['what']}. Wait until that has ended. Should that run be dead, the lock ends at "
        f"{shown(lock['until'])}, and at once for a run on {holder['controller']}."
    )


def lost_text(application: str, lock: Mapping[str, Any] | None) -> str:
    """Return why a run may not go on."""
    if not lock:
        return f"The lock of {application} is gone: it was removed while this run worked. No further host is touched."
    holder = lock["holder"]
    return (
        f"The lock of {application} was taken over by {holder['who']} on {holder['controller']} (process {holder['process']}) at "
        f"{shown(lock['since'])}, because this run did not renew it in time. No further host is touched."
    )


def recorded(history: Sequence[Mapping[str, Any]], entry: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the record with an entry added, the newest last; an entry of the same run is replaced."""
    kept = [dict(one) for one in history if one.get("id") != entry["id"]]
    return [*kept, dict(entry)][-RECORDS:]


def line(entry: Mapping[str, Any]) -> str:
    """Return an entry of the record as one line for the journal."""
    return json.dumps({"event": "release", **entry}, sort_keys=True, ensure_ascii=False)
