# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The platform's own tables: roles/platform/vars."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import yaml

# The one in C, where there is one, takes a tenth of the time: each task of each host reads anew what was not read before it.
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
FOLDER = Path(__file__).resolve().parents[2] / "roles" / "platform" / "vars"


@cache
def read(name: str) -> Any:
    """Return one of the files, read once a process."""
    return yaml.load((FOLDER / name).read_text(encoding="utf-8"), Loader=LOADER)
