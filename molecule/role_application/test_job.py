# SPDX-License-Identifier: GPL-3.0-or-later
"""Both hosts have the job, and systemd's timers start it on both; each time one of them runs it."""

from __future__ import annotations

from harness.platform import wait

HOSTS = ("app12", "app13")
UNIT = "jobs-tick.service"


def said(lab, name: str) -> list[str]:
    return lab.host(name).check_output(f"journalctl --output=cat --no-pager --unit={UNIT}").splitlines()


def runs(lab) -> list[list[str]]:
    return [line.split(" ", 3) for name in HOSTS for line in said(lab, name) if line.startswith("ran ")]


def test_each_time_one_host_runs_it(lab) -> None:
    wait("two times at which the job ran", lambda: len(runs(lab)) >= 2, 200, pause=3)
    found = runs(lab)
    minutes = [minute for dummy, dummy, minute, dummy in found]
    assert len(set(minutes)) == len(minutes), f"a job ran twice: {found}"
    assert {mark for dummy, dummy, dummy, mark in found} == {'a"b$c %d'}
    for dummy, host, dummy, dummy in found:
        assert host in HOSTS
    refused = [line for name in HOSTS for line in said(lab, name) if " is not run here: the run before " in line]
    assert abs(len(refused) - len(found)) <= 1, refused  # the other host may be about to ask
    for name in HOSTS:
        assert lab.host(name).check_output(f"systemctl show -P Result {UNIT}") in ("success", "exec-condition")


def test_it_runs_nowhere_while_nobody_can_be_asked(lab) -> None:
    lab.host("peer1").check_output("systemctl kill -s STOP standin-cache")
    try:
        host = lab.host("app12")
        assert host.run(f"systemctl start {UNIT}").rc != 0
        assert host.check_output(f"systemctl show -P Result {UNIT}") == "exit-code"
        assert "jobs-tick is not run: Redis cannot be asked" in "\n".join(said(lab, "app12"))
    finally:
        lab.host("peer1").check_output("systemctl kill -s CONT standin-cache")
    host.check_output(f"systemctl reset-failed {UNIT}")


def test_a_job_has_the_sandbox_of_an_instance(lab) -> None:
    for name in HOSTS:
        host = lab.host(name)
        assert host.check_output(f"systemctl show -P User {UNIT}") == "jobs"
        exposure = host.check_output(f"systemd-analyze security --no-pager {UNIT} | tail -1").split(":")[1].split()[0]
        assert float(exposure) <= 4
        assert host.check_output("systemctl is-enabled jobs-tick.timer") == "enabled"
