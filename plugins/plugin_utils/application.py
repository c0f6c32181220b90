# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""platform_applications completed, and what follows from it for the router, the pools and the units. Pure functions.

completed() turns what a user wrote into Applications: every key set, every value of its type, every domain as all
components write it. Everything else here takes completed applications. Completing them again changes nothing, so a role
that is used alone completes its own variable, and one that gets a completed list loses nothing. What is wrong with a list
is said by application_check.problems(); completed() leaves out what it cannot read.

An application has services, a service has a kind. A service of a routed kind (`web`) has one port for each instance,
counted from its base port, and at least one more: the ports after the last are kept for `spare_instances`, which start with a
new release while all others still run the old one.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from types import MappingProxyType
from typing import Any, TypedDict, cast

from ansible_collections.uptier.platform.plugins.plugin_utils import domains

# What a process needs at least, in MiB; below it a share is an error of the inventory and no limit.
MEMORY_FLOOR_MB = 64
# How long a job may take by default, and at most: so long a host that dies keeps the others from it.
JOB_SECONDS, JOB_SECONDS_MOST = 3600, 86400
# What a process may open to the pools: ten to the read-write and ten to the read-only one, as the usual drivers do.
DATABASE_CONNECTIONS = 20
TRUE, FALSE = ("yes", "on", "true", "1"), ("no", "off", "false", "0")
UNITS = "/etc/systemd/system"


class ApplicationError(ValueError):
    """What is described cannot be had on these hosts; the message names what is short and the fix."""


class Limits(TypedDict):
    """Limits of each process of a service; 0 is none of one's own."""

    memory_mb: int
    cpu_percent: int


class Service(TypedDict):
    """A completed service. `port` is 0 without one, texts are empty where nothing was said."""

    name: str
    kind: str
    command: str
    port: int
    instances: int  # on each application host
    spare_instances: int  # besides, during a release only
    database_connections: int  # of each process
    health: str
    path: str
    domains: list[str]  # under which users come to it: its own, or those of the application; none for a kind that is not routed
    websocket: bool
    metrics: str
    env: dict[str, Any]
    limits: Limits
    schedule: str  # when a job runs, as systemd writes it
    timeout: int  # seconds after which a job is ended


class Application(TypedDict):
    """A completed application."""

    name: str
    domains: list[str]
    database: bool
    cache: bool
    version: str
    release: str  # archive on the controller
    migrate: str
    env: dict[str, Any]
    services: list[Service]


class Unit(TypedDict):
    """A service as it runs on a host, with what counts ports, names and memory worked out."""

    application: str
    service: str
    unit: str  # of systemd, without @.service; the router's backend has this name too
    kind: str
    routed: bool
    scheduled: bool
    command: str
    instances: list[int]  # ports, or 1, 2, ... without one
    spare: int  # port of the first instance that runs during a release only, or 0
    spares: int  # how many of them there are
    port: int
    health: str
    path: str
    domains: list[str]
    websocket: bool
    metrics: str
    env: dict[str, Any]
    memory_mb: int
    cpu_percent: int
    schedule: str
    timeout: int


@dataclass(frozen=True)
class Kind:
    """What a kind of service is and what it needs. A new kind is a new row in KINDS, and a template for its unit."""

    about: str
    # Gateway and router send requests to it, and a release tries a spare instance first.
    routed: bool
    # Keys that it cannot do without.
    needs: tuple[str, ...]
    # Started by a timer instead of being kept running; it has no instances, and one host runs it for all.
    scheduled: bool = False
    # Keys that mean nothing to it.
    without: tuple[str, ...] = ()


# Keys of what runs on a schedule.
JOB = ("schedule", "timeout")
KINDS: dict[str, Kind] = {
    "web": Kind("serves requests", routed=True, needs=("command", "port", "health"), without=JOB),
    "worker": Kind("serves no requests and is kept running", routed=False, needs=("command",), without=JOB),
    "cron": Kind(
        "runs on a schedule, on one host at a time",
        routed=False,
        needs=("command", "schedule"),
        scheduled=True,
        without=("port", "instances", "spare_instances", "health", "path", "domains", "websocket", "metrics"),
    ),
}


NOTHING: Mapping[str, Any] = MappingProxyType({})


@dataclass(frozen=True)
class Field:
    """A key that a user may write: its type as in an argument specification, and what stands there when it is left out."""

    type: str
    default: Any = ""
    required: bool = False


APPLICATION: dict[str, Field] = {
    "name": Field("str", required=True),
    "domains": Field("list", ()),
    "database": Field("bool", False),
    "cache": Field("bool", False),
    "version": Field("str"),
    "release": Field("str"),
    "migrate": Field("str"),
    "env": Field("dict", NOTHING),
    "services": Field("list", ()),
}
SERVICE: dict[str, Field] = {
    "name": Field("str", required=True),
    "kind": Field("str", "web"),
    "command": Field("str", required=True),
    "port": Field("int", 0),
    "instances": Field("int", 1),
    "spare_instances": Field("int", 1),
    "database_connections": Field("int", DATABASE_CONNECTIONS),
    "health": Field("str"),
    "path": Field("str", "/"),
    "domains": Field("list", ()),
    "websocket": Field("bool", False),
    "metrics": Field("str"),
    "env": Field("dict", NOTHING),
    "limits": Field("dict", NOTHING),
    "schedule": Field("str"),
    "timeout": Field("int", JOB_SECONDS),
}
LIMITS: dict[str, Field] = {"memory_mb": Field("int", 0), "cpu_percent": Field("int", 0)}


# -- completion ------------------------------------------------------------------------------------------------------


def _text(value: Any) -> str:
    if isinstance(value, str):
        return str(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if isinstance(value, date) and not isinstance(value, datetime):
        return value.isoformat()
    raise ValueError("no text")


def _whole(value: Any) -> int:
    if isinstance(value, str) and re.fullmatch(r"\s*[+-]?[0-9]+\s*", value):
        return int(value)
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return int(value)
    raise ValueError("no whole number")


def _truth(value: Any) -> bool:
    text = str(value).strip().lower()
    if isinstance(value, (bool, int, str)) and text in (*TRUE, *FALSE):
        return text in TRUE
    raise ValueError("neither true nor false")


def _list(value: Any) -> list[Any]:
    if isinstance(value, str):
        return [part.strip() for part in value.split(",") if part.strip()]
    if isinstance(value, (list, tuple)):
        return list(value)
    raise ValueError("no list")


def _dict(value: Any) -> dict[str, Any]:
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    raise ValueError("no dictionary")


def plain(value: Any) -> Any:
    """Copy mappings and lists as plain ones. A deepcopy of Ansible's lazy containers copies every variable of the run with them."""
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return value


# How a value of each type is read; a ValueError says what it is not.
READERS: dict[str, Callable[[Any], Any]] = {"str": _text, "int": _whole, "bool": _truth, "list": _list, "dict": _dict}


def _complete(fields: Mapping[str, Field], given: Mapping[str, Any]) -> dict[str, Any]:
    """Return every key with a value of its type: what was given, else, or where that cannot be read, the default."""
    found = {}
    for name, field in fields.items():
        read, value = READERS[field.type], given.get(name)
        try:
            found[name] = read(field.default if value is None else value)
        except ValueError:
            found[name] = read(field.default)
    return found


def _domains(given: Iterable[Any]) -> list[str]:
    found = []
    for domain in given:
        try:
            found.append(domains.normal(str(domain)))
        except domains.DomainError:
            continue
    return list(dict.fromkeys(found))


def routed(service: Mapping[str, Any]) -> bool:
    """Tell whether requests come to a service."""
    kind = KINDS.get(service["kind"])
    return kind is not None and kind.routed


def scheduled(service: Mapping[str, Any]) -> bool:
    """Tell whether a service is a job, which a timer starts."""
    kind = KINDS.get(service["kind"])
    return kind is not None and kind.scheduled


def completed(given: Any) -> list[Application]:
    """Return all applications with every key. Completing what is complete changes nothing."""
    found = []
    for entry in given if isinstance(given, (list, tuple)) else []:
        if not isinstance(entry, Mapping):
            continue
        application = _complete(APPLICATION, entry)
        application["domains"] = _domains(application["domains"])
        services = []
        for item in application["services"]:
            if not isinstance(item, Mapping):
                continue
            service = _complete(SERVICE, item)
            service["limits"] = _complete(LIMITS, service["limits"])
            service["domains"] = (_domains(service["domains"]) or list(application["domains"])) if routed(service) else []
            services.append(service)
        application["services"] = services
        found.append(cast(Application, application))
    return found


# -- what follows ----------------------------------------------------------------------------------------------------


def unit_name(application: str, service: str) -> str:
    """Return the name of a service among all services: of its unit (before @.service) and of its backend at the router."""
    return f"{application}-{service}"


def routed_services(application: Application) -> list[Service]:
    """Return the services of an application that get requests."""
    return [service for service in application["services"] if routed(service)]


def all_domains(application: Application) -> list[str]:
    """Return every name under which users come to an application, each once."""
    return list(dict.fromkeys([*application["domains"], *(name for service in application["services"] for name in service["domains"])]))


def processes(service: Service) -> int:
    """Return how many processes of a service a host runs at once, during a release too."""
    if scheduled(service):
        return 1
    return service["instances"] + (service["spare_instances"] if routed(service) else 0)


def services(applications: Iterable[Application]) -> list[Unit]:
    """Return every service of every application as it runs on a host. Memory is 0 where nothing was fixed."""
    found: list[Unit] = []
    for application in applications:
        for service in application["services"]:
            port, count = service["port"], 0 if scheduled(service) else service["instances"]
            found.append(
                {
                    "application": application["name"],
                    "service": service["name"],
                    "unit": unit_name(application["name"], service["name"]),
                    "kind": service["kind"],
                    "routed": routed(service),
                    "scheduled": scheduled(service),
                    "command": service["command"],
                    # A service without a port tells its instances apart by number.
                    "instances": list(range(port, port + count) if port else range(1, count + 1)),
                    "spare": port + count if port and routed(service) else 0,
                    "spares": service["spare_instances"] if port and routed(service) else 0,
                    "port": port,
                    "health": service["health"],
                    "path": service["path"],
                    "domains": service["domains"],
                    "websocket": service["websocket"],
                    "metrics": service["metrics"],
                    "env": service["env"],
                    "memory_mb": service["limits"]["memory_mb"],
                    "cpu_percent": service["limits"]["cpu_percent"],
                    "schedule": service["schedule"],
                    "timeout": service["timeout"],
                }
            )
    return found


def ports(unit: Unit) -> list[int]:
    """Return every port on loopback that a service takes on a host, the spare ones last."""
    return [*unit["instances"], *range(unit["spare"], unit["spare"] + unit["spares"])] if unit["port"] else []


def routes(applications: Iterable[Application]) -> list[dict[str, Any]]:
    """Return the routed services for the router, the most specific path first and those without a domain last."""
    found = [
        {
            "backend": service["unit"],
            "domains": service["domains"],
            "path": service["path"],
            "health": service["health"],
            "websocket": service["websocket"],
            "ports": service["instances"],
            "spare_port": service["spare"],
            "spare_count": service["spares"],
        }
        for service in services(applications)
        if service["routed"]
    ]
    return sorted(found, key=lambda route: (not route["domains"], -len(route["path"].rstrip("/")), route["backend"]))


def route_rules(routes: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return in which order the router compares a request: {backend, path, names, below}; the first rule that fits decides.

    `names` are domains as they are, `below` what a name must end with (a wildcard, without its star); both empty fit any
    name. As at the gateway, a name goes before a wildcard and a long wildcard before a short one, whatever their paths.
    """
    found: list[tuple[tuple[int, int, int], dict[str, Any]]] = []
    for number, route in enumerate(routes):
        path = str(route.get("path") or "/").rstrip("/")
        by_rank: dict[int, list[str]] = {}
        for domain in route.get("domains") or ():
            by_rank.setdefault(domains.rank(domain), []).append(domain)
        for rank, covered in by_rank.items() or [(domains.LONGEST + 3, [])]:
            names = [domain for domain in covered if not domain.startswith("*")]
            below = [domain.removeprefix("*") for domain in covered if domain.startswith("*")]
            found.append(((rank, -len(path), number), {"backend": route["backend"], "path": path, "names": names, "below": below}))
    return [rule for dummy, rule in sorted(found, key=lambda item: item[0])]


def metric_paths(applications: Iterable[Application]) -> list[dict[str, Any]]:
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
        if service["metrics"] and service["port"]
        for index, port in enumerate(service["instances"])
    ]


def pools(applications: Iterable[Application], hosts: int, budget: int) -> list[dict[str, Any]]:
    """Share the connections that one PostgreSQL server keeps for applications among hosts, databases and pools.

    Reads fall back to the leader, so one server must bear the read-write and the read-only pools of every host at once.
    """
    names = [application["name"] for application in applications if application["database"]]
    if not names:
        return []
    share = budget // (max(1, hosts) * len(names))
    if share < 2:
        raise ApplicationError(
            f"{budget} connections are too few for {len(names)} databases on {hosts} hosts, each with a read-write and a "
            f"read-only pool: at least {2 * hosts * len(names)} are needed. Raise pgbouncer_connection_budget."
        )
    write = max(1, share * 3 // 5)
    found = []
    for name in names:
        found.append({"name": name, "database": name, "user": name, "read_only": False, "size": write})
        found.append({"name": f"{name}_ro", "database": name, "user": f"{name}_ro", "read_only": True, "size": share - write})
    return found


def units(applications: Iterable[Application], memory_mb: int, share: float) -> list[Unit]:
    """Return all services with the memory each of their processes may take.

    What the user has not fixed shares the rest evenly; spare instances of a routed service count, since they run
    beside the others during a release.
    """
    found = services(applications)
    for service in found:
        if service["memory_mb"] > memory_mb:
            raise ApplicationError(
                f"{service['unit']} may take {service['memory_mb']} MiB in each process, more than the {memory_mb} MiB of the host. "
                "Lower limits.memory_mb of the service, or leave it out."
            )
    slots = {service["unit"]: 1 if service["scheduled"] else len(service["instances"]) + service["spares"] for service in found}
    left = memory_mb * share - sum(service["memory_mb"] * slots[service["unit"]] for service in found)
    open_slots = sum(slots[service["unit"]] for service in found if not service["memory_mb"])
    each = int(left // open_slots) if open_slots else 0
    if open_slots and each < MEMORY_FLOOR_MB:
        raise ApplicationError(
            f"{int(memory_mb * share)} MiB (share {share} of {memory_mb}) leave {each} MiB for each of {open_slots} processes; "
            f"at least {MEMORY_FLOOR_MB} are needed. Lower instances, or raise app_memory_share."
        )
    return [{**service, "memory_mb": service["memory_mb"] or each} for service in found]


def files(applications: Iterable[Application], found: Iterable[Unit]) -> list[dict[str, Any]]:
    """Return what config_files writes for the applications: their environments and a template unit for each of `found`.

    An application without a release has a database or a place in the cache only, and nothing on its hosts.
    """
    wanted: list[dict[str, Any]] = []
    deployed = {application["name"] for application in applications if application["release"]}
    for application in applications:
        name, dest = application["name"], f"/etc/uptier/apps/{application['name']}"
        if name not in deployed:
            continue
        extra = {"__app_application": dict(application)}
        wanted.append({"src": "app.env.j2", "dest": f"{dest}.env", "group": name, "mode": "0640", "secret": True, "vars": extra})
        if application["migrate"] and application["database"]:
            wanted.append({"src": "migrate.env.j2", "dest": f"{dest}.migrate.env", "mode": "0600", "secret": True, "vars": extra})
    for service in found:
        if service["application"] not in deployed:
            continue
        extra = {"__app_service": dict(service)}
        wanted.append(
            {"src": "service.j2", "dest": f"{UNITS}/{service['unit']}{'' if service['scheduled'] else '@'}.service", "vars": extra}
        )
        if service["scheduled"]:
            wanted.append({"src": "timer.j2", "dest": f"{UNITS}/{service['unit']}.timer", "vars": extra})
    return wanted


def job_units(application: Application) -> list[str]:
    """Return the units of an application's jobs, without their suffix."""
    return [service["unit"] for service in services([application]) if service["scheduled"]]


def timers(applications: Iterable[Application]) -> list[dict[str, Any]]:
    """Return the timers of jobs as systemd_units takes them."""
    return [
        {"name": f"{unit}.timer", "restart_files": [f"{UNITS}/{unit}.timer"]}
        for application in applications
        if application["release"]
        for unit in job_units(application)
    ]


def unclaimed(applications: Iterable[Application], hosts: int) -> list[str]:
    """Return the jobs that every one of several hosts would run: nothing that they share says who has run one."""
    return [unit for application in applications if hosts > 1 and not application["cache"] for unit in job_units(application)]


def jobs(applications: Iterable[Application], name: str) -> list[str]:
    """Return the units of an application's jobs, without their suffix."""
    return [unit for application in applications if application["name"] == name for unit in job_units(application)]


def release_services(found: Iterable[Unit], name: str) -> list[dict[str, Any]]:
    """Return the services of one application as the module app_release takes them."""
    return [
        {
            **{key: service[key] for key in ("unit", "kind", "instances", "spare", "spares", "port", "health")},  # type: ignore[literal-required]
            "backend": service["unit"] if service["routed"] else "",
        }
        for service in found
        if service["application"] == name and not service["scheduled"]
    ]


def host_header(application: Application) -> str:
    """Return the name under which the instances of an application are asked how they are."""
    return domains.name_under(next(iter(all_domains(application)), "localhost"))
