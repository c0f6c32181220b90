# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Who may lead a PostgreSQL cluster next, and what that would cost. Pure functions over what was observed.

`view` makes one picture of what every member and etcd said; `plan` decides on it, and returns either what to do or raises
`Refusal`. Positions in the write-ahead log (LSN) are bytes from its beginning, as Patroni gives them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from ansible_collections.uptier.platform.plugins.module_utils.postgresql.patroni import synchronous

PRIMARY_ROLES = ("primary", "master", "leader")
LEADING_ROLES = (*PRIMARY_ROLES, "standby_leader")
SAFE_PATRONI = (4, 1)
# A standby's last confirmed position may trail what it has by what is under way; more means that it did not stream.
SLOT_SLACK = 64 * 1024 * 1024
NOT_SYNCHRONOUS = "is not the synchronous standby"


class Refusal(Exception):
    """Why nothing is done, with a machine-readable reason."""

    def __init__(self, reason: str, message: str, candidates: Sequence[Mapping[str, Any]] = ()) -> None:
        super().__init__(message)
        self.reason = reason
        self.candidates = list(candidates)


@dataclass(frozen=True)
class Member:
    """One member as it describes itself; `error` says why it does not."""

    name: str
    error: str = ""
    role: str = "unknown"
    state: str = "unknown"
    timeline: int | None = None
    received: int | None = None
    replayed: int | None = None
    location: int | None = None
    replay_paused: bool = False
    streaming_to: tuple[str, ...] = ()
    tags: Mapping[str, Any] = field(default_factory=dict)
    version: str = ""
    failsafe: bool = False

    @property
    def answers(self) -> bool:
        return not self.error

    @property
    def leads(self) -> bool:
        """It accepts writes, or feeds the other members of a standby cluster."""
        return self.answers and self.state == "running" and self.role in LEADING_ROLES

    @property
    def writable(self) -> bool:
        return self.answers and self.state == "running" and self.role in PRIMARY_ROLES


@dataclass(frozen=True)
class Cluster:
    """All members, and what etcd holds about them. Without a quorum the latter is what was last agreed on, or nothing."""

    scope: str
    members: tuple[Member, ...]
    quorum: bool = True
    quorum_seen: str = ""
    lease: str | None = None
    lease_seconds: float | None = None
    last_position: int | None = None
    growth: int = 0
    slots: Mapping[str, int] = field(default_factory=dict)
    synchronous: bool = False
    sync_leader: str | None = None
    sync_standbys: tuple[str, ...] = ()
    maximum_lag: int | None = None
    paused: bool = False
    standby_cluster: bool = False
    requested: Mapping[str, Any] = field(default_factory=dict)

    def member(self, name: str | None) -> Member | None:
        return next((member for member in self.members if member.name == name), None)

    @property
    def leader(self) -> Member | None:
        """The member that leads: it holds the lease and runs. Without a quorum, the one that says so."""
        leaders = [member for member in self.members if member.leads]
        if self.quorum:
            return next((member for member in leaders if member.name == self.lease), None)
        return leaders[0] if len(leaders) == 1 else None

    @property
    def timeline(self) -> int | None:
        """The newest history that anybody follows."""
        known = [member.timeline for member in self.members if member.timeline]
        return max(known) if known else None


@dataclass(frozen=True)
class Wish:
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


def view(scope: str, answers: Mapping[str, Mapping[str, Any] | str], stored: Mapping[str, Any]) -> Cluster:
    """Return the cluster as one picture.

    Args:
        scope: name of the cluster.
        answers: by member, what ``GET /patroni`` returned, or why it did not (a text).
        stored: what etcd holds, as `stored_state` returns it.
    """
    members = []
    for name in sorted(answers):
        said = answers[name]
        members.append(Member(name, error=said) if isinstance(said, str) else _member(name, said))
    return Cluster(scope=scope, members=tuple(members), **stored)


def _member(name: str, said: Mapping[str, Any]) -> Member:
    position = said.get("xlog") or {}
    return Member(
        name,
        role=str(said.get("role", "unknown")),
        state=str(said.get("state", "unknown")),
        timeline=said.get("timeline") or None,
        received=position.get("received_location"),
        replayed=position.get("replayed_location"),
        location=position.get("location"),
        replay_paused=bool(position.get("paused")),
        streaming_to=tuple(
            sorted({entry["application_name"] for entry in said.get("replication") or [] if entry.get("state") == "streaming"})
        ),
        tags=said.get("tags") or {},
        version=str((said.get("patroni") or {}).get("version", "")),
        failsafe=bool(said.get("failsafe_mode_is_active")),
    )


def stored_state(
    keys: Mapping[str, Any], history: Sequence[Mapping[str, Any]] = (), lease_seconds: float | None = None, quorum_seen: str = ""
) -> dict[str, Any]:
    """Return what `Cluster` takes from etcd's keys.

    Args:
        keys: decoded values below the cluster's key: leader, status, sync, config, failover.
        history: earlier values of status, oldest first; how far the log grew between two of them tells how fast it grows.
        lease_seconds: what is left of the leader's lease.
        quorum_seen: why etcd cannot agree on anything; empty when it can.
    """
    status, sync, config = (keys.get(name) or {} for name in ("status", "sync", "config"))
    positions = [entry["optime"] for entry in [*history, status] if isinstance(entry, Mapping) and isinstance(entry.get("optime"), int)]
    growth = max((later - earlier for earlier, later in zip(positions, positions[1:], strict=False)), default=0)
    standbys = sync.get("sync_standby") or ""
    return {
        "quorum": not quorum_seen,
        "quorum_seen": quorum_seen,
        "lease": keys.get("leader") or None,
        "lease_seconds": lease_seconds,
        "last_position": status.get("optime"),
        "growth": max(growth, 0),
        "slots": {name: int(at) for name, at in (status.get("slots") or {}).items() if isinstance(at, int)},
        "synchronous": synchronous(config),
        "sync_leader": sync.get("leader"),
        "sync_standbys": tuple(filter(None, standbys.split(","))) if isinstance(standbys, str) else tuple(standbys),
        "maximum_lag": config.get("maximum_lag_on_failover"),
        "paused": bool(config.get("pause")),
        "standby_cluster": bool(config.get("standby_cluster")),
        "requested": keys.get("failover") or {},
    }


# What is wrong ------------------------------------------------------------------------------------------------------------


def warnings(cluster: Cluster) -> list[str]:
    """Return dangers that are no reason to refuse."""
    found = []
    for member in cluster.members:
        version = tuple(int(part) for part in member.version.split(".")[:2] if part.isdigit())
        if version and version < SAFE_PATRONI:
            found.append(
                f"{member.name} runs Patroni {member.version}: before 3.0.3 a leader that was cut off can take its lock back and lose "
                "acknowledged rows. Run the platform's playbook, which installs 4.1."
            )
        if member.failsafe:
            found.append(f"{member.name} leads in failsafe mode: etcd does not answer it, the other members do. Bring etcd back.")
    if not cluster.quorum:
        found.append(f"etcd has no quorum ({cluster.quorum_seen}): nobody can take over while that lasts.")
    leader = cluster.leader
    if leader and leader.role != "standby_leader":
        found += [
            f"{name} says that it runs, but {leader.name} does not stream to it. Its history may differ: "
            "rebuild it with playbooks/reinit_postgresql_member.yml."
            for name in not_streaming(cluster)
        ]
    for member in cluster.members:
        if member.answers and member.timeline and cluster.timeline and member.timeline != cluster.timeline:
            found.append(f"{member.name} is on timeline {member.timeline}, the cluster on {cluster.timeline}.")
    return found


def not_streaming(cluster: Cluster) -> list[str]:
    """Return members that call themselves running replicas and that the leader does not stream to, directly or through another."""
    if cluster.leader is None:
        return []
    fed = {name for member in cluster.members if member.answers for name in member.streaming_to}
    return [
        member.name
        for member in cluster.members
        if member.answers and not member.leads and member.state in ("running", "streaming") and member.name not in fed
    ]


def judge(cluster: Cluster, wish: Wish) -> list[dict[str, Any]]:
    """Return every member but the leader with the reason why it may lead or not, the best first."""
    leader = cluster.leader
    gone = leader is None
    best = max((member.received or 0 for member in cluster.members if member.answers), default=0)
    unfed = set(not_streaming(cluster))
    judged = []
    for member in cluster.members:
        if leader and member.name == leader.name:
            continue
        loss = possible_loss(cluster, member) if gone else 0
        why = _obstacle(cluster, member, wish, best, unfed, gone)
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


def _obstacle(cluster: Cluster, member: Member, wish: Wish, best: int, unfed: set[str], gone: bool) -> str:
    if not member.answers:
        return f"does not answer: {member.error}"
    if member.leads and gone:
        return "says that it leads, without the lease"
    if member.state not in ("running", "streaming"):
        return f"is {member.state}"
    if member.tags.get("nofailover") or str(member.tags.get("failover_priority", "1")) == "0":
        return "must not lead: it is tagged nofailover"
    if member.received is None:
        return "does not say what it has received"
    if member.timeline and cluster.timeline and member.timeline != cluster.timeline:
        return f"is on timeline {member.timeline}, the cluster on {cluster.timeline}"
    if member.name in unfed:
        return "says that it runs, but the leader does not stream to it: its history may differ"
    if gone and cluster.slots and member.received - cluster.slots.get(member.name, member.received) > SLOT_SLACK:
        return "did not stream from the leader that is gone: its history may differ"
    lag = _lag(cluster, member, best)
    limit = wish.max_lag_bytes if wish.max_lag_bytes is not None else cluster.maximum_lag
    if limit is not None and lag > limit and not (gone and wish.allow_data_loss):
        return f"lacks {lag:,} bytes, the limit is {limit:,}"
    if cluster.synchronous and not gone and member.name not in cluster.sync_standbys:
        return NOT_SYNCHRONOUS
    if member.replay_paused and not gone:
        return "has its replay paused"
    return ""


def _lag(cluster: Cluster, member: Member, best: int) -> int:
    leader = cluster.leader
    head = (leader.location if leader else None) or max(best, cluster.last_position or 0)
    return max(0, head - (member.received or 0))


def possible_loss(cluster: Cluster, member: Member) -> int:
    """Return how many bytes of acknowledged writes could be missing if this member led, while the leader is gone.

    Nothing, where commits waited for this very member. Else at most what the leader is known to have written and the
    member lacks, and what it may have written after it was last heard: twice the most that the log grew between two
    of its reports.
    """
    if cluster.synchronous and member.name in cluster.sync_standbys and cluster.sync_leader != member.name:
        return 0
    best = max((other.received or 0 for other in cluster.members if other.answers), default=0)
    known = max(best, cluster.last_position or 0) - (member.received or 0)
    return max(0, known) + 2 * cluster.growth


# What to do ---------------------------------------------------------------------------------------------------------------


def plan(cluster: Cluster, wish: Wish) -> Plan:
    """Return what to do, or raise `Refusal`. Asked again in the middle of its own work, it returns what is left of it."""
    known_names(cluster.scope, cluster.members, wish)
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
            f"{' and '.join(leaders)} both say that they lead {cluster.scope}. Nothing is done: stop Patroni on the one without the lease "
            f"({cluster.lease or 'nobody'} holds it), then look at its data before it joins again.",
        )
    if not cluster.quorum:
        running = f"{leaders[0]} goes on leading" if leaders else "nobody leads"
        raise Refusal(
            "no_quorum",
            f"etcd has no quorum ({cluster.quorum_seen}); {running}. Without it nobody can be promoted safely: bring members of etcd back first.",
        )
    judged = judge(cluster, wish)
    return {"switchover": _switchover, "failover": _failover, "promoted": _promotion}[wish.state](cluster, wish, judged)


class Named(Protocol):
    """Whatever has a name."""

    @property
    def name(self) -> str: ...


def known_names(scope: str, members: Sequence[Named], wish: Wish) -> None:
    """Refuse names that no member has."""
    names = [member.name for member in members]
    for role, name in (("leader", wish.leader), ("candidate", wish.candidate)):
        if name and name not in names:
            raise Refusal("unknown_member", f"{role} is {name}, which is no member of {scope}. Members: {', '.join(names)}.")
    if wish.candidate and wish.candidate == wish.leader:
        raise Refusal("same_member", f"leader and candidate are both {wish.candidate}. Name two members, or only one of them.")


def _done(cluster: Cluster, judged: list[dict[str, Any]], message: str) -> Plan:
    leader = cluster.leader
    name = leader.name if leader else None
    return Plan("none", name, name, judged, 0, [], warnings(cluster), message)


def _switchover(cluster: Cluster, wish: Wish, judged: list[dict[str, Any]]) -> Plan:
    leader = cluster.leader
    if cluster.standby_cluster:
        raise Refusal(
            "standby_cluster",
            f"{cluster.scope} follows another cluster, nobody in it accepts writes. Use state: promoted to make it independent.",
            judged,
        )
    if leader is None:
        raise Refusal(
            "no_leader", f"Nobody leads {cluster.scope} ({describe(cluster)}). A switchover needs a leader; use state: failover.", judged
        )
    if wish.candidate == leader.name:
        return _done(cluster, judged, f"{leader.name} leads already.")
    if wish.leader and wish.leader != leader.name:
        return _done(cluster, judged, f"{wish.leader} does not lead, {leader.name} does.")
    if not wish.candidate and not wish.leader:
        raise Refusal(
            "no_direction",
            f"{leader.name} leads {cluster.scope}. Name the leader to be relieved or the candidate: without one, every further run would switch again.",
            judged,
        )
    chosen = choose(cluster.scope, wish, judged)
    steps = [f"checkpoint on {leader.name}", f"switch over from {leader.name} to {chosen['name']}"]
    steps += [f"wait until {chosen['name']} accepts writes and all members that answer stream from it"]
    return Plan("switchover", chosen["name"], leader.name, judged, 0, steps, warnings(cluster))


def _failover(cluster: Cluster, wish: Wish, judged: list[dict[str, Any]]) -> Plan:
    leader = cluster.leader
    if leader:
        if wish.leader and wish.leader != leader.name and wish.candidate in (None, leader.name):
            return _done(cluster, judged, f"{wish.leader} was relieved already, {leader.name} leads.")
        if wish.candidate == leader.name:
            return _done(cluster, judged, f"{leader.name} leads already.")
        raise Refusal(
            "leader_healthy",
            f"{leader.name} leads {cluster.scope}, runs and renews its lease. Nothing has failed: use state: switchover for a planned change.",
            judged,
        )
    stray = next((member for member in cluster.members if member.leads), None)
    if stray:
        steps = [f"wait until {stray.name}, which says that it leads, has the lease or steps down"]
        return Plan("wait", None, stray.name, judged, None, steps, warnings(cluster), steps[0])
    if cluster.lease and (cluster.lease_seconds is None or cluster.lease_seconds > 0):
        holder = cluster.member(cluster.lease)
        said = holder.error if holder and holder.error else f"it is {holder.state}" if holder else "it is no known member"
        # The lease runs out by itself if the holder is dead; nobody may lead before that.
        steps = [f"wait until the lease of {cluster.lease} runs out ({said})"]
        return Plan("wait", None, cluster.lease, judged, None, steps, warnings(cluster), steps[0])
    chosen = choose(cluster.scope, wish, judged)
    loss = chosen["data_loss_bytes"]
    if loss and not wish.allow_data_loss:
        raise Refusal(
            "data_loss",
            f"Promoting {chosen['name']} could lose up to {loss:,} bytes of acknowledged writes: commits did not wait for it, and "
            f"{wish.leader or cluster.sync_leader or 'the leader'} is gone. Bring that host back, or accept the loss with allow_data_loss: true.",
            judged,
        )
    steps = [f"fail over to {chosen['name']}", f"wait until {chosen['name']} accepts writes and all members that answer stream from it"]
    return Plan("failover", chosen["name"], None, judged, loss, steps, warnings(cluster))


def _promotion(cluster: Cluster, wish: Wish, judged: list[dict[str, Any]]) -> Plan:
    leader = cluster.leader
    if not cluster.standby_cluster:
        if leader and leader.writable:
            return _done(cluster, judged, f"{cluster.scope} follows no other cluster, {leader.name} leads it.")
        if leader is None:
            raise Refusal("no_leader", f"Nobody leads {cluster.scope} ({describe(cluster)}). Use state: failover.", judged)
        return Plan(
            "wait",
            leader.name,
            leader.name,
            judged,
            0,
            [f"wait until {leader.name} accepts writes"],
            warnings(cluster),
            "promotion under way",
        )
    if leader is None:
        raise Refusal(
            "no_leader",
            f"The standby cluster {cluster.scope} has no leader ({describe(cluster)}). It needs one that runs before it is promoted.",
            judged,
        )
    if not wish.allow_data_loss:
        raise Refusal(
            "data_loss",
            f"{cluster.scope} is a standby cluster: what its source acknowledged and {leader.name} has not received would be lost, "
            "and how much that is cannot be seen from here. Stop the source first, then accept it with allow_data_loss: true.",
            judged,
        )
    steps = ["remove standby_cluster from the dynamic configuration", f"wait until {leader.name} accepts writes"]
    return Plan("promote", leader.name, leader.name, judged, None, steps, warnings(cluster))


def choose(scope: str, wish: Wish, judged: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the candidate that was asked for, or the best one; refuse where there is none."""
    if wish.candidate:
        chosen = next(entry for entry in judged if entry["name"] == wish.candidate)
        if not chosen["eligible"]:
            raise Refusal("candidate_unfit", f"{wish.candidate} cannot lead {scope}: it {chosen['reason']}.", judged)
        return chosen
    fit = [entry for entry in judged if entry["eligible"]]
    if not fit:
        said = "; ".join(f"{entry['name']} {entry['reason']}" for entry in judged) or "there is no other member"
        raise Refusal("no_candidate", f"No member of {scope} can take over: {said}.", judged)
    return fit[0]


def passes_soon(cluster: Cluster, refusal: Refusal) -> bool:
    """Tell whether a refusal ends by itself: for some seconds after a restart or a failover no standby has been made synchronous yet."""
    return not cluster.sync_standbys and any(entry["reason"] == NOT_SYNCHRONOUS for entry in refusal.candidates)


def describe(cluster: Cluster) -> str:
    """Return one line that says what each member does."""
    return "; ".join(f"{member.name}: {member.error or f'{member.role}, {member.state}'}" for member in cluster.members)


def unfinished(cluster: Cluster, candidate: str | None, left: Sequence[str] = ()) -> list[str]:
    """Return what is still missing after a change of leaders; empty when all is well.

    Args:
        cluster: what is seen now.
        candidate: member that was to lead; None where any may.
        left: members that are not waited for.
    """
    leader = cluster.leader
    if leader is None:
        return [f"nobody leads ({describe(cluster)})"]
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
