# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Bringing a whole cluster back from its repository: from which backup along which history, and what each member does next. Pure functions.

`choose` says from where, or refuses. `next_step` says what one host does next for a goal that all hosts reach together; it is asked again
after each step and looks only at what is there, so that a run that was killed goes on where it was.
"""

from __future__ import annotations

import datetime
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ansible_collections.uptier.platform.plugins.module_utils.postgresql.backup_info import (
    Backup,
    Repository,
    TargetError,
    backup_for,
    moment,
    refuse_unusable,
    sql_moment,
)
from ansible_collections.uptier.platform.plugins.module_utils.postgresql.errors import Refusal
from ansible_collections.uptier.platform.plugins.module_utils.postgresql.wal import SEGMENT_BYTES, lsn, lsn_text, parse_history

KINDS = ("latest", "time", "lsn", "label")
# Beside the files of the backup: WAL of the recovery, and what the platform writes until somebody looks.
SPARE_SHARE, SPARE_BYTES = 0.05, 512 * 1024 * 1024
# So many segments of a running leader may wait for the archive without being a fault of it.
WAITING_SEGMENTS = 3

STOPPED, ASIDE, READY, SERVING = "stopped", "aside", "ready", "serving"
GOALS = (STOPPED, ASIDE, READY, SERVING)


@dataclass(frozen=True)
class Request:
    """Which point in time is wanted: `value` is a moment with its zone, a position or a label; `timeline` a history other than the newest."""

    kind: str = "latest"
    value: str = ""
    timeline: int | None = None
    repository: int = 1

    def words(self) -> str:
        """Return it for people."""
        what = {"latest": "the end of the archive", "label": f"the end of the backup {self.value}", "lsn": f"the position {self.value}"}
        along = f" on timeline {self.timeline}" if self.timeline else ""
        source = f" in repository {self.repository}" if self.repository != 1 else ""
        return what.get(self.kind, utc(moment(self.value)) if self.kind == "time" else self.kind) + along + source


@dataclass(frozen=True)
class Choice:
    """From where a request is served."""

    label: str
    repository: int
    timeline: int  # the history that is followed; a new one begins where it ends
    size_bytes: int
    arguments: tuple[str, ...]  # of `pgbackrest restore`
    message: str


@dataclass(frozen=True)
class Seen:
    """What is there on one member."""

    blocked: bool = False  # Patroni cannot be started, by us
    patroni: bool = False  # it runs
    server: bool = False  # PostgreSQL runs in the data directory, not as ours
    aside: bool = False  # this restore has set the old data aside, or found that there was none
    copying: str = ""  # the choice for which files are copied at this moment
    copied: str = ""  # the choice for which they all were
    recovering: bool = False  # our own server runs on them
    signal: bool = False  # it has not reached the target yet
    clean: bool = False  # it was stopped in good order

    @property
    def handed_over(self) -> bool:
        """Patroni has what was restored here: `blocked` is the first thing that is done and the last one that is undone."""
        return self.aside and not self.blocked


def utc(seconds: float) -> str:
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def digest(choice: Choice) -> str:
    """Return a choice as one word, by which a later run knows what the files on a host are."""
    return " ".join([choice.label, *choice.arguments])


# From where ---------------------------------------------------------------------------------------------------------------


def path_to(timeline: int, histories: Mapping[int, str]) -> list[tuple[int, int | None]]:
    """Return the timelines that lead to one, oldest first, each with its end; the last one has none.

    Raises:
        Refusal: its history file is not in the repository (no_history), or cannot be read (history_damaged).
    """
    if timeline == 1:
        return [(1, None)]
    if timeline not in histories:
        raise Refusal(
            "no_history",
            f"The repository has no history of timeline {timeline} ({timeline:08X}.history), so nothing says which backup leads to it. "
            f"Timelines with a history: {', '.join(map(str, sorted(histories))) or 'none'}. Restore a backup by its label instead.",
        )
    try:
        return [*parse_history(histories[timeline]), (timeline, None)]
    except ValueError as error:
        raise Refusal(
            "history_damaged",
            f"The history of timeline {timeline} in the repository ({timeline:08X}.history) cannot be read: {error}. A member may have it in its "
            "pg_wal: push that one with `pgbackrest archive-push`. Or restore a backup by its label, which follows no history.",
        ) from None


def leads_there(backup: Backup, path: Sequence[tuple[int, int | None]]) -> bool:
    """Tell whether a backup lies on a way: it ended on one of its timelines, before that one was left."""
    ended = int((backup.wal_stop or "0")[:8], 16)
    for timeline, left in path:
        if timeline == ended:
            return left is None or (bool(backup.lsn_stop) and lsn(backup.lsn_stop) <= left)
    return False


def newest_segment(found: Repository, archive_id: str) -> str:
    return max((archive.newest for archive in found.archives if archive.archive_id == archive_id), default="")


def segment_end(name: str) -> int:
    """Return the position behind a segment."""
    return (int(name[8:16], 16) << 32) + (int(name[16:24], 16) + 1) * SEGMENT_BYTES


def archive_of(found: Repository) -> tuple[str, int]:
    """Return the directory of the cluster's WAL in the repository, and the newest timeline of which it has a segment.

    Raises:
        TargetError: the repository cannot be used.
        Refusal: it has no backup.
    """
    refuse_unusable(found)
    if not found.backups:
        raise Refusal("no_backup", f"The stanza {found.stanza} has no backup.")
    current = found.backups[-1].archive_id
    return current, int(newest_segment(found, current)[:8] or "1", 16)


def choose(found: Repository, request: Request, histories: Mapping[int, str], now: float) -> Choice:
    """Return from where a request is served.

    Args:
        found: the wanted repository, as `backup_info.read` and its `only` return it.
        request: what is wanted.
        histories: text of each history file in the repository, by timeline.
        now: seconds since the epoch.

    Raises:
        Refusal: nothing serves it; the message says what can be restored.
        TargetError: the repository itself cannot be used.
    """
    current, archived = archive_of(found)
    head = newest_segment(found, current)
    newest = max([archived, *histories])
    if request.kind == "time":
        _refuse_bad_moment(request.value, now)
    if request.kind == "label":
        return _of_label(found, request)
    timeline = request.timeline or newest
    path = path_to(timeline, histories)
    there = [backup for backup in found.backups if backup.archive_id == current and leads_there(backup, path)]
    bounds = _bounds(there, head)
    if request.kind == "lsn":
        position = _position(request.value)
        if head and int(head[:8], 16) <= timeline and position > segment_end(head):
            raise Refusal("not_archived", f"{request.value} is not in the repository yet. {bounds}")
    if not there:
        raise Refusal(
            "no_such_point", f"No backup leads to timeline {timeline}. {bounds} Name another history with its timeline, or a backup."
        )
    try:
        backup = backup_for(there, request.kind, request.value)
    except TargetError as error:
        raise Refusal("no_such_point", f"{request.words()} cannot be restored. {bounds}") from error
    arguments = [f"--set={backup.label}", f"--target-timeline={timeline}"]
    if request.kind == "latest":
        arguments += ["--type=default"]
    else:
        target = sql_moment(moment(request.value)) if request.kind == "time" else request.value
        arguments += [f"--type={request.kind}", f"--target={target}", "--target-action=promote"]
    said = f"{request.words()}, from the backup {backup.label} of {utc(backup.stopped)}, along timeline {timeline}"
    return Choice(backup.label, backup.repository, timeline, backup.size_bytes, tuple(arguments), said)


def _of_label(found: Repository, request: Request) -> Choice:
    try:
        backup = backup_for(found.backups, "label", request.value)
    except TargetError as error:
        raise Refusal("no_such_point", str(error)) from error
    # Along its own history: the newest one may have been left before this backup was made.
    arguments = (f"--set={backup.label}", "--type=immediate", "--target-action=promote", "--target-timeline=current")
    said = f"{request.words()}, {utc(backup.stopped)}"
    damaged = ", WHICH HOLDS DAMAGED PAGES" if backup.damaged else ""
    return Choice(backup.label, backup.repository, int(backup.wal_stop[:8] or "1", 16), backup.size_bytes, arguments, said + damaged)


def _refuse_bad_moment(text: str, now: float) -> None:
    try:
        wanted = moment(text)
    except ValueError as error:
        raise Refusal("bad_target", f"{error}.") from None
    if wanted > now:
        raise Refusal("in_the_future", f"{utc(wanted)} has not been yet: it is {utc(now)}. For the newest state give no time at all.")


def _position(text: str) -> int:
    try:
        return lsn(text)
    except ValueError as error:
        raise Refusal("bad_target", f"{error}.") from None


def _bounds(there: Sequence[Backup], head: str) -> str:
    sound = [backup for backup in there if not backup.damaged]
    if not sound:
        return "No backup without damaged pages lies on this history."
    oldest = min(sound, key=lambda backup: backup.stopped)
    return (
        f"The oldest point is {utc(oldest.stopped)} ({oldest.lsn_stop}), the end of the backup {oldest.label}; the newest is the end of the "
        f"archive, segment {head or 'none'} (up to {lsn_text(segment_end(head)) if head else 'nowhere'})."
    )


# Before anything is touched -----------------------------------------------------------------------------------------------


def needed_bytes(choice: Choice) -> int:
    """Return what a member's file system must have free: the old data stays where it is."""
    return int(choice.size_bytes * (1 + SPARE_SHARE)) + SPARE_BYTES


def refuse_unfit(choice: Choice, request: Request, members: Sequence[Mapping[str, Any]], leader: str, force: bool = False) -> None:
    """Refuse what would end badly, with all reasons at once.

    Args:
        choice: what `choose` returned.
        request: what was asked for.
        members: of each member name, seen, free_bytes, problems, and waiting (segments that its running leader has not archived).
        leader: who is to be restored first.
        force: go on although segments are not archived.

    Raises:
        Refusal: what is wrong, on which member, and what to do.
    """
    wrong = []
    reason = ""
    for member in members:
        for problem in member["problems"]:
            wrong.append(f"{member['name']}: {problem}")
            reason = reason or "unfit"
        seen = Seen(**member["seen"])
        if not seen.copied and not seen.handed_over and member["free_bytes"] < needed_bytes(choice):
            wrong.append(
                f"{member['name']} has {_mib(member['free_bytes'])} free where its data is, and {_mib(needed_bytes(choice))} are needed, since "
                "the old data is kept. Make room or a larger file system."
            )
            reason = reason or "no_space"
        if seen.patroni and member["waiting"] > WAITING_SEGMENTS and request.kind == "latest" and not force:
            wrong.append(
                f"{member['name']} has {member['waiting']} segments that are not in the repository, so its newest state could not be restored. "
                "Repair the archive first (see PostgreSQL's log there), or accept that loss with -e pg_restore_unarchived=true."
            )
            reason = reason or "not_archived"
        if seen.handed_over and member["name"] == leader and seen.copied and seen.copied != digest(choice):
            wrong.append(
                f"{leader} serves what an earlier run has restored ({seen.copied}). Finish that run first, with the same target; then "
                "restore anew."
            )
            reason = reason or "other_target"
    if wrong:
        raise Refusal(reason, " ".join(wrong))


def _mib(count: int) -> str:
    return f"{count // 2**20} MiB"


def leader_of(members: Sequence[Mapping[str, Any]], asked: str | None, earlier: Record | None) -> str:
    """Return the member that is restored from the repository: that of the run which goes on, the one that was asked for, or the one
    that led last, since its log may have an end that is not in the repository.

    Args:
        members: of each name, timeline of its data and whether it leads or led there (led).
        asked: who is to be it, if that was said.
        earlier: the run that was begun.

    Raises:
        Refusal: unknown_member.
    """
    names = [str(member["name"]) for member in members]
    if earlier and earlier.leader in names:
        return earlier.leader
    if asked and asked not in names:
        raise Refusal("unknown_member", f"{asked} is none of the database hosts, which are {', '.join(names)}.")
    return asked or max(members, key=lambda member: (bool(member["led"]), int(member["timeline"])))["name"]


def refuse_unconfirmed(confirm: str, scope: str, choice: Choice, leader: str) -> None:
    """Refuse without the cluster's name, typed once more."""
    if confirm != scope:
        raise Refusal(
            "not_confirmed",
            f"This replaces all data of the cluster {scope} by {choice.message}. {leader} is restored, the other members copy from it; nobody "
            f"reads or writes meanwhile, and what was written after that point is only in the directories that are kept aside. To go on: "
            f"-e pg_confirm={scope}.",
        )


def refuse_other_members(known: Sequence[str], inventory: Sequence[str]) -> None:
    """Refuse while there is a member that this run does not reach: it could lead beside the restored one."""
    unknown = sorted(set(known) - set(inventory))
    if unknown:
        raise Refusal(
            "unknown_member",
            f"etcd knows {', '.join(unknown)} as a member that runs, and the inventory does not. It could lead beside the restored cluster. "
            "Add it to the inventory, or stop its Patroni.",
        )


# Each member's next step --------------------------------------------------------------------------------------------------


def next_step(seen: Seen, goal: str, leads: bool, wanted: str) -> str | None:
    """Return what a member does next; None where it has reached the goal.

    Args:
        seen: what is there.
        goal: stopped, aside, ready (a leader's data has been recovered) or serving. All members reach one before any goes for the next.
        leads: it is the one that is restored from the repository; the others copy from it.
        wanted: `digest` of the choice.
    """
    if seen.handed_over:
        return "start_patroni" if goal == SERVING and not seen.patroni else None
    return next(_steps(seen, goal, leads, wanted), None)


def _steps(seen: Seen, goal: str, leads: bool, wanted: str) -> Iterator[str]:
    if not seen.blocked:
        yield "block"
    if seen.patroni:
        yield "stop_patroni"
    if seen.server:
        yield "stop_server"
    if goal == STOPPED:
        return
    if not seen.aside:
        yield "set_aside"
    if goal == ASIDE:
        return
    if leads:
        yield from _recovery(seen, wanted)
    if goal == READY:
        return
    yield "hand_over"


def _recovery(seen: Seen, wanted: str) -> Iterator[str]:
    if seen.copying and seen.copying != wanted:
        yield "stop_copy"
    if seen.copying:
        yield "await_copy"
    if seen.copied != wanted:
        yield "stop_recovery" if seen.recovering else "copy"
    if seen.signal or seen.recovering or not seen.clean:
        yield "recover"


def steps_to(seen: Seen, goal: str, leads: bool, wanted: str) -> list[str]:
    """Return all steps to a goal, if each of them ends well."""
    found: list[str] = []
    while (step := next_step(seen, goal, leads, wanted)) is not None:
        found.append(step)
        seen = after(seen, step, wanted)
    return found


def after(seen: Seen, step: str, wanted: str) -> Seen:
    """Return what is there once a step has ended well; what the steps promise to each other, and what the tests hold them to."""
    effects: dict[str, dict[str, Any]] = {
        "block": {"blocked": True},
        "stop_patroni": {"patroni": False, "server": False},
        "stop_server": {"server": False},
        "set_aside": {"aside": True, "copied": "", "signal": False, "clean": False},
        "stop_copy": {"copying": ""},
        "await_copy": {"copying": "", "copied": wanted, "signal": True, "clean": False},
        "copy": {"copying": "", "copied": wanted, "signal": True, "clean": False},
        "stop_recovery": {"recovering": False},
        "recover": {"recovering": False, "signal": False, "clean": True},
        "hand_over": {"blocked": False, "patroni": True},
        "start_patroni": {"patroni": True},
    }
    return replace(seen, **effects[step])


# What is written down -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Record:
    """A restore that was begun and has not ended, as etcd keeps it."""

    name: str  # part of the names of what is kept aside
    leader: str
    request: Request
    choice: Choice
    since: str

    def as_text(self) -> str:
        request, choice = self.request.__dict__, {**self.choice.__dict__, "arguments": list(self.choice.arguments)}
        return json.dumps({"name": self.name, "leader": self.leader, "request": request, "choice": choice, "since": self.since})

    @classmethod
    def read(cls, text: str) -> Record:
        said = json.loads(text)
        choice = Choice(**{**said["choice"], "arguments": tuple(said["choice"]["arguments"])})
        return cls(said["name"], said["leader"], Request(**said["request"]), choice, said["since"])


def agree(earlier: Record | None, request: Request, choice: Choice, leader: str, now: float) -> Record:
    """Return the record of this run: that of one which was begun and not finished goes on, with what is wanted now."""
    name, since = datetime.datetime.fromtimestamp(now, datetime.UTC).strftime("%Y%m%dT%H%M%SZ"), utc(now)
    if earlier is None:
        return Record(name, leader, request, choice, since)
    # A resumed run keeps its way: what was archived meanwhile must not make it begin anew.
    same = earlier.request == request
    return replace(earlier, request=request, choice=earlier.choice if same else choice)
