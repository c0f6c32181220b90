# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What a role takes stands in meta/argument_specs.yml, and defaults/main.yml says the same."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.uptier.platform.plugins.plugin_utils import application
from ansible_collections.uptier.platform.plugins.plugin_utils.application import Field

ROOT = Path(__file__).resolve().parents[3]
ROLES = sorted(path.parents[1].name for path in (ROOT / "roles").glob("*/meta/argument_specs.yml"))
ALL_ROLES = sorted(path.name for path in (ROOT / "roles").iterdir() if path.is_dir())
SKELETON = (
    "README.md",
    "defaults/main.yml",
    "meta/main.yml",
    "meta/argument_specs.yml",
    "tasks/main.yml",
)
TYPES = {"str", "int", "float", "bool", "list", "dict", "path", "raw", "bytes", "bits", "json", "jsonarg", "sid"}
# A name that a user passes to several roles; each role's specification may take it.
SHARED_PREFIX = "platform_"


def load(path: Path) -> dict[str, Any]:
    return yaml.safe_load(path.read_text(encoding="utf-8")) or {}


def spec_of(role: str) -> dict[str, Any]:
    return load(ROOT / "roles" / role / "meta" / "argument_specs.yml")["argument_specs"]


def options_of(role: str) -> dict[str, Any]:
    return spec_of(role)["main"].get("options") or {}


def defaults_of(role: str) -> dict[str, Any]:
    return load(ROOT / "roles" / role / "defaults" / "main.yml")


def walk(options: dict[str, Any], trail: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield every option with its path, also those inside dictionaries."""
    for name, option in options.items():
        where = f"{trail}{name}"
        yield where, option or {}
        yield from walk((option or {}).get("options") or {}, f"{where}.")


def templated(value: Any) -> bool:
    """Tell whether a default is computed in the run, wholly or in a part."""
    if isinstance(value, str):
        return "{{" in value or "{%" in value
    if isinstance(value, dict):
        return any(templated(item) for item in value.values())
    return isinstance(value, list) and any(templated(item) for item in value)


@pytest.mark.parametrize("role", ALL_ROLES)
def test_skeleton_is_complete(role: str) -> None:
    missing = [name for name in SKELETON if not (ROOT / "roles" / role / name).is_file()]
    assert not missing, f"roles/{role} lacks {', '.join(missing)}"


@pytest.mark.parametrize("role", ALL_ROLES)
def test_meta_names_licence_and_releases(role: str) -> None:
    info = load(ROOT / "roles" / role / "meta" / "main.yml")
    assert info.get("dependencies") == [], "roles are put together by playbooks, not by each other"
    galaxy = info["galaxy_info"]
    assert galaxy["license"] == "GPL-3.0-or-later"
    assert galaxy["min_ansible_version"] == "2.19"
    assert galaxy["description"]
    releases = {version for entry in galaxy["platforms"] for version in entry["versions"]}
    assert releases == {carried["codename"] for carried in load(ROOT / "roles/platform/vars/releases.yml")["platform_releases"].values()}


@pytest.mark.parametrize("role", ROLES)
def test_every_entry_point_is_described(role: str) -> None:
    for entry, spec in spec_of(role).items():
        assert spec.get("short_description"), f"{role}: entry point {entry} has no short_description"
        assert (ROOT / "roles" / role / "tasks" / f"{entry}.yml").is_file(), f"{role}: no tasks/{entry}.yml"


@pytest.mark.parametrize("role", ROLES)
def test_options_are_typed_and_described(role: str) -> None:
    problems = []
    for entry, spec in spec_of(role).items():
        for where, option in walk(spec.get("options") or {}):
            kind, elements = option.get("type"), option.get("elements")
            if kind not in TYPES:
                problems.append(f"{entry}: {where}: type is {kind!r}")
            if not option.get("description"):
                problems.append(f"{entry}: {where}: no description")
            if kind == "list" and elements not in TYPES:
                problems.append(f"{entry}: {where}: a list without elements")
            if "dict" in (kind, elements) and not option.get("options") and not free_form(option):
                problems.append(f"{entry}: {where}: a dictionary without options, so a misspelt key would pass")
    assert not problems, "\n".join(problems)


def free_form(option: dict[str, Any]) -> bool:
    """A dictionary whose keys are the user's own (names, settings of a daemon) says so in its description."""
    text = option.get("description") or ""
    text = " ".join(text) if isinstance(text, list) else text
    return "keys are" in text.lower() or "by name" in text.lower()


@pytest.mark.parametrize("role", ROLES)
def test_spec_and_defaults_name_the_same_variables(role: str) -> None:
    options, defaults = options_of(role), defaults_of(role)
    required = {name for name, option in options.items() if (option or {}).get("required")}
    assert set(options) - set(defaults) - required == set(), "in the specification, not in defaults (and not required)"
    assert set(defaults) - set(options) == set(), "in defaults, not in the specification"
    literal = {name for name in set(defaults) & required if not templated(defaults[name])}
    assert literal == set(), "required, yet with a default of its own"


@pytest.mark.parametrize("role", ROLES)
def test_defaults_agree(role: str) -> None:
    options, defaults = options_of(role), defaults_of(role)
    problems = []
    for name, value in defaults.items():
        option = options.get(name) or {}
        if templated(value):
            # An expression is no value of the option's type: antsibull-docs and ansible-doc refuse it there.
            if "default" in option:
                problems.append(f"{name}: computed in defaults, so the specification names no default")
        elif value is not None and option.get("default", ...) != value:
            problems.append(f"{name}: {value!r} in defaults, {option.get('default', 'nothing')!r} in the specification")
    assert not problems, "\n".join(problems)


@pytest.mark.parametrize("role", ALL_ROLES)
def test_variables_carry_the_name_of_the_role(role: str) -> None:
    allowed = (f"{role}_", SHARED_PREFIX) if role == "platform" else (f"{role}_",)
    strangers = [name for name in defaults_of(role) if not name.startswith(allowed)]
    assert not strangers, f"roles/{role}/defaults: {', '.join(strangers)}"
    internal = ROOT / "roles" / role / "vars" / "main.yml"
    if internal.is_file():
        strangers = [name for name in load(internal) if not name.startswith(f"__{role}_")]
        assert not strangers, f"roles/{role}/vars: {', '.join(strangers)}"


def described(fields: Mapping[str, Field]) -> dict[str, dict[str, Any]]:
    """Return a table of keys as an argument specification has it."""
    found = {}
    for name, field in fields.items():
        default = [] if field.type == "list" else dict(field.default) if field.type == "dict" else field.default
        found[name] = {"type": field.type, **({"required": True} if field.required else {"default": default})}
    return found


@pytest.mark.parametrize(("role", "variable"), [("platform", "platform_applications"), ("app", "app_applications")])
def test_applications_are_described_as_they_are_completed(role: str, variable: str) -> None:
    """A key that only one of them knew would be refused by the other, at the latest when half the platform is converged."""
    page = options_of(role)[variable]["options"]
    services = page["services"]["options"]
    for options, fields in (
        (page, application.APPLICATION),
        (services, application.SERVICE),
        (services["limits"]["options"], application.LIMITS),
    ):
        seen = {name: {key: option[key] for key in ("type", "default", "required") if key in option} for name, option in options.items()}
        assert seen == described(fields)
    assert services["kind"]["choices"] == list(application.KINDS)


def test_a_secret_of_digits_is_a_text() -> None:
    """A password of digits is a number in YAML; whoever asks for its length, or writes it, must not see that."""
    declared = load(ROOT / "roles" / "platform" / "vars" / "secrets.yml")["platform_secrets"]
    single = {entry["name"] for entry in declared if "per" not in entry} | {"vault_postgresql_managed_password"}
    found = {}
    for role in ALL_ROLES:
        for name, value in defaults_of(role).items():
            read = re.fullmatch(r"\{\{ (vault_\w+)( .*)? \}\}", str(value))
            if read and read[1] in single:
                found[f"{role}: {name}"] = value
    assert len(found) > 15
    assert {where: value for where, value in found.items() if not value.endswith("| string }}")} == {}
