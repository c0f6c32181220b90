# SPDX-License-Identifier: GPL-3.0-or-later
"""Builds the documentation: the pages of the repository, and one for each module made from ansible-doc.

The result is build/docs/html. Links between pages hold in a clone as they are; here they are turned to where a page goes,
or to the source. Nothing is fetched; a broken link or reference fails the build.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from reference import COLLECTION, COLLECTIONS, ROOT, cell, described, flatten, kind, literal, load, prose, table

SOURCE = ROOT / "build" / "docs" / "source"
TARGET = ROOT / "build" / "docs" / "html"
LINK = re.compile(r"(\]\()([^)\s]+)(\))")


def homes() -> dict[Path, Path]:
    """Return where each file of the repository that becomes a part of the site goes, below the site's root."""
    docs = ROOT / "docs"
    found = {path: path.relative_to(docs) for path in docs.rglob("*") if path.is_file()}
    found |= {ROOT / f"{name}.md": Path(f"{name.lower()}.md") for name in ("CONTRIBUTING", "SECURITY")}
    found |= {path: Path(f"reference/roles/{path.parent.name}.md") for path in (ROOT / "roles").glob("*/README.md")}
    found |= {path: Path(f"reference/modules/{path.stem}.md") for path in (ROOT / "plugins/modules").glob("*.py")}
    return found


def turned(text: str, path: Path, known: Mapping[Path, Path], repository: str) -> str:
    """Return a page with its links turned from the repository to the site."""
    here = known[path]

    def turn(match: re.Match[str]) -> str:
        address, mark, anchor = match[2].partition("#")
        if not address or re.match(r"[a-z]+:", address):
            return match[0]
        target = (path.parent / address).resolve()
        if target in known:
            where = os.path.relpath(known[target], here.parent)
        elif target.exists():
            where = f"{repository}/blob/main/{target.relative_to(ROOT)}"
        else:
            where = address  # Sphinx says that it is missing
        return f"{match[1]}{where}{mark}{anchor}{match[3]}"

    return outside_code(text, lambda line: LINK.sub(turn, line)).replace("```mermaid", "```text")


def outside_code(text: str, change: Callable[[str], str]) -> str:
    """Return a text with every line changed that is in no block of code."""
    lines, fence = [], ""
    for line in text.split("\n"):
        start = re.match(r"\s*(```+)", line)
        if start and (not fence or start[1] == fence):
            fence = "" if fence else start[1]
        lines.append(line if fence or start else change(line))
    return "\n".join(lines)


def options(of: Mapping[str, Any]) -> str:
    """Return the table of a module's options."""
    rows = []
    for where, option in flatten(of):
        default = literal(option.get("default"))
        shown = "<br>required" if option.get("required") else f"<br>default: {default}" if default else ""
        rows.append([f"`{where}`<br>{kind(option)}", described(option) + shown])
    return table(["option", "meaning"], rows)


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


def plugin_page(name: str, described: Mapping[str, Any]) -> str:
    doc = described["doc"]
    parts = [f"# {name.removeprefix(COLLECTION + '.')}", f"*{prose(doc.get('short_description'))}*", prose(doc.get("description"))]
    if doc.get("options"):
        parts += ["## Options", options(doc["options"])]
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


def tree(names: list[str]) -> str:
    """Return the hidden table of contents of a folder's pages."""
    return "\n```{toctree}\n:hidden:\n" + "\n".join(names) + "\n```\n"


def write(where: Path, text: str) -> None:
    """Write a page of the site."""
    target = SOURCE / where
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(text, encoding="utf-8")


def generate() -> None:
    """Put all pages where Sphinx looks for them."""
    known = homes()
    repository = load(ROOT / "galaxy.yml")["repository"]
    for path, where in known.items():
        if path.suffix == ".md":
            write(where, turned(path.read_text(encoding="utf-8"), path, known, repository))
        elif path.suffix != ".py" or path.parent == ROOT / "docs":
            (SOURCE / where).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(path, SOURCE / where)
    names = []
    for full, described_module in ansible_doc("module").items():
        name = full.removeprefix(f"{COLLECTION}.")
        names.append(f"modules/{name}")
        write(Path(f"reference/modules/{name}.md"), plugin_page(full, described_module))
    for index, contents in (
        ("modules", names),
        ("roles", sorted(f"roles/{path.parent.name}" for path in (ROOT / "roles").glob("*/README.md"))),
    ):
        with (SOURCE / f"reference/{index}.md").open("a", encoding="utf-8") as file:
            file.write(tree(contents))


def main() -> int:
    """Read the arguments."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--no-html", action="store_true", help="write the sources to build/docs/source and stop")
    args = parser.parse_args()
    shutil.rmtree(SOURCE, ignore_errors=True)
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
