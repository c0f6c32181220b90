# SPDX-License-Identifier: GPL-3.0-or-later
"""What the tests of all scenarios share: the scenario's hosts, reached as Ansible reaches them.

A test with the argument `host` runs once for each host; `testinfra_hosts = ["app", "db1"]` in its module names the
groups and hosts to which it applies. A test with the argument `lab` sees all hosts at once. The scenarios of a whole
platform use `platform` and `user` instead.
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from testinfra.backend.base import BaseBackend, CommandResult
from testinfra.host import Host

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))

from harness import engine  # noqa: E402 - the path has to be set first
from harness.enter import Reach  # noqa: E402
from harness.platform import Platform  # noqa: E402
from harness.web import User  # noqa: E402

# For what tests start; Molecule's own runs have it from its configuration.
os.environ.setdefault("ANSIBLE_CALLBACK_PLUGINS", str(ROOT / "tests" / "plugins" / "callback"))


class Backend(BaseBackend):
    """testinfra's way into one host."""

    NAME = "enter"
    encoding = "UTF-8"

    def __init__(self, container: str, reach: Reach) -> None:
        """Know the host by its container."""
        super().__init__(container)
        self.name, self.reach = container, reach

    def run(self, command: str, *args: str, **dummy: Any) -> CommandResult:
        """Run a shell line as root."""
        line = self.get_command(command, *args)
        done = self.reach.run(self.name, ["/bin/sh", "-c", line])
        return self.result(done.returncode, self.encode(line), done.stdout, done.stderr)


@dataclass(frozen=True)
class Lab:
    """The hosts of the scenario that runs."""

    name: str
    addresses: dict[str, str]
    groups: dict[str, list[str]]
    reach: Reach

    @classmethod
    def read(cls) -> Lab:
        """Read what scripts/lab.py wrote when it made the hosts."""
        name = os.environ.get("UPTIER_LAB") or f"mol-{os.environ['MOLECULE_SCENARIO_NAME']}"
        path = ROOT / ".cache" / "labs" / name / "inventory.yml"
        known = yaml.safe_load(path.read_text(encoding="utf-8"))["all"]
        groups = {group: list(content["hosts"]) for group, content in known["children"].items()}
        addresses = {host: content["platform_address"] for host, content in known["hosts"].items()}
        return cls(name, addresses, groups, Reach.of(known["vars"]["ansible_connection"]))

    def container(self, host: str) -> str:
        """Return the name by which the engine knows a host."""
        return f"{self.name}-{host}"

    def kill(self, host: str) -> None:
        """The host loses its power."""
        engine.kill(self.container(host))

    def start(self, host: str) -> None:
        """The host comes back."""
        engine.docker("start", self.container(host))

    def restart(self, host: str) -> None:
        """The host is restarted in order."""
        engine.restart(self.container(host))

    def host(self, name: str) -> Host:
        """Return a testinfra host."""
        return Host(Backend(self.container(name), self.reach))

    def select(self, names: list[str]) -> list[str]:
        """Return the hosts that a list of group and host names means."""
        chosen = {host for name in names for host in (list(self.addresses) if name == "all" else self.groups.get(name, [name]))}
        return [host for host in self.addresses if host in chosen]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run a test with the argument `host` on each host that its module names."""
    if "host" in metafunc.fixturenames:
        names = getattr(metafunc.module, "testinfra_hosts", ["all"])
        metafunc.parametrize("host", Lab.read().select(names), indirect=True, scope="module")


@pytest.fixture(scope="session")
def lab() -> Lab:
    """Return all hosts of the scenario."""
    return Lab.read()


@pytest.fixture(scope="module")
def host(request: pytest.FixtureRequest, lab: Lab) -> Host:
    """Return the host on which this test runs; host.backend.name is its container."""
    return lab.host(request.param)


@pytest.fixture(scope="session")
def platform() -> Platform:
    """Return the platform of the scenario, or of the demo where pytest was called by hand."""
    tier = os.environ.get("UPTIER_TIER", "growth")
    inventory = Path(os.environ.get("UPTIER_INVENTORY") or ROOT / "inventories" / "demo" / tier)
    return Platform(inventory, os.environ.get("UPTIER_LAB") or {"growth": "demo"}.get(tier, f"demo-{tier}"), tier)


@pytest.fixture(scope="session")
def user(platform: Platform) -> User:
    """Return somebody who opens the platform's page."""
    gateways = platform.group("gateway")
    address = platform.address(gateways[0]) if len(gateways) == 1 else f"{platform.net}.100"
    return User(address, "demo.test", platform.inventory / "pki" / "ca.crt")
