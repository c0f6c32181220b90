# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A release of one application on all its hosts: what is done in which order, and what takes it back. Pure functions.

What happens to the instances of one host is planned by module_utils/application/release.py, there and here alike. This is
about the fleet: the lock, the archive, the migration, the order of the hosts, and which release each host goes back to.

A strategy is a row in STRATEGIES: it puts the steps between `fetch` and `verify` in order. What comes before and after is
the same for all, and so is the way back: every host that was touched gets what it ran before.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.uptier.platform.plugins.module_utils.application.canary import Limits, Window, judge, together
from ansible_collections.uptier.platform.plugins.module_utils.application.deploy import held_text, shown
from ansible_collections.uptier.platform.plugins.module_utils.application.release import Seen, Service, plan, release_name, sides, stand_by
from ansible_collections.uptier.platform.plugins.module_utils.application.release import Step as Part
from ansible_collections.uptier.platform.plugins.plugin_utils import application as model
from ansible_collections.uptier.platform.plugins.plugin_utils import domains
from ansible_collections.uptier.platform.plugins.plugin_utils.problems import listed, nearest

# What a step takes besides the times that it waits for, in seconds: connections, unpacking, systemd.
SLACK_SECONDS = 60


@dataclass(frozen=True)
class Times:
    """How long each thing may take, in seconds."""

    healthy: int = 60
    drain: int = 15
    stop: int = 30
    migrate: int = 600
    verify: int = 60
    patience: int = 600  # for enough requests to compare two releases


@dataclass(frozen=True)
class Host:
    """What an application is on one host, as app_release_info tells it.

    `origin` is what the host ran before a release that has not ended; None where none is under way.
    """

    name: str
    current: str = ""
    previous: str = ""
    origin: str | None = None
    versions: Mapping[str, str] = field(default_factory=dict)  # by directory, the oldest first
    checksums: Mapping[str, str] = field(default_factory=dict)  # of their archives, by directory
    seen: Mapping[str, Mapping[int, Seen]] = field(default_factory=dict)
    migrated: frozenset[str] = frozenset()

    @property
    def base(self) -> str:
        """Return the release to which a failure leads back; empty for a host that never had one."""
        return self.current if self.origin is None else self.origin

    def release_of(self, version: str) -> str:
        """Return the directory that has a version, the newest if there are several; a directory's own name goes first."""
        if version in self.versions:
            return version
        return next((name for name, known in reversed(list(self.versions.items())) if known == version), "")


def host_of(name: str, told: Mapping[str, Any]) -> Host:
    """Return a host from what app_release_info says of an application there."""
    releases = told["releases"]
    return Host(
        name=name,
        current=told["current"],
        previous=told["previous"],
        origin=told["origin"],
        versions={one["name"]: one["version"] for one in releases},
        checksums={one["name"]: one["checksum"] for one in releases},
        seen={
            unit: {int(number): Seen(one["active"], one["enabled"], one["release"]) for number, one in instances.items()}
            for unit, instances in told["instances"].items()
        },
        migrated=frozenset(told["migrated"]),
    )


@dataclass(frozen=True)
class Step:
    """One thing to do, on one host or for all of them."""

    action: str
    host: str = ""
    release: str = ""
    parts: tuple[Part, ...] = ()
    seconds: int = 0
    share: int = 0

    def __str__(self) -> str:
        words = {
            "lock": "take the lock",
            "fetch": f"{self.host}: unpack {self.release}",
            "stop": f"{self.host}: drain and stop every instance",
            "beside": f"{self.host}: {listed(part_text(part) for part in self.parts) or 'nothing to start beside'}",
            "share": f"give {self.share} % of the requests to {self.release} on every host, and compare",
            "shift": f"{self.host}: give all requests to the instances that stand by, and drain the others",
            "check": "ask every routed service through each router and gateway while the instances of before still run",
            "migrate": f"{self.host}: migrate the database to {self.release}",
            "switch": f"{self.host}: {listed(part_text(part) for part in self.parts) or 'nothing to switch'}",
            "verify": "ask every routed service through each router and gateway",
            "restore": f"{self.host}: back to {self.release}",
            "halt": f"{self.host}: stop every instance, since it had no release before",
            "record": "write down the result on every host",
            "unlock": "give the lock back",
        }
        return words[self.action]


def part_text(part: Part) -> str:
    """Return what is done to one instance, in words."""
    unit = part.unit.removesuffix(".service")
    return {
        "try": f"start {unit} beside the others and wait until it is healthy",
        "stand": f"start {unit} beside the others, without a request, and wait until it is healthy",
        "replace": f"drain {unit}, restart it, wait until it is healthy and put it back",
        "start": f"start {unit} and wait until it is healthy",
        "retire": f"drain and stop {unit}",
        "remove": f"drain and remove {unit}",
    }[part.action]


@dataclass(frozen=True)
class Situation:
    """All that a strategy decides from."""

    hosts: tuple[Host, ...]  # in the order in which they are switched
    services: tuple[Service, ...]
    targets: Mapping[str, str]  # release by host
    migrate: bool
    times: Times
    shares: tuple[int, ...] = ()


@dataclass(frozen=True)
class Strategy:
    """How a fleet gets from one release to the next."""

    about: str
    # Instances that serve at every moment: all that serve now, or none.
    keeps_serving: bool
    steps: Callable[[Situation], list[Step]]
    # Before the first host is switched, all are stopped.
    stops_first: bool = False
    # Before the first host is switched, the release stands by in spare instances of all.
    beside: bool = False
    # These get parts of the requests, which are compared; or all of them at once.
    shares: bool = False
    shifts: bool = False


def _each(times: Times) -> int:
    """Return how long one instance may take: to get healthy by itself, and then for the router."""
    return times.drain + times.stop + 2 * times.healthy


def _marked(seen: Mapping[str, Mapping[int, Seen]]) -> dict[str, dict[int, Seen]]:
    return {unit: {number: as_marked(one) for number, one in instances.items()} for unit, instances in seen.items()}


def _switch(situation: Situation, host: Host, seen: Mapping[str, Mapping[int, Seen]], beside: bool = False) -> Step:
    release = situation.targets[host.name]
    wanted = {service.unit: release for service in situation.services}
    parts = plan(situation.services, release, wanted, _marked(seen), beside).steps
    # An instance that does not get healthy is put back, which is a second restart.
    return Step("switch", host.name, release, tuple(parts), (len(parts) + 1) * _each(situation.times) + SLACK_SECONDS)


def _beside(situation: Situation) -> tuple[list[Step], dict[str, Mapping[str, Mapping[int, Seen]]]]:
    """Return the steps that have the release stand by on every host, and what is seen there then."""
    steps, later = [], {}
    for host in situation.hosts:
        release = situation.targets[host.name]
        parts = stand_by(situation.services, release, {service.unit: release for service in situation.services}, _marked(host.seen)).steps
        steps.append(Step("beside", host.name, release, tuple(parts), (len(parts) + 1) * _each(situation.times) + SLACK_SECONDS))
        seen = {unit: dict(instances) for unit, instances in host.seen.items()}
        for part in parts:
            seen.setdefault(part.service.unit, {})[part.instance] = Seen(True, False, release)
        later[host.name] = seen
    return steps, later


def as_marked(seen: Seen) -> Seen:
    """Return an instance with its release for a fingerprint: what its files say is known on its host only."""
    return Seen(seen.active, seen.enabled, seen.release, seen.release)


def _migrate(situation: Situation) -> list[Step]:
    first = situation.hosts[0]
    if not situation.migrate:
        return []
    return [Step("migrate", first.name, situation.targets[first.name], seconds=situation.times.migrate + SLACK_SECONDS)]


def rolling(situation: Situation) -> list[Step]:
    """One host after the other; on each, a spare instance goes before the others."""
    return [*_migrate(situation), *(_switch(situation, host, host.seen) for host in situation.hosts)]


def recreate(situation: Situation) -> list[Step]:
    """Stop everything, migrate, start everything: for releases that must not run beside each other."""
    wait = situation.times.drain + situation.times.stop + SLACK_SECONDS
    stops = [Step("stop", host.name, seconds=wait * max(1, sum(map(len, host.seen.values())))) for host in situation.hosts]
    stopped = [
        {
            unit: {number: Seen(False, one.enabled, one.release, "") for number, one in instances.items()}
            for unit, instances in host.seen.items()
        }
        for host in situation.hosts
    ]
    return [*stops, *_migrate(situation), *(_switch(situation, host, seen) for host, seen in zip(situation.hosts, stopped, strict=True))]


def _shared(situation: Situation, later: Mapping[str, Mapping[str, Mapping[int, Seen]]]) -> list[Host]:
    """Return the hosts on which both releases can get requests; a first release has nothing beside it."""

    def both(host: Host) -> bool:
        release = situation.targets[host.name]
        return bool(
            sides(situation.services, release, {service.unit: release for service in situation.services}, _marked(later[host.name]))
        )

    return [host for host in situation.hosts if both(host)]


def blue_green(situation: Situation) -> list[Step]:
    """As many new instances as there are old ones, on all hosts; then all requests at once; the old ones go when all is well."""
    stands, later = _beside(situation)
    wait = situation.times.healthy + situation.times.drain + SLACK_SECONDS
    shifts = [Step("shift", host.name, situation.targets[host.name], seconds=wait) for host in _shared(situation, later)]
    # Where a host has just joined, nothing could answer through its router yet.
    everywhere = all(
        any(one.active for one in later[host.name].get(service.unit, {}).values())
        for host in situation.hosts
        for service in situation.services
        if service.backend
    )
    return [
        *_migrate(situation),
        *stands,
        *shifts,
        *([Step("check", seconds=situation.times.verify + SLACK_SECONDS)] if shifts and everywhere else []),
        *(_switch(situation, host, later[host.name], beside=True) for host in situation.hosts),
    ]


def canary(situation: Situation) -> list[Step]:
    """A part of the requests of every host, in steps, each compared with the old release; then one host after the other."""
    stands, later = _beside(situation)
    release = next(iter(situation.targets.values()))
    wait = situation.times.patience + situation.times.healthy + SLACK_SECONDS
    return [
        *_migrate(situation),
        *stands,
        *(Step("share", release=release, seconds=wait, share=share) for share in (situation.shares if _shared(situation, later) else ())),
        *(_switch(situation, host, later[host.name], beside=True) for host in situation.hosts),
    ]


STRATEGIES: dict[str, Strategy] = {
    "rolling": Strategy("one host after the other, without a failed request", True, rolling),
    "blue_green": Strategy(
        "the release starts beside the old one on all hosts and gets all requests at once", True, blue_green, beside=True, shifts=True
    ),
    "canary": Strategy(
        "the release gets a part of the requests and more of them while it is as good as the old one",
        True,
        canary,
        beside=True,
        shares=True,
    ),
    "recreate": Strategy("everything is stopped and then started: an outage, for releases that must not meet", False, recreate, True),
}


@dataclass(frozen=True)
class Plan:
    """What a release will do. With `refusals` there are no steps."""

    application: str
    version: str
    strategy: str
    steps: tuple[Step, ...] = ()
    sharers: int = 0  # hosts on which both releases get requests during a canary
    targets: Mapping[str, str] = field(default_factory=dict)
    bases: Mapping[str, str] = field(default_factory=dict)
    refusals: tuple[str, ...] = ()

    @property
    def migrates(self) -> bool:
        return any(step.action == "migrate" for step in self.steps)

    @property
    def seconds(self) -> int:
        """Return how long the longest step may take: so long the lock has to last between two."""
        return max((step.seconds for step in self.steps), default=0)

    @property
    def total(self) -> int:
        """Return how long all steps may take together: so long a run of the tier leaves the hosts alone."""
        return sum(step.seconds for step in self.steps)


@dataclass(frozen=True)
class Request:
    """What somebody asks for.

    `hosts` are all that have to take part. `archive` is where the release is looked for on the controller, `checksum` that
    of what is there, empty where nothing is. With `back`, a release is to come that hosts have had before.
    """

    application: str
    version: str = ""
    strategy: str = "rolling"
    hosts: tuple[str, ...] = ()
    archive: str = ""
    checksum: str = ""
    back: bool = False
    shares: tuple[int, ...] = (5, 25, 50)  # of a canary, in percent


def archive_of(application: Mapping[str, Any], version: str) -> str:
    """Return where the archive of a version is: as the application's own, with that version for its own in the name."""
    own, known = application["release"], application["version"]
    folder, slash, name = own.rpartition("/")
    if not known or not version or version == known or known not in name:
        return own if version in ("", known) else ""
    return f"{folder}{slash}{name.replace(known, version)}"


def propose(
    request: Request,
    applications: Sequence[model.Application],
    seen: Mapping[str, Host],
    times: Times | None = None,
) -> Plan:
    """Return the steps of a release in order, or all reasons why it cannot be.

    `seen` has the hosts that answered, by name.
    """
    found = next((one for one in applications if one["name"] == request.application), None)
    refusals = _refusals(request, applications, found, seen)
    hosts = tuple(seen[name] for name in request.hosts if name in seen)
    if refusals or found is None:
        return Plan(request.application, request.version, request.strategy, refusals=tuple(refusals))
    version = request.version or hosts[0].versions[hosts[0].previous]
    targets = {host.name: _target(request, host, version) for host in hosts}
    refusals = _lacking(request, found, hosts, targets, version)
    if refusals:
        return Plan(request.application, version, request.strategy, refusals=tuple(refusals))
    strategy = STRATEGIES[request.strategy]
    migrate = bool(found["migrate"]) and not request.back and not any(targets[host.name] in host.migrated for host in hosts)
    situation = Situation(hosts, services_of(found), targets, migrate, times or Times(), request.shares)
    fetches = [
        Step("fetch", host.name, targets[host.name], seconds=SLACK_SECONDS * 5) for host in hosts if targets[host.name] not in host.versions
    ]
    steps = [
        Step("lock"),
        *fetches,
        *strategy.steps(situation),
        Step("verify", seconds=situation.times.verify + SLACK_SECONDS),
        Step("record"),
        Step("unlock"),
    ]
    sharers = len(_shared(situation, _beside(situation)[1])) if strategy.beside else 0
    bases = {host.name: host.base for host in hosts}
    return Plan(request.application, version, request.strategy, tuple(steps), sharers, targets, bases)


def services_of(application: model.Application) -> tuple[Service, ...]:
    """Return the services of an application as a host plans them."""
    given = model.release_services(model.services([application]), application["name"])
    return tuple(Service(**{**service, "instances": tuple(service["instances"])}) for service in given)


def _target(request: Request, host: Host, version: str) -> str:
    """Return the directory of the release on a host, empty where it cannot come from anywhere."""
    if request.back or not request.checksum:
        return host.release_of(version)
    return release_name(version, request.checksum, host.checksums)[0]


def _refusals(
    request: Request,
    applications: Sequence[model.Application],
    found: model.Application | None,
    seen: Mapping[str, Host],
) -> list[str]:
    """Return what is wrong with a request before its version is looked for."""
    said = []
    known = [one["name"] for one in applications if one["release"]]
    if found is None:
        what = (
            f"application {request.application} is in no entry of platform_applications"
            if request.application
            else "No application is named"
        )
        said.append(f"{what}. {nearest(request.application, known)}Applications with a release: {listed(known) or 'none'}.")
    elif not found["release"]:
        said.append(f"application {found['name']} has no `release` in platform_applications: nothing of it runs on hosts.")
    if request.strategy not in STRATEGIES:
        said.append(f"strategy {request.strategy} is none. {nearest(request.strategy, STRATEGIES)}Use one of {listed(STRATEGIES)}.")
    elif found is not None and found["release"]:
        said += _unfit(request, found)
    absent = [name for name in request.hosts if name not in seen]
    if absent or not request.hosts:
        # Half a fleet on another release is what this procedure is there to prevent.
        what = f"{listed(absent)} did not take part" if absent else "There is no application host"
        said.append(f"{what}. A release is for every application host: remove --limit, or the host from the inventory.")
    if said or found is None:
        return said
    hosts = [seen[name] for name in request.hosts]
    if not request.version and not request.back:
        said.append(f"No version of {found['name']} is named. Kept on {hosts[0].name}: {listed(hosts[0].versions) or 'none'}.")
    if not request.version and request.back:
        said += _no_way_back(found["name"], hosts)
    return said


def _unfit(request: Request, found: model.Application) -> list[str]:
    """Return why an application cannot be released by a strategy."""
    strategy, routed = STRATEGIES[request.strategy], model.routed_services(found)
    said = []
    if strategy.beside and not routed:
        said.append(f"strategy {request.strategy} is for requests, and {found['name']} has no web service: use rolling.")
    narrow = [service for service in routed if service["spare_instances"] < service["instances"]]
    if strategy.shifts and narrow:
        told = listed(f"{one['name']} {one['spare_instances']} of {one['instances']}" for one in narrow)
        said.append(
            f"strategy {request.strategy} starts as many instances of {found['name']} as serve, and has room for fewer ({told}): set "
            "`spare_instances` to `instances`, and run the application layer once."
        )
    shares = list(request.shares)
    if strategy.shares and (not shares or shares != sorted(set(shares)) or not all(1 <= share <= 50 for share in shares)):
        said.append(
            f"The shares of a canary are {listed(map(str, shares)) or 'none'}: use whole percentages from 1 to 50, each above the one before."
        )
    return said


def _no_way_back(name: str, hosts: Sequence[Host]) -> list[str]:
    """Return why the release before cannot be told from what hosts remember."""
    former = {host.name: host.versions.get(host.previous, "") for host in hosts}
    if not any(former.values()):
        return [
            f"{name} has nothing to roll back to: no release came before {listed(dict.fromkeys(host.current or 'none' for host in hosts))}."
        ]
    if len(set(former.values())) > 1:
        told = listed(f"{host} {version or 'none'}" for host, version in former.items())
        return [f"The release of {name} before this one is not the same everywhere ({told}). Name one with -e version=."]
    return []


def _lacking(request: Request, found: model.Application, hosts: Sequence[Host], targets: Mapping[str, str], version: str) -> list[str]:
    """Return why a version cannot be had."""
    without = [host.name for host in hosts if not targets[host.name]]
    if without:
        kept = [set(host.versions.values()) for host in hosts]
        everywhere = sorted(set.intersection(*kept)) if kept else []
        looked = (
            ""
            if request.back
            else f" There is no archive {request.archive or '(its path does not follow from `release`; name it with -e release=)'}."
        )
        return [f"{found['name']} {version} is not kept on {listed(without)}.{looked} Kept on every host: {listed(everywhere) or 'none'}."]
    if request.back and all(host.current == targets[host.name] and host.origin is None for host in hosts):
        return [f"{found['name']} {version} is what every host has already."]
    return []


def questions(
    application: model.Application, routers: Sequence[Mapping[str, Any]], router_port: int, gateway_port: int
) -> list[dict[str, Any]]:
    """Return what a gateway asks to see that an application serves, as the module app_verify takes it.

    `routers` are application hosts as {name, address, fqdn}. `gateway_port` is where the gateway itself answers users on
    loopback, 0 where none does.
    """
    ways = [
        {
            "through": f"the router of {one['name']}",
            "address": one["address"],
            "port": router_port,
            "server_name": one["fqdn"],
            "mutual": True,
        }
        for one in routers
    ]
    found = []
    for service in model.routed_services(application):
        domain = domains.name_under(next(iter(service["domains"]), "localhost"))
        # Its own health path, if users' requests to that path come to this service.
        inside = f"{service['health']}/".startswith(f"{service['path'].rstrip('/')}/")
        what = {"domain": domain, "path": service["health"] if inside else service["path"], "worst": 200 if inside else 499}
        found += [{**way, **what} for way in ways]
        if gateway_port and service["domains"]:
            through = {"through": "this gateway", "address": "127.0.0.1", "port": gateway_port, "server_name": domain, "mutual": False}
            # It may keep this host out, or count its requests; what must not come is an error behind it.
            found.append({**through, **what, "worst": 499})
    return found


# -- the way back ----------------------------------------------------------------------------------------------------


# Steps after which a host is not as it was.
TOUCHES = ("stop", "beside", "shift", "switch")


def undo(proposed: Plan, failed: int) -> list[Step]:
    """Return what is done when the step of this number fails: every host that was touched gets what it had, the lock is free."""
    if proposed.steps[failed].action == "lock":
        return []
    touched = [step.host for step in proposed.steps[: failed + 1] if step.action in TOUCHES]
    found = []
    for host in dict.fromkeys(touched):
        base = proposed.bases[host]
        found.append(Step("restore", host, base) if base else Step("halt", host))
    return [*found, *([Step("verify")] if touched else []), Step("record"), Step("unlock")]


@dataclass(frozen=True)
class Failure:
    """The first thing that went wrong: in which step, on which host, and what was said there."""

    action: str
    host: str
    reason: str
    said: str


# In which order things fail that are reported together.
ORDER = ("lock", "fetch", "stop", "keep", "migrate", "beside", "share", "shift", "check", "renew", "switch", "verify", "record")


def first_failure(proposed: Plan, reports: Iterable[tuple[str, str, Mapping[str, Any]]]) -> Failure | None:
    """Return the first failure in the order of the plan; `reports` are (action, host, result of the module)."""
    order = {name: number for number, name in enumerate(ORDER)}
    hosts = {name: number for number, name in enumerate(proposed.targets)}
    found = [
        Failure(action, host, str(result["failure"].get("reason", "")), str(result["failure"].get("said", "")))
        for action, host, result in reports
        if result.get("failure")
    ]
    return min(found, key=lambda one: (order[one.action], hosts.get(one.host, len(hosts))), default=None)


def verdict(proposed: Plan, failure: Failure | None, returned: Mapping[str, Mapping[str, Any]]) -> str:
    """Return what is said at the end of a release that failed; `returned` are the results of the way back, by host."""
    if failure is None:
        return ""
    if failure.reason == "lost":
        # Whoever has the lock now knows what each host ran, and is at work on them.
        return f"{proposed.application} {proposed.version} was stopped before {failure.host}. {failure.said}"
    if failure.action == "record":
        said = f"its end could not be written down on {failure.host}: {failure.said} Mend that and run it again."
        return f"{proposed.application} {proposed.version} runs on every host, but {said}"
    doing = {
        "fetch": "could not be unpacked",
        "stop": "could not be stopped for it",
        "keep": "could not renew its lock and was stopped",
        "renew": "could not renew its lock and was stopped",
        "migrate": "could not migrate the database",
        "beside": "failed beside the instances that serve",
        "share": "was turned back as a canary",
        "shift": "could not be given the requests",
        "check": "runs, but does not answer as it should",
        "switch": "failed",
        "verify": "runs, but does not answer as it should",
    }[failure.action]
    stuck = {host: result["failure"].get("said", "") for host, result in returned.items() if result.get("failure")}
    base = {release for host, release in proposed.bases.items() if host not in stuck}
    if stuck:
        told = " ".join(f"{host} is not back on {proposed.bases.get(host) or 'no release'}: {said}" for host, said in stuck.items())
        back = f"NOT every host is back: {told} Mend that and run rollback.yml with -e version=, or this again."
    elif base == {""}:
        back = "There was no release before; what was started is stopped."
    else:
        back = f"Every host is back on {listed(sorted(one or 'no release' for one in base))}."
    return f"{proposed.application} {proposed.version} {doing} on {failure.host}. {back}\n{failure.said}"


def compared(reports: Mapping[str, Mapping[str, Any]], share: int, limits: Limits) -> tuple[str, str]:
    """Return how a release did with its part of the requests on all hosts, and why that is not enough; empty where it is.

    `reports` are what the module app_release returns for `shared`, by host. Where too few requests came nothing is known, and
    nothing advances.
    """
    sides = [together(Window(**one["compared"][side]) for one in reports.values() if "compared" in one) for side in ("old", "new")]
    verdict, why = judge(sides[0], sides[1], limits)
    text = f"{share} % for the new release: {sides[1]}; the old release: {sides[0]}"
    return text, "" if verdict == "good" else f"With {share} % of the requests, {why}."


# -- what runs where -------------------------------------------------------------------------------------------------


def report(application: str, told: Mapping[str, Mapping[str, Any]], declared: str, records: int = 5) -> list[str]:
    """Return what runs where, line by line; `told` is what app_release_info says of the application, by host."""
    lines = []
    versions: dict[str, list[str]] = {}
    for name, one in told.items():
        host = host_of(name, one)
        versions.setdefault(host.versions.get(host.current, host.current) or "no release", []).append(name)
        kept = [release for release in host.versions if release != host.current]
        text = f"{name}: {host.current or 'no release'}, before {host.previous or 'none'}, kept {listed(kept) or 'nothing else'}"
        others = [
            f"{unit}@{number} {'runs' if seen.active else 'is stopped with'} {seen.release or 'nothing'}"
            for unit, instances in host.seen.items()
            for number, seen in instances.items()
            if not seen.active or seen.release != host.current
        ]
        text += f"; {listed(others)}" if others else ""
        text += f"; a release has not ended here, which began with {host.origin or 'none'}: run it again" if host.origin is not None else ""
        lines.append(text)
    if len(versions) > 1:
        lines.append("NOT the same everywhere: " + "; ".join(f"{version} on {listed(names)}" for version, names in versions.items()) + ".")
    stands = {one["deployed"]["release"] for one in told.values() if one["deployed"] and one["deployed"]["declared"] == declared}
    if stands:
        lines.append(
            f"The inventory says {declared}; {listed(sorted(stands))} was released by name since and stays until the inventory changes."
        )
    lines += [f"Locked: {held_text(application, one['lock'])}" for one in told.values() if one["lock"]]
    entries = {entry["id"]: entry for one in told.values() for entry in one["history"]}
    newest = sorted(entries.values(), key=lambda entry: entry["ended"], reverse=True)[:records]
    return [f"{application}: {listed(versions)}", *lines, *(record_text(entry) for entry in newest)]


def record_text(entry: Mapping[str, Any]) -> str:
    """Return one entry of the record for people."""
    by = f"{shown(entry['ended'])}, {entry['who']} on {entry['controller']}"
    if entry["result"] == "interrupted":
        return f"{by}: interrupted: {entry['what']}"
    first = next(iter(str(entry["said"]).splitlines()), "")
    return f"{by}: {entry['before'] or 'no release'} to {entry['version']} ({entry['strategy']}) {entry['result']}{': ' if first else ''}{first}"
