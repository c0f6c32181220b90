# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The planner of systemd_units."""

from __future__ import annotations

import pytest
from ansible_collections.uptier.platform.plugins.module_utils.host.systemd import State, Unit, parse_show, plan

RUNS = State(load="loaded", active="active", sub="running", file="enabled")


def test_show_is_read_by_every_name_of_a_unit():
    text = (
        "Id=chrony.service\nNames=chronyd.service chrony.service\nLoadState=loaded\nActiveState=active\nSubState=running\nUnitFileState=enabled\n"
        "\nId=gone.service\nNames=gone.service\nLoadState=not-found\nActiveState=inactive\nSubState=dead\nUnitFileState=\n"
    )
    states = parse_show(text)
    assert states["chronyd.service"] == RUNS
    assert not states["gone.service"].exists


def test_a_running_enabled_unit_needs_nothing():
    assert plan([Unit("a.service")], {"a.service": RUNS}, []).steps == []


@pytest.mark.parametrize(
    ("unit", "state", "steps"),
    [
        (Unit("a"), State(load="loaded", active="inactive", sub="dead", file="disabled"), [("enable", "a"), ("start", "a")]),
        (Unit("a"), State(load="loaded", active="failed", sub="failed", file="enabled"), [("start", "a")]),
        (Unit("a"), State(load="loaded", active="activating", sub="auto-restart", file="enabled"), [("restart", "a")]),
        (Unit("a"), State(load="loaded", active="active", sub="running", file="static"), []),
        (Unit("a"), State(load="masked", active="inactive", sub="dead", file="masked"), [("unmask", "a"), ("enable", "a"), ("start", "a")]),
        (Unit("a", started=False, enabled=False), RUNS, [("disable", "a"), ("stop", "a")]),
        (Unit("a", started=False, enabled=False), State(), []),
        (Unit("a", started=False, enabled=False), State(load="masked", file="masked"), []),
        (Unit("a", started=True, enabled=False), RUNS, [("disable", "a")]),
    ],
)
def test_steps(unit, state, steps):
    assert plan([unit], {"a": state}, []).steps == steps


def test_only_units_whose_files_are_pending_are_touched():
    units = [
        Unit("a", restart_files=("/etc/default/a",)),
        Unit("b", reload_files=("/etc/b/*.yml",)),
        Unit("c", restart_files=("/etc/c",)),
    ]
    todo = plan(units, dict.fromkeys("abc", RUNS), ["/etc/default/a", "/etc/b/x.yml"])
    assert todo.steps == [("restart", "a"), ("reload-or-restart", "b")]


def test_restart_beats_reload_and_a_start_needs_no_restart():
    unit = Unit("a", restart_files=("/x",), reload_files=("/x", "/y"))
    assert plan([unit], {"a": RUNS}, ["/x", "/y"]).steps == [("restart", "a")]
    stopped = State(load="loaded", active="inactive", sub="dead", file="enabled")
    assert plan([unit], {"a": stopped}, ["/x"]).steps == [("start", "a")]


def test_a_wanted_unit_that_does_not_exist_is_named():
    todo = plan([Unit("a"), Unit("b")], {"b": RUNS}, [])
    assert todo.missing == ["a"]
    assert todo.steps == []
