# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Names and values as SQL writes them."""

from __future__ import annotations

from typing import Any


def identifier(*parts: str) -> str:
    """Return a name, or several with dots between them, taken literally: case and special characters are kept."""
    return ".".join('"' + part.replace('"', '""') + '"' for part in parts)


def literal(value: Any) -> str:
    """Return a text that means the same whatever standard_conforming_strings says."""
    text = str(value).replace("'", "''")
    return "E'" + text.replace("\\", "\\\\") + "'" if "\\" in text else f"'{text}'"
