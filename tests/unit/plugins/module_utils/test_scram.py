# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""SCRAM verifiers, against the example of RFC 7677 and one that PostgreSQL made."""

from __future__ import annotations

import base64

import pytest
from ansible_collections.uptier.platform.plugins.module_utils.scram import STORED, matches, prepare, verifier

RFC_SALT = base64.b64decode("W22ZaJ0SNY7soEsUEjb6gQ==")
RFC = (
    "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU="
)


def test_the_example_of_the_standard() -> None:
    assert verifier("pencil", RFC_SALT) == RFC
    assert matches("pencil", RFC)


def test_another_password_or_none_does_not_match() -> None:
    assert not matches("Pencil", RFC)
    assert not matches("pencil", None)
    assert not matches("pencil", "md5" + "0" * 32)


def test_every_verifier_has_its_own_salt() -> None:
    first, second = verifier("pencil"), verifier("pencil")
    assert first != second
    assert STORED.match(first)
    assert matches("pencil", first)
    assert matches("pencil", second)


def test_the_stored_number_of_iterations_counts() -> None:
    assert matches("pencil", verifier("pencil", RFC_SALT, 10000))


@pytest.mark.parametrize(
    ("password", "prepared"),
    [
        ("I\u00adX", b"IX"),
        ("\u00aa", b"a"),
        ("\u2168", b"IX"),
        ("a\u00a0b", b"a b"),
        ("\u0007", b"\x07"),
        ("\u0627\u0031", "\u0627\u0031".encode()),
        ("\u0627\u0628", "\u0627\u0628".encode()),
    ],
)
def test_passwords_are_normalised_as_saslprep_says_or_taken_as_they_are(password: str, prepared: bytes) -> None:
    assert prepare(password) == prepared
