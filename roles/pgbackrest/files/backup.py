# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Take one backup on the repository's host, then let old ones expire.

backup.py --stanza=NAME --type=full|diff|incr [--standby] [--repositories=N] [--path=DIRECTORY --mount=DIRECTORY]
backup.py --stanza=NAME --type=none --path=DIRECTORY --mount=DIRECTORY

- With --standby it copies from a standby where one is up, and from the leader otherwise: pgBackRest before 2.54 knows only must or must not.
- A backup that is already running is as good as a differential or incremental one: nothing is done. A full one is tried again later.
- Each repository gets a backup of its own, the first one first. One that cannot be had does not keep the others from theirs. Those beside the
  first one are asked before: pgBackRest tries for ten minutes to begin a backup in a bucket that does not answer, and holds its lock meanwhile.
- With --mount, the second repository gets nothing while its directory is on the file system of / or of --path, the first one: what belongs there is
  not mounted. The type none looks at that alone, and ends with 4 where it is so.
- What systemd starts again, because the first one got none, leaves out those that got one. One beside it is made up for by the next backup: a full
  one, where the first one has got a newer full one.
- Nothing expires while the newest full backup holds pages with a wrong checksum: what retention would remove may be the last good one.

Ends with pgBackRest's status where the first repository got no backup, with 4 where only another one got none, and with 3 where all have one and
old ones could not be removed.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

PGBACKREST = "/usr/bin/pgbackrest"
LOCKED = 50
# No standby is up; or it does not come to the backup's beginning in time.
WITHOUT_STANDBY = (56, 82)
NOT_EXPIRED = 3
OTHER_LACKS = 4
ANSWERS = (0, 2)  # good, or without a backup; of a repository, as `info` tells it
PATIENCE = 120  # seconds; refused connections take 46 of them


def say(text: str) -> None:
    print(text, flush=True)


def pgbackrest(stanza: str, command: str, *options: str) -> int:
    """Run it; what it says goes to the journal."""
    return subprocess.run([PGBACKREST, f"--stanza={stanza}", *options, "--log-level-console=info", command], check=False).returncode


def only(repository: int) -> list[str]:
    """Return the option for one of several repositories, or nothing for the only one (0)."""
    return [f"--repo={repository}"] if repository else []


def back_up(stanza: str, kind: str, standby: bool, repository: int = 0) -> int:
    """Take a backup into a repository; return pgBackRest's status."""
    options = [f"--type={kind}", "--no-expire-auto", *only(repository)]
    if standby:
        status = pgbackrest(stanza, "backup", *options, "--backup-standby")
        if status not in WITHOUT_STANDBY:
            return status
        say(f"No standby serves (status {status}): the leader is copied.")
        options.append("--no-backup-standby")
    return pgbackrest(stanza, "backup", *options)


def backups_of(stanza: str, repository: int) -> list[dict[str, Any]]:
    """Return the backups of a repository, oldest first."""
    words = [PGBACKREST, f"--stanza={stanza}", *only(repository), "--output=json", "--log-level-console=off", "info"]
    text = subprocess.run(words, capture_output=True, check=True).stdout.decode("utf-8", "replace")
    found = json.loads(text or "[]", strict=False)
    return list(found[0].get("backup") or []) if found else []


def trouble(stanza: str, repository: int) -> str:
    """Return why a repository beside the first one cannot take a backup now; empty where it can."""
    words = [PGBACKREST, f"--stanza={stanza}", *only(repository), "--io-timeout=5", "--output=json", "--log-level-console=error", "info"]
    try:
        done = subprocess.run(words, capture_output=True, check=False, timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        return f"it has not answered within {PATIENCE} s"
    if done.returncode:
        return " ".join((done.stdout + done.stderr).decode("utf-8", "replace").split())[:300]
    found = json.loads(done.stdout.decode("utf-8", "replace") or "[]", strict=False)
    for repo in found[0].get("repo", []) if found else []:
        if repo["key"] == repository:
            code, message = repo["status"]["code"], repo["status"]["message"]
            # What follows the first line is how often it was tried, or the conversation with the server.
            return "" if code in ANSWERS else message.strip().partition("\n")[0][:300]
    return "it has no such stanza"


def unmounted(path: str, first: str) -> str:
    """Return why a directory is not where something was mounted for it; empty where it is.

    By the file system and not by the mount point: each path that a unit may write to is a mount point in the unit.
    """
    place = Path(path)
    while not os.path.exists(place):  # gone, or of a server that is gone
        place = place.parent
    for other in ("/", first):
        if os.stat(other).st_dev == os.stat(place).st_dev:
            return f"{path} is on the file system of {other}, so what belongs there is not mounted. Mount it and restart pgbackrest-second."
    return ""


def owed(stanza: str, kind: str, repository: int) -> str:
    """Return the kind of backup that a repository beside the first one gets: a full one where it missed that of the first one."""
    fulls = [
        max((backup["timestamp"]["stop"] for backup in backups_of(stanza, number) if backup["type"] == "full"), default=0)
        for number in (1, repository)
    ]
    return "full" if fulls[0] > fulls[1] else kind


class Taken:
    """Which repositories got their backup, over the starts that systemd makes by itself; nothing is kept where it made no directory for it."""

    def __init__(self, directory: str) -> None:
        self._file = Path(directory) / "taken" if directory else None
        text = self._file.read_text(encoding="ascii") if self._file and self._file.exists() else ""
        self._numbers = {int(word) for word in text.split()}

    def __contains__(self, repository: int) -> bool:
        return repository in self._numbers

    def add(self, repository: int) -> None:
        self._numbers.add(repository)
        if self._file:
            self._file.write_text("".join(f"{number}\n" for number in sorted(self._numbers)), encoding="ascii")


def damaged_fulls(backups: Sequence[dict[str, Any]]) -> list[str]:
    """Return the newest full backup of each repository, where it holds damaged pages."""
    newest = {backup["database"].get("repo-key", 1): backup for backup in backups if backup["type"] == "full"}
    return [backup["label"] for backup in newest.values() if backup.get("error")]


def expire(stanza: str, repository: int) -> int:
    damaged = damaged_fulls(backups_of(stanza, repository))
    if damaged:
        say(f"Nothing expires, because {', '.join(damaged)} holds damaged pages. Repair the database, then take a full backup.")
        return 0
    return NOT_EXPIRED if pgbackrest(stanza, "expire", *only(repository)) else 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stanza", required=True)
    parser.add_argument("--type", choices=["full", "diff", "incr", "none"], required=True)
    parser.add_argument("--standby", action="store_true")
    parser.add_argument("--repositories", type=int, default=1)
    parser.add_argument("--path", default="/", help="directory of the first repository")
    parser.add_argument("--mount", help="directory of the second one, which has to be on another file system")
    given = parser.parse_args()
    away = unmounted(given.mount, given.path) if given.mount else ""
    if given.type == "none":
        if away:
            say(f"Repository 2 gets nothing: {away}")
        return OTHER_LACKS if away else 0
    taken = Taken(os.environ.get("RUNTIME_DIRECTORY", ""))
    lacks: dict[int, int] = {}
    late = 0
    for repository in range(1, given.repositories + 1) if given.repositories > 1 else [0]:
        if repository in taken:
            continue
        why = away or trouble(given.stanza, repository) if repository > 1 else ""
        if why:
            say(f"Repository {repository} got no backup, because it cannot be used now: {why}")
            lacks[repository] = OTHER_LACKS
            continue
        kind = owed(given.stanza, given.type, repository) if repository > 1 else given.type
        status = back_up(given.stanza, kind, given.standby, repository)
        if status == LOCKED and given.type != "full":
            say("Another backup is running, which serves as well: nothing was done.")
            return 0
        if status:
            if repository:
                say(f"Repository {repository} got no backup (status {status}).")
            lacks[repository] = status
            continue
        taken.add(repository)
        late = expire(given.stanza, repository) or late
    if lacks:
        first = min(lacks)
        return lacks[first] if first < 2 else OTHER_LACKS
    return late


if __name__ == "__main__":
    sys.exit(main())
