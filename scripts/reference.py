# SPDX-License-Identifier: GPL-3.0-or-later
"""Writes the pages that are kept in the repository and say what the code says: `make reference`.

- README of each role: its first paragraph and its table of variables, from meta/argument_specs.yml and defaults/main.yml
- docs/reference/: the tables of roles, modules, filters, tiers, Debian releases and flows
- docs/decisions/index.md and docs/runbooks/index.md: their lists
- docs/explanation/architecture.md: the picture of the imports

`--check` writes nothing and fails where a page is out of date; a unit test does the same.
"""

from __future__ import annotations

import argparse
import ast
import importlib
import inspect
import json
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import imports
import yaml

ROOT = Path(__file__).resolve().parents[1]
COLLECTION = "uptier.platform"
COLLECTIONS = ROOT / ".cache" / "collections"
HEAD = "<!-- Written by `make reference`; a unit test compares it with the code. -->"
# A longer default is not shown in a table; the file that has it is named.
LONGEST_DEFAULT = 70
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
    """Return the data of a YAML file."""
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
    """Return a value as code; nothing for none."""
    if value is None:
        return ""
    text = value if isinstance(value, str) else json.dumps(value)
    if text == "":
        return "`''`"
    ticks = "``" if "`" in text else "`"
    return f"{ticks}{cell(text)}{ticks}"


def table(heads: list[str], rows: list[list[str]]) -> str:
    """Return a Markdown table."""
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
    """Return the type of an option in words."""
    text = str(option.get("type", "str"))
    return f"{text} of {option['elements']}" if option.get("elements") else text


def described(option: Mapping[str, Any]) -> str:
    """Return what an option means, with its choices."""
    text = prose(option.get("description"))
    if option.get("choices"):
        text += f" One of {', '.join(literal(choice) for choice in option['choices'])}."
    return cell(text)


def default_of(where: str, option: Mapping[str, Any], defaults: Mapping[str, Any]) -> str:
    """Return the default of a variable for a table: its value, the short expression that computes it, or where to look."""
    if option.get("required"):
        return "required"
    value = defaults.get(where, option.get("default"))
    shown = literal(value)
    if len(shown) <= LONGEST_DEFAULT:
        return shown
    return "computed" if isinstance(value, str) and "{{" in value else "[defaults](defaults/main.yml)"


def variables(options: Mapping[str, Any], defaults: Mapping[str, Any]) -> str:
    """Return the table of the variables of an entry point, those inside dictionaries included."""
    rows = [[f"`{where}`<br>{kind(option)}", default_of(where, option, defaults), described(option)] for where, option in flatten(options)]
    return table(["variable", "default", "meaning"], rows)


def specs_of(role: Path) -> dict[str, Any]:
    """Return the argument specifications of a role, by entry point."""
    return load(role / "meta" / "argument_specs.yml")["argument_specs"]


def roles() -> dict[str, Path]:
    """Return the folders of the roles by name."""
    return {path.parents[1].name: path.parents[1] for path in sorted((ROOT / "roles").glob("*/meta/argument_specs.yml"))}


def releases() -> dict[str, dict[str, Any]]:
    """Return what each Debian release carries, by its number."""
    return load(ROOT / "roles/platform/vars/releases.yml")["platform_releases"]


def part(text: str, name: str, content: str, path: Path) -> str:
    """Replace what stands between the two marks of a generated part."""
    start, end = f"<!-- {name}: written by `make reference` -->", f"<!-- end of {name} -->"
    if start not in text or end not in text:
        sys.exit(f"{path.relative_to(ROOT)} lacks the lines `{start}` and `{end}`.")
    return text.partition(start)[0] + f"{start}\n{content}\n{end}" + text.partition(end)[2]


def readme(role: Path) -> str:
    """Return the README of a role with its generated parts renewed."""
    path = role / "README.md"
    specs, info = specs_of(role), load(role / "meta" / "main.yml")["galaxy_info"]
    numbers = {carried["codename"]: number for number, carried in releases().items()}
    supported = " and ".join(f"{numbers[name]} ({name})" for platform in info["platforms"] for name in platform["versions"])
    main = specs["main"]
    about = (
        f"# {role.name}\n\n**{prose(main['short_description'])}.** {prose(main.get('description'))}\n\n"
        f"For Debian {supported}, ansible-core {info['min_ansible_version']} or newer."
    )
    defaults = load(role / "defaults" / "main.yml") or {}
    tables = ["## Variables"]
    for entry, spec in specs.items():
        if entry != "main":
            tables += [f"### tasks_from: {entry}", prose(spec.get("description") or spec["short_description"])]
        options = spec.get("options") or {}
        tables.append(variables(options, defaults) if options else "It takes no variables of its own.")
    text = part(path.read_text(encoding="utf-8"), "about", about, path)
    return part(text, "variables", "\n\n".join(tables), path)


def documentation(path: Path) -> dict[str, Any]:
    """Return the DOCUMENTATION of a module's source."""
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and node.targets[0].id == "DOCUMENTATION":
            return yaml.safe_load(ast.literal_eval(node.value))
    return {}


def filters() -> dict[str, str]:
    """Return the filters and the first lines of their descriptions."""
    from ansible.utils.collection_loader import AnsibleCollectionConfig, _collection_finder

    if AnsibleCollectionConfig.collection_finder is None:
        _collection_finder._AnsibleCollectionFinder(paths=[str(COLLECTIONS)])._install()
    found = {}
    for path in sorted((ROOT / "plugins/filter").glob("*.py")):
        module = importlib.import_module(f"ansible_collections.{COLLECTION}.plugins.filter.{path.stem}")
        for name, function in module.FilterModule().filters().items():
            found[name] = (inspect.getdoc(function) or inspect.getdoc(module) or "").partition("\n\n")[0]
    return dict(sorted(found.items()))


def page(title: str, about: str, *parts: str) -> str:
    """Return a whole generated page."""
    return "\n\n".join([f"# {title}", HEAD, about, *parts]) + "\n"


def roles_page() -> str:
    """Return the table of roles."""
    rows = [
        [f"[{name}](../../roles/{name}/README.md)", cell(prose(specs_of(role)["main"]["short_description"]))]
        for name, role in roles().items()
    ]
    about = "Each works alone and takes what it needs through its own variables. `ansible-doc -t role uptier.platform.NAME` shows the same."
    return page("Roles", about, table(["role", "what it does"], rows))


def modules_page() -> str:
    """Return the table of modules."""
    rows = []
    for path in sorted((ROOT / "plugins/modules").glob("*.py")):
        doc = documentation(path)
        if doc:
            rows.append([f"[{path.stem}](../../plugins/modules/{path.name})", cell(prose(doc["short_description"]))])
    about = f"`ansible-doc {COLLECTION}.NAME` shows options, examples and results. All support check mode and show what would differ."
    return page("Modules", about, table(["module", "what it does"], rows))


def filters_page() -> str:
    """Return the table of filters."""
    rows = [[f"`{name}`", cell(text)] for name, text in filters().items()]
    about = "Pure functions over the inventory, from which the defaults of the roles are derived."
    return page("Filters", about, table(["filter", "what it does"], rows))


PROTECTION = {"tls": "TLS", "mutual": "TLS, both sides verified", "ssh": "SSH", "none": "none"}
BINDS = {"loopback": "loopback", "address": "the host's address", "both": "the host's address and loopback", "every": "every address"}


def flows_page() -> str:
    """Return the tables of flows and ports."""
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
        "Everything that may be sent between two hosts. Anything else is dropped: the firewall is made from this table, "
        "and a test tries every port of every host from a host of each group.\n\n"
        "*from* and *to* are groups of the inventory; *admin* is the controller and `platform_admin_addresses`, *all* every host of "
        "the platform, *any* the world. A host in several groups has the flows of all of them. Port numbers are the "
        "defaults; the table of ports below says what moves each."
    )
    about_ports = (
        "Everything that listens on a host. Set the variable in group_vars for the hosts that listen: everything that connects there, the "
        "firewall, the metrics and preflight follow. On a running platform, moving a port interrupts what uses it until the run has "
        "reached all hosts."
    )
    return page(
        "Flows and ports",
        about,
        table(["flow", "from", "to", "port", "protected by", "why"], flows),
        "## Ports",
        about_ports,
        table(["port", "who listens", "on hosts of", "at", "protected by", "moved by"], listeners),
    )


def tiers_page() -> str:
    """Return the table of tiers."""
    tiers = load(ROOT / "roles/platform/vars/tiers.yml")["platform_tiers"]
    keys = list(dict.fromkeys(key for profile in tiers.values() for key in profile))
    rows = [[f"`{key}`", *(literal(profile.get(key)) for profile in tiers.values())] for key in keys]
    about = (
        "The numbers in which the tiers differ. Where a role has a variable of the same name, its default is this number, and a value "
        "in the inventory wins. Memory shares are fractions of a host's memory; `_min` and `_max` are what preflight requires "
        "of the inventory and cannot be overridden."
    )
    return page("Tiers", about, table(["number", *tiers], rows))


def releases_page() -> str:
    """Return the table of Debian releases, and of what comes from a vendor."""
    known = releases()
    names = list(dict.fromkeys(name for carried in known.values() for name in carried))
    rows = [[name, *(literal(carried.get(name)) for carried in known.values())] for name in names]
    about = (
        "What a host may run, and which version of the programs that matter here it carries. Members of one PostgreSQL, Redis or etcd "
        "cluster run the same release, and so do the database hosts and the host that keeps their backups."
    )
    vendors = load(ROOT / "roles/platform/vars/vendors.yml")["platform_vendors"]
    packages = [
        [f"`{package}`", f"`{version}`", vendor["title"], vendor["repository"]["url"], "<br>".join(vendor["repository"]["fingerprints"])]
        for vendor in vendors.values()
        for package, version in vendor["tested"].items()
    ]
    foreign = (
        "What Debian does not have comes from its vendor's apt repository, in the version for which its configuration was written, signed "
        "by a key with this fingerprint. `platform_grafana_repository` names a mirror; `grafana_version` and the like choose another version."
    )
    return page(
        "Debian releases",
        about,
        table(["", *(f"Debian {release}" for release in known)], rows),
        "## From a vendor",
        foreign,
        table(["package", "version", "vendor", "repository", "fingerprint"], packages),
    )


def title_of(path: Path) -> str:
    """Return the heading of a page, without a number before it."""
    heading = path.read_text(encoding="utf-8").partition("\n")[0]
    return re.sub(r"^# (\d+\. )?", "", heading)


def decisions() -> str:
    """Return the table of decisions."""
    rows = [[path.name[:4], f"[{title_of(path)}]({path.name})"] for path in sorted((ROOT / "docs/decisions").glob("0*.md"))]
    return table(["", "decision"], rows)


def runbooks() -> str:
    """Return the table of runbooks."""
    rows = []
    for path in sorted((ROOT / "docs/runbooks").glob("*.md")):
        if path.stem != "index":
            alerts = re.findall(r"^## (\w+)$", path.read_text(encoding="utf-8"), re.M)
            rows.append([f"[{title_of(path)}]({path.name})", ", ".join(f"[{alert}]({path.name}#{alert.lower()})" for alert in alerts)])
    return table(["runbook", "alerts"], rows)


def pages() -> dict[Path, str]:
    """Return what every generated file has to contain, by its path."""
    docs = ROOT / "docs"
    found = {role / "README.md": readme(role) for role in roles().values()}
    found |= {
        docs / "reference/roles.md": roles_page(),
        docs / "reference/modules.md": modules_page(),
        docs / "reference/filters.md": filters_page(),
        docs / "reference/flows.md": flows_page(),
        docs / "reference/tiers.md": tiers_page(),
        docs / "reference/releases.md": releases_page(),
    }
    for name, where, content in (
        ("imports", "explanation/architecture.md", imports.picture()),
        ("decisions", "decisions/index.md", decisions()),
        ("runbooks", "runbooks/index.md", runbooks()),
    ):
        path = docs / where
        found[path] = part(path.read_text(encoding="utf-8"), name, content, path)
    return found


def old() -> list[str]:
    """Return the generated files that are not as the code has them."""
    return [str(path.relative_to(ROOT)) for path, text in pages().items() if not path.is_file() or path.read_text(encoding="utf-8") != text]


def main() -> int:
    """Read the arguments."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; fail where a page is out of date")
    if parser.parse_args().check:
        stale = old()
        if stale:
            print(f"Out of date, run `make reference`: {', '.join(stale)}", file=sys.stderr)
        return int(bool(stale))
    for path, text in pages().items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
