# SPDX-License-Identifier: GPL-3.0-or-later
"""Of several hosts that have a job, one runs it: asked of a real cluster."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from types import ModuleType

import pytest
from ansible_collections.uptier.platform.plugins.module_utils.application.job import Claims
from ansible_collections.uptier.platform.plugins.module_utils.redis.cluster import Node, Shape
from ansible_collections.uptier.platform.plugins.module_utils.redis.cluster_apply import Cluster
from ansible_collections.uptier.platform.plugins.module_utils.redis.migrate import Mover
from harness.redis import PASSWORD, Servers, dial

SHOWN = "  Original form: daily\n    Next elapse: {} UTC\n       From now: 5h left\n"


@pytest.fixture
def nodes(servers: Servers) -> tuple[Node, ...]:
    """Three masters, so that most keys are elsewhere than the node that is asked first."""
    shape = Shape(tuple(servers.node(f"h{number}") for number in range(3)), 3, 0)
    run = Cluster(shape, dial, timeout=120, interval=0.05, mover=Mover(dial, ("default", PASSWORD)))
    run.converge(run.plan()[1])
    run.wait(run.whole)
    return shape.nodes


def test_one_of_many_runs_it_and_the_next_begins_after_it(nodes: tuple[Node, ...]) -> None:
    def claim(host: int, run: str) -> bool:
        at = nodes[host % 3]
        return Claims([(at.address, at.port)], dial).claim("shop:cron:nightly", run, 60, 30, f"app{host} id").runs

    def hosts(run: str) -> list[int]:
        with ThreadPoolExecutor(6) as pool:
            took = list(pool.map(lambda host: claim(host, run), range(6)))
        return [host for host, runs in enumerate(took) if runs]

    some = Claims([(nodes[0].address, nodes[0].port)], dial)
    for run in ("one", "two", "three"):
        (first,) = hosts(run)
        assert hosts(run) == [], "two hosts ran it"
        assert hosts(f"{run} and a half") == [], "it began while the one before was running"
        some.release("shop:cron:nightly", "another id")
        assert hosts(f"{run} and a half more") == [], "somebody else ended it"
        some.release("shop:cron:nightly", f"app{first} id")
        assert hosts(run) == [], "it ran again after its end"
    outcome = some.claim("shop:cron:nightly", "three", 60, 30, "app9 id")
    assert outcome.why == f"the run before three is that of app{first}"
    assert 0 < some.ask("TTL", "shop:cron:nightly:three") <= 60


def test_a_host_that_dies_holds_it_no_longer_than_it_may_take(nodes: tuple[Node, ...]) -> None:
    some = Claims([(nodes[0].address, nodes[0].port)], dial)
    assert some.claim("shop:cron:x", "one", 60, 1, "app1 id").runs
    assert "still runs on app1" in some.claim("shop:cron:x", "two", 60, 1, "app2 id").why
    time.sleep(1.1)
    assert some.claim("shop:cron:x", "three", 60, 1, "app2 id").runs


def test_the_program_says_what_systemd_understands(
    nodes: tuple[Node, ...],
    servers: Servers,
    load_program: Callable[[str], ModuleType],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    program = load_program("roles/app/files/run_once.py")
    shown = {"text": SHOWN.format("Sun 2099-11-29 00:00:00")}
    monkeypatch.setattr(program, "schedule", lambda text, environment: shown["text"])

    def run(host: str, *words: str) -> int:
        for name, value in {
            "REDIS_NODES": ",".join(f"{node.address}:{node.port}" for node in nodes),
            "REDIS_USERNAME": "default",
            "REDIS_PASSWORD": PASSWORD,
            "REDIS_PREFIX": "shop:",
            "APP_HOST": host,
            "INVOCATION_ID": f"{host}-1",
        }.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr("sys.argv", ["run_once.py", *words])
        status: int = program.main()
        return status

    claim = ("claim", "shop-nightly", "60", "daily")
    assert [run("app1", *claim), run("app2", *claim)] == [0, 1]
    assert "shop-nightly is not run here: the run before 2099-11-29T00:00:00Z is that of app1" in capsys.readouterr().out
    shown["text"] = SHOWN.format("Mon 2099-11-30 00:00:00")
    assert run("app2", *claim) == 1
    assert "the one before still runs on app1" in capsys.readouterr().out
    assert run("app1", "release", "shop-nightly") == 0
    shown["text"] = SHOWN.format("Tue 2099-12-01 00:00:00")
    assert run("app2", *claim) == 0
    shown["text"] = "Failed to parse calendar specification: Invalid argument"
    assert run("app1", *claim) == 255
    assert "names no time: 'Failed to parse" in capsys.readouterr().err
    shown["text"] = SHOWN.format("Wed 2099-12-02 00:00:00")
    for node in nodes:
        servers.kill(node)
    assert [run("app1", *claim), run("app1", "release", "shop-nightly")] == [255, 0]
    said = capsys.readouterr().err
    assert "shop-nightly is not run: Redis cannot be asked: nothing listens on" in said
    assert all(f":{node.port}" in said for node in nodes)
