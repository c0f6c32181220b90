# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Bounded waits that end on what a Patroni cluster is seen to do."""

from __future__ import annotations

import time
from typing import Any

from ansible_collections.uptier.platform.plugins.module_utils.postgresql.patroni import Client, PatroniError, describe, leader_of, serves

INTERVAL = 1.0


def wait(client: Client, member: str | None, timeout: int) -> dict[str, Any]:
    """Return the cluster once it has a leader and the member (if one is named) leads or streams."""
    deadline = time.monotonic() + timeout
    while True:
        seen, refusal = {}, None
        try:
            seen = client.call("/cluster")
            if timeout == 0 or (serves(seen, member) if member else leader_of(seen)):
                return seen
        except PatroniError as error:
            if timeout == 0:
                raise
            refusal = error
        if time.monotonic() >= deadline:
            break
        time.sleep(INTERVAL)
    if refusal:
        raise PatroniError(
            refusal.reason, f"{refusal} Waited {timeout} s. Look at `journalctl -u patroni` there; Patroni also needs a quorum of etcd."
        )
    subject = f"{member} does not lead or stream" if member else "no member leads"
    raise PatroniError(
        "not_serving",
        f"After {timeout} s {subject}. Seen: {describe(seen)}. Look at `journalctl -u patroni` on the member; "
        "a member that diverged is rebuilt with `patronictl reinit`.",
    )
