# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Compare what a Redis process runs with to what its files say. Pure."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Mapping

# Read only at start and not answered by CONFIG GET, or made of other files.
NOT_SETTINGS = {"include", "loadmodule", "user", "rename-command"}
# References: the same name may stand for new content, so they are set anew every time.
TLS_FILES = ("tls-cert-file", "tls-key-file", "tls-ca-cert-file")
SECRETS = {"masterauth", "requirepass", "tls-key-file-pass"}
UNITS = {"k": 1000, "kb": 1024, "m": 1000**2, "mb": 1024**2, "g": 1000**3, "gb": 1024**3}


def parse_config(text: str) -> dict[str, str]:
    """Return the settings of a configuration file; of a name given twice the last one counts."""
    settings = {}
    for line in text.splitlines():
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        name, *rest = shlex.split(line)
        if name.lower() not in NOT_SETTINGS:
            settings[name.lower()] = " ".join(rest)
    return settings


def parse_acl(text: str) -> dict[str, list[str]]:
    """Return user -> rules of an ACL file."""
    users = {}
    for line in text.splitlines():
        words = line.split()
        if len(words) > 1 and words[0] == "user":
            users[words[1]] = words[2:]
    return users


def normal(value: str) -> str:
    """Return a value in the form in which two spellings of the same setting are equal."""
    words = []
    for word in value.lower().split():
        match = re.fullmatch(r"(\d+)([kmg]b?)", word)
        words.append(str(int(match[1]) * UNITS[match[2]]) if match else {"slave": "replica"}.get(word, word))
    return " ".join(words)


def differing(wanted: Mapping[str, str], running: Mapping[str, str]) -> dict[str, str]:
    """Return the settings that the process runs otherwise than its file says. Names that Redis does not answer are left out."""
    return {name: value for name, value in wanted.items() if name in running and normal(value) != normal(running[name])}


def show(names: Iterable[str], wanted: Mapping[str, str], running: Mapping[str, str]) -> list[str]:
    """Describe differences for a human, without secrets."""
    return [name if name in SECRETS else f"{name}: {running.get(name, '')} -> {wanted[name]}" for name in sorted(names)]


def acl_commands(wanted: Mapping[str, list[str]], running: Iterable[str]) -> list[list[str]]:
    """Return the commands that make the users of a process those of its file.

    ACL LOAD of Redis 7.0 cuts every connection, those of unchanged users and of replicas too; SETUSER with a leading
    reset replaces the rules of a user at once and cuts nobody.
    """
    commands = [["ACL", "SETUSER", user, "reset", *rules] for user, rules in wanted.items()]
    gone = [user for user in running if user not in wanted and user != "default"]
    return commands + ([["ACL", "DELUSER", *gone]] if gone else [])


def with_former(wanted: Mapping[str, list[str]], running: Mapping[str, list[str]]) -> dict[str, list[str]]:
    """Return the wanted users with the passwords that a process accepts of them now besides: Redis takes any number."""
    return {
        user: rules + [word for word in running.get(user, []) if word[:1] == "#" and word not in rules] for user, rules in wanted.items()
    }


def former(wanted: Mapping[str, list[str]], running: Mapping[str, list[str]]) -> list[str]:
    """Return the users of whom a process accepts other passwords than wanted."""
    both = with_former(wanted, running)
    return sorted(user for user in wanted if both[user] != wanted[user])


def outdated(started: float, changed: Iterable[float]) -> bool:
    """Say whether a process began before one of the files that it reads only at its start was written."""
    return any(moment > started + 1 for moment in changed)
