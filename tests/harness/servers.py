# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Servers of Debian's packages for unit tests: those of the machine, else fetched and unpacked into .cache without being installed."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
REDIS = ["redis-server", "redis-tools", "liblzf1", "libjemalloc2", "liblua5.1-0", "lua-cjson", "lua-bitop", "libatomic1"]


def fetched(name: str, packages: list[str]) -> Path | None:
    """Return a folder with the packages unpacked, or None where they cannot be had."""
    folder = ROOT / ".cache" / name
    if folder.is_dir():
        return folder
    if not shutil.which("apt-get") or not shutil.which("dpkg-deb"):
        return None
    part = folder.with_suffix(f".{os.getpid()}")
    part.mkdir(parents=True)
    try:
        subprocess.run(["apt-get", "download", "-q", *packages], cwd=part, check=True, capture_output=True, timeout=120)
        for package in part.glob("*.deb"):
            subprocess.run(["dpkg-deb", "-x", package, part], check=True, timeout=60)
            package.unlink()
        part.rename(folder)
    except (OSError, subprocess.SubprocessError):
        return folder if folder.is_dir() else None
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return folder


def find_redis_cli() -> tuple[list[str], dict[str, str]] | None:
    """Return how to start redis-cli, as words and environment, or None where there is none."""
    found = shutil.which("redis-cli")
    if found:
        return [found], dict(os.environ)
    for library in ("libhiredis0.14", "libhiredis1.1.0"):  # Debian 12, 13
        folder = fetched(f"redis-cli-{library}", [*REDIS, library])
        if folder:
            return [str(folder / "usr" / "bin" / "redis-cli")], {**os.environ, "LD_LIBRARY_PATH": _libraries(folder)}
    return None


def _libraries(folder: Path) -> str:
    return ":".join(sorted({str(path.parent) for path in folder.rglob("*.so*")}))


def find_redis() -> tuple[list[str], dict[str, str]] | None:
    """Return how to start redis-server, as words and environment, or None where there is none."""
    found = shutil.which("redis-server")
    if found:
        return [found], dict(os.environ)
    folder = fetched("redis", REDIS)
    if folder is None:
        return None
    return [str(folder / "usr" / "bin" / "redis-server")], {**os.environ, "LD_LIBRARY_PATH": _libraries(folder)}
