# SPDX-License-Identifier: GPL-3.0-or-later
"""Moves by the servers themselves, against servers that answer as Redis 8.4's and Valkey 9's documentation and sources have it."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.uptier.platform.plugins.module_utils.redis.cluster import Node, Refusal
from ansible_collections.uptier.platform.plugins.module_utils.redis.migrate import Move, Mover
from ansible_collections.uptier.platform.plugins.module_utils.redis.resp import RespError
from ansible_collections.uptier.platform.plugins.module_utils.redis.slots import members, show_ranges, to_ranges

SOURCE, TARGET = Node("h0", "10.0.0.1"), Node("h1", "10.0.0.2")


class Pair:
    """Two masters; a job that was begun ends after some looks at it."""

    def __init__(self, family: str) -> None:
        self.family = family
        self.slots = {"id1": set(range(3000)), "id2": set(range(3000, 16384))}
        self.jobs: list[dict[str, Any]] = []
        self.looks = 2
        self.now = 0.0
        self.fails = ""
        self.denied = False
        self.marks = ""
        self.log: list[str] = []

    def dial(self, address: str, port: int) -> Any:
        return End(self, "id1" if address == SOURCE.address else "id2")

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def begin(self, slots: set[int]) -> str:
        names = ("id", "slots_range", "last_error") if self.family == "redis" else ("name", "slot_ranges", "message")
        name = f"{len(self.jobs):040x}"
        state = "wait-accumulating-buf" if self.family == "redis" else "waiting-to-pause"
        self.jobs.append(
            {names[0]: name, names[1]: show_ranges(to_ranges(slots)), "state": state, names[2]: "", "left": self.looks, "slots": slots}
        )
        return name

    def look(self) -> list[list[Any]]:
        for job in self.jobs:
            if job["left"] == 0 and job["state"] not in ("completed", "success", "canceled"):
                job["state"] = "failed" if self.fails else "completed" if self.family == "redis" else "success"
                job["last_error" if self.family == "redis" else "message"] = self.fails
                if not self.fails:
                    self.slots["id1"] -= job["slots"]
                    self.slots["id2"] |= job["slots"]
            job["left"] = max(0, job["left"] - 1)
        return [[part for name, value in job.items() if name not in ("left", "slots") for part in (name, value)] for job in self.jobs]


class End:
    """A connection to one of them."""

    def __init__(self, pair: Pair, name: str) -> None:
        self.pair, self.name = pair, name

    def __enter__(self) -> End:
        return self

    def __exit__(self, *dummy: object) -> None:
        pass

    def call(self, *given: Any) -> Any:
        pair, words = self.pair, [str(word) for word in given]
        text = " ".join(words)
        if words[0] == "COMMAND":
            return [["known"] if words[2] == {"redis": "cluster|migration", "valkey": "cluster|migrateslots"}.get(pair.family) else None]
        if text == "CONFIG GET masteruser":
            return ["masteruser", "replica"]
        if words[:2] == ["ACL", "DRYRUN"]:
            return "User replica has no permissions to run the 'cluster|syncslots' command" if pair.denied else "OK"
        if text == "CLUSTER NODES":
            return f"{self.name} 10.0.0.1:6379@16379 myself,master - 0 0 1 connected 0-1 {pair.marks}"
        if text == "CLUSTER MYID":
            return self.name
        if text == "CLUSTER SLOTS":
            return [[first, last, ["", 0, one]] for one, slots in pair.slots.items() for first, last in to_ranges(slots)]
        pair.log.append(f"{self.name} {text}")
        if pair.family == "redis" and words[2:3] == ["IMPORT"]:
            assert self.name == "id2", "Redis is asked at the destination"
            edges = [int(word) for word in words[3:]]
            return pair.begin(members(zip(edges[::2], edges[1::2], strict=True)))
        if pair.family == "valkey" and words[1] == "MIGRATESLOTS":
            assert self.name == "id1", "Valkey is asked at the source"
            assert words[-2:] == ["NODE", "id2"]
            edges = [int(word) for word in words[3:-2]]
            pair.begin(members(zip(edges[::2], edges[1::2], strict=True)))
            return "OK"
        if text in ("CLUSTER MIGRATION STATUS ALL", "CLUSTER GETSLOTMIGRATIONS"):
            pair.log.pop()
            return pair.look()
        if words[1] == "CANCELSLOTMIGRATIONS" or words[2:3] == ["CANCEL"]:
            for job in pair.jobs:
                job["state"] = "canceled"
            return 1
        raise RespError(f"ERR unknown command {text}")


def mover(pair: Pair) -> Mover:
    return Mover(pair.dial, (), timeout=20, clock=lambda: pair.now, sleep=pair.sleep)


@pytest.mark.parametrize(("family", "command"), [("redis", "CLUSTER MIGRATION"), ("valkey", "CLUSTER MIGRATESLOTS")])
def test_slots_are_moved_by_the_servers_and_counted(family: str, command: str) -> None:
    pair = Pair(family)
    progress = mover(pair).run([Move(SOURCE, TARGET, ((0, 9), (500, 1999)))], [SOURCE, TARGET])
    assert pair.slots["id1"] == set(range(10, 500)) | set(range(2000, 3000))
    assert (progress.slots, progress.total, progress.mechanism) == (1510, 1510, command)
    assert len(pair.log) == 2, "two jobs of at most 1024 slots"
    assert "0 9 500 1513" in pair.log[0]


@pytest.mark.parametrize("family", ["redis", "valkey"])
def test_a_job_of_a_killed_run_is_waited_for_and_not_asked_for_again(family: str) -> None:
    pair = Pair(family)
    pair.begin(set(range(100)))
    progress = mover(pair).run([Move(SOURCE, TARGET, ((0, 199),))], [SOURCE, TARGET])
    assert progress.slots == 200
    assert len(pair.log) == 1
    assert "100 199" in pair.log[0]
    assert pair.slots["id1"] == set(range(200, 3000))


@pytest.mark.parametrize("family", ["redis", "valkey"])
def test_a_job_that_fails_is_told_in_the_servers_words(family: str) -> None:
    pair = Pair(family)
    pair.fails = "NOPERM User replica has no permissions"
    with pytest.raises(Refusal, match="NOPERM User replica") as caught:
        mover(pair).run([Move(SOURCE, TARGET, ((0, 9),))], [SOURCE, TARGET])
    assert caught.value.reason == "step_failed"
    # Redis would try again for ever; what was begun does not go on behind the back of whoever reads the message.
    assert [line for line in pair.log if "CANCEL" in line] == (["id2 CLUSTER MIGRATION CANCEL ID " + "0" * 40] if family == "redis" else [])
    assert len(pair.slots["id1"]) == 3000


@pytest.mark.parametrize(("attribute", "value"), [("denied", True), ("marks", "[77->-id2]"), ("family", "older")])
def test_keys_are_moved_one_by_one_where_the_servers_may_not(attribute: str, value: object) -> None:
    pair = Pair("redis")
    setattr(pair, attribute, value)
    run = mover(pair)
    with pytest.raises(Refusal, match="INFO"):  # the first that a move key by key asks for, which nobody answers here
        run._one(Move(SOURCE, TARGET, ((0, 9),)), [0])
    assert run.progress.mechanism == "key by key"
