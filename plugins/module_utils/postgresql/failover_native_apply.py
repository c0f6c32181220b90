# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Changes the leader of a streaming pair without Patroni: asks the servers themselves, fences the old primary, promotes a standby."""

from __future__ import annotations

import os
import shlex
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

from ansible_collections.uptier.platform.plugins.module_utils.postgresql.deadline import Deadline
from ansible_collections.uptier.platform.plugins.module_utils.postgresql.errors import Busy, OperationError, Refusal
from ansible_collections.uptier.platform.plugins.module_utils.postgresql.failover import Plan, Request
from ansible_collections.uptier.platform.plugins.module_utils.postgresql.failover_native import (
    Fencing,
    missing,
    not_back,
    one_cluster,
    plan,
)
from ansible_collections.uptier.platform.plugins.module_utils.postgresql.picture import LOOK, Pair, Server, server
from ansible_collections.uptier.platform.plugins.module_utils.postgresql.probe_apply import Probe
from ansible_collections.uptier.platform.plugins.module_utils.postgresql.psql import OpenPsql, Psql

LOOK_SECONDS = 0.1
STAYS_SILENT_SECONDS = 1.0  # for which a fenced server has to stay silent, so that no supervisor has started it again
FALLS_SILENT_SECONDS = 10.0  # that it may take to fall silent
NO_PROGRESS_SECONDS = 3.0  # after which a standby has all that it will get
CHECKPOINT_SECONDS = 60.0
KEY = "1970302569, 1"  # "upti"
HOLDER = """
SELECT format('%s, since %s', application_name, to_char(backend_start AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS UTC'))
FROM pg_locks JOIN pg_stat_activity USING (pid) WHERE locktype = 'advisory' AND granted AND (classid, objid) = (1970302569, 1) LIMIT 1
"""


class Lock:
    """An advisory lock in a session of its own, which ends with this process."""

    def __init__(self, session: OpenPsql, name: str, ask: Callable[[str], tuple[str, str]]) -> None:
        self.session = session
        answer = session.ask(f"SELECT pg_try_advisory_lock({KEY})")
        if answer == "t":
            return
        session.close()
        if answer == "f":
            holder, dummy = ask(HOLDER)
            raise Busy(holder or f"somebody held the lock on {name} a moment ago")
        raise Refusal("no_lock", f"{name} answers, but gives no lock against a second run: {answer or 'no answer'}. Nothing was done.")


class NativeDriver:
    """What `failover_apply.Operation` needs of a streaming pair."""

    logs = "PostgreSQL's log"

    def __init__(self, given: Mapping[str, Any]) -> None:
        self.given = given
        self.login: Mapping[str, Any] | None = given["probe"] or given["native"]
        self.scope = given["scope"] or "the pair"
        self.user = {**given["native"], "ca": given["ca"], "cert": given["cert"], "key": given["key"]}
        self.hosts = {member["name"]: (member["host"], member["port"]) for member in given["members"]}
        self.clients = {name: Psql([host], self.user) for name, host in self.hosts.items()}
        fencing = given["fencing"] or {}
        self.command: list[str] = fencing.get("command") or []
        self.fencing_seconds: int = fencing.get("timeout", 60)
        self.fencing = Fencing(bool(self.command), bool(fencing.get("fenced")))
        self.locks: list[Lock] = []

    # Looks ----------------------------------------------------------------------------------------------------------------

    def look_at(self, name: str) -> Server:
        return server(name, *self.clients[name].ask(LOOK))

    def look(self) -> Pair:
        """Look at all servers at once."""
        with ThreadPoolExecutor(max_workers=max(1, len(self.clients))) as pool:
            return Pair(self.scope, tuple(pool.map(self.look_at, sorted(self.clients))))

    # One run at a time ----------------------------------------------------------------------------------------------------

    def lock(self, what: str) -> Callable[[], None]:
        """Lock every standby: whichever is promoted is among them. A stopping primary ends its sessions, and with them a lock."""
        who = f"{what} by process {os.getpid()} on {socket.gethostname()}"[:63]
        try:
            for member in self.look().members:
                if member.answers and not member.leads:
                    session = OpenPsql(Psql([self.hosts[member.name]], self.user, name=who))
                    self.locks.append(Lock(session, member.name, self.clients[member.name].ask))
        except BaseException:
            self.unlock()
            raise
        return self.unlock

    def unlock(self) -> None:
        for lock in self.locks:
            lock.session.close()

    # The decision ---------------------------------------------------------------------------------------------------------

    def decide(self, request: Request, deadline: Deadline, dummy: bool) -> tuple[Pair, Plan]:
        """Return a plan; a server that is on its way up or down is waited for.

        Where nobody leads, the end of the log counts, and the control file knows it after a checkpoint. A failover that may lose
        something does not wait for that.
        """
        pair = self.look()
        if not any(member.leads for member in pair.members) and (request.state == "switchover" or not request.allow_data_loss):
            pair = self.read_ends(pair, deadline)
        return pair, plan(pair, request, self.fencing)

    def doubt(self, picture: Pair, todo: Plan) -> str:
        return (
            f"{todo.leader} may well take writes, so nobody is promoted. Seen: {picture.describe()}. Look at {todo.leader} itself and stop "
            "PostgreSQL there, or run this from a host that reaches it."
        )

    def read_ends(self, pair: Pair, deadline: Deadline) -> Pair:
        """Let the standbys replay what they have and make a checkpoint, which changes no data; return how they are then."""
        while not deadline.passed and any(
            member.answers and not member.paused and not member.delay and member.replayed != member.received for member in pair.members
        ):
            time.sleep(LOOK_SECONDS)
            pair = self.look()
        names = [member.name for member in pair.members if member.answers]
        if names:
            with ThreadPoolExecutor(max_workers=len(names)) as pool:
                list(pool.map(self.flush, names))
        return self.look()

    def flush(self, name: str) -> None:
        self.clients[name].ask("CHECKPOINT", CHECKPOINT_SECONDS)

    def checkpoint(self, todo: Plan, dummy: Probe | None) -> None:
        """Leave the old primary little to write when it stops, and the candidate little when the end of its log is read."""
        for name in (todo.leader, todo.candidate):
            self.flush(str(name))

    # The change -----------------------------------------------------------------------------------------------------------

    def change(self, request: Request, todo: Plan) -> Plan:
        """Fence the old primary, see that the candidate has everything, and promote it."""
        seen = self.fence(todo) if self.command else 0
        self.wait_until_silent(todo)
        loss = todo.data_loss_bytes
        if loss == 0:
            lacks = self.lacks(str(todo.candidate), seen)
            if lacks and not request.allow_data_loss:
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
        deadline = Deadline(self.fencing_seconds)
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
            while process.poll() is None and not deadline.passed:
                if todo.action == "switchover":
                    seen = max(seen, self.look_at(str(todo.leader)).location or 0)
                time.sleep(LOOK_SECONDS)
            late = process.poll() is None
            if late:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
            output.seek(0)
            said = output.read().decode(errors="replace").strip()[-500:] or "it said nothing"
        if late or process.returncode:
            how = f"did not end within {self.fencing_seconds} s" if late else f"ended with {process.returncode}"
            raise Refusal(
                "fencing_failed",
                f"{words} {how}: {said}. So {todo.leader or 'the old primary'} may take writes, and nothing was promoted. Seen now: "
                f"{self.look().describe()}. Mend the command, or stop that server by hand; it is safe to run this again.",
                todo.candidates,
            )
        return seen

    def wait_until_silent(self, todo: Plan) -> None:
        """See that the old primary takes no writes, and goes on taking none."""
        begin = time.monotonic()
        quiet: float | None = None
        while True:
            pair = self.look()
            now = time.monotonic()
            why = self.seen_alive(pair, todo, now - begin)
            if why:
                quiet = None
            elif quiet is None:
                quiet = now
            elif now - quiet >= STAYS_SILENT_SECONDS:
                return
            if why and now - begin > FALLS_SILENT_SECONDS:
                said = f"{shlex.join(self.command)} ended with 0" if self.command else f"{todo.leader} is said to be fenced"
                raise Refusal(
                    "not_fenced",
                    f"{said}, but {why}. Nothing was promoted: two servers would take writes. Stop PostgreSQL there, see that nothing starts it "
                    "again, and run this again.",
                    todo.candidates,
                )
            time.sleep(LOOK_SECONDS)

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
        if (
            todo.leader
            and not fed
            and candidate
            and candidate.streaming
            and candidate.heard is not None
            and candidate.heard < since - STAYS_SILENT_SECONDS
        ):
            return f"{candidate.name} still hears from its primary (a message {candidate.heard:.1f} s ago)"
        return ""

    def lacks(self, name: str, seen: int) -> str:
        """Return why the candidate may not have all that the stopped primary wrote; empty when it has."""
        before, moved = None, time.monotonic()
        deadline = Deadline(self.given["timeout"], moved)
        while not deadline.passed:
            candidate = self.look_at(name)
            if (candidate.received, candidate.replayed) != before:
                before, moved = (candidate.received, candidate.replayed), time.monotonic()
            if candidate.answers and candidate.received == candidate.replayed and not candidate.streaming:
                break
            if time.monotonic() - moved > NO_PROGRESS_SECONDS:
                break
            time.sleep(LOOK_SECONDS)
        self.flush(name)
        return missing(self.look_at(name), seen)

    def promote(self, todo: Plan) -> None:
        """Promote the candidate and see it lead."""
        name = str(todo.candidate)
        if not all(lock.session.open for lock in self.locks):
            raise Refusal(
                "lock_lost",
                f"The lock against a second run was lost, so {name} was not promoted. It is safe to run this again.",
                todo.candidates,
            )
        dummy, error = self.clients[name].ask("SELECT pg_promote(false)")
        deadline = Deadline(self.given["timeout"])
        while True:
            candidate = self.look_at(name)
            if candidate.leads:
                return
            if deadline.passed:
                said = f" pg_promote said: {error}." if error else ""
                raise OperationError(
                    "not_promoted",
                    f"{name} does not lead after {self.given['timeout']} s. Seen: {name}: {candidate.said}.{said} Look at {self.logs} on {name}; "
                    "it is safe to run this again.",
                    todo.candidates,
                )
            time.sleep(LOOK_SECONDS)

    def unfinished(self, picture: Pair, todo: Plan, dummy: list[str]) -> tuple[bool, list[str]]:
        """Who is stopped is reported and not waited for."""
        one_cluster(picture)
        leader = picture.leader
        if leader is None:
            return False, [picture.describe()]
        old = todo.leader if todo.action != "none" else None
        found = not_back(picture, leader, old, todo.data_loss_bytes)
        return any(member.answers and member.name in found for member in picture.members), list(found.values())

    def hint(self, leader: Any) -> str:
        if not leader.waits_for:
            return ""
        return (
            f" Its synchronous_standby_names = '{leader.waits_for}' lets commits wait for a standby that does not stream: "
            "ALTER SYSTEM SET synchronous_standby_names = '', then SELECT pg_reload_conf()."
        )
