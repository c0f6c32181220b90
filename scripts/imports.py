# SPDX-License-Identifier: GPL-3.0-or-later
"""Which part of plugins/ imports which, read from the sources: the picture in docs/explanation/architecture.md.

A part is a kind of plugin (modules, action, filter, ...) or a package of module_utils and plugin_utils.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PLUGINS = ROOT / "plugins"
PREFIX = ("ansible_collections", "uptier", "platform", "plugins")
SHARED = ("module_utils", "plugin_utils")

Graph = dict[str, set[str]]


def sources() -> dict[str, Path]:
    """Return every source below plugins/ by its dotted name; a package has the name of its folder."""
    found = {}
    for path in sorted(PLUGINS.rglob("*.py")):
        parts = path.relative_to(PLUGINS).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def wanted(path: Path, name: str) -> set[str]:
    """Return the dotted names below plugins/ that a source imports, as it writes them."""
    package = name.split(".") if path.name == "__init__.py" else name.split(".")[:-1]
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            for alias in node.names:
                words = tuple(alias.name.split("."))
                if words[: len(PREFIX)] == PREFIX:
                    found.add(".".join(words[len(PREFIX) :]))
        elif isinstance(node, ast.ImportFrom):
            words = tuple((node.module or "").split(".")) if node.module else ()
            if node.level:
                base = [*package[: len(package) - node.level + 1], *words]
            elif words[: len(PREFIX)] == PREFIX:
                base = list(words[len(PREFIX) :])
            else:
                continue
            # `from x import y`: y is a source of its own, or something in x.
            found |= {".".join([*base, alias.name]) for alias in node.names} | {".".join(base)}
    return found


def graph() -> Graph:
    """Return what each source imports of the others. A package counts only where it has code of its own."""
    known = {name: path for name, path in sources().items() if path.name != "__init__.py" or path.read_text(encoding="utf-8").strip()}
    return {name: {other for other in wanted(path, name) if other in known and other != name} for name, path in known.items()}


def part_of(name: str) -> str:
    """Return the part of plugins/ to which a source belongs."""
    words = name.split(".")
    return ".".join(words[:2]) if words[0] in SHARED and len(words) > 2 else words[0]


def parts(of: Mapping[str, Iterable[str]]) -> Graph:
    """Return which part imports which other one."""
    found: Graph = {part_of(name): set() for name in of}
    for name, others in of.items():
        found[part_of(name)] |= {part_of(other) for other in others} - {part_of(name)}
    return found


def cycles(of: Mapping[str, Iterable[str]]) -> list[list[str]]:
    """Return a way round for each knot of names that import each other, by Tarjan's algorithm; none where there is an order."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(name: str) -> None:
        index[name] = low[name] = len(index)
        stack.append(name)
        for other in sorted(of.get(name, ())):
            if other not in index:
                visit(other)
                low[name] = min(low[name], low[other])
            elif other in stack:
                low[name] = min(low[name], index[other])
        if low[name] == index[name]:
            knot = stack[stack.index(name) :]
            del stack[stack.index(name) :]
            if len(knot) > 1:
                found.append(sorted(knot))

    for name in sorted(of):
        if name not in index:
            visit(name)
    return found


def levels(of: Graph) -> list[list[str]]:
    """Return the parts from the bottom up: each imports only what stands in a level before its own."""
    left, done, rows = dict(of), set(), []
    while left:
        row = sorted(name for name, others in left.items() if others <= done)
        if not row:
            raise ValueError(f"a cycle of imports: {cycles(of)}")
        rows.append(row)
        done |= set(row)
        left = {name: others for name, others in left.items() if name not in done}
    return rows


def picture() -> str:
    """Return the picture as Markdown: a diagram, and a table of the parts in levels, from those that act to those that import nothing."""
    sizes: dict[str, int] = {}
    whole = graph()
    for name in whole:
        sizes[part_of(name)] = sizes.get(part_of(name), 0) + 1
    between = parts(whole)
    rows = [name for row in reversed(levels(between)) for name in row]
    lines = ["```mermaid", "graph LR"]
    lines += [f'  {short(name)}["{short(name)} ({sizes[name]})"]' for name in rows]
    lines += [f"  {short(name)} --> {short(other)}" for name in rows for other in sorted(between[name])]
    lines += ["```", "", "| part of `plugins/` | files | imports |", "| --- | --- | --- |"]
    for name in rows:
        shown = ", ".join(f"`{short(other)}`" for other in sorted(between[name]))
        lines.append(f"| `{name.replace('.', '/')}` | {sizes[name]} | {shown} |")
    return "\n".join(lines)


def short(name: str) -> str:
    """Return the last word of a part's name."""
    return name.rpartition(".")[2]
