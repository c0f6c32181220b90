# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Gather what the checks look at, run all of them, and fail once with everything."""

from __future__ import annotations

import re
import tarfile
import zlib
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from ansible import constants
from ansible.errors import AnsibleError
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible.plugins.action import ActionBase
from ansible.template import Templar, trust_as_template
from ansible_collections.uptier.platform.plugins.plugin_utils import data, layers, preflight, specification, strangers
from ansible_collections.uptier.platform.plugins.plugin_utils.application import Application, completed

PROBE = "__platform_probe"
APPLICATIONS = "platform_applications"
# Variables of the page and secrets that the default of any role reads.
SHARED = re.compile(r"\b(?:platform|vault)_[a-z0-9_]+")
# Those that Ansible sets or reads, so that a slip of the pen among them is seen too.
ANSIBLES = frozenset(
    {*constants.INTERNAL_STATIC_VARS, *constants.COMMON_CONNECTION_VARS, "omit", "ansible_become_pass", "ansible_ssh_private_key_file"}
    | {name for names in constants.MAGIC_VARIABLE_MAPPING.values() for name in names}
    | {f"ansible_ssh_{name}" for name in ("common_args", "extra_args", "args", "host_key_checking", "transfer_method", "retries")}
)
# What roles with checks of their own above would say again, and less plainly.
SAID = ("acme", "alertmanager", "app", "hardening", "nginx", "pgbouncer", "postgresql_managed", "redis", "redis_managed")
# What other checks look at, and what is not the user's: a condition that reads nothing else needs no answer here.
COVERED = {
    *("ansible_facts", "ansible_host", "ansible_play_hosts", "group_names", "groups", "hostvars"),
    *("inventory_dir", "inventory_file", "inventory_hostname", "platform_address", "platform_applications", "platform_domain"),
    *(
        "platform_internal_domain",
        "platform_managed_postgresql",
        "platform_managed_redis",
        "platform_memory_mb",
        "platform_cpus",
        "platform_virtual_address",
    ),
    *("platform_expected_users", "platform_tier", "zone", "region"),
    *(entry["name"] for entry in data.read("secrets.yml")["platform_secrets"]),
}
ITSELF = "inventory_hostname"


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
    names: set[str] = {*ANSIBLES, *layers.specifications()}
    roles = sorted(path.name for path in layers.ROLES.iterdir() if path.is_dir())
    for role in roles:
        names.update(layers.defaults(role))
        defaults = layers.ROLES / role / "defaults" / "main.yml"
        names.update(SHARED.findall(defaults.read_text(encoding="utf-8")) if defaults.is_file() else ())
    names.update(entry["name"] for entry in data.read("secrets.yml")["platform_secrets"])
    return frozenset(names), tuple(f"{role}_" for role in roles)


class Plain(Mapping):
    """Variables of one host, each rendered once. One that cannot be rendered counts as not set; `errors` has what Ansible says of it."""

    def __init__(self, variables: Mapping[str, Any]) -> None:
        self.variables = variables
        self.errors: dict[str, str] = {}
        self._known: dict[str, Any] = {}

    def __getitem__(self, name: str) -> Any:
        if name not in self._known:
            if name in self.errors:
                raise KeyError(name)
            try:
                self._known[name] = self.variables[name]
            except AnsibleError as error:
                self.errors[name] = str(error)
                raise KeyError(name) from None
        return self._known[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.variables)

    def __len__(self) -> int:
        return len(self.variables)


def _refused_by_specification(name: str, value: Any) -> bool:
    return bool(specification.problems_of(name, layers.specifications()[name], value))


class ActionModule(ActionBase):
    """All checks over all hosts."""

    _requires_connection = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result = super().run(tmp, task_vars)
        variables = task_vars or {}
        context = self._context(variables)
        problems = preflight.problems_of(context)
        result.update(changed=False, problems=len(problems))
        if notices := preflight.notices_of(context):
            result["warnings"] = notices
        if problems:
            result.update(failed=True, reason="preflight_failed", msg=preflight.message(problems))
        return result

    def _context(self, variables: dict[str, Any]) -> preflight.Context:
        groups = {name: list(hosts) for name, hosts in variables["groups"].items()}
        hostvars = {host: Plain(variables["hostvars"][host]) for host in groups["all"]}
        raw = {host: variables["hostvars"].raw_get(host) for host in groups["all"]}
        known, prefixes = catalogue()
        options = layers.specifications()
        set_here = {
            host: {name: found[name] for name in raw[host] if name in options and found.get(name, ...) is not ...}
            for host, found in hostvars.items()
        }
        needed = [entry["name"] for entry in data.read("secrets.yml")["platform_secrets"]]
        # Read, so that one which cannot be is among the errors that each host has noted.
        for found in hostvars.values():
            for name in needed:
                found.get(name)
        unreadable: dict[tuple[str, str], list[str]] = {}
        for host, found in hostvars.items():
            for name, text in found.errors.items():
                unreadable.setdefault((name, text), []).append(host)
        values = self._page(variables)
        applications = values.get(APPLICATIONS) or []
        extra = values.get("platform_flows_extra")
        managed = values.get("platform_managed_postgresql")
        managed = managed if isinstance(managed, Mapping) else {}
        cache = values.get("platform_managed_redis")
        cache = cache if isinstance(cache, Mapping) else {}
        minima = values.get("platform_minima")
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
            managed=managed,
            managed_redis=cache,
            minima=[entry for entry in minima if isinstance(entry, Mapping)] if isinstance(minima, list) else [],
            extra_flows=[flow for flow in extra if isinstance(flow, Mapping)] if isinstance(extra, list) else [],
            managed_ca=read(managed.get("ca")),
            managed_redis_ca=read(cache.get("ca")),
            values=set_here,
            unreadable=unreadable,
            words=frozenset(word for found in raw.values() for word in strangers.words_of(found)),
            variables=frozenset(variables).union(*raw.values()),
            refused=self._refused(set_here, groups, raw, variables),
            sources=variables.get("ansible_inventory_sources") or (),
            exists=lambda path: Path(path).exists(),
        )

    def _page(self, variables: dict[str, Any]) -> dict[str, Any]:
        """Return the values of the page, converted; one that its specification refuses is left out, check_specification() says why."""
        options, values = layers.defaults("platform"), {}
        for name in options:
            option = layers.specifications()[name]
            try:
                value = self._templar.template(variables[name])
            except (AnsibleError, KeyError):
                continue
            if name == APPLICATIONS:  # these have checks of their own, which look at what was written
                values[name] = value
            elif not specification.problems_of(name, option, value):
                # What is left out of a dictionary is filled in; nothing at all stays nothing.
                values[name] = (
                    value if value == {} else ArgumentSpecValidator({name: option}).validate({name: value}).validated_parameters[name]
                )
        return values

    def _refused(
        self,
        values: Mapping[str, Mapping[str, Any]],
        groups: Mapping[str, list[str]],
        raw: Mapping[str, Mapping[str, Any]],
        variables: Mapping[str, Any],
    ) -> dict[tuple[str, str], dict[str, str]]:
        """Ask the preflight of each role whose variables were set, as far as it can be answered before there are facts.

        Returns the role's messages by host, by (role, what does not hold).
        """
        found: dict[tuple[str, str], dict[str, str]] = {}
        # What belongs to the host that runs this check is nobody else's.
        run = {name: value for name, value in variables.items() if name not in raw[variables["inventory_hostname"]]} if raw else {}
        wrong = {name for given in values.values() for name, value in given.items() if _refused_by_specification(name, value)}
        known: dict[tuple[str, str, str], str] = {}
        for role, where in layers.groups_of_roles().items():
            hosts = dict.fromkeys(host for group in where for host in groups.get(group, ())) if role not in SAID else ()
            for conditions, text, extra in layers.refusals(role) if hosts else ():
                for host in hosts:
                    asked = self._asked(role, conditions, raw[host], wrong)
                    todo = {condition: key for condition, key in asked.items() if (role, condition, key) not in known}
                    if todo:
                        there = {**layers.own(role)[0], **run, **raw[host], **layers.own(role)[1], **layers.trusted(extra)}
                        templar = self._templar.copy_with_new_env(available_variables=there)
                        known.update(
                            {(role, condition, key): self._refusal(templar, role, condition, there) for condition, key in todo.items()}
                        )
                    refused = "; ".join(seen for condition, key in asked.items() if (seen := known[role, condition, key]))
                    if refused and (role, refused) not in found:
                        there = {**layers.own(role)[0], **run, **raw[host], **layers.own(role)[1], **layers.trusted(extra)}
                        found[role, refused] = {host: self._message(there, role, text)}
                    elif refused:
                        found[role, refused].setdefault(host, "")
        return found

    @staticmethod
    def _asked(role: str, conditions: Iterable[str], host: Mapping[str, Any], wrong: set[str]) -> dict[str, str]:
        """Return the conditions that look at what was set on a host, each with what it looks at; the same need not be asked again."""
        found = {}
        for condition in conditions:
            read = layers.read_by(role, condition)
            mine = sorted(read.intersection(host) - COVERED)
            if mine and not read & wrong:
                found[condition] = repr([(name, host[name]) for name in mine]) + (str(host["inventory_hostname"]) if ITSELF in read else "")
        return found

    def _message(self, variables: Mapping[str, Any], role: str, text: str) -> str:
        try:
            return str(self._templar.copy_with_new_env(available_variables=variables).template(trust_as_template(text)))
        except AnsibleError:
            return f"The README of roles/{role} says what it takes."

    @staticmethod
    def _refusal(templar: Templar, role: str, condition: str, known: Mapping[str, Any]) -> str:
        """Return a condition with the values in it; nothing where it holds, or waits for facts or for a secret that is missing."""
        try:
            if templar.evaluate_conditional(trust_as_template(condition)):
                return ""
            names = dict.fromkeys(name for name in strangers.WORD.findall(condition) if name in layers.defaults(role))
            values = [f"{name} is {templar.template(known[name])}" for name in names]
        except AnsibleError:
            return ""
        asked = re.sub(r" \| (?:int|float|bool|string)\b", "", condition)  # how a text is read is nobody's concern
        return f"{', '.join(values) or 'one of its values'} (it asks for `{asked}`)"

    def _structural(self, groups: dict[str, list[str]]) -> list[str]:
        """Return the groups all of whose hosts come from groups inside them."""
        inventory = self._task.get_variable_manager()._inventory if self._task.get_variable_manager() else None
        if inventory is None:
            return []
        return [name for name, group in inventory.groups.items() if group.child_groups and not group.hosts and name in groups]
