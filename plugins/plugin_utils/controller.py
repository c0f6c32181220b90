# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Which run of Ansible this is, and whether another one of this controller still lives."""

from __future__ import annotations

import getpass
import os
import socket
from pathlib import Path
from typing import Any

PROC = Path("/proc")


def machine() -> str:
    """Return what no other set of processes has: the boot of the kernel and the namespace that numbers them; empty if unknown."""
    try:
        boot = (PROC / "sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot}/{os.readlink(PROC / 'self/ns/pid')}"
    except OSError:
        return ""


def born(process: int) -> str:
    """Return when a process of this machine was started, in ticks of its clock; empty where it is gone."""
    try:
        # The name of the program, in brackets, may hold anything.
        state, *fields = (PROC / str(process) / "stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    except (OSError, ValueError):
        return ""
    return "" if state in ("Z", "X") else fields[18]


def holder() -> dict[str, Any]:
    """Return this run: tasks are children of the process that is Ansible."""
    process = os.getppid()
    try:
        who = os.environ.get("SUDO_USER") or getpass.getuser()
    except (KeyError, OSError):
        who = f"user {os.getuid()}"
    controller = socket.gethostname()
    return {"id": f"{machine()} {controller} {process} {born(process)}", "who": who, "controller": controller, "process": process}


def is_dead(other: dict[str, Any]) -> bool:
    """Tell whether a holder was a run on this very machine, and is gone. Of others nothing is known."""
    identity, controller, process, birth = other["id"].rsplit(" ", 3)
    if not identity or identity != machine() or controller != socket.gethostname():
        return False
    return born(int(process)) != birth
