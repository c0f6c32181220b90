# SPDX-License-Identifier: GPL-3.0-or-later
"""The next run of the tier playbook, after all faults and operations, changes nothing, restarts nothing, shows no secret, and is cheap."""

from __future__ import annotations

import pytest
from harness.platform import Platform, wait

BUDGET = 120  # task results a host


@pytest.mark.soak
def test_second_run_changes_and_restarts_nothing(platform: Platform) -> None:
    wait("the cluster with all replicas", platform.cache_healthy, 60)
    before = platform.service_starts()
    run = platform.playbook(None, "-vvv")
    assert run.status == 0, run.output[-3000:]
    print(f"measured: no-change run: {run.seconds:.0f} s, task results {run.results()}")
    assert run.changed() == {}, run.changed_tasks()
    after = platform.service_starts()
    restarted = {
        host: sorted(name for name, start in services.items() if after[host].get(name) != start and not name.startswith("systemd-"))
        for host, services in before.items()
    }
    # Timers' own units come and go; only what runs on is compared.
    assert {host: names for host, names in restarted.items() if names} == {}
    assert {host: count for host, count in run.results().items() if count > BUDGET} == {}
    shown = [number for number, secret in enumerate(platform.secrets()) if secret in run.output]
    assert shown == [], f"{len(shown)} secrets appear in the output at -vvv"


@pytest.mark.soak
def test_check_mode_reports_no_change(platform: Platform) -> None:
    """Of the shared address; test_startup.py looks at all other roles, on one host instead of eight."""
    run = platform.playbook(None, "--check", "--diff", "--tags", "keepalived", "--limit", "gateway")
    assert run.status == 0, run.output[-3000:]
    assert "keepalived : Service" in run.output, "the role did not run"
    assert run.changed() == {}, run.changed_tasks()
