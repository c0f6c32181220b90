# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""One session with PostgreSQL in its own protocol (version 3), here through its local socket; `remote` goes over the network.

One session can hold a lock for a whole run, gives the error code of each statement, and takes no second statement and no command of
a client's own with the first. No client program has to be installed. Where libpq is wanted, there is `psql`.
"""

from __future__ import annotations

import json
import os
import pwd
import socket
import struct
from collections.abc import Iterator
from typing import Any

from ansible_collections.uptier.platform.plugins.module_utils.postgresql.errors import PostgresqlError

PROTOCOL = 3 << 16
FIELDS = {"V": "severity", "C": "code", "M": "message", "D": "detail", "H": "hint"}
# A server that is started answers so; one that does not answer at all (a stopped process, a dead disk) shall not hold up a run.
LOGIN_SECONDS = 30.0


class SessionError(PostgresqlError):
    """There is no session, or no longer."""


class SqlError(PostgresqlError):
    """The server refused a statement; `code` is its SQLSTATE."""

    def __init__(self, fields: dict[str, str]) -> None:
        self.code = fields.get("code", "")
        self.severity = fields.get("severity", "ERROR")
        self.message = fields.get("message", "no message")
        more = [fields[key] for key in ("detail", "hint") if fields.get(key)]
        super().__init__("sql_failed", " ".join([f"{self.message} ({self.code}).", *more]))


class Session:
    """A session as a superuser who is known by the operating system's user (peer)."""

    login_seconds = LOGIN_SECONDS

    def __init__(self, database: str, directory: str = "/run/postgresql", port: int = 5432, user: str = "postgres", name: str = "") -> None:
        self.database = database
        self.status = "I"
        self._where = f"{directory}/.s.PGSQL.{port}"
        self._buffer = b""
        self._socket = self._connect(user)
        words = {"user": user, "database": database, "application_name": name, "client_encoding": "UTF8"}
        body = b"".join(f"{key}\0{value}\0".encode() for key, value in words.items()) + b"\0"
        try:
            self._socket.sendall(struct.pack("!ii", len(body) + 8, PROTOCOL) + body)
            self._answers()
            self._socket.settimeout(None)  # a statement may take as long as it takes
        except BaseException:
            self._socket.close()
            raise

    def _connect(self, user: str) -> socket.socket:
        """Connect as `user`: the server asks the kernel who opens the socket, so root becomes that user for a moment."""
        me = os.geteuid()
        try:
            wanted = pwd.getpwnam(user).pw_uid
        except KeyError:
            raise SessionError("no_user", f"This host has no user {user}. Is PostgreSQL installed?") from None
        if me not in (0, wanted):
            raise SessionError("not_allowed", f"Only root and {user} may do this; this process runs with the user id {me}. Use become.")
        found = socket.socket(socket.AF_UNIX)
        found.settimeout(self.login_seconds)
        try:
            os.seteuid(wanted)
            found.connect(self._where)
        except OSError as error:
            found.close()
            raise SessionError(
                "not_reachable", f"No server answers at {self._where}: {error.strerror or error}. Does it run, on this port?"
            ) from error
        finally:
            os.seteuid(me)
        return found

    def _authenticate(self, kind: int, dummy: bytes) -> None:
        """Answer what the server wants to know of who we are; 0 is that it knows."""
        if kind:
            raise SessionError(
                "not_allowed", f"The server at {self._where} asks for a password. It must accept this user by peer authentication."
            )

    def _prove(self, answer: bytes) -> None:
        """Send what a login wants to say."""
        if answer:
            self._socket.sendall(b"p" + struct.pack("!i", len(answer) + 4) + answer)

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *dummy: object) -> None:
        self._socket.close()

    def execute(self, statement: str) -> list[list[str | None]]:
        """Run exactly one statement and return its rows; the protocol refuses a second one."""
        text = statement.encode() + b"\0"
        messages = [(b"P", b"\0" + text + b"\0\0"), (b"B", b"\0\0" + bytes(6)), (b"E", b"\0" + bytes(4)), (b"S", b"")]
        return self._ask(b"".join(kind + struct.pack("!i", len(body) + 4) + body for kind, body in messages))

    def script(self, text: str) -> None:
        """Run any number of statements."""
        body = text.encode() + b"\0"
        self._ask(b"Q" + struct.pack("!i", len(body) + 4) + body)

    def value(self, statement: str) -> str | None:
        return self.execute(statement)[0][0]

    def data(self, statement: str) -> Any:
        """Return the JSON value that a query gives."""
        return json.loads(self.value(statement) or "null")

    def _ask(self, message: bytes) -> list[list[str | None]]:
        try:
            self._socket.sendall(message)
        except OSError as error:
            raise self._lost() from error
        return self._answers()

    def _lost(self) -> SessionError:
        text = (
            f"The server ended the session with the database {self.database}: it stopped, failed over or ended the backend. Run it again."
        )
        return SessionError("connection_lost", text)

    def _answers(self) -> list[list[str | None]]:
        """Read until the server waits for the next question."""
        rows: list[list[str | None]] = []
        failures: list[SqlError] = []
        while True:
            kind, body = self._message()
            if kind == b"D":
                rows.append(list(self._columns(body)))
            elif kind == b"E":
                pairs = [part.decode(errors="replace") for part in body.split(b"\0") if part]
                failure = SqlError({FIELDS[pair[0]]: pair[1:] for pair in pairs if pair[0] in FIELDS})
                failures.append(failure)
                if failure.code.startswith("57P"):
                    raise self._lost() from failure
                if failure.severity in ("FATAL", "PANIC"):
                    raise failure
            elif kind == b"R":
                self._authenticate(struct.unpack("!i", body[:4])[0], body[4:])
            elif kind == b"G":  # COPY ... FROM STDIN in a script: there is nothing to copy
                self._socket.sendall(b"f" + struct.pack("!i", 5) + b"\0")
            elif kind == b"Z":
                self.status = body.decode()
                if failures:
                    raise failures[-1]
                return rows

    def _message(self) -> tuple[bytes, bytes]:
        head = self._read(5)
        return head[:1], self._read(struct.unpack("!i", head[1:])[0] - 4)

    def _read(self, count: int) -> bytes:
        while len(self._buffer) < count:
            try:
                part = self._socket.recv(65536)
            except TimeoutError as error:
                text = f"{self._where} takes the connection, but does not answer within {self.login_seconds:g} s. Does its server hang?"
                raise SessionError("no_answer", text) from error
            except OSError as error:
                raise self._lost() from error
            if not part:
                raise self._lost()
            self._buffer += part
        found, self._buffer = self._buffer[:count], self._buffer[count:]
        return found

    @staticmethod
    def _columns(body: bytes) -> Iterator[str | None]:
        at = 2
        for dummy in range(struct.unpack("!h", body[:2])[0]):
            length = struct.unpack("!i", body[at : at + 4])[0]
            at += 4
            yield None if length < 0 else body[at : at + length].decode()
            at += max(length, 0)
