# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""SCRAM-SHA-256 verifiers as PostgreSQL stores them (RFC 5802, RFC 7677), so that a clear password never reaches SQL."""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import re
import stringprep
import unicodedata

ITERATIONS = 4096
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
