# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The program that holds a host's clients, with a console that does what the test says; molecule/ops_failover has the real one."""

from __future__ import annotations

import json
import os
import pwd
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

# Each line of the console's input is a command; \warn is psql's own and answered on stderr.
CONSOLE = """#!/usr/bin/python3
import sys
for line in sys.stdin:
    line = line.strip().rstrip(";")
    with open({said!r}, "a") as log:
        log.write(line + "\\n")
    if line.startswith("\\\\warn "):
        print(line.removeprefix("\\\\warn "), file=sys.stderr, flush=True)
    elif line == "PAUSE":
{pause}
"""
Prepared = Callable[..., dict[str, Any]]


@pytest.fixture
def agent(load_program: Callable[[str], ModuleType], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    module = load_program("roles/pgbouncer/files/pgbouncer_hold.py")
    monkeypatch.setattr(module, "REPORT", tmp_path / "report.json")

    def start(command: list[str], user: int, group: int, extra_groups: list[int], **given: Any) -> subprocess.Popen[bytes]:
        return subprocess.Popen(command, **given)  # only root may become another user

    programs = SimpleNamespace(Popen=start, PIPE=subprocess.PIPE, DEVNULL=subprocess.DEVNULL)
    monkeypatch.setattr(module, "subprocess", programs)
    context = SimpleNamespace(load_cert_chain=lambda cert, key: None)
    monkeypatch.setattr(module, "ssl", SimpleNamespace(create_default_context=lambda cafile: context))
    return module


@pytest.fixture
def prepared(tmp_path: Path, write_program: Callable[[Path, str], None]) -> Prepared:
    """Return what makes the agent's settings; `pause` is what the console does when it is to pause."""

    def prepare(pause: str = "pass", **given: Any) -> dict[str, Any]:
        program = tmp_path / "psql"
        write_program(program, CONSOLE.format(said=str(tmp_path / "said"), pause=f"        {pause}"))
        members = [{"name": name, "url": f"https://10.0.0.{number}:8008"} for number, name in ((31, "db1"), (32, "db2"))]
        return {
            "psql": str(program), "user": pwd.getpwuid(os.geteuid()).pw_name, "socket": "/run", "port": 6432, "at": time.time() + 0.1, "drain": 1.0,
            "limit": 0.5, "leader": "db1", "members": members, "router": "/nowhere", "backend": "postgresql_leader", "ca": "", "cert": "", "key": "",
            **given,
        }  # fmt: skip

    return prepare


def said(tmp_path: Path) -> list[str]:
    return [line for line in (tmp_path / "said").read_text(encoding="utf-8").splitlines() if not line.startswith("\\warn")]


def reported(agent: ModuleType) -> dict[str, Any]:
    return json.loads(agent.REPORT.read_text(encoding="utf-8"))


def test_clients_wait_until_another_member_leads(
    agent: ModuleType, prepared: Prepared, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    told: list[str] = []
    monkeypatch.setattr(agent, "leads", lambda member, context: asked.append(member["name"]) or len(asked) > 2)
    monkeypatch.setattr(agent, "router", lambda path, command: told.append(command))
    assert agent.hold(prepared()) == 0
    assert said(tmp_path) == ["SHOW VERSION", "PAUSE", "RESUME"]
    assert set(asked) == {"db2"}, "the old leader is not asked: it leads until it has stopped"
    assert told == ["set server postgresql_leader/db1 health down", "set server postgresql_leader/db2 health up"]
    result = reported(agent)
    assert (result["state"], result["leader"], result["message"]) == ("switched", "db2", "")
    assert result["paused_seconds"] >= 2 * agent.LOOK


def test_an_endless_transaction_is_given_up(agent: ModuleType, prepared: Prepared, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """PAUSE does not come back, so a session of its own resumes, and nobody is asked who leads."""
    monkeypatch.setattr(agent, "leads", lambda member, context: pytest.fail("it was given up"))
    assert agent.hold(prepared("import time; time.sleep(30)", drain=0.3)) == 0
    assert said(tmp_path) == ["SHOW VERSION", "PAUSE", "RESUME"]
    assert reported(agent)["state"] == "gave_up"
    assert reported(agent)["message"] == "PAUSE: no answer within 0.3 s. Resumed."


def test_a_console_that_refuses(agent: ModuleType, prepared: Prepared, tmp_path: Path) -> None:
    assert agent.hold(prepared("print('ERROR: admin access needed', file=sys.stderr, flush=True)")) == 0
    assert reported(agent)["message"] == "ERROR: admin access needed. Resumed."
    assert said(tmp_path)[-1] == "RESUME"


def test_a_console_that_dies(agent: ModuleType, prepared: Prepared) -> None:
    assert agent.hold(prepared("sys.exit('FATAL: shut down')")) == 0
    assert reported(agent)["message"] == "PAUSE: FATAL: shut down. Resumed."


def test_nobody_else_leads(agent: ModuleType, prepared: Prepared, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agent, "leads", lambda member, context: False)
    assert agent.hold(prepared()) == 0
    assert said(tmp_path)[-1] == "RESUME"
    assert reported(agent)["state"] == "timed_out"
    assert reported(agent)["message"] == "no other member led within 0.5 s"


def test_a_router_that_is_not_there_is_a_note(
    agent: ModuleType, prepared: Prepared, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(agent, "leads", lambda member, context: True)
    assert agent.hold(prepared()) == 0
    assert reported(agent)["state"] == "switched"
    assert "the router was not told" in reported(agent)["message"]
    assert said(tmp_path)[-1] == "RESUME"


@pytest.mark.parametrize(
    "answer", [b"not JSON", b'{"role": "replica", "state": "running"}', b'{"role": "primary", "state": "starting"}', None]
)
def test_who_does_not_lead(agent: ModuleType, monkeypatch: pytest.MonkeyPatch, answer: bytes | None) -> None:
    monkeypatch.setattr(agent.http.client, "HTTPSConnection", lambda *given, **named: Connection(answer))
    assert agent.leads({"name": "db2", "url": "https://10.0.0.32:8008"}, None) is False


def test_who_leads(agent: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        agent.http.client, "HTTPSConnection", lambda *given, **named: Connection(b'{"role": "primary", "state": "running"}')
    )
    assert agent.leads({"name": "db2", "url": "https://10.0.0.32:8008"}, None) is True


class Connection:
    """What a member's Patroni answers; nothing where it is silent."""

    def __init__(self, answer: bytes | None) -> None:
        self.answer = answer

    def request(self, method: str, path: str) -> None:
        assert (method, path) == ("GET", "/patroni")
        if self.answer is None:
            raise TimeoutError

    def getresponse(self) -> Connection:
        return self

    def read(self) -> bytes | None:
        return self.answer

    def close(self) -> None:
        pass


def test_the_guard_resumes_and_says_that_it_was_interrupted(agent: ModuleType, prepared: Prepared, tmp_path: Path) -> None:
    assert agent.resume(prepared()) == 0
    assert said(tmp_path) == ["RESUME"]
    assert reported(agent)["state"] == "interrupted"


def test_the_guard_keeps_what_was_reported(agent: ModuleType, prepared: Prepared, tmp_path: Path) -> None:
    agent.report(state="switched", paused_seconds=1.5)
    assert agent.resume(prepared()) == 0
    assert said(tmp_path) == ["RESUME"]
    assert reported(agent)["state"] == "switched"
