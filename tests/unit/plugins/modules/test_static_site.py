# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Versions of a static site, unpacked from real archives."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.uptier.platform.plugins.module_utils.host.static_site import kept, outliving
from ansible_collections.uptier.platform.plugins.modules import static_site


class Gateway:
    def __init__(self, base: Path, run_module: Callable[..., dict[str, Any]]) -> None:
        self.base, self.run_module = base, run_module

    def archive(self, **files: str) -> Path:
        """Write an archive; `__` in a name is a slash, `_` a dot."""
        names = {name.replace("__", "/").replace("_", "."): text for name, text in files.items()}
        path = self.base / f"{hashlib.sha256(json.dumps(names).encode()).hexdigest()}.tar"
        with tarfile.open(path, "w") as target:
            for name, text in names.items():
                entry = tarfile.TarInfo(f"./{name}")
                entry.size, entry.mode = len(text), 0o600
                target.addfile(entry, io.BytesIO(text.encode()))
        return path

    def run(self, archive: Path, send: bool = True, check: bool = False, keep: int = 3) -> dict[str, Any]:
        checksum = hashlib.sha256(archive.read_bytes()).hexdigest()
        site = {
            "name": "docs",
            "archive": str(archive),
            "immutable": ["assets"],
            "checksum": checksum,
            "upload": str(archive) if send else None,
        }
        given = {"sites": [site], "base": str(self.base / "sites"), "keep": keep, "_ansible_check_mode": check}
        return self.run_module(static_site.main, given)

    def read(self, path: str) -> str | None:
        place = self.base / "sites" / "docs" / "current" / path
        return place.read_text() if place.is_file() else None

    def versions(self) -> int:
        return len(list((self.base / "sites/docs/versions").iterdir()))


@pytest.fixture
def gateway(tmp_path: Path, run_module: Callable[..., dict[str, Any]]) -> Gateway:
    return Gateway(tmp_path, run_module)


def test_a_version_is_served_once_and_readable_by_workers(gateway: Gateway) -> None:
    first = gateway.archive(index_html="one")
    assert gateway.run(first, send=False)["needed"] == ["docs"], "it is asked for, and nothing is switched"
    assert gateway.read("index.html") is None
    assert gateway.run(first)["changed"] is True
    assert gateway.read("index.html") == "one"
    assert gateway.run(first, send=False) == {**gateway.run(first, send=False), "changed": False, "needed": []}


def test_check_mode_says_what_would_be_served_and_leaves_no_trace(gateway: Gateway) -> None:
    result = gateway.run(gateway.archive(index_html="one"), check=True)
    assert (result["changed"], result["diff"]["before"]) == (True, "docs: nothing\n")
    assert not (gateway.base / "sites").exists()


def test_an_old_page_finds_its_files_until_its_version_is_gone(gateway: Gateway) -> None:
    one, two, three = (
        gateway.archive(index_html=name, **{f"assets__{name}_js": name, f"plain{name}_txt": "x"}) for name in ("a", "b", "c")
    )
    gateway.run(one, keep=2)
    gateway.run(two, keep=2)
    assert (gateway.read("index.html"), gateway.read("assets/a.js"), gateway.read("assets/b.js")) == ("b", "a", "b")
    assert gateway.read("plaina.txt") is None, "only what never changes outlives its version"
    gateway.run(three, keep=2)
    assert gateway.versions() == 2
    gateway.run(gateway.archive(index_html="d"), keep=2)
    assert (gateway.read("assets/a.js"), gateway.read("assets/c.js")) == (None, "c")


def test_back_to_an_earlier_version_without_its_archive(gateway: Gateway) -> None:
    one, two = gateway.archive(index_html="one"), gateway.archive(index_html="two")
    gateway.run(one)
    gateway.run(two)
    result = gateway.run(one, send=False)
    assert (result["needed"], gateway.read("index.html")) == ([], "one")


@pytest.mark.parametrize("wrong", ["no archive at all", "no index"])
def test_what_is_no_site_changes_nothing(gateway: Gateway, wrong: str) -> None:
    gateway.run(gateway.archive(index_html="one"))
    bad = gateway.archive(dist__index_html="below")
    if wrong == "no archive at all":
        bad.write_text("not a tar")
    result = gateway.run(bad)
    assert result["failed"] is True
    assert result["reason"] == {"no index": "no_index", "no archive at all": "bad_archive"}[wrong]
    assert gateway.read("index.html") == "one"
    assert gateway.versions() == 1


def test_the_version_that_is_served_is_kept_whatever_its_age() -> None:
    assert kept({"a": 1.0, "b": 2.0, "c": 3.0, "d": 4.0}, "a", 2) == {"a", "d"}
    assert outliving({"new": ["x"], "b": ["x", "y"], "a": ["y", "z"]}, ["b", "a"], "new") == {"y": "b", "z": "a"}
