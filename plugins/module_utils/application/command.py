# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A command of a release that runs once, as an instance of a service would run it. Pure functions."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from urllib.parse import quote

# What keeps an instance running, and what only an instance may have; all else of its unit is for a command, too.
OF_INSTANCES = ("Type", "ExecStart", "Restart", "RestartSec", "WorkingDirectory", "SyslogIdentifier")
# Shorter values are words of any output, and no secrets.
SHORTEST = 4
STRUCK = "***"
RESULT = re.compile(r"Failed with result '([a-z-]+)'")


def properties(unit: str, instance: str, release: str) -> list[str]:
    """Return what systemd-run is told of a template unit, NAME=VALUE each.

    `instance` is the directory of an instance as the unit names it, in whose place the `release` comes.
    """
    found, section = [], ""
    for line in unit.splitlines():
        if line.startswith("["):
            section = line.strip()
        name, equals, value = line.partition("=")
        # The port of an instance is taken.
        if section != "[Service]" or not equals or line.startswith("#") or name in OF_INSTANCES or line == "Environment=PORT=%i":
            continue
        # To systemd-run, a percent sign is one.
        found.append(f"{name}={value.replace(instance, release).replace('%%', '%')}")
    return [*found, f"WorkingDirectory={release}"]


def settings(text: str) -> dict[str, str]:
    """Return the variables of an environment file as the role writes it: NAME="value", with \\ before \\, ", ` and $."""
    lines = re.findall(r'^([A-Za-z_][A-Za-z0-9_]*)="((?:[^"\\]|\\.)*)"$', text, re.MULTILINE | re.DOTALL)
    return {name: re.sub(r'\\([\\"`$])', r"\1", value) for name, value in lines}


def struck(text: str, secrets: Iterable[str]) -> str:
    """Return a text without secrets, whether they are written as they are, as in a URL or as in JSON."""
    forms = {form for one in secrets for form in (one, quote(one), quote(one, safe=""), json.dumps(one)[1:-1]) if len(one) >= SHORTEST}
    spans = sorted(span for form in forms for span in _spans(text, form))
    kept, end = [], 0
    for first, last in spans:
        if first >= end:
            kept += [text[end:first], STRUCK]
        # What overlaps is one.
        end = max(end, last)
    return "".join([*kept, text[end:]])


def _spans(text: str, part: str) -> Iterable[tuple[int, int]]:
    at = text.find(part)
    while at >= 0:
        yield at, at + len(part)
        at = text.find(part, at + 1)


def ended(status: int, journal: str, seconds: int) -> str:
    """Return how a command ended, for people; `journal` is what systemd wrote of it."""
    if not status:
        return "ended well"
    result = next(iter(RESULT.findall(journal)), "exit-code")
    words = {
        "timeout": f"did not end within {seconds} s and was stopped; give it more with -e seconds=",
        "oom-kill": "took more memory than `limits.memory_mb` of its service allows and was killed",
        "signal": "was killed by a signal",
        "exit-code": f"ended with status {status}",
    }
    return words.get(result, f"ended with status {status} ({result})")
