# SPDX-License-Identifier: GPL-3.0-or-later
"""Kill a first run again and again: start the tier's playbook, SIGKILL it in the middle, start it anew.

Use: interrupt.py INVENTORY LAB TIER MOMENT [MOMENT ...]

A MOMENT is a text; the run is killed 2 s after a task's heading contains it. TAGS@TEXT runs these tags only: what came
before them is not repeated, nor is the damage there repaired. The kills leave the hosts as a dead controller leaves them,
in all these places at once; whoever calls converges afterwards.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from harness.platform import Platform

LIMIT = 900


def killed_run(platform: Platform, tags: str, moment: str) -> None:
    """Run (with tags, or all of it where there are none) until a task's heading matches, then kill the controller and its workers."""
    process = platform.start_playbook(None, *([f"--tags={tags}"] if tags else []), own_session=True)
    assert process.stdout is not None
    start = time.monotonic()
    tail: list[str] = []
    for line in process.stdout:
        tail = [*tail[-60:], line]
        if re.match(r"(TASK|RUNNING HANDLER) \[", line) and moment in line:
            time.sleep(2)
            kill(process)
            print(f"killed after {time.monotonic() - start:.0f} s in: {line.strip().rstrip('*').strip()}", flush=True)
            return
        if time.monotonic() - start > LIMIT:
            break
    kill(process)
    raise SystemExit(f"no task's heading contained {moment!r}; the run ended with {process.returncode}:\n{''.join(tail)}")


def kill(process: subprocess.Popen[str]) -> None:
    """Kill a run and its workers: each of those is the head of a process group, and would wait for its controller for ever."""
    found = subprocess.run(["ps", "-o", "pid=", "--ppid", str(process.pid)], capture_output=True, text=True, check=False)
    for head in (process.pid, *map(int, found.stdout.split())):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(head, signal.SIGKILL)
    process.wait()


def main() -> None:
    inventory, lab, tier, *moments = sys.argv[1:]
    platform = Platform(Path(inventory).resolve(), lab, tier)
    for moment in moments:
        tags, dummy, text = moment.rpartition("@")
        killed_run(platform, tags, text)


if __name__ == "__main__":
    main()
