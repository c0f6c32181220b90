# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What a change of leaders is asked for, and what is planned: what both kinds of cluster have in common. Pure functions.

`failover_patroni` and `failover_native` decide, on one `picture`; `failover_apply` carries it out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from ansible_collections.uptier.platform.plugins.module_utils.postgresql.errors import Refusal


@dataclass(frozen=True)
class Request:
    """What the caller asked for."""

    state: str
    leader: str | None = None
    candidate: str | None = None
    max_lag_bytes: int | None = None
    allow_data_loss: bool = False


@dataclass(frozen=True)
class Plan:
    """What to do: action is none, wait, switchover, failover or promote. `steps` says it in words."""

    action: str
    candidate: str | None
    leader: str | None
    candidates: list[dict[str, Any]]
    data_loss_bytes: int | None
    steps: list[str]
    warnings: list[str]
    message: str = ""


class Named(Protocol):
    """Whatever has a name."""

    @property
    def name(self) -> str: ...


def known_names(scope: str, members: Sequence[Named], request: Request) -> None:
    """Refuse names that no member has."""
    names = [member.name for member in members]
    for role, name in (("leader", request.leader), ("candidate", request.candidate)):
        if name and name not in names:
            raise Refusal("unknown_member", f"{role} is {name}, which is no member of {scope}. Members: {', '.join(names)}.")
    if request.candidate and request.candidate == request.leader:
        raise Refusal("same_member", f"leader and candidate are both {request.candidate}. Name two members, or only one of them.")


def choose(scope: str, request: Request, judged: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the candidate that was asked for, or the best one; refuse where there is none."""
    if request.candidate:
        chosen = next(entry for entry in judged if entry["name"] == request.candidate)
        if not chosen["eligible"]:
            raise Refusal("candidate_unfit", f"{request.candidate} cannot lead {scope}: it {chosen['reason']}.", judged)
        return chosen
    fit = [entry for entry in judged if entry["eligible"]]
    if not fit:
        said = "; ".join(f"{entry['name']} {entry['reason']}" for entry in judged) or "there is no other member"
        raise Refusal("no_candidate", f"No member of {scope} can take over: {said}.", judged)
    return fit[0]
