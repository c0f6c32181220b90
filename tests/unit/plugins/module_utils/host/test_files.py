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


@pytest.mark.parametrize("umask", [0o000, 0o077])
def test_a_file_has_its_mode_before_it_has_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, umask: int) -> None:
    path, seen = tmp_path / "key", []
    path.write_text("old", encoding="utf-8")
    path.chmod(0o666)
    replace = os.replace

    def look(source: str, target: Path) -> None:
        beside = Path(source)
        seen.append(
            (target.read_text(encoding="utf-8"), beside.read_text(encoding="utf-8"), oct(beside.stat().st_mode & 0o7777), beside.parent)
        )
        replace(source, target)

    monkeypatch.setattr(os, "replace", look)
    before = os.umask(umask)
    try:
        files.replace_file(path, "new", 0o640)
    finally:
        os.umask(before)
    assert seen == [("old", "new", "0o640", tmp_path)]
    assert path.read_text(encoding="utf-8") == "new"


def test_a_file_that_cannot_be_replaced_stays_and_nothing_is_left_beside_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    path.write_text("old", encoding="utf-8")

    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        files.replace_file(path, "new", 0o600)
    assert path.read_text(encoding="utf-8") == "old"
    assert [item.name for item in tmp_path.iterdir()] == ["file"]


def test_a_files_owner_and_bytes_that_are_no_text(tmp_path: Path) -> None:
    path = tmp_path / "file"
    files.replace_file(path, b"caf\xe9".decode("utf-8", "surrogateescape"), 0o600, os.getuid(), os.getgid())
    assert path.read_bytes() == b"caf\xe9"
    assert (path.stat().st_uid, path.stat().st_gid) == (os.getuid(), os.getgid())


def test_a_link_is_replaced_and_what_it_led_to_stays(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).write_text(name, encoding="utf-8")
    (tmp_path / ".current.new").symlink_to("left")
    for name in ("one", "two"):
        files.replace_link(tmp_path / "current", name)
        assert (tmp_path / "current").readlink() == Path(name)
    assert sorted(item.name for item in tmp_path.iterdir()) == ["current", "one", "two"]
    files.replace_file(tmp_path / "current", "a file", 0o600)
    assert (tmp_path / "two").read_text(encoding="utf-8") == "two"
