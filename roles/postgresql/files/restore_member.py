# SPDX-License-Identifier: GPL-3.0-or-later
"""Make a new standby's data from the backup repository, for Patroni, which adds --connstring and more.

restore_member.py --stanza NAME --psql PATH --patience SECONDS --connstring CONNSTRING

It takes the newest backup that lies on the leader's history: after a restore to a point in time the repository has newer ones, of the
history that was left, from which no way leads to the leader.

After the restore it waits until the repository has WAL of the leader's timeline. Before that, PostgreSQL would replay the segment in
which the timelines part as the old leader wrote it, to the end: with what that one had for itself when it died. The standby would
then never stream. Ends with 1 where the repository cannot help; Patroni copies from the leader then.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import Any

PGBACKREST = "/usr/bin/pgbackrest"
# By name: a second repository, which has its settings beside it, may take minutes to answer.
CONFIG = "/etc/pgbackrest/pgbackrest.conf"
LOOK = 2.0


class Unusable(Exception):
    """The repository cannot make this standby; the message says why."""


def answer(command: Sequence[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, "PGCONNECT_TIMEOUT": "5"})
    if done.returncode:
        raise Unusable(f"{command[0]} ended with {done.returncode}: {(done.stderr or done.stdout).strip()}")
    return done.stdout


def repository(stanza: str) -> dict[str, Any]:
    found = json.loads(answer([PGBACKREST, f"--config={CONFIG}", f"--stanza={stanza}", "--output=json", "info"]))
    return found[0] if found else {}


def sound_backups(info: dict[str, Any]) -> list[dict[str, Any]]:
    return [backup for backup in info.get("backup") or [] if not backup.get("error")]


def position(text: str) -> int:
    high, low = text.split("/")
    return (int(high, 16) << 32) + int(low, 16)


def leads_to(backup: dict[str, Any], timeline: int, left: dict[int, int]) -> bool:
    """Whether a backup lies on a history: on its newest timeline, or on one before and no later than that one was left."""
    ended = int(backup["archive"]["stop"][:8], 16)
    return ended == timeline or (ended in left and "lsn" in backup and position(backup["lsn"]["stop"]) <= left[ended])


def archived_timeline(info: dict[str, Any]) -> int:
    """Return the newest timeline of which the repository has a segment, and so the first one: they are archived in order."""
    newest = (info.get("archive") or [{}])[-1].get("max") or "0"
    return int(newest[:8], 16)


def ask(psql: str, connstring: str, question: str) -> list[str]:
    """Ask the leader as a standby would; return the columns of its answer."""
    return answer([psql, "-X", "-A", "-t", "-w", "-d", f"{connstring} replication=true", "-c", question]).split("|")


def leaders_timeline(psql: str, connstring: str) -> int:
    return int(ask(psql, connstring, "IDENTIFY_SYSTEM")[1])  # after the system's identifier


def leaders_history(psql: str, connstring: str, timeline: int) -> dict[int, int]:
    """Return where each timeline before the leader's was left; a line has timeline, position and reason."""
    if timeline == 1:
        return {}
    lines = [line.split() for line in ask(psql, connstring, f"TIMELINE_HISTORY {timeline}")[1].splitlines()]
    return {int(fields[0]): position(fields[1]) for fields in lines if len(fields) > 1 and fields[0].isdigit()}


def newest_on_the_way(given: argparse.Namespace, backups: list[dict[str, Any]], deadline: float) -> str:
    """Return the label of the backup to take."""
    while True:
        try:
            timeline = leaders_timeline(given.psql, given.connstring)
            left = leaders_history(given.psql, given.connstring, timeline)
            break
        except Unusable:  # a leader that is about to hear of a new member refuses it for a moment
            if time.monotonic() > deadline:
                raise
            time.sleep(LOOK)
    found = [backup for backup in backups if leads_to(backup, timeline, left)]
    if not found:
        raise Unusable(f"no backup lies on the history of the leader's timeline {timeline}")
    return str(max(found, key=lambda backup: backup["label"].split("_")[-1])["label"])


def restore(given: argparse.Namespace) -> None:
    backups = sound_backups(repository(given.stanza))
    if not backups:
        raise Unusable(f"the stanza {given.stanza} has no backup yet")
    chosen = newest_on_the_way(given, backups, time.monotonic() + given.patience)
    # Its output goes to Patroni's journal; --delta keeps what is equal already.
    words = [PGBACKREST, f"--config={CONFIG}", f"--stanza={given.stanza}", f"--set={chosen}", "--delta", "--type=standby", "restore"]
    done = subprocess.run(words, check=False)
    if done.returncode:
        raise Unusable(f"the restore ended with {done.returncode}")
    deadline = time.monotonic() + given.patience
    while True:
        try:
            wanted, archived = leaders_timeline(given.psql, given.connstring), archived_timeline(repository(given.stanza))
            if archived >= wanted:
                return
            seen = f"it has WAL of timeline {archived}, and the leader is on {wanted}"
        except Unusable as problem:
            seen = str(problem)
        if time.monotonic() > deadline:
            raise Unusable(f"{given.patience:.0f} s after the restore, {seen}")
        time.sleep(LOOK)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("stanza", "psql", "connstring"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--patience", type=float, required=True)
    given, _others = parser.parse_known_args()
    try:
        restore(given)
    except Unusable as problem:
        print(f"The repository cannot make this standby: {problem}. Patroni copies from the leader.", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
