# SPDX-License-Identifier: GPL-3.0-or-later
"""Of several hosts that have a job, one runs it: asked of a real cluster."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from threading import Timer
from types import ModuleType

import pytest
from ansible_collections.uptier.platform.plugins.module_utils.application.job import Claims
from ansible_collections.uptier.platform.plugins.module_utils.redis.cluster import Node, Shape
from ansible_collections.uptier.platform.plugins.module_utils.redis.cluster_apply import Cluster
from ansible_collections.uptier.platform.plugins.module_utils.redis.migrate import Mover
from ansible_collections.uptier.platform.plugins.module_utils.redis.resp import Connection, Unreachable, parse_info
from harness.redis import PASSWORD, Servers, dial

KEY = "shop:cron:nightly"
NOW = datetime(2026, 11, 28, 3, 0, tzinfo=UTC)
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
    began = itertools.count()

    def claim(host: int, run: str) -> str:
        at, holder = nodes[host % 3], f"app{host} {next(began)}"
        return holder if Claims([(at.address, at.port)], dial).claim(KEY, run, 30, holder, NOW).runs else ""

    def took(run: str) -> list[str]:
        with ThreadPoolExecutor(6) as pool:
            return list(filter(None, pool.map(lambda host: claim(host, run), range(6))))

    some = Claims([(nodes[0].address, nodes[0].port)], dial)
    for day in (1, 2, 3):
        runs = [f"2099-12-0{day}T0{hour}:00:00Z x" for hour in range(3)]
        (first,) = took(runs[0])
        assert took(runs[0]) == [], "two hosts ran it"
        assert took(runs[1]) == [], "it began while the one before was running"
        some.release(KEY, f"{first.split()[0]} another", NOW)
        assert took(runs[2]) == [], "somebody else ended it"
        some.release(KEY, first, NOW)
        assert took(runs[0]) == [], "it ran again after its end"
    assert some.claim(KEY, runs[0], 30, "app9 id", NOW).why == f"the run before 2099-12-03T00:00:00Z is that of {first.split()[0]}"


def test_a_host_that_dies_holds_it_no_longer_than_it_may_take(nodes: tuple[Node, ...]) -> None:
    some = Claims([(nodes[0].address, nodes[0].port)], dial)
    assert some.claim(KEY, "one", 60, "app1 id", NOW).runs
    assert "still runs on app1" in some.claim(KEY, "two", 60, "app2 id", NOW + timedelta(seconds=59)).why
    assert some.claim(KEY, "three", 60, "app2 id", NOW + timedelta(seconds=61)).runs
    some.release(KEY, "app1 id", NOW)
    assert "still runs on app2" in some.claim(KEY, "four", 60, "app1 id", NOW + timedelta(seconds=62)).why


def test_what_is_past_is_forgotten_and_what_is_to_come_is_not(nodes: tuple[Node, ...]) -> None:
    some = Claims([(nodes[0].address, nodes[0].port)], dial)
    for number, run in enumerate(("2026-11-28T01:00:00Z x", "2026-11-28T02:00:00Z x", "2026-11-28T04:00:00Z x", "never y")):
        assert some.claim(KEY, run, 60, f"app1 {number}", NOW).runs
        some.release(KEY, f"app1 {number}", NOW)
    assert sorted(some.ask("HKEYS", KEY)) == ["2026-11-28T02:00:00Z x", "2026-11-28T04:00:00Z x", "never y"]


def test_a_full_cache_does_not_forget_who_runs_it(nodes: tuple[Node, ...]) -> None:
    """By default a cache evicts keys that expire, those first that were not asked for lately."""
    some = Claims([(nodes[0].address, nodes[0].port)], dial)
    assert some.claim(KEY, "2099-12-01T00:00:00Z x", 3600, "app1 id", NOW).runs
    for node in nodes:
        with dial(node.address, node.port) as connection:
            used = int(parse_info(connection.call("INFO", "memory"))["used_memory"])
            connection.call("CONFIG", "SET", "maxmemory-policy", "volatile-lru", "maxmemory", used + 300_000)
    with dial(*next((node.address, node.port) for node in nodes if holds(node))) as connection:
        tag = "{" + KEY + "}"  # the same slot, so the same node
        for number in range(1500):
            connection.call("SET", f"{tag}:page:{number}", "x" * 400, "EX", 600)
        assert int(parse_info(connection.call("INFO", "stats"))["evicted_keys"]) > 100
    assert "the run before 2099-12-01T00:00:00Z is that of app1" in some.claim(KEY, "2099-12-01T00:00:00Z x", 3600, "app2 id", NOW).why
    assert "still runs on app1" in some.claim(KEY, "2099-12-02T00:00:00Z x", 3600, "app2 id", NOW).why


def holds(node: Node) -> bool:
    with dial(node.address, node.port) as connection:
        return KEY in connection.call("KEYS", "*")


def test_an_answer_that_was_lost_does_not_lose_the_run(nodes: tuple[Node, ...]) -> None:
    lost = []

    class Losing(Connection):
        def call(self, *arguments: str | bytes | int) -> object:
            answer = super().call(*arguments)
            if arguments[0] == "HSETNX" and len(lost) < 2:
                lost.append(arguments)
                raise Unreachable("closed", "the connection was closed")
            return answer

    every = [(node.address, node.port) for node in nodes]
    assert Claims(every, lambda host, port: Losing(host, port, None, "default", PASSWORD, 5)).claim(KEY, "one x", 60, "app1 id", NOW).runs
    assert len(lost) == 2
    assert not Claims(every, dial).claim(KEY, "one x", 60, "app2 id", NOW).runs


def test_a_failover_is_waited_for(nodes: tuple[Node, ...], servers: Servers) -> None:
    (owner,) = (
        node for node in nodes if Claims([(nodes[0].address, nodes[0].port)], dial).claim(KEY, "one x", 60, "app1 id", NOW) and holds(node)
    )
    servers.stop(owner)
    back = Timer(2, servers.start, [owner])
    back.start()
    try:
        every = [(node.address, node.port) for node in nodes]
        assert not Claims(every, dial, patience=30).claim(KEY, "one x", 60, "app2 id", NOW).runs
    finally:
        back.join()


def test_the_program_says_what_systemd_understands(
    nodes: tuple[Node, ...],
    servers: Servers,
    load_program: Callable[[str], ModuleType],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    program = load_program("roles/app/files/run_once.py")
    shown = {"text": SHOWN.format("Sun 2099-11-29 00:00:00")}
    monkeypatch.setattr(program, "PATIENCE", 0)
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
