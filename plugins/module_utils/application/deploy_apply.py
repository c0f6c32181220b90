# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The lock of a release and the record of releases, in files of a host."""

from __future__ import annotations

import syslog
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from ansible_collections.uptier.platform.plugins.module_utils.application.deploy import (
    held_text,
    line,
    lost_text,
    recorded,
    state_of,
    taken,
)
from ansible_collections.uptier.platform.plugins.module_utils.application.release_apply import (
    DEPLOYED,
    UNFINISHED,
    Host,
    ReleaseError,
    Run,
    read_json,
    write_json,
)
from ansible_collections.uptier.platform.plugins.module_utils.host.files import locked

LOCK = "deploy.lock.json"
HISTORY = "history.json"


class Held(ReleaseError):
    """Somebody else holds the lock."""

    def __init__(self, application: str, lock: Mapping[str, Any]) -> None:
        super().__init__("locked", held_text(application, lock))
        self.lock = dict(lock)


def bare(run: Run, application: str) -> Host:
    """Return an application on this host without its description: what is on disk and what runs."""
    return Host(run, {"application": application, "router_socket": "", "services": [], "version": "", "declared": "", "checksum": ""})


class Deploy:
    """The part of a host in a release of the fleet."""

    def __init__(self, host: Host, holder: Mapping[str, Any]) -> None:
        self.host = host
        self.holder = dict(holder)
        self.path = host.state / LOCK

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Keep others off the files for as long as it takes to change them."""
        self.host.state.mkdir(parents=True, exist_ok=True)
        with locked(self.host.state / "deploy.flock"):
            yield

    def held(self) -> dict[str, Any] | None:
        found: dict[str, Any] | None = read_json(self.path, None)
        return found

    def take(self, what: str, seconds: int, dead: str = "", write: bool = True, seen: str | None = None) -> str:
        """Take the lock; return why it could be had: free, mine, expired or dead.

        `seen` is the newest entry of the record that the plan knows of; None where there is no plan.

        Raises:
            Held: somebody else works.
            ReleaseError: somebody else has worked since the plan was made, which is not about what runs now.
        """
        if not write and not self.host.state.is_dir():
            return "free"
        with self.alone():
            lock, now = self.held(), time.time()
            state = state_of(lock, self.holder["id"], now, dead)
            if state == "held" and lock:
                raise Held(self.host.name, lock)
            newest = next((str(entry["id"]) for entry in reversed(self.history())), "")
            if seen is not None and seen != newest and state != "mine":
                raise ReleaseError(
                    "outdated", f"Another release of {self.host.name} has ended since this one was planned. Nothing was done; run it again."
                )
            if write:
                if lock and state in ("expired", "dead"):
                    ended = {"id": lock["holder"]["id"], "result": "interrupted", "who": lock["holder"]["who"], "what": lock["what"]}
                    self.note({**ended, "controller": lock["holder"]["controller"], "began": lock["since"], "ended": now, "said": ""})
                write_json(self.path, taken(lock if state == "mine" else None, self.holder, what, now, seconds))
        return state

    def renew(self, what: str, seconds: int) -> None:
        """Keep the lock for another while; ReleaseError where it is not this run's any more."""
        with self.alone():
            lock = self.held()
            if not lock or lock["holder"]["id"] != self.holder["id"]:
                raise ReleaseError("lost", lost_text(self.host.name, lock))
            write_json(self.path, taken(lock, self.holder, what, time.time(), seconds))

    def end(self, entry: Mapping[str, Any], declared: str) -> None:
        """Write down how a release ended here, and give the lock back where this host keeps it for this run."""
        with self.alone():
            lock = self.held()
            mine = lock is not None and lock["holder"]["id"] == self.holder["id"]
            try:
                self.note({**entry, **{key: self.holder[key] for key in ("id", "who", "controller")}, "ended": time.time()})
                self.settle(entry, declared)
            finally:
                # Also where the disk is full.
                if mine:
                    self.path.unlink(missing_ok=True)

    def settle(self, entry: Mapping[str, Any], declared: str) -> None:
        """Remember what this host runs from now on, or that it is back."""
        if entry["result"] == "succeeded":
            current = self.host.current()
            self.host.commit(current)
            if entry["version"] == declared:
                (self.host.state / DEPLOYED).unlink(missing_ok=True)
            elif current:
                write_json(self.host.state / DEPLOYED, {"declared": declared, "release": current})
        elif self.host.origin() == self.host.current():
            (self.host.state / UNFINISHED).unlink(missing_ok=True)
        elif self.host.origin() is not None:
            # It is not back: it remembers where it has to go, and nobody is at work any more.
            write_json(self.host.state / UNFINISHED, {"from": self.host.origin()})

    def note(self, entry: Mapping[str, Any]) -> None:
        write_json(self.host.state / HISTORY, recorded(self.history(), entry))
        syslog.openlog("uptier-release")
        syslog.syslog(line({"application": self.host.name, **entry}))

    def history(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = read_json(self.host.state / HISTORY, [])
        return found


def told(run: Run, application: str) -> dict[str, Any]:
    """Return what there is of an application on this host, and what is known of its releases."""
    host = bare(run, application)
    deploy = Deploy(host, {"id": ""})
    lock = deploy.held()
    return {
        "application": application,
        "current": host.current(),
        "previous": host.linked("previous"),
        "origin": host.origin(),
        "deployed": host.deployed(),
        "releases": sorted(
            (
                {"name": name, **{key: manifest.get(key) for key in ("version", "checksum", "unpacked_at")}}
                for name, manifest in host.releases().items()
            ),
            key=lambda one: one["unpacked_at"] or 0,
        ),
        "instances": {
            unit: {str(number): {"active": one.active, "enabled": one.enabled, "release": one.release} for number, one in found.items()}
            for unit, found in host.seen().items()
        },
        "migrated": read_json(host.state / "migrated.json", []),
        "lock": lock if lock and time.time() < lock["until"] else None,
        "history": deploy.history(),
    }
