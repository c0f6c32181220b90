# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

import importlib.util
from pathlib import Path

ROOT = Path(__file__).resolve().parents[4]


def test_filters_are_documented_as_they_are() -> None:
    spec = importlib.util.spec_from_file_location("document_filters", ROOT / "scripts" / "document_filters.py")
    assert spec is not None
    assert spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    old = sorted(path.name for path in script.stale())
    assert old == [], "run: .venv/bin/python scripts/document_filters.py"
