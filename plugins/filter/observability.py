# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Filters from the inventory to what Prometheus asks and which alerts it knows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml
from ansible.errors import AnsibleFilterError
from ansible_collections.uptier.platform.plugins.plugin_utils import alerts, application, ports, scrape, topology

RULES = Path(__file__).resolve().parents[2] / "roles" / "prometheus" / "files" / "rules"
GROUPS = ("gateway", "app", "postgresql", "etcd", "redis", "monitoring")


def scrape_jobs(
    groups: Any,
    hostvars: Any,
    applications: list[dict[str, Any]],
    redis_nodes: list[dict[str, Any]] | None = None,
    left_out: list[str] | None = None,
    virtual_address: str = "",
    external: list[dict[str, Any]] | None = None,
    prober: str = "",
    domain: str = "internal",
    managed_postgresql: str = "",
) -> list[dict[str, Any]]:
    """Derive every scrape job from the inventory; jobs without targets are left out."""
    prober = prober or f"127.0.0.1:{ports.default('blackbox-exporter')}"
    numbers = ports.Numbers(hostvars)
    try:
        everyone = topology.members(groups.get("all", []), hostvars, domain)
        by_name = {member["name"]: member for member in everyone}
        members_of = {group: [by_name[str(host)] for host in groups.get(group, [])] for group in GROUPS}
    except topology.TopologyError as error:
        raise AnsibleFilterError(str(error)) from error
    groups_of: dict[str, list[str]] = {}
    for group in groups:
        for host in groups[group]:
            groups_of.setdefault(str(host), []).append(str(group))
    completed = application.completed(applications)
    try:
        jobs = [
            scrape.node_job(everyone, groups_of, numbers),
            *scrape.host_jobs(members_of, numbers, left_out or []),
            scrape.managed_postgres_job(members_of["monitoring"], managed_postgresql, numbers),
            scrape.redis_job(everyone, redis_nodes or [], numbers),
            scrape.application_job(members_of["app"], completed, numbers),
            scrape.service_probes(members_of["gateway"], virtual_address, completed, prober),
            scrape.external_probes(external or [], prober),
        ]
    except ports.PortError as error:
        raise AnsibleFilterError(str(error)) from error
    return [job for job in jobs if job["targets"]]


def alert_rule_files(
    names: list[str],
    thresholds: dict[str, Any],
    conditions: list[str] | None = None,
    runbooks: str = "",
    directory: str = "/etc/prometheus/rules",
    extra: list[dict[str, Any]] | None = None,
) -> list[dict[str, Any]]:
    """Return one entry for config_files for each set of rules, and for each set that the user adds."""
    files = []
    for name in names:
        path = RULES / f"{name}.yml"
        if not path.is_file():
            there = ", ".join(sorted(item.stem for item in RULES.glob("*.yml")))
            raise AnsibleFilterError(f"prometheus_rule_sets: there is no set {name!r}; there are {there}.")
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
        try:
            expanded = alerts.expand(document, name, thresholds, conditions or [], runbooks)
        except alerts.AlertError as error:
            raise AnsibleFilterError(str(error)) from error
        files.append(_rule_file(directory, name, expanded))
    for item in extra or []:
        files.append(_rule_file(directory, f"extra-{item['name']}", {"groups": item["groups"]}))
    return files


def _rule_file(directory: str, name: str, document: dict[str, Any]) -> dict[str, Any]:
    text = yaml.safe_dump(document, sort_keys=False, allow_unicode=True, width=1000)
    return {
        "dest": f"{directory}/{name}.yml",
        "src": "rules.yml.j2",
        "vars": {"__prometheus_rules": text},
        "validate": "promtool check rules %s",
    }


def dashboard_files(paths: list[str], directory: str) -> list[dict[str, Any]]:
    """Return one entry for config_files for each dashboard of the user; a file that is no JSON is named."""
    files = []
    for path in paths:
        try:
            text = Path(path).read_text(encoding="utf-8")
            json.loads(text)
        except (OSError, ValueError) as error:
            raise AnsibleFilterError(f"grafana_extra_dashboards: {path}: {error}") from error
        files.append({"dest": f"{directory}/extra-{Path(path).name}", "content": text})
    return files


class FilterModule:
    """Filters of uptier.platform for observability."""

    def filters(self) -> dict[str, Any]:
        return {
            "dashboard_files": dashboard_files,
            "channels_lacking": alerts.channels_lacking,
            "scrape_jobs": scrape_jobs,
            "alert_rule_files": alert_rule_files,
            "alert_rule_sets": scrape.rule_sets,
        }
