# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Hold the clients of this host's pools while the database changes its leader.

At the moment that /run/uptier/pgbouncer_hold.json names, PAUSE; as soon as another member takes writes, point the router
there and RESUME. After `limit` seconds RESUME in any case. The unit's ExecStopPost is `resume`, which also holds when this
program is killed, and systemd ends the unit when it runs too long: a pool is never left paused.
"""

from __future__ import annotations

import http.client
import json
import os
import pwd
import queue
import socket
import ssl
import subprocess
import sys
import threading
import time
import urllib.parse
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

REQUEST = Path("/run/uptier/pgbouncer_hold.json")
REPORT = Path("/run/uptier/pgbouncer_hold_report.json")
LOOK = 0.05
CONNECT_AHEAD = 1.0
DONE = "--done--"


class Console:
    """One session with PgBouncer's console: while clients wait there is no time to start a program for each command."""

    def __init__(self, request: dict[str, Any]) -> None:
        account = pwd.getpwnam(request["user"])
        self.process = subprocess.Popen(
            [request["psql"], "-X", "-q", "-h", request["socket"], "-p", str(request["port"]), "-U", "pgbouncer", "-d", "pgbouncer"],
            user=account.pw_uid,
            group=account.pw_gid,
            extra_groups=[],
            env={"PATH": "/usr/bin:/bin", "HOME": "/"},
            cwd="/",
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,  # what is written there arrives at once
        )
        self.answers: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self.process.stderr
        for line in self.process.stderr:
            self.answers.put(line.decode(errors="replace").strip())
        self.answers.put(None)

    def tell(self, command: str, limit: float) -> str:
        """Give a command; return what went wrong."""
        deadline = time.monotonic() + limit
        said: list[str] = []
        try:
            assert self.process.stdin
            self.process.stdin.write(f"{command};\n\\warn {DONE}\n".encode())
            self.process.stdin.flush()
            while (line := self.answers.get(timeout=max(0.01, deadline - time.monotonic()))) != DONE:
                if line is None:
                    return f"{command}: {'; '.join(said) or 'the console ended'}"
                said.append(line)
        except queue.Empty:
            return f"{command}: no answer within {limit:.1f} s"
        except OSError as error:
            return f"{command}: {'; '.join(said) or error}"
        return "; ".join(said)

    def close(self) -> None:
        self.process.kill()
        self.process.wait()


def console(request: dict[str, Any], command: str, limit: float) -> str:
    """Give one command in a session of its own; return what went wrong."""
    session = Console(request)
    try:
        return session.tell(command, limit)
    finally:
        session.close()


def leads(member: dict[str, str], context: ssl.SSLContext) -> bool:
    """Ask a member's Patroni whether its server takes writes: `/primary` says yes from the moment that it has the lease, before that."""
    address = urllib.parse.urlsplit(member["url"])
    connection = http.client.HTTPSConnection(address.hostname or "", address.port, timeout=1, context=context)
    try:
        connection.request("GET", "/patroni")
        said = json.loads(connection.getresponse().read())
        return said.get("role") in ("primary", "master") and said.get("state") == "running"
    except (OSError, ValueError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def router(path: str, command: str) -> str:
    """Give a command to HAProxy."""
    with socket.socket(socket.AF_UNIX) as control:
        control.settimeout(2)
        control.connect(path)
        control.sendall(f"{command}\n".encode())
        return b"".join(iter(lambda: control.recv(65536), b"")).decode()


def point(request: dict[str, Any], leader: str) -> str:
    """Have the router take the new leader at once; its own checks would notice a second later."""
    try:
        for member in request["members"]:
            state = "up" if member["name"] == leader else "down"
            router(request["router"], f"set server {request['backend']}/{member['name']} health {state}")
    except OSError as error:
        return f"the router was not told ({error}); its checks find the leader by themselves"
    return ""


def report(**said: Any) -> None:
    new = REPORT.with_suffix(".new")
    new.write_text(json.dumps(said) + "\n", encoding="utf-8")
    os.replace(new, REPORT)


def hold(request: dict[str, Any]) -> int:
    context = ssl.create_default_context(cafile=request["ca"])
    context.load_cert_chain(request["cert"], request["key"])
    time.sleep(max(0.0, request["at"] - CONNECT_AHEAD - time.time()))
    pools = Console(request)
    pools.tell("SHOW VERSION", CONNECT_AHEAD)
    time.sleep(max(0.0, request["at"] - time.time()))
    started = time.monotonic()
    error = pools.tell("PAUSE", request["drain"])
    if error:
        pools.close()  # it may still wait for its answer
        problem = console(request, "RESUME", 5)
        report(state="gave_up", paused_seconds=time.monotonic() - started, message=f"{error}. Resumed{': ' + problem if problem else ''}.")
        return 0
    note, leader, others = "", "", [member for member in request["members"] if member["name"] != request["leader"]]
    with ThreadPoolExecutor(max_workers=max(1, len(others))) as pool:
        while not leader and time.monotonic() - started < request["limit"]:
            answers = zip(others, pool.map(lambda member: leads(member, context), others), strict=True)
            leader = next((member["name"] for member, yes in answers if yes), "")
            if not leader:
                time.sleep(LOOK)
    if leader:
        note = point(request, leader)
    problem = pools.tell("RESUME", 5)
    seconds = time.monotonic() - started
    if not leader:
        note = f"no other member led within {request['limit']} s"
    report(
        state="switched" if leader else "timed_out", leader=leader, paused_seconds=seconds, message="; ".join(filter(None, [note, problem]))
    )
    return int(bool(problem))


def resume(request: dict[str, Any]) -> int:
    """RESUME where something is still paused; on a pool that runs it is an error that means nothing."""
    console(request, "RESUME", 5)
    if not REPORT.exists():
        report(state="interrupted", message="ended before the switchover was over; the pools are running again")
    return 0


def main() -> int:
    request = json.loads(REQUEST.read_text(encoding="utf-8"))
    if sys.argv[1:] == ["resume"]:
        return resume(request)
    REPORT.unlink(missing_ok=True)
    return hold(request)


if __name__ == "__main__":
    sys.exit(main())
