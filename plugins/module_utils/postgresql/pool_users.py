# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The file of PgBouncer's users while a password changes. Pure.

A user of the database stands there under its own name, with the password that the pools show to the server: PgBouncer knows one per
name. What clients show is decoupled from that: they log in under a name that goes with the password (`client_name`), so that the
instances of an application that still have the former one and those that have the new one get in side by side. Which database and
which user of the server they reach is said by the pool, not by that name.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping

from ansible_collections.uptier.platform.plugins.module_utils.postgresql.errors import PostgresqlError

ENTRY = re.compile(r'"((?:[^"]|"")*)" "((?:[^"]|"")*)"')
DIGITS = 4
NAMED = re.compile(rf"\.[0-9a-f]{{{DIGITS}}}$")
CONSOLE = "pgbouncer"
CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


def client_name(user: str, password: str) -> str:
    """Return the name under which clients log in to the pools with this password.

    Four digits tell two passwords apart, and are too few to check a guess of one by.
    """
    return f"{user}.{hashlib.sha256(f'{user} {password}'.encode()).hexdigest()[:DIGITS]}"


def access(databases: Iterable[tuple[str, str, str]], names: Iterable[str], console: Iterable[str]) -> str:
    """Return PgBouncer's file of who may open what: the users of a database its pools, and nobody another one's.

    The pools log in to the server as their own users, whoever opens them, so that without this every user of the host could read
    all databases.

    Args:
        databases: the pools, each as (name, database behind it, user that it logs in as).
        names: under which clients may log in, as the file of users has them.
        console: who may use the console.
    """
    pools: dict[str, list[str]] = {}
    users: dict[str, set[str]] = {}
    for pool, database, user in databases:
        pools.setdefault(database, []).append(pool)
        users.setdefault(database, set()).add(user)
    known = list(names)
    rules = [
        (sorted(pools[database]), sorted(name for name in known if name in owners or NAMED.sub("", name) in owners))
        for database, owners in sorted(users.items())
    ]
    rules.append(([CONSOLE], sorted(console)))
    lines = [
        f"{kind} {_words(where)} {_words(who)} {address}scram-sha-256\n"
        for where, who in rules
        if who
        for kind, address in (("local", ""), ("host", "0.0.0.0/0 "), ("host", "::/0 "))
    ]
    return "".join(lines)


def _words(names: Iterable[str]) -> str:
    if any('"' in name or CONTROL.search(name) for name in names):
        raise PostgresqlError("bad_value", "The name of a pool or of its user has a quote or a control character. Choose another one.")
    return ",".join(f'"{name}"' for name in names)


def parse(text: str) -> dict[str, str]:
    """Return name -> password of a file of users; what is not of its form is left out."""
    return {name.replace('""', '"'): word.replace('""', '"') for name, word in ENTRY.findall(text)}


def render(entries: Mapping[str, str]) -> str:
    """Return the file's text; it holds anything but control characters and line breaks."""

    def quoted(text: str) -> str:
        if CONTROL.search(text):
            words = "The name or the password of a user of the pools has a control character or a line break, which PgBouncer's file cannot hold."
            raise PostgresqlError("bad_value", f"{words} Choose one without.")
        return '"' + text.replace('"', '""') + '"'

    return "".join(f"{quoted(name)} {quoted(entries[name])}\n" for name in entries)


def differing(users: Mapping[str, str], seen: Mapping[str, str]) -> list[str]:
    """Return the users whose password in the pools is another one than wanted."""
    return sorted(user for user in users if seen.get(user, users[user]) != users[user])


def former(users: Mapping[str, str], seen: Mapping[str, str]) -> dict[str, str]:
    """Return the entries with which clients got in before: those of users that there still are, under other passwords."""
    shape = re.compile(rf"(.+)\.[0-9a-f]{{{DIGITS}}}")
    found = {}
    for name, word in seen.items():
        match = shape.fullmatch(name)
        if match and match[1] in users and client_name(match[1], users[match[1]]) != name and client_name(match[1], word) == name:
            found[name] = word
    return found


def entries(
    users: Mapping[str, str], others: Mapping[str, str], seen: Mapping[str, str], serving: Mapping[str, str], keep: bool = True
) -> dict[str, str]:
    """Return what the file shall hold.

    Args:
        users: users of the database and their passwords.
        others: who may use the console.
        seen: what the file holds now.
        serving: users whose password at the server is still another one, and that.
        keep: let clients with a former password in.
    """
    found: dict[str, str] = {}
    for user in sorted(users):
        found[user] = serving.get(user, users[user])
        found[client_name(user, users[user])] = users[user]
    if keep:
        found.update(sorted(former(users, seen).items()))
    return {**found, **others}
