# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""All that is wrong with platform_applications, at once. Pure functions.

problems() looks at the list as the user wrote it, before it is completed. Whoever adds a key adds a row in
application.APPLICATION or SERVICE, which checks its type and its name, and a check here where more than that can be wrong.
"""

from __future__ import annotations

import re
import shlex
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from ansible_collections.uptier.platform.plugins.plugin_utils import application as model
from ansible_collections.uptier.platform.plugins.plugin_utils import calendars, domains, reserved
from ansible_collections.uptier.platform.plugins.plugin_utils.ports import LAST, UNPRIVILEGED
from ansible_collections.uptier.platform.plugins.plugin_utils.problems import Problem, listed, nearest

VARIABLE = "platform_applications"
# The database's owner is NAME_owner; a system user has 32 characters at most.
NAME = re.compile(r"[a-z][a-z0-9_]{0,30}")
SERVICE = re.compile(r"[a-z][a-z0-9-]{0,30}")
VERSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
VARIABLE_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
# What a path in a request may hold where it is compared literally; the rest comes percent-encoded.
PATH = re.compile(r"/[A-Za-z0-9\-._~%!$&'()*+,;=:@/]*")
HEALTH = re.compile(PATH.pattern + r"(\?[A-Za-z0-9\-._~%!$&'()*+,;=:@/?]*)?")
METRICS = re.compile(r"/[A-Za-z0-9\-._~/]*")
CONTROL = re.compile(r"[\x00-\x1f\x7f]")
WANTED = {
    "str": "a text",
    "int": "a whole number",
    "bool": "true or false",
    "list": "a list",
    "dict": "a dictionary",
}
# Programs whose first argument is a file of the release.
INTERPRETERS = re.compile(r"(node|nodejs|deno|bun|python3?(\.\d+)?|ruby|perl|php(\d[\d.]*)?|sh|bash|java)")
SUFFIXES = ("", ".js", ".mjs", ".cjs", ".json", "/")


def problems(given: Any, variable: str = VARIABLE) -> list[Problem]:
    """Return all that is wrong with the applications, whatever was written there."""
    if not isinstance(given, (list, tuple)):
        return [Problem(variable, f"is {shown(given)}, which is not a list", "Write one entry for each application, each with a dash.")]
    found: list[Problem] = []
    readable: list[tuple[str, Mapping[str, Any]]] = []
    for number, entry in enumerate(given):
        where = f"{variable}[{number}]"
        if not isinstance(entry, Mapping):
            found.append(Problem(where, f"is {shown(entry)}, which is not a dictionary", "Write its keys below the dash, name first."))
            continue
        where += f" {entry['name']}" if isinstance(entry.get("name"), str) and entry["name"] else ""
        readable.append((where, entry))
        found += _application(where, entry)
    found += _clashes(readable)
    return found


def shown(value: Any) -> str:
    """Return a value as it is shown in a message, with its type where that is what is wrong with it."""
    if isinstance(value, bool):
        return f"the truth value {str(value).lower()}"
    if isinstance(value, (int, float)):
        return f"the number {value}"
    if isinstance(value, Mapping):
        return "a dictionary"
    if isinstance(value, (list, tuple)):
        return "a list"
    text = str(value)
    return repr(text if len(text) <= 80 else f"{text[:77]}...")


# -- keys and types --------------------------------------------------------------------------------------------------


def _keys(where: str, given: Mapping[str, Any], fields: Mapping[str, model.Field]) -> tuple[list[Problem], set[str]]:
    """Return what is wrong with names and types of keys, and the keys that cannot be inspected any further."""
    found, unusable = [], set()
    for key in given:
        if key not in fields:
            fix = f"{nearest(str(key), fields)}Known there: {listed(fields)}."
            found.append(Problem(f"{where}: {key}", "is set, and nothing reads it", fix))
    for key, field in fields.items():
        value = given.get(key)
        if value is None or value == "":
            if field.required:
                unusable.add(key)
                found.append(Problem(f"{where}: {key}", "is missing", f"Every entry has one; {_example(key)}"))
            continue
        try:
            model.READERS[field.type](value)
        except ValueError:
            unusable.add(key)
            found.append(Problem(f"{where}: {key}", *_mistyped(key, field.type, value)))
    return found, unusable


def _example(key: str) -> str:
    return {"name": "for example name: shop.", "command": "it is what the unit starts, for example command: node dist/server.js."}[key]


def _mistyped(key: str, kind: str, value: Any) -> tuple[str, str]:
    if key == "version" and isinstance(value, float):
        seen = f"is the number {value}: YAML reads 1.10 as 1.1"
        return seen, f'Quote it as it was meant: version: "{value}" or "{value}0".'
    if kind == "str":
        return f"is {shown(value)}, which is not text", f'Quote it: {key}: "...".'
    fix = {
        "int": f"Write digits alone, for example {key}: 2.",
        "bool": f"Write {key}: true or {key}: false.",
        "list": "Write it as a list, [one, two].",
        "dict": "Write it as a dictionary, {KEY: value}.",
    }[kind]
    return f"is {shown(value)}, which is not {WANTED[kind]}", fix


def _environment(where: str, given: Any) -> list[Problem]:
    found = []
    for key, value in given.items() if isinstance(given, Mapping) else ():
        place = f"{where} env.{key}"
        if not VARIABLE_NAME.fullmatch(str(key)):
            found.append(Problem(place, "is not a name for an environment variable", "Use letters, digits and _, no digit first."))
        if isinstance(value, (Mapping, list, tuple)):
            found.append(Problem(place, f"is {shown(value)}, and a variable holds one text", "Write it as one text; | to_json makes one."))
        elif isinstance(value, str) and re.search(r"[\x00-\x08\x0b-\x1f\x7f]", value):
            found.append(
                Problem(place, "holds a control character, with which systemd drops the line", "Encode it, in base64 for example.")
            )
    return found


# -- one application -------------------------------------------------------------------------------------------------


def _application(where: str, entry: Mapping[str, Any]) -> Iterator[Problem]:
    found, unusable = _keys(where, entry, model.APPLICATION)
    yield from found
    if "name" not in unusable:
        yield from _name(where, model._text(entry["name"]))
    if "version" not in unusable and entry.get("version") not in (None, ""):
        version = model._text(entry["version"])
        if not VERSION.fullmatch(version):
            fix = "Use letters, digits, dot, _ and -, a letter or a digit first."
            yield Problem(f"{where}: version", f"is {version!r}, and a directory gets this name", fix)
    if "domains" not in unusable:
        yield from _domains(where, entry.get("domains"))
    yield from _command(f"{where}: migrate", entry.get("migrate"))
    yield from _environment(f"{where}:", entry.get("env"))
    if "services" in unusable:
        return
    for number, service in enumerate(model._list(entry.get("services") or ())):
        place = f"{where}, services[{number}]"
        if not isinstance(service, Mapping):
            yield Problem(place, f"is {shown(service)}, which is not a dictionary", "Write its keys below the dash, name first.")
            continue
        name = service.get("name")
        yield from _service(f"{where}, service {name}" if isinstance(name, str) and name else place, service)


def _name(where: str, name: str) -> Iterator[Problem]:
    taken = reserved.owner_of(name)
    if taken:
        fix = "Its name becomes a system user, units, a database and their users; choose another, for example " + (
            f"{name.removeprefix('pg_')}_app." if name.startswith("pg_") else f"{name}_app."
        )
        yield Problem(f"{where}: name", f"is {name}, which is {taken}", fix)
    elif not NAME.fullmatch(name):
        better = re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")[:31]
        fix = "Use lower-case letters, digits and _, a letter first, 31 at most: it becomes a system user, a database and a unit."
        also = f" Write {better}." if NAME.fullmatch(better) and not reserved.owner_of(better) else ""
        yield Problem(f"{where}: name", f"is {name!r}", fix + also)


def _domains(where: str, given: Any) -> Iterator[Problem]:
    for domain in model._list(given or ()):
        try:
            domains.normal(domain) if isinstance(domain, str) else domains.normal("")
        except domains.DomainError as error:
            seen = str(error) if isinstance(domain, str) else f"is {shown(domain)}, which is not a domain name"
            yield Problem(f"{where}: domains", seen, error.fix)


def _command(where: str, given: Any) -> Iterator[Problem]:
    if not isinstance(given, str) or not given:
        return
    if CONTROL.search(given):
        yield Problem(
            where, "has more than one line, or a control character", "Write one line, or put the lines into a script of the release."
        )
        return
    try:
        shlex.split(given)
    except ValueError:
        yield Problem(where, f"is {shown(given)}, with a quote that does not end", "Close it.")


def _service(where: str, entry: Mapping[str, Any]) -> Iterator[Problem]:
    found, unusable = _keys(where, entry, model.SERVICE)
    yield from found

    def value(key: str) -> Any:
        """Return what was given, of its type; None where nothing was, or nothing that can be read."""
        given = entry.get(key)
        return None if given in (None, "") or key in unusable else model.READERS[model.SERVICE[key].type](given)

    name, kind = value("name"), "kind" not in unusable and (value("kind") or model.SERVICE["kind"].default)
    if name is not None and not SERVICE.fullmatch(name):
        better = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:31]
        also = f" Write {better}." if SERVICE.fullmatch(better) else ""
        fix = f"Use lower-case letters, digits and -, a letter first, 31 at most: it becomes the name of a unit.{also}"
        yield Problem(f"{where}: name", f"is {name!r}", fix)
    yield from _command(f"{where}: command", entry.get("command"))
    yield from _environment(f"{where}:", entry.get("env"))
    if kind and kind not in model.KINDS:
        yield Problem(
            f"{where}: kind", f"is {kind!r}, which is not a valid value", f"{nearest(kind, model.KINDS)}Use one of {listed(model.KINDS)}."
        )
    elif kind:
        for key in model.KINDS[kind].needs:
            if key not in unusable and value(key) in (None, 0) and key != "command":
                yield Problem(f"{where}: {key}", *_needed(key, kind))
        yield from _foreign(where, entry, kind)
        if model.KINDS[kind].scheduled:
            yield from _job(where, value("schedule"), value("timeout"))
    yield from _numbers(where, value, bool(kind) and kind in model.KINDS and model.KINDS[kind].routed)
    for key, pattern, fix in (
        ("health", HEALTH, "Write the path alone, from its slash, for example health: /api/health."),
        ("path", PATH, "Write the prefix under which users reach it, from its slash, for example path: /api."),
        ("metrics", METRICS, "Write the path alone, from its slash, for example metrics: /metrics."),
    ):
        text = value(key)
        if text is not None and not pattern.fullmatch(text):
            seen = "which does not begin with a slash" if not text.startswith("/") else "which holds what no path in a request has"
            yield Problem(f"{where}: {key}", f"is {text!r}, {seen}", fix)
    if value("metrics") and not value("port") and "port" not in unusable:
        yield Problem(f"{where}: metrics", "are to be asked for, and the service has no port", "Give it a port, or remove metrics.")
    if "domains" not in unusable:
        yield from _domains(where, entry.get("domains"))
    if "limits" not in unusable and entry.get("limits"):
        wrong, dummy = _keys(f"{where}: limits", entry["limits"], model.LIMITS)
        yield from wrong
        for key, least in (("memory_mb", model.MEMORY_FLOOR_MB), ("cpu_percent", 1)):
            try:
                amount = model._whole(entry["limits"].get(key) or 0)
            except ValueError:
                continue
            if amount < 0 or 0 < amount < least:
                yield Problem(f"{where}: limits: {key}", f"is {amount}", f"Use {least} or more, or leave it out.")


def _foreign(where: str, entry: Mapping[str, Any], kind: str) -> Iterator[Problem]:
    """Find keys that say something other than their default, and that mean nothing to a kind."""
    found = []
    for key in model.KINDS[kind].without:
        field, given = model.SERVICE[key], entry.get(key)
        try:
            if given is not None and model.READERS[field.type](given) != model.READERS[field.type](field.default):
                found.append(key)
        except ValueError:
            continue
    if found:
        one = len(found) == 1
        seen = f"has {listed(found)}, which {'means' if one else 'mean'} nothing to a service of kind {kind}"
        yield Problem(where, seen, f"Remove {'it' if one else 'them'}, or correct the kind.")


def _job(where: str, schedule: str | None, timeout: int | None) -> Iterator[Problem]:
    for problem in calendars.problems_of("schedule", schedule or ""):
        yield Problem(f"{where}: schedule", problem.seen, problem.fix)
    if timeout is not None and not 1 <= timeout <= model.JOB_SECONDS_MOST:
        yield Problem(f"{where}: timeout", f"is {timeout}", f"Write the seconds after which it is ended, 1 to {model.JOB_SECONDS_MOST}.")


def _needed(key: str, kind: str) -> tuple[str, str]:
    if key == "schedule":
        return (
            f"is missing, and a service of kind {kind} is started by it",
            'Write when it runs as systemd does, for example schedule: "*-*-* 03:00:00"; systemd-analyze calendar shows when that is.',
        )
    if key == "port":
        return (
            f"is missing, and a service of kind {kind} is asked on one",
            "Give it the port of its first instance, for example port: 4000.",
        )
    return (
        "is missing, so nobody could tell which of its instances can serve, or a good release from a bad one",
        "Give the path that answers 200 when an instance can serve, for example health: /api/health.",
    )


def _numbers(where: str, value: Any, routed: bool) -> Iterator[Problem]:
    count, port, connections = value("instances"), value("port"), value("database_connections")
    spares = value("spare_instances")
    if count is not None and count < 1:
        yield Problem(f"{where}: instances", f"is {count}", "Write 1 or more, on each application host; to stop a service, remove it.")
    if routed and spares is not None and not 1 <= spares <= max(1, count or 1):
        fix = "Write 1, or up to as many as `instances`: so many start with a release beside the others."
        yield Problem(f"{where}: spare_instances", f"is {spares}", fix)
    if connections is not None and connections < 0:
        yield Problem(f"{where}: database_connections", f"is {connections}", "Write what each process opens at most, 0 for none.")
    if not port:
        return
    last = port + max(1, count or 1) - 1 + (max(1, spares or 1) if routed else 0)
    if not UNPRIVILEGED <= port <= LAST:
        yield Problem(f"{where}: port", f"is {port}", f"Use {UNPRIVILEGED} to {LAST}; users reach 443, at the gateway.")
    elif last > LAST:
        spare = ", the last of them for a release" if routed else ""
        seen = f"is {port}, and its instances take the ports up to {last}{spare}"
        yield Problem(f"{where}: port", seen, f"Use {LAST - (last - port)} or less: {LAST} is the last port.")


# -- among all -------------------------------------------------------------------------------------------------------


def _clashes(entries: Sequence[tuple[str, Mapping[str, Any]]]) -> Iterator[Problem]:
    """Find what two of them want: names, users, ports, domains with one path."""
    applications = [(where, complete[0]) for where, entry in entries if (complete := model.completed([entry]))]
    names = Counter(application["name"] for dummy, application in applications if application["name"])
    for name, count in names.items():
        if count > 1:
            places = listed(where.partition(" ")[0] for where, application in applications if application["name"] == name)
            yield Problem(f"{places.replace(', ', ' and ')}: name", f"is {name} in {count} entries", "Give each its own, or make them one.")
    yield from _users(applications, names)
    taken: dict[int, str] = {}
    routes: dict[tuple[str, str], str] = {}
    owners: dict[str, str] = {}
    for where, application in applications:
        for domain in model.all_domains(application):
            first = owners.setdefault(domain, application["name"])
            if first != application["name"]:
                fix = "Give it to one of them; services of one application may share a domain by their paths."
                yield Problem(f"{where}: domains", f"has {domain}, which {first} has too", fix)
        doubled = Counter(service["name"] for service in application["services"] if service["name"])
        for name, count in doubled.items():
            if count > 1:
                yield Problem(f"{where}, service {name}: name", f"is used by {count} services", "Give each its own.")
        for unit in model.services([application]):
            label = f"{application['name']}, service {unit['service']}"
            place = f"{where}, service {unit['service']}"
            if 0 < len(unit["instances"]) <= LAST:
                yield from _ports(place, label, unit, taken)
            if unit["routed"]:
                for domain in unit["domains"] or ["any domain "]:
                    other = routes.setdefault((domain, unit["path"].rstrip("/")), label)
                    if other != label and owners.get(domain, application["name"]) == application["name"]:
                        seen = f"is {unit['path']}, and {domain.strip()}{' with ' if ' ' in domain else ''}{unit['path']} leads to {other} already"
                        yield Problem(f"{place}: path", seen, "Give one of them another path, or domains of its own.")


def _users(applications: Sequence[tuple[str, model.Application]], names: Mapping[str, int]) -> Iterator[Problem]:
    for where, application in applications:
        stem = re.sub(r"_(owner|ro)$", "", application["name"])
        if stem != application["name"] and stem in names:
            fix = f"Choose another: {stem} has the users {stem}_owner and {stem}_ro, and the pool {stem}_ro."
            yield Problem(f"{where}: name", f"is {application['name']}, which is a database user of the application {stem}", fix)


def _ports(place: str, label: str, unit: model.Unit, taken: dict[int, str]) -> Iterator[Problem]:
    wanted = model.ports(unit)
    for port in wanted:
        if port in taken and taken[port] != label:
            spare = ", the last of them for the instance that starts with a release" if unit["spare"] else ""
            seen = f"is {unit['port']}, and its instances take {wanted[0]} to {wanted[-1]}{spare}: {port} belongs to {taken[port]}"
            yield Problem(f"{place}: port", seen, "Give one of them another port.")
            break
    for port in wanted:
        taken.setdefault(port, label)


# -- with what is on the controller and on the hosts -----------------------------------------------------------------


def release_problems(given: Any, archives: Mapping[str, Sequence[str] | str | None], variable: str = VARIABLE) -> list[Problem]:
    """Return what is wrong with the releases of applications that are to be unpacked.

    `archives` has, by the text of `release`, the names in the archive, or a text that says why it cannot be read, or None
    where there is no such file; an archive that is not in it is not needed, since all hosts have that version.
    """
    found = []
    for number, entry in enumerate(given if isinstance(given, (list, tuple)) else ()):
        if not isinstance(entry, Mapping):
            continue
        application = model.completed([entry])[0]
        where, release = f"{variable}[{number}] {application['name']}", application["release"]
        if application["services"] and entry.get("version") in (None, ""):
            found.append(Problem(f"{where}: version", "is missing", 'Name the version of the release, for example version: "1.4.0".'))
        if application["services"] and entry.get("release") in (None, ""):
            fix = f"Name its archive on the controller, for example release: build/{application['name']}-1.4.0.tar.gz."
            found.append(Problem(f"{where}: release", "is missing, and the application has services", fix))
        if not release or release not in archives:
            continue
        inside = archives[release]
        if inside is None:
            fix = (
                "Build it, or correct the path; a relative one begins where ansible-playbook was started. Not every host has this version."
            )
            found.append(Problem(f"{where}: release", f"is {release}, and there is no such file on the controller", fix))
        elif isinstance(inside, str):
            found.append(Problem(f"{where}: release", f"is {release}, which is not a tar archive ({inside})", "Build it again."))
        else:
            found += _content(where, application, set(inside))
    return found


def _content(where: str, application: model.Application, inside: set[str]) -> Iterator[Problem]:
    commands = [(f"{where}: migrate", application["migrate"])]
    commands += [(f"{where}, service {service['name']}: command", service["command"]) for service in application["services"]]
    for place, command in commands:
        wanted = _file_of(command)
        if not wanted:
            continue
        if not any(name == wanted + suffix or name.startswith(f"{wanted}/") for suffix in SUFFIXES for name in inside):
            near = nearest(wanted, inside)
            fix = f"{near}Correct the command, or put the file into the archive, whose paths begin at its top (tar -C dist .)."
            yield Problem(place, f"starts {wanted}, which is not in {application['release']}", fix)


def _file_of(command: str) -> str:
    """Return the file of the release that a command starts, as far as that can be told; nothing otherwise."""
    words = command.split()
    if not words:
        return ""
    # What comes behind an option may be its value, a module or a file: nobody but the program knows.
    word = words[1] if len(words) > 1 and INTERPRETERS.fullmatch(words[0]) else words[0] if "/" in words[0] else ""
    return word.removeprefix("./") if re.fullmatch(r"(\./)?[A-Za-z0-9_][\w./-]*", word) else ""


def secret_environment_problems(given: Any, secret: Any, variable: str = "app_secret_env") -> list[Problem]:
    """Return what is wrong with the secret environments, which are named by application. Values are not shown."""
    if not secret:
        return []
    if not isinstance(secret, Mapping):
        return [Problem(f"variable {variable}", "is not a dictionary", "Write it as {APPLICATION: {NAME: value}}.")]
    names = [application["name"] for application in model.completed(given)]
    found = []
    for name, values in secret.items():
        if name not in names:
            fix = f"{nearest(str(name), names)}The applications are {listed(names) or 'none'}."
            found.append(Problem(f"variable {variable}.{name}", "belongs to no application", fix))
        if not isinstance(values, Mapping):
            found.append(Problem(f"variable {variable}.{name}", "is not a dictionary of variables", "Write it as {NAME: value}."))
            continue
        found += _environment(f"variable {variable}.{name}:", values)
    return found


def text_of(found: Iterable[Problem]) -> str:
    """Return all problems as one message for a role that is used alone."""
    return " ".join(str(problem) for problem in found)
