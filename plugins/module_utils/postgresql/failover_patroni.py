# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Who may lead a cluster under Patroni next, and what that would cost. Pure functions over one picture of it.

`plan` returns what to do, or raises `Refusal`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ansible_collections.uptier.platform.plugins.module_utils.postgresql.errors import Refusal
from ansible_collections.uptier.platform.plugins.module_utils.postgresql.failover import Plan, Request, choose, known_names
from ansible_collections.uptier.platform.plugins.module_utils.postgresql.picture import Cluster, Member

# A standby's last confirmed position may trail what it has by what is under way; more means that it did not stream.
SLOT_SLACK = 64 * 1024 * 1024
NOT_SYNCHRONOUS = "is not the synchronous standby"
AHEAD = "has replayed more than the leader sent it"


def judge(cluster: Cluster, request: Request) -> list[dict[str, Any]]:
    """Return every member but the leader with the reason why it may lead or not, the best first."""
    leader = cluster.leader
    gone = leader is None
    unfed = set(cluster.not_streaming())
    judged = []
    for member in cluster.members:
        if leader and member.name == leader.name:
            continue
        loss = possible_loss(cluster, member) if gone else 0
        why = _obstacle(cluster, member, request, unfed, gone)
        judged.append(
            {
                "name": member.name,
                "eligible": not why,
                "reason": why or "may lead",
                "synchronous": member.name in cluster.sync_standbys,
                "received": member.received,
                "replayed": member.replayed,
                "timeline": member.timeline,
                "data_loss_bytes": loss if member.answers else None,
            }
        )
    priority = {member.name: int(member.tags.get("failover_priority", 1) or 0) for member in cluster.members}
    judged.sort(
        key=lambda entry: (
            not entry["eligible"],
            not entry["synchronous"],
            -(entry["received"] or 0),
            -(entry["replayed"] or 0),
            -priority[entry["name"]],
            entry["name"],
        )
    )
    return judged


def _obstacle(cluster: Cluster, member: Member, request: Request, unfed: set[str], gone: bool) -> str:
    if not member.answers:
        return f"does not answer: {member.error}"
    if member.leads and gone:
        return "claims to lead, but does not hold the lease"
    if member.state not in ("running", "streaming"):
        return f"is {member.state}"
    if member.tags.get("nofailover") or str(member.tags.get("failover_priority", "1")) == "0":
        return "must not lead: it is tagged nofailover"
    if member.received is None:
        return "does not report what it has received"
    if member.timeline and cluster.timeline and member.timeline != cluster.timeline:
        return f"is on timeline {member.timeline}, the cluster on {cluster.timeline}"
    if member.name in unfed:
        return "says that it runs, but the leader does not stream to it: its history may differ"
    if gone and cluster.slots and member.received - cluster.slots.get(member.name, member.received) > SLOT_SLACK:
        return "did not stream from the lost leader: its history may differ"
    if not gone and member.received is not None and (member.replayed or 0) > member.received:
        # Promoted, such a member PANICs ("requested timeline is not a child"), and the old leader has stopped by then.
        return f"{AHEAD} ({member.replayed:,} bytes, {member.received:,} received): its history may differ"
    lag = cluster.lag(member)
    limit = request.max_lag_bytes if request.max_lag_bytes is not None else cluster.maximum_lag
    if limit is not None and lag > limit and not (gone and request.allow_data_loss):
        return f"lacks {lag:,} bytes, the limit is {limit:,}"
    if cluster.synchronous and not gone and member.name not in cluster.sync_standbys:
        return NOT_SYNCHRONOUS
    if member.replay_paused and not gone:
        return "has its replay paused"
    return ""


def possible_loss(cluster: Cluster, member: Member) -> int:
    """Return how many bytes of acknowledged writes could be missing if this member led, while the leader is gone.

    Nothing, where commits waited for this very member. Where they waited for any of several, what it lacks of the most that
    one of them has, if so many are seen that somebody among them has each commit. Else at most what the leader is known to
    have written and the member lacks, and what it may have written after it was last heard: twice the most that the log grew
    between two of its reports.
    """
    if cluster.synchronous and member.name in cluster.sync_standbys and cluster.sync_leader != member.name:
        if not cluster.sync_quorum:
            return 0
        voters = seen_voters(cluster, member)
        if len(voters) >= cluster.sync_quorum:
            return max(0, max(voter.received or 0 for voter in voters) - (member.received or 0))
    best = max((other.received or 0 for other in cluster.members if other.answers), default=0)
    known = max(best, cluster.last_position or 0) - (member.received or 0)
    return max(0, known) + 2 * cluster.growth


def seen_voters(cluster: Cluster, member: Member) -> list[Member]:
    """Return the other members that may have acknowledged a commit and whose position is known, in quorum commit mode."""
    voters = {*cluster.sync_standbys, cluster.sync_leader} - {member.name}
    return [
        other
        for other in cluster.members
        if other.name in voters and other.answers and other.received is not None and other.timeline in (None, cluster.timeline)
    ]


def _unsafe(cluster: Cluster, request: Request, name: str) -> str:
    """Return why a member may lack acknowledged writes, and who could tell or has them."""
    member = cluster.member(name)
    if cluster.sync_quorum and member and name in cluster.sync_standbys:
        seen = {voter.name for voter in seen_voters(cluster, member)}
        silent = [other for other in cluster.sync_standbys if other != name and other not in seen]
        if len(seen) < cluster.sync_quorum:
            return f"commits waited for any of {', '.join(cluster.sync_standbys)}, and {', '.join(silent)} cannot be asked. Bring that host back"
        return f"another one of {', '.join(cluster.sync_standbys)}, which commits waited for, has more. Let that one lead"
    gone = request.leader or cluster.sync_leader or "the leader"
    return f"commits did not wait for it, and {gone} is gone. Bring that host back"


# What to do ---------------------------------------------------------------------------------------------------------------


def plan(cluster: Cluster, request: Request) -> Plan:
    """Return what to do, or raise `Refusal`. Asked again in the middle of its own work, it returns what is left of it."""
    known_names(cluster.scope, cluster.members, request)
    answering = [member for member in cluster.members if member.answers]
    if not answering:
        said = "; ".join(f"{member.name}: {member.error}" for member in cluster.members)
        raise Refusal(
            "nothing_known", f"No member of {cluster.scope} answers ({said}). Start Patroni on one of them, or check the network."
        )
    leaders = [member.name for member in answering if member.leads]
    if len(leaders) > 1:
        raise Refusal(
            "two_leaders",
            f"{' and '.join(leaders)} both claim to lead {cluster.scope}. Nothing was done: stop Patroni on the one without the lease "
            f"({cluster.lease or 'nobody'} holds it), then examine its data before it rejoins.",
        )
    if not cluster.quorum:
        running = f"{leaders[0]} keeps leading" if leaders else "nobody leads"
        raise Refusal(
            "no_quorum",
            f"etcd has no quorum ({cluster.quorum_seen}); {running}. Without it nobody can be promoted safely: bring members of etcd back first.",
        )
    judged = judge(cluster, request)
    return {"switchover": _switchover, "failover": _failover, "promoted": _promotion}[request.state](cluster, request, judged)


def _done(cluster: Cluster, judged: list[dict[str, Any]], message: str) -> Plan:
    leader = cluster.leader
    name = leader.name if leader else None
    return Plan("none", name, name, judged, 0, [], cluster.dangers(), message)


def _switchover(cluster: Cluster, request: Request, judged: list[dict[str, Any]]) -> Plan:
    leader = cluster.leader
    if cluster.standby_cluster:
        raise Refusal(
            "standby_cluster",
            f"{cluster.scope} follows another cluster, nobody in it accepts writes. Use state: promoted to make it independent.",
            judged,
        )
    if leader is None:
        raise Refusal(
            "no_leader", f"Nobody leads {cluster.scope} ({cluster.describe()}). A switchover needs a leader; use state: failover.", judged
        )
    if request.candidate == leader.name:
        return _done(cluster, judged, f"{leader.name} leads already.")
    if request.leader and request.leader != leader.name:
        return _done(cluster, judged, f"{request.leader} does not lead, {leader.name} does.")
    if not request.candidate and not request.leader:
        raise Refusal(
            "no_direction",
            f"{leader.name} leads {cluster.scope}. Name the leader to be replaced or the candidate: without one, every further run would switch again.",
            judged,
        )
    chosen = choose(cluster.scope, request, judged)
    steps = [f"checkpoint on {leader.name}", f"switch over from {leader.name} to {chosen['name']}"]
    steps += [f"wait until {chosen['name']} accepts writes and all members that answer stream from it"]
    return Plan("switchover", chosen["name"], leader.name, judged, 0, steps, cluster.dangers())


def _failover(cluster: Cluster, request: Request, judged: list[dict[str, Any]]) -> Plan:
    leader = cluster.leader
    if leader:
        if request.leader and request.leader != leader.name and request.candidate in (None, leader.name):
            return _done(cluster, judged, f"{request.leader} was replaced already, {leader.name} leads.")
        if request.candidate == leader.name:
            return _done(cluster, judged, f"{leader.name} leads already.")
        raise Refusal(
            "leader_healthy",
            f"{leader.name} leads {cluster.scope}, runs and renews its lease. Nothing has failed: use state: switchover for a planned change.",
            judged,
        )
    stray = next((member for member in cluster.members if member.leads), None)
    if stray:
        steps = [f"wait until {stray.name}, which claims to lead, has the lease or steps down"]
        return Plan("wait", None, stray.name, judged, None, steps, cluster.dangers(), steps[0])
    if cluster.lease and (cluster.lease_seconds is None or cluster.lease_seconds > 0):
        holder = cluster.member(cluster.lease)
        said = holder.error if holder and holder.error else f"it is {holder.state}" if holder else "it is not a known member"
        # The lease runs out by itself if the holder is dead; nobody may lead before that.
        steps = [f"wait until the lease of {cluster.lease} runs out ({said})"]
        return Plan("wait", None, cluster.lease, judged, None, steps, cluster.dangers(), steps[0])
    chosen = choose(cluster.scope, request, judged)
    loss = chosen["data_loss_bytes"]
    if loss and not request.allow_data_loss:
        raise Refusal(
            "data_loss",
            f"Promoting {chosen['name']} could lose up to {loss:,} bytes of acknowledged writes: {_unsafe(cluster, request, chosen['name'])}, "
            "or accept the loss with allow_data_loss: true.",
            judged,
        )
    steps = [f"fail over to {chosen['name']}", f"wait until {chosen['name']} accepts writes and all members that answer stream from it"]
    return Plan("failover", chosen["name"], None, judged, loss, steps, cluster.dangers())


def _promotion(cluster: Cluster, request: Request, judged: list[dict[str, Any]]) -> Plan:
    leader = cluster.leader
    if not cluster.standby_cluster:
        if leader and leader.writable:
            return _done(cluster, judged, f"{cluster.scope} follows no other cluster, {leader.name} leads it.")
        if leader is None:
            raise Refusal("no_leader", f"Nobody leads {cluster.scope} ({cluster.describe()}). Use state: failover.", judged)
        return Plan(
            "wait",
            leader.name,
            leader.name,
            judged,
            0,
            [f"wait until {leader.name} accepts writes"],
            cluster.dangers(),
            "promotion under way",
        )
    if leader is None:
        raise Refusal(
            "no_leader",
            f"The standby cluster {cluster.scope} has no leader ({cluster.describe()}). It needs one that runs before it is promoted.",
            judged,
        )
    if not request.allow_data_loss:
        raise Refusal(
            "data_loss",
            f"{cluster.scope} is a standby cluster: what its source acknowledged and {leader.name} has not received would be lost, "
            "and how much that is cannot be seen from here. Stop the source first, then accept it with allow_data_loss: true.",
            judged,
        )
    steps = ["remove standby_cluster from the dynamic configuration", f"wait until {leader.name} accepts writes"]
    return Plan("promote", leader.name, leader.name, judged, None, steps, cluster.dangers())


def passes_soon(cluster: Cluster, refusal: Refusal) -> bool:
    """Tell whether a refusal ends by itself.

    For some seconds after a restart or a failover no standby has been made synchronous yet, and a standby that just began to
    stream is sent its last segment once more.
    """
    reasons = [entry["reason"] for entry in refusal.candidates]
    return any(reason.startswith(AHEAD) for reason in reasons) or (not cluster.sync_standbys and NOT_SYNCHRONOUS in reasons)


def unfinished(cluster: Cluster, candidate: str | None, left: Sequence[str] = ()) -> list[str]:
    """Return what is still missing after a change of leaders; empty when all is well.

    Args:
        cluster: what is seen now.
        candidate: member that was to lead; None where any may.
        left: members that are not waited for.
    """
    leader = cluster.leader
    if leader is None:
        return [f"nobody leads ({cluster.describe()})"]
    if candidate and leader.name != candidate:
        return [f"{leader.name} leads instead of {candidate}"]
    if not leader.writable:
        return [f"{leader.name} is {leader.role} and accepts no writes"]
    missing = []
    for member in cluster.members:
        if member.name == leader.name or member.name in left:
            continue
        if not member.answers:
            missing.append(f"{member.name} does not answer")
        elif member.name not in {name for other in cluster.members for name in other.streaming_to}:
            missing.append(f"{member.name} does not stream ({member.role}, {member.state}, timeline {member.timeline})")
    return missing
