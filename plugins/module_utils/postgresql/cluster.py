# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A PostgreSQL cluster as it is now: every member asked through Patroni, and etcd asked what it holds about them."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from ansible_collections.uptier.platform.plugins.module_utils.etcd.client import PATIENCE, ask_any
from ansible_collections.uptier.platform.plugins.module_utils.postgresql.failover import Cluster, stored_state, view
from ansible_collections.uptier.platform.plugins.module_utils.postgresql.patroni import Client, PatroniError

HISTORY = 5  # reports of the leader that tell how fast its log grows
LOCK_SECONDS = 30


class Busy(Exception):
    """Somebody else works on the cluster."""


class Etcd:
    """The keys of one cluster in etcd, through the first endpoint that answers."""

    def __init__(self, parameters: Mapping[str, Any]) -> None:
        self.parameters = parameters
        self.prefix = f"{parameters['namespace'].rstrip('/')}/{parameters['scope']}/"

    def call(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Return what etcd answers; OSError with every endpoint's words when none does."""
        return ask_any(self.parameters, self.parameters["etcd"], f"/v3/{path}", body)

    def read(self) -> dict[str, Any]:
        """Return what `Cluster` needs. Without a quorum, one member's last state."""
        query = {"key": _b64(self.prefix), "range_end": _b64(self.prefix[:-1] + "0")}
        seen = ""
        try:
            found = self.call("kv/range", query)
        except OSError as error:
            seen = str(error)
            try:
                found = self.call("kv/range", {**query, "serializable": True})
            except OSError:
                found = {}
        entries = {_text(entry["key"])[len(self.prefix) :]: entry for entry in found.get("kvs", [])}
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
        key = _b64(f"/uptier-operations{self.prefix}lock")
        lease = self.call("lease/grant", {"TTL": LOCK_SECONDS})["ID"]
        put = {"request_put": {"key": key, "value": _b64(json.dumps(dict(who))), "lease": lease}}
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


class Observer:
    """Looks at all members and at etcd at once."""

    def __init__(self, parameters: Mapping[str, Any]) -> None:
        self.parameters = parameters
        self.etcd = Etcd(parameters)
        self.urls = {member["name"]: member["url"] for member in parameters["members"]}

    def client(self, name: str) -> Client:
        return Client({**self.parameters, "url": self.urls[name]})

    def look(self) -> Cluster:
        with ThreadPoolExecutor(max_workers=1) as pool:
            stored = pool.submit(self.etcd.read)
            return view(self.parameters["scope"], ask_all(self.parameters, self.urls), stored.result())


def ask_all(parameters: Mapping[str, Any], urls: Mapping[str, str]) -> dict[str, Mapping[str, Any] | str]:
    """Return what each member says of itself, or why it says nothing; all are asked at once."""

    def ask(url: str) -> Mapping[str, Any] | str:
        try:
            answer = Client({**parameters, "url": url}).call("/patroni", timeout=PATIENCE)
        except PatroniError as error:
            return _short(str(error))
        return answer if isinstance(answer, Mapping) else f"answered {str(answer)[:100]!r} instead of its state"

    with ThreadPoolExecutor(max_workers=max(1, len(urls))) as pool:
        return dict(zip(urls, pool.map(ask, urls.values()), strict=True))


def _short(text: str) -> str:
    """What is wrong, without the address that stands beside it already."""
    for known in ("Connection refused", "timed out", "No route to host", "Network is unreachable", "certificate verify failed"):
        if known.lower() in text.lower():
            return known
    return text


def _b64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def _text(value: str) -> str:
    return base64.b64decode(value).decode()


def _decoded(value: str) -> Any:
    text = _text(value)
    try:
        return json.loads(text)
    except ValueError:
        return text
