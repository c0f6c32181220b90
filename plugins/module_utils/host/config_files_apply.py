# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Carries out the plan of a configuration bundle on a file system: all of it, or nothing.

Two small records stand on the host. The marker says what was written and not yet taken over by the daemon; it lies
under /run, because a reboot starts every daemon with what is on disk. The record of the watched files lies under
/var/lib, because a certificate that changes while a host is down has to count as well.
"""

from __future__ import annotations

import glob
import grp
import hashlib
import json
import os
import pwd
import shlex
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.uptier.platform.plugins.module_utils.host.config_files import BundleError, Seen, Step, Wanted
from ansible_collections.uptier.platform.plugins.module_utils.host.files import replace_file, replace_link

PENDING = "/run/uptier/pending"
APPLIED = "/var/lib/uptier/applied"
UNITS = "/etc/systemd/system/"
SYSTEMD = "/run/systemd/system"


@dataclass(frozen=True)
class Host:
    """What the bundle needs of the host besides its file system."""

    run: Callable[[list[str]], tuple[int, str, str]]
    find: Callable[[str], str | None]
    tmpdir: str | None = None
    check_mode: bool = False


def look(path: str) -> Seen:
    """Describe what stands at a path. Bytes that are no UTF-8 survive the way into text and back."""
    try:
        info = os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return Seen()
    kinds = ((stat.S_ISLNK, "link"), (stat.S_ISDIR, "directory"), (stat.S_ISREG, "file"))
    kind = next((name for test, name in kinds if test(info.st_mode)), "other")
    content = None
    if kind == "file":
        with open(path, "rb") as handle:
            content = handle.read().decode("utf-8", "surrogateescape")
    return Seen(
        kind=kind,
        content=content,
        target=os.readlink(path) if kind == "link" else None,
        owner=_name(lambda: pwd.getpwuid(info.st_uid).pw_name, info.st_uid),
        group=_name(lambda: grp.getgrgid(info.st_gid).gr_name, info.st_gid),
        mode=stat.S_IMODE(info.st_mode),
    )


def _name(lookup: Callable[[], str], number: int) -> str:
    try:
        return lookup()
    except KeyError:
        return str(number)


def _number(lookup: Callable[[str], int], kind: str, name: str | None, path: str) -> int:
    if name is None:
        return -1
    try:
        return lookup(name)
    except KeyError:
        if name.isdigit():
            return int(name)
        raise BundleError(
            "unknown_owner",
            f"{path}: there is no {kind} {name!r} on this host. Install the package that creates it first.",
        ) from None


def owner_ids(item: Wanted) -> tuple[int, int]:
    """Return the numbers of owner and group; -1 leaves one as it is."""
    return (
        _number(lambda name: pwd.getpwnam(name).pw_uid, "user", item.owner, item.path),
        _number(lambda name: grp.getgrnam(name).gr_gid, "group", item.group, item.path),
    )


def stale(patterns: Iterable[str], named: Iterable[str]) -> list[Wanted]:
    """Return what the patterns match and the bundle does not name, nor anything inside it.

    Byte-code is left alone: Python writes it beside a program that somebody runs by hand, and no run is to undo or report that.
    """
    wanted = set(named)
    found = {path for pattern in patterns for path in glob.glob(pattern) if os.path.basename(path) != "__pycache__"} - wanted
    return [Wanted(path=path, state="absent") for path in sorted(found) if not any(name.startswith(f"{path}/") for name in wanted)]


def digest(path: str) -> str:
    try:
        with open(path, "rb") as handle:
            return hashlib.sha256(handle.read()).hexdigest()
    except OSError:
        return "absent"


def _load(path: str, default: Any) -> Any:
    try:
        with open(path, encoding="utf-8") as handle:
            return json.load(handle)
    except (OSError, ValueError):
        return default


def _save(path: str, value: Any) -> None:
    os.makedirs(os.path.dirname(path), mode=0o755, exist_ok=True)
    replace_file(path, json.dumps(value), 0o644)


@dataclass
class Bundle:
    """The files of one component on one host."""

    name: str
    host: Host
    verify: Sequence[str] = ()
    watch: Sequence[str] = ()
    pending_dir: str = PENDING
    applied_dir: str = APPLIED
    _made: list[str] = field(default_factory=list)
    _moved_away: dict[str, str] = field(default_factory=dict)

    @property
    def marker(self) -> str:
        return os.path.join(self.pending_dir, f"{self.name}.json")

    @property
    def record(self) -> str:
        return os.path.join(self.applied_dir, f"{self.name}.json")

    def left(self) -> list[str]:
        """Return what an earlier run wrote and no daemon has taken over."""
        return list(_load(self.marker, []))

    def moved(self) -> list[str]:
        """Return the watched files that differ from what the daemon last read."""
        known = _load(self.record, {})
        return [path for path in self.watch if known.get(path) != digest(path)]

    def applied(self) -> None:
        if os.path.exists(self.marker):
            os.unlink(self.marker)

    def validate(self, steps: Iterable[Step], commands: dict[str, str]) -> None:
        """Check each file that gets new content, before anything is written."""
        for step in steps:
            command = commands.get(step.path)
            if not command or step.wanted.content is None or not {"create", "content", "type"} & set(step.facets):
                continue
            handle, temporary = tempfile.mkstemp(dir=self.host.tmpdir, suffix=f"-{os.path.basename(step.path)}")
            try:
                with os.fdopen(handle, "w", encoding="utf-8", errors="surrogateescape") as stream:
                    stream.write(step.wanted.content)
                argv = [part.replace("%s", temporary) for part in shlex.split(command)]
                complaint = self._check(argv, step.path)
            finally:
                os.unlink(temporary)
            if complaint:
                complaint = complaint.replace(temporary, step.path)
                raise BundleError(
                    "validate_failed",
                    f"{step.path} was not written: its new content is not valid. {complaint}",
                )

    def apply(self, steps: list[Step], moved: list[str]) -> None:
        """Write everything; whatever fails, all files are as they were before."""
        left = self.left()
        pending = sorted({*left, *(step.path for step in steps), *moved})
        for step in steps:
            if step.wanted.state != "absent":
                owner_ids(step.wanted)
        # The marker stands before the first write: killed at any moment, the next run restarts once too often, not
        # never.
        _save(self.marker, pending)
        done: list[Step] = []
        try:
            for step in steps:
                done.append(step)
                self._write(step.wanted, step.seen)
            self._reload_units(pending)
            # What an earlier run wrote and was killed before checking is checked now.
            if steps or left:
                self._verify()
        except (OSError, BundleError) as error:
            self._restore(done)
            _save(self.marker, left) if left else self.applied()
            self._reload_units([step.path for step in done])
            if isinstance(error, BundleError):
                raise
            raise BundleError(
                "write_failed",
                f"{error.filename or self.name}: {error.strerror}. All files of {self.name} are as they were.",
            ) from error
        for aside in self._moved_away.values():
            _delete(aside)
        if moved:
            _save(self.record, {path: digest(path) for path in self.watch})

    def _check(self, argv: list[str], subject: str) -> str | None:
        """Run a checker; return its complaint, or None. A missing checker is an error outside check mode only."""
        if self.host.find(argv[0]) is None:
            if self.host.check_mode:
                return None
            raise BundleError(
                "checker_missing",
                f"Cannot check {subject}: the command {argv[0]} is not on this host. Install it first.",
            )
        code, out, err = self.host.run(argv)
        if code == 0:
            return None
        return f"{shlex.join(argv)} ended with {code}: {(err or out).strip() or 'no output'}"

    def _verify(self) -> None:
        for command in self.verify:
            complaint = self._check(shlex.split(command), self.name)
            if complaint:
                raise BundleError(
                    "verify_failed",
                    f"The new configuration of {self.name} is not valid; all its files are as they were. {complaint}",
                )

    def _write(self, item: Wanted, seen: Seen) -> None:
        if seen.kind not in ("absent", item.state):
            self._remove(item.path, seen)
        if item.state == "absent":
            return
        self._parents(item.path)
        if item.state == "link":
            replace_link(item.path, item.target or "")
        elif item.state == "directory":
            if seen.kind != "directory":
                os.mkdir(item.path, 0o700)
            _own(item.path, item)
        elif seen.kind == "file" and seen.content == item.content:
            _own(item.path, item)
        else:
            replace_file(item.path, item.content or "", 0o600 if item.mode is None else item.mode, *owner_ids(item))

    def _remove(self, path: str, seen: Seen) -> None:
        """Remove what can be made again from memory; put the rest aside until all has gone well."""
        if seen.kind in ("file", "link"):
            os.unlink(path)
            return
        aside = _beside(path, "old")
        if os.path.lexists(aside):
            _delete(aside)
        os.rename(path, aside)
        self._moved_away[path] = aside

    def _parents(self, path: str) -> None:
        """Make missing parents readable for all, whatever the umask of this process is."""
        missing = []
        folder = os.path.dirname(path)
        while folder and not os.path.isdir(folder):
            missing.append(folder)
            folder = os.path.dirname(folder)
        for folder in reversed(missing):
            os.mkdir(folder)
            os.chmod(folder, 0o755)
            self._made.append(folder)

    def _restore(self, done: list[Step]) -> None:
        for step in reversed(done):
            now, before = look(step.path), step.seen
            if step.path in self._moved_away:
                if now.kind != "absent":
                    _delete(step.path)
                os.rename(self._moved_away[step.path], step.path)
            elif before.kind == "absent":
                if now.kind != "absent":
                    _delete(step.path)
            elif before.kind != "other":
                back = Wanted(
                    path=step.path,
                    state=before.kind,
                    content=before.content,
                    target=before.target,
                    owner=before.owner,
                    group=before.group,
                    mode=before.mode,
                )
                self._write(back, now)
        for folder in reversed(self._made):
            if os.path.isdir(folder) and not os.listdir(folder):
                os.rmdir(folder)

    def _reload_units(self, paths: Iterable[str]) -> None:
        if not any(path.startswith(UNITS) for path in paths) or not os.path.isdir(SYSTEMD):
            return
        code, out, err = self.host.run(["systemctl", "daemon-reload"])
        if code:
            raise BundleError(
                "daemon_reload_failed",
                f"systemctl daemon-reload ended with {code}: {(err or out).strip() or 'no output'}",
            )


def _beside(path: str, suffix: str) -> str:
    """Return a hidden name in the same directory: no daemon reads it as a drop-in, and a rename stays atomic."""
    folder, name = os.path.split(path)
    return os.path.join(folder, f".{name}.uptier-{suffix}")


def _delete(path: str) -> None:
    if os.path.isdir(path) and not os.path.islink(path):
        shutil.rmtree(path)
    else:
        os.unlink(path)


def _own(path: str, item: Wanted) -> None:
    os.chown(path, *owner_ids(item))
    if item.mode is not None:
        os.chmod(path, item.mode)
