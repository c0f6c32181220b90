# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Variables that nothing reads: misspelt ones, and those of the user's own. Pure functions.

A role goes on with its default where the name of a variable is wrong, so a name near to a known one is refused, whatever
it begins with. What is near to nothing may be somebody's own; it is listed once and stops nobody.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

from ansible_collections.uptier.platform.plugins.plugin_utils.problems import Problem, listed, nearest

# How much of two names has to be equal. The second is for names of our own prefixes, which are refused in any case.
NEAR = 0.88
SHORT = 8
WORD = re.compile(r"[A-Za-z_]\w*")
SYNTAX = re.compile(r"Syntax error in template: ([^\n]*)")
UNDEFINED = re.compile(r"'([A-Za-z_]\w*)' is undefined")


def ignored(name: str, patterns: Iterable[str]) -> bool:
    """Tell whether the user said that a variable is his own; a pattern may end with a star."""
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def meant(name: str, known: frozenset[str]) -> str | None:
    """Return the variable that a name stands for with a slip of the pen; None where it is near to none."""
    if len(name) < SHORT:
        swapped = [other for other in known if len(other) == len(name) and sorted(other) == sorted(name)]
        found = swapped or difflib.get_close_matches(name, [other for other in known if len(other) < SHORT], n=1, cutoff=0.85)
    else:
        found = difflib.get_close_matches(name, known, n=1, cutoff=NEAR)
    return found[0] if found else None


def problems_of(
    names: Mapping[str, Sequence[str]],
    everywhere: int,
    known: frozenset[str],
    prefixes: tuple[str, ...],
    used: frozenset[str],
    patterns: Sequence[str] = (),
) -> tuple[list[Problem], list[str]]:
    """Return the variables that are refused, and the names of those that nothing reads.

    `names` are the hosts by variable, `everywhere` is the number of all hosts, `used` are words of other variables.
    """
    problems, unused = [], []
    for name, hosts in sorted(names.items()):
        if name in known or name.startswith("__") or ignored(name, patterns):
            continue
        where = "all hosts" if len(hosts) == everywhere else listed(hosts)
        if name.startswith(prefixes):
            near, seen = nearest(name, known), f"is set for {where}, and no role reads it"
            problems.append(
                Problem(f"variable {name}", seen, f"{near}Correct the name, remove it, or name it in platform_ignored_variables.")
            )
        elif other := meant(name, known):
            fix = f"Did you mean {other}? Correct the name, or name it in platform_ignored_variables if it is your own."
            problems.append(Problem(f"variable {name}", f"is set for {where}, and nothing reads it", fix))
        elif name not in used and not name.startswith(("ansible_", "vault_")):
            unused.append(name)
    return problems, unused


def words_of(value: Any) -> Iterator[str]:
    """Yield the words of all templates in a value, which may be names of variables."""
    if isinstance(value, str):
        if "{{" in value or "{%" in value:
            yield from WORD.findall(value)
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from words_of(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from words_of(item)


def unreadable_problems(errors: Mapping[tuple[str, str], Sequence[str]], everywhere: int, there: frozenset[str]) -> list[Problem]:
    """Return a problem for each variable that is no template though it looks like one, or names a variable that there is not.

    `errors` are the hosts by (variable, Ansible's message), `there` all names that come from somewhere. Facts and what Ansible
    itself sets are not known yet, so a template that waits for them is left to the role that reads it.
    """
    found: dict[tuple[str, str], list[str]] = {}
    broken: dict[tuple[str, str], list[str]] = {}
    for (name, text), hosts in errors.items():
        if syntax := SYNTAX.search(text):
            # What is wrong with a secret may be a part of it.
            broken.setdefault((name, "" if name.startswith("vault_") else syntax[1].strip().rstrip(".")), []).extend(hosts)
        match = UNDEFINED.search(text)
        if match and match[1] not in there and not match[1].startswith("ansible_"):
            found.setdefault((name, match[1]), []).extend(hosts)
    problems = []
    for (name, said), hosts in broken.items():
        where = "" if len(hosts) == everywhere else f" (on {listed(hosts)})"
        seen = f"is taken for a template, as it has {{{{, {{% or {{#, and is none{': ' if said else ''}{said}"
        fix = f"Correct it; where the text is meant as it is, say so: {name}: !unsafe 'TEXT'."
        problems.append(Problem(f"{'secret' if name.startswith('vault_') else 'variable'} {name}{where}", seen, fix))
    for (name, missing), hosts in found.items():
        where = "" if len(hosts) == everywhere else f" (on {listed(hosts)})"
        if missing.startswith("vault_"):
            fix = f"{nearest(missing, there)}Put it into the vault file: ansible-vault edit group_vars/all/vault.yml."
        else:
            fix = f"{nearest(missing, there)}Correct the name, or set it."
        problems.append(Problem(f"variable {name}{where}", f"reads {missing}, and there is no such variable", fix))
    return problems


def notice(unused: Sequence[str]) -> str:
    """Return the one line that names what nothing reads."""
    which, it = ("this variable", "it") if len(unused) == 1 else ("these variables", "them")
    return (
        f"Nothing reads {which} of the inventory: {listed(unused)}. If that is meant so, name {it} (or a pattern such as shop_*) in "
        "platform_ignored_variables."
    )
