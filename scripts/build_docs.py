# SPDX-License-Identifier: GPL-3.0-or-later
"""Builds the documentation: the pages of docs/, and a reference made from what the code itself says.

Roles come from their argument_specs, modules and filters from ansible-doc, flows, tiers and Debian releases from their data. The result is
build/docs/html. Nothing is fetched; a broken link or reference fails the build.
"""

from __future__ import annotations

import argparse
import importlib
import inspect
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[1]
COLLECTION = "uptier.platform"
COLLECTIONS = ROOT / ".cache" / "collections"
SOURCE = ROOT / "build" / "docs" / "source"
TARGET = ROOT / "build" / "docs" / "html"
MARKUP = (
    (re.compile(r"\b(?:M|P)\(([^)#]+)(?:#\w+)?\)"), r"`\1`"),
    (re.compile(r"\b(?:O|V|RV|C|E)\(((?:[^()\\]|\\.|\([^()]*\))*)\)"), r"`\1`"),
    (re.compile(r"\bB\(([^)]*)\)"), r"**\1**"),
    (re.compile(r"\bI\(([^)]*)\)"), r"*\1*"),
    (re.compile(r"\bL\(([^,]*),\s*([^)]*)\)"), r"[\1](\2)"),
    (re.compile(r"\bU\(([^)]*)\)"), r"<\1>"),
    (re.compile(r"\bHORIZONTALLINE\b"), ""),
)


def load(path: Path) -> Any:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def prose(text: str | list[str] | None) -> str:
    """Turn Ansible's markup into Markdown."""
    joined = "\n\n".join([text] if isinstance(text, str) else text or [])
    for pattern, replacement in MARKUP:
        joined = pattern.sub(replacement, joined)
    return joined


def cell(text: Any) -> str:
    """Return text that keeps to its cell of a table."""
    return " ".join(str(text).replace("|", r"\|").split())


def literal(value: Any) -> str:
    if value is None:
        return ""
    text = value if isinstance(value, str) else json.dumps(value)
    if text == "":
        return "`''`"
    ticks = "``" if "`" in text else "`"
    return f"{ticks}{cell(text)}{ticks}"


def table(heads: list[str], rows: list[list[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def flatten(options: Mapping[str, Any], trail: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield each option with its path; the keys of a list of dictionaries carry `[]`."""
    for name, option in options.items():
        yield f"{trail}{name}", option
        inner = option.get("options") or option.get("suboptions") or option.get("contains")
        if inner:
            yield from flatten(inner, f"{trail}{name}{'[]' if option.get('type') == 'list' else ''}.")


def kind(option: Mapping[str, Any]) -> str:
    text = str(option.get("type", "str"))
    return f"{text} of {option['elements']}" if option.get("elements") else text


def variables(options: Mapping[str, Any], defaults: Mapping[str, Any]) -> str:
    rows = []
    for where, option in flatten(options):
        description = prose(option.get("description"))
        if option.get("choices"):
            description += f" One of {', '.join(literal(choice) for choice in option['choices'])}."
        default = literal(option.get("default", defaults.get(where)))
        shown = "<br>required" if option.get("required") else f"<br>default: {default}" if default else ""
        rows.append([f"`{where}`<br>{kind(option)}", cell(description) + shown])
    return table(["variable", "meaning"], rows)


def role_page(role: Path) -> str:
    specs = load(role / "meta" / "argument_specs.yml")["argument_specs"]
    defaults = load(role / "defaults" / "main.yml") or {}
    readme = role / "README.md"
    about = readme.read_text(encoding="utf-8").split("\n", 1)[1] if readme.exists() else ""
    # Headings of the README become parts of this page; relative links of a repository do not hold here.
    about = re.sub(r"\]\((?!https?://)[^)]*\)", "]", re.sub(r"^#", "##", about, flags=re.M))
    about = re.sub(r"\[([^\]]*)\](?!\()", r"\1", about) if "](" not in about else about
    parts = [f"# {role.name}", about.strip()]
    for entry, spec in specs.items():
        options = spec.get("options") or {}
        parts.append("## Variables" if entry == "main" else f"## Variables of tasks_from: {entry}")
        parts.append(prose(spec.get("description") or spec.get("short_description")))
        parts.append(variables(options, defaults if entry == "main" else {}) if options else "It takes none.")
    return "\n\n".join(parts) + "\n"


def ansible_doc(plugin_type: str) -> dict[str, Any]:
    environment = {**os.environ, "ANSIBLE_COLLECTIONS_PATH": str(COLLECTIONS), "ANSIBLE_NOCOLOR": "1"}
    command = [str(Path(sys.executable).with_name("ansible-doc")), "-t", plugin_type, "--json"]
    listed = subprocess.run([*command, "--list", COLLECTION], env=environment, capture_output=True, text=True, check=True)
    names = sorted(name for name in json.loads(listed.stdout) if name.startswith(f"{COLLECTION}."))
    if not names:
        return {}
    shown = subprocess.run([*command, *names], env=environment, capture_output=True, text=True, check=False)
    if shown.returncode:
        sys.exit(f"ansible-doc could not read the {plugin_type}s: {shown.stderr.strip()}")
    return json.loads(shown.stdout)


def filters() -> dict[str, str]:
    """Return the filters and the first lines of their descriptions."""
    from ansible.utils.collection_loader import _collection_finder

    _collection_finder._AnsibleCollectionFinder(paths=[str(COLLECTIONS)])._install()
    found = {}
    for path in sorted((ROOT / "plugins/filter").glob("*.py")):
        module = importlib.import_module(f"ansible_collections.{COLLECTION}.plugins.filter.{path.stem}")
        for name, function in module.FilterModule().filters().items():
            found[name] = (inspect.getdoc(function) or inspect.getdoc(module) or "").partition("\n\n")[0]
    return dict(sorted(found.items()))


def plugin_page(name: str, described: Mapping[str, Any]) -> str:
    doc = described["doc"]
    parts = [f"# {name.removeprefix(COLLECTION + '.')}", f"*{prose(doc.get('short_description'))}*", prose(doc.get("description"))]
    if doc.get("options"):
        parts += ["## Options", variables(doc["options"], {})]
    if doc.get("attributes"):
        rows = [[f"`{key}`", value.get("support", ""), cell(prose(value.get("details")))] for key, value in doc["attributes"].items()]
        parts += ["## Attributes", table(["attribute", "support", "details"], rows)]
    if described.get("examples"):
        parts += ["## Examples", f"```yaml+jinja\n{described['examples'].strip()}\n```"]
    if described.get("return"):
        rows = [
            [f"`{where}`", kind(value), cell(value.get("returned", "")), cell(prose(value.get("description")))]
            for where, value in flatten(described["return"])
        ]
        parts += ["## Results", table(["key", "type", "returned", "meaning"], rows)]
    return "\n\n".join(part for part in parts if part) + "\n"


def index(title: str, about: str, pages: Mapping[str, str]) -> str:
    rows = [[f"[{name}]({name}.md)", cell(text)] for name, text in pages.items()]
    tree = "```{toctree}\n:hidden:\n" + "\n".join(pages) + "\n```"
    return "\n\n".join([f"# {title}", about, table(["name", "what it does"], rows), tree]) + "\n"


PROTECTION = {"tls": "TLS", "mutual": "TLS, both sides verified", "ssh": "SSH", "none": "none"}
BINDS = {"loopback": "loopback", "address": "the host's address", "both": "the host's address and loopback", "every": "every address"}


def flows_page() -> str:
    tables = load(ROOT / "roles/platform/vars/flows.yml")
    ports = {port["name"]: port for port in tables["platform_ports"]}

    def number(port: Mapping[str, Any]) -> str:
        first = port.get("port") or ports[port["of"]]["port"] + port["plus"]
        return f"{first} and up" if port.get("processes") else str(first)

    def moved(port: Mapping[str, Any]) -> str:
        if port.get("variable"):
            return f"`{port['variable']}`"
        return f"{port['plus']} above {ports[port['of']]['who']}" if port.get("of") else f"fixed: {port['fixed']}"

    def protection(flow: Mapping[str, Any]) -> str:
        kinds = [ports[name]["tls"] for name in flow.get("ports", ())] or [flow["tls"]]
        return "; ".join(PROTECTION[kind] for kind in dict.fromkeys(kinds))

    flows = [
        [
            f"`{flow['name']}`",
            flow["from"],
            flow["to"],
            "<br>".join(f"{number(ports[name])} {ports[name]['who']}" for name in flow.get("ports", ())) or flow["protocol"],
            protection(flow),
            cell(flow["why"]),
        ]
        for flow in tables["platform_flows"]
    ]
    listeners = [
        [number(port), cell(port["who"]), ", ".join(port["groups"]), BINDS[port["bind"]], PROTECTION[port["tls"]], cell(moved(port))]
        for port in ports.values()
    ]
    about = (
        "Everything that may be sent between two hosts. What is not in this table is dropped: the firewall is made from it, "
        "and a test tries every port of every host from a host of each group.\n\n"
        "*from* and *to* are groups of the inventory; *admin* is the controller and `platform_admin_addresses`, *all* every host of "
        "the platform, *any* the world. Hosts that stand in several groups have the flows of all of them. Ports are those of the "
        "platform as it comes; the table of ports below says what moves each."
    )
    about_ports = (
        "Everything that listens on a host. Set the variable in group_vars for the hosts that listen: all that connects there, the "
        "firewall, the metrics and preflight follow. On a running platform, moving a port interrupts what uses it until the run has "
        "been on all hosts."
    )
    return (
        "\n\n".join(
            [
                "# Flows and ports",
                about,
                table(["flow", "from", "to", "port", "protected by", "why"], flows),
                "## Ports",
                about_ports,
                table(["port", "who listens", "on hosts of", "at", "protected by", "moved by"], listeners),
            ]
        )
        + "\n"
    )


def tiers_page() -> str:
    tiers = load(ROOT / "roles/platform/vars/tiers.yml")["platform_tiers"]
    keys = list(dict.fromkeys(key for profile in tiers.values() for key in profile))
    rows = [[f"`{key}`", *(literal(profile.get(key)) for profile in tiers.values())] for key in keys]
    about = (
        "The numbers in which the tiers differ. Where a role has a variable of the same name, its default is this number, and a value "
        "in the inventory wins. Memory shares are fractions of a host's memory; `_min` and `_max` are what preflight asks "
        "of the inventory."
    )
    return "\n\n".join(["# Tiers", about, table(["number", *tiers], rows)]) + "\n"


def releases_page() -> str:
    releases = load(ROOT / "roles/platform/vars/releases.yml")["platform_releases"]
    names = list(dict.fromkeys(name for carried in releases.values() for name in carried))
    rows = [[name, *(literal(carried.get(name)) for carried in releases.values())] for name in names]
    about = (
        "What a host may run, and what it carries of the programs whose version matters here. Members of one PostgreSQL, Redis or etcd "
        "cluster run one release, and so do the database hosts and the host that keeps their backups."
    )
    vendors = load(ROOT / "roles/platform/vars/vendors.yml")["platform_vendors"]
    packages = [
        [f"`{package}`", f"`{version}`", vendor["title"], vendor["repository"]["url"], "<br>".join(vendor["repository"]["fingerprints"])]
        for vendor in vendors.values()
        for package, version in vendor["tested"].items()
    ]
    foreign = (
        "What Debian does not have comes from its vendor's apt repository, in the version that its configuration was written for, and signed "
        "by a key with this fingerprint. `platform_grafana_repository` names a mirror, `grafana_version` and its like another version."
    )
    return (
        "\n\n".join(
            [
                "# Debian releases",
                about,
                table(["", *(f"Debian {release}" for release in releases)], rows),
                "## From a vendor",
                foreign,
                table(["package", "version", "vendor", "repository", "fingerprint"], packages),
            ]
        )
        + "\n"
    )


def write(path: str, text: str) -> None:
    target = SOURCE / path
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(text, encoding="utf-8")


def generate() -> None:
    """Put the reference beside the written pages."""
    write("reference/flows.md", flows_page())
    write("reference/tiers.md", tiers_page())
    write("reference/releases.md", releases_page())
    roles = {path.parents[1].name: path.parents[1] for path in sorted((ROOT / "roles").glob("*/meta/argument_specs.yml"))}
    for name, role in roles.items():
        write(f"reference/roles/{name}.md", role_page(role))
    short = {
        name: prose(load(role / "meta/argument_specs.yml")["argument_specs"]["main"].get("short_description"))
        for name, role in roles.items()
    }
    about = "Each works alone and takes what it needs through its own variables. `ansible-doc -t role` shows the same."
    write("reference/roles/index.md", index("Roles", about, short))
    plugins = ansible_doc("module")
    pages = {}
    for full, described in plugins.items():
        name = full.removeprefix(f"{COLLECTION}.")
        pages[name] = prose(described["doc"].get("short_description"))
        write(f"reference/modules/{name}.md", plugin_page(full, described))
    about = f"`ansible-doc {COLLECTION}.NAME` shows the same. All support check mode and show what would differ."
    write("reference/modules/index.md", index("Modules", about, pages))
    about = "Pure functions over the inventory, with which the defaults of the roles are derived."
    rows = [[f"`{name}`", cell(text)] for name, text in filters().items()]
    write("reference/filters.md", "\n\n".join(["# Filters", about, table(["filter", "what it does"], rows)]) + "\n")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--no-html", action="store_true", help="write the sources to build/docs/source and stop")
    args = parser.parse_args()
    shutil.rmtree(SOURCE, ignore_errors=True)
    shutil.copytree(ROOT / "docs", SOURCE)
    generate()
    if args.no_html:
        return 0
    shutil.rmtree(TARGET, ignore_errors=True)
    command = [sys.executable, "-m", "sphinx", "-b", "html", "-W", "--keep-going", "-q", "-d", str(TARGET.parent / "doctrees")]
    code = subprocess.run([*command, str(SOURCE), str(TARGET)], check=False).returncode
    if code == 0:
        print(f"The documentation is in {TARGET.relative_to(ROOT)}/index.html")
    return code


if __name__ == "__main__":
    sys.exit(main())
