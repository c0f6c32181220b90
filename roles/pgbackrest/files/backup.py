# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Take one backup on the repository's host, then let old ones expire.

backup.py --stanza=NAME --type=full|diff|incr [--standby] [--repositories=N]

- With --standby it copies from a standby where one is up, and from the leader otherwise: pgBackRest before 2.54 knows only must or must not.
- A backup that is already running is as good as a differential or incremental one: nothing is done. A full one is tried again later.
- Each repository gets a backup of its own, the first one first. One that cannot be had does not keep the others from theirs.
- Nothing expires while the newest full backup holds pages with a wrong checksum: what retention would remove may be the last good one.

Ends with pgBackRest's status where a repository got no backup, and with 3 where there is one and old ones could not be removed.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

PGBACKREST = "/usr/bin/pgbackrest"
LOCKED = 50
# No standby is up; or it does not come to the backup's beginning in time.
WITHOUT_STANDBY = (56, 82)
NOT_EXPIRED = 3


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
    parser.add_argument("--type", choices=["full", "diff", "incr"], required=True)
    parser.add_argument("--standby", action="store_true")
    parser.add_argument("--repositories", type=int, default=1)
    given = parser.parse_args()
    statuses = []
    for repository in range(1, given.repositories + 1) if given.repositories > 1 else [0]:
        status = back_up(given.stanza, given.type, given.standby, repository)
        if status == LOCKED and given.type != "full":
            say("Another backup is running, which serves as well: nothing was done.")
            return 0
        if status and repository:
            say(f"Repository {repository} got no backup (status {status}).")
        statuses.append(status or expire(given.stanza, repository))
    return next((status for status in statuses if status), 0)


if __name__ == "__main__":
    sys.exit(main())
