# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Filters over platform_applications: routes, metrics, pools and units derive from one description."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import wraps
from pathlib import Path
from typing import Any, cast

from ansible.errors import AnsibleFilterError
from ansible_collections.uptier.platform.plugins.module_utils.application.canary import Limits
from ansible_collections.uptier.platform.plugins.module_utils.application.release import server_name
from ansible_collections.uptier.platform.plugins.plugin_utils import application, application_check, command, deploy, domains
from ansible_collections.uptier.platform.plugins.plugin_utils.archives import checksum


def applications(given: list[dict[str, Any]], variable: str = application_check.VARIABLE) -> list[dict[str, Any]]:
    """Return the applications with every key; what is wrong with them is said, all of it at once."""
    problems = application_check.problems(given, variable)
    if problems:
        raise AnsibleFilterError(application_check.text_of(problems))
    return [dict(item) for item in application.completed(given)]


def readable(function: Callable[..., Any]) -> Callable[..., Any]:
    """Turn the error of the pure function into one that Ansible shows without a traceback."""

    @wraps(function)
    def wrapper(*arguments: Any, **options: Any) -> Any:
        try:
            return function(*arguments, **options)
        except application.ApplicationError as error:
            raise AnsibleFilterError(str(error)) from error

    return wrapper


def over_applications(function: Callable[..., Any]) -> Callable[..., Any]:
    """Complete the applications first, for whoever hands them on as they were written."""

    @wraps(function)
    def wrapper(given: Any, *arguments: Any, **options: Any) -> Any:
        return readable(function)(application.completed(given), *arguments, **options)

    return wrapper


def deploy_plan(
    applications: list[dict[str, Any]], request: dict[str, Any], hostvars: Mapping[str, Any], hosts: list[str], times: dict[str, int]
) -> dict[str, Any]:
    """Return what a release does on all its hosts: steps in order, or all reasons why it cannot be.

    The hosts were asked by M(uptier.platform.app_release_info) before. `steps` are texts; `targets` and `bases` have the release
    that each host gets, and the one to which a failure leads back.
    """
    complete = application.completed(applications)
    name, version = str(request["application"]), str(request["version"])
    found: Any = next((one for one in complete if one["name"] == name), {"version": "", "release": ""})
    archive = str(request["release"]) or deploy.archive_of(found, version)
    path = Path(archive).expanduser()
    told = _told(name, hostvars, hosts)
    asked = deploy.Request(
        application=name,
        version=version,
        strategy=str(request["strategy"]),
        hosts=tuple(str(host) for host in hosts),
        archive=archive,
        checksum=checksum(path) if archive and path.is_file() and not request["back"] else "",
        back=bool(request["back"]),
        shares=tuple(int(share) for share in request.get("shares", ())),
    )
    limits = deploy.Times(**{key: int(value) for key, value in times.items()})
    strategy = deploy.STRATEGIES.get(asked.strategy, deploy.STRATEGIES["rolling"])
    plan = deploy.propose(asked, complete, {host: deploy.host_of(host, one) for host, one in told.items()}, limits)
    return {
        "application": name,
        "version": plan.version,
        "declared": found["version"],
        "strategy": plan.strategy,
        "archive": archive if asked.checksum else "",
        "refusals": list(plan.refusals),
        "seen": next((str(entry["id"]) for host in hosts[:1] if host in told for entry in reversed(told[host]["history"])), ""),
        "steps": [str(step) for step in plan.steps],
        "targets": dict(plan.targets),
        "bases": dict(plan.bases),
        "migrates": plan.migrates,
        "stops_first": strategy.stops_first,
        "beside": strategy.beside,
        "shares": [step.share for step in plan.steps if step.action == "share"],
        "sharers": plan.sharers,
        "shifts": any(step.action == "shift" for step in plan.steps),
        "checks": any(step.action == "check" for step in plan.steps),
        "seconds": plan.seconds,
        "total": plan.total,
    }


# Results in which tasks of the role leave what failed, and the step of the plan to which each belongs.
RESULTS = {
    "fetched": "fetch",
    "stopped": "stop",
    "kept": "keep",
    "migrated": "migrate",
    "beside": "beside",
    "shared": "share",
    "canary": "share",
    "shifted": "shift",
    "checked": "check",
    "renewed": "renew",
    "switched": "switch",
    "verified": "verify",
    "ended": "record",
}


def deploy_failure(plan: dict[str, Any], hostvars: Mapping[str, Any], gateways: list[str]) -> dict[str, str]:
    """Return the first thing that failed in a release as {action, host, reason, said}; empty while nothing has.

    `said` is the message for people: what failed, where, whether every host is back.
    """
    proposed = deploy.Plan(plan["application"], plan["version"], plan["strategy"], targets=plan["targets"], bases=plan["bases"])

    def result(host: str, name: str) -> Mapping[str, Any]:
        found: Mapping[str, Any] = hostvars[host].get(f"__app_{name}") or {}
        return found

    everybody = list(dict.fromkeys([*plan["targets"], *gateways]))
    failure = deploy.first_failure(proposed, [(action, host, result(host, name)) for host in everybody for name, action in RESULTS.items()])
    returned = {host: result(host, "returned") for host in plan["targets"]}
    returned |= {host: result(host, "verified_again") for host in gateways if result(host, "verified_again").get("failure")}
    if failure is None:
        return {}
    return {
        "action": failure.action,
        "host": failure.host,
        "reason": failure.reason,
        "said": deploy.verdict(proposed, failure, returned),
    }


def canary(plan: dict[str, Any], hostvars: Mapping[str, Any], share: int, limits: dict[str, Any]) -> dict[str, Any]:
    """Return how a release did with its part of the requests on all hosts, as text; with a failure where that is not enough to go on."""
    reports = {host: hostvars[host].get("__app_shared") or {} for host in plan["targets"]}
    given = Limits(int(limits["requests"]), float(limits["errors"]), float(limits["slower"]))
    text, why = deploy.compared(reports, int(share), given)
    return {"text": text, **({"failure": {"reason": "canary", "said": why}} if why else {})}


def questions(application: dict[str, Any], routers: list[dict[str, Any]], router_port: int, gateway_port: int) -> list[dict[str, Any]]:
    """Return what a gateway asks to see that an application serves: each routed service, through each router and the gateway itself."""
    return deploy.questions(cast(Any, application), routers, int(router_port), int(gateway_port))


def release_report(applications: list[dict[str, Any]], hostvars: Mapping[str, Any], hosts: list[str]) -> list[str]:
    """Return which release of each application runs where, and how the last ones ended, line by line.

    The hosts were asked by M(uptier.platform.app_release_info) before.
    """
    lines = []
    for one in applications:
        lines += deploy.report(one["name"], _told(one["name"], hostvars, hosts), one["version"])
    return lines


def command_choice(
    applications: list[dict[str, Any]], request: dict[str, Any], hostvars: Mapping[str, Any], hosts: list[str]
) -> dict[str, Any]:
    """Return where a command of a release runs as {host, unit, release, refusals}: on the first host that runs an instance of the service.

    The hosts were asked by M(uptier.platform.app_release_info) before. `refusals` are all reasons why it does not run.
    """
    name = str(request["application"])
    asked = command.Request(
        application=name,
        command=str(request["command"]),
        service=str(request["service"]),
        host=str(request["host"]),
        hosts=tuple(str(host) for host in hosts),
        cut=bool(request["cut"]),
    )
    told = {host: deploy.host_of(host, one) for host, one in _told(name, hostvars, hosts).items()}
    found = command.choose(asked, application.completed(applications), told)
    return {**vars(found), "refusals": list(found.refusals)}


def _told(name: str, hostvars: Mapping[str, Any], hosts: list[str]) -> dict[str, Any]:
    """Return what each host that was asked has told of an application."""
    seen = {host: hostvars[host].get("__app_seen") or {} for host in hosts}
    return {host: one["applications"][name] for host, one in seen.items() if name in one.get("applications", {})}


class FilterModule:
    """Filters of uptier.platform over applications."""

    def filters(self) -> dict[str, Any]:
        return {
            "applications": applications,
            "app_canary": canary,
            "app_command_choice": command_choice,
            "app_deploy_plan": deploy_plan,
            "app_deploy_failure": deploy_failure,
            "app_files": over_applications(application.files),
            "app_jobs": over_applications(application.jobs),
            "app_metric_paths": over_applications(application.metric_paths),
            "app_host_header": application.host_header,
            "app_pools": over_applications(application.pools),
            "app_probe_name": domains.name_under,
            "app_questions": questions,
            "app_release_report": release_report,
            "app_release_services": readable(application.release_services),
            "app_route_rules": application.route_rules,
            "app_routes": over_applications(application.routes),
            "app_server_name": server_name,
            "app_timers": over_applications(application.timers),
            "app_unclaimed": over_applications(application.unclaimed),
            "app_units": over_applications(application.units),
        }
