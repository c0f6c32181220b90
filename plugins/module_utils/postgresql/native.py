# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Who may lead a streaming pair without Patroni, and what that would cost. Pure functions over what its servers said.

Nobody holds a lease here, so a silent primary may be alive: it is fenced before anybody is promoted. Nor is there a store that
remembers how far the primary had written. That nothing is missing is known in one case: a primary that is stopped cleanly sends its
standbys a last record, its shutdown checkpoint. A standby whose log ends with exactly that record has all there was.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, fields, replace
from typing import Any

from ansible_collections.uptier.platform.plugins.module_utils.postgresql.failover import Plan, Refusal, Wish, choose, known_names

MAX_LAG = 16 * 1024 * 1024
# A standby that heard its primary this recently says that the primary runs, whatever this host can reach.
HEARD = 10.0
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
class Server:
    """One server as it describes itself; `error` says why it does not. Positions are bytes from the log's beginning."""

    name: str
    error: str = ""
    recovering: bool = True
    location: int | None = None
    received: int | None = None
    replayed: int | None = None
    heard_of: int | None = None
    timeline: int | None = None
    paused: bool = False
    delay: int = 0
    streaming: bool = False
    heard: float | None = None
    feeds: int = 0
    checkpoint: int | None = None
    redo: int | None = None
    segment: int = 16 * 1024 * 1024
    system: int | None = None
    waits_for: str = ""
    lacks: tuple[str, ...] = ()

    @property
    def answers(self) -> bool:
        return not self.error

    @property
    def leads(self) -> bool:
        return self.answers and not self.recovering

    writable = leads

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
        """What it does, in a few words."""
        if self.error:
            return short(self.error)
        return f"{'primary' if self.leads else 'standby'}, timeline {self.timeline}"


@dataclass(frozen=True)
class Pair:
    """All servers of a pair; there may be more than two."""

    scope: str
    members: tuple[Server, ...]

    def member(self, name: str | None) -> Server | None:
        return next((member for member in self.members if member.name == name), None)

    @property
    def leader(self) -> Server | None:
        """The server that takes writes, if it is one."""
        leaders = [member for member in self.members if member.leads]
        return leaders[0] if len(leaders) == 1 else None

    @property
    def timeline(self) -> int | None:
        known = [member.timeline for member in self.members if member.timeline]
        return max(known) if known else None


@dataclass(frozen=True)
class Fencing:
    """How it is known that the old primary takes no more writes: a command is run, or the caller says so."""

    command: bool = False
    fenced: bool = False


def server(name: str, answer: str, error: str) -> Server:
    """Return what a server said to `LOOK`, or why it said nothing."""
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
    return "unknown" if position is None else f"{position >> 32:X}/{position & 0xFFFFFFFF:X}"


def describe(pair: Pair) -> str:
    """Return one line that says what each server does."""
    return "; ".join(f"{member.name}: {member.said}" for member in pair.members)


# What is wrong ------------------------------------------------------------------------------------------------------------


def warnings(pair: Pair) -> list[str]:
    """Return dangers that are no reason to refuse."""
    found = []
    leader = pair.leader
    for member in pair.members:
        if member.error and not member.silent and leader:
            found.append(f"{member.name} runs but cannot be looked at ({member.said}): whether it takes writes is not known.")
        if member.answers and not member.leads and member.waits_for:
            found.append(
                f"{member.name} has synchronous_standby_names = '{member.waits_for}': when it leads, commits wait until such a standby "
                "streams from it. Without one, empty the setting on it and reload."
            )
    return found


def old_leader(pair: Pair, wish: Wish) -> str | None:
    """Return who led, while nobody does: who is named, or the only server that does not answer. None where all answer."""
    away = [member.name for member in pair.members if not member.answers]
    if wish.leader or len(away) == 1:
        return wish.leader or away[0]
    if away:
        raise Refusal(
            "leader_unknown",
            f"{' and '.join(away)} do not answer, and any of them may have led {pair.scope} ({describe(pair)}). Name the one that did: leader.",
        )
    return None


def judge(pair: Pair, wish: Wish) -> list[dict[str, Any]]:
    """Return every server but the leader with the reason why it may lead or not, the best first."""
    leader = pair.leader
    best = max((member.received or 0 for member in pair.members if member.answers and not member.leads), default=0)
    head = (leader.location if leader else None) or best
    judged = []
    for member in pair.members:
        if leader and member.name == leader.name:
            continue
        why = _obstacle(pair, member, wish, head)
        judged.append(
            {
                "name": member.name,
                "eligible": not why,
                "reason": why or "may lead",
                "received": member.received,
                "replayed": member.replayed,
                "timeline": member.timeline,
                "data_loss_bytes": 0 if not why and (leader or (wish.state == "switchover" and member.closed)) else None,
            }
        )
    judged.sort(key=lambda entry: (not entry["eligible"], -(entry["received"] or 0), -(entry["replayed"] or 0), entry["name"]))
    return judged


def _obstacle(pair: Pair, member: Server, wish: Wish, head: int) -> str:
    leader = pair.leader
    if not member.answers:
        return f"does not answer: {member.said}" if member.silent else f"cannot be looked at: {member.said}"
    if member.name == wish.leader:
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
    limit = MAX_LAG if wish.max_lag_bytes is None else wish.max_lag_bytes
    if lag > limit and (leader or not wish.allow_data_loss):
        return f"lacks {lag:,} bytes, the limit is {limit:,}"
    return ""


# What to do ---------------------------------------------------------------------------------------------------------------


def plan(pair: Pair, wish: Wish, fencing: Fencing) -> Plan:
    """Return what to do, or raise `Refusal`. Asked again in the middle of its own work, it returns what is left of it."""
    known_names(pair.scope, pair.members, wish)
    if wish.state == "promoted":
        raise Refusal(
            "wrong_state", f"state: promoted is for standby clusters of Patroni. In {pair.scope}, use state: switchover while the primary "
            "runs and state: failover when it is gone.",
        )  # fmt: skip
    one_cluster(pair)
    judged = judge(pair, wish)
    if not any(member.answers for member in pair.members):
        raise Refusal(
            "nothing_known",
            f"No member of {pair.scope} answers ({describe(pair)}). Start one of them, or check the network and the login.",
            judged,
        )
    leader = pair.leader
    if leader:
        return _led(pair, leader, wish, fencing, judged)
    return _unled(pair, wish, fencing, judged)


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
    return Plan("none", leader.name, leader.name, judged, 0, [], warnings(pair), message)


def _led(pair: Pair, leader: Server, wish: Wish, fencing: Fencing, judged: list[dict[str, Any]]) -> Plan:
    if wish.candidate == leader.name:
        return _done(pair, leader, judged, f"{leader.name} leads already.")
    if wish.leader and wish.leader != leader.name and (wish.state == "switchover" or not wish.candidate):
        return _done(pair, leader, judged, f"{wish.leader} does not lead, {leader.name} does.")
    if wish.state == "failover":
        raise Refusal(
            "leader_healthy",
            f"{leader.name} leads {pair.scope} and answers. Nothing has failed: use state: switchover for a planned change.",
            judged,
        )
    if not wish.candidate and not wish.leader:
        raise Refusal(
            "no_direction",
            f"{leader.name} leads {pair.scope}. Name the leader to be relieved or the candidate: without one, every further run would switch again.",
            judged,
        )
    chosen = choose(pair.scope, wish, judged)
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
    return Plan("switchover", chosen["name"], leader.name, judged, 0, steps, warnings(pair))


def _promotion(name: str) -> list[str]:
    return [f"promote {name}", f"wait until {name} accepts writes"]


def _unled(pair: Pair, wish: Wish, fencing: Fencing, judged: list[dict[str, Any]]) -> Plan:
    waiting = _alive(pair, wish, judged)
    if waiting:
        return waiting
    old = old_leader(pair, wish)
    chosen = choose(pair.scope, wish, judged)
    standby = pair.member(chosen["name"])
    finishing = wish.state == "switchover" and standby is not None and standby.closed
    if wish.state == "switchover" and not finishing:
        raise Refusal(
            "no_leader",
            f"Nobody leads {pair.scope} ({describe(pair)}), and the log of {chosen['name']} does not end with a clean stop of its primary. "
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
    if loss is None and not wish.allow_data_loss:
        raise Refusal("data_loss", f"{_unknown_loss(pair, standby, old)} or accept the loss with allow_data_loss: true.", judged)
    name = old or "the old primary"
    steps = [f"fence {name} by the command, and see that it stays away" if fencing.command else f"take it as said that {name} is fenced"]
    return Plan(
        "finish" if finishing else "failover", chosen["name"], old, judged, loss, [*steps, *_promotion(chosen["name"])], warnings(pair)
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


def _alive(pair: Pair, wish: Wish, judged: list[dict[str, Any]]) -> Plan | None:
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
        if wish.leader in (None, member.name):
            return _wait(pair, judged, member.name, f"wait until {member.name} serves or is silent ({member.said})")
    hearing = [
        member for member in pair.members if member.answers and member.streaming and member.heard is not None and member.heard < HEARD
    ]
    # Standbys may stream from standbys; what these do not feed, a primary feeds.
    if len(hearing) > sum(member.feeds for member in pair.members if member.answers):
        away = old_leader(pair, wish) or "a primary that is no member"
        return _wait(pair, judged, away, f"wait until {hearing[0].name} hears nothing from {away} for {HEARD:g} s")
    return None


def _wait(pair: Pair, judged: list[dict[str, Any]], leader: str, step: str) -> Plan:
    return Plan("wait", None, leader, judged, None, [step], warnings(pair), step)


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
