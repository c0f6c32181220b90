# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Gather what the checks look at, run all of them, and fail once with everything."""

from __future__ import annotations

import re
import tarfile
import zlib
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml
from ansible.errors import AnsibleError
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible.plugins.action import ActionBase
from ansible_collections.uptier.platform.plugins.plugin_utils import data, preflight
from ansible_collections.uptier.platform.plugins.plugin_utils.application import Application, completed

ROLES = Path(__file__).resolve().parents[2] / "roles"
PROBE = "__platform_probe"
APPLICATIONS = "platform_applications"
# Variables of a host that have no default, and those that any role's defaults read.
OF_HOSTS = ("platform_address", "platform_memory_mb", "platform_cpus")
SHARED = re.compile(r"\bplatform_[a-z0-9_]+")


def load(path: Path) -> dict[str, Any]:
    return (yaml.safe_load(path.read_text(encoding="utf-8")) or {}) if path.is_file() else {}


def releases() -> dict[str, dict[str, str]]:
    """Return what each supported Debian release carries, by its number."""
    return data.read("releases.yml")["platform_releases"]


def read(path: Any) -> str | None:
    """Return what a file on the controller holds; None where that cannot be read."""
    try:
        return Path(str(path)).read_text(encoding="utf-8") if path else None
    except (OSError, ValueError):
        return None


def archives(applications: list[Application], hostvars: Mapping[str, Mapping[str, Any]], hosts: list[str]) -> dict[str, Any]:
    """Read the releases that some host lacks; application_check.release_problems() has the shape."""
    found: dict[str, Any] = {}
    for application in applications:
        name = f"{application['name']}/{application['version']}"
        if application["release"] and not all(name in hostvars[host].get(PROBE, {}).get("unpacked", ()) for host in hosts):
            found[application["release"]] = inside(Path(application["release"]).expanduser())
    return found


def inside(archive: Path) -> list[str] | str | None:
    """Return the names in an archive, or why it cannot be read; None where there is no such file."""
    if not archive.is_file():
        return None
    try:
        with tarfile.open(archive) as content:
            return [name.removeprefix("./") for name in content.getnames()]
    except (OSError, EOFError, zlib.error, tarfile.TarError) as error:
        return str(error)


@lru_cache(maxsize=1)
def catalogue() -> tuple[frozenset[str], tuple[str, ...]]:
    """Return the names of all variables that roles take, and the prefixes of their names."""
    names: set[str] = set(OF_HOSTS)
    roles = sorted(path.name for path in ROLES.iterdir() if path.is_dir())
    for role in roles:
        defaults = ROLES / role / "defaults" / "main.yml"
        if defaults.is_file():
            names.update(load(defaults))
            names.update(SHARED.findall(defaults.read_text(encoding="utf-8")))
        for entry in load(ROLES / role / "meta" / "argument_specs.yml").get("argument_specs", {}).values():
            names.update(entry.get("options") or {})
    return frozenset(names), tuple(f"{role}_" for role in roles)


class Plain(Mapping):
    """Variables of one host; one that cannot be rendered counts as not set, the role that reads it says why."""

    def __init__(self, variables: Mapping[str, Any]) -> None:
        self.variables = variables

    def __getitem__(self, name: str) -> Any:
        try:
            return self.variables[name]
        except (AnsibleError, KeyError):
            raise KeyError(name) from None

    def __iter__(self) -> Iterator[str]:
        return iter(self.variables)

    def __len__(self) -> int:
        return len(self.variables)


class ActionModule(ActionBase):
    """All checks over all hosts."""

    _requires_connection = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result = super().run(tmp, task_vars)
        variables = task_vars or {}
        problems = preflight.problems_of(self._context(variables))
        result.update(changed=False, problems=len(problems))
        if problems:
            result.update(failed=True, reason="preflight_failed", msg=preflight.message(problems))
        return result

    def _context(self, variables: dict[str, Any]) -> preflight.Context:
        groups = {name: list(hosts) for name, hosts in variables["groups"].items()}
        hostvars = {host: Plain(variables["hostvars"][host]) for host in groups["all"]}
        options = load(ROLES / "platform" / "meta" / "argument_specs.yml")["argument_specs"]["main"]["options"]
        known, prefixes = catalogue()
        values, invalid = self._validate(options, variables)
        applications = values.get(APPLICATIONS) or []
        extra = values.get("platform_flows_extra")
        managed = values.get("platform_managed_postgresql")
        managed = managed if isinstance(managed, Mapping) else {}
        return preflight.Context(
            tier=str(values.get("platform_tier")),
            tiers=data.read("tiers.yml")["platform_tiers"],
            releases=releases(),
            groups=groups,
            hostvars=hostvars,
            applications=applications,
            archives=archives(completed(applications), hostvars, groups.get("app", [])),
            expected_users=values.get("platform_expected_users") or None,
            structural_groups=frozenset(self._structural(groups)),
            other_groups=frozenset(values.get("platform_other_groups") or ()),
            known_variables=known,
            prefixes=prefixes,
            ignored_variables=frozenset(values.get("platform_ignored_variables") or ()),
            secrets=data.read("secrets.yml")["platform_secrets"],
            probes={host: hostvars[host].get(PROBE, {}) for host in groups["all"]},
            invalid=invalid,
            managed=managed,
            extra_flows=[flow for flow in extra if isinstance(flow, Mapping)] if isinstance(extra, list) else [],
            managed_ca=read(managed.get("ca")),
        )

    def _validate(self, options: dict[str, Any], variables: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
        """Return the page's values, and what its specification has against them."""
        values, invalid = {}, []
        for name in options:
            if name in variables:
                try:
                    values[name] = self._templar.template(variables[name])
                except AnsibleError as error:
                    invalid.append(f"{name}: {error}")
        # The applications have checks of their own, which say where in the list something is wrong.
        described = {name: option for name, option in options.items() if name != APPLICATIONS}
        checked = ArgumentSpecValidator(described).validate({name: value for name, value in values.items() if name != APPLICATIONS})
        invalid.extend(text.rstrip(".") for text in checked.error_messages)
        if checked.error_messages:
            return values, invalid
        # Values are taken as they were converted. What is left out of a dictionary is filled in; nothing at all stays nothing.
        return {**values, **checked.validated_parameters, **{name: value for name, value in values.items() if value == {}}}, invalid

    def _structural(self, groups: dict[str, list[str]]) -> list[str]:
        """Return the groups all of whose hosts come from groups inside them."""
        inventory = self._task.get_variable_manager()._inventory if self._task.get_variable_manager() else None
        if inventory is None:
            return []
        return [name for name, group in inventory.groups.items() if group.child_groups and not group.hosts and name in groups]
