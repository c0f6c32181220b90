# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""pg_failover as a task sees it: which options go together, and what a refusal returns."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import yaml
from ansible_collections.uptier.platform.plugins.module_utils.postgresql.errors import Busy, Refusal
from ansible_collections.uptier.platform.plugins.modules import pg_failover

NATIVE = {"native": {"user": "failover", "password": "Bottle-9"}, "members": [{"name": "db1", "host": "a"}, {"name": "db2", "host": "b"}]}
PATRONI = {"etcd": ["https://3"], "scope": "main", "members": [{"name": "db1", "url": "https://1"}, {"name": "db2", "url": "https://2"}]}
DONE = {"changed": True, "leader": "db2", "warned": ["db3 runs but cannot be inspected."]}


@pytest.fixture
def run(run_module: Callable[..., dict[str, Any]]) -> Callable[..., dict[str, Any]]:
    def call(**arguments: Any) -> dict[str, Any]:
        check = arguments.pop("check", False)
        return run_module(pg_failover.main, {"state": "switchover", "_ansible_check_mode": check, **arguments})

    return call


@pytest.fixture
def done(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What an operation was asked; it does nothing."""
    asked: list[str] = []
    for name in ("lock", "run", "close"):

        def note(self: Any, name: str = name) -> Any:
            asked.append(f"{type(self.driver).__name__}.{name}")
            return dict(DONE)

        monkeypatch.setattr(pg_failover.Operation, name, note)
    return asked


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({**PATRONI, "native": NATIVE["native"]}, "parameters are mutually exclusive: etcd|native"),
        ({"members": PATRONI["members"]}, "one of the following is required: etcd, native"),
        ({**PATRONI, "scope": None}, "missing parameter(s) required by 'etcd': scope"),
        ({**PATRONI, "fencing": {"fenced": True}}, "missing parameter(s) required by 'fencing': native"),
        ({**PATRONI, "members": NATIVE["members"]}, "members: db1, db2 without url, which is needed to reach it."),
        ({**NATIVE, "members": PATRONI["members"]}, "members: db1, db2 without host, which is needed to reach it."),
    ],
)
def test_options_that_do_not_go_together(run: Callable[..., dict[str, Any]], arguments: dict[str, Any], message: str) -> None:
    result = run(**{key: value for key, value in arguments.items() if value is not None})
    assert (result["failed"], result["msg"]) == (True, message)


@pytest.mark.parametrize(("arguments", "kind"), [(PATRONI, "PatroniDriver"), (NATIVE, "NativeDriver")])
def test_check_mode_takes_no_lock(run: Callable[..., dict[str, Any]], done: list[str], arguments: dict[str, Any], kind: str) -> None:
    assert run(**arguments)["leader"] == "db2"
    assert run(check=True, **arguments)["changed"]
    assert done == [f"{kind}.lock", f"{kind}.run", f"{kind}.close", f"{kind}.run", f"{kind}.close"]


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (
            Busy("failover by process 7"),
            ("busy", "Another operation is changing the pair: failover by process 7. Wait until it has ended."),
        ),
        (Refusal("not_fenced", "db1 does not answer.", [{"name": "db2"}]), ("not_fenced", "db1 does not answer.")),
    ],
)
def test_a_refusal_is_a_result_and_everything_is_let_go(
    run: Callable[..., dict[str, Any]], done: list[str], monkeypatch: pytest.MonkeyPatch, error: Exception, expected: tuple[str, str]
) -> None:
    def fail(self: Any) -> None:
        raise error

    monkeypatch.setattr(pg_failover.Operation, "lock", fail)
    result = run(**NATIVE)
    assert (result["reason"], result["msg"]) == expected
    assert done == ["NativeDriver.close"]


def test_the_examples_are_accepted(run: Callable[..., dict[str, Any]], done: list[str]) -> None:
    for task in yaml.safe_load(pg_failover.EXAMPLES):
        assert run(**task["uptier.platform.pg_failover"])["leader"] == "db2"
