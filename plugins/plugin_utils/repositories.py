# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The second repository of backups: what is wrong with its description, and pgBackRest's settings for it. Pure functions."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Any

from ansible_collections.uptier.platform.plugins.plugin_utils.problems import Problem, listed, nearest

VARIABLE = "pgbackrest_second_repository"
# By type, its own options: those that it needs, and those that it may have.
S3_NEEDS, S3_MAY = ("bucket", "endpoint", "region"), ("key", "key_secret", "key_type", "uri_style", "port", "ca_file")
SFTP_NEEDS, SFTP_MAY = ("host", "user", "private_key", "fingerprint"), ("port",)
OPTIONS = {"s3": (S3_NEEDS, S3_MAY), "sftp": (SFTP_NEEDS, SFTP_MAY), "posix": (("path",), ("mount_required",))}
COMMON = ("type", "path", "full_retention_days", "cipher_pass", "verify_level")
# pgBackRest's name of an option, where it is not `repo2-TYPE-` and ours with dashes.
NAMES = {
    ("s3", "port"): "storage-port",
    ("s3", "ca_file"): "storage-ca-file",
    ("sftp", "port"): "sftp-host-port",
    ("sftp", "user"): "sftp-host-user",
}
SFTP_SINCE = (2, 46)
PATH = "/pgbackrest"  # where nothing is given, in the bucket or below the user's root


def fingerprint(text: str) -> str:
    """Return the SHA-256 of a host key in hexadecimal, as pgBackRest has it, from that or from OpenSSH's `SHA256:…`; empty where it is neither."""
    kind, colon, rest = text.strip().partition(":")
    if colon and kind.upper() == "SHA256":
        try:
            raw = base64.b64decode(rest + "=" * (-len(rest) % 4), validate=True)
        except (binascii.Error, ValueError):
            return ""
        return raw.hex() if len(raw) == 32 else ""
    plain = text.strip().replace(":", "").lower()
    return plain if re.fullmatch(r"[0-9a-f]{64}", plain) else ""


def problems(given: Mapping[str, Any], first_path: str, version: str) -> list[Problem]:
    """Return what is wrong with the second repository; nothing where there is none.

    Args:
        given: pgbackrest_second_repository.
        first_path: directory of the first repository.
        version: of pgBackRest on the repository's host, such as 2.55.
    """
    if not given:
        return []
    kind = str(given.get("type", ""))
    if kind not in OPTIONS:
        return [Problem(f"{VARIABLE}.type", f"is {kind!r}", f"{nearest(kind, OPTIONS)}It is one of {listed(OPTIONS)}.")]
    needs, may = OPTIONS[kind]
    found = [
        Problem(f"{VARIABLE}.{name}", "is missing", f"A repository of the type {kind} needs {listed(needs)}.")
        for name in needs
        if not str(given.get(name) or "").strip()
    ]
    known = {*COMMON, *needs, *may}
    found += [
        Problem(f"{VARIABLE}.{name}", f"is no option of the type {kind}", f"{nearest(name, known)}It takes {listed(sorted(known))}.")
        for name in given
        if name not in known
    ]
    for name, value in given.items():
        text = str(value)
        # pgBackRest's file has one setting a line and cuts off blanks.
        if name in known and name != "private_key" and (text != text.strip() or re.search(r"[\x00-\x1f\x7f]", text)):
            found.append(
                Problem(
                    f"{VARIABLE}.{name}", "begins or ends with a space or holds a control character", "pgBackRest's file cannot hold that."
                )
            )
    return found + _values(given, kind, first_path, version)


def _values(given: Mapping[str, Any], kind: str, first_path: str, version: str) -> list[Problem]:
    found = []
    path = PurePosixPath(str(given.get("path") or PATH))
    if not path.is_absolute() or ".." in path.parts:
        found.append(Problem(f"{VARIABLE}.path", f"is {str(path)!r}", "It has to begin with a slash, without `..`."))
    first = PurePosixPath(first_path)
    if kind == "posix" and (path == first or first in path.parents or path in first.parents):
        found.append(
            Problem(f"{VARIABLE}.path", f"is {str(path)!r}, and the first repository is in {first_path}", "One must not lie in the other.")
        )
    if kind == "posix" and str(given.get("mount_required", True)).lower() not in ("true", "false", "yes", "no", "on", "off", "1", "0"):
        found.append(Problem(f"{VARIABLE}.mount_required", f"is {given['mount_required']!r}", "It is true or false."))
    if kind == "s3" and given.get("key_type", "shared") == "shared":
        found += [
            Problem(
                f"{VARIABLE}.{name}", "is missing", "Give key and key_secret, or `key_type: auto` where the host has a role of its own."
            )
            for name in ("key", "key_secret")
            if not given.get(name)
        ]
    for name, choices in (
        ("key_type", ("shared", "auto", "web-id")),
        ("uri_style", ("host", "path")),
        ("verify_level", ("restore", "repository", "none")),
    ):
        if name in given and given[name] not in choices:
            found.append(Problem(f"{VARIABLE}.{name}", f"is {given[name]!r}", f"It is one of {listed(choices)}."))
    if kind == "sftp" and tuple(map(int, version.split(".")[:2])) < SFTP_SINCE:
        fix = "It knows SFTP from 2.46: use an S3 bucket or a mounted directory, or a newer release of Debian."
        found.append(Problem(f"{VARIABLE}.type", f"is sftp, and the repository's host has pgBackRest {version}", fix))
    if kind == "sftp" and given.get("fingerprint") and not fingerprint(str(given["fingerprint"])):
        fix = "Give the SHA-256 of the server's host key as `ssh-keygen -lf KEY.pub` prints it (SHA256:…), or in hexadecimal."
        found.append(Problem(f"{VARIABLE}.fingerprint", f"is {str(given['fingerprint'])!r}", fix))
    if "cipher_pass" in given and len(str(given["cipher_pass"])) < 16:
        found.append(Problem(f"{VARIABLE}.cipher_pass", f"has {len(str(given['cipher_pass']))} characters", "At least 16 are needed."))
    for name, least, most in (("full_retention_days", 1, 9999999), ("port", 1, 65535)):
        if name in given and not (str(given[name]).isdecimal() and least <= int(given[name]) <= most):
            found.append(Problem(f"{VARIABLE}.{name}", f"is {given[name]!r}", f"It is a number from {least} to {most}."))
    return found


def settings(given: Mapping[str, Any], cipher_pass: str, retention_days: int, key_file: str) -> dict[str, str]:
    """Return pgBackRest's settings for the second repository, without the prefix `repo2-`, in their order.

    Args:
        given: pgbackrest_second_repository, without problems.
        cipher_pass: key of the first repository, for where the second has none of its own.
        retention_days: of the first, alike.
        key_file: where the private key for SFTP lies.
    """
    kind = str(given["type"])
    found = {"type": kind, "path": str(given.get("path") or PATH)}
    needs, may = OPTIONS[kind]
    for name in (*needs, *may):
        if name in given and name not in ("path", "private_key", "fingerprint", "mount_required"):
            found[NAMES.get((kind, name), f"{kind}-{name.replace('_', '-')}")] = str(given[name])
    if kind == "sftp":
        found["sftp-private-key-file"] = key_file
        found["sftp-host-key-check-type"] = "fingerprint"
        found["sftp-host-key-hash-type"] = "sha256"
        found["sftp-host-fingerprint"] = fingerprint(str(given["fingerprint"]))
    found["cipher-type"] = "aes-256-cbc"
    found["cipher-pass"] = str(given.get("cipher_pass") or cipher_pass)
    found["retention-full-type"] = "time"
    found["retention-full"] = str(given.get("full_retention_days") or retention_days)
    return found
