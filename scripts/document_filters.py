# SPDX-License-Identifier: GPL-3.0-or-later
"""Writes plugins/filter/NAME.yml, from which ansible-doc and the reference learn what a filter does.

What stands there comes from the filter's own signature and docstring; only what parameters mean is kept here, because the
same few go through many filters. `--check` writes nothing and fails where a file is old; the unit tests call it.
"""

from __future__ import annotations

import argparse
import importlib
import inspect
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "plugins" / "filter"
COLLECTION = "uptier.platform"
AUTHOR = "The uptier.platform authors (@uptier)"
# What a parameter means wherever it occurs; FILTER.PARAMETER where it differs.
MEANINGS = {
    "accounts": "Users of the cache.",
    "account": "A user of the cache.",
    "api_port": "Port of Patroni's REST interface.",
    "applications": "The applications as C(platform_applications) describes them.",
    "given": "The applications as C(platform_applications) describes them, complete or not.",
    "budget": "Connections that one server keeps for applications.",
    "channels": "Notification channels.",
    "command": "A command with its arguments.",
    "commands": "Command rules for users without own ones.",
    "conditions": "Conditions that hold on this platform; rules that need another one are left out.",
    "connections": "The most connections.",
    "cpus": "Processors of the host.",
    "directory": "Where the files are written.",
    "waf": "Mode of the application firewall for sites that say nothing.",
    "origins": "Origins, with a star for all names below one, or alone for all.",
    "keys": "API keys with C(name), C(key) and C(sets).",
    "zone_rate.gateways": "Number of gateways that share the requests.",
    "zone_burst.gateways": "Number of gateways that share the requests.",
    "burst": "Requests that may come at once beyond the rate.",
    "site": "Name of a site.",
    "maintenance_files.state": "V(on) closes the site, V(off) opens it.",
    "allow": "Addresses that may pass.",
    "systemd_command.directory": "Directory of the release, for programs with a relative path.",
    "systemd_environment.name": "Name of the environment variable.",
    "now": "What a file holds.",
    "differences.wanted": "What the file shall hold.",
    "patterns": "Regular expressions by name.",
    "disk": "Kind of disk that holds the data: ssd, nvme or hdd.",
    "disk_mb": "Size of the file system for WAL, in MiB.",
    "domain": "Domain of internal names.",
    "app_probe_name.domain": "A domain, or a wildcard.",
    "application": "An application as P(uptier.platform.applications#filter) returns it.",
    "external": "Targets that are probed from outside, given by the user.",
    "extra": "What the user adds.",
    "facts": "Ansible's facts of the host.",
    "interface_of.address": "Address of the host.",
    "factor": "Multiplier of the rate.",
    "found": "Services as P(uptier.platform.app_units#filter) returns them.",
    "grafana_domain": "Domain under which Grafana is served; empty leaves it out.",
    "groups": "The groups of the inventory.",
    "headers": "Template of the header snippet.",
    "host": "Name of a host in the inventory.",
    "hosts": "Names of hosts in the inventory.",
    "app_pools.hosts": "Number of hosts that keep pools.",
    "hostvars": "The variables of all hosts.",
    "jobs": "Scrape jobs as P(uptier.platform.scrape_jobs#filter) returns them.",
    "instance": "Number of the instance, which is its port.",
    "key": "Name of the number.",
    "left_out": "Names of jobs that are not wanted.",
    "managed": "The provider's server as C(platform_managed_postgresql) describes it.",
    "managed_redis.managed": "The provider's Redis as C(platform_managed_redis) describes it.",
    "managed_redis.key": "Name of the property.",
    "managed_postgresql": "Name of the PostgreSQL server that a provider runs; empty where the platform has its own.",
    "managed_postgresql.key": "Name of the property.",
    "otherwise": "What to return where the platform has a server of its own.",
    "masters": "Number of masters.",
    "maximum": "Connections that the server accepts.",
    "maxmemory_mb": "Memory for the data of one process, in MiB.",
    "members": "Hosts as P(uptier.platform.members#filter) returns them.",
    "memory_mb": "Memory to share out, in MiB.",
    "name": "Name of the application.",
    "app_environment_line.name": "Name of the environment variable.",
    "port_of.name": "Name of the port in the table of ports, for example postgresql.",
    "endpoints.name": "Name of the port in the table of ports, for example alertmanager.",
    "names": "Names of the sets of rules.",
    "needs": "The keys that each kind of channel cannot do without.",
    "parameters": "Settings of PostgreSQL by name.",
    "password": "Password of the user.",
    "passwords": "Passwords by user name.",
    "paths": "Paths of files on the controller.",
    "per_minute": "Requests a minute.",
    "pooled": "Connections that all pools may take together.",
    "port": "Port of the first process on a host.",
    "redis_nodes.port": "Port of the first process on each host.",
    "patroni_members.port": "Port of PostgreSQL.",
    "prober": "Address of the exporter that probes.",
    "redis_nodes": "The processes of the cache as P(uptier.platform.redis_layout#filter) returns them.",
    "postgresql_connections.hosts": "Number of hosts that keep pools.",
    "tested_version.package": "Name of the package.",
    "withheld.hosts": "Names of the hosts that are asked.",
    "withheld.results": "Names of the variables that hold results of M(uptier.platform.vendor_package).",
    "release_value.name": "Name of the program, or codename.",
    "release_value.release": "Number of the Debian release.",
    "replicas": "Number of replicas of each master.",
    "request": "What is asked for: C(application), C(version), C(release), C(strategy) and C(back).",
    "plan": "A plan as P(uptier.platform.app_deploy_plan#filter) returns it.",
    "gateways": "Names of the hosts that verify a release.",
    "times": "How long things may take, in seconds: C(healthy), C(drain), C(stop), C(migrate), C(verify) and C(patience).",
    "app_canary.plan": "A plan as P(uptier.platform.app_deploy_plan#filter) returns it.",
    "app_canary.share": "Part of the requests that it got, in percent.",
    "app_canary.limits": "What it must not exceed: C(requests) that are needed, C(errors) in points of a percentage, C(slower) in times.",
    "routers": "Application hosts as P(uptier.platform.members#filter) returns them.",
    "router_port": "Port of the routers.",
    "gateway_port": "Port at which a gateway asks itself; 0 for not at all.",
    "reserved": "Connections that are kept from the pools.",
    "routes": "Routes as P(uptier.platform.app_routes#filter) returns them.",
    "second": "The second repository as C(pgbackrest_second_repository) describes it.",
    "first_path": "Directory of the first repository.",
    "version": "Release of pgBackRest on the repository's host.",
    "cipher_pass": "Key of the first repository, for where the second has none of its own.",
    "retention_days": "For how many days the first keeps full backups, alike.",
    "key_file": "Where the private key for SFTP lies.",
    "runbooks": "Address below which runbooks are found; it is in every alert.",
    "settings": "What differs from the defaults, by site.",
    "share": "Part of the memory that all services may take together.",
    "sites": "Sites as P(uptier.platform.gateway_sites#filter) returns them.",
    "template": "Template of the server block.",
    "thresholds": "Numbers at which alerts fire, by name.",
    "tier": "Name of the tier.",
    "value": "The value.",
    "variable": "Name of the variable, for messages.",
    "virtual_address": "The address that the gateways share; empty when there is none.",
    "wanted": "Databases as P(uptier.platform.databases#filter) returns them.",
    "workers": "Background workers of the server.",
    "workload": "What the database is used for: oltp, mixed or analytics.",
    "user": "User of the database.",
}
# Dictionaries whose keys plugin_utils/application.py describes.
TYPED = ("Application", "Unit")
SCALARS = {"str": "str", "int": "int", "float": "float", "bool": "bool", "Any": "any"}


def filters() -> Iterator[tuple[str, Callable[..., Any]]]:
    """Yield every filter of the collection with its function."""
    # Where the tests run, the collection is importable already.
    from ansible.utils.collection_loader import AnsibleCollectionConfig, _collection_finder

    if AnsibleCollectionConfig.collection_finder is None:
        _collection_finder._AnsibleCollectionFinder(paths=[str(ROOT / ".cache" / "collections")])._install()
    for path in sorted(FOLDER.glob("*.py")):
        module = importlib.import_module(f"ansible_collections.{COLLECTION}.plugins.filter.{path.stem}")
        yield from module.FilterModule().filters().items()


def typed(annotation: str) -> dict[str, str]:
    """Turn an annotation into Ansible's type and elements."""
    text = annotation.replace(" | None", "").strip("'\" ")
    if text in SCALARS:
        return {"type": SCALARS[text]}
    container = re.fullmatch(r"(list|Iterable|Sequence)\[(.*)\]", text)
    if container:
        inner = typed(container[2])["type"]
        return {"type": "list", "elements": inner}
    if text.startswith(("dict", "Mapping")) or text in TYPED:
        return {"type": "dict"}
    raise SystemExit(f"No type of Ansible is known for the annotation {annotation!r}.")


def sentence(text: str) -> str:
    return " ".join(text.split())


def described(name: str, function: Callable[..., Any]) -> dict[str, Any]:
    """Return the documentation of one filter."""
    doc = inspect.getdoc(function)
    if not doc:
        raise SystemExit(f"The filter {name} has no docstring: say in its first line what it returns.")
    first, *more = [sentence(part) for part in doc.split("\n\n")]
    options: dict[str, Any] = {}
    signature = inspect.signature(function)
    positional = list(signature.parameters)[1:]
    for number, (parameter, details) in enumerate(signature.parameters.items()):
        meaning = MEANINGS.get(f"{name}.{parameter}", MEANINGS.get(parameter))
        if meaning is None:
            raise SystemExit(f"The filter {name}: say in MEANINGS of scripts/document_filters.py what {parameter} is.")
        kind = {"type": "dict"} if parameter in ("hostvars", "groups") else typed(str(details.annotation))
        option: dict[str, Any] = {"description": meaning, **kind}
        if details.default is inspect.Parameter.empty:
            option["required"] = True
        elif details.default is not None:
            option["default"] = details.default
        options["_input" if number == 0 else parameter] = option
    return {
        "DOCUMENTATION": {
            "name": name,
            "author": [AUTHOR],
            "version_added": "0.1.0",
            "short_description": first.removesuffix("."),
            "description": [f"{first.removesuffix('.')}.", *more],
            **({"positional": ", ".join(positional)} if positional else {}),
            "options": options,
        },
        "EXAMPLES": f'# {first}\nresult: "{{{{ value | {COLLECTION}.{name}{arguments(positional, signature)} }}}}"\n',
        "RETURN": {"_value": {"description": first, **typed(str(signature.return_annotation))}},
    }


def arguments(positional: list[str], signature: inspect.Signature) -> str:
    needed = [name for name in positional if signature.parameters[name].default is inspect.Parameter.empty]
    return f"({', '.join(needed)})" if needed else ""


class Dumper(yaml.SafeDumper):
    """Block text for what has lines."""


Dumper.add_representer(
    str, lambda dumper, text: dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)
)


class Indented(Dumper):
    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        return super().increase_indent(flow, False)


def text_of(name: str, function: Callable[..., Any]) -> str:
    head = "---\n# Written by scripts/document_filters.py from the filter's signature and docstring.\n"
    return head + yaml.dump(described(name, function), Dumper=Indented, sort_keys=False, width=120, allow_unicode=True)


def stale() -> dict[Path, str | None]:
    """Return the files that differ, with what they should hold; None for those of no filter."""
    wanted = {FOLDER / f"{name}.yml": text_of(name, function) for name, function in filters()}
    old: dict[Path, str | None] = {path: None for path in FOLDER.glob("*.yml") if path not in wanted}
    for path, text in wanted.items():
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            old[path] = text
    return old


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing, fail where a file is old")
    old = stale()
    if parser.parse_args().check:
        for path in sorted(old):
            print(f"{path.relative_to(ROOT)} is out of date: run scripts/document_filters.py", file=sys.stderr)
        return int(bool(old))
    for path, text in old.items():
        if text is None:
            path.unlink()
        else:
            path.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
