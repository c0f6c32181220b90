# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Which files with variables beside an inventory Ansible could not read, and where in them. Reads files and changes nothing.

Ansible itself stops at the first of them and names neither file nor line.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import yaml
from ansible_collections.uptier.platform.plugins.plugin_utils.data import LOADER
from ansible_collections.uptier.platform.plugins.plugin_utils.problems import Problem

FOLDERS = ("group_vars", "host_vars")
# What Ansible takes for variables in these folders, at any depth.
ENDINGS = ("", ".yml", ".yaml", ".json")
VAULT = b"$ANSIBLE_VAULT"
# What the parser says, or the line that it says it of, and what a user most likely has to change. The first that fits counts.
FIXES = (
    ("tab character", "Indent with spaces; YAML takes no tabs."),
    ("unhashable key", 'Put a value that begins with braces in quotes: name: "{{ other }}".'),
    ("while scanning a quoted scalar", "Close the quotation mark."),
    (
        "mapping values are not allowed",
        "Put a value that contains a colon and a space in quotes; otherwise indent the line like the one above it.",
    ),
    ("did not find expected <document start>", "Write variables as `name: value`; a line such as [section] belongs in an INI file."),
    ("did not find expected '-' indicator", "Begin all entries of a list in the same column."),
    (
        "did not find expected key",
        "Begin all keys of one entry in the same column, and put a value that begins with a quotation mark in quotes as a whole.",
    ),
    ("could not find expected ':'", "Write variables as `name: value`, with a space after the colon."),
    ("cannot start any token", "Put a value that begins with a sign such as % or @ in quotes."),
)
OTHERWISE = "Correct this line or the one above it."
NAME = re.compile(r"\s*(?:- )?([A-Za-z_][A-Za-z0-9_]*)\s*:")


class Loader(LOADER):  # type: ignore[misc,valid-type]  # the parser of C is Ansible's, with its words
    """Takes the tags that Ansible adds (`!vault`, `!unsafe`) for what they stand at."""


def _tagged(loader: yaml.SafeLoader, suffix: str, node: yaml.Node) -> Any:
    if isinstance(node, yaml.MappingNode):
        return loader.construct_mapping(node, deep=True)
    if isinstance(node, yaml.SequenceNode):
        return loader.construct_sequence(node, deep=True)
    return loader.construct_scalar(node)


Loader.add_multi_constructor("!", _tagged)


def unreadable(sources: Iterable[str]) -> list[Problem]:
    """Return what is wrong with the files of variables beside inventories, given as Ansible was (files, folders, lists of hosts)."""
    return [problem for path in sorted(set(_pages(sources))) if (problem := _page(path)) is not None]


def _pages(sources: Iterable[str]) -> Iterator[Path]:
    for source in sources:
        path = Path(source)
        if "," in source or not path.exists():
            continue
        beside = path if path.is_dir() else path.parent
        for folder in FOLDERS:
            for found in (beside / folder).rglob("*"):
                hidden = any(part.startswith(".") or part.endswith("~") for part in found.relative_to(beside).parts)
                if found.is_file() and found.suffix in ENDINGS and not hidden:
                    yield found


def _page(path: Path) -> Problem | None:
    try:
        content = path.read_bytes()
    except OSError as error:
        return Problem(str(path), f"cannot be read ({error.strerror})", "Let the user that runs Ansible read it.")
    if content.startswith(VAULT):
        return None
    try:
        text = content.decode()
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        return Problem(f"{path}, line {line},", "is not encoded in UTF-8", "Save the file as UTF-8.")
    try:
        value = yaml.load(text, Loader)
    except yaml.MarkedYAMLError as error:
        return _unparsable(path, text, error)
    except (yaml.YAMLError, ValueError) as error:  # a character that YAML has not; a date that no calendar has
        return Problem(
            str(path), f"is not valid YAML: {' '.join(str(error).split())}", "Put the value in quotes, or take the character out."
        )
    if value is None or isinstance(value, dict):
        return None
    kind = "a list" if isinstance(value, list) else "text without a colon" if isinstance(value, str) else "a single value"
    return Problem(str(path), f"holds {kind} where variables belong", "Write variables as `name: value`.")


def _unparsable(path: Path, text: str, error: yaml.MarkedYAMLError) -> Problem:
    words = " ".join(part for part in (error.context, error.problem) if part)
    # A quotation mark that nothing closes is reported where the file ends.
    mark = error.context_mark if "end of stream" in words and error.context_mark else error.problem_mark or error.context_mark
    if mark is None:
        return Problem(str(path), f"is not valid YAML ({words})", OTHERWISE)
    line = (text.split("\n") + [""] * 2)[mark.line]
    # Only the name: the value may be a secret.
    name = NAME.match(line)
    seen = f"is not valid YAML{f' at {name[1]}' if name else ''} ({words})"
    fix = FIXES[0][1] if "\t" in line[: len(line) - len(line.lstrip())] else next((fix for sign, fix in FIXES if sign in words), OTHERWISE)
    return Problem(f"{path}, line {mark.line + 1}, column {mark.column + 1},", seen, fix)
