# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""SCRAM verifiers, against the example of RFC 7677 and one that PostgreSQL made."""

from __future__ import annotations

import base64

import pytest
from ansible_collections.uptier.platform.plugins.module_utils.postgresql.scram import STORED, Client, ScramError, matches, prepare, verifier

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


# The exchange of RFC 7677, section 3.
CHALLENGE = b"r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"
PROOF = b"p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
OUTCOME = b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="


def client() -> Client:
    return Client("pencil", "user", "rOprNGfwEbeRWgbNEkqO")


def test_a_login_is_that_of_the_standard() -> None:
    login = client()
    assert login.first() == b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO"
    assert login.final(CHALLENGE) == b"c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0," + PROOF
    assert login.open
    login.check(OUTCOME)
    assert not login.open


def test_nonces_differ() -> None:
    assert Client("pencil").first() != Client("pencil").first()


@pytest.mark.parametrize("outcome", [b"", b"v=", b"e=other-error", b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G5="])
def test_a_server_that_does_not_know_the_password_is_refused(outcome: bytes) -> None:
    login = client()
    login.final(CHALLENGE)
    with pytest.raises(ScramError, match="without knowing it"):
        login.check(outcome)
    assert login.open


def test_a_server_that_skips_the_challenge_is_refused() -> None:
    with pytest.raises(ScramError, match="without knowing it"):
        client().check(b"v=")


@pytest.mark.parametrize(
    ("challenge", "words"),
    [
        (CHALLENGE.replace(b"r=rOpr", b"r=aOpr"), "does not answer ours"),
        (b"r=rOprNGfwEbeRWgbNEkqO,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096", "does not answer ours"),
        (CHALLENGE.replace(b"i=4096", b"i=0"), "does not answer ours"),
        (CHALLENGE.replace(b"i=4096", b"i=99999999999"), "does not answer ours"),
        (CHALLENGE.replace(b"i=4096", b"i=many"), "no nonce, salt and number"),
        (CHALLENGE.replace(b"s=W22Z", b"s=!!"), "no nonce, salt and number"),
        (b"", "no nonce, salt and number"),
    ],
)
def test_a_challenge_that_is_none_is_refused(challenge: bytes, words: str) -> None:
    with pytest.raises(ScramError, match=words):
        client().final(challenge)
