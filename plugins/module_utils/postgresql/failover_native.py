# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Who may lead a streaming pair without Patroni, and what that would cost. Pure functions over one picture of its servers.

Nobody holds a lease here, so a silent primary may be alive: it is fenced before anybody is promoted. Nor is there a store that
remembers how far the primary had written. That nothing is missing is known in one case: a primary that is stopped cleanly sends its
standbys a last record, its shutdown checkpoint. A standby whose log ends with exactly that record has all there was.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ansible_collections.uptier.platform.plugins.module_utils.postgresql.errors import Refusal
from ansible_collections.uptier.platform.plugins.module_utils.postgresql.failover import Plan, Request, choose, known_names
from ansible_collections.uptier.platform.plugins.module_utils.postgresql.picture import Pair, Server, lsn

MAX_LAG = 16 * 1024 * 1024
HEARD_SECONDS = 10.0  # a standby that heard its primary this recently says that the primary runs, whatever this host can reach


@dataclass(frozen=True)
class Fencing:
    """How it is known that the old primary takes no more writes: a command is run, or the caller says so."""

    command: bool = False
    fenced: bool = False


def old_leader(pair: Pair, request: Request) -> str | None:
    """Return who led, while nobody does: who is named, or the only server that does not answer. None where all answer."""
    away = [member.name for member in pair.members if not member.answers]
    if request.leader or len(away) == 1:
        return request.leader or away[0]
    if away:
        raise Refusal(
            "leader_unknown",
            f"{' and '.join(away)} do not answer, and any of them may have led {pair.scope} ({pair.describe()}). Name the one that did: leader.",
        )
    return None


def judge(pair: Pair, request: Request) -> list[dict[str, Any]]:
    """Return every server but the leader with the reason why it may lead or not, the best first."""
    leader = pair.leader
    best = max((member.received or 0 for member in pair.members if member.answers and not member.leads), default=0)
    head = (leader.location if leader else None) or best
    judged = []
    for member in pair.members:
        if leader and member.name == leader.name:
            continue
        why = _obstacle(pair, member, request, head)
        judged.append(
            {
                "name": member.name,
                "eligible": not why,
                "reason": why or "may lead",
                "received": member.received,
                "replayed": member.replayed,
                "timeline": member.timeline,
                "data_loss_bytes": 0 if not why and (leader or (request.state == "switchover" and member.closed)) else None,
            }
        )
    judged.sort(key=lambda entry: (not entry["eligible"], -(entry["received"] or 0), -(entry["replayed"] or 0), entry["name"]))
    return judged


def _obstacle(pair: Pair, member: Server, request: Request, head: int) -> str:
    leader = pair.leader
    if not member.answers:
        return f"does not answer: {member.said}" if member.silent else f"cannot be looked at: {member.said}"
    if member.name == request.leader:
        return "is to lead no longer"
    if member.received is None:
        return "does not say what it has received"
    if member.timeline and pair.timeline and member.timeline != pair.timeline:
        return f"is on timeline {member.timeline}, {pair.scope} on {pair.timeline}"
    if member.lacks:
        return f"cannot be promoted: the user has not {' and '.join(member.lacks)} there. Grant it on the primary"
    if leader and not (member.streaming and leader.feeds):
        return f"does not stream from {leader.name}: its history may differ"
    if member.paused:
        return "has its replay paused, and whoever paused it may need that. If it may lead: SELECT pg_wal_replay_resume() on it"
    if member.delay:
        return f"is kept behind on purpose (recovery_min_apply_delay is {member.delay:,} ms)"
    # While the leader runs, what is not replayed yet is waited for as well.
    lag = max(0, head - ((member.replayed if leader else member.received) or 0))
    limit = MAX_LAG if request.max_lag_bytes is None else request.max_lag_bytes
    if lag > limit and (leader or not request.allow_data_loss):
        return f"lacks {lag:,} bytes, the limit is {limit:,}"
    return ""


# What to do ---------------------------------------------------------------------------------------------------------------


def plan(pair: Pair, request: Request, fencing: Fencing) -> Plan:
    """Return what to do, or raise `Refusal`. Asked again in the middle of its own work, it returns what is left of it."""
    known_names(pair.scope, pair.members, request)
    if request.state == "promoted":
        raise Refusal(
            "wrong_state", f"state: promoted is for standby clusters of Patroni. In {pair.scope}, use state: switchover while the primary "
            "runs and state: failover when it is gone.",
        )  # fmt: skip
    one_cluster(pair)
    judged = judge(pair, request)
    if not any(member.answers for member in pair.members):
        raise Refusal(
            "nothing_known",
            f"No member of {pair.scope} answers ({pair.describe()}). Start one of them, or check the network and the login.",
            judged,
        )
    leader = pair.leader
    if leader:
        return _led(pair, leader, request, fencing, judged)
    return _unled(pair, request, fencing, judged)


def one_cluster(pair: Pair) -> None:
    """Refuse servers of two clusters, and two primaries."""
    systems = {member.system for member in pair.members if member.answers}
    if len(systems) > 1:
        said = "; ".join(f"{member.name}: {member.system}" for member in pair.members if member.answers)
        raise Refusal(
            "not_one_cluster",
            f"The members of {pair.scope} are no copies of each other (system identifiers: {said}). Check hosts and ports.",
        )
    leaders = [f"{member.name} (timeline {member.timeline}, at {lsn(member.location)})" for member in pair.members if member.leads]
    if len(leaders) > 1:
        raise Refusal(
            "two_leaders",
            f"{' and '.join(leaders)} take writes, each without the other. Nothing is done: stop the one that clients should not use, as a rule "
            "the one on the lower timeline. Save from it what only it has, then copy it anew from the other.",
        )


def _done(pair: Pair, leader: Server, judged: list[dict[str, Any]], message: str) -> Plan:
    return Plan("none", leader.name, leader.name, judged, 0, [], pair.dangers(), message)


def _led(pair: Pair, leader: Server, request: Request, fencing: Fencing, judged: list[dict[str, Any]]) -> Plan:
    if request.candidate == leader.name:
        return _done(pair, leader, judged, f"{leader.name} leads already.")
    if request.leader and request.leader != leader.name and (request.state == "switchover" or not request.candidate):
        return _done(pair, leader, judged, f"{request.leader} does not lead, {leader.name} does.")
    if request.state == "failover":
        raise Refusal(
            "leader_healthy",
            f"{leader.name} leads {pair.scope} and answers. Nothing has failed: use state: switchover for a planned change.",
            judged,
        )
    if not request.candidate and not request.leader:
        raise Refusal(
            "no_direction",
            f"{leader.name} leads {pair.scope}. Name the leader to be relieved or the candidate: without one, every further run would switch again.",
            judged,
        )
    chosen = choose(pair.scope, request, judged)
    if not fencing.command:
        raise Refusal(
            "not_fenced",
            f"{leader.name} runs, and nothing is given that stops it. Give fencing.command, such as "
            f"[ssh, {leader.name}, systemctl, stop, postgresql].",
            judged,
        )
    steps = [
        f"checkpoint on {leader.name}",
        f"stop {leader.name} by the fencing command, and see that it stays away",
        f"wait until {chosen['name']} has all that {leader.name} wrote",
        *_promotion(chosen["name"]),
    ]
    return Plan("switchover", chosen["name"], leader.name, judged, 0, steps, pair.dangers())


def _promotion(name: str) -> list[str]:
    return [f"promote {name}", f"wait until {name} accepts writes"]


def _unled(pair: Pair, request: Request, fencing: Fencing, judged: list[dict[str, Any]]) -> Plan:
    waiting = _alive(pair, request, judged)
    if waiting:
        return waiting
    old = old_leader(pair, request)
    chosen = choose(pair.scope, request, judged)
    standby = pair.member(chosen["name"])
    finishing = request.state == "switchover" and standby is not None and standby.closed
    if request.state == "switchover" and not finishing:
        raise Refusal(
            "no_leader",
            f"Nobody leads {pair.scope} ({pair.describe()}), and the log of {chosen['name']} does not end with a clean stop of its primary. "
            f"Start {old or 'the primary'} again for a switchover, or use state: failover.",
            judged,
        )
    if not (fencing.command or fencing.fenced):
        raise Refusal(
            "not_fenced",
            f"{old or 'The primary'} does not answer, which does not prove that it takes no writes. Give fencing.command, which stops it for "
            "certain, or make sure yourself that it is off and stays off, and say so with fencing.fenced: true.",
            judged,
        )
    loss = chosen["data_loss_bytes"]
    if loss is None and not request.allow_data_loss:
        raise Refusal("data_loss", f"{_unknown_loss(pair, standby, old)} or accept the loss with allow_data_loss: true.", judged)
    name = old or "the old primary"
    steps = [f"fence {name} by the command, and see that it stays away" if fencing.command else f"take it as said that {name} is fenced"]
    return Plan(
        "finish" if finishing else "failover", chosen["name"], old, judged, loss, [*steps, *_promotion(chosen["name"])], pair.dangers()
    )


def _unknown_loss(pair: Pair, standby: Server | None, old: str | None) -> str:
    """Say what is known of a loss that is not."""
    if standby is None:
        return ""
    name = old or "the old primary"
    heads = [member.heard_of for member in pair.members if member.answers] + [member.received for member in pair.members if member.answers]
    least = max((head for head in heads if head is not None), default=0) - (standby.received or 0)
    said = f"What {name} acknowledged last is not known: {standby.name} has its log up to {lsn(standby.received)}"
    if least > 0:
        return f"{said}, and at least {least:,} bytes after that were seen elsewhere. Bring {name} back,"
    if standby.closed:
        return (
            f"{said}, where it was stopped cleanly. If you know that it was not started again after that, use state: switchover, which loses "
            f"nothing then. Otherwise bring {name} back,"
        )
    return f"{said}, and {name} may have written more. Bring {name} back,"


def _alive(pair: Pair, request: Request, judged: list[dict[str, Any]]) -> Plan | None:
    """Return a plan that waits while a server may be a primary that runs; refuse where waiting does not help."""
    for member in pair.members:
        if member.answers or member.silent:
            continue
        if not member.passing:
            raise Refusal(
                "leader_unsure",
                f"{member.name} runs but cannot be looked at: {member.said}. It may be the primary, so nobody is promoted. Mend the login "
                "(user, password, pg_hba.conf, certificates), or stop that server.",
                judged,
            )
        if request.leader in (None, member.name):
            return _wait(pair, judged, member.name, f"wait until {member.name} serves or is silent ({member.said})")
    hearing = [
        member
        for member in pair.members
        if member.answers and member.streaming and member.heard is not None and member.heard < HEARD_SECONDS
    ]
    # Standbys may stream from standbys; what these do not feed, a primary feeds.
    if len(hearing) > sum(member.feeds for member in pair.members if member.answers):
        away = old_leader(pair, request) or "a primary that is no member"
        return _wait(pair, judged, away, f"wait until {hearing[0].name} hears nothing from {away} for {HEARD_SECONDS:g} s")
    return None


def _wait(pair: Pair, judged: list[dict[str, Any]], leader: str, step: str) -> Plan:
    return Plan("wait", None, leader, judged, None, [step], pair.dangers(), step)


# What was done ------------------------------------------------------------------------------------------------------------


def missing(standby: Server, seen: int) -> str:
    """Return why a standby does not have all that a stopped primary wrote; empty when it has.

    Args:
        standby: the candidate, after a checkpoint on it.
        seen: the last position that was seen on the primary.
    """
    if not standby.answers:
        return f"it does not answer ({standby.said})"
    if standby.received is None or standby.replayed is None:
        return "it does not say what it has received"
    if standby.received < seen:
        return f"it lacks {seen - standby.received:,} bytes that were seen on the primary"
    if standby.replayed < standby.received:
        return f"it has not replayed {standby.received - standby.replayed:,} bytes yet"
    if not standby.closed:
        return f"its log ends at {lsn(standby.received)} without the record of a clean stop"
    return ""


def not_back(pair: Pair, leader: Server, old: str | None, loss: int | None) -> dict[str, str]:
    """Return the servers that do not stream from the new leader, each with what to do."""
    found = {}
    for member in pair.members:
        name = member.name
        if name == leader.name or (member.answers and member.streaming and member.timeline == leader.timeline and leader.feeds):
            continue
        if member.answers:
            found[name] = (
                f"{name} does not stream from {leader.name}: let its primary_conninfo point at {leader.name} and reload it; "
                "where its log says that the histories differ, pg_rewind it or copy it anew"
            )
        elif name == old:
            way = (
                "it wrote nothing that the others have not, so standby.signal and primary_conninfo make it a standby"
                if loss == 0
                else "run pg_rewind against the new primary or copy it anew, then add standby.signal and primary_conninfo"
            )
            found[name] = f"{name} is fenced ({member.said}) and must not start as a primary; {way}"
        else:
            found[name] = f"{name} does not answer ({member.said})"
    return found
