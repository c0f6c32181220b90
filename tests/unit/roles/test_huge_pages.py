# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The program that reserves huge pages before PostgreSQL starts."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
SPEC = importlib.util.spec_from_file_location("huge_pages", ROOT / "roles" / "postgresql" / "files" / "huge_pages.py")
huge_pages = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(huge_pages)


class Kernel:
    """A kernel that has so many pages in one piece and gives what it can."""

    def __init__(self, pages: int, most: int) -> None:
        self.pages, self.most = pages, most

    def read_text(self, encoding: str) -> str:
        return f"{self.pages}\n"

    def write_text(self, text: str, encoding: str) -> None:
        self.pages = min(int(text), self.most)


@pytest.mark.parametrize(
    ("had", "most", "has", "said"),
    [
        (0, 1000, 540, "PostgreSQL takes 540 huge pages, they are reserved now (0 before)"),
        (540, 1000, 540, "PostgreSQL takes 540 huge pages, 540 are reserved"),
        (800, 1000, 800, "PostgreSQL takes 540 huge pages, 800 are reserved"),
        (10, 539, 10, "PostgreSQL takes 540 huge pages, the kernel found only 539: PostgreSQL runs without them. A reboot makes room"),
        (0, 540, 540, "PostgreSQL takes 540 huge pages, they are reserved now (0 before)"),
    ],
)
def test_all_pages_or_none(had: int, most: int, has: int, said: str) -> None:
    kernel = Kernel(had, most)
    assert huge_pages.reserve(540, kernel) == said
    assert kernel.pages == has


def test_postgresql_counts_them_itself(tmp_path: Path) -> None:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"))
    if not found:
        pytest.skip("not verified here: postgres (Debian package postgresql) is not installed")
    settings = tmp_path / "settings.conf"
    settings.write_text("shared_buffers = '1GB'\nmax_connections = '200'\narchive_command = 'echo ''%p'''\n", encoding="utf-8")
    pages = huge_pages.needed(found[-1].parent, settings, "nobody" if os.geteuid() == 0 else "")
    assert 512 < pages < 600  # of 2 MiB each, if the platform has such


def test_what_postgresql_refuses_is_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"))
    if not found:
        pytest.skip("not verified here: postgres (Debian package postgresql) is not installed")
    settings = tmp_path / "settings.conf"
    settings.write_text("shared_bufers = '1GB'\n", encoding="utf-8")
    assert huge_pages.main(["huge_pages.py", str(found[-1].parent), str(settings), "nobody" if os.geteuid() == 0 else ""]) == 1
    assert 'unrecognized configuration parameter "shared_bufers"' in capsys.readouterr().err
