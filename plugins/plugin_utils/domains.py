# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Domains under which users come: how they are written, and which names a domain covers. Pure functions.

A domain is `shop.example.org`, or `*.example.org` for every name below example.org, however deep. Gateway, router and
probes all follow what is said here.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
LONGEST = 253
# Two standards turn these into different names, so the user has to say which one was registered.
AMBIGUOUS = re.compile("[\u00df\u03c2\u200c\u200d]")


class DomainError(ValueError):
    """No domain; the message says what was seen, the attribute `fix` what to write."""

    def __init__(self, seen: str, fix: str) -> None:
        super().__init__(seen)
        self.fix = fix


def normal(text: str) -> str:
    """Return a domain as all components write it: lower case, letters beyond ASCII as punycode, no dot at the end."""
    name = text.strip()
    scheme, separator, rest = name.partition("://")
    if separator:
        raise DomainError(f"is {text!r}, which has a scheme", f"Write the name alone: {rest.split('/')[0].split(':')[0]}.")
    if re.search(r":\d*$", name):
        raise DomainError(f"is {text!r}, which has a port", f"Write the name alone: {name.rpartition(':')[0]}.")
    if "/" in name:
        raise DomainError(f"is {text!r}, which has a path", f"Write the name alone: {name.split('/')[0]}. A service has a key path.")
    wildcard, base = name.startswith("*."), name.removeprefix("*.").removesuffix(".")
    if AMBIGUOUS.search(base):
        raise DomainError(
            f"is {text!r}, which two standards turn into different names", "Write it as it is registered, in punycode (xn--...)."
        )
    try:
        base = base.encode("idna").decode("ascii").lower()
    except UnicodeError:
        base = ""
    if not base or len(base) > LONGEST or not all(LABEL.fullmatch(label) for label in base.split(".")):
        fix = "Write letters, digits, - and dots, for example shop.example.org, or *.example.org for all names below it."
        raise DomainError(f"is {text!r}, which is not a domain name", fix)
    return f"*.{base}" if wildcard else base


def covers(domain: str, name: str) -> bool:
    """Tell whether requests for `name` (a domain, or a wildcard itself) come under `domain`."""
    return name == domain or (domain.startswith("*.") and name.removeprefix("*").endswith(domain.removeprefix("*")))


def rank(domain: str) -> int:
    """Return where a domain stands among those that cover one name, the lowest first: names themselves, long wildcards, short ones."""
    return LONGEST + 2 - len(domain) if domain.startswith("*.") else 0


def best(name: str, domains: Iterable[str]) -> str | None:
    """Return the domain under which requests for a name are answered; None where none covers it."""
    return min((domain for domain in domains if covers(domain, name)), key=rank, default=None)


def name_under(domain: str) -> str:
    """Return a name to ask for where one that the domain covers is needed, in probes and health checks."""
    return domain.replace("*", "uptier-probe", 1)
