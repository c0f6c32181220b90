# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A vendor's apt repository on a host: which of the keys in a file are trusted, and the files that name it to apt. Pure functions."""

from __future__ import annotations

import base64
import binascii
import fnmatch
import hashlib
import re
from collections.abc import Iterator, Sequence

ARMOR = re.compile(rb"-----BEGIN PGP PUBLIC KEY BLOCK-----(.*?)-----END PGP PUBLIC KEY BLOCK-----", re.S)
PUBLIC_KEY = 6
HEAD = "# Written by the collection uptier.platform (vendor_package).\n"


class KeyFileError(ValueError):
    """A file holds no key that is trusted, or is no file of keys; the message says what was seen."""


def dearmor(data: bytes) -> bytes:
    """Return the packets of an OpenPGP file, armoured (any number of blocks) or not."""
    blocks = ARMOR.findall(data)
    if not blocks:
        return data
    packets = b""
    for block in blocks:
        body = re.split(rb"\r?\n[ \t]*\r?\n", block, maxsplit=1)[-1]
        lines = [line.strip() for line in body.splitlines()]
        try:
            packets += base64.b64decode(b"".join(line for line in lines if not line.startswith(b"=")), validate=True)
        except binascii.Error as error:
            raise KeyFileError(f"its armour is damaged ({error})") from None
    return packets


def packets_of(data: bytes) -> Iterator[tuple[int, bytes, bytes]]:
    """Yield tag, body and the whole of each packet (RFC 9580, section 4.2)."""
    at = 0
    while at < len(data):
        start, head = at, data[at]
        at += 1
        try:
            if not head & 0x80:
                raise KeyFileError("it is no OpenPGP file")
            if head & 0x40:
                tag, first = head & 0x3F, data[at]
                at += 1
                if first < 192:
                    length = first
                elif first < 224:
                    length = ((first - 192) << 8) + data[at] + 192
                    at += 1
                elif first == 255:
                    length = int.from_bytes(data[at : at + 4], "big")
                    at += 4
                else:
                    raise KeyFileError("it has a packet of partial length, which no key has")
            else:
                tag, kind = (head >> 2) & 0x0F, head & 0x03
                if kind == 3:
                    raise KeyFileError("it has a packet without a length, which no key has")
                width = (1, 2, 4)[kind]
                length = int.from_bytes(data[at : at + width], "big")
                at += width
        except IndexError:
            raise KeyFileError("it ends in the middle of a packet") from None
        if at + length > len(data):
            raise KeyFileError("it ends in the middle of a packet")
        yield tag, data[at : at + length], data[start : at + length]
        at += length


def fingerprint(body: bytes) -> str:
    """Return the fingerprint of a public key packet of version 4, in capitals; of another version, its version."""
    if body[:1] != b"\x04":
        return f"a key of version {body[0] if body else 'unknown'}"
    return hashlib.sha1(b"\x99" + len(body).to_bytes(2, "big") + body, usedforsecurity=False).hexdigest().upper()


def keys_of(data: bytes) -> dict[str, bytes]:
    """Return the certificates of a file (key, user IDs, subkeys, signatures) by the fingerprint of their primary key."""
    keys: dict[str, bytes] = {}
    current = ""
    for tag, body, whole in packets_of(dearmor(data)):
        if tag == PUBLIC_KEY:
            current = fingerprint(body)
            keys[current] = b""
        if current:
            keys[current] += whole
    return keys


def trusted(data: bytes, fingerprints: Sequence[str]) -> bytes:
    """Return a keyring with those keys of a file whose fingerprints are given, and no other.

    Raises:
        KeyFileError: there is none of them in it.
    """
    wanted = [re.sub(r"\s", "", name).upper() for name in fingerprints]
    keys = keys_of(data)
    kept = [keys[name] for name in wanted if name in keys]
    if not kept:
        seen = f"it holds {', '.join(keys) or 'no key'}, and trusted is {', '.join(wanted) or 'none'}"
        raise KeyFileError(f"{seen}; compare a new key by another way, then name its fingerprint in the repository's fingerprints")
    return b"".join(kept)


def sources(url: str, suite: str, component: str, keyring: str) -> str:
    """Return the file for sources.list.d; a suite that ends in a slash is a flat repository and has no component."""
    lines = ["Types: deb", f"URIs: {url}", f"Suites: {suite}"]
    if not suite.endswith("/"):
        lines.append(f"Components: {component}")
    return HEAD + "\n".join([*lines, f"Signed-By: {keyring}"]) + "\n"


def preferences(package: str, version: str) -> str:
    """Return the file for preferences.d that keeps a package at a version, also in an upgrade of the host; it never goes back."""
    return f"{HEAD}Package: {package}\nPin: version {version}\nPin-Priority: 990\n"


def least(version: str) -> str:
    """Return what is common to all versions that a pattern matches, without a trailing separator."""
    return re.split(r"[*?\[]", version, maxsplit=1)[0].rstrip(".-+~")


def matches(installed: str, version: str) -> bool:
    """Tell whether an installed version is one that is wanted; no wish is met by any."""
    return not version or fnmatch.fnmatchcase(installed, version)
