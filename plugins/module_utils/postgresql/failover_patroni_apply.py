# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Changes the leader of a cluster under Patroni: Patroni is asked, and its members and etcd are looked at."""

from __future__ import annotations

import datetime
import math
import os
import socket
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from ansible_collections.uptier.platform.plugins.module_utils.postgresql.deadline import Deadline
from ansible_collections.uptier.platform.plugins.module_utils.postgresql.errors import OperationError, Refusal
from ansible_collections.uptier.platform.plugins.module_utils.postgresql.failover import Plan, Request
from ansible_collections.uptier.platform.plugins.module_utils.postgresql.failover_patroni import passes_soon, plan, unfinished
from ansible_collections.uptier.platform.plugins.module_utils.postgresql.patroni_client import Client, PatroniError, ask_all
from ansible_collections.uptier.platform.plugins.module_utils.postgresql.patroni_store import Store
from ansible_collections.uptier.platform.plugins.module_utils.postgresql.picture import Cluster, view
from ansible_collections.uptier.platform.plugins.module_utils.postgresql.probe_apply import Probe

LOOK_SECONDS = 0.2
ANSWER_SECONDS = 60  # Patroni answers when the change is done, which is later than it is seen
# Patroni names a synchronous standby only a turn or two of its loop after it saw it stream.
SYNCHRONOUS_SOON_SECONDS = 20.0


class PatroniDriver:
    """What `failover_apply.Operation` needs of a cluster under Patroni."""

    logs = "`journalctl -u patroni`"

    def __init__(self, given: Mapping[str, Any]) -> None:
        self.given = given
        self.login: Mapping[str, Any] | None = given["probe"]
        self.store = Store(given)
        self.urls = {member["name"]: member["url"] for member in given["members"]}

    def client(self, name: str) -> Client:
        return Client({**self.given, "url": self.urls[name]})

    def look(self) -> Cluster:
        """Look at all members and at etcd at once."""
        with ThreadPoolExecutor(max_workers=1) as pool:
            stored = pool.submit(self.store.read)
            return view(self.given["scope"], ask_all(self.given, self.urls), stored.result())

    def lock(self, what: str) -> Callable[[], None]:
        since = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
        try:
            return self.store.lock({"what": what, "process": os.getpid(), "host": socket.gethostname(), "since": since})
        except OSError:
            return lambda: None  # without a quorum there is no lock, and the plan refuses

    def decide(self, request: Request, dummy: Deadline, check_mode: bool) -> tuple[Cluster, Plan]:
        """Return a plan. Right after a restart or a failover there is no synchronous standby for some seconds, in check mode too."""
        cluster = self.look()
        try:
            return cluster, plan(cluster, request)
        except Refusal as refusal:
            if passes_soon(cluster, refusal):
                refusal.passes_within = SYNCHRONOUS_SOON_SECONDS
            elif refusal.reason == "no_leader" and (cluster.requested or cluster.lease) and not check_mode:
                refusal.passes_within = math.inf  # between two leaders nobody leads for a moment
            raise

    def doubt(self, picture: Cluster, dummy: Plan) -> str:
        return (
            f"It does not answer this host, yet somebody renews its lease, so it may well lead. Seen: {picture.describe()}. "
            "Look at that host, or run this from another one."
        )

    def checkpoint(self, dummy: Plan, probe: Probe | None) -> None:
        if probe:
            probe.ask("CHECKPOINT")

    def change(self, dummy: Request, todo: Plan) -> Plan:
        refused: list[PatroniError] = []
        self.wait_for_leader(todo, self.ask(todo, refused), refused)
        return todo

    def ask(self, todo: Plan, refused: list[PatroniError]) -> threading.Thread:
        """Ask Patroni for the change. Its answer comes later than the change itself, so it is not waited for; a refusal is kept."""
        if todo.action == "promote":
            target, method, path, body = todo.leader, "PATCH", "/config", {"standby_cluster": None}
        elif todo.action == "switchover":
            target, method, path, body = todo.leader, "POST", "/switchover", {"leader": todo.leader, "candidate": todo.candidate}
        else:
            target, method, path, body = todo.candidate, "POST", "/failover", {"candidate": todo.candidate}

        def ask() -> None:
            try:
                self.client(str(target)).call(path, method, body, timeout=ANSWER_SECONDS)
            except PatroniError as error:
                refused.append(error)

        thread = threading.Thread(target=ask, daemon=True)
        thread.start()
        return thread

    def wait_for_leader(self, todo: Plan, asked: threading.Thread, refused: list[PatroniError]) -> None:
        """Wait until the candidate accepts writes."""
        deadline = Deadline(self.given["timeout"])
        while True:
            cluster = self.look()
            leader = cluster.leader
            if leader and leader.name == todo.candidate and leader.writable:
                return
            if refused and not asked.is_alive() and leader and leader.name == todo.leader:
                raise Refusal("patroni_refused", f"{refused[0]} Still {leader.name} leads.", todo.candidates)
            if deadline.passed:
                said = f" Patroni said: {refused[0]}" if refused else ""
                raise OperationError(
                    "not_promoted",
                    f"{todo.candidate} does not lead after {self.given['timeout']} s. Seen: {cluster.describe()}.{said} "
                    f"Look at {self.logs} on {todo.candidate}; it is safe to run this again.",
                    todo.candidates,
                )
            time.sleep(LOOK_SECONDS)

    def unfinished(self, picture: Cluster, todo: Plan, away: list[str]) -> tuple[bool, list[str]]:
        return bool(unfinished(picture, todo.candidate, away)), unfinished(picture, todo.candidate)

    def hint(self, dummy: Any) -> str:
        return ""
