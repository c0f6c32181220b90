# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What Patroni's REST interface says, and what is to be said to it. Pure functions; `patroni_client` asks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

PRIMARY_ROLES = ("primary", "master", "leader")
LEADING_ROLES = (*PRIMARY_ROLES, "standby_leader")


def leading(role: Any, state: Any) -> bool:
    """Tell whether a member of this role and state leads: it accepts writes, or feeds the other members of a standby cluster."""
    return role in LEADING_ROLES and state == "running"


def leader_of(cluster: Mapping[str, Any]) -> str | None:
    """Return the name of the member that leads and runs."""
    for member in cluster.get("members", []):
        if leading(member.get("role"), member.get("state")):
            return str(member["name"])
    return None


def serves(cluster: Mapping[str, Any], name: str) -> bool:
    """Tell whether there is a leader and this member leads or streams."""
    if leader_of(cluster) is None:
        return False
    mine = next((member for member in cluster["members"] if member["name"] == name), {})
    return mine.get("state") == ("running" if mine.get("role") in LEADING_ROLES else "streaming")


def synchronous(config: Mapping[str, Any]) -> bool:
    """Tell whether commits wait for a standby by the dynamic configuration; Patroni ignores the setting in a standby cluster."""
    return bool(config.get("synchronous_mode")) and not config.get("standby_cluster")


def describe(cluster: Mapping[str, Any]) -> str:
    """Return one line that says what each member does."""
    members = [f"{member.get('name')}: {member.get('role')}, {member.get('state')}" for member in cluster.get("members", [])]
    return "; ".join(members) or "no member has joined"


def pending_restart(cluster: Mapping[str, Any]) -> dict[str, Any]:
    """Return the members that need a restart of PostgreSQL, with the settings that ask for it."""
    return {
        str(member["name"]): member.get("pending_restart_reason") or {}
        for member in cluster.get("members", [])
        if member.get("pending_restart")
    }


def info(cluster: Mapping[str, Any]) -> dict[str, Any]:
    """Return the cluster as data."""
    members = []
    for member in cluster.get("members", []):
        lag = member.get("lag", member.get("replay_lag"))
        members.append(
            {
                "name": member["name"],
                "role": "leader" if member["role"] in LEADING_ROLES else member["role"],
                "state": member.get("state", "unknown"),
                "host": member.get("host"),
                "port": member.get("port"),
                "timeline": member.get("timeline"),
                "lag_bytes": lag if isinstance(lag, int) else None,
                "synchronous": member["role"] in ("sync_standby", "quorum_standby"),
                "tags": member.get("tags", {}),
            }
        )
    return {
        "leader": leader_of(cluster),
        "members": members,
        "paused": bool(cluster.get("pause", False)),
        "pending_restart": pending_restart(cluster),
        "scope": cluster.get("scope"),
    }


def lacking(cluster: Mapping[str, Any], name: str, wants_standby: bool) -> str:
    """Return what keeps the cluster from being well again after work on a member; empty when nothing does.

    Args:
        cluster: what `info` returned.
        name: the member.
        wants_standby: whether the cluster wants a synchronous standby. Patroni names one only when it saw it stream, so for some
            seconds there is none: who restarted the next member then would risk acknowledged rows.
    """
    if not cluster["leader"]:
        return "nobody leads"
    mine = next((member for member in cluster["members"] if member["name"] == name), {"role": "", "state": "gone"})
    if mine["state"] != ("running" if mine["role"] == "leader" else "streaming"):
        return f"{name} is {mine['state']}"
    if name in cluster["pending_restart"]:
        return f"{name} still waits for a restart"
    streaming = [member for member in cluster["members"] if member["state"] == "streaming"]
    able = [member["name"] for member in streaming if not (member["tags"].get("nosync") or member["tags"].get("replicatefrom"))]
    if wants_standby and able and not any(member["synchronous"] for member in streaming):
        return f"none of {', '.join(able)} is the synchronous standby"
    return ""


def patch(current: Any, wanted: Mapping[str, Any]) -> dict[str, Any]:
    """Return what to send so that `current` holds everything in `wanted`; None removes a key. Empty when nothing differs."""
    current = current if isinstance(current, Mapping) else {}
    found: dict[str, Any] = {}
    for key, value in wanted.items():
        if isinstance(value, Mapping):
            inner = patch(current.get(key), value)
            if inner:
                found[key] = inner
        elif value is None:
            if key in current:
                found[key] = None
        elif key not in current or current[key] != value or isinstance(current[key], bool) != isinstance(value, bool):
            found[key] = value
    return found


def pick(current: Any, shape: Mapping[str, Any]) -> dict[str, Any]:
    """Return the part of `current` that a patch touches, for a diff."""
    current = current if isinstance(current, Mapping) else {}
    return {key: pick(current.get(key), value) if isinstance(value, Mapping) else current.get(key) for key, value in shape.items()}
