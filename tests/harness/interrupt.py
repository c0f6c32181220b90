# SPDX-License-Identifier: GPL-3.0-or-later
"""Kill a first run again and again: start the tier's playbook, SIGKILL it in the middle, start it anew.

Use: interrupt.py INVENTORY LAB TIER MOMENT [MOMENT ...]

A MOMENT is a text; the run is killed 2 s after a task's heading contains it. The last kill leaves the hosts as a
dead controller leaves them; whoever calls converges afterwards.
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

from harness.platform import ROOT, Platform

LIMIT = 900


def killed_run(platform: Platform, moment: str) -> None:
    """Run until a task's heading matches, then kill the controller and its workers without a warning."""
    command = [
        platform.tool("ansible-playbook"),
        f"playbooks/{platform.tier}.yml",
        "-i",
        str(platform.inventory),
        *platform.vault_arguments(),
    ]
    environment = {**os.environ, "ANSIBLE_NOCOLOR": "1", "UPTIER_LAB": platform.lab}
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
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
        killed_run(platform, moment)


if __name__ == "__main__":
    main()
