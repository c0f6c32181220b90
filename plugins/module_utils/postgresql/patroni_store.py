# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What etcd holds about a cluster under Patroni, and the lock there against a second operation."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Callable, Mapping
from typing import Any

from ansible_collections.uptier.platform.plugins.module_utils.etcd.client import ask_any
from ansible_collections.uptier.platform.plugins.module_utils.postgresql.errors import Busy
from ansible_collections.uptier.platform.plugins.module_utils.postgresql.picture import stored_state

HISTORY = 5  # earlier reports of the leader that tell how fast its log grows
LOCK_SECONDS = 30


class Store:
    """The keys of one cluster in etcd, through the first endpoint that answers."""

    def __init__(self, parameters: Mapping[str, Any]) -> None:
        self.parameters = parameters
        self.prefix = f"{parameters['namespace'].rstrip('/')}/{parameters['scope']}/"

    @property
    def lock_key(self) -> str:
        return encoded(f"/uptier-operations{self.prefix}lock")

    def call(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Return what etcd answers; OSError with every endpoint's words when none does."""
        return ask_any(self.parameters, self.parameters["etcd"], f"/v3/{path}", body)

    def read(self) -> dict[str, Any]:
        """Return what `picture.Cluster` takes. Without a quorum, one member's last state."""
        query = {"key": encoded(self.prefix), "range_end": encoded(self.prefix[:-1] + "0")}
        seen = ""
        try:
            found = self.call("kv/range", query)
        except OSError as error:
            seen = str(error)
            try:
                found = self.call("kv/range", {**query, "serializable": True})
            except OSError:
                found = {}
        entries = {text_of(entry["key"])[len(self.prefix) :]: entry for entry in found.get("kvs", [])}
        keys = {name: _decoded(entry.get("value", "")) for name, entry in entries.items() if "/" not in name}
        history, left = [], None
        if not seen:
            history = self._history(entries.get("status"))
            left = self._left(entries.get("leader"))
        return stored_state(keys, history, left, seen)

    def _history(self, entry: Mapping[str, Any] | None) -> list[Any]:
        """Earlier values of a key, oldest first, as far back as etcd has not compacted them away."""
        values: list[Any] = []
        while entry and len(values) < HISTORY and int(entry["mod_revision"]) > int(entry["create_revision"]):
            try:
                older = self.call("kv/range", {"key": entry["key"], "revision": str(int(entry["mod_revision"]) - 1)})
            except OSError:
                break
            entry = next(iter(older.get("kvs", [])), None)
            if entry:
                values.insert(0, _decoded(entry.get("value", "")))
        return values

    def _left(self, entry: Mapping[str, Any] | None) -> float | None:
        """Seconds until the lease of a key runs out."""
        if not entry or not entry.get("lease"):
            return None
        try:
            return float(self.call("lease/timetolive", {"ID": entry["lease"]}).get("TTL", 0))
        except OSError:
            return None

    def lock(self, who: Mapping[str, Any]) -> Callable[[], None]:
        """Take the cluster's lock, which ends by itself soon after this process; return what gives it back.

        Raises:
            Busy: somebody else holds it; the text says who.
            OSError: etcd does not answer.
        """
        key = self.lock_key
        lease = self.call("lease/grant", {"TTL": LOCK_SECONDS})["ID"]
        put = {"request_put": {"key": key, "value": encoded(json.dumps(dict(who))), "lease": lease}}
        look = {"request_range": {"key": key}}
        free = {"key": key, "target": "CREATE", "result": "EQUAL", "create_revision": "0"}
        answer = self.call("kv/txn", {"compare": [free], "success": [put], "failure": [look]})
        if not answer.get("succeeded"):
            self.call("lease/revoke", {"ID": lease})
            holder = _decoded(answer["responses"][0]["response_range"]["kvs"][0].get("value", ""))
            raise Busy(f"{holder.get('what')} by process {holder.get('process')} on {holder.get('host')}, since {holder.get('since')}")
        ended = threading.Event()

        def keep() -> None:
            while not ended.wait(LOCK_SECONDS / 4):
                try:
                    self.call("lease/keepalive", {"ID": lease})
                except OSError:
                    continue

        threading.Thread(target=keep, daemon=True).start()

        def release() -> None:
            ended.set()
            try:
                self.call("lease/revoke", {"ID": lease})
            except OSError:
                return  # it ends by itself

        return release


def encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def text_of(value: str) -> str:
    return base64.b64decode(value).decode()


def _decoded(value: str) -> Any:
    text = text_of(value)
    try:
        return json.loads(text)
    except ValueError:
        return text
