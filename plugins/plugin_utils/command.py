# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""On which host a command of a release runs, and as which service. Pure functions."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ansible_collections.uptier.platform.plugins.plugin_utils import application as model
from ansible_collections.uptier.platform.plugins.plugin_utils.deploy import Host
from ansible_collections.uptier.platform.plugins.plugin_utils.problems import listed, nearest

SAID_WHOLE = "Say it as one value: -e \"command='node dist/clear.js --all'\", with the inner quotes."


@dataclass(frozen=True)
class Request:
    """What somebody asks for. `service` and `host` are empty where the first one that fits is meant.

    `cut` tells that words of the command did not arrive: Ansible takes -e command='a b' for the value `a`, and more.
    """

    application: str
    command: str
    service: str = ""
    host: str = ""
    hosts: tuple[str, ...] = ()
    cut: bool = False


@dataclass(frozen=True)
class Choice:
    """Where it runs, and as what. With `refusals` it does not."""

    host: str = ""
    unit: str = ""
    release: str = ""
    refusals: tuple[str, ...] = ()


def choose(request: Request, applications: Sequence[model.Application], seen: Mapping[str, Host]) -> Choice:
    """Return where a command runs, or all reasons why it cannot; `seen` has the hosts that answered, by name."""
    said = _unsaid(request)
    found = next((one for one in applications if one["name"] == request.application), None)
    if found is None:
        known = [one["name"] for one in applications if one["release"]]
        what = f"There is no application {request.application}" if request.application else "No application is named"
        said.append(f"{what}. {nearest(request.application, known)}Applications with a release: {listed(known) or 'none'}.")
    if request.host and request.host not in request.hosts:
        said.append(
            f"{request.host} is no application host. {nearest(request.host, request.hosts)}There are {listed(request.hosts) or 'none'}."
        )
    if found is None:
        return Choice(refusals=tuple(said))
    services = [one["name"] for one in found["services"] if not model.scheduled(one)]
    service = request.service or next(iter(services), "")
    if service not in services:
        what = f"{found['name']} has no service {service}" if service else f"{found['name']} has no service that a command could run as"
        said.append(f"{what}. {nearest(service, services)}There are {listed(services) or 'none'}.")
    if said:
        return Choice(refusals=tuple(said))
    unit = model.unit_name(found["name"], service)
    host, why = _host(request, found["name"], unit, seen)
    return Choice(refusals=(why,)) if why else Choice(host, unit, seen[host].current)


def _unsaid(request: Request) -> list[str]:
    """Return what is wrong with the command itself."""
    if request.cut:
        return [f"Only `{request.command}` of the command has arrived. {SAID_WHOLE}"]
    try:
        return [] if shlex.split(request.command) else [f"No command is given. {SAID_WHOLE}"]
    except ValueError as error:
        return [f"The command has a quote that does not end ({error}). Close it."]


def _host(request: Request, name: str, unit: str, seen: Mapping[str, Host]) -> tuple[str, str]:
    """Return the host on which a command runs, or why there is none."""
    released = [host for host in request.hosts if host in seen and seen[host].current]
    silent = [host for host in request.hosts if host not in seen]
    gone = f" {listed(silent)} did not answer." if silent else ""
    if not released:
        return "", f"No release of {name} is on any host.{gone} Run deploy.yml, or the tier, first."
    if request.host:
        if request.host in silent:
            return "", f"{request.host} did not answer. {name} is released on {listed(released)}."
        return (
            (request.host, "")
            if request.host in released
            else ("", f"No release of {name} is on {request.host}, but on {listed(released)}.")
        )
    running = [host for host in released if any(one.active for one in seen[host].seen.get(unit, {}).values())]
    if not running:
        return "", f"No instance of {unit} runs on any host.{gone} Name a host with -e host= to run it all the same: {listed(released)}."
    return running[0], ""
