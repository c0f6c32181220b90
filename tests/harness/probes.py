# SPDX-License-Identifier: GPL-3.0-or-later
"""Clients that run on an application host with the application's own account and libraries."""

from __future__ import annotations

import json
import subprocess
import tempfile
import time
from typing import Any

from .platform import ROOT, Platform

APPLICATION = "sample"


class Probe:
    """A client in the background; `result()` waits for it and returns what it saw."""

    def __init__(self, platform: Platform, host: str, script: str, seconds: float, **settings: str | int) -> None:
        platform.write(host, f"/run/{script}", (ROOT / "tests" / "probes" / script).read_text())
        modules = f"/opt/uptier/apps/{APPLICATION}/current"
        properties = [
            f"EnvironmentFile=/etc/uptier/apps/{APPLICATION}.env",
            f"Environment=PROBE_MODULES={modules}",
            f"Environment=PROBE_DURATION={seconds}",
            *(f"Environment=PROBE_{key.upper()}={value}" for key, value in settings.items()),
            f"User={APPLICATION}",
            f"RuntimeMaxSec={int(seconds) + 60}",
            "LimitNOFILE=16384",
        ]
        options = " ".join(f"-p {item}" for item in properties)
        self.platform, self.host, self.limit = platform, host, seconds + 90
        self.unit = f"probe-{time.monotonic_ns()}"
        # A pipe holds 64 KiB, and nobody reads this one before the end.
        self.output = tempfile.TemporaryFile("w+", encoding="utf-8")  # noqa: SIM115 - lives as long as the probe
        self.process = platform.background(
            host, f"systemd-run --quiet --pipe --wait --unit={self.unit} {options} node /run/{script}", self.output
        )

    def finish(self) -> dict[str, Any]:
        """Have the client end after its next success, and return what it saw; one that waits in vain goes on to its own end."""
        self.platform.run(self.host, f"systemctl kill --kill-whom=main {self.unit}", check=False)
        return self.result()

    def result(self) -> dict[str, Any]:
        try:
            err = self.process.communicate(timeout=self.limit)[1]
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise
        self.output.seek(0)
        out = self.output.read()
        lines = [line for line in out.splitlines() if line.startswith("{")]
        assert lines, f"the probe on {self.host} printed nothing: {out}{err}"
        return json.loads(lines[-1])


def prepare_writes(platform: Platform) -> None:
    """Make the table that the write probe fills."""
    leader = platform.leader()
    assert leader, "no database leader"
    platform.sql(
        leader,
        "create table if not exists write_probe (id bigint primary key, at timestamptz not null default clock_timestamp());"
        f" grant select, insert on write_probe to {APPLICATION}",
        database=APPLICATION,
    )


def missing_rows(platform: Platform, acknowledged: list[int]) -> list[int]:
    """Which acknowledged ids the leader does not have."""
    leader = platform.leader()
    assert leader, "no database leader"
    low, high = min(acknowledged), max(acknowledged)
    text = platform.sql(leader, f"select id from write_probe where id between {low} and {high}", database=APPLICATION)
    return sorted(set(acknowledged) - {int(line) for line in text.splitlines()})
