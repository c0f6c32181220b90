# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Which systemd units have to be enabled, started, restarted, reloaded or stopped. Pure functions."""

from __future__ import annotations

from dataclasses import dataclass, field
from fnmatch import fnmatchcase

PROPERTIES = ("Id", "Names", "LoadState", "ActiveState", "SubState", "UnitFileState")
# States in which `systemctl enable` would change nothing or cannot be asked for.
ENABLED = frozenset({"enabled", "enabled-runtime", "static", "indirect", "generated", "transient", "alias"})
RUNNING = frozenset({"active", "reloading", "activating"})


@dataclass(frozen=True)
class Unit:
    """One unit as the caller wants it. The two lists are globs of files, a change of which the daemon has to take over."""

    name: str
    started: bool = True
    enabled: bool = True
    restart_files: tuple[str, ...] = ()
    reload_files: tuple[str, ...] = ()


@dataclass(frozen=True)
class State:
    """One unit as systemd reports it."""

    load: str = "not-found"
    active: str = "inactive"
    sub: str = "dead"
    file: str = ""

    @property
    def exists(self) -> bool:
        return self.load not in ("not-found", "error", "")

    @property
    def masked(self) -> bool:
        return self.load == "masked" or self.file.startswith("masked")

    @property
    def running(self) -> bool:
        return self.active in RUNNING and self.sub != "auto-restart"


@dataclass
class Plan:
    """Verbs of systemctl in the order in which they run, with their units; `missing` are wanted units that do not exist."""

    steps: list[tuple[str, str]] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)

    def units(self, *verbs: str) -> list[str]:
        return [name for verb, name in self.steps if verb in verbs]


def parse_show(text: str) -> dict[str, State]:
    """Read the output of `systemctl show -p ... UNIT...`: blocks of KEY=VALUE parted by an empty line."""
    states: dict[str, State] = {}
    for block in text.strip().split("\n\n"):
        values = dict(line.split("=", 1) for line in block.splitlines() if "=" in line)
        state = State(
            load=values.get("LoadState", ""),
            active=values.get("ActiveState", ""),
            sub=values.get("SubState", ""),
            file=values.get("UnitFileState", ""),
        )
        for name in {values.get("Id", ""), *values.get("Names", "").split()}:
            if name:
                states[name] = state
    return states


def touched(globs: tuple[str, ...], pending: list[str]) -> bool:
    return any(fnmatchcase(path, pattern) for path in pending for pattern in globs)


def plan(wanted: list[Unit], seen: dict[str, State], pending: list[str]) -> Plan:
    """Return what has to be done so that every unit is as wanted and runs with what was written."""
    result = Plan()
    for unit in wanted:
        state = seen.get(unit.name, State())
        if not state.exists:
            if unit.started or unit.enabled:
                result.missing.append(unit.name)
            continue
        if state.masked:
            if unit.started or unit.enabled:
                result.steps.append(("unmask", unit.name))
                state = State(load="loaded", active=state.active, sub=state.sub, file="disabled")
            else:
                continue
        if unit.enabled and state.file not in ENABLED:
            result.steps.append(("enable", unit.name))
        elif not unit.enabled and state.file in ("enabled", "enabled-runtime"):
            result.steps.append(("disable", unit.name))
        if not unit.started:
            if state.active in RUNNING:
                result.steps.append(("stop", unit.name))
        elif not state.running:
            result.steps.append(("restart" if state.active in RUNNING else "start", unit.name))
        elif touched(unit.restart_files, pending):
            result.steps.append(("restart", unit.name))
        elif touched(unit.reload_files, pending):
            result.steps.append(("reload-or-restart", unit.name))
    return result
