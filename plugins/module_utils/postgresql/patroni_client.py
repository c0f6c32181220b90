# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The one client of Patroni's REST interface: calls, looks at all members at once, and bounded waits that end on what is seen."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from ansible.module_utils.urls import open_url
from ansible_collections.uptier.platform.plugins.module_utils.postgresql.deadline import Deadline
from ansible_collections.uptier.platform.plugins.module_utils.postgresql.errors import PostgresqlError
from ansible_collections.uptier.platform.plugins.module_utils.postgresql.patroni import (
    describe,
    info,
    lacking,
    leader_of,
    serves,
    synchronous,
)

LOOK_SECONDS = 1.0
ANSWER_SECONDS = 3  # of one member, when all are asked
WRONG_PASSWORD = " Compare vault_patroni_api_password and the allowlist with the member's patroni.yml."
REFUSALS = {
    401: ("refused", WRONG_PASSWORD),
    403: ("refused", WRONG_PASSWORD),
    409: ("conflict", " Somebody else changed it at the same time."),
}
LOGIN_SPEC: dict[str, Any] = {
    "ca": {"type": "path"},
    "cert": {"type": "path"},
    "key": {"type": "path", "no_log": False},
    "username": {"type": "str"},
    "password": {"type": "str", "no_log": True},
}
CONNECTION_SPEC: dict[str, Any] = {"url": {"type": "str", "required": True}, **LOGIN_SPEC}


class PatroniError(PostgresqlError):
    """Patroni does not answer, refuses, or does not get where it was to be."""


class Client:
    """One member's REST interface."""

    def __init__(self, parameters: Mapping[str, Any]) -> None:
        self.parameters = parameters

    def call(self, path: str, method: str = "GET", body: Any = None, timeout: int = 10) -> Any:
        """Return the decoded answer; an answer that says no, or none, raises PatroniError."""
        given = self.parameters
        try:
            answer = open_url(
                given["url"].rstrip("/") + path,
                method=method,
                data=json.dumps(body).encode() if body is not None else None,
                timeout=timeout,
                ca_path=given["ca"],
                client_cert=given["cert"],
                client_key=given["key"],
                url_username=given["username"],
                url_password=given["password"],
                force_basic_auth=bool(given["username"]),
                use_proxy=False,
            )
            text = answer.read().decode()
        except OSError as error:
            if hasattr(error, "code") and hasattr(error, "read"):
                said = error.read().decode(errors="replace").strip()
                reason, hint = REFUSALS.get(error.code, ("refused", ""))
                # Patroni's plain refusals are a page of HTML whose only word is the code's own.
                said = str(error.reason) if said.startswith("<") else said
                raise PatroniError(reason, f"Patroni answered {method} {path} with {error.code}: {said or error}.{hint}") from error
            raise PatroniError("not_reachable", f"Patroni at {given['url']} does not answer {method} {path}: {error}.") from error
        try:
            return json.loads(text)
        except ValueError:
            return text


def ask_all(parameters: Mapping[str, Any], urls: Mapping[str, str]) -> dict[str, Mapping[str, Any] | str]:
    """Return what each member says of itself, or why it says nothing; all are asked at once."""

    def ask(url: str) -> Mapping[str, Any] | str:
        try:
            answer = Client({**parameters, "url": url}).call("/patroni", timeout=ANSWER_SECONDS)
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


def wait_until_serving(client: Client, member: str | None, timeout: int) -> dict[str, Any]:
    """Return the cluster once it has a leader and the member (if one is named) leads or streams."""
    deadline = Deadline(timeout)
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
        if deadline.passed:
            break
        time.sleep(LOOK_SECONDS)
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


def wait_until_well(client: Client, name: str, timeout: int, began: float | None = None) -> None:
    """Wait until the member leads or streams, and a synchronous standby is there again where the cluster wants one.

    Args:
        client: of that member.
        name: the member.
        timeout: in seconds.
        began: when the work on it began, by the monotonic clock; now, where it is not given.
    """
    deadline = Deadline(timeout, began)
    wants_standby = synchronous(client.call("/config"))
    while True:
        missing = lacking(info(client.call("/cluster")), name, wants_standby)
        if not missing:
            return
        if deadline.passed:
            raise PatroniError("not_serving", f"{timeout} s after work on {name} began, {missing}. Look at `journalctl -u patroni` there.")
        time.sleep(LOOK_SECONDS)


def wait_until_rebuilt(client: Client, name: str, timeout: int) -> None:
    """Wait until the member has left its old data (it stops streaming), then until it streams again."""
    deadline = Deadline(timeout)
    began = time.monotonic()
    left = False
    seen: dict[str, Any] = {}
    while not deadline.passed:
        try:
            seen = next((entry for entry in info(client.call("/cluster"))["members"] if entry["name"] == name), {})
        except PatroniError:
            seen = {}  # a member that is being rebuilt may not answer for a moment
        left = left or seen.get("state") not in ("streaming", "running")
        if left and seen.get("state") == "streaming":
            wait_until_well(client, name, timeout, began)
            return
        time.sleep(LOOK_SECONDS)
    raise PatroniError(
        "not_serving",
        f"{name} does not stream {timeout} s after its rebuild began (it is {seen.get('state', 'silent')}). Look at `journalctl -u patroni` "
        "there. The copy may simply need longer: run this again with a longer timeout.",
    )
