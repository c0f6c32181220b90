# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Carries out a change of leaders without Patroni: asks the servers themselves, fences the old primary, promotes a standby."""

from __future__ import annotations

import os
import select
import shlex
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

from ansible_collections.uptier.platform.plugins.module_utils.postgresql.cluster import Busy
from ansible_collections.uptier.platform.plugins.module_utils.postgresql.failover import Plan, Refusal
from ansible_collections.uptier.platform.plugins.module_utils.postgresql.native import (
    LOOK,
    Fencing,
    Pair,
    Server,
    describe,
    missing,
    not_back,
    one_cluster,
    plan,
    server,
)
from ansible_collections.uptier.platform.plugins.module_utils.postgresql.operation import Operation
from ansible_collections.uptier.platform.plugins.module_utils.postgresql.probe import Client

PAUSE = 0.1
GONE = 1.0  # seconds for which a fenced server has to stay silent, so that no supervisor has started it again
LEAVING = 10.0  # seconds that it may take to fall silent
STILL = 3.0  # seconds without progress after which a standby has all that it will get
CHECKPOINT = 60.0
KEY = "1970302569, 1"  # "upti"
HOLDER = """
SELECT format('%s, since %s', application_name, to_char(backend_start AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS UTC'))
FROM pg_locks JOIN pg_stat_activity USING (pid) WHERE locktype = 'advisory' AND granted AND (classid, objid) = (1970302569, 1) LIMIT 1
"""


class Servers:
    """Looks at all servers at once."""

    def __init__(self, given: Mapping[str, Any]) -> None:
        self.scope = given["scope"] or "the pair"
        self.login = {**given["native"], "ca": given["ca"], "cert": given["cert"], "key": given["key"]}
        self.hosts = {member["name"]: (member["host"], member["port"]) for member in given["members"]}
        self.clients = {name: Client([host], self.login) for name, host in self.hosts.items()}

    def one(self, name: str) -> Server:
        return server(name, *self.clients[name].ask(LOOK))

    def look(self) -> Pair:
        with ThreadPoolExecutor(max_workers=max(1, len(self.clients))) as pool:
            return Pair(self.scope, tuple(pool.map(self.one, sorted(self.clients))))


class Lock:
    """An advisory lock in a session of its own, which ends with this process."""

    def __init__(self, servers: Servers, name: str, who: str) -> None:
        client = Client([servers.hosts[name]], servers.login, name=who[:63])
        # A session that stays open, for which AnsibleModule.run_command is not made.
        self.session = subprocess.Popen(  # pylint: disable=ansible-bad-function
            [*client.command, "-d", client.conninfo],
            env=client.environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        answer = self._ask(f"SELECT pg_try_advisory_lock({KEY});\n".encode())
        if answer == "t":
            return
        self.end()
        if answer == "f":
            holder, dummy = servers.clients[name].ask(HOLDER)
            raise Busy(holder or f"somebody held the lock on {name} a moment ago")
        raise Refusal("no_lock", f"{name} answers, but gives no lock against a second run: {answer or 'no answer'}. Nothing was done.")

    def _ask(self, statement: bytes) -> str:
        if self.session.stdin is None or self.session.stdout is None:
            return ""
        try:
            self.session.stdin.write(statement)
            self.session.stdin.flush()
            ready, dummy, dummy = select.select([self.session.stdout], [], [], 6)
            return self.session.stdout.readline().decode(errors="replace").strip() if ready else ""
        except OSError as error:
            return str(error)

    @property
    def held(self) -> bool:
        return self.session.poll() is None

    def end(self) -> None:
        if self.session.stdin:
            self.session.stdin.close()
        try:
            self.session.wait(5)
        except subprocess.TimeoutExpired:
            self.session.kill()
            self.session.wait()
        if self.session.stdout:
            self.session.stdout.close()


class NativeOperation(Operation):
    """One change of leaders in a streaming pair."""

    logs = "PostgreSQL's log"

    def __init__(self, given: Mapping[str, Any], check_mode: bool) -> None:
        super().__init__(given, check_mode)
        fencing = given["fencing"] or {}
        self.command: list[str] = fencing.get("command") or []
        self.patience: int = fencing.get("timeout", 60)
        self.fencing = Fencing(bool(self.command), bool(fencing.get("fenced")))
        self.locks: list[Lock] = []

    def observe(self) -> Servers:
        return Servers(self.given)

    def login(self) -> Mapping[str, Any]:
        return self.given["probe"] or self.given["native"]

    # One run at a time ----------------------------------------------------------------------------------------------------

    def lock(self) -> None:
        """Lock every standby: whichever is promoted is among them. A stopping primary ends its sessions, and with them a lock."""
        who = f"{self.wish.state} by process {os.getpid()} on {socket.gethostname()}"
        for member in self.observer.look().members:
            if member.answers and not member.leads:
                self.locks.append(Lock(self.observer, member.name, who))

    def close(self) -> None:
        super().close()
        for lock in self.locks:
            lock.end()

    # The decision ---------------------------------------------------------------------------------------------------------

    def decide(self, deadline: float) -> tuple[Pair, Plan]:
        """Return a plan that can be carried out now; a server that is on its way up or down is waited for."""
        while True:
            pair = self.observer.look()
            # Where nobody leads, the end of the log counts, and the control file knows it after a checkpoint. A failover that may
            # lose something does not wait for that.
            if not any(member.leads for member in pair.members) and (self.wish.state == "switchover" or not self.wish.allow_data_loss):
                pair = self.read_ends(pair, deadline)
            todo = plan(pair, self.wish, self.fencing)
            if todo.action != "wait" or self.check_mode:
                return pair, todo
            self.note(todo.steps[0])
            if time.monotonic() > deadline:
                raise Refusal(
                    "leader_unsure",
                    f"After {self.given['timeout']} s still: {todo.steps[0]}. {todo.leader} may well take writes, so nobody is promoted. "
                    f"Seen: {describe(pair)}. Look at {todo.leader} itself and stop PostgreSQL there, or run this from a host that reaches it.",
                    todo.candidates,
                )
            time.sleep(1)

    def read_ends(self, pair: Pair, deadline: float) -> Pair:
        """Let the standbys replay what they have and make a checkpoint, which changes no data; return how they are then."""
        while time.monotonic() < deadline and any(
            member.answers and not member.paused and not member.delay and member.replayed != member.received for member in pair.members
        ):
            time.sleep(PAUSE)
            pair = self.observer.look()
        names = [member.name for member in pair.members if member.answers]
        if names:
            with ThreadPoolExecutor(max_workers=len(names)) as pool:
                list(pool.map(self.flush, names))
        return self.observer.look()

    def flush(self, name: str) -> None:
        self.observer.clients[name].ask("CHECKPOINT", CHECKPOINT)

    def checkpoint(self, todo: Plan) -> None:
        """Leave the old primary little to write when it stops, and the candidate little when the end of its log is read."""
        for name in (todo.leader, todo.candidate):
            self.flush(str(name))

    # The change -----------------------------------------------------------------------------------------------------------

    def change(self, todo: Plan, cluster: Any) -> Plan:
        """Fence the old primary, see that the candidate has everything, and promote it."""
        seen = self.fence(todo) if self.command else 0
        self.stay_away(todo)
        loss = todo.data_loss_bytes
        if loss == 0:
            lacks = self.lacks(str(todo.candidate), seen)
            if lacks and not self.wish.allow_data_loss:
                raise Refusal(
                    "data_loss",
                    f"{todo.leader} was stopped, but {todo.candidate} may not have all that it wrote: {lacks}. Nothing was promoted. Start "
                    f"{todo.leader} again, it has everything, and use a fencing command that stops it cleanly (pg_ctl stop -m fast); or accept "
                    "the loss with state: failover and allow_data_loss: true.",
                    todo.candidates,
                )
            loss = None if lacks else 0
        self.promote(todo)
        return replace(todo, data_loss_bytes=loss)

    def fence(self, todo: Plan) -> int:
        """Run the fencing command; return the last position that was seen on the old primary."""
        words = shlex.join(self.command)
        deadline = time.monotonic() + self.patience
        seen = 0
        with tempfile.TemporaryFile() as output:
            try:
                # Runs while the old primary is looked at, for which AnsibleModule.run_command is not made. Into a file: what the
                # command leaves running would keep a pipe open.
                process = subprocess.Popen(  # pylint: disable=ansible-bad-function
                    self.command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
                )
            except OSError as error:
                raise Refusal("fencing_failed", f"{words} cannot be run: {error}. Nothing was promoted.", todo.candidates) from error
            while process.poll() is None and time.monotonic() < deadline:
                if todo.action == "switchover":
                    seen = max(seen, self.observer.one(str(todo.leader)).location or 0)
                time.sleep(PAUSE)
            late = process.poll() is None
            if late:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
            output.seek(0)
            said = output.read().decode(errors="replace").strip()[-500:] or "it said nothing"
        if late or process.returncode:
            how = f"did not end within {self.patience} s" if late else f"ended with {process.returncode}"
            raise Refusal(
                "fencing_failed",
                f"{words} {how}: {said}. So {todo.leader or 'the old primary'} may take writes, and nothing was promoted. Seen now: "
                f"{describe(self.observer.look())}. Mend the command, or stop that server by hand; it is safe to run this again.",
                todo.candidates,
            )
        return seen

    def stay_away(self, todo: Plan) -> None:
        """See that the old primary takes no writes, and goes on taking none."""
        begin = time.monotonic()
        quiet: float | None = None
        while True:
            pair = self.observer.look()
            now = time.monotonic()
            why = self.seen_alive(pair, todo, now - begin)
            if why:
                quiet = None
            elif quiet is None:
                quiet = now
            elif now - quiet >= GONE:
                return
            if why and now - begin > LEAVING:
                said = f"{shlex.join(self.command)} ended with 0" if self.command else f"{todo.leader} is said to be fenced"
                raise Refusal(
                    "not_fenced",
                    f"{said}, but {why}. Nothing was promoted: two servers would take writes. Stop PostgreSQL there, see that nothing starts it "
                    "again, and run this again.",
                    todo.candidates,
                )
            time.sleep(PAUSE)

    def seen_alive(self, pair: Pair, todo: Plan, since: float) -> str:
        """Return how a server other than the candidate shows that it may take writes; empty when none does."""
        for member in pair.members:
            if member.leads and member.name != todo.candidate:
                return f"{member.name} takes writes (timeline {member.timeline})"
        old = pair.member(todo.leader)
        if old and old.error and not old.silent:
            return f"{old.name} still runs ({old.said})"
        candidate = pair.member(todo.candidate)
        # What streams from another standby hears that one.
        fed = any(member.feeds for member in pair.members if member.answers and member.name != todo.candidate)
        if todo.leader and not fed and candidate and candidate.streaming and candidate.heard is not None and candidate.heard < since - GONE:
            return f"{candidate.name} still hears from its primary (a message {candidate.heard:.1f} s ago)"
        return ""

    def lacks(self, name: str, seen: int) -> str:
        """Return why the candidate may not have all that the stopped primary wrote; empty when it has."""
        before, moved = None, time.monotonic()
        deadline = moved + self.given["timeout"]
        while time.monotonic() < deadline:
            candidate = self.observer.one(name)
            if (candidate.received, candidate.replayed) != before:
                before, moved = (candidate.received, candidate.replayed), time.monotonic()
            if candidate.answers and candidate.received == candidate.replayed and not candidate.streaming:
                break
            if time.monotonic() - moved > STILL:
                break
            time.sleep(PAUSE)
        self.flush(name)
        return missing(self.observer.one(name), seen)

    def promote(self, todo: Plan) -> None:
        """Promote the candidate and see it lead."""
        name = str(todo.candidate)
        if not all(lock.held for lock in self.locks):
            raise Refusal(
                "lock_lost",
                f"The lock against a second run was lost, so {name} was not promoted. It is safe to run this again.",
                todo.candidates,
            )
        dummy, error = self.observer.clients[name].ask("SELECT pg_promote(false)")
        deadline = time.monotonic() + self.given["timeout"]
        while True:
            candidate = self.observer.one(name)
            if candidate.leads:
                return
            if time.monotonic() > deadline:
                said = f" pg_promote said: {error}." if error else ""
                raise Refusal(
                    "not_promoted",
                    f"{name} does not lead after {self.given['timeout']} s. Seen: {name}: {candidate.said}.{said} Look at {self.logs} on {name}; "
                    "it is safe to run this again.",
                    todo.candidates,
                )
            time.sleep(PAUSE)

    def settle(self, todo: Plan, away: list[str]) -> tuple[Any, list[str]]:
        """Wait for the other standbys; who is stopped is reported and not waited for."""
        deadline = time.monotonic() + self.given["rejoin_timeout"]
        while True:
            pair = self.observer.look()
            one_cluster(pair)
            leader = pair.leader
            if leader is None:
                return pair, [describe(pair)]
            old = todo.leader if todo.action != "none" else None
            found = not_back(pair, leader, old, todo.data_loss_bytes)
            waited = [member.name for member in pair.members if member.answers and member.name in found]
            if not waited or time.monotonic() > deadline:
                return pair, list(found.values())
            time.sleep(1)

    def hint(self, leader: Any) -> str:
        if not leader.waits_for:
            return ""
        return (
            f" Its synchronous_standby_names = '{leader.waits_for}' lets commits wait for a standby that does not stream: "
            "ALTER SYSTEM SET synchronous_standby_names = '', then SELECT pg_reload_conf()."
        )
