# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What Prometheus asks: scrape jobs derived from inventory groups and applications. Pure functions.

A job is {name, tls, targets}; a target is {address, labels}. Path and parameters of a target are the labels that
Prometheus itself reads (__metrics_path__, __param_x), so no relabelling is needed and each target can be read alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ansible_collections.uptier.platform.plugins.plugin_utils import domains
from ansible_collections.uptier.platform.plugins.plugin_utils.application import Application, all_domains, metric_paths, routed_services
from ansible_collections.uptier.platform.plugins.plugin_utils.ports import Numbers, Port, table

# Jobs of the table of ports that are more than one target for each host of a group: each has its function here.
OWN_JOBS = ("node", "redis")

Member = Mapping[str, str]
Job = dict[str, Any]


def _labels(member: Member, /, **more: str) -> dict[str, str]:
    labels = {"instance": member["name"], **more}
    if member.get("zone"):
        labels["zone"] = member["zone"]
    return labels


def _target(member: Member, listens: int, path: str = "/metrics", /, **more: str) -> dict[str, Any]:
    labels = _labels(member, **more)
    if path != "/metrics":
        labels["__metrics_path__"] = path
    return {"address": f"{member['fqdn']}:{listens}", "labels": labels}


def _job(name: str, targets: list[dict[str, Any]], tls: bool = True) -> Job:
    return {"name": name, "tls": tls, "targets": targets}


def host_job_ports() -> list[Port]:
    """Return the ports that are asked for themselves, in the order of the jobs."""
    return [port for port in table().values() if port.job and port.job not in OWN_JOBS]


def node_job(members: Iterable[Member], groups_of: Mapping[str, Iterable[str]], numbers: Numbers) -> Job:
    """Every host, with its groups as ",a,b," so that one group can be matched in a rule."""
    targets = []
    for member in members:
        names = sorted(set(groups_of.get(member["name"], ())) - {"all", "ungrouped"})
        targets.append(_target(member, numbers.on(member["name"], "node-exporter"), groups=f",{','.join(names)}," if names else ""))
    return _job("node", targets)


def host_jobs(members_of: Mapping[str, list[Member]], numbers: Numbers, left_out: Iterable[str] = ()) -> list[Job]:
    """One job for each component of which there are hosts."""
    jobs, unwanted = [], set(left_out)
    for port in host_job_ports():
        members = [member for group in port.groups for member in members_of.get(group, [])]
        if port.job not in unwanted and members:
            jobs.append(_job(port.job, [_target(member, numbers.on(member["name"], port.name)) for member in members]))
    return jobs


def managed_postgres_job(monitors: Iterable[Member], host: str, numbers: Numbers) -> Job:
    """A provider's server, under its own name, by the exporter of the first monitoring host."""
    first = next(iter(monitors), None)
    if first is None or not host:
        return _job("postgres", [])
    port = numbers.on(first["name"], "postgres-exporter")
    return _job("postgres", [{"address": f"{first['fqdn']}:{port}", "labels": {"instance": host}}])


def redis_job(members: Iterable[Member], nodes: Iterable[Mapping[str, Any]], numbers: Numbers) -> Job:
    """redis_exporter is asked once for each process on its host."""
    by_name = {member["name"]: member for member in members}
    targets = []
    for node in nodes:
        member, port = by_name[str(node["name"])], str(node["port"])
        where = f"rediss://{member['fqdn']}:{port}"
        # The address says whether a replica's master is on the same host.
        labels = {"port": port, "address": member["address"], "__param_target": where}
        targets.append(_target(member, numbers.on(member["name"], "redis-exporter"), "/scrape", **labels))
    return _job("redis", targets)


def application_job(members: Iterable[Member], applications: Iterable[Application], numbers: Numbers) -> Job:
    """Every instance of every service that has metrics, through the router of its host."""
    entries = metric_paths(applications)
    targets = [
        _target(
            member,
            numbers.on(member["name"], "router-metrics"),
            entry["route"],
            application=entry["application"],
            service=entry["service"],
            index=str(entry["index"]),
        )
        for member in members
        for entry in entries
    ]
    return _job("app", targets)


def _health_path(application: Application, domain: str) -> str:
    for service in routed_services(application):
        if service["health"] and domains.best(domain, service["domains"]):
            return service["health"]
    return "/"


def _probe(instance: str, url: str, module: str, prober: str, /, **labels: str) -> dict[str, Any]:
    return {
        "address": prober,
        "labels": {
            "instance": instance,
            "__metrics_path__": "/probe",
            "__param_target": url,
            "__param_module": module,
            **labels,
        },
    }


def service_probes(gateways: Iterable[Member], virtual_address: str, applications: Iterable[Application], prober: str) -> Job:
    """Each domain through each gateway, and through the shared address where there is one."""
    doors = [(str(member["name"]), str(member["address"])) for member in gateways]
    if virtual_address:
        doors.append(("virtual-address", virtual_address.partition("/")[0]))
    targets = [
        _probe(
            name,
            f"https://{address}{_health_path(application, domain)}",
            "https_service",
            prober,
            application=application["name"],
            vhost=domain,
            __param_hostname=domains.name_under(domain),
        )
        for application in applications
        for domain in all_domains(application)
        for name, address in doors
    ]
    return _job("probe-service", targets, tls=False)


def external_probes(probes: Iterable[Mapping[str, Any]], prober: str) -> Job:
    """Interfaces of others on which the platform depends."""
    targets = [
        _probe(
            str(probe["name"]),
            str(probe["url"]),
            str(probe.get("module", "https_external")),
            prober,
            kind=str(probe.get("kind", "external")),
        )
        for probe in probes
    ]
    return _job("probe-external", targets, tls=False)


def rule_sets(jobs: Iterable[Mapping[str, Any]], groups: Mapping[str, Iterable[str]]) -> list[str]:
    """Which sets of alert rules apply: those of components that are asked."""
    asked = {str(job["name"]) for job in jobs if job.get("targets")}
    names = ["meta", "hosts", "security"]
    by_job = {
        "gateway": "gateway",
        "haproxy": "haproxy",
        "app": "application",
        "pgbouncer": "pgbouncer",
        "postgres": "postgresql",
        "etcd": "etcd",
        "redis": "redis",
        "probe-service": "probes",
        "loki": "loki",
    }
    names += [rules for job, rules in by_job.items() if job in asked]
    if "probe-external" in asked and "probes" not in names:
        names.append("probes")
    if list(groups.get("backup") or []):
        names.append("backup")
    if "app" in asked:
        names.append("business")
    return names
