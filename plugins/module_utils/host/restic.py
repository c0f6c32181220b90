# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A repository of restic, as this platform uses it. Nothing but the standard library and the program `restic`.

Settings of a repository, as the role `restic` writes them: ``location`` (what restic calls the repository), ``password``, ``tls`` (``ca``, ``cert``
and ``key`` for the platform's own server; empty elsewhere), ``environment`` (what a provider's store wants), ``cache`` (directory).
"""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import json
import os
import re
import ssl
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

RESTIC = "/usr/bin/restic"
OUR_SERVER = "rest:"
ASK_SECONDS = 20.0
TAG = "uptier"
# Said by restic, from 0.14 to 0.18; the first that fits holds.
SAID = (
    ("wrong_password", re.compile(r"wrong password|no key found", re.IGNORECASE)),
    ("locked", re.compile(r"already locked|unable to create lock", re.IGNORECASE)),
    ("no_snapshot", re.compile(r"no snapshot found|no matching ID|snapshot filter .* did not match|latest snapshot", re.IGNORECASE)),
    ("disk_full", re.compile(r"no space left on device", re.IGNORECASE)),
    ("unreachable", re.compile(r"dial tcp|connection re(?:fused|set)|no such host|i/o timeout|x509|tls:|certificate", re.IGNORECASE)),
    ("damaged", re.compile(r"ciphertext verification failed|invalid data returned|repository contains errors|is damaged|pack .* (?:missing|corrupt)",
                           re.IGNORECASE)),
)  # fmt: skip
HINTS = {
    "wrong_password": "It was made with another vault_restic_password: put the former one back, or give restic_repository_path another directory.",
    "locked": "Another restic works on it, or was killed there. A lock that nobody renews is removed after half an hour: run it again then.",
    "no_snapshot": "Look at what there is with `restic_backup.py /etc/uptier/restic.json list` on the host, and name one of these.",
    "disk_full": "Make room where the repository is, or keep less (restic_keep).",
    "unreachable": "Look at the unit restic-repository on the repository's host, at its port and at both certificates.",
    "damaged": "Do not remove it. Look at the disk, then let `restic repair` rebuild what can be read.",
}


class ResticError(Exception):
    """What was seen, where, and what to do; `reason` is for programs."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class Repository:
    """One repository."""

    def __init__(self, settings: Mapping[str, Any]) -> None:
        self.location = str(settings["location"])
        self.tls: Mapping[str, str] = settings.get("tls") or {}
        self.cache = str(settings.get("cache") or "")
        self.environment = {**os.environ, **(settings.get("environment") or {}), "RESTIC_PASSWORD": str(settings["password"])}

    # Asking --------------------------------------------------------------------------------------------------------------

    def exists(self) -> bool:
        """Tell whether there is a repository. Where that cannot be known, raise; a repository is never made over another."""
        if not self.location.startswith(OUR_SERVER):
            return self._exists_elsewhere()
        parts = urlsplit(self.location[len(OUR_SERVER) :])
        try:
            context = ssl.create_default_context(cafile=self.tls["ca"])
            context.load_cert_chain(self.tls["cert"], self.tls["key"])
            connection = http.client.HTTPSConnection(str(parts.hostname), parts.port, timeout=ASK_SECONDS, context=context)
            with contextlib.closing(connection):
                connection.request("HEAD", f"{parts.path.rstrip('/')}/config")
                status = connection.getresponse().status
        except (OSError, http.client.HTTPException) as error:
            raise ResticError("unreachable", f"The repository {self.location} does not answer: {error}. {HINTS['unreachable']}") from error
        if status not in (200, 404):
            raise ResticError("unreachable", f"The repository {self.location} answers with status {status}. {HINTS['unreachable']}")
        return status == 200

    def _exists_elsewhere(self) -> bool:
        if self.location.startswith("/"):
            return (Path(self.location) / "config").is_file()
        try:
            self.run("cat", "config")
        except ResticError as error:
            if error.reason == "failed" and re.search(r"does not exist|not found|no such|is there a repository", str(error), re.IGNORECASE):
                return False
            raise
        return True

    def snapshots(self, host: str = "", latest: int = 0) -> list[dict[str, Any]]:
        """Return the platform's snapshots, oldest first."""
        words = ["snapshots", "--json", f"--tag={TAG}", *([f"--host={host}"] if host else []), *([f"--latest={latest}"] if latest else [])]
        found = json.loads(self.run(*words).stdout or "[]") or []
        return sorted(found, key=lambda entry: entry["time"])

    # Doing ---------------------------------------------------------------------------------------------------------------

    def make(self) -> bool:
        """Make the repository where there is none."""
        if self.exists():
            return False
        self.run("init")
        return True

    def restore(self, identity: str, target: Path, paths: Sequence[str]) -> None:
        """Restore paths of a snapshot below a directory. restic takes them for patterns, so what has a meaning there is escaped."""
        escaped = [re.sub(r"([\\*?\[])", r"\\\1", path) for path in paths]
        self.run("restore", identity, f"--target={target}", *(f"--include={path}" for path in escaped))

    def run(self, *words: str, accepted: Sequence[int] = (0,), timeout: float | None = None) -> subprocess.CompletedProcess[str]:
        """Run restic and return what it said; raise ResticError where it ends with another status.

        Locks of who does not live any more are removed when they are met, and only then: each start of restic costs half a second of processor
        for the key.
        """
        try:
            return self._run(words, accepted, timeout)
        except ResticError as error:
            if error.reason != "locked":
                raise
        self._run(("unlock",), (0,), timeout)
        return self._run(words, accepted, timeout)

    def _run(self, words: Sequence[str], accepted: Sequence[int], timeout: float | None) -> subprocess.CompletedProcess[str]:
        with self._options() as options:
            try:
                done = subprocess.run(
                    [RESTIC, f"--repo={self.location}", *options, *words],
                    capture_output=True,
                    check=False,
                    env=self.environment,
                    text=True,
                    errors="replace",
                    timeout=timeout,
                )
            except subprocess.TimeoutExpired as error:
                text = f"restic {words[0]} on {self.location} was not done after {timeout:.0f} s. {HINTS['unreachable']}"
                raise ResticError("unreachable", text) from error
            except FileNotFoundError as error:
                raise ResticError("no_program", f"{RESTIC} is not there. Run the tier's playbook, which installs it.") from error
        if done.returncode in accepted:
            return done
        raise failure(words[0], self.location, done.returncode, done.stderr or done.stdout)

    @contextlib.contextmanager
    def _options(self) -> Iterator[list[str]]:
        """Give the options of the connection. restic wants certificate and key in one file."""
        cache = [f"--cache-dir={self.cache}"] if self.cache else ["--no-cache"]
        if not self.tls:
            yield cache
            return
        with tempfile.NamedTemporaryFile("w", prefix="restic-", suffix=".pem") as both:
            both.write(Path(self.tls["cert"]).read_text(encoding="ascii") + Path(self.tls["key"]).read_text(encoding="ascii"))
            both.flush()
            yield [*cache, f"--cacert={self.tls['ca']}", f"--tls-client-cert={both.name}"]


def failure(command: str, location: str, status: int, said: str) -> ResticError:
    """Return what a failed restic means."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    reason = next((name for name, pattern in SAID if pattern.search(said)), "failed")
    text = "; ".join(lines[-3:]) or "nothing"
    return ResticError(reason, f"restic {command} on {location} ended with {status} and said: {text}. {HINTS.get(reason, '')}".rstrip())


def messages(text: str, kind: str) -> list[dict[str, Any]]:
    """Return restic's JSON messages of one kind; what is no JSON is passed over."""
    found = []
    for line in text.splitlines():
        with contextlib.suppress(ValueError):
            entry = json.loads(line)
            if isinstance(entry, dict) and entry.get("message_type") == kind:
                found.append(entry)
    return found


def checksum(file: Path) -> str:
    """Return the SHA-256 sum of a file's content."""
    with file.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def metrics(values: Mapping[str, tuple[str, Mapping[str, float]]]) -> str:
    """Return figures in Prometheus' text format: name -> (what it is, labels as written -> value). What has no value is left out."""
    lines = []
    for name, (text, samples) in values.items():
        if samples:
            lines += [f"# HELP {name} {text}", f"# TYPE {name} gauge"]
            lines += [f"{name}{labels} {value:.15g}" for labels, value in samples.items()]
    return "\n".join(lines) + "\n"


def read_metric(path: Path, name: str) -> dict[str, float]:
    """Return the samples of a figure in such a file, by their labels; nothing where there is no file."""
    found = {}
    with contextlib.suppress(OSError, ValueError):
        for line in path.read_text(encoding="utf-8").splitlines():
            match = re.fullmatch(re.escape(name) + r"(\{.*\})? (\S+)", line)
            if match:
                found[match[1] or ""] = float(match[2])
    return found
