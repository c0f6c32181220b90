# SPDX-License-Identifier: GPL-3.0-or-later
"""`make bench-redis`: one master becomes three, by the module and by redis-cli, with the same data and a client that writes."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
from ansible_collections.uptier.platform.plugins.module_utils.redis.cluster import Shape
from ansible_collections.uptier.platform.plugins.module_utils.redis.cluster_apply import Cluster
from ansible_collections.uptier.platform.plugins.module_utils.redis.migrate import Mover

ROOT = Path(__file__).resolve().parents[5]
sys.path.insert(0, str(ROOT / "tests"))

from harness.redis import PASSWORD, Client, Servers, dial  # noqa: E402 - the path has to be set first
from harness.servers import find_redis, find_redis_cli  # noqa: E402

KEYS = int(os.environ.get("UPTIER_KEYS", "50000"))
ROUNDS = int(os.environ.get("UPTIER_ROUNDS", "3"))
WAYS = {"redis_cluster": None, "redis-cli, defaults": [], "redis-cli --cluster-pipeline 100": ["--cluster-pipeline", "100"]}


def seconds(way: list[str] | None) -> float:
    """Move two thirds of the keys; return the seconds. Nothing may be missing, and no write refused."""
    with tempfile.TemporaryDirectory(prefix="uptier-redis-") as folder:
        servers = Servers(Path(folder), *find_redis())
        try:
            nodes = [servers.node(f"h{number}") for number in range(3)]
            first = Cluster(Shape(tuple(nodes[:1]), 1), dial)
            first.converge(first.plan()[1])
            with dial(nodes[0].address, nodes[0].port) as connection:
                for start in range(0, KEYS, 500):
                    connection.pipeline([("SET", f"k:{number}", "x" * 100) for number in range(start, start + 500)])
            cluster = Cluster(Shape(tuple(nodes), 3), dial, mover=Mover(dial, ("default", PASSWORD)))
            for step in [step for step in cluster.plan()[1] if step.action == "meet"]:
                cluster.act(step)
            time.sleep(4)  # until the new ones believe in the cluster
            client = Client(nodes[:1])
            client.start()
            began = time.monotonic()
            if way is None:
                cluster.converge(cluster.plan()[1])
                took = cluster.moved[-1].seconds
            else:
                program, environment = find_redis_cli()
                login = ["-a", PASSWORD, "--no-auth-warning", "--cluster", "rebalance", f"127.0.0.1:{nodes[0].port}"]
                subprocess.run([*program, *login, "--cluster-use-empty-masters", *way], env=environment, check=True, capture_output=True)
                took = time.monotonic() - began
            client.finish()
            assert client.errors == []
            assert client.missing() == []
            print(f"  {took:6.2f} s, slowest write of the client {client.worst * 1000:.0f} ms")
            return took
        finally:
            servers.end()


def test_ratio() -> None:
    if not find_redis() or not find_redis_cli():
        pytest.skip("not verified here: redis-server or redis-cli (Debian) can neither be found nor fetched")
    taken: dict[str, list[float]] = {name: [] for name in WAYS}
    for dummy in range(ROUNDS):
        for name, way in WAYS.items():
            print(name)
            taken[name].append(seconds(way))
    ours = statistics.median(taken["redis_cluster"])
    for name in list(WAYS)[1:]:
        print(f"measured: {KEYS} keys, {name} takes {statistics.median(taken[name]) / ours:.2f} times as long (median of {ROUNDS})")
