# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What follows from platform_applications for the router, the pools and the units. Pure functions.

An application has services; a service of kind `web` has one port for each instance, counted from its base port,
and one more: the port after the last is kept for the instance that starts with a new release while all others
still run the old one.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

NAME = re.compile(r"^[a-z][a-z0-9_]{0,30}$")
SERVICE = re.compile(r"^[a-z][a-z0-9-]{0,30}$")
# What a process needs at least, in MiB; below it a share is an error of the inventory and no limit.
MEMORY_FLOOR_MB = 64
# What a process may open to the pools: ten to the read-write and ten to the read-only one, as the usual drivers do.
DATABASE_CONNECTIONS = 20
ESCAPED = re.compile(r'([\\"`$])')


class ApplicationError(ValueError):
    """The description of the applications contradicts itself; the message names application, service and fix."""


def services(applications: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return every service of every application with all keys filled in, checked against each other."""
    found: list[dict[str, Any]] = []
    problems: list[str] = []
    seen: set[str] = set()
    for application in applications:
        name = str(application.get("name", ""))
        if not NAME.match(name):
            problems.append(f"application {name!r}: a name has lower-case letters, digits and _, begins with a letter, 31 at most")
        if name in seen:
            problems.append(f"application {name}: stands twice; give each its own name")
        seen.add(name)
        named: set[str] = set()
        for entry in application.get("services") or []:
            service = _service(application, entry)
            if service["service"] in named:
                problems.append(f"application {name}: the service {service['service']} stands twice")
            named.add(service["service"])
            problems += _complaints(service)
            found.append(service)
    problems += _clashes(found)
    if problems:
        raise ApplicationError("platform_applications: " + "; ".join(problems) + ".")
    return found


def web_services(application: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the services that get requests, as the user wrote them."""
    return [service for service in application.get("services") or [] if service.get("kind", "web") == "web"]


def domains_of(application: Mapping[str, Any], service: Mapping[str, Any]) -> list[str]:
    """Return the names that lead to a service: its own, or else those of the application."""
    return [str(domain) for domain in service.get("domains") or application.get("domains") or []]


def all_domains(application: Mapping[str, Any]) -> list[str]:
    """Return every name under which users come to an application, each once."""
    own = [str(domain) for domain in application.get("domains") or []]
    return list(dict.fromkeys([*own, *(domain for service in web_services(application) for domain in domains_of(application, service))]))


def _service(application: Mapping[str, Any], entry: Mapping[str, Any]) -> dict[str, Any]:
    name, service = str(application.get("name", "")), str(entry.get("name", ""))
    kind = str(entry.get("kind", "web"))
    count, base = int(entry.get("instances", 1)), entry.get("port")
    limits = entry.get("limits") or {}
    return {
        "application": name,
        "service": service,
        "unit": f"{name}-{service}",
        "kind": kind,
        "command": str(entry.get("command", "")),
        # A worker without a port is told apart by its number.
        "instances": [int(base) + index for index in range(count)] if base else list(range(1, count + 1)),
        "port": int(base) if base else 0,
        "spare": int(base) + count if base and kind == "web" else 0,
        "health": str(entry.get("health", "")),
        "path": str(entry.get("path", "/")),
        "domains": domains_of(application, entry),
        "websocket": bool(entry.get("websocket", False)),
        "metrics": str(entry.get("metrics", "")),
        "env": dict(entry.get("env") or {}),
        "memory_mb": int(limits.get("memory_mb", 0)),
        "cpu_percent": int(limits.get("cpu_percent", 0)),
    }


def _complaints(service: Mapping[str, Any]) -> list[str]:
    where = f"service {service['unit']}"
    checks = (
        (not SERVICE.match(service["service"]), "a name has lower-case letters, digits and -, begins with a letter, 31 at most"),
        (service["kind"] not in ("web", "worker"), f"kind is {service['kind']!r}; use web or worker"),
        (not service["command"], "no command; say what its unit starts"),
        (not service["instances"], "instances is 0; leave the service out instead"),
        (service["kind"] == "web" and not service["port"], "a web service needs a port"),
        (service["kind"] == "web" and not service["health"].startswith("/"), "a web service needs a health path, such as /api/health"),
        (not service["path"].startswith("/"), f"path is {service['path']!r}; it begins with /"),
        (bool(service["metrics"]) and not service["port"], "metrics need a port"),
        (service["port"] and not 1024 <= service["port"] <= 65000, f"port is {service['port']}; use 1024 to 65000"),
    )
    return [f"{where}: {text}" for wrong, text in checks if wrong]


def _clashes(found: list[dict[str, Any]]) -> list[str]:
    problems, taken = [], {}
    routes: dict[tuple[str, str], str] = {}
    for service in found:
        ports = [*service["instances"], service["spare"]] if service["port"] else []
        for port in filter(None, ports):
            if port in taken:
                problems.append(
                    f"port {port} is used by {taken[port]} and {service['unit']} (a web service takes one port more than instances)"
                )
                break
            taken[port] = service["unit"]
        if service["kind"] != "web":
            continue
        for domain in service["domains"] or ["any domain"]:
            key = (domain, service["path"])
            if key in routes:
                problems.append(f"{domain}{service['path']} leads to {routes[key]} and {service['unit']}")
            routes.setdefault(key, service["unit"])
    return problems


def routes(applications: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the web services for the router, the most specific path first and those without a domain last."""
    found = [
        {
            "backend": service["unit"],
            "domains": service["domains"],
            "path": service["path"],
            "health": service["health"],
            "websocket": service["websocket"],
            "ports": service["instances"],
            "spare_port": service["spare"],
        }
        for service in services(applications)
        if service["kind"] == "web"
    ]
    return sorted(found, key=lambda route: (not route["domains"], -len(route["path"].rstrip("/")), route["backend"]))


def metric_paths(applications: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return where each instance's metrics are: {service, application, index, port, path, route}; route is the router's path."""
    return [
        {
            "application": service["application"],
            "service": service["unit"],
            "index": index,
            "port": port,
            "path": service["metrics"],
            "route": f"/metrics/{service['unit']}/{index}",
        }
        for service in services(applications)
        if service["metrics"]
        for index, port in enumerate(service["instances"])
    ]


def pools(applications: Iterable[Mapping[str, Any]], hosts: int, budget: int) -> list[dict[str, Any]]:
    """Share the connections that one PostgreSQL server keeps for applications among hosts, databases and pools.

    Reads fall back to the leader, so one server must bear the read-write and the read-only pools of every host at once.
    """
    names = [str(application["name"]) for application in applications if application.get("database", False)]
    if not names:
        return []
    share = budget // (max(1, hosts) * len(names))
    if share < 2:
        raise ApplicationError(
            f"{budget} connections are too few for {len(names)} databases on {hosts} hosts, each with a read-write and a "
            f"read-only pool: {2 * hosts * len(names)} is the least. Raise pgbouncer_connection_budget."
        )
    write = max(1, share * 3 // 5)
    found = []
    for name in names:
        found.append({"name": name, "database": name, "user": name, "read_only": False, "size": write})
        found.append({"name": f"{name}_ro", "database": name, "user": f"{name}_ro", "read_only": True, "size": share - write})
    return found


def units(applications: Iterable[Mapping[str, Any]], memory_mb: int, share: float) -> list[dict[str, Any]]:
    """Return all services with the memory each of their processes may take.

    What the user has not fixed shares the rest evenly; the spare instance of a web service counts, since it runs
    beside the others during a release.
    """
    found = services(applications)
    slots = {service["unit"]: len(service["instances"]) + (1 if service["spare"] else 0) for service in found}
    left = memory_mb * share - sum(service["memory_mb"] * slots[service["unit"]] for service in found)
    open_slots = sum(slots[service["unit"]] for service in found if not service["memory_mb"])
    each = int(left // open_slots) if open_slots else 0
    if open_slots and each < MEMORY_FLOOR_MB:
        raise ApplicationError(
            f"{int(memory_mb * share)} MiB (share {share} of {memory_mb}) leave {each} MiB for each of {open_slots} processes; "
            f"{MEMORY_FLOOR_MB} is the least. Lower instances, or raise app_memory_share."
        )
    return [{**service, "memory_mb": service["memory_mb"] or each} for service in found]


def files(applications: Iterable[Mapping[str, Any]], found: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return what config_files writes for the applications: their environments and a template unit for each of `found`."""
    wanted: list[dict[str, Any]] = []
    for application in applications:
        name, dest = application["name"], f"/etc/uptier/apps/{application['name']}"
        extra = {"__app_application": {"env": {}, **application}}
        wanted.append({"src": "app.env.j2", "dest": f"{dest}.env", "group": name, "mode": "0640", "secret": True, "vars": extra})
        if application.get("migrate") and application.get("database"):
            wanted.append({"src": "migrate.env.j2", "dest": f"{dest}.migrate.env", "mode": "0600", "secret": True, "vars": extra})
    for service in found:
        dest = f"/etc/systemd/system/{service['unit']}@.service"
        wanted.append({"src": "service.j2", "dest": dest, "vars": {"__app_service": dict(service)}})
    return wanted


def release_services(found: Iterable[Mapping[str, Any]], name: str) -> list[dict[str, Any]]:
    """Return the services of one application as the module app_release takes them."""
    return [
        {
            "unit": service["unit"],
            "kind": service["kind"],
            "instances": service["instances"],
            "spare": service["spare"],
            "port": service["port"],
            "health": service["health"],
            "backend": service["unit"] if service["kind"] == "web" else "",
        }
        for service in found
        if service["application"] == name
    ]


def environment_line(name: str, value: Any) -> str:
    """Return NAME="value" as systemd reads it from an EnvironmentFile; truth values and numbers as programs expect them."""
    if not re.match(r"^[A-Za-z_][A-Za-z0-9_]*$", str(name)):
        raise ApplicationError(f"{name!r} is no name for an environment variable; use letters, digits and _.")
    text = str(value).lower() if isinstance(value, bool) else "" if value is None else str(value)
    quoted = ESCAPED.sub(r"\\\1", text)
    return f'{name}="{quoted}"'
