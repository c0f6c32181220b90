# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Files that several processes look at. Nothing but the standard library: it travels with programs."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager

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
