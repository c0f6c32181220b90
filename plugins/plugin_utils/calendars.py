# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Times at which timers run: systemd's OnCalendar, and what a line of cron would be there. Pure functions."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from ansible_collections.uptier.platform.plugins.plugin_utils.problems import Problem

# Variables that hold such a time, or a dictionary of them; a test compares with what specifications say.
VARIABLES = (
    "pgbackrest_schedule",
    "pgbackrest_verify_schedule",
    "postgresql_check_schedule",
    "postgresql_partitions_schedule",
    "postgresql_managed_partitions_schedule",
    "restic_schedule",
    "restic_keep_schedule",
    "restic_verify_schedule",
)
DAYS = ("Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat")
MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
WORDS = ("minutely", "hourly", "daily", "monthly", "weekly", "yearly", "annually", "quarterly", "semiannually")
_DAY = r"(mon|monday|tue|tuesday|wed|wednesday|thu|thursday|fri|friday|sat|saturday|sun|sunday)"
_DAYLIST = re.compile(rf"{_DAY}((\.\.|-){_DAY})?(,{_DAY}((\.\.|-){_DAY})?)*,?", re.IGNORECASE)
_ZONE = re.compile(r"[A-Za-z][A-Za-z0-9_+-]*(/[A-Za-z0-9_+-]+)*")
_PART = re.compile(r"(?:\*|(\d+(?:\.\d+)?)(?:\.\.(\d+(?:\.\d+)?))?)(?:/(\d+(?:\.\d+)?))?")
_DATE = re.compile(r"(?:([\d.,*/]+)-)?([\d.,*/]+)[-~]([\d.,*/]+)")
_CRON = re.compile(r"[\d*/,a-zA-Z-]+")
_SHORTHANDS = {
    "@hourly": "hourly",
    "@daily": "daily",
    "@midnight": "daily",
    "@weekly": "weekly",
    "@monthly": "monthly",
    "@yearly": "yearly",
}


def _field(text: str, least: int, most: float) -> bool:
    """Tell whether systemd reads one field of a date or a time."""
    for part in text.split(","):
        match = _PART.fullmatch(part)
        if not match or any(number and not least <= float(number) <= most for number in match.groups()[:2]):
            return False
    return True


def valid(text: str) -> bool:
    """Tell whether systemd takes a text as OnCalendar."""
    words = text.split()
    if words and words[0].lower() in WORDS:
        return len(words) == 1 or (len(words) == 2 and bool(_ZONE.fullmatch(words[1])))
    place = 0
    if place < len(words) and _DAYLIST.fullmatch(words[place]):
        place += 1
    if place < len(words) and (date := _DATE.fullmatch(words[place])):
        if not (_field(date[1] or "*", 1970, 2200) and _field(date[2], 1, 12) and _field(date[3], 1, 31)):
            return False
        place += 1
    if place < len(words) and ":" in words[place]:
        fields = words[place].split(":")
        if len(fields) > 3 or not all(_field(field, 0, most) for field, most in zip(fields, (23, 59, 59.999999), strict=False)):
            return False
        place += 1
    if not place:
        return False
    return place == len(words) or (place == len(words) - 1 and bool(_ZONE.fullmatch(words[place])))


def from_cron(text: str) -> str | None:
    """Return what a line of cron is for systemd; None where it is none, or where one text cannot say it."""
    if text.strip() in _SHORTHANDS:
        return _SHORTHANDS[text.strip()]
    fields = text.split()
    if len(fields) != 5 or not all(_CRON.fullmatch(field) for field in fields):
        return None
    minute, hour, day, month, weekday = fields
    try:
        days = "" if weekday == "*" else f"{_weekdays(weekday)} "
        if days and day != "*":  # cron runs on either of them, systemd on days that are both
            return None
        found = f"{days}*-{_part(_months(month), 1)}-{_part(day, 1)} {_part(hour, 0)}:{_part(minute, 0)}:00"
    except ValueError:
        return None
    return found if valid(found) else None


def _part(text: str, first: int) -> str:
    """Return a field of cron as systemd writes it; `first` is where its steps begin."""
    found = []
    for item in text.split(","):
        span, dummy, step = item.partition("/")
        least, dash, most = span.partition("-")
        written = "*" if span == "*" else f"{int(least):02d}" + (f"..{int(most):02d}" if dash else "")
        if step and step != "1":
            written = f"{first:02d}/{int(step)}" if span == "*" else f"{written}/{int(step)}"
        found.append(written)
    return ",".join(found)


def _months(text: str) -> str:
    return re.sub(r"[a-zA-Z]+", lambda match: str(MONTHS.index(match[0].lower()[:3]) + 1), text)


def _weekdays(text: str) -> str:
    def name(day: str) -> str:
        return DAYS[int(day) % 7] if day.isdecimal() else DAYS[[known.lower() for known in DAYS].index(day.lower()[:3])]

    if "/" in text:
        raise ValueError("a step among the days of a week")
    return ",".join("..".join(name(day) for day in item.split("-")) for item in text.split(","))


def problems_of(name: str, value: Any) -> Iterator[Problem]:
    """Look at a variable that holds a time, or a dictionary of them. An empty one means never."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from problems_of(f"{name}: {key}", item)
    elif isinstance(value, str) and value and not valid(value):
        better = from_cron(value)
        if better:
            yield Problem(f"variable {name}", f"is {value!r}, which is cron's way to write it", f'Write it as systemd does: "{better}".')
        else:
            fix = 'Write it as systemd does, for example "Mon..Sat *-*-* 01:00:00 UTC"; systemd-analyze calendar shows when that is.'
            yield Problem(f"variable {name}", f"is {value!r}, which is no time for a timer", fix)
