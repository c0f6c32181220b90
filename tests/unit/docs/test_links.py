# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Links and paths in all Markdown of the repository lead somewhere, in a clone as it is."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
PLACES = ("*.md", "docs/**/*.md", "roles/*/README.md", "molecule/**/*.md", "inventories/**/*.md", ".github/**/*.md", "tests/**/*.md")
PAGES = sorted({path for place in PLACES for path in ROOT.glob(place) if "node_modules" not in path.parts})
LINK = re.compile(r"\]\(([^)\s]+)\)|(?:src|href)=\"([^\"]+)\"")
# A path of the repository in running text or in code; what stands for something (NAME, <x>, {x}, *) is no path.
MENTION = re.compile(
    r"(?<![\w/.<{*-])((?:docs|inventories|molecule|playbooks|plugins|requirements|roles|scripts|tests)/[\w./-]*\w)(?![\w/<{*-])"
)
# What stands for a name, what a command makes, and what users have in inventories of their own.
MADE = re.compile(r"\bNAME\b|\.vault_password|vault\.yml|/pki\b|provider-ca\.crt|/group_vars/|/host_vars/")


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def prose(path: Path) -> str:
    """Return a page without its blocks of code."""
    return re.sub(r"^( *)(```+).*?^ *\2", "", path.read_text(encoding="utf-8"), flags=re.M | re.S)


@functools.cache
def anchors(path: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub makes them."""
    found: set[str] = set()
    for heading in re.findall(r"^#+ (.*)$", prose(path), re.M):
        text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower()
        found.add(re.sub(r"[^\w\- ]", "", text).strip().replace(" ", "-"))
    return found


def links(path: Path) -> Iterator[str]:
    for match in LINK.finditer(prose(path)):
        yield match[1] or match[2]


@pytest.mark.parametrize("path", PAGES, ids=name_of)
def test_links_lead_somewhere(path: Path) -> None:
    broken = []
    for link in links(path):
        address, dummy, anchor = link.partition("#")
        if re.match(r"[a-z]+:", address):
            continue
        target = (path.parent / address).resolve() if address else path
        if not target.exists() or (anchor and target.suffix == ".md" and anchor not in anchors(target)):
            broken.append(link)
    assert not broken, f"{name_of(path)}: {', '.join(broken)}"


@pytest.mark.parametrize("path", PAGES, ids=name_of)
def test_paths_in_text_exist(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    lost = {found for found in MENTION.findall(text) if not (ROOT / found).exists() and not MADE.search(found)}
    assert not lost, f"{name_of(path)}: {', '.join(sorted(lost))}"


def test_a_site_of_pages_reaches_all_of_them() -> None:
    """A page that no other one links to is read by nobody."""
    reached = {ROOT / "README.md", ROOT / "docs" / "index.md"}
    waiting = list(reached)
    while waiting:
        page = waiting.pop()
        for link in links(page):
            target = (page.parent / link.partition("#")[0]).resolve()
            if target.suffix == ".md" and target.exists() and target not in reached:
                reached.add(target)
                waiting.append(target)
    lost = [name_of(path) for path in PAGES if path not in reached and path.parts[len(ROOT.parts)] in ("docs", "roles")]
    assert not lost, f"no page leads to {', '.join(lost)}"
