# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Files that several processes look at."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from ansible_collections.uptier.platform.plugins.module_utils.host import files


@contextmanager
def forked() -> Iterator[None]:
    """Have a child with every descriptor that is open now, as one has that another thread is about to start."""
    ours, its = os.pipe()
    child = os.fork()
    if not child:
        os.close(its)
        os.read(ours, 1)  # ends with the parent too
        os._exit(0)
    os.close(ours)
    try:
        yield
    finally:
        os.close(its)
        os.waitpid(child, 0)


def test_a_lock_is_free_again_although_a_child_has_its_descriptor(tmp_path: Path) -> None:
    with ExitStack() as later:
        with files.locked(tmp_path / "lock", 0):
            later.enter_context(forked())
        with files.locked(tmp_path / "lock", 0):
            pass


def test_a_lock_that_somebody_holds_is_waited_for_as_long_as_was_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "LOCK_PAUSE_SECONDS", 0.01)
    with files.locked(tmp_path / "lock"):
        begun = time.monotonic()
        with pytest.raises(BlockingIOError), files.locked(tmp_path / "lock", 0.05):
            pass
        assert time.monotonic() - begun >= 0.05
    with files.locked(tmp_path / "lock", 0):
        pass


def test_a_lock_is_free_after_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="of the body"), files.locked(tmp_path / "lock", 0):
        raise ValueError("of the body")
    with files.locked(tmp_path / "lock", 0):
        pass
