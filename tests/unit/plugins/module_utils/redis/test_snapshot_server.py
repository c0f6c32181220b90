# SPDX-License-Identifier: GPL-3.0-or-later
"""Snapshots of real Redis servers are taken, read by another server, and put back into clusters of another shape."""

from __future__ import annotations

import random
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from ansible_collections.uptier.platform.plugins.module_utils.redis import snapshot
from ansible_collections.uptier.platform.plugins.module_utils.redis.cluster import Node, Shape
from ansible_collections.uptier.platform.plugins.module_utils.redis.cluster_apply import Cluster
from ansible_collections.uptier.platform.plugins.module_utils.redis.migrate import Mover
from ansible_collections.uptier.platform.plugins.module_utils.redis.resp import Connection
from harness.redis import PASSWORD, Client, Servers, dial

VALUES = {"bytes": "\udcff\udc80{ä}\r\n$", "empty": "", "long": "x" * 300_000}


def cluster(nodes: list[Node], masters: int) -> None:
    found = Cluster(Shape(tuple(nodes), masters, 0), dial, timeout=60, interval=0.05, mover=Mover(dial, ("default", PASSWORD)))
    found.converge(found.plan()[1])


@pytest.fixture
def checker(servers: Servers, monkeypatch: pytest.MonkeyPatch) -> Servers:
    """The program that checks snapshots is the server by another name, and knows it by its name."""
    program = Path(servers.program[0]).resolve()
    link = servers.folder / "redis-check-rdb"
    link.symlink_to(program)
    monkeypatch.setattr(snapshot, "CHECKER", str(link))
    for name, value in servers.environment.items():
        monkeypatch.setenv(name, value)
    return servers


def taken(servers: Servers, node: Node) -> Path:
    target = servers.folder / f"{node.port}.rdb"
    with dial(node.address, node.port) as connection:
        snapshot.take(connection, servers.folder / node.label / "dump.rdb", target, pause=0.02)
    return target


@contextmanager
def reading(servers: Servers, rdb: Path) -> Iterator[Connection]:
    directory = servers.folder / f"read-{rdb.stem}"
    directory.mkdir()
    (directory / "dump.rdb").hardlink_to(rdb)
    process = subprocess.Popen(
        snapshot.server_words(directory, directory / "s"), executable=snapshot.CHECKER, stdout=subprocess.DEVNULL, env=servers.environment
    )
    try:
        with snapshot.answers(directory / "s", lambda: process.poll() is None, seconds=120) as connection:
            yield connection
    finally:
        process.kill()
        process.wait()


def test_keys_come_back_into_a_cluster_of_another_shape(checker: Servers) -> None:
    old = [checker.node("h0")]
    cluster(old, 1)
    client = Client(old)
    for number in range(700):
        client.ask("SET", f"k:{number}", "x" * (number % 50))
    for name, value in VALUES.items():
        client.ask("SET", name, value)
    client.ask("ZADD", "{tag}a", 1, "one", 2, "two")
    client.ask("SET", "lives", "x", "PX", 600_000)
    client.ask("SET", "dies", "x", "PX", 200)
    rdb = taken(checker, old[0])
    counted = snapshot.count(rdb)
    assert counted.keys >= 705
    assert counted.expires >= 1

    new = [checker.node(f"n{number}") for number in range(3)]
    cluster(new, 3)
    there = Client(new)
    there.ask("SET", "k:1", "of today")
    target = snapshot.Target([("127.0.0.1", 1), *((node.address, node.port) for node in new)], dial, pause=0.05)
    time.sleep(0.3)
    with reading(checker, rdb) as source:
        snapshot.check_loaded(source.call("DBSIZE"), counted, str(rdb))
        done = snapshot.put_back(source, target, replace=False)
        again = snapshot.put_back(source, target, replace=False)
        over = snapshot.put_back(source, target, replace=True)
    target.close()
    assert (done.written, done.kept) == (704, 1)
    assert (again.written, again.kept) == (0, 705)
    assert over.written == 705
    assert over.kept == 0
    assert there.ask("GET", "k:1") == "x"
    for name, value in VALUES.items():
        assert there.ask("GET", name) == value
    assert there.ask("ZSCORE", "{tag}a", "two") in ("2", 2, 2.0)
    assert 0 < there.ask("PTTL", "lives") <= 600_000
    assert there.ask("EXISTS", "dies") == 0


def test_a_node_that_goes_away_meanwhile_is_asked_again(checker: Servers) -> None:
    nodes = [checker.node(f"h{number}") for number in range(2)]
    cluster(nodes, 2)
    target = snapshot.Target([(node.address, node.port) for node in nodes], dial, pause=0.05)
    target.learn()
    with dial(nodes[0].address, nodes[0].port) as connection:
        connection.call("SET", next(key for key in map(str, range(99)) if target.owners[snapshot.key_slot(key)][1] == nodes[0].port), "x")
        key = connection.call("RANDOMKEY")
        held = connection.call("DUMP", key)
        connection.call("DEL", key)
    checker.stop(nodes[0])
    checker.start(nodes[0])
    result = snapshot.Restored()
    target.write([(key, held, 0)], False, result)
    target.close()
    assert result.written == 1


def test_a_damaged_snapshot_is_told(checker: Servers) -> None:
    node = checker.node("h0")
    cluster([node], 1)
    client = Client([node])
    for number in range(50):
        client.ask("SET", f"k:{number}", "abcdefgh" * 8)
    rdb = taken(checker, node)
    whole = rdb.read_bytes()
    assert snapshot.count(rdb).keys == 50
    for name, content in {
        "cut": whole[: len(whole) // 2],
        "flipped": _flipped(whole),
        "empty": b"",
        "other": b"nothing of the kind",
    }.items():
        rdb.unlink(missing_ok=True)
        rdb.write_bytes(content)
        with pytest.raises(snapshot.SnapshotError) as caught:
            snapshot.count(rdb)
        assert caught.value.reason == "damaged", name


def _flipped(whole: bytes) -> bytes:
    place = random.randrange(len(whole) // 2, len(whole) - 8)
    return whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :]


def test_what_cannot_be_written_is_told(checker: Servers) -> None:
    node = checker.node("h0")
    cluster([node], 1)
    directory = checker.folder / node.label
    with dial(node.address, node.port) as connection:
        connection.call("CONFIG", "SET", "rdbcompression", "no")
        (directory / "dump.rdb").mkdir()  # nothing can be moved there
        with pytest.raises(snapshot.SnapshotError) as caught:
            snapshot.take(connection, directory / "dump.rdb", checker.folder / "x.rdb", pause=0.02)
    assert caught.value.reason == "not_saved"
    assert not (checker.folder / "x.rdb").exists()


@pytest.mark.parametrize(
    ("key", "slot"), [("123456789", 12739), ("{user1000}.following", 3443), ("user1000", 3443), ("foo{}{bar}", 8363), ("", 0)]
)
def test_slots_are_those_of_the_specification(key: str, slot: int) -> None:
    assert snapshot.key_slot(key) == slot


def test_slots_without_a_snapshot_are_counted() -> None:
    assert snapshot.coverage([{"slots": [[0, 8191]]}, {"slots": [[8192, 16000]]}]) == 383
    assert snapshot.coverage([{"slots": [[0, 16383]]}]) == 0
    assert snapshot.coverage([]) == 16384


def test_a_cluster_that_lacks_slots_takes_nothing() -> None:
    class Node:
        def call(self, *dummy: str) -> list[list[object]]:
            return [[0, 100, ["10.0.0.1", 6379, "id"]]]

        def patience(self, seconds: float) -> None:
            assert seconds > 0

        def close(self) -> None:
            pass

    with pytest.raises(snapshot.SnapshotError, match="16283 slots are served by nobody") as caught:
        snapshot.Target([("10.0.0.1", 6379)], lambda *dummy: Node()).learn()
    assert caught.value.reason == "no_cluster"
