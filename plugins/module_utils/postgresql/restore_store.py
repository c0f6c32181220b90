# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What etcd keeps of a restore: its record, for as long as it has not ended, and the cluster's lock, for as long as somebody works on it.

The lock is that of `patroni_store`, so that no change of leaders comes between. One process of Ansible takes it for each of its steps in
turn: it is of the run, not of the process, and ends by itself `LOCK_SECONDS` after the last step.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from ansible_collections.uptier.platform.plugins.module_utils.postgresql.errors import Busy
from ansible_collections.uptier.platform.plugins.module_utils.postgresql.patroni_store import LOCK_SECONDS, Store, encoded, text_of
from ansible_collections.uptier.platform.plugins.module_utils.postgresql.restore_plan import Record

LOOK_SECONDS = 1.0
# What Patroni believes of the cluster that was. It keeps its configuration, and the identifier is written anew.
FORGOTTEN = ("leader", "sync", "status", "failover", "failsafe", "history")


class RestoreStore(Store):
    """The keys of one cluster, as a restore reads and writes them."""

    @property
    def record_key(self) -> str:
        return encoded(f"/uptier-operations{self.prefix}restore")

    def record(self) -> Record | None:
        """Return the restore that has not ended.

        Raises:
            OSError: etcd does not answer.
        """
        text = self._value(self.record_key)
        return Record.read(text) if text else None

    def begin(self, record: Record) -> None:
        self.call("kv/put", {"key": self.record_key, "value": encoded(record.as_text())})

    def end(self) -> None:
        self.call("kv/deleterange", {"key": self.record_key})

    def running_members(self) -> list[str]:
        """Return the members whose Patroni runs: it renews its key."""
        prefix = f"{self.prefix}members/"
        query = {"key": encoded(prefix), "range_end": encoded(prefix[:-1] + "0"), "keys_only": True}
        found = self.call("kv/range", query).get("kvs", [])
        return sorted(text_of(entry["key"])[len(prefix) :] for entry in found)

    def forget(self, system: str) -> None:
        """Have Patroni take the data that it finds for the cluster's: nobody leads, nothing was replicated, the identifier is this one."""
        gone = [{"request_delete_range": {"key": encoded(self.prefix + name)}} for name in FORGOTTEN]
        put = {"request_put": {"key": encoded(f"{self.prefix}initialize"), "value": encoded(system)}}
        self.call("kv/txn", {"success": [*gone, put]})

    def _value(self, key: str) -> str:
        entry = next(iter(self.call("kv/range", {"key": key}).get("kvs", [])), None)
        return text_of(entry.get("value", "")) if entry else ""

    # The lock ---------------------------------------------------------------------------------------------------------

    def hold(self, run: str, who: Mapping[str, Any]) -> Callable[[], None]:
        """Take the lock for a run, or go on holding it; return what ends that, and leaves it for the run's next step.

        Raises:
            Busy: somebody else works on the cluster.
            OSError: etcd does not answer.
        """
        lease = self._take(run, who)
        ended = threading.Event()

        def keep() -> None:
            while not ended.wait(LOCK_SECONDS / 4):
                self._renew(lease)

        thread = threading.Thread(target=keep, daemon=True)
        thread.start()

        def leave() -> None:
            ended.set()
            self._renew(lease)

        return leave

    def let_go(self, run: str) -> None:
        """Give a run's lock back."""
        holder = self._holder()
        if holder.get("run") == run:
            self.call("lease/revoke", {"ID": holder["lease"]})

    def _renew(self, lease: str) -> None:
        try:
            self.call("lease/keepalive", {"ID": lease})
        except OSError:
            return  # tried again in a moment

    def _holder(self) -> dict[str, Any]:
        text = self._value(self.lock_key)
        return dict(json.loads(text)) if text else {}

    def _seconds_left(self, lease: str) -> int:
        return int(self.call("lease/timetolive", {"ID": lease}).get("TTL", 0))

    def _take(self, run: str, who: Mapping[str, Any]) -> str:
        least = LOCK_SECONDS + 1
        while True:
            holder = self._holder()
            if holder.get("run") == run:
                self._renew(holder["lease"])
                return str(holder["lease"])
            if not holder:
                lease = str(self.call("lease/grant", {"TTL": LOCK_SECONDS})["ID"])
                put = {
                    "request_put": {"key": self.lock_key, "value": encoded(json.dumps({**who, "run": run, "lease": lease})), "lease": lease}
                }
                free = {"key": self.lock_key, "target": "CREATE", "result": "EQUAL", "create_revision": "0"}
                if self.call("kv/txn", {"compare": [free], "success": [put]}).get("succeeded"):
                    return lease
                self.call("lease/revoke", {"ID": lease})
                continue
            # A run that was killed holds it until its lease ends; one that goes on renews it.
            left = self._seconds_left(holder["lease"]) if "lease" in holder else LOCK_SECONDS
            if "lease" not in holder or left > least:
                raise Busy(f"{holder.get('what')} by process {holder.get('process')} on {holder.get('host')}, since {holder.get('since')}")
            least = left
            time.sleep(LOOK_SECONDS)
