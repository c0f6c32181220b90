# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Files that several processes look at. Nothing but the standard library: it travels with programs."""

from __future__ import annotations

import fcntl
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

LOCK_PAUSE_SECONDS = 0.5


@contextmanager
def locked(path: str | os.PathLike[str], seconds: float | None = None) -> Iterator[None]:
    """Hold a lock of the kernel, which lets go of it with the process.

    Args:
        path: the lock's file, which is made; its directory has to be there.
        seconds: how long to wait for it, 0 for not at all; as long as it takes where nothing is given.

    Raises:
        BlockingIOError: somebody else holds it.
    """
    end = None if seconds is None else time.monotonic() + seconds
    with open(path, "w", encoding="utf-8") as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | (0 if end is None else fcntl.LOCK_NB))
                break
            except BlockingIOError:
                if end is None or time.monotonic() >= end:
                    raise
            time.sleep(LOCK_PAUSE_SECONDS)
        try:
            yield
        finally:
            # A child that another thread is about to start still has this descriptor: closing ours alone would leave the lock with it.
            fcntl.flock(file, fcntl.LOCK_UN)


def replace_file(path: str | os.PathLike[str], text: str, mode: int, uid: int = -1, gid: int = -1) -> None:
    """Write beside a file and rename: who reads it, also after the machine has stopped, sees the old or the new one, never a part.

    Nobody but its owner can read it before it has this mode. A link is replaced, not followed.

    Args:
        path: the file; its directory has to be there.
        text: what it holds; bytes that are no UTF-8 come back as they were read with `surrogateescape`.
        mode: its permissions, whatever the umask is.
        uid: its owner; that of the process where nothing is given.
        gid: its group, alike.
    """
    folder, name = os.path.split(os.fspath(path))
    handle, temporary = tempfile.mkstemp(dir=folder or ".", prefix=f".{name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8", errors="surrogateescape") as stream:
            if (uid, gid) != (-1, -1):
                os.fchown(handle, uid, gid)
            os.fchmod(handle, mode)
            stream.write(text)
            stream.flush()
            os.fsync(handle)
        os.replace(temporary, path)
    except BaseException:
        with suppress(FileNotFoundError):
            os.unlink(temporary)
        raise


def replace_link(path: str | os.PathLike[str], target: str | os.PathLike[str]) -> None:
    """Let a link lead elsewhere in one step: there is no moment without it. A directory in its place is the caller's to remove."""
    folder, name = os.path.split(os.fspath(path))
    temporary = os.path.join(folder, f".{name}.new")
    if os.path.lexists(temporary):  # left by one that was killed
        os.unlink(temporary)
    os.symlink(target, temporary)
    os.replace(temporary, path)
