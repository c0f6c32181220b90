# SPDX-License-Identifier: GPL-3.0-or-later
"""Reserve as many huge pages as PostgreSQL's shared memory takes, by PostgreSQL's own count.

huge_pages.py BIN SETTINGS USER   BIN is PostgreSQL's directory of programs, SETTINGS a file as postgresql.conf, USER runs them

A scratch cluster is asked, so it does not matter whether the real one exists already or runs. Pages are only ever added:
what an old, larger setting held comes back at the next boot. Where the kernel has too few in one piece, none is taken, and
PostgreSQL goes without (huge_pages = try).
"""

from __future__ import annotations

import os
import pwd
import subprocess
import sys
import tempfile
from pathlib import Path

KERNEL = Path("/proc/sys/vm/nr_hugepages")


def ask(command: list[str], user: str) -> str:
    """Run a program of PostgreSQL, which refuses to run as root; an empty user runs it as who we are."""
    as_user = {"user": user, "group": pwd.getpwnam(user).pw_gid, "extra_groups": []} if user else {}
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=50, cwd="/", **as_user).stdout


def needed(programs: Path, settings: Path, user: str) -> int:
    """Return how many huge pages a server with these settings takes; 0 where its platform knows none."""
    with tempfile.TemporaryDirectory(prefix="postgresql-huge-pages-") as scratch:
        if user:
            os.chown(scratch, pwd.getpwnam(user).pw_uid, -1)
        data = Path(scratch, "data")
        ask([str(programs / "initdb"), f"--pgdata={data}", "--no-sync", "--no-instructions", "--auth=reject"], user)
        with (data / "postgresql.conf").open("a", encoding="utf-8") as stream:
            stream.write(settings.read_text(encoding="utf-8"))
        return max(0, int(ask([str(programs / "postgres"), "-C", "shared_memory_size_in_huge_pages", "-D", str(data)], user)))


def reserve(wanted: int, kernel: Path = KERNEL) -> str:
    """Have so many huge pages, or leave things as they were; return what was done."""
    had = int(kernel.read_text(encoding="ascii"))
    if had >= wanted:
        return f"PostgreSQL takes {wanted} huge pages, {had} are reserved"
    kernel.write_text(f"{wanted}\n", encoding="ascii")
    got = int(kernel.read_text(encoding="ascii"))
    if got >= wanted:
        return f"PostgreSQL takes {wanted} huge pages, they are reserved now ({had} before)"
    # A part of them would be lost to everybody.
    kernel.write_text(f"{had}\n", encoding="ascii")
    return f"PostgreSQL takes {wanted} huge pages, the kernel found only {got}: PostgreSQL runs without them. A reboot makes room"


def main(arguments: list[str]) -> int:
    if len(arguments) != 4:
        print(__doc__, file=sys.stderr)
        return 2
    try:
        print(reserve(needed(Path(arguments[1]), Path(arguments[2]), arguments[3])))
    except subprocess.CalledProcessError as error:
        print(f"{error.cmd[0]} ended with status {error.returncode}: {error.stderr.strip()}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv))
