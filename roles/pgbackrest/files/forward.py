# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Bring WAL that has arrived in the first repository into the second one, on the repository's host, for as long as it runs.

forward.py --stanza=NAME --path=DIRECTORY --config=FILE --spool=DIRECTORY [--once]

DIRECTORY of --path is the first repository; FILE has the settings of the second one and nothing else.

pgBackRest can push into both by itself, but its releases in Debian stop to push into the first one as well while the second one does not answer
(pgBackRest #2654): the archive of the leader would stand still because a bucket far away does. So the leader knows the first one only.

- A segment is read from the first repository, held against the checksum in its name, and pushed as archive_command would do it. What is there already
  is pushed again without harm, so nothing is lost where the notes of what was done are lost.
- The oldest comes first, and one that cannot be pushed is waited for: the second repository has no gap that the first one does not have.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

PGBACKREST = "/usr/bin/pgbackrest"
SECONDS = 5  # a backup into the second repository waits for its WAL a minute
SLOWEST = 30  # below the minute that a check and a backup wait for their WAL
TIMEOUT = 120
# SEGMENT[.partial]-SHA1.gz, SEGMENT.OFFSET.backup or TIMELINE.history, as pgBackRest stores them.
STORED = re.compile(
    r"([0-9A-F]{24}(?:\.partial)?)-([0-9a-f]{40})(?:\.(zst|lz4|gz|bz2))?|([0-9A-F]{24}\.[0-9A-F]{8}\.backup|[0-9A-F]{8}\.history)"
)
SPOOLED = re.compile(r"[0-9A-F]{24}(\.partial|\.[0-9A-F]{8}\.backup)?|[0-9A-F]{8}\.history")
# Where the second repository is. With another key or retention it is the same one.
PLACE = re.compile(r"repo2-(?:type|path|s3-bucket|s3-endpoint|sftp-host)=.*")
COMPRESSED = {"zst": "zst", "lz4": "lz4", "gz": "gz", "bz2": "bz2", None: "none"}
UNPACK = {"zst": ["zstd", "-dqc"], "lz4": ["lz4", "-dqc"], "gz": ["gzip", "-dc"], "bz2": ["bzip2", "-dc"], None: ["cat"]}


class Failed(Exception):
    """Something could not be brought over; it is tried again."""


def cause(text: str) -> str:
    """Return what pgBackRest said without the time, its hints and what it adds for each try: the same cause is the same text."""
    lines = [re.sub(r"^\S+ \S+ P\d+ +\w+: ", "", line).strip() for line in text.splitlines()]
    kept = [line for line in lines if not re.match(r"\[\w+\] on (\d+ )?retr(y|ies)\b|HINT:", line)]
    return " ".join(" ".join(dict.fromkeys(kept)).split())[:400]


def say(text: str) -> None:
    print(text, flush=True)


class Forwarder:
    """The first repository's archive, the second repository, and notes of what was brought over."""

    def __init__(self, stanza: str, path: Path, config: Path, spool: Path) -> None:
        """Read the notes; a line that was cut off when the machine stopped is brought over again."""
        self.stanza, self.path, self.config, self.spool = stanza, path, config, spool
        self.archive = path / "archive" / stanza
        self.notes = spool / f"{stanza}.done"
        self._begin_anew_elsewhere()
        text = self.notes.read_text(encoding="ascii") if self.notes.exists() else ""
        self.done = set(text[: text.rfind("\n") + 1].split())
        self.waiting = 0
        for copy in spool.iterdir():  # left by one that was killed
            if copy != self.notes and SPOOLED.fullmatch(copy.name):
                copy.unlink()
        if not text.endswith("\n"):
            self._forget(self.done)

    def _begin_anew_elsewhere(self) -> None:
        """Forget the notes where they are of a repository in another place."""
        text = self.config.read_text(encoding="utf-8") if self.config.exists() else ""
        place = "\n".join(sorted(PLACE.findall(text)))
        known = self.spool / f"{self.stanza}.place"
        if known.exists() and known.read_text(encoding="utf-8") != place:
            self.notes.unlink(missing_ok=True)
        known.write_text(place, encoding="utf-8")

    def stored(self) -> Iterator[str]:
        """Yield what the archive holds, oldest first, as paths below it; a history before the segments of its timeline."""
        for cluster in sorted(self._entries(self.archive), key=lambda name: int(name.rpartition("-")[2]) if name[-1].isdigit() else -1):
            folder = self.archive / cluster
            if folder.is_dir():
                files = [f"{cluster}/{name}" for name in self._entries(folder) if STORED.fullmatch(name)]
                for part in self._entries(folder):
                    if re.fullmatch(r"[0-9A-F]{16}", part):
                        files += [f"{cluster}/{part}/{name}" for name in self._entries(folder / part) if STORED.fullmatch(name)]
                yield from sorted(files, key=lambda file: (file.rpartition("/")[2].partition(".history")[0], file))

    @staticmethod
    def _entries(folder: Path) -> list[str]:
        try:
            return os.listdir(folder)
        except FileNotFoundError:  # not there yet, or expired meanwhile
            return []

    def forward(self) -> int:
        """Bring over what is new; return how much it was.

        Raises:
            Failed: with what was seen; what came before it has been brought over.
        """
        stored = list(self.stored())
        new = [file for file in stored if file not in self.done]
        if len(self.done) > 2 * len(stored) + 1000:
            self._forget(set(stored))
        for count, file in enumerate(new):
            self.waiting = len(new) - count
            self._bring(file)
            self.done.add(file)
            with self.notes.open("a", encoding="ascii") as notes:
                notes.write(f"{file}\n")
        self.waiting = 0
        self.notes.touch()  # the exporter tells how long ago something came over, or nothing waited
        return len(new)

    def _forget(self, stored: set[str]) -> None:
        """Drop the notes of what has expired."""
        self.done &= stored
        fresh = self.notes.with_suffix(".new")
        fresh.write_text("".join(f"{file}\n" for file in sorted(self.done)), encoding="ascii")
        fresh.replace(self.notes)

    def _bring(self, file: str) -> None:
        found = STORED.fullmatch(file.rpartition("/")[2])
        assert found, file
        segment, checksum, packed, plain = found.groups()
        copy = self.spool / (segment or plain)
        try:
            with copy.open("wb") as target:
                self._read(file, packed, target.fileno())
            if checksum and hashlib.sha1(copy.read_bytes(), usedforsecurity=False).hexdigest() != checksum:
                raise Failed(
                    f"{file} in the first repository is damaged: its content has another checksum than its name says. Nothing after it is brought over."
                )
            self._run(
                [
                    PGBACKREST,
                    f"--config={self.config}",
                    f"--stanza={self.stanza}",
                    "--io-timeout=5",  # it tries for eighteen times as long
                    *([f"--compress-type={COMPRESSED[packed]}"] if checksum else []),
                    "--log-level-console=warn",
                    "archive-push",
                    str(copy),
                ],
                file,
            )
        finally:
            copy.unlink(missing_ok=True)

    def _read(self, file: str, packed: str | None, target: int) -> None:
        words = [
            PGBACKREST,
            f"--stanza={self.stanza}",
            "--repo=1",
            "--log-level-console=error",
            "--log-level-file=off",
            "repo-get",
            f"archive/{self.stanza}/{file}",
        ]
        with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as source:
            try:
                unpacked = subprocess.run(
                    UNPACK[packed], stdin=source.stdout, stdout=target, stderr=subprocess.PIPE, timeout=TIMEOUT, check=False
                )
            except subprocess.TimeoutExpired:
                source.kill()
                raise Failed(f"{file} could not be read from the first repository within {TIMEOUT} s.") from None
            said = b"" if source.stderr is None else source.stderr.read()
        if source.returncode or unpacked.returncode:
            text = (said or unpacked.stderr).decode("utf-8", "replace")
            raise Failed(f"{file} could not be read from the first repository: {cause(text)}")

    def _run(self, words: list[str], file: str) -> None:
        try:
            done = subprocess.run(words, capture_output=True, timeout=TIMEOUT, check=False)
        except subprocess.TimeoutExpired:
            raise Failed(f"{file} could not be pushed into the second repository within {TIMEOUT} s.") from None
        if done.returncode:
            text = (done.stdout + done.stderr).decode("utf-8", "replace")
            raise Failed(f"{file} could not be pushed into the second repository (status {done.returncode}): {cause(text)}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stanza", required=True)
    for name in ("--path", "--config", "--spool"):
        parser.add_argument(name, type=Path, required=True)
    parser.add_argument("--once", action="store_true", help="end when all is brought over, with 1 where it could not be")
    given = parser.parse_args()
    given.spool.mkdir(mode=0o750, exist_ok=True)
    forwarder = Forwarder(given.stanza, given.path, given.config, given.spool)
    stopped = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *dummy: stopped.set())
    trouble, pause = "", SECONDS
    while not stopped.is_set():
        try:
            forwarder.forward()
            if trouble:
                say("The second repository has all WAL of the first one again.")
            trouble, pause = "", SECONDS
        except (Failed, OSError) as error:
            if stopped.is_set():  # systemd ends what it has started too
                break
            if str(error) != trouble:
                say(f"{error} {forwarder.waiting} files wait; it is tried again.")
            trouble, pause = str(error), min(2 * pause, SLOWEST)
        if given.once:
            return int(bool(trouble))
        stopped.wait(pause)
    return 0


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        sys.exit(main())
