# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""pg_read_throughput with a client that answers what the test says; molecule/ops_failover has real ones."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.uptier.platform.plugins.module_utils.postgresql import psql
from ansible_collections.uptier.platform.plugins.modules import pg_read_throughput as module

GIVEN = {"database": "shop_ro", "user": "shop_ro", "password": "it's secret", "clients": 2, "seconds": 1}


@pytest.fixture
def run(
    monkeypatch: pytest.MonkeyPatch, run_module: Callable[..., dict[str, Any]], tmp_path: Path, write_program: Callable[[Path, str], None]
) -> Callable[..., dict[str, Any]]:
    def call(client: str | None, **arguments: Any) -> dict[str, Any]:
        program = tmp_path / "psql"
        if client is not None:
            write_program(program, f"#!/bin/sh\n{client}\n")
        monkeypatch.setattr(psql, "newest_psql", lambda: str(program))
        return run_module(module.main, {**GIVEN, **arguments})

    return call


def test_answers_are_counted_by_server(run: Callable[..., dict[str, Any]]) -> None:
    """Three answers of one server, one of another, from each of two clients; a line that was cut off is no answer."""
    result = run("read question; printf '10.0.0.2\\n10.0.0.2\\n10.0.0.2\\n10.0.0.3\\n10.0.'; exec sleep 30")
    assert list(result["servers"]) == ["10.0.0.2", "10.0.0.3"]
    # Divided by the time that it took, which is a little more than the second that was asked for.
    assert 1 < result["servers"]["10.0.0.3"] <= 2
    assert result["servers"]["10.0.0.2"] == pytest.approx(3 * result["servers"]["10.0.0.3"], abs=0.3)
    assert result["reads_per_second"] == pytest.approx(sum(result["servers"].values()), abs=0.2)
    assert result["changed"] is False


def test_each_client_asks_again_and_again_with_the_password_in_its_environment(run: Callable[..., dict[str, Any]]) -> None:
    result = run('while read question; do test "$PGPASSWORD" = "it\'s secret" && case "$question" in SELECT*) echo 10.0.0.2; esac; done')
    assert result["reads_per_second"] > 100


def test_a_refusal_is_what_the_client_said(run: Callable[..., dict[str, Any]]) -> None:
    result = run("echo 'password authentication failed for user \"shop_ro\"' >&2; exit 2")
    assert result["msg"] == 'A client of shop_ro@127.0.0.1:6432/shop_ro was refused: password authentication failed for user "shop_ro"'
    assert result["reason"] == "refused"


def test_silent_end_is_a_refusal_too(run: Callable[..., dict[str, Any]]) -> None:
    assert run("exit 3")["msg"].endswith("was refused: psql ended with 3")


def test_host_without_client(run: Callable[..., dict[str, Any]]) -> None:
    assert "Install Debian's package postgresql-client." in run(None)["msg"]


@pytest.mark.parametrize("name", ["clients", "seconds"])
def test_nobody_reads_for_no_time(run: Callable[..., dict[str, Any]], name: str) -> None:
    assert run("exit 0", **{name: 0})["msg"] == f"{name} is 0; it must be at least 1."
