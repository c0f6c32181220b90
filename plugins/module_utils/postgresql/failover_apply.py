# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Carries out a change of leaders: looks, decides, has the driver act, and waits until it is seen to be done.

What differs between kinds of cluster is a `Driver`: `failover_patroni_apply.PatroniDriver` or `failover_native_apply.NativeDriver`.
"""

from __future__ import annotations

import ipaddress
import time
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from ansible_collections.uptier.platform.plugins.module_utils.postgresql.deadline import Deadline
from ansible_collections.uptier.platform.plugins.module_utils.postgresql.errors import OperationError, Refusal
from ansible_collections.uptier.platform.plugins.module_utils.postgresql.failover import Plan, Request
from ansible_collections.uptier.platform.plugins.module_utils.postgresql.picture import Picture
from ansible_collections.uptier.platform.plugins.module_utils.postgresql.probe_apply import Probe
from ansible_collections.uptier.platform.plugins.module_utils.postgresql.psql import CONNECTING_SECONDS

LOOK_SECONDS = 1.0
FIRST_WRITE_SECONDS = 10.0  # until a leader that runs has to take one
NEW_WRITE_SECONDS = 5.0  # until a new leader has to
LATE_SECONDS = 1.0  # as long as the poolers hold on anyway
CHECKPOINT_AHEAD_SECONDS = 3.0
CONNECT_AHEAD_SECONDS = 0.5
# Poolers pause at an agreed moment, each by its own clock; before all have, a session may still be opened.
SETTLED_SECONDS = 0.1
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


class Driver(Protocol):
    """What an operation needs of the kind of cluster that it changes."""

    logs: str  # where a member's own words are found
    login: Mapping[str, Any] | None  # the user whose writes are measured; None: nothing is

    def lock(self, what: str) -> Callable[[], None]:
        """Exclude other runs and return what lets them in again; raises Busy while there is one."""

    def look(self) -> Picture:
        """Return the cluster as it is now."""

    def decide(self, request: Request, deadline: Deadline, check_mode: bool) -> tuple[Picture, Plan]:
        """Look once and return what to do; raises Refusal."""

    def doubt(self, picture: Picture, todo: Plan) -> str:
        """Return why a plan to wait has not ended in time, and what to do about it."""

    def checkpoint(self, todo: Plan, probe: Probe | None) -> None:
        """Leave the old leader little to write when it stops."""

    def change(self, request: Request, todo: Plan) -> Plan:
        """Make the candidate lead; return the plan with what is known now. Raises OperationError once it was asked to."""

    def unfinished(self, picture: Picture, todo: Plan, away: list[str]) -> tuple[bool, list[str]]:
        """Tell whether it is worth while to wait for members, those that were away before left out, and return who is not back."""

    def hint(self, leader: Any) -> str:
        """Return what may keep a new leader from taking writes, or nothing."""


class Operation:
    """One change of leaders, from the first look to the last."""

    def __init__(self, given: Mapping[str, Any], check_mode: bool, driver: Driver) -> None:
        self.given, self.check_mode, self.driver = given, check_mode, driver
        self.request = Request(given["state"], given["leader"], given["candidate"], given["max_lag_bytes"], given["allow_data_loss"])
        self.probe: Probe | None = None
        self.release: Callable[[], None] | None = None
        self.steps: list[str] = []

    def lock(self) -> None:
        """Exclude other runs; raises Busy while there is one."""
        self.release = self.driver.lock(self.request.state)

    def close(self) -> None:
        """Let go of everything."""
        if self.probe:
            self.probe.ended.set()
        if self.release:
            self.release()

    def decide(self, deadline: Deadline) -> tuple[Picture, Plan]:
        """Return a plan that can be carried out now. What will pass by itself is waited for: a refusal, a lease, a change under way."""
        began = time.monotonic()
        while True:
            try:
                picture, todo = self.driver.decide(self.request, deadline, self.check_mode)
            except Refusal as refusal:
                if deadline.passed or time.monotonic() >= began + refusal.passes_within:
                    raise
                time.sleep(LOOK_SECONDS)
                continue
            if todo.action != "wait" or self.check_mode:
                return picture, todo
            self.note(todo.steps[0])
            if deadline.passed:
                still = f"After {self.given['timeout']} s still: {todo.steps[0]}."
                raise Refusal("leader_unsure", f"{still} {self.driver.doubt(picture, todo)}", todo.candidates)
            time.sleep(LOOK_SECONDS)

    def note(self, step: str) -> None:
        if step not in self.steps:
            self.steps.append(step)

    def measure(self, first: bool) -> None:
        """Start the probe; where the leader runs, it has to see a write before anything is done."""
        given, login = self.given, self.driver.login
        if not login:
            return
        hosts = [(member["host"], member["port"]) for member in given["members"] if member["host"]]
        self.probe = Probe(hosts, {**login, "ca": given["ca"], "cert": given["cert"], "key": given["key"]})
        self.probe.start()
        if first and not self.probe.first(FIRST_WRITE_SECONDS):
            self.probe.stop()
            raise Refusal(
                "not_writable", f"The leader runs, but no write succeeds: {self.probe.last_error}. Mend that before the leader is changed."
            )

    def settle(self, todo: Plan, away: list[str]) -> tuple[Picture, list[str]]:
        """Wait for the other members; who did not answer from the beginning is reported and not waited for."""
        deadline = Deadline(self.given["rejoin_timeout"])
        while True:
            picture = self.driver.look()
            waits, missing = self.driver.unfinished(picture, todo, away)
            if not waits or deadline.passed:
                return picture, missing
            time.sleep(LOOK_SECONDS)

    def run(self) -> dict[str, Any]:
        given = self.given
        deadline = Deadline(given["timeout"])
        started = changed = time.monotonic()
        if self.request.state == "failover" and not self.check_mode:
            self.measure(False)
        picture, todo = self.decide(deadline)
        away = [member.name for member in picture.members if not member.answers]
        if todo.action != "none" and not self.check_mode:
            if self.probe is None:
                self.measure(todo.action == "switchover")
            if given["at"]:
                self.sleep_until(given["at"], CHECKPOINT_AHEAD_SECONDS)
            if todo.action == "switchover":
                self.driver.checkpoint(todo, self.probe)
            draining = bool(given["drained"]) and todo.action == "switchover"
            if given["at"]:
                self.sleep_until(given["at"], CONNECT_AHEAD_SECONDS if draining else 0.0)
            if draining:
                self.drain(given["drained"]["addresses"], given["drained"]["timeout"], given["at"])
            started = time.monotonic() if todo.action == "switchover" else started
            todo = self.driver.change(self.request, todo)
            changed = time.monotonic()
        if self.check_mode:
            return self.result(picture, todo, [], todo.candidate)
        picture, not_back = self.settle(todo, away)
        leader = picture.leader
        if leader is None or (todo.candidate and leader.name != todo.candidate):
            said = f"The change did not last: {'; '.join(not_back)}. Look at {self.driver.logs} on the members."
            raise OperationError("not_settled", said)
        outage = None
        if self.probe:
            self.probe.first(NEW_WRITE_SECONDS, changed)
            self.probe.stop()
            outage = self.probe.outage(started)
            if todo.action != "none" and outage is None:
                raise OperationError(
                    "not_writable",
                    f"{leader.name} leads, but no write succeeds since: {self.probe.last_error}.{self.driver.hint(leader)}",
                )
        return self.result(picture, todo, not_back, leader.name, outage)

    def sleep_until(self, moment: float, ahead: float) -> None:
        """Sleep until `ahead` seconds before the moment."""
        left = moment - ahead - time.time()
        if left < -LATE_SECONDS:
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
        wait = max(0.0, moment - time.time() + SETTLED_SECONDS) if moment else 0.0
        problem = self.probe.ask(DRAIN.format(wait=wait, seconds=seconds, addresses=names), wait + seconds + 2 + CONNECTING_SECONDS)[1]
        if problem:
            said = "; ".join(problem.removeprefix("ERROR:").strip().split("; ")[:5])
            raise Refusal(
                "not_drained",
                f"After {seconds:g} s there are still sessions of the hosts that were to hold: {said}. Nothing was switched. "
                "End the long transaction, or wait for it, and run this again.",
            )

    def result(self, picture: Picture, todo: Plan, not_back: list[str], leader: str | None, outage: float | None = None) -> dict[str, Any]:
        done = todo.action not in ("none", "wait")
        if self.check_mode:
            said = todo.message or f"{todo.candidate} would lead"
        else:
            said = todo.message if not done else f"{leader} leads on timeline {picture.timeline}"
            said += f"; no write succeeded for {outage:.1f} s" if outage is not None and done else ""
            said += f"; not back: {'; '.join(not_back)}" if not_back else ""
        return {
            "changed": done,
            "old_leader": todo.leader,
            "leader": leader,
            "timeline": picture.timeline,
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
