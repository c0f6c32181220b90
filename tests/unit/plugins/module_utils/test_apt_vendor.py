# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Which keys of a file are trusted, against two keys that GnuPG made, and what apt is told."""

from __future__ import annotations

import base64

import pytest
from ansible_collections.uptier.platform.plugins.module_utils.host import apt_vendor as module

ONE = "B19089BEC7BA3F3DA4CC74E4ACDEDEB1F00FD623"
TWO = "03276174F68ECAE6218935C04EA850FB6D9D2867"
KEY_ONE = b"""-----BEGIN PGP PUBLIC KEY BLOCK-----

mDMEawg2AhYJKwYBBAHaRw8BAQdAiT9D+TpxN1IycH/Yspxkgb/p3oklGUmMEQrG
31hbBIu0GlRlc3Qgb25lIDxvbmVAZXhhbXBsZS5jb20+iJAEExYIADgWIQSxkIm+
x7o/PaTMdOSs3t6x8A/WIwUCawg2AgIbAwULCQgHAgYVCgkICwIEFgIDAQIeAQIX
gAAKCRCs3t6x8A/WIwuKAP45pZqNQnbgoN2O1x57Qle1ABlsful6bEzc6+JcrHJ/
8AD/Y+/q39fwZW9Tdmph2ADt2xx9iF4kN7um1Z1+hYDh0QE=
=dYWf
-----END PGP PUBLIC KEY BLOCK-----
"""
KEY_TWO = b"""-----BEGIN PGP PUBLIC KEY BLOCK-----

mDMEawg2AhYJKwYBBAHaRw8BAQdA05Meehmqzir8b00ugH8wNqUNPixCP7b/9WYw
7z4q/5m0GlRlc3QgdHdvIDx0d29AZXhhbXBsZS5jb20+iJAEExYIADgWIQQDJ2F0
9o7K5iGJNcBOqFD7bZ0oZwUCawg2AgIbAwULCQgHAgYVCgkICwIEFgIDAQIeAQIX
gAAKCRBOqFD7bZ0oZzSgAP9fjwuiMLtnirqtBzxHTNj/Hu0jiWXkuB21L0p1OrXG
LAEAuIiDDhmYZjq2tru0BFe2gcaDTXINU+ICPe2QhtYWAwY=
=SG+l
-----END PGP PUBLIC KEY BLOCK-----
"""


def test_fingerprints_are_those_of_gnupg() -> None:
    assert list(module.keys_of(KEY_ONE)) == [ONE]
    assert list(module.keys_of(module.dearmor(KEY_TWO))) == [TWO]


def test_only_trusted_keys_of_a_bundle_are_kept() -> None:
    assert module.trusted(KEY_ONE + KEY_TWO, [TWO]) == module.dearmor(KEY_TWO)
    assert module.trusted(module.dearmor(KEY_TWO) + module.dearmor(KEY_ONE), [ONE.lower()]) == module.dearmor(KEY_ONE)
    assert module.trusted(KEY_ONE + KEY_TWO, [TWO, ONE]) == module.dearmor(KEY_TWO + KEY_ONE)


def test_a_key_keeps_its_name_and_its_signatures() -> None:
    assert [tag for tag, dummy, dummy_whole in module.packets_of(module.trusted(KEY_ONE, [ONE]))] == [6, 13, 2]


def test_windows_line_ends_and_comments() -> None:
    text = KEY_ONE.replace(b"BLOCK-----\n\n", b"BLOCK-----\nComment: of the vendor\n\n", 1).replace(b"\n", b"\r\n")
    assert list(module.keys_of(text)) == [ONE]


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (KEY_TWO, f"it holds {TWO}, and trusted is {ONE}"),
        (b"<html>Log in to use this network</html>", "it is no OpenPGP file"),
        (b"", f"it holds no key, and trusted is {ONE}"),
        (module.dearmor(KEY_ONE)[:-9], "it ends in the middle of a packet"),
        (KEY_ONE.replace(b"mDME", b"mD_E"), "its armour is damaged"),
        (base64.b64decode(b"xv8AAAAA"), "it holds a key of version unknown"),
        (bytes([0xC6, 0xE1]), "it has a packet of partial length, which no key has"),
    ],
    ids=["another key", "a web page", "nothing", "cut off", "damaged", "empty key", "partial"],
)
def test_what_is_not_trusted_says_what_was_seen(data: bytes, said: str) -> None:
    with pytest.raises(module.KeyFileError, match=said):
        module.trusted(data, [ONE])


@pytest.mark.parametrize(
    ("installed", "version", "fits"),
    [
        ("3.7.8", "3.7.*", True),
        ("3.70.1", "3.7.*", False),
        ("3.8.0", "3.7.*", False),
        ("1.20.1-1", "1.*", True),
        ("13.2.3", "13.2.3", True),
        ("13.2.3", "", True),
    ],
)
def test_versions(installed: str, version: str, fits: bool) -> None:
    assert module.matches(installed, version) is fits


@pytest.mark.parametrize(("version", "common"), [("3.7.*", "3.7"), ("13.*", "13"), ("13.2.3", "13.2.3"), ("1.[23].*", "1")])
def test_what_versions_have_in_common(version: str, common: str) -> None:
    assert module.least(version) == common


def test_what_apt_is_told() -> None:
    assert module.sources("https://apt.example.com", "stable", "main", "/k.gpg").splitlines()[1:] == [
        "Types: deb", "URIs: https://apt.example.com", "Suites: stable", "Components: main", "Signed-By: /k.gpg",
    ]  # fmt: skip
    assert "Components" not in module.sources("https://apt.example.com", "./", "main", "/k.gpg")
    assert module.preferences("loki", "3.7.*").splitlines()[1:] == ["Package: loki", "Pin: version 3.7.*", "Pin-Priority: 990"]
