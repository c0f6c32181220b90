# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""SCRAM-SHA-256 (RFC 5802, RFC 7677): verifiers as PostgreSQL stores them, so that a clear password never reaches SQL, and the
client's side of a login, so that it never reaches the server either."""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import re
import stringprep
import struct
import unicodedata

ITERATIONS = 4096
# A server that asks for more keeps its client computing; nobody stores so many.
MOST_ITERATIONS = 10_000_000
STORED = re.compile(r"^SCRAM-SHA-256\$(\d+):([A-Za-z0-9+/=]+)\$([A-Za-z0-9+/=]+):([A-Za-z0-9+/=]+)$")
PROHIBITED = (
    stringprep.in_table_c12,
    stringprep.in_table_c21_c22,
    stringprep.in_table_c3,
    stringprep.in_table_c4,
    stringprep.in_table_c5,
    stringprep.in_table_c6,
    stringprep.in_table_c7,
    stringprep.in_table_c8,
    stringprep.in_table_c9,
)


def prepare(password: str) -> bytes:
    """Normalise a password as PostgreSQL does (SASLprep); one that SASLprep refuses is taken as it is."""
    text = "".join(" " if stringprep.in_table_c12(char) else char for char in password if not stringprep.in_table_b1(char))
    text = unicodedata.normalize("NFKC", text)
    refused = not text or any(test(char) for char in text for test in PROHIBITED) or any(map(stringprep.in_table_a1, text))
    if not refused and any(map(stringprep.in_table_d1, text)):
        refused = any(map(stringprep.in_table_d2, text)) or not stringprep.in_table_d1(text[0]) or not stringprep.in_table_d1(text[-1])
    return (password if refused else text).encode()


def verifier(password: str, salt: bytes | None = None, iterations: int = ITERATIONS) -> str:
    """Return the verifier of a password, with a fresh salt where none is given."""
    salt = os.urandom(16) if salt is None else salt
    salted = hashlib.pbkdf2_hmac("sha256", prepare(password), salt, iterations)
    stored = hashlib.sha256(hmac.digest(salted, b"Client Key", "sha256")).digest()
    server = hmac.digest(salted, b"Server Key", "sha256")
    parts = [base64.b64encode(part).decode() for part in (salt, stored, server)]
    return f"SCRAM-SHA-256${iterations}:{parts[0]}${parts[1]}:{parts[2]}"


def matches(password: str, stored: str | None) -> bool:
    """Tell whether a stored verifier is that of the password."""
    found = STORED.match(stored or "")
    if not found:
        return False
    expected = verifier(password, base64.b64decode(found.group(2)), int(found.group(1)))
    return hmac.compare_digest(expected, stored or "")


MECHANISM = "SCRAM-SHA-256"
# What a server asks for, in PostgreSQL's own numbers.
ACCEPTED, CLEAR, MD5, SASL, SASL_GOES_ON, SASL_ENDS = 0, 3, 5, 10, 11, 12
ASKED = {CLEAR: "a password in clear text", MD5: "an MD5 hash of the password"}
IMPOSTOR = "the server accepted the password without knowing it; it is not the server that it claims to be"


class ScramError(Exception):
    """The server does not follow the protocol, or does not know the password itself; the message says which."""


class NoScramError(Exception):
    """The server asks for another kind of login; the message says which. No password was sent."""


class Client:
    """One login. `first` and `final` are what the client sends, `check` looks at the server's last word; `answer` does it all in
    PostgreSQL's messages."""

    def __init__(self, password: str, user: str = "", nonce: str = "") -> None:
        self._password = password
        self._nonce = nonce or base64.b64encode(os.urandom(18)).decode()
        # PostgreSQL takes the user from the start of the session and wants none here.
        self._bare = f"n={user},r={self._nonce}"
        self._proof_of_server = b""
        self.checked = False
        self.accepted = False

    def answer(self, kind: int, more: bytes) -> bytes:
        """Return what to send to a request for authentication, in its number and body; empty where nothing is to be said."""
        if kind == ACCEPTED:
            if self.open:
                raise ScramError(IMPOSTOR)
            self.accepted = True
        elif kind == SASL and MECHANISM in more.decode("ascii", "replace").split("\0"):
            first = self.first()
            return MECHANISM.encode() + b"\0" + struct.pack("!i", len(first)) + first
        elif kind == SASL_GOES_ON:
            return self.final(more)
        elif kind == SASL_ENDS:
            self.check(more)
        else:
            raise NoScramError(ASKED.get(kind, f"a login of kind {kind}"))
        return b""

    @property
    def open(self) -> bool:
        """Tell whether we proved ourselves to a server that has not proved itself yet."""
        return bool(self._proof_of_server) and not self.checked

    def first(self) -> bytes:
        return f"n,,{self._bare}".encode()

    def final(self, challenge: bytes) -> bytes:
        """Return the proof that we know the password; only who stores its verifier can check it, and it serves this login alone."""
        given = dict(part.split("=", 1) for part in challenge.decode("ascii", "replace").split(",") if "=" in part)
        try:
            nonce, salt, iterations = given["r"], base64.b64decode(given["s"], validate=True), int(given["i"])
        except (KeyError, ValueError) as error:
            raise ScramError("the server's challenge has no nonce, salt and number of iterations") from error
        if not nonce.startswith(self._nonce) or nonce == self._nonce or not 1 <= iterations <= MOST_ITERATIONS:
            raise ScramError("the server's challenge does not answer ours")
        salted = hashlib.pbkdf2_hmac("sha256", prepare(self._password), salt, iterations)
        key = hmac.digest(salted, b"Client Key", "sha256")
        without = f"c={base64.b64encode(b'n,,').decode()},r={nonce}"
        told = b",".join((self._bare.encode(), challenge, without.encode()))
        signature = hmac.digest(hashlib.sha256(key).digest(), told, "sha256")
        self._proof_of_server = hmac.digest(hmac.digest(salted, b"Server Key", "sha256"), told, "sha256")
        proof = bytes(one ^ other for one, other in zip(key, signature, strict=True))
        return f"{without},p={base64.b64encode(proof).decode()}".encode()

    def check(self, outcome: bytes) -> None:
        """Refuse a server that did not prove that it stores the verifier of our password."""
        wanted = b"v=" + base64.b64encode(self._proof_of_server)
        if not self._proof_of_server or not hmac.compare_digest(outcome.split(b",")[0], wanted):
            raise ScramError(IMPOSTOR)
        self.checked = True
