# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""How a host becomes a member of an etcd cluster. The planner is pure; it sees member lists, not sockets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

# etcd's own, where nothing else is said.
PEER_PORT = 2380
CLIENT_PORT = 2379


class EtcdError(Exception):
    """What went wrong, with a machine-readable reason."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


@dataclass(frozen=True)
class Plan:
    """What to do.

    action is keep (the host has data), form (nobody runs yet), join, or replace (it was a member and lost its data).
    """

    action: str
    remove: list[str] = field(default_factory=list)
    add: bool = False
    initial_cluster: str = ""


def url_of(member: Mapping[str, Any], port: int) -> str:
    return f"https://{member['address']}:{port}"


def own(name: str, members: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    for member in members:
        if member["name"] == name:
            return member
    known = ", ".join(str(member["name"]) for member in members)
    raise EtcdError("not_a_member", f"{name} is not among the members ({known}). Add the host to the inventory group of etcd.")


def plan(
    name: str,
    members: Sequence[Mapping[str, Any]],
    has_data: bool,
    running: Sequence[Mapping[str, Any]] | None,
    peer_port: int = PEER_PORT,
) -> Plan:
    """Decide from the declared members, the host's data and the list that a running member returned (None: nobody answers)."""
    me = own(name, members)
    if has_data:
        return Plan("keep")
    if running is None:
        return Plan("form")
    url = url_of(me, peer_port)
    mine = [entry for entry in running if entry.get("name") == name or url in entry.get("peerURLs", [])]
    # Announced and never started: etcd knows the address and no name yet.
    announced = [entry for entry in mine if not entry.get("name") and entry.get("peerURLs") == [url]]
    stale = [str(entry["ID"]) for entry in mine if entry not in announced]
    others = [entry for entry in running if entry not in mine]
    names = {url_of(member, peer_port): str(member["name"]) for member in members}
    pairs = []
    for entry in others:
        for other in entry.get("peerURLs", []):
            pairs.append(f"{entry.get('name') or names.get(other, other)}={other}")
    pairs.append(f"{name}={url}")
    return Plan("replace" if stale else "join", stale, not announced, ",".join(sorted(pairs)))


def environment(planned: Plan) -> str:
    """Return the environment with which a joining member is started."""
    return f"ETCD_INITIAL_CLUSTER_STATE=existing\nETCD_INITIAL_CLUSTER={planned.initial_cluster}\n"
