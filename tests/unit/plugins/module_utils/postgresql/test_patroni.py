# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What plugins/modules/patroni_config.py and pg_cluster_info.py make of Patroni's answers."""

from __future__ import annotations

import io
import urllib.error
from typing import Any

import pytest
from ansible_collections.uptier.platform.plugins.module_utils.postgresql import patroni, patroni_client

CLUSTER: dict[str, Any] = {
    "scope": "main",
    "members": [
        {"name": "db1", "role": "leader", "state": "running", "host": "10.0.0.1", "port": 5432, "timeline": 3},
        {"name": "db2", "role": "sync_standby", "state": "streaming", "timeline": 3, "lag": 0, "pending_restart": True},
        {"name": "db3", "role": "replica", "state": "starting", "lag": "unknown"},
    ],
}
CONNECTION = {"url": "https://db1:8008/", "ca": None, "cert": None, "key": None, "username": "patroni", "password": "x"}


class Fake:
    """Answers /cluster from a list, the last one for ever."""

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)

    def call(self, path: str) -> Any:
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer


def test_who_serves() -> None:
    assert patroni.leader_of(CLUSTER) == "db1"
    assert [patroni.serves(CLUSTER, name) for name in ("db1", "db2", "db3", "db9")] == [True, True, False, False]
    assert not patroni.serves({"members": CLUSTER["members"][1:]}, "db2")


def test_the_cluster_as_data() -> None:
    seen = patroni.info(CLUSTER)
    assert seen["pending_restart"] == {"db2": {}}
    assert [member["lag_bytes"] for member in seen["members"]] == [None, 0, None]
    assert seen["members"][1]["synchronous"]
    assert not seen["paused"]


def test_a_patch_holds_what_differs_and_nothing_else() -> None:
    current = {"ttl": 30, "loop_wait": 3, "postgresql": {"parameters": {"max_connections": 100, "wal_level": "logical"}, "use_slots": True}}
    wanted = {"ttl": 20, "loop_wait": 3, "postgresql": {"parameters": {"max_connections": 200, "wal_level": "logical"}}}
    assert patroni.patch(current, wanted) == {"ttl": 20, "postgresql": {"parameters": {"max_connections": 200}}}
    assert patroni.patch(wanted, wanted) == {}


def test_null_removes_a_key_that_is_there() -> None:
    assert patroni.patch({"a": 1}, {"a": None, "b": None}) == {"a": None}


def test_a_number_is_no_truth_value() -> None:
    assert patroni.patch({"synchronous_mode": 1}, {"synchronous_mode": True}) == {"synchronous_mode": True}


def test_a_missing_part_is_sent_whole() -> None:
    assert patroni.patch({}, {"postgresql": {"use_slots": True}}) == {"postgresql": {"use_slots": True}}


def test_the_diff_shows_the_part_that_changes() -> None:
    assert patroni.pick({"ttl": 30, "x": {"y": 1, "z": 2}}, {"ttl": 20, "x": {"y": 3}}) == {"ttl": 30, "x": {"y": 1}}


def test_waiting_ends_when_the_member_serves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patroni_client, "LOOK_SECONDS", 0)
    refusal = patroni_client.PatroniError("not_reachable", "no answer.")
    assert patroni_client.wait_until_serving(Fake(refusal, {"members": []}, CLUSTER), "db2", 5)["scope"] == "main"


def test_waiting_is_bounded_and_says_what_was_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patroni_client, "LOOK_SECONDS", 0.01)
    monkeypatch.setattr(patroni_client.time, "monotonic", iter(range(100)).__next__)
    with pytest.raises(patroni_client.PatroniError, match="db3: replica, starting") as caught:
        patroni_client.wait_until_serving(Fake(CLUSTER), "db3", 3)
    assert caught.value.reason == "not_serving"
    with pytest.raises(patroni_client.PatroniError, match="Waited 3 s") as caught:
        patroni_client.wait_until_serving(Fake(patroni_client.PatroniError("not_reachable", "no answer.")), None, 3)
    assert caught.value.reason == "not_reachable"


def test_without_timeout_it_asks_once() -> None:
    assert patroni_client.wait_until_serving(Fake({"members": []}), "db1", 0) == {"members": []}
    with pytest.raises(patroni_client.PatroniError):
        patroni_client.wait_until_serving(Fake(patroni_client.PatroniError("not_reachable", "no answer.")), None, 0)


@pytest.mark.parametrize(
    ("error", "reason", "words"),
    [
        (urllib.error.HTTPError("u", 401, "no", {}, io.BytesIO(b"no auth")), "refused", "vault_patroni_api_password"),
        (urllib.error.HTTPError("u", 503, "no", {}, io.BytesIO(b"not now")), "refused", "503: not now"),
        (urllib.error.HTTPError("u", 409, "Conflict", {}, io.BytesIO(b"<!DOCTYPE HTML>")), "conflict", "409: Conflict"),
        (urllib.error.URLError("refused"), "not_reachable", "does not answer GET /config"),
    ],
)
def test_errors_say_who_answered_what(monkeypatch: pytest.MonkeyPatch, error: Exception, reason: str, words: str) -> None:
    def fail(*dummy: Any, **more: Any) -> None:
        raise error

    monkeypatch.setattr(patroni_client, "open_url", fail)
    with pytest.raises(patroni_client.PatroniError, match=words) as caught:
        patroni_client.Client(CONNECTION).call("/config")
    assert caught.value.reason == reason


def test_answers_that_are_no_json_are_text(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patroni_client, "open_url", lambda *dummy, **more: io.BytesIO(b"scheduled"))
    assert patroni_client.Client(CONNECTION).call("/switchover", "POST", {}) == "scheduled"


@pytest.mark.parametrize(
    ("config", "synchronous"),
    [
        ({"synchronous_mode": True}, True),
        ({"synchronous_mode": "quorum"}, True),
        ({"synchronous_mode": False}, False),
        ({}, False),
        ({"synchronous_mode": True, "standby_cluster": {"host": "10.0.0.31"}}, False),
        ({"synchronous_mode": True, "standby_cluster": None}, True),
    ],
)
def test_whether_commits_wait_for_a_standby(config, synchronous):
    assert patroni.synchronous(config) is synchronous
