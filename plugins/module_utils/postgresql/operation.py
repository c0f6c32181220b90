# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Carries out a change of leaders: looks, decides, asks Patroni, and waits until it is seen to be done."""

from __future__ import annotations

import datetime
import ipaddress
import os
import socket
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from ansible_collections.uptier.platform.plugins.module_utils.postgresql.cluster import Observer
from ansible_collections.uptier.platform.plugins.module_utils.postgresql.failover import (
    Cluster,
    Plan,
    Refusal,
    Wish,
    describe,
    passes_soon,
    plan,
    unfinished,
)
from ansible_collections.uptier.platform.plugins.module_utils.postgresql.patroni import PatroniError
from ansible_collections.uptier.platform.plugins.module_utils.postgresql.probe import CONNECTING, Probe

LOOK = 0.2
# Patroni names a synchronous standby only a turn or two of its loop after it saw it stream.
SYNCHRONOUS_SOON = 20.0
LATE = 1.0  # as long as the poolers hold on anyway
CHECKPOINT_AHEAD = 3.0
CONNECT_AHEAD = 0.5
# Poolers pause at an agreed moment, each by its own clock; before all have, a session may still be opened.
SETTLED = 0.1
# Looks in one session: to start psql for each look would cost more than the look.
DRAIN = """DO $$
DECLARE
  seen text;
  patience timestamptz;
BEGIN
  PERFORM pg_sleep({wait});
  patience := clock_timestamp() + make_interval(secs => {seconds});
  LOOP
    PERFORM pg_stat_clear_snapshot();
    SELECT string_agg(format('%s@%s from %s, %s for %s s', usename, datname, client_addr, state,
                             round(extract(epoch FROM clock_timestamp() - state_change))), '; ' ORDER BY state_change) INTO seen
      FROM pg_stat_activity
     WHERE backend_type = 'client backend' AND client_addr IN ({addresses}) AND pid <> pg_backend_pid();
    EXIT WHEN seen IS NULL;
    IF clock_timestamp() > patience THEN
      RAISE EXCEPTION USING MESSAGE = seen;
    END IF;
    PERFORM pg_sleep(0.02);
  END LOOP;
END $$"""


class Operation:
    """One change of leaders, from the first look to the last."""

    logs = "`journalctl -u patroni`"

    def __init__(self, given: Mapping[str, Any], check_mode: bool) -> None:
        self.given, self.check_mode = given, check_mode
        self.wish = Wish(given["state"], given["leader"], given["candidate"], given["max_lag_bytes"], given["allow_data_loss"])
        self.observer = self.observe()
        self.probe: Probe | None = None
        self.release: Callable[[], None] | None = None
        self.refused: list[PatroniError] = []
        self.steps: list[str] = []

    def observe(self) -> Any:
        """Return what looks at the members."""
        return Observer(self.given)

    def lock(self) -> None:
        """Exclude other runs; raises Busy while there is one."""
        since = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
        who = {"what": self.wish.state, "process": os.getpid(), "host": socket.gethostname(), "since": since}
        try:
            self.release = self.observer.etcd.lock(who)
        except OSError:
            self.release = None  # without a quorum there is no lock, and the plan refuses

    def close(self) -> None:
        """Let go of everything."""
        if self.probe:
            self.probe.ended.set()
        if self.release:
            self.release()

    def login(self) -> Mapping[str, Any] | None:
        """Return the user of the probe."""
        return self.given["probe"]

    def decide(self, deadline: float) -> tuple[Cluster, Plan]:
        """Return a plan that can be carried out now. A lease that has to run out, or a change under way, is waited for.

        So is the choice of a synchronous standby, in check mode too: right after a restart or a failover there is none for some seconds.
        """
        soon = time.monotonic() + SYNCHRONOUS_SOON
        while True:
            cluster = self.observer.look()
            try:
                todo = plan(cluster, self.wish)
            except Refusal as refusal:
                if passes_soon(cluster, refusal):
                    until = min(soon, deadline)
                elif refusal.reason == "no_leader" and (cluster.requested or cluster.lease) and not self.check_mode:
                    until = deadline  # between two leaders nobody leads for a moment
                else:
                    raise
                if time.monotonic() > until:
                    raise
                time.sleep(1)
                continue
            if todo.action != "wait" or self.check_mode:
                return cluster, todo
            self.note(todo.steps[0])
            if time.monotonic() > deadline:
                raise Refusal(
                    "leader_unsure",
                    f"After {self.given['timeout']} s still: {todo.steps[0]}. It does not answer this host, yet somebody renews "
                    f"its lease, so it may well lead. Seen: {describe(cluster)}. Look at that host, or run this from another one.",
                    todo.candidates,
                )
            time.sleep(1)

    def note(self, step: str) -> None:
        if step not in self.steps:
            self.steps.append(step)

    def measure(self, first: bool) -> None:
        """Start the probe; where the leader runs, it has to see a write before anything is done."""
        given, login = self.given, self.login()
        if not login:
            return
        hosts = [(member["host"], member["port"]) for member in given["members"] if member["host"]]
        self.probe = Probe(hosts, {**login, "ca": given["ca"], "cert": given["cert"], "key": given["key"]})
        self.probe.start()
        if first and not self.probe.first(10):
            self.probe.stop()
            raise Refusal(
                "not_writable", f"The leader runs, but no write succeeds: {self.probe.last_error}. Mend that before the leader is changed."
            )

    def request(self, todo: Plan, cluster: Cluster) -> threading.Thread:
        """Ask Patroni. Its answer comes later than the change itself, so it is not waited for."""
        if todo.action == "promote":
            target, method, path, body = todo.leader, "PATCH", "/config", {"standby_cluster": None}
        elif todo.action == "switchover":
            target, method, path, body = todo.leader, "POST", "/switchover", {"leader": todo.leader, "candidate": todo.candidate}
        else:
            target, method, path, body = todo.candidate, "POST", "/failover", {"candidate": todo.candidate}

        def ask() -> None:
            try:
                self.observer.client(str(target)).call(path, method, body, timeout=60)
            except PatroniError as error:
                self.refused.append(error)

        thread = threading.Thread(target=ask, daemon=True)
        thread.start()
        return thread

    def lead(self, todo: Plan, asked: threading.Thread, deadline: float) -> None:
        """Wait until the candidate accepts writes."""
        while True:
            cluster = self.observer.look()
            leader = cluster.leader
            if leader and leader.name == todo.candidate and leader.writable:
                return
            if self.refused and not asked.is_alive() and leader and leader.name == todo.leader:
                raise Refusal("patroni_refused", f"{self.refused[0]} Still {leader.name} leads.", todo.candidates)
            if time.monotonic() > deadline:
                said = f" Patroni said: {self.refused[0]}" if self.refused else ""
                raise Refusal(
                    "not_promoted",
                    f"{todo.candidate} does not lead after {self.given['timeout']} s. Seen: {describe(cluster)}.{said} "
                    f"Look at {self.logs} on {todo.candidate}; it is safe to run this again.",
                    todo.candidates,
                )
            time.sleep(LOOK)

    def checkpoint(self, todo: Plan) -> None:
        """Leave the old leader little to write when it stops."""
        if self.probe:
            self.probe.ask("CHECKPOINT")

    def change(self, todo: Plan, cluster: Cluster) -> Plan:
        """Make the candidate lead, and return the plan with what is known now."""
        self.lead(todo, self.request(todo, cluster), time.monotonic() + self.given["timeout"])
        return todo

    def settle(self, todo: Plan, away: list[str]) -> tuple[Cluster, list[str]]:
        """Wait for the other members; who did not answer from the beginning is reported and not waited for."""
        deadline = time.monotonic() + self.given["rejoin_timeout"]
        while True:
            cluster = self.observer.look()
            if not unfinished(cluster, todo.candidate, away) or time.monotonic() > deadline:
                return cluster, unfinished(cluster, todo.candidate)
            time.sleep(1)

    def run(self) -> dict[str, Any]:
        given = self.given
        deadline = time.monotonic() + given["timeout"]
        started = changed = time.monotonic()
        if self.wish.state == "failover" and not self.check_mode:
            self.measure(False)
        cluster, todo = self.decide(deadline)
        away = [member.name for member in cluster.members if not member.answers]
        if todo.action != "none" and not self.check_mode:
            if self.probe is None:
                self.measure(todo.action == "switchover")
            if given["at"]:
                self.hold(given["at"], CHECKPOINT_AHEAD)
            if todo.action == "switchover":
                self.checkpoint(todo)
            draining = bool(given["drained"]) and todo.action == "switchover"
            if given["at"]:
                self.hold(given["at"], CONNECT_AHEAD if draining else 0.0)
            if draining:
                self.drain(given["drained"]["addresses"], given["drained"]["timeout"], given["at"])
            started = time.monotonic() if todo.action == "switchover" else started
            todo = self.change(todo, cluster)
            changed = time.monotonic()
        if self.check_mode:
            return self.result(cluster, todo, [], todo.candidate)
        cluster, not_back = self.settle(todo, away)
        leader = cluster.leader
        if leader is None or (todo.candidate and leader.name != todo.candidate):
            raise Refusal("not_settled", f"The change did not last: {'; '.join(not_back)}. Look at {self.logs} on the members.")
        outage = None
        if self.probe:
            self.probe.first(5, changed)
            self.probe.stop()
            outage = self.probe.outage(started)
            if todo.action != "none" and outage is None:
                raise Refusal(
                    "not_writable", f"{leader.name} leads, but no write succeeds since: {self.probe.last_error}.{self.hint(leader)}"
                )
        return self.result(cluster, todo, not_back, leader.name, outage)

    def hint(self, leader: Any) -> str:
        """Return what may keep a new leader from taking writes."""
        return ""

    def hold(self, moment: float, ahead: float) -> None:
        """Sleep until `ahead` seconds before the moment."""
        left = moment - ahead - time.time()
        if left < -LATE:
            raise Refusal("too_late", f"The moment given for the switchover passed {-left:.1f} s ago. Nothing was done; run it again.")
        time.sleep(max(0.0, left))

    def drain(self, addresses: list[str], seconds: float, moment: float | None) -> None:
        """Wait until the clients that hold have let go of their sessions, which is when nothing of theirs can fail.

        Args:
            addresses: of the clients' hosts.
            seconds: how long that may take.
            moment: when they begin to hold, in seconds since 1970.
        """
        names = ",".join(f"'{ipaddress.ip_address(address)}'" for address in addresses)
        wait = max(0.0, moment - time.time() + SETTLED) if moment else 0.0
        problem = self.probe.ask(DRAIN.format(wait=wait, seconds=seconds, addresses=names), wait + seconds + 2 + CONNECTING)[1]
        if problem:
            said = "; ".join(problem.removeprefix("ERROR:").strip().split("; ")[:5])
            raise Refusal(
                "not_drained",
                f"After {seconds:g} s there are still sessions of the hosts that were to hold: {said}. Nothing was switched. "
                "End the long transaction, or wait for it, and run this again.",
            )

    def result(self, cluster: Cluster, todo: Plan, not_back: list[str], leader: str | None, outage: float | None = None) -> dict[str, Any]:
        done = todo.action not in ("none", "wait")
        if self.check_mode:
            said = todo.message or f"{todo.candidate} would lead"
        else:
            said = todo.message if not done else f"{leader} leads on timeline {cluster.timeline}"
            said += f"; no write succeeded for {outage:.1f} s" if outage is not None and done else ""
            said += f"; not back: {'; '.join(not_back)}" if not_back else ""
        return {
            "changed": done,
            "old_leader": todo.leader,
            "leader": leader,
            "timeline": cluster.timeline,
            "candidates": todo.candidates,
            "data_loss_bytes": todo.data_loss_bytes,
            "outage_seconds": round(outage, 2) if outage is not None else None,
            "not_back": not_back,
            "steps": self.steps + [step for step in todo.steps if step not in self.steps],
            "message": said,
            "time": time.time(),
            "diff": {"before": f"leader: {todo.leader}\n", "after": f"leader: {leader}\n"} if done else {},
            "warned": todo.warnings,
        }
