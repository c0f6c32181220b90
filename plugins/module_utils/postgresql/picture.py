# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A PostgreSQL cluster as it is now: its members, who leads, on which timeline, how far each has come. Under Patroni, or a streaming
pair without it. Nothing here asks or decides: it makes one picture of what was answered.

`view` and `stored_state` read what Patroni's members and etcd say, `server` what a server says to `LOOK`. Positions in the write-ahead
log (LSN) are bytes from its beginning.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

from ansible_collections.uptier.platform.plugins.module_utils.postgresql.patroni import PRIMARY_ROLES, leading, synchronous
from ansible_collections.uptier.platform.plugins.module_utils.postgresql.wal import SEGMENT_BYTES, lsn_text

SAFE_PATRONI = (4, 1)


@dataclass(frozen=True)
class AnyMember(ABC):
    """What is known of a member, whoever was asked; `error` says why it does not answer."""

    name: str
    error: str = ""
    timeline: int | None = None
    location: int | None = None
    received: int | None = None
    replayed: int | None = None

    @property
    def answers(self) -> bool:
        return not self.error

    @property
    @abstractmethod
    def leads(self) -> bool:
        """It accepts writes, or feeds the other members of a standby cluster."""

    @property
    @abstractmethod
    def writable(self) -> bool:
        """It accepts writes."""

    @property
    @abstractmethod
    def said(self) -> str:
        """What it does, in a few words."""


@dataclass(frozen=True)
class Picture:
    """All members of a cluster at one moment."""

    scope: str
    members: tuple[Any, ...]

    def member(self, name: str | None) -> Any:
        """Return a member, or None where none has this name."""
        return next((member for member in self.members if member.name == name), None)

    @property
    def leader(self) -> Any:
        """The member that leads, or None. This is the one place that says so."""
        leaders = [member for member in self.members if member.leads]
        return leaders[0] if len(leaders) == 1 else None

    @property
    def timeline(self) -> int | None:
        """The newest history that anybody follows."""
        known = [member.timeline for member in self.members if member.timeline]
        return max(known) if known else None

    def describe(self) -> str:
        """Return one line that says what each member does."""
        return "; ".join(f"{member.name}: {member.said}" for member in self.members)


# Under Patroni ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Member(AnyMember):
    """One member as its Patroni describes it."""

    role: str = "unknown"
    state: str = "unknown"
    replay_paused: bool = False
    streaming_to: tuple[str, ...] = ()
    tags: Mapping[str, Any] = field(default_factory=dict)
    version: str = ""
    failsafe: bool = False

    @property
    def leads(self) -> bool:
        return self.answers and leading(self.role, self.state)

    @property
    def writable(self) -> bool:
        return self.leads and self.role in PRIMARY_ROLES

    @property
    def said(self) -> str:
        return self.error or f"{self.role}, {self.state}"


@dataclass(frozen=True)
class Cluster(Picture):
    """All members, and what etcd holds about them. Without a quorum the latter is what was last agreed on, or nothing."""

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
    # In quorum commit mode, how many of these and of their leader have to be seen beside a candidate: among so many, somebody has each
    # acknowledged commit. 0 where every commit waits for all of them.
    sync_quorum: int = 0
    maximum_lag: int | None = None
    paused: bool = False
    standby_cluster: bool = False
    requested: Mapping[str, Any] = field(default_factory=dict)

    @property
    def leader(self) -> Member | None:
        """The member that leads: it holds the lease and runs. Without a quorum, the one that says so."""
        if self.quorum:
            return next((member for member in self.members if member.leads and member.name == self.lease), None)
        return super().leader

    def lag(self, member: Member) -> int:
        """Return how many bytes a member lacks of what the leader has, or, while nobody leads, of what anybody is known to have had."""
        leader = self.leader
        best = max((other.received or 0 for other in self.members if other.answers), default=0)
        head = (leader.location if leader else None) or max(best, self.last_position or 0)
        return max(0, head - (member.received or 0))

    def not_streaming(self) -> list[str]:
        """Return members that call themselves running replicas and that the leader does not stream to, directly or through another."""
        if self.leader is None:
            return []
        fed = {name for member in self.members if member.answers for name in member.streaming_to}
        return [
            member.name
            for member in self.members
            if member.answers and not member.leads and member.state in ("running", "streaming") and member.name not in fed
        ]

    def dangers(self) -> list[str]:
        """Return dangers that are no reason to refuse."""
        found = []
        for member in self.members:
            version = tuple(int(part) for part in member.version.split(".")[:2] if part.isdigit())
            if version and version < SAFE_PATRONI:
                found.append(
                    f"{member.name} runs Patroni {member.version}: before 3.0.3 a leader that was cut off can take its lock back and lose "
                    "acknowledged rows. Run the platform's playbook, which installs 4.1."
                )
            if member.failsafe:
                found.append(f"{member.name} leads in failsafe mode: etcd does not answer it, the other members do. Bring etcd back.")
        if not self.quorum:
            found.append(f"etcd has no quorum ({self.quorum_seen}): nobody can take over while that lasts.")
        leader = self.leader
        if leader and leader.role != "standby_leader":
            found += [
                f"{name} says that it runs, but {leader.name} does not stream to it. Its history may differ: "
                "rebuild it with playbooks/reinit_postgresql_member.yml."
                for name in self.not_streaming()
            ]
        for member in self.members:
            if member.answers and member.timeline and self.timeline and member.timeline != self.timeline:
                found.append(f"{member.name} is on timeline {member.timeline}, the cluster on {self.timeline}.")
        return found


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
        "sync_quorum": int(sync.get("quorum") or 0),
        "maximum_lag": config.get("maximum_lag_on_failover"),
        "paused": bool(config.get("pause")),
        "standby_cluster": bool(config.get("standby_cluster")),
        "requested": keys.get("failover") or {},
    }


# Without Patroni ----------------------------------------------------------------------------------------------------------

# A shutdown checkpoint takes 120 bytes of the log, and a header more where it crosses a page.
CLOSING = 120
PAGE, SHORT_HEADER, LONG_HEADER = 8192, 24, 40


# Only where all of these words are found, nothing answers; whatever else was said, a server or something before it said it.
SILENT = (
    "Connection refused",
    "timeout expired",
    "timed out",
    "No route to host",
    "Network is unreachable",
    "Host is unreachable",
    "Host is down",
    "no answer within",
)
PASSING = ("starting up", "shutting down", "not yet accepting connections", "recovery mode", "closed the connection unexpectedly")


LOOK = """
SELECT json_build_object(
  'recovering', here.recovering,
  'location', CASE WHEN NOT here.recovering THEN pg_current_wal_lsn() - '0/0'::pg_lsn END,
  'received', greatest(pg_last_wal_receive_lsn(), pg_last_wal_replay_lsn()) - '0/0'::pg_lsn,
  'replayed', pg_last_wal_replay_lsn() - '0/0'::pg_lsn,
  'heard_of', walreceiver.latest_end_lsn - '0/0'::pg_lsn,
  'timeline', CASE WHEN here.recovering
    THEN greatest(walreceiver.received_tli, control.timeline_id, (SELECT min_recovery_end_timeline FROM pg_control_recovery()))
    ELSE ('x' || substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8))::bit(32)::int END,
  'paused', CASE WHEN here.recovering THEN pg_is_wal_replay_paused() ELSE false END,
  'delay', (SELECT setting::bigint FROM pg_settings WHERE name = 'recovery_min_apply_delay'),
  'streaming', coalesce(walreceiver.status = 'streaming', false),
  'heard', extract(epoch FROM clock_timestamp() - walreceiver.last_msg_receipt_time),
  'feeds', (SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming'),
  'checkpoint', control.checkpoint_lsn - '0/0'::pg_lsn,
  'redo', control.redo_lsn - '0/0'::pg_lsn,
  'segment', (SELECT setting::bigint FROM pg_settings WHERE name = 'wal_segment_size'),
  'system', (SELECT system_identifier FROM pg_control_system()),
  'waits_for', current_setting('synchronous_standby_names'),
  'lacks', array_remove(ARRAY[
    CASE WHEN NOT me.rolsuper AND NOT coalesce((SELECT pg_has_role(oid, 'USAGE') FROM pg_roles WHERE rolname = 'pg_monitor'), false)
      THEN 'the role pg_monitor' END,
    CASE WHEN NOT me.rolsuper AND NOT coalesce((SELECT pg_has_role(oid, 'USAGE') FROM pg_roles WHERE rolname = 'pg_checkpoint'), false)
      THEN 'the role pg_checkpoint' END,
    CASE WHEN NOT has_function_privilege('pg_promote(boolean, integer)', 'EXECUTE') THEN 'EXECUTE on pg_promote' END], NULL))
FROM (SELECT pg_is_in_recovery() AS recovering) AS here
  JOIN pg_roles AS me ON me.rolname = current_user
  CROSS JOIN pg_control_checkpoint() AS control
  LEFT JOIN pg_stat_wal_receiver AS walreceiver ON true
"""


@dataclass(frozen=True)
class Server(AnyMember):
    """One server as it describes itself."""

    recovering: bool = True
    heard_of: int | None = None
    paused: bool = False
    delay: int = 0
    streaming: bool = False
    heard: float | None = None
    feeds: int = 0
    checkpoint: int | None = None
    redo: int | None = None
    segment: int = SEGMENT_BYTES
    system: int | None = None
    waits_for: str = ""
    lacks: tuple[str, ...] = ()

    @property
    def leads(self) -> bool:
        return self.answers and not self.recovering

    @property
    def writable(self) -> bool:
        return self.leads

    @property
    def silent(self) -> bool:
        """Nothing answers at its address. A server that turns us away is not silent, it runs."""
        said = [line for line in self.error.splitlines() if line.strip() and not line.startswith("\t")]
        return bool(said) and all(any(words in line for words in SILENT) for line in said)

    @property
    def passing(self) -> bool:
        """It runs and will answer, or be silent, soon."""
        return not self.silent and any(words in self.error for words in PASSING)

    @property
    def closed(self) -> bool:
        """Its log ends with the shutdown checkpoint of its primary, and all of it is replayed.

        A shutdown checkpoint is the only one that begins where it stands. Known once a checkpoint was made on the standby.
        """
        if not self.answers or not self.recovering or self.checkpoint is None or self.received is None:
            return False
        return self.redo == self.checkpoint and self.received == self.replayed == closing_end(self.checkpoint, self.segment)

    @property
    def said(self) -> str:
        if self.error:
            return short(self.error)
        return f"{'primary' if self.leads else 'standby'}, timeline {self.timeline}"


@dataclass(frozen=True)
class Pair(Picture):
    """All servers of a pair; there may be more than two."""

    members: tuple[Server, ...]

    def dangers(self) -> list[str]:
        """Return dangers that are no reason to refuse."""
        found = []
        leader = self.leader
        for member in self.members:
            if member.error and not member.silent and leader:
                found.append(f"{member.name} runs but cannot be inspected ({member.said}): whether it takes writes is not known.")
            if member.answers and not member.leads and member.waits_for:
                found.append(
                    f"{member.name} has synchronous_standby_names = '{member.waits_for}': when it leads, commits wait until such a standby "
                    "streams from it. Without one, empty the setting on it and reload."
                )
        return found


def server(name: str, answer: str, error: str) -> Server:
    """Return what a server said to `LOOK`, or why it printed nothing."""
    if error:
        return Server(name, error=error)
    try:
        said = json.loads(answer)
        known = {field.name: said[field.name] for field in fields(Server) if said.get(field.name) is not None}
    except (ValueError, AttributeError):
        return Server(name, error=f"answered {answer[:100]!r} instead of its state")
    return replace(Server(name), **{**known, "lacks": tuple(known.get("lacks", ()))})


def closing_end(start: int, segment: int) -> int:
    """Return where a shutdown checkpoint ends that begins at `start`: it may run on behind the next page's header."""
    room = PAGE - start % PAGE
    if room >= CLOSING:
        return start + CLOSING
    following = start + room
    return following + (SHORT_HEADER if following % segment else LONG_HEADER) + CLOSING - room


def short(error: str) -> str:
    """Return what is wrong, without the address."""
    line = next((line for line in error.splitlines() if line.strip()), "")
    return line.rsplit("failed: ", 1)[-1].removeprefix("psql: error: ")[:300]


def lsn(position: int | None) -> str:
    """Return a position as PostgreSQL writes it."""
    return "unknown" if position is None else lsn_text(position)
