# SPDX-License-Identifier: GPL-3.0-or-later
"""The container engine under the test hosts: what a host has used of the processors, and the loss of its power."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import socket
import subprocess

# The environment variable that names a file for what killed hosts had used: the engine counts anew from each start.
LOST_SECONDS = "UPTIER_LOST_SECONDS"


class EngineConnection(http.client.HTTPConnection):
    """HTTP over the engine's socket."""

    def connect(self) -> None:
        """Connect to the socket that the `docker` command uses by default."""
        address = os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock")
        if not address.startswith("unix://"):
            raise OSError(f"the engine is at {address}, not on this machine")
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(address.removeprefix("unix://"))


def used(container: str) -> float:
    """Return what a container has used of the processors since it started, in seconds; 0 where the engine does not say."""
    try:
        engine = EngineConnection("localhost", timeout=10)
        engine.request("GET", f"/containers/{container}/stats?stream=false&one-shot=true")
        seconds = json.load(engine.getresponse())["cpu_stats"]["cpu_usage"]["total_usage"] / 1e9
        engine.close()
    except (OSError, http.client.HTTPException, ValueError, KeyError):
        return 0.0
    return float(seconds)


def docker(*arguments: str, check: bool = True, timeout: float = 120) -> subprocess.CompletedProcess[str]:
    """Run the engine's command."""
    return subprocess.run(["docker", *arguments], check=check, capture_output=True, text=True, timeout=timeout)


def kill(container: str) -> None:
    """Take a host's power away."""
    _keep_account(container)
    docker("kill", container)


def restart(container: str) -> None:
    """Restart a host as its administrator does, with five seconds for what does not want to end."""
    _keep_account(container)
    docker("restart", "-t", "5", container)


def remove(container: str) -> None:
    """Remove a host and all that it holds."""
    _keep_account(container)
    docker("rm", "--force", "--volumes", container)


def _keep_account(container: str) -> None:
    path = os.environ.get(LOST_SECONDS)
    if path:
        with contextlib.suppress(OSError), open(path, "a", encoding="ascii") as notes:
            notes.write(f"{used(container):.2f}\n")
