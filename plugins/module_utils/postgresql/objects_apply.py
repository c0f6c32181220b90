# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Reads and makes roles, databases and privileges, which `objects` has planned: on this host's server, or on one elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from ansible_collections.uptier.platform.plugins.module_utils.postgresql.errors import PostgresqlError
from ansible_collections.uptier.platform.plugins.module_utils.postgresql.objects import Statement
from ansible_collections.uptier.platform.plugins.module_utils.postgresql.remote import Remote
from ansible_collections.uptier.platform.plugins.module_utils.postgresql.session import Session, SqlError

NAME = "uptier objects"
# Verifiers are no passwords, yet they do not belong into a log either. Only a superuser may say so.
QUIET = "SET log_statement = 'none'; SET log_min_duration_statement = -1; SET log_min_error_statement = 'panic'"


class Server:
    """A session of its own for everything that is asked or told, since most of it concerns a certain database."""

    def __init__(self, where: str, connect: Callable[[str], Session], quiet: bool) -> None:
        self._where, self._connect, self._quiet = where, connect, quiet

    @classmethod
    def local(cls, port: int, user: str) -> Server:
        """Return the server on this host, as its superuser."""
        return cls("on this host", lambda database: Session(database, port=port, user=user, name=NAME), True)

    @classmethod
    def remote(cls, remote: Remote) -> Server:
        """Return a server elsewhere, of which we may be no superuser."""
        return cls(f"at {remote.host}", remote.session, False)

    def read(self, database: str, query: str) -> Any:
        """Return the JSON value that a query gives."""
        return self._use(database, lambda session: session.data(query))

    def apply(self, database: str, statements: Iterable[Statement], single: bool = True) -> None:
        """Run statements, all of them or none; one by one where `single` is false, for what no transaction may hold."""
        texts = [statement.sql for statement in statements]
        if texts:
            self._use(database, lambda session: [session.execute(text) for text in (["BEGIN", *texts, "COMMIT"] if single else texts)])

    def _use(self, database: str, work: Callable[[Session], Any]) -> Any:
        try:
            with self._connect(database) as session:
                if self._quiet:
                    session.script(QUIET)
                return work(session)
        except SqlError as error:
            raise PostgresqlError(error.reason, f"PostgreSQL {self._where} refused, in the database {database}: {error}") from error
