# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Variables of an inventory against the argument specifications of all roles, before any role runs. Pure functions.

Ansible's own validator looks at one role on one host, when its turn comes, and says neither where in a list something is
nor what was meant. Here a value is walked once, with the same readers of types; a test compares the two. What Ansible
would convert for a module and leave as it is for a role is refused here where a template would misread it: a text in the
place of a list, `off` without quotes in the place of a word.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ansible.module_utils.common.parameters import DEFAULT_TYPE_VALIDATORS
from ansible_collections.uptier.platform.plugins.plugin_utils.application_check import shown
from ansible_collections.uptier.platform.plugins.plugin_utils.problems import Problem, listed, nearest

Option = Mapping[str, Any]
WANTED = {
    "str": ("text", 'Quote it: {name}: "...".'),
    "path": ("a path", 'Quote it: {name}: "...".'),
    "int": ("a whole number", "Write digits alone, for example {name}: {example}."),
    "float": ("a number", "Write digits and a point, for example {name}: {example}."),
    "bool": ("true or false", "Write {name}: true or {name}: false."),
    "list": ("a list", "Write it as a list, [one, two], or one entry a line with a dash before each."),
    "dict": ("a dictionary", "Write its keys one a line below it, indented, or as {{key: value}}."),
}
# More keys than this are not listed in a message.
LISTED = 20
# Besides what a specification marks with no_log.
SECRET = re.compile(r"password|secret|token|cipher")
SAMPLES = {"int": 10, "float": 0.5}
NOTHING = {"list": "[]", "dict": "{}"}


def problems_of(name: str, option: Option, value: Any) -> list[Problem]:
    """Return what a specification has against the value of a variable, with its place in lists and dictionaries."""
    if value is None:
        empty = NOTHING.get(option.get("type", "str"), "''")
        return [Problem(f"variable {name}", "has no value", f"Remove the line, and the default holds; or write {empty} for none at all.")]
    return list(_walk(f"variable {name}", name, option, value))


def _walk(where: str, name: str, option: Option, value: Any) -> Iterator[Problem]:
    """Look at one value; `where` is its place, `name` the last part of that."""
    kind = option.get("type", "str")
    hidden = option.get("no_log") or (kind not in ("bool", "int", "float") and SECRET.search(name))
    seen = "" if hidden else shown(value)
    if kind == "bool" and isinstance(value, str) and ":" in where:
        # Roles read a variable of their own as what it says; inside a list or a dictionary, a text is true.
        yield Problem(where, f"is {seen}, a text", f"Write {name}: true or {name}: false, without quotes (in a template: | bool).")
    elif not readable(kind, value):
        what, fix = WANTED[kind]
        fix = fix.format(name=name, example=option.get("default") or SAMPLES.get(kind, ""))
        yield Problem(where, f"is {seen}, which is not {what}" if seen else f"is not {what}", fix)
    elif kind == "str" and isinstance(value, float) and name.endswith("version") and not option.get("choices"):
        yield Problem(where, f"is the number {value}: YAML reads 1.10 as 1.1", f'Quote it as it was meant: {name}: "{value}".')
    elif kind == "dict":
        yield from _keys(where, option.get("options"), value)
    elif kind == "list":
        elements = option.get("elements", "str")
        inner = {**{key: option[key] for key in ("options", "choices", "no_log") if key in option}, "type": elements}
        for number, item in enumerate(value):
            place = f"{where}[{number}]"
            if isinstance(item, Mapping) and isinstance(item.get("name"), str) and item["name"]:
                place += f" {item['name']}"
            yield from (
                _walk(place, name, inner, item)
                if item is not None
                else ([Problem(place, "is empty", "Remove its dash, or write the entry behind it.")])
            )
    elif option.get("choices"):
        yield from _choice(where, name, option["choices"], value, kind)


def readable(kind: str, value: Any) -> bool:
    """Tell whether a value is of a type wherever it is read, as Ansible converts it or as a template does."""
    if kind in ("list", "dict"):
        return isinstance(value, (list, tuple)) if kind == "list" else isinstance(value, Mapping)
    if kind in ("str", "path"):
        return not isinstance(value, (Mapping, list, tuple))
    if isinstance(value, bool) and kind != "bool":
        return False
    if kind not in DEFAULT_TYPE_VALIDATORS:
        return True
    try:
        DEFAULT_TYPE_VALIDATORS[kind](value)
    except (TypeError, ValueError):
        return False
    return True


def _keys(where: str, options: Mapping[str, Option] | None, given: Mapping[str, Any]) -> Iterator[Problem]:
    """Look at the keys of a dictionary; without options they are the user's own."""
    if not options:
        return
    for key, value in given.items():
        if key not in options:
            known = (
                f"Known there: {listed(options)}." if len(options) <= LISTED else f"There are {len(options)}: see the README of the role."
            )
            yield Problem(f"{where}: {key}", "is set, and nothing reads it", f"{nearest(str(key), options)}{known}")
        elif value is not None:
            yield from _walk(f"{where}: {key}", key, options[key], value)
    for key, option in options.items():
        if option.get("required") and given.get(key) is None:
            yield Problem(f"{where}: {key}", "is missing", f"Every entry has one. {text_of(option.get('description'))}")


def _choice(where: str, name: str, choices: Sequence[Any], value: Any, kind: str) -> Iterator[Problem]:
    if isinstance(value, bool) and kind == "str":
        words = [choice for choice in choices if str(choice).lower() in (("on", "yes") if value else ("off", "no"))]
        fix = f'Quote it: {name}: "{words[0]}".' if words else f"Use one of {listed(choices)}."
        yield Problem(where, f"is {shown(value)}: YAML reads on, off, yes and no so", fix)
    elif str(value) not in map(str, choices):
        yield Problem(
            where,
            f"is {shown(value)}, which is not a valid value",
            f"{nearest(str(value), map(str, choices))}Use one of {listed(choices)}.",
        )


def text_of(description: Any) -> str:
    """Return a description as one text."""
    return " ".join(description) if isinstance(description, (list, tuple)) else str(description or "")


def over_all_hosts(
    options: Mapping[str, Option], values: Mapping[str, Mapping[str, Any]], left_out: frozenset[str] = frozenset()
) -> list[Problem]:
    """Return what is wrong with the variables of all hosts; the same of several hosts is one problem, which names them.

    `values` are the variables that were set, by host; `left_out` those that have checks of their own.
    """
    seen: dict[tuple[str, str], list[Problem]] = {}
    found: dict[Problem, list[str]] = {}
    for host, given in values.items():
        for name, value in given.items():
            if name not in options or name in left_out:
                continue
            key = (name, json.dumps(value, default=repr, sort_keys=False))
            if key not in seen:
                seen[key] = problems_of(name, options[name], value)
            for problem in seen[key]:
                found.setdefault(problem, []).append(host)
    return [named(problem, hosts, len(values)) for problem, hosts in found.items()]


def named(problem: Problem, hosts: Sequence[str], everywhere: int) -> Problem:
    """Return a problem with the hosts that have it, unless all have."""
    if len(hosts) == everywhere:
        return problem
    return Problem(f"{problem.where} (on {listed(hosts)})", problem.seen, problem.fix)
