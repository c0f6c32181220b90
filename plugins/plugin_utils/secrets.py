# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Which secrets the platform needs, which are missing, and how they are made. Pure but for the random source."""

from __future__ import annotations

import re
import secrets
import string
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from ansible_collections.uptier.platform.plugins.plugin_utils.application import Application

# Letters and digits only: such a value needs no quoting in a URL, an INI file, SQL or a shell.
ALPHABET = string.ascii_letters + string.digits
SHORTEST = 16
MISSING = "is missing"
PLACEHOLDER = re.compile(
    r"(?i)^(\W*(change|replace|fill|todo|fixme|xxx|example|sample|dummy|default|your|insert|placeholder)|<.*>$"
    r"|(secure[_-]?|my[_-]?|strong[_-]?|test[_-]?)*(password|passwd|secret|admin|postgres|redis|root|grafana|token|key)[0-9]*$)"
)


@dataclass(frozen=True)
class Secret:
    """One secret; `key` names the entry where the variable is a dictionary."""

    name: str
    key: str | None
    needed_by: str
    length: int
    least: int
    managed: bool = False

    @property
    def label(self) -> str:
        return self.name if self.key is None else f"{self.name}.{self.key}"


def users_of(applications: Iterable[Application], per: str) -> list[str]:
    """Return the users for which a password is needed: of databases, or of the cache."""
    users = []
    for application in applications:
        name = application["name"]
        if per == "database_user" and application["database"]:
            users += [f"{name}_owner", f"{name}", f"{name}_ro"]
        if per == "cache_user" and application["cache"]:
            users.append(f"{name}")
    return users


def wanted(declared: Iterable[Mapping[str, Any]], applications: Iterable[Application]) -> list[Secret]:
    """Return every single secret, those per user spelt out."""
    applications = list(applications)
    found = []
    for entry in declared:
        keys: list[str | None] = [None] if "per" not in entry else list(users_of(applications, entry["per"]))
        least = entry.get("least", SHORTEST)
        managed = entry.get("managed", False)
        found.extend(Secret(entry["name"], key, entry["needed_by"], entry["length"], least, managed) for key in keys)
    return found


def defect(secret: Secret, variables: Mapping[str, Any]) -> str | None:
    """Return what is wrong with a secret, never the value; None when it is good."""
    value = variables.get(secret.name)
    if secret.key is not None:
        if value is not None and not isinstance(value, Mapping):
            return "is no dictionary of user and password"
        value = (value or {}).get(secret.key)
    if value is None or str(value).strip() == "":
        return MISSING
    if isinstance(value, (bool, float, Mapping, list, tuple)):
        return "is no text but what YAML makes of it without quotes"
    text = str(value)
    if looks_like_a_placeholder(text):
        return "is a placeholder"
    if len(text) < secret.least:
        return f"has {len(text)} characters, {secret.least} is the least"
    return None


def looks_like_a_placeholder(text: str) -> bool:
    return bool(PLACEHOLDER.search(text.strip())) or len(set(text)) == 1


def make(length: int) -> str:
    """Return a random value. One in some 25,000 begins like a placeholder by chance, and would be refused later: it is drawn again."""
    while True:
        value = "".join(secrets.choice(ALPHABET) for dummy in range(length))
        if not looks_like_a_placeholder(value):
            return value


def complete(present: Mapping[str, Any], needed: Iterable[Secret], maker: Callable[[int], str] = make) -> tuple[dict[str, Any], list[str]]:
    """Return all secrets with the missing ones made, and the labels of those. What is there is kept, even when it is weak."""
    result: dict[str, Any] = {name: dict(value) if isinstance(value, Mapping) else value for name, value in present.items()}
    made = []
    for secret in needed:
        if secret.key is None:
            holder, place = result, secret.name
        else:
            if not result.get(secret.name):
                result[secret.name] = {}
            holder, place = result[secret.name], secret.key
        if holder.get(place) in (None, ""):
            holder[place] = maker(secret.length)
            made.append(secret.label)
    return result, made
