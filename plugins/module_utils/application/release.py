# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Plan for bringing the instances of one application on one host to a release. Pure functions.

An instance is a systemd unit UNIT@ID. What it runs is a link of its own, so that a crash in the middle of a switch
starts what that instance ran before. A fingerprint covers the release, the unit and the environment; it is recorded
when the instance has been seen healthy, so a run that was cut short is finished by the next one.
"""

from __future__ import annotations

import hashlib
import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

# In a command, a variable of the environment as a word of its own; a $ that begins none within a word.
WHOLE = re.compile(r"\$[A-Za-z_][A-Za-z0-9_]*")
DOLLAR = re.compile(r"\$(?!\{[A-Za-z_][A-Za-z0-9_]*\})")


def server_name(instance: int) -> str:
    """Return how the router calls an instance, whose number is its port; the role haproxy writes this name."""
    return f"i{instance}"


def is_relative(program: str) -> bool:
    """Tell whether a program is a file of the release: systemd itself looks only into PATH, or takes an absolute path."""
    return "/" in program and not program.startswith("/")


def literal_dollars(word: str) -> str:
    """Return a word of a command in which only $NAME (the word as a whole) and ${NAME} are replaced by systemd."""
    if WHOLE.fullmatch(word):
        return word
    return DOLLAR.sub("$$", word)


def argv(command: str, folder: str) -> list[str]:
    """Return the words of a command for systemd-run; a program whose path is relative is a file of the folder."""
    program, *words = shlex.split(command)
    return [literal_dollars(word) for word in (f"{folder}/{program}" if is_relative(program) else program, *words)]


@dataclass(frozen=True)
class Service:
    """One service of the application, as the caller describes it."""

    unit: str
    instances: tuple[int, ...]
    kind: str = "web"
    spare: int = 0
    port: int = 0
    health: str = ""
    backend: str = ""
    spares: int = 1

    @property
    def beside(self) -> tuple[int, ...]:
        """Return the instances that run during a release only, the first one first."""
        return tuple(range(self.spare, self.spare + self.spares)) if self.spare else ()


@dataclass(frozen=True)
class Seen:
    """One instance as it is on the host."""

    active: bool = False
    enabled: bool = False
    release: str = ""
    fingerprint: str = ""


@dataclass(frozen=True)
class Step:
    """One thing to do with one instance: stand (by, without requests), try, replace, start, retire or remove."""

    action: str
    service: Service
    instance: int
    previous: str = ""

    @property
    def unit(self) -> str:
        return f"{self.service.unit}@{self.instance}.service"

    def __str__(self) -> str:
        return f"{self.action} {self.unit}"


@dataclass
class Plan:
    """Steps in order, grouped by service so that a failure ends the work on that service only where it stands."""

    steps: list[Step] = field(default_factory=list)

    @property
    def pending(self) -> bool:
        return bool(self.steps)


def fingerprint(release: str, contents: Iterable[str]) -> str:
    """Return what identifies a configuration: the release and the text of every file that a process is started with."""
    digest = hashlib.sha256(release.encode())
    for text in contents:
        digest.update(b"\0" + text.encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


def plan(
    services: Sequence[Service],
    release: str,
    wanted: Mapping[str, str],
    seen: Mapping[str, Mapping[int, Seen]],
    beside: bool = False,
) -> Plan:
    """Return the steps from what is seen (by unit and instance) to every instance running `release`.

    `wanted` has the fingerprint of each unit. Workers come after the web services: a release that does not get healthy
    is found by the instance that no request depends on. With `beside`, spare instances have been brought to the release
    before (see stand_by) and are not started once more.
    """
    found = Plan()
    for service in sorted(services, key=lambda item: item.kind != "web"):
        found.steps.extend(_service_steps(service, release, wanted[service.unit], seen.get(service.unit, {}), beside))
    known = {service.unit: service for service in services}
    for unit, instances in seen.items():
        for instance in sorted(instances):
            if unit not in known:
                found.steps.append(Step("remove", Service(unit, ()), instance))
    return found


def stand_by(services: Sequence[Service], release: str, wanted: Mapping[str, str], seen: Mapping[str, Mapping[int, Seen]]) -> Plan:
    """Return the steps that start every spare instance with `release` beside the others, without a request for them.

    Where nothing of a service is to be replaced, none is needed.
    """
    found = Plan()
    for service in services:
        now = seen.get(service.unit, {})
        if any(now[key].active and _differs(now[key], release, wanted[service.unit]) for key in service.instances if key in now):
            missing = [key for key in service.beside if not _proved(now.get(key, Seen()), release, wanted[service.unit])]
            found.steps += [Step("stand", service, key) for key in missing]
    return found


def sides(
    services: Sequence[Service], release: str, wanted: Mapping[str, str], seen: Mapping[str, Mapping[int, Seen]]
) -> list[tuple[Service, list[int], list[int]]]:
    """Return of each routed service what serves with something else than `release`, and the spare instances that stand by with it.

    Services of which either is missing have nothing to be shared or shifted.
    """
    found = []
    for service in services:
        now, mark = seen.get(service.unit, {}), wanted[service.unit]
        old = [key for key in service.instances if key in now and now[key].active and _differs(now[key], release, mark)]
        new = [key for key in service.beside if _proved(now.get(key, Seen()), release, mark)]
        if service.backend and old and new:
            found.append((service, old, new))
    return found


def _proved(state: Seen, release: str, wanted: str) -> bool:
    return state.active and not _differs(state, release, wanted)


def _service_steps(service: Service, release: str, wanted: str, seen: Mapping[int, Seen], beside: bool) -> list[Step]:
    now = {instance: seen.get(instance, Seen()) for instance in service.instances}
    replace = [key for key, state in now.items() if state.active and _differs(state, release, wanted)]
    start = [key for key, state in now.items() if not state.active or not state.enabled]
    leftovers = [key for key in sorted(seen) if key not in service.instances and key not in service.beside]
    spares = [key for key in service.beside if key in seen]
    proved = beside and any(_proved(seen[key], release, wanted) for key in spares)
    steps: list[Step] = []
    if replace and service.spare and not proved:
        # The new release proves itself beside the old one, which serves all requests meanwhile.
        steps.append(Step("try", service, service.spare))
        spares = list(dict.fromkeys([service.spare, *spares]))
    steps += [Step("replace", service, key, now[key].release) for key in replace]
    steps += [Step("start", service, key, now[key].release) for key in start if key not in replace]
    steps += [Step("retire", service, key) for key in spares]
    steps += [Step("remove", service, key) for key in leftovers]
    return steps


def _differs(state: Seen, release: str, wanted: str) -> bool:
    return state.release != release or state.fingerprint != wanted


def release_name(version: str, checksum: str, present: Mapping[str, str]) -> tuple[str, bool]:
    """Return the directory of a release and whether it is there already.

    A version that comes a second time with other contents gets a directory of its own: the first may be running.
    """
    if not checksum:
        return version, version in present
    if present.get(version, checksum) == checksum:
        return version, version in present
    name = f"{version}+{checksum[:8]}"
    return name, present.get(name) == checksum


def standing(version: str, declared: str, deployed: Mapping[str, str]) -> str:
    """Return the release that stays although the inventory says another version; empty where the inventory decides.

    A release that was made by name stays until the inventory says something else than it did then: the last word counts,
    whoever said it. `declared` is what the inventory says where `version` comes from somewhere else; then that decides.
    """
    if declared or not deployed or deployed.get("declared") != version:
        return ""
    return deployed.get("release", "")


def prunable(releases: Sequence[tuple[str, float]], keep: int, in_use: Iterable[str]) -> list[str]:
    """Return the releases to remove: all but the newest `keep` and those in use. Each is (name, time it was unpacked)."""
    used = set(in_use)
    ordered = [name for name, moment in sorted(releases, key=lambda item: (item[1], item[0]), reverse=True)]
    return sorted(name for name in ordered[keep:] if name not in used)


def healthy_hint(status: int | None, text: str) -> str:
    """Return what an answer of the health path most likely means, with the beginning of the answer itself."""
    hints = {
        301: "it redirects: the application asks for HTTPS or another host name; exempt the health path",
        302: "it redirects: the application asks for a login or another host name; exempt the health path",
        401: "it asks for a login; exempt the health path",
        403: "it refuses; exempt the health path",
        404: "the path does not exist in this release; check `health`",
        503: "the application says that it is not ready",
    }
    if status is None:
        return f"no answer ({text})"
    shown = f" (it answers: {text.strip()[:300]})" if text.strip() else ""
    return f"status {status}: {hints.get(status, 'an error of the application')}{shown}"
