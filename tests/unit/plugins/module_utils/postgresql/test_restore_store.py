# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What etcd keeps of a restore, on an etcd that is a dictionary with a clock of its own."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import pytest
from ansible_collections.uptier.platform.plugins.module_utils.postgresql import restore_store
from ansible_collections.uptier.platform.plugins.module_utils.postgresql.errors import Busy
from ansible_collections.uptier.platform.plugins.module_utils.postgresql.patroni_store import LOCK_SECONDS
from ansible_collections.uptier.platform.plugins.module_utils.postgresql.restore_plan import Choice, Record, Request
from ansible_collections.uptier.platform.plugins.module_utils.postgresql.restore_store import RestoreStore

RECORD = Record("20261126T120000Z", "db1", Request("time", "1795694400"), Choice("F1", 1, 3, 5, ("--set=F1",), "then"), "now")
LOCK = "/uptier-operations/uptier/main/lock"


def text(value: str) -> str:
    return base64.b64decode(value).decode()


class Etcd:
    """Keys, leases and the time, which passes only while somebody sleeps."""

    def __init__(self) -> None:
        self.now = 0.0
        self.keys: dict[str, tuple[str, str | None]] = {}
        self.leases: dict[str, float] = {}
        self.renewed_by_another = False

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        if self.renewed_by_another and int(self.now) % 7 == 0:
            self.leases = dict.fromkeys(self.leases, self.now + LOCK_SECONDS)

    def alive(self) -> dict[str, tuple[str, str | None]]:
        gone = {lease for lease, until in self.leases.items() if until <= self.now}
        self.keys = {key: entry for key, entry in self.keys.items() if entry[1] not in gone}
        return self.keys

    def put(self, given: Mapping[str, Any]) -> None:
        self.keys[text(given["key"])] = (text(given["value"]), given.get("lease"))

    def call(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        keys = self.alive()
        if path == "kv/put":
            self.put(body)
        elif path == "kv/deleterange":
            keys.pop(text(body["key"]), None)
        elif path == "kv/range":
            first, last = text(body["key"]), text(body["range_end"]) if "range_end" in body else text(body["key"]) + "\0"
            found = sorted(key for key in keys if first <= key < last)
            return {"kvs": [{"key": restore_store.encoded(key), "value": restore_store.encoded(keys[key][0])} for key in found]}
        elif path == "kv/txn":
            if any(text(entry["key"]) in keys for entry in body.get("compare", [])):
                return {}
            for step in body["success"]:
                if "request_put" in step:
                    self.put(step["request_put"])
                else:
                    keys.pop(text(step["request_delete_range"]["key"]), None)
            return {"succeeded": True}
        elif path == "lease/grant":
            name = str(len(self.leases) + 1)
            self.leases[name] = self.now + body["TTL"]
            return {"ID": name}
        elif path == "lease/keepalive":
            self.leases[body["ID"]] = self.now + LOCK_SECONDS
        elif path == "lease/timetolive":
            return {"TTL": str(int(self.leases[body["ID"]] - self.now))}
        elif path == "lease/revoke":
            self.leases[body["ID"]] = 0
        return {}


@pytest.fixture
def etcd(monkeypatch: pytest.MonkeyPatch) -> Etcd:
    found = Etcd()
    monkeypatch.setattr(RestoreStore, "call", lambda self, path, body: found.call(path, body))
    # Its own `time`: that of the process may be in use by a thread that another test has left.
    monkeypatch.setattr(restore_store, "time", SimpleNamespace(sleep=found.sleep))
    return found


@pytest.fixture
def store(etcd: Etcd) -> RestoreStore:
    return RestoreStore({"namespace": "/uptier/", "scope": "main"})


WHO = {"what": "restore", "process": 7, "host": "db1", "since": "12:00"}


def test_a_record_stays_until_the_end(store: RestoreStore) -> None:
    assert store.record() is None
    store.begin(RECORD)
    assert store.record() == RECORD
    store.end()
    assert store.record() is None


def test_patroni_finds_a_cluster_without_a_past(store: RestoreStore, etcd: Etcd) -> None:
    for name in ("leader", "sync", "status", "failover", "failsafe", "history", "config", "initialize", "members/db1", "members/db2"):
        etcd.keys[f"/uptier/main/{name}"] = ("old", None)
    etcd.keys["/uptier/maintenance/leader"] = ("another cluster's", None)
    assert store.running_members() == ["db1", "db2"]
    store.forget("7710689688293393202")
    left = {key.removeprefix("/uptier/"): value for key, (value, dummy) in etcd.keys.items()}
    assert left == {
        "main/config": "old",
        "main/initialize": "7710689688293393202",
        "main/members/db1": "old",
        "main/members/db2": "old",
        "maintenance/leader": "another cluster's",
    }


def test_the_lock_goes_from_step_to_step_of_a_run(store: RestoreStore, etcd: Etcd) -> None:
    for dummy in range(3):
        store.hold("one", WHO)()
        etcd.sleep(LOCK_SECONDS - 1)
        assert LOCK in etcd.alive()
    store.let_go("another")
    assert LOCK in etcd.alive()
    store.let_go("one")
    assert LOCK not in etcd.alive()
    store.let_go("one")


def test_a_run_that_was_killed_is_waited_for(store: RestoreStore, etcd: Etcd) -> None:
    store.hold("one", WHO)()
    store.hold("two", WHO)()
    assert etcd.now <= LOCK_SECONDS + 1
    assert json.loads(etcd.alive()[LOCK][0])["run"] == "two"


def test_a_run_that_goes_on_is_not_disturbed(store: RestoreStore, etcd: Etcd) -> None:
    store.hold("one", WHO)()
    etcd.renewed_by_another = True
    with pytest.raises(Busy, match="restore by process 7 on db1, since 12:00"):
        store.hold("two", WHO)
    assert etcd.now < LOCK_SECONDS


def test_a_change_of_leaders_is_not_waited_for(store: RestoreStore, etcd: Etcd) -> None:
    etcd.keys[LOCK] = (json.dumps({**WHO, "what": "switchover"}), None)
    with pytest.raises(Busy, match="switchover by process 7"):
        store.hold("two", WHO)
    assert etcd.now == 0
