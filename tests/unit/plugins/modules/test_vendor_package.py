# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The host's half of vendor_package, against a repository on loopback and a dpkg that answers what it is told."""

from __future__ import annotations

import json
import os
import subprocess
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.testing import patch_module_args
from ansible_collections.uptier.platform.plugins.module_utils.host import apt_vendor
from ansible_collections.uptier.platform.plugins.modules import vendor_package

from ..module_utils.test_apt_vendor import KEY_ONE, KEY_TWO, ONE, TWO

PATH = os.environ["PATH"]


class Repository:
    """Serves one key file, as long as it is not `down`, and counts how often it was asked."""

    def __init__(self) -> None:
        self.key, self.down, self.asked = KEY_ONE + KEY_TWO, False, 0
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.asked += 1
                self.send_response(503 if outer.down else 200)
                self.end_headers()
                self.wfile.write(b"" if outer.down else outer.key)

            def log_message(self, *dummy: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_port}"


@pytest.fixture
def repository() -> Iterator[Repository]:
    made = Repository()
    yield made
    made.server.shutdown()
    made.server.server_close()


@pytest.fixture
def host(
    tmp_path: Path,
    repository: Repository,
    write_program: Callable[[Path, str], None],
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> Callable[..., dict[str, Any]]:
    """Return what runs the module with `installed` as the version that dpkg knows."""

    def run(installed: str = "", check: bool = False, prints: list[str] | None = None, **given: Any) -> dict[str, Any]:
        programs = tmp_path / "bin"
        programs.mkdir(exist_ok=True)
        answer = f"printf '%s' 'installed {installed}'" if installed else "exit 1"
        write_program(programs / "dpkg-query", f"#!/bin/sh\n{answer}\n")
        arguments = {
            "package": "loki",
            "version": "3.7.*",
            "vendor": "grafana",
            "switch": "platform_logs_enabled",
            "repository": {
                "url": repository.url, "suite": "stable", "component": "main", "key": f"{repository.url}/gpg.key",
                "fingerprints": prints or [ONE],
            },
            "keyring": str(tmp_path / "keyrings" / "uptier-grafana.gpg"),
            "sources": str(tmp_path / "sources.list.d" / "uptier-grafana.sources"),
            "preferences": str(tmp_path / "preferences.d" / "uptier-loki.pref"),
            "copy": str(tmp_path / "loki.deb"),
            "_ansible_check_mode": check,
            "_ansible_remote_tmp": str(tmp_path),
            **given,
        }  # fmt: skip
        # In this process: a start of Python takes longer than all that the module does.
        monkeypatch.setenv("PATH", f"{programs}:{PATH}")
        with patch_module_args(arguments), pytest.raises(SystemExit):
            vendor_package.main()
        return json.loads(capfd.readouterr().out)

    return run


def written(tmp_path: Path) -> list[str]:
    return sorted(path.name for folder in ("keyrings", "sources.list.d", "preferences.d") for path in (tmp_path / folder).glob("*"))


def test_a_bare_host(host: Any, tmp_path: Path) -> None:
    first = host()
    assert (first["changed"], first["missing"], first["why"]) == (True, True, "")
    assert written(tmp_path) == ["uptier-grafana.gpg", "uptier-grafana.sources", "uptier-loki.pref"]
    assert list(apt_vendor.keys_of((tmp_path / "keyrings" / "uptier-grafana.gpg").read_bytes())) == [ONE]


def test_a_host_that_has_everything_is_not_changed_and_asks_nobody(host: Any, repository: Repository) -> None:
    host()
    repository.asked, repository.down = 0, True
    again = host("3.7.8")
    assert (again["changed"], again["missing"], again["why"], repository.asked) == (False, False, "", 0)


def test_a_renewed_key_comes_with_the_next_installation(host: Any, repository: Repository) -> None:
    host("3.7.8")
    repository.asked = 0
    host("3.6.1")
    assert repository.asked == 1


@pytest.mark.parametrize("how", ["down", "gone"])
def test_a_repository_that_cannot_be_reached_leaves_no_source_behind(host: Any, repository: Repository, tmp_path: Path, how: str) -> None:
    """apt would complain about it in every role that installs anything."""
    repository.down = True
    if how == "gone":
        repository.server.server_close()
    found = host()
    assert f"{repository.url}/gpg.key: " in found["why"]
    assert not found["changed"]
    assert written(tmp_path) == []


def test_a_key_that_is_there_is_good_for_a_repository_without_one(host: Any, repository: Repository) -> None:
    host()
    repository.down = True
    assert host()["why"] == ""


def test_another_key_is_not_trusted(host: Any, repository: Repository, tmp_path: Path) -> None:
    repository.key = KEY_TWO
    assert host()["why"].startswith(f"{repository.url}/gpg.key: it holds {TWO}, and trusted is {ONE}; compare a new key by another way")
    assert written(tmp_path) == []


def test_another_fingerprint_replaces_the_key(host: Any, tmp_path: Path) -> None:
    host("3.7.8")
    again = host("3.7.8", prints=[TWO])
    assert again["changed"]
    assert list(apt_vendor.keys_of((tmp_path / "keyrings" / "uptier-grafana.gpg").read_bytes())) == [TWO]


def test_check_mode_writes_nothing_and_asks_nobody(host: Any, repository: Repository, tmp_path: Path) -> None:
    found = host(check=True)
    assert (found["changed"], found["missing"], repository.asked, written(tmp_path)) == (True, True, 0, [])
    host("3.7.8")
    assert not host("3.7.8", check=True)["changed"]


@pytest.mark.parametrize(
    ("installed", "missing", "beyond"), [("3.6.1", True, False), ("3.7.8", False, False), ("3.8.0", False, True), ("", True, False)]
)
def test_what_is_newer_is_kept(host: Any, installed: str, missing: bool, beyond: bool) -> None:
    found = host(installed)
    assert (found["missing"], found["beyond"]) == (missing, beyond)


def test_no_version_is_no_pin(host: Any, tmp_path: Path) -> None:
    host("3.7.8")
    assert host("3.7.8", version="")["changed"]
    assert "uptier-loki.pref" not in written(tmp_path)


def test_a_package_is_missing_until_it_is_the_one_that_was_given(host: Any, tmp_path: Path) -> None:
    assert host(source="package", checksum="0" * 64)["missing"]
    (tmp_path / "loki.deb").write_bytes(b"package")
    assert host("3.7.8", source="package", checksum="0" * 64)["missing"]
    seen = subprocess.run(["sha256sum", tmp_path / "loki.deb"], capture_output=True, text=True, check=True).stdout.split()[0]
    assert not host("3.7.8", source="package", checksum=seen)["missing"]
    assert written(tmp_path) == []


def test_an_archive_is_missing_until_it_is_unpacked(host: Any, tmp_path: Path) -> None:
    archive = {"directory": str(tmp_path / "loki"), "binary": str(tmp_path / "loki" / "loki"), "home": "/var/lib/loki"}
    assert host(source="archive", archive=archive)["missing"]
    (tmp_path / "loki").mkdir()
    (tmp_path / "loki" / "loki").touch()
    assert not host(source="archive", archive=archive)["missing"]
