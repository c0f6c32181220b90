# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""PgBouncer's console: PostgreSQL's protocol, but for simple queries only, and with columns that are known by their names."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator

from ansible_collections.uptier.platform.plugins.module_utils.postgresql.scram import Client, NoScramError, ScramError
from ansible_collections.uptier.platform.plugins.module_utils.postgresql.session import Session, SessionError

NAME = "uptier console"


class Console(Session):
    """A session with the console, or through one of the pools. Who runs as PgBouncer's own user needs no password through its socket."""

    def __init__(
        self,
        address: str | tuple[str, int],
        user: str,
        password: str = "",
        seconds: float = 5.0,
        name: str = NAME,
        database: str = "pgbouncer",
    ) -> None:
        """Log in.

        Args:
            address: path of its socket, or host and port.
            user: one of its administrators or readers of statistics.
            password: proved by SCRAM, where it is asked for.
            seconds: that each answer may take.
            database: a pool, if not the console.
        """
        self._address = address
        self.login_seconds = seconds
        self._login = Client(password)
        try:
            super().__init__(database, user=user, name=name)
        except ScramError as error:
            raise SessionError("not_the_server", f"PgBouncer at {self._where}: {error}.") from error
        self._socket.settimeout(seconds)

    def _connect(self, dummy: str) -> socket.socket:
        self._where = self._address if isinstance(self._address, str) else ":".join(map(str, self._address))
        try:
            if not isinstance(self._address, str):
                return socket.create_connection(self._address, self.login_seconds)
            found = socket.socket(socket.AF_UNIX)
            found.settimeout(self.login_seconds)
            found.connect(self._address)
        except OSError as error:
            raise SessionError("not_reachable", f"No PgBouncer answers at {self._where}: {error.strerror or error}.") from error
        return found

    def _authenticate(self, kind: int, more: bytes) -> None:
        try:
            self._prove(self._login.answer(kind, more))
        except NoScramError as asked:
            raise SessionError("no_scram", f"PgBouncer at {self._where} asks for {asked}, not for SCRAM.") from None

    def show(self, what: str) -> list[dict[str, str]]:
        """Return the rows of `SHOW what`, by the names of their columns; what is null is empty."""
        self._names: list[str] = []
        body = f"SHOW {what}".encode() + b"\0"
        rows = self._ask(b"Q" + struct.pack("!i", len(body) + 4) + body)
        return [{name: value or "" for name, value in zip(self._names, row, strict=True)} for row in rows]

    def _message(self) -> tuple[bytes, bytes]:
        kind, body = super()._message()
        if kind == b"T":
            self._names = list(self._described(body))
        return kind, body

    @staticmethod
    def _described(body: bytes) -> Iterator[str]:
        at = 2
        for dummy in range(struct.unpack("!h", body[:2])[0]):
            end = body.index(b"\0", at)
            yield body[at:end].decode()
            at = end + 19
