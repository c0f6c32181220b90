# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A session with a PostgreSQL server elsewhere, for example a provider's: TCP, TLS with its certificate verified against authority and
name (what libpq calls verify-full), and a password by SCRAM.

In the protocol itself: no client program has to be installed, and the password stands in no argument, environment or file.
"""

from __future__ import annotations

import socket
import ssl
import struct
from dataclasses import dataclass, field, replace

from ansible_collections.uptier.platform.plugins.module_utils.postgresql.scram import Client, NoScramError, ScramError
from ansible_collections.uptier.platform.plugins.module_utils.postgresql.session import Session, SessionError, SqlError

TLS_REQUEST = struct.pack("!ii", 8, 80877103)
WRONG_PASSWORD, REFUSED = "28P01", "28000"
NAME = "uptier objects"

ARGUMENTS = {
    "type": "dict",
    "options": {
        "host": {"type": "str", "required": True},
        "port": {"type": "int", "default": 5432},
        "user": {"type": "str", "required": True},
        "password": {"type": "str", "required": True, "no_log": True},
        "database": {"type": "str", "default": "postgres"},
        "ca": {"type": "str", "default": ""},
        "connect_timeout": {"type": "int", "default": 10},
    },
}


@dataclass(frozen=True)
class Remote:
    """Where a server is and who we are there. `ca` is the text of the authority's certificate; empty: those that the system trusts."""

    host: str
    user: str
    password: str = field(repr=False)
    port: int = 5432
    database: str = "postgres"
    ca: str = field(default="", repr=False)
    connect_timeout: float = 10

    @property
    def label(self) -> str:
        return f"{self.host}:{self.port}"

    def session(self, database: str = "", name: str = NAME) -> RemoteSession:
        return RemoteSession(self, database or self.database, name)

    def accepts(self, user: str, password: str) -> bool:
        """Tell whether this is the user's password, by logging in: nobody but a superuser can see what is stored."""
        try:
            replace(self, user=user, password=password).session().close()
        except SessionError as error:
            if error.reason in ("wrong_password", "no_scram"):
                return False
            raise
        except AfterLoginError:
            return True  # it may not use this database, or has as many sessions as it may have
        return True


class AfterLoginError(SqlError):
    """The server has accepted the password and refuses the session all the same."""

    def __init__(self, error: SqlError) -> None:
        super().__init__({"code": error.code, "severity": error.severity, "message": error.message})


class RemoteSession(Session):
    """A session over TLS; `tls` is the version spoken."""

    tls = ""

    def __init__(self, server: Remote, database: str, name: str = "") -> None:
        self._server = server
        self.login_seconds = server.connect_timeout
        self._login = Client(server.password)
        try:
            super().__init__(database, server.host, server.port, server.user, name)
        except SqlError as error:
            if self._login.accepted:
                raise AfterLoginError(error) from error
            if error.code == WRONG_PASSWORD:
                text = f"{server.label} does not accept the password of {server.user} ({error.message}). Correct the user or the password."
                raise SessionError("wrong_password", text) from error
            if error.code == REFUSED:
                text = f"{server.label} does not let {server.user} in: {error.message}. Permit this host's address at the provider."
                raise SessionError("not_allowed", text) from error
            raise
        except ScramError as error:
            raise SessionError("not_the_server", f"{server.label}: {error}.") from error

    def _connect(self, user: str) -> socket.socket:
        server = self._where = self._server.label
        context = self._context()
        try:
            found = socket.create_connection((self._server.host, self._server.port), self._server.connect_timeout)
        except socket.gaierror as error:
            text = f"The name {self._server.host} cannot be resolved ({error.strerror}). Correct it, or the resolver of this host."
            raise SessionError("unknown_name", text) from error
        except OSError as error:
            seen = error.strerror or "no answer"
            text = f"No server answers at {server} ({seen}). Correct host and port, or permit this host's address at the provider."
            raise SessionError("not_reachable", text) from error
        try:
            return self._secure(found, context)
        except ssl.SSLCertVerificationError as error:
            found.close()
            against = "the given authority" if self._server.ca else "the authorities that this system trusts"
            text = (
                f"The certificate of {server} cannot be verified against {against}: {error.verify_message.rstrip('.')}. "
                "Give the provider's authority, and name the host as the certificate does."
            )
            raise SessionError("certificate_refused", text) from error
        except OSError as error:
            found.close()
            seen = error.strerror or "no answer"
            raise SessionError("no_tls", f"TLS with {server} fails: {seen}. TLS 1.2 or newer is needed.") from error
        except SessionError:
            found.close()
            raise

    def _secure(self, plain: socket.socket, context: ssl.SSLContext) -> socket.socket:
        # A way to the server that is dead shall not keep a run waiting for ever.
        plain.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for option, value in ((socket.TCP_KEEPIDLE, 30), (socket.TCP_KEEPINTVL, 10), (socket.TCP_KEEPCNT, 3)):
            plain.setsockopt(socket.IPPROTO_TCP, option, value)
        plain.sendall(TLS_REQUEST)
        answer = plain.recv(1)
        if answer != b"S":
            seen = "offers no TLS" if answer == b"N" else "is not PostgreSQL, or something in between is broken"
            text = f"{self._where} {seen}; no password was sent. Switch TLS on at the provider, or correct host and port."
            raise SessionError("no_tls", text)
        secured = context.wrap_socket(plain, server_hostname=self._server.host)
        self.tls = secured.version() or ""
        return secured

    def _context(self) -> ssl.SSLContext:
        """Verify as libpq does. The defaults of Python 3.13 refuse authorities of providers over formalities."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        try:
            if self._server.ca:
                context.load_verify_locations(cadata=self._server.ca)
            else:
                context.load_default_certs()
        except (ssl.SSLError, ValueError) as error:
            text = f"The authority for {self._server.label} is not a certificate in PEM format ({error}). Give the file that the provider offers."
            raise SessionError("bad_authority", text) from error
        return context

    def _authenticate(self, kind: int, more: bytes) -> None:
        try:
            answer = self._login.answer(kind, more)
        except NoScramError as asked:
            text = f"{self._where} asks {self._server.user} for {asked}, not for SCRAM."
            advice = "Have the provider store the password with password_encryption = scram-sha-256."
            raise SessionError("no_scram", f"{text} {advice}") from None
        self._prove(answer)

    def close(self) -> None:
        self._socket.close()
