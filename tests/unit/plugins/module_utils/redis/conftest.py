# SPDX-License-Identifier: GPL-3.0-or-later
"""Real Redis servers for the tests of this folder."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[5]
sys.path.insert(0, str(ROOT / "tests"))

from harness.redis import Servers  # noqa: E402 - the path has to be set first
from harness.servers import find_redis  # noqa: E402


@pytest.fixture
def servers() -> Iterator[Servers]:
    found = find_redis()
    if not found:
        pytest.skip("not verified here: redis-server (Debian) can neither be found nor fetched; role_redis moves slots and hands over")
    with tempfile.TemporaryDirectory(prefix="uptier-redis-") as folder:
        servers = Servers(Path(folder), *found)
        try:
            yield servers
        finally:
            servers.end()
