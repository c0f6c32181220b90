# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Booleans and numbers of a specification are such wherever they are read.

`false` in an INI file is a text, and everything behind -e NAME=VALUE is one: "false" is true in Jinja, and "3" * 2 is "33".
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar, trust_as_template
from ansible_collections.uptier.platform.plugins.plugin_utils import layers

ROOT = Path(__file__).resolve().parents[3]
NAMES = sorted(name for name, option in layers.specifications().items() if option.get("type") == "bool")
# A name in a text ("NAME is false") is none.
READ = re.compile(
    rf"(?<!['\w.])({'|'.join(NAMES)})\b(?!['\w]| is (?:true|false))(\s*\|\s*default\([^()]*\))?(?!\s*\|\s*(default\([^()]*\)\s*\|\s*)?bool\b)"
)
NUMBERS = sorted(
    (name for name, option in layers.specifications().items() if option.get("type") in ("int", "float")), key=len, reverse=True
)
OPERATOR = r"(?:[<>]=?|[-+*/]|%(?!\})|==|!=)"
NUMBER = rf"(?<!['\w.])(?:{'|'.join(NUMBERS)})\b(?!['\w])(?!\s*\|\s*(?:default\([^()]*\)\s*\|\s*)?(?:int|float|string)\b)"
COMPUTED = re.compile(rf"({NUMBER})(?=\s*{OPERATOR})|{OPERATOR}\s*({NUMBER})|({NUMBER})\s+in\b")
EXPRESSION = re.compile(r"\{\{(.*?)\}\}|\{%(.*?)%\}", re.S)
# Expressions without braces.
BARE = ("when", "that", "changed_when", "failed_when", "until")
FILES = [
    path
    for pattern in ("roles/*/tasks/*.yml", "roles/*/handlers/*.yml", "roles/*/vars/*.yml", "roles/*/defaults/*.yml", "playbooks/**/*.yml")
    for path in sorted(ROOT.glob(pattern))
]
TEMPLATES = sorted(path for path in ROOT.glob("roles/*/templates/**/*") if path.is_file())


def expressions(value: Any, key: str = "") -> Iterator[str]:
    """Yield what Ansible computes in a file of YAML; a value that is handed on or shown as it is, is none."""
    if isinstance(value, dict):
        for name, item in value.items():
            yield from expressions(item, name)
    elif isinstance(value, list):
        for item in value:
            yield from expressions(item, key)
    elif isinstance(value, str):
        found = [part for match in EXPRESSION.finditer(value) for part in match.groups() if part]
        if key in BARE and not found:
            found = [value]
        yield from (
            part for part in found if not re.fullmatch(rf"\s*({'|'.join(NAMES)})(\s*\|\s*default\([^()]*\))?\s*", part) or key in BARE
        )


def unread(texts: Iterable[str]) -> list[str]:
    return sorted({match[1] for text in texts for match in READ.finditer(text)})


def uncounted(texts: Iterable[str]) -> list[str]:
    return sorted({name for text in texts for match in COMPUTED.finditer(text) for name in match.groups() if name})


def everything() -> Iterator[tuple[str, list[str]]]:
    """Yield all expressions of each file."""
    for path in FILES:
        yield str(path.relative_to(ROOT)), list(expressions(yaml.safe_load(path.read_text(encoding="utf-8"))))
    for path in TEMPLATES:
        parts = [part for match in EXPRESSION.finditer(path.read_text(encoding="utf-8")) for part in match.groups() if part]
        yield str(path.relative_to(ROOT)), parts


def test_booleans_are_read_as_booleans() -> None:
    assert {name: found for name, texts in everything() if (found := unread(texts))} == {}, "write `NAME | bool`"


def test_numbers_are_computed_with_as_numbers() -> None:
    assert {name: found for name, texts in everything() if (found := uncounted(texts))} == {}, "write `NAME | int` (or float)"


@pytest.mark.parametrize(
    ("given", "expected"), [("false", "no"), ("no", "no"), (False, "no"), ("true", "yes"), ("yes", "yes"), (True, "yes")]
)
def test_a_text_is_what_it_says(given: Any, expected: str) -> None:
    """As -e hardening_ssh_passwords=false gives it."""
    variables = {**layers.defaults("hardening"), **layers.internals("hardening"), "ansible_managed": "x"}
    variables |= {"hardening_ssh_passwords": given, "hardening_ssh_root_login": given}
    template = (ROOT / "roles/hardening/templates/sshd.conf.j2").read_text(encoding="utf-8")
    text = Templar(loader=DataLoader(), variables=variables).template(trust_as_template(template))
    assert f"PasswordAuthentication {expected}\n" in text
    assert f"PermitRootLogin {'no' if expected == 'no' else 'prohibit-password'}\n" in text
