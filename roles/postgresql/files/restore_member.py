# SPDX-License-Identifier: GPL-3.0-or-later
"""Make a new standby's data from the backup repository, for Patroni, which adds --connstring and more.

restore_member.py --stanza NAME --psql PATH --patience SECONDS --connstring CONNSTRING

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
LOOK = 2.0


class Unusable(Exception):
    """The repository cannot make this standby; the message says why."""


def answer(command: Sequence[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, "PGCONNECT_TIMEOUT": "5"})
    if done.returncode:
        raise Unusable(f"{command[0]} ended with {done.returncode}: {(done.stderr or done.stdout).strip()}")
    return done.stdout


def repository(stanza: str) -> dict[str, Any]:
    found = json.loads(answer([PGBACKREST, f"--stanza={stanza}", "--output=json", "info"]))
    return found[0] if found else {}


def has_backup(info: dict[str, Any]) -> bool:
    return any(not backup.get("error") for backup in info.get("backup") or [])


def archived_timeline(info: dict[str, Any]) -> int:
    """Return the newest timeline of which the repository has a segment, and so the first one: they are archived in order."""
    newest = (info.get("archive") or [{}])[-1].get("max") or "0"
    return int(newest[:8], 16)


def leaders_timeline(psql: str, connstring: str) -> int:
    """Ask the leader as a standby would; of (system identifier, timeline, position, database)."""
    return int(answer([psql, "-X", "-A", "-t", "-w", "-d", f"{connstring} replication=true", "-c", "IDENTIFY_SYSTEM"]).split("|")[1])


def restore(given: argparse.Namespace) -> None:
    if not has_backup(repository(given.stanza)):
        raise Unusable(f"the stanza {given.stanza} has no backup yet")
    # Its output goes to Patroni's journal; --delta keeps what is equal already.
    done = subprocess.run([PGBACKREST, f"--stanza={given.stanza}", "--delta", "--type=standby", "restore"], check=False)
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
            seen = str(problem)  # a leader that is about to hear of a new member refuses it for a moment
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
