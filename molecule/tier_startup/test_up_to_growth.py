# SPDX-License-Identifier: GPL-3.0-or-later
"""The platform of one host moves up to the tier growth while clients write: nothing is lost, and its history comes along.

A whole run of a larger platform, so only `make test-full` has the time for it.
"""

from __future__ import annotations

import http.client
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from harness.platform import ROOT, Platform, Run, wait
from harness.probes import Probe, missing_rows, prepare_writes
from harness.web import User

pytestmark = pytest.mark.skipif(not os.environ.get("UPTIER_FULL"), reason="moves a whole platform; `make test-full` does")
HOSTS = Path(__file__).parent / "growth" / "hosts.yml"
SECONDS = 1800


class Visitor(threading.Thread):
    """Writes a note every 100 ms through the gateway, and tries once more where that failed."""

    def __init__(self, user: User) -> None:
        super().__init__(daemon=True)
        self.user = User(user.address, user.name, user.authority, timeout=30)
        self.written = 0
        self.first: list[str] = []
        self.lost: list[str] = []
        self._halt = threading.Event()

    def write(self) -> str:
        """Return what went wrong."""
        try:
            status = self.user.request("POST", "/api/notes", {"body": f"note {self.written}"}).status
        except (OSError, http.client.HTTPException) as error:
            return repr(error)
        return "" if status in (200, 201) else f"status {status}"

    def run(self) -> None:
        while not self._halt.wait(0.1):
            failed = self.write()
            if failed:
                self.first.append(failed)
                failed = self.write()
            if failed:
                self.lost.append(failed)
            else:
                self.written += 1

    def finish(self) -> None:
        self._halt.set()
        self.join(120)


def backups(platform: Platform, host: str) -> list[str]:
    stanza = json.loads(platform.output(host, "runuser -u postgres -- pgbackrest info --output=json"))[0]
    assert stanza["status"]["code"] == 0, stanza["status"]
    return [entry["label"] for entry in stanza["backup"]]


def segments(platform: Platform, host: str) -> list[str]:
    """Return the segments of WAL in the archive, in their order."""
    names = platform.output(host, "find /var/lib/pgbackrest/archive/main -type f -name '*.zst' -printf '%f\\n'").split()
    return sorted({name.partition("-")[0] for name in names if len(name.partition("-")[0]) == 24})


def position(segment: str) -> int:
    return int(segment[8:16], 16) * 256 + int(segment[16:24], 16)


@pytest.fixture(scope="module")
def before(platform: Platform, user: User) -> list[str]:
    """Return the backups that the one host had; its inventory is that of growth from here on, and users still open its one gateway."""
    assert user.address == platform.address("one")
    had = backups(platform, "one")
    shutil.copy(HOSTS, platform.inventory / "hosts.yml")
    lab = [sys.executable, str(ROOT / "scripts" / "lab.py"), "up", f"--name={platform.lab}", f"--inventory={platform.inventory}"]
    subprocess.run(lab, check=True, timeout=600)
    platform.read()
    platform.tier = "growth"
    return had


@pytest.fixture
def without_the_first(platform: Platform, before: list[str]) -> Iterator[Path]:
    """Return a copy of the inventory in which Redis is on the new hosts alone."""
    assert before
    copy = platform.inventory.with_name(f"{platform.inventory.name}-other")
    shutil.copytree(platform.inventory, copy)
    content = yaml.safe_load((copy / "hosts.yml").read_text(encoding="utf-8"))
    del content["all"]["children"]["redis"]["hosts"]["one"]
    (copy / "hosts.yml").write_text(yaml.safe_dump(content), encoding="utf-8")
    yield copy
    shutil.rmtree(copy)


def test_a_store_that_would_begin_anew_is_refused(platform: Platform, without_the_first: Path) -> None:
    run = platform.playbook(None, "--tags", "preflight", inventory=without_the_first)
    assert run.status != 0
    assert "group redis has no host on which Redis lives (two, three), and it lives on one" in " ".join(run.output.split())


def test_check_mode_shows_the_move_to_its_end(platform: Platform, before: list[str]) -> None:
    assert before
    run = platform.playbook(None, "--check", "--diff")
    assert run.status == 0, run.output[-3000:]
    said = " ".join(run.output.split())
    for words in (
        "etcd of one gains two, three",
        "Backups move from one to three",
        "Redis of one gains two, three",
        "Monitoring moves from one",
    ):
        assert words in said, words


@pytest.fixture(scope="module")
def moved(platform: Platform, user: User, before: list[str]) -> tuple[Run, dict[str, Any]]:
    """Move while three clients write: rows by the pool, keys by the cluster, notes through the gateway."""
    assert before
    prepare_writes(platform)
    visitor = Visitor(user)
    rows = Probe(platform, "one", "postgresql.js", SECONDS)
    keys = Probe(platform, "one", "keys.js", SECONDS, prefix="sample:moved:")
    visitor.start()
    time.sleep(2)
    run = platform.playbook()
    visitor.finish()
    return run, {"rows": rows.finish(), "keys": keys.finish(), "visitor": visitor}


def test_nothing_is_lost(platform: Platform, moved: tuple[Run, dict[str, Any]]) -> None:
    run, seen = moved
    assert run.status == 0, run.output[-3000:]
    rows, keys, visitor = seen["rows"], seen["keys"], seen["visitor"]
    print(
        f"measured: startup to growth in {run.seconds:.0f} s: {len(rows['acknowledged'])} rows, longest pause {rows['gap_seconds']:.1f} s, "
        f"errors {rows['errors']}; {keys['written']} keys, longest pause {keys['gap_seconds']:.1f} s, errors {keys['errors']}; "
        f"{visitor.written} notes, {len(visitor.first)} tried twice"
    )
    assert rows["acknowledged"]
    assert missing_rows(platform, rows["acknowledged"]) == []
    assert keys["written"]
    assert keys["missing"] == []
    assert visitor.written
    assert visitor.lost == [], visitor.first


def test_the_larger_platform_is_whole(platform: Platform, moved: tuple[Run, dict[str, Any]]) -> None:
    assert moved[0].status == 0
    wait("a database with a standby", platform.database_healthy, 300)
    wait("a cache of three masters", platform.cache_healthy, 300)
    info = platform.redis("one", "cluster", "info")
    assert "cluster_size:3" in info
    assert "cluster_slots_ok:16384" in info


def test_backups_came_along_and_no_segment_is_missing(platform: Platform, before: list[str], moved: tuple[Run, dict[str, Any]]) -> None:
    assert moved[0].status == 0
    now = backups(platform, "three")
    assert now[: len(before)] == before
    assert len(now) > len(before), "no backup was taken at the new place"
    places = [position(segment) for segment in segments(platform, "three")]
    assert places == list(range(places[0], places[-1] + 1)), "the archive has a gap"
    assert set(segments(platform, "one")) <= set(segments(platform, "three"))


def test_the_first_host_has_stopped_what_moved(platform: Platform, moved: tuple[Run, dict[str, Any]]) -> None:
    assert moved[0].status == 0
    units = ["pgbackrest-backup@full.timer", "pgbackrest-backup@diff.timer", "pgbackrest-verify.timer"]
    units += ["prometheus.service", "prometheus-alertmanager.service"]
    assert platform.run("one", f"systemctl is-active {' '.join(units)}", check=False).stdout.split() == ["inactive"] * len(units)
    assert platform.output("three", "systemctl is-active prometheus.service prometheus-alertmanager.service").split() == ["active"] * 2


def test_the_next_run_changes_nothing_and_says_nothing_of_moves(platform: Platform, moved: tuple[Run, dict[str, Any]]) -> None:
    assert moved[0].status == 0
    run = platform.playbook()
    assert run.status == 0, run.output[-3000:]
    assert run.changed() == {}, run.changed_tasks()
    assert "Backups move from" not in run.output
