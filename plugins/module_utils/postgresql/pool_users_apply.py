# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Changes the passwords with which a host's pools log in to the server, while clients go on.

No administrator of the server is needed: a role may change its own password, and the host knows the former one, from its file.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.uptier.platform.plugins.module_utils.host.files import replace_file
from ansible_collections.uptier.platform.plugins.module_utils.postgresql import pool_users, scram
from ansible_collections.uptier.platform.plugins.module_utils.postgresql.console import Console
from ansible_collections.uptier.platform.plugins.module_utils.postgresql.deadline import Deadline
from ansible_collections.uptier.platform.plugins.module_utils.postgresql.errors import PostgresqlError
from ansible_collections.uptier.platform.plugins.module_utils.postgresql.remote import Remote
from ansible_collections.uptier.platform.plugins.module_utils.postgresql.sql import identifier, literal

NAME = "uptier passwords"
# Who may open which pool, beside the file of users.
ACCESS = "hba.conf"
LOOK_SECONDS = 0.2
KEEPER_SECONDS = 30.0
# For what costs no connection its password: a pool that has none free by then is not held up.
BRIEF_SECONDS = 3.0
# PgBouncer tries a server login again after 0.3 s.
LOGIN_SECONDS = 10.0
# So often in a row the server has to take the new password, everywhere: behind one address there may be several standbys.
TIMES = 3


@dataclass(frozen=True)
class Database:
    """A pool: its name, the database behind it, the user that it logs in as, and how many connections it may have."""

    name: str
    database: str
    user: str
    read_only: bool = False
    size: int = 2


class Keeper:
    """A client that keeps a connection of a pool: in a transaction where that leaves others some, by use where the pool has one alone."""

    def __init__(self, database: Database, listen: tuple[str, int], password: str, seconds: float) -> None:
        self.database = database
        self._idle = database.size <= 1
        self._session = Console(listen, database.user, password, seconds, NAME, database.name)
        try:
            self._session.script("SELECT 1" if self._idle else "BEGIN; SELECT 1")
        except PostgresqlError:
            self._session.__exit__()
            raise

    def touch(self) -> None:
        """Have the pool's only connection used, so that it is not taken for idle."""
        if self._idle:
            with contextlib.suppress(PostgresqlError):
                self._session.script("SELECT 1")

    def release(self) -> None:
        with contextlib.suppress(PostgresqlError), self._session:
            if not self._idle:
                self._session.script("ROLLBACK")


@dataclass
class Pools:
    """The pools of this host. `leader` is where the server takes writes, `replicas` where it is read from, `listen` where PgBouncer
    listens, and `ca` the text of the server's authority."""

    path: str
    users: Mapping[str, str] = field(repr=False)
    others: Mapping[str, str] = field(repr=False)
    databases: Sequence[Database]
    leader: tuple[str, int]
    replicas: tuple[str, int]
    listen: tuple[str, int]
    ca: str = field(repr=False)
    reload: Callable[[], None]
    pending: str = "/run/uptier/pool_users.pending"
    ready: str = "/run/uptier/pool_users.ready"
    gid: int = -1
    check: bool = False

    def seen(self) -> dict[str, str]:
        try:
            with open(self.path, encoding="utf-8") as handle:
                return pool_users.parse(handle.read())
        except FileNotFoundError:
            return {}

    def present(self, create: bool) -> tuple[bool, list[str]]:
        """Write the file as far as that interrupts nobody.

        Returns:
            Whether something changed, and the users whose password has to be changed at the server first.
        """
        exists = os.path.exists(self.path)
        if not exists and not create:
            return False, []
        seen = self.seen()
        serving: dict[str, str] = {}
        rotate: list[str] = []
        for user in pool_users.differing(self.users, seen):
            known = self._known(user, seen[user])
            if known == "former":
                rotate.append(user)
            if known == "former" or (known != "new" and not create):
                serving[user] = seen[user]
        if rotate and not self.check:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self.ready)
        changed = self._write(pool_users.entries(self.users, self.others, seen, serving))
        return changed or bool(rotate), rotate

    def retire(self) -> bool:
        """Let nobody in any longer who shows a former password."""
        seen = self.seen()
        if not seen:
            return False
        serving = {user: seen[user] for user in pool_users.differing(self.users, seen)}
        return self._write(pool_users.entries(self.users, self.others, seen, serving, keep=False))

    def alter(self) -> list[str]:
        """Have the server take the new passwords, where it has the former ones. Return whose."""
        done = []
        seen = self.seen()
        for user in pool_users.differing(self.users, seen):
            if self._known(user, seen[user]) != "former":
                continue
            with self._remote(user, seen[user]).session(name=NAME) as session:
                # Who only reads says so by a setting of its own, and may lift it.
                session.script("SET default_transaction_read_only = off")
                word = literal(scram.verifier(self.users[user]))
                session.execute(f"ALTER ROLE {identifier(user)} PASSWORD {word}")
            done.append(user)
        return done

    def follow(self, timeout: float) -> list[str]:
        """Show the server the new passwords from the moment that it takes them. Return whose, those that came in time.

        Until then each pool keeps a connection, as while files are read: see `_held`.
        """
        seen = self.seen()
        # Whom the server takes with neither password does not hold up the others.
        differing = pool_users.differing(self.users, seen)
        waiting = [user for user in differing if self._known(user, seen[user])]
        serving = {user: seen[user] for user in differing if user not in waiting}
        times = 0
        deadline = Deadline(timeout)
        with self._held([one for one in self.databases if one.user in waiting], seen, KEEPER_SECONDS) as held:
            os.makedirs(os.path.dirname(self.ready), exist_ok=True)
            with open(self.ready, "w", encoding="utf-8"):
                pass
            try:
                # All at once: whenever PgBouncer rereads its files it opens the connections of all pools anew, as TLS may have changed.
                while waiting and not deadline.passed:
                    times = times + 1 if all(map(self._everywhere, waiting)) else 0
                    if times == TIMES:
                        self._write(pool_users.entries(self.users, self.others, seen, serving), held)
                        return waiting
                    for keeper in held:
                        keeper.touch()
                    time.sleep(LOOK_SECONDS)
            finally:
                os.unlink(self.ready)
        return []

    @contextlib.contextmanager
    def _held(self, databases: Sequence[Database], seen: Mapping[str, str], seconds: float) -> Iterator[list[Keeper]]:
        """Keep a connection of each pool.

        A pool whose last login to the server failed, or was given up because files were read again, refuses its clients while it has no
        connection at all; while it has one they wait. Where the server does not answer, not every pool is tried.
        """
        held: list[Keeper] = []
        deadline = Deadline(seconds)
        try:
            for one in databases:
                if deadline.passed:
                    break
                # A pool without a free connection has some.
                with contextlib.suppress(PostgresqlError):
                    held.append(Keeper(one, self.listen, seen[one.user], seconds))
            yield held
        finally:
            for keeper in held:
                keeper.release()

    def _log_in(self, databases: Sequence[Database]) -> None:
        """Have each pool log in to the server."""
        deadline = Deadline(LOGIN_SECONDS)
        passwords = self.seen()
        for one in databases:
            while not deadline.passed:
                with contextlib.suppress(PostgresqlError):
                    with Console(self.listen, one.user, passwords[one.user], LOGIN_SECONDS, NAME, one.name) as session:
                        session.script("SELECT 1")
                    break
                time.sleep(LOOK_SECONDS)

    def _remote(self, user: str, password: str, where: tuple[str, int] | None = None) -> Remote:
        host, port = where or self.leader
        database = next(one.database for one in self.databases if one.user == user)
        return Remote(host, user, password, port, database, self.ca, 5)

    def _known(self, user: str, before: str) -> str:
        """Tell which password the server takes: `new`, `former`, or neither (empty), also where it does not answer."""
        try:
            if self._remote(user, self.users[user]).accepts(user, self.users[user]):
                return "new"
            return "former" if self._remote(user, before).accepts(user, before) else ""
        except (PostgresqlError, OSError):
            return ""

    def _everywhere(self, user: str) -> bool:
        """Tell whether every server that this user's pools lead to takes its new password: standbys learn it a moment later."""
        places = {self.replicas if one.read_only else self.leader for one in self.databases if one.user == user}
        try:
            return all(self._remote(user, self.users[user], place).accepts(user, self.users[user]) for place in sorted(places))
        except (PostgresqlError, OSError):
            return False

    def _write(self, wanted: Mapping[str, str], held: Sequence[Keeper] | None = None) -> bool:
        """Write the files and have PgBouncer read them while each pool keeps a connection.

        A run that was killed in between leaves word of that for the next one.
        """
        pools = [(one.name, one.database, one.user) for one in self.databases]
        texts = {
            os.path.join(os.path.dirname(self.path), ACCESS): pool_users.access(pools, wanted, self.others),
            self.path: pool_users.render(wanted),
        }
        if all(self._same(path, text) for path, text in texts.items()) and not os.path.exists(self.pending):
            return False
        if self.check:
            return True
        os.makedirs(os.path.dirname(self.pending), exist_ok=True)
        with open(self.pending, "w", encoding="utf-8"):
            pass
        seen = self.seen()
        for path, text in texts.items():
            replace_file(path, text, 0o640, 0 if os.geteuid() == 0 else -1, self.gid)
        self._reread(seen, held)
        os.unlink(self.pending)
        return True

    def reread(self) -> None:
        """Have PgBouncer read its configuration and its users while each pool keeps a connection."""
        self._reread(self.seen())

    def _reread(self, seen: Mapping[str, str], held: Sequence[Keeper] | None = None) -> None:
        known = [one for one in self.databases if one.user in seen]
        with self._held(known, seen, BRIEF_SECONDS) if held is None else contextlib.nullcontext(held) as found:
            self.reload()
            self._log_in([keeper.database for keeper in found])

    def _same(self, path: str, text: str) -> bool:
        try:
            with open(path, encoding="utf-8") as handle:
                same = handle.read() == text
            state: Any = os.stat(path)
        except FileNotFoundError:
            return False
        return same and state.st_mode & 0o7777 == 0o640 and state.st_uid == 0 and self.gid in (-1, state.st_gid)
