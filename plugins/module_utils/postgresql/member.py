# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Whether one member of a PostgreSQL cluster may be restarted or rebuilt now. Pure functions."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ansible_collections.uptier.platform.plugins.module_utils.postgresql.errors import Refusal


@dataclass(frozen=True)
class Plan:
    """action is restart, reinitialize or empty."""

    action: str
    role: str
    message: str


def plan(cluster: Mapping[str, Any], name: str | None, state: str, pending_only: bool) -> Plan:
    """Return what to do with a member.

    Args:
        cluster: what `patroni.info` returned.
        name: the member.
        state: restarted or reinitialized.
        pending_only: restart only where something waits for it.
    """
    members = {member["name"]: member for member in cluster["members"]}
    if name not in members:
        raise Refusal("unknown_member", f"{name} is no member of {cluster['scope']}. Members: {', '.join(sorted(members)) or 'none'}.")
    mine = members[name]
    others = [member for member in members.values() if member["name"] != name]
    leads = mine["role"] == "leader"
    if state == "restarted" and pending_only and name not in cluster["pending_restart"]:
        return Plan("", mine["role"], f"nothing of {name} waits for a restart")
    if leads and others:
        if state == "restarted" and pending_only:
            return Plan("", "leader", f"{name} leads: a switchover comes first")
        raise Refusal(
            "leads", f"{name} leads {cluster['scope']}. Relieve it first: playbooks/switchover_postgresql.yml -e pg_leader={name}."
        )
    if state == "reinitialized":
        if leads:
            raise Refusal("leads", f"{name} is the only member of {cluster['scope']}: there is nothing to copy its data from.")
        if cluster["leader"] is None:
            raise Refusal("no_leader", f"Nobody leads {cluster['scope']}, so {name} may hold the only good copy. Get a leader first.")
        return Plan("reinitialize", mine["role"], f"{name} was rebuilt and streams")
    unwell = [f"{member['name']} is {member['state']}" for member in others if member["state"] not in ("running", "streaming")]
    if unwell:
        raise Refusal("others_unwell", f"{name} is not restarted while {'; '.join(unwell)}. Bring that back first.")
    if mine["state"] not in ("running", "streaming"):
        raise Refusal("unwell", f"{name} is {mine['state']}, a restart does not mend that. Look at `journalctl -u patroni` there.")
    return Plan("restart", mine["role"], f"{name} was restarted and {'leads' if leads else 'streams'}")


def newer_program(running: int, said: str) -> str:
    """Return the minor release that waits for a restart, or nothing.

    Args:
        running: the server's own number, such as 150018 for 15.18.
        said: what its program says, such as `postgres (PostgreSQL) 15.20 (Debian 15.20-0+deb12u1)`.
    """
    found = re.search(r"\(PostgreSQL\) (\d+)\.(\d+)", said)
    if not found or int(found[1]) != running // 10000 or int(found[2]) <= running % 10000:
        return ""
    return f"{found[1]}.{found[2]}"
