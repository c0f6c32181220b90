# SPDX-License-Identifier: GPL-3.0-or-later
"""What the scripts share: paths, messages, running commands."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import NoReturn

import yaml

ROOT = Path(__file__).resolve().parent.parent
CACHE = ROOT / ".cache"
BUILD = ROOT / "build"
BIN = ROOT / ".venv" / "bin"


def releases() -> dict[int, dict[str, str]]:
    """Return what each Debian release of the project carries, by its number."""
    data = yaml.safe_load((ROOT / "roles/platform/vars/releases.yml").read_text(encoding="utf-8"))
    return {int(number): carried for number, carried in data["platform_releases"].items()}


class Problem(Exception):
    """Something that the user has to know or do; the message is shown as it is."""


def say(text: str) -> None:
    """Tell the user what happens, at once also when the output goes into a file."""
    print(text, flush=True)


def run(
    *command: str | Path, check: bool = True, stdin: str | None = None, timeout: float | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a command, keep its output; a failure names the command and quotes its last lines."""
    words = [str(word) for word in command]
    try:
        done = subprocess.run(words, input=stdin, capture_output=True, text=True, timeout=timeout, check=False)
    except FileNotFoundError:
        raise Problem(f"{words[0]} is not installed.") from None
    except subprocess.TimeoutExpired:
        raise Problem(f"`{' '.join(words)}` gave no answer within {timeout:.0f} s.") from None
    if check and done.returncode != 0:
        last = "\n".join((done.stderr.strip() or done.stdout.strip()).splitlines()[-15:])
        raise Problem(f"`{' '.join(words)}` ended with status {done.returncode}:\n{last}")
    return done


def succeeds(*command: str | Path, timeout: float | None = 30) -> bool:
    """Tell whether a command can be run and ends with status 0."""
    try:
        return run(*command, check=False, timeout=timeout).returncode == 0
    except Problem:
        return False


def stop(program: str, problem: Problem) -> NoReturn:
    """End the program with the problem's message and status 1."""
    print(f"{program}: {problem}", file=sys.stderr, flush=True)
    raise SystemExit(1)
