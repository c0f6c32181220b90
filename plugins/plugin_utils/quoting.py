# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""How a value is written into the file of each daemon, so that it is read back as it was. Pure functions."""

from __future__ import annotations

import re
from typing import Any

VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


class QuotingError(ValueError):
    """The format has no way to write the value; the message says which and what to do, and never the value."""


def text_of(value: Any) -> str:
    """Return a value as programs expect it: truth values in lower case, nothing as the empty text."""
    return str(value).lower() if isinstance(value, bool) else "" if value is None else str(value)


def environment_line(name: str, value: Any) -> str:
    """Return NAME="value" as systemd reads it from an EnvironmentFile; truth values and numbers as programs expect them."""
    if not VARIABLE.fullmatch(str(name)):
        raise QuotingError(f"{name!r} is no name for an environment variable; use letters, digits and _.")
    quoted = re.sub(r'([\\"`$])', r"\\\1", text_of(value))
    return f'{name}="{quoted}"'
