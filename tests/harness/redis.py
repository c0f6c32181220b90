# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Real Redis servers on loopback, and a client that follows the cluster and remembers what was acknowledged."""

from __future__ import annotations

import contextlib
import itertools
import os
import subprocess
import threading
import time
from pathlib import Path
from typing import Any

from ansible_collections.uptier.platform.plugins.module_utils.redis.cluster import Node
from ansible_collections.uptier.platform.plugins.module_utils.redis.resp import Connection, RespError, Unreachable

PASSWORD = "0123456789abcdef"
# The bus has the port 10000 above, and both have to stay below those that the kernel deals out.
PORTS = itertools.count(11000 + os.getpid() % 400 * 20)


def dial(address: str, port: int) -> Connection:
    return Connection(address, port, None, "default", PASSWORD, 5)


class Servers:
    """Redis processes on loopback; each counts as a host of its own."""

    def __init__(self, folder: Path, program: list[str], environment: dict[str, str]) -> None:
        self.folder, self.program, self.environment = folder, program, environment
        self.running: dict[str, subprocess.Popen[bytes]] = {}

    def node(self, name: str) -> Node:
        node = Node(name, "127.0.0.1", next(PORTS))
        (self.folder / node.label).mkdir()
        self.start(node)
        return node

    def start(self, node: Node) -> None:
        options = {
            "port": node.port, "bind": node.address, "cluster-announce-ip": node.address, "appendonly": "yes", "save": "",
            "cluster-enabled": "yes", "cluster-node-timeout": 2000,
            "cluster-allow-replica-migration": "no", "cluster-require-full-coverage": "no", "requirepass": PASSWORD, "masterauth": PASSWORD,
            "repl-diskless-sync-delay": 0, "enable-debug-command": "yes",
        }  # fmt: skip
        words = [word for name, value in options.items() for word in (f"--{name}", str(value))]
        with (self.folder / node.label / "log").open("ab") as log:
            self.running[node.label] = subprocess.Popen(
                [*self.program, *words], cwd=self.folder / node.label, env=self.environment, stdout=log, stderr=log
            )
        deadline = time.monotonic() + 30
        while True:
            with contextlib.suppress(Unreachable, RespError), dial(node.address, node.port) as connection:
                connection.call("PING")
                return
            assert time.monotonic() < deadline, (self.folder / node.label / "log").read_text()
            time.sleep(0.1)

    def kill(self, node: Node) -> None:
        self.running[node.label].kill()
        self.running.pop(node.label).wait()

    def stop(self, node: Node) -> None:
        """End a process as systemd does. Killed, it may lack what it had not given to its log while that was being synced."""
        self.running[node.label].terminate()
        self.running.pop(node.label).wait(60)

    def end(self) -> None:
        for process in self.running.values():
            process.kill()
            process.wait()


class Client(threading.Thread):
    """Writes numbered keys, follows redirections, and remembers what was acknowledged."""

    def __init__(self, nodes: list[Node], pace: float = 0.001) -> None:
        super().__init__(daemon=True)
        self.nodes, self.pace = nodes, pace
        self.links: dict[int, Connection] = {}
        self.acknowledged: list[int] = []
        self.worst = 0.0
        self.wait_for_replica = False  # only then does a write count as acknowledged
        self.stopped = threading.Event()
        self.errors: list[str] = []

    def link(self, port: int) -> Connection:
        if port not in self.links:
            self.links[port] = dial(next((node.address for node in self.nodes if node.port == port), "127.0.0.1"), port)
        return self.links[port]

    def ask(self, *words: Any) -> Any:
        port, asking = self.nodes[0].port, False
        for dummy in range(16):
            try:
                self.last = link = self.link(port)
                if asking:
                    link.call("ASKING")
                return link.call(*words)
            except RespError as error:
                if error.code not in ("MOVED", "ASK"):
                    raise
                port, asking = int(str(error).rpartition(":")[2]), error.code == "ASK"
            except Unreachable:
                self.links.pop(port, None)
                self.nodes = [*self.nodes[1:], self.nodes[0]]  # another one knows who leads now
                raise
        raise Unreachable("network", "redirected again and again: the slot is on its way to a node that does not lead")

    def run(self) -> None:
        for number in itertools.count():
            if self.stopped.is_set():
                return
            began = time.monotonic()
            try:
                self.ask("SET", f"n:{number}", number)
                if not self.wait_for_replica or self.last.call("WAIT", 1, 500):
                    self.acknowledged.append(number)
            except (RespError, Unreachable) as error:
                self.errors.append(str(error))
                time.sleep(0.05)
            self.worst = max(self.worst, time.monotonic() - began)
            time.sleep(self.pace)

    def finish(self) -> None:
        self.stopped.set()
        self.join(30)

    def missing(self) -> list[int]:
        return [number for number in self.acknowledged if self.ask("GET", f"n:{number}") != str(number)]
