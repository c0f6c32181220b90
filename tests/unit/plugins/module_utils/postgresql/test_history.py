# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The history of a repository that was elsewhere: what is fetched, in which order, and that a half file never has its name."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest
from ansible_collections.uptier.platform.plugins.module_utils.postgresql import history

PLACE = history.Place("one.internal", 8432, "/var/lib/pgbackrest", "/pki/ca.crt", "/pki/host.crt", "/pki/host.key")
# As pgBackRest 2.55 prints it, with a temporary file of a segment under way, and another stanza.
LISTING = json.dumps(
    {
        ".": {"type": "path"},
        "archive/main/17-1/0000000100000000/000000010000000000000001-064c.zst": {"type": "file", "size": 2388976, "time": 1795755771},
        "archive/main/17-1/0000000100000000/000000010000000000000002-2332.zst.pgbackrest.tmp": {"type": "file", "size": 5, "time": 1},
        "archive/main/archive.info": {"type": "file", "size": 359, "time": 1795755771},
        "archive/other/archive.info": {"type": "file", "size": 359, "time": 1795755771},
        "backup/main/20261127-050251F/bundle/1": {"type": "file", "size": 40, "time": 1795755771},
        "backup/main/backup.info": {"type": "file", "size": 1211, "time": 1795755771},
        "backup/main/latest": {"type": "link", "destination": "20261127-050251F"},
    }
)
SEGMENT = "archive/main/17-1/0000000100000000/000000010000000000000001-064c.zst"


def test_finished_files_of_the_stanza_are_history() -> None:
    files = history.listed(LISTING, "main")
    assert sorted(files) == [
        SEGMENT,
        "archive/main/archive.info",
        "backup/main/20261127-050251F/bundle/1",
        "backup/main/backup.info",
    ]
    assert history.is_history(files, "main")
    assert not history.is_history(history.listed(LISTING, "other"), "other")
    assert not history.is_history(history.listed("", "main"), "main")


def test_info_files_come_by_themselves_and_what_is_whole_is_not_fetched_again() -> None:
    there = history.listed(LISTING, "main")
    assert history.lacking(there, {SEGMENT: 2388976}, info=False) == ["backup/main/20261127-050251F/bundle/1"]
    assert history.lacking(there, {SEGMENT: 12}, info=False) == [SEGMENT, "backup/main/20261127-050251F/bundle/1"]
    assert history.lacking(there, {}, info=True) == ["archive/main/archive.info", "backup/main/backup.info"]


def test_neither_hosts_own_settings_are_used() -> None:
    options = PLACE.options("main")
    assert "--no-config" in options
    assert "--repo1-host-config=/dev/null" in options
    assert "--repo1-host=one.internal" in options


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Answer as the former host does; the file `broken` ends before its end."""
    program = tmp_path / "bin" / "pgbackrest"
    program.parent.mkdir()
    program.write_text(
        '#!/bin/sh\nfor name; do :; done\necho "$@" >>"$SEEN"\nprintf "content of %s" "$name"\ncase $name in *broken*) exit 49;; esac\n'
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    monkeypatch.setenv("SEEN", str(tmp_path / "seen"))
    return tmp_path


def test_files_are_fetched_under_their_names_and_a_half_one_is_not(server: Path) -> None:
    names = ["backup/main/20261127-050251F/pg_data/a b's.zst", "archive/main/archive.info", "backup/main/broken"]
    line = history.fetch_command(PLACE, "main", str(server / "repository"), 2)
    done = subprocess.run(["sh", "-c", line], input="\0".join(names), text=True, check=False)
    assert done.returncode != 0
    files = sorted(str(path.relative_to(server / "repository")) for path in (server / "repository").rglob("*") if path.is_file())
    assert files == sorted(names[:2])
    assert (server / "repository" / names[0]).read_text() == f"content of {names[0]}"
    assert (server / "seen").read_text().count("--raw repo-get") == 3
