# SPDX-License-Identifier: GPL-3.0-or-later
"""What a run of a job is known by is the same on every host."""

from __future__ import annotations

import os
import subprocess
from datetime import UTC, datetime, timedelta

import pytest
from ansible_collections.uptier.platform.plugins.module_utils.application.job import JobError, coming
from hypothesis import given
from hypothesis import strategies as st

# As systemd 252 and 257 show them.
IN_UTC = "  Original form: *-*-* 03:00:00\nNormalized form: *-*-* 03:00:00\n    Next elapse: Sat 2026-11-28 03:00:00 UTC\n       From now: 29min left\n"
IN_BERLIN = """  Original form: *-*-* 03:00:00
Normalized form: *-*-* 03:00:00
    Next elapse: Sun 2026-11-29 03:00:00 CET
       (in UTC): Sun 2026-11-29 02:00:00 UTC
       From now: 23h left
"""


@pytest.mark.parametrize(
    ("shown", "run"),
    [
        (IN_UTC, "2026-11-28T03:00:00Z daily"),
        (IN_BERLIN, "2026-11-29T02:00:00Z daily"),
        ("    Next elapse: never\n", "never daily"),
    ],
)
def test_a_run_is_known_by_the_next_time(shown: str, run: str) -> None:
    assert coming(shown, "daily") == run


@pytest.mark.parametrize("zone", ["UTC", "Africa/Abidjan", "Etc/GMT", "Europe/London", "Europe/Berlin", "Asia/Kolkata"])
def test_a_time_is_found_in_every_zone(zone: str) -> None:
    """A zone that never had another offset than none is shown as GMT, without the line in UTC."""
    command = ["systemd-analyze", "calendar", "--iterations=1", "2099-07-01 12:00:00 UTC"]
    shown = subprocess.run(command, capture_output=True, text=True, check=True, env={**os.environ, "TZ": zone, "LC_ALL": "C"}).stdout
    assert coming(shown, "x") == "2099-07-01T12:00:00Z x"


def test_a_schedule_that_systemd_does_not_read_is_quoted() -> None:
    with pytest.raises(JobError, match="names no time: .Failed to parse"):
        coming("Failed to parse calendar specification 'x': Invalid argument\n", "x")


@given(st.integers(2, 10**6), st.integers(0, 10**4), st.lists(st.floats(0, 0.9), min_size=2, max_size=5))
def test_hosts_agree_however_late_they_are(period: int, number: int, hosts: list[float]) -> None:
    """A timer fires by its host's own clock, up to nine tenths of a period late; systemd then shows what comes next by that clock."""
    epoch, step = datetime(2026, 1, 1, tzinfo=UTC), timedelta(seconds=period)

    def run(number: int, late: float) -> str:
        clock = epoch + step * (number + late)
        return coming(f"    Next elapse: {epoch + ((clock - epoch) // step + 1) * step:%a %Y-%m-%d %H:%M:%S} UTC\n", "x")

    assert len({run(number, late) for late in hosts}) == 1
    assert run(number, hosts[0]) != run(number + 1, hosts[0])
