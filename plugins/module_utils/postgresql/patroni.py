# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Patroni's REST interface: a small client, and pure functions over what it returns."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from ansible.module_utils.urls import open_url

LEADER_ROLES = ("leader", "master", "primary", "standby_leader")
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


class PatroniError(Exception):
    """What went wrong, with a machine-readable reason."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


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


def leader_of(cluster: Mapping[str, Any]) -> str | None:
    """Return the name of the member that leads and runs."""
    for member in cluster.get("members", []):
        if member.get("role") in LEADER_ROLES and member.get("state") == "running":
            return str(member["name"])
    return None


def serves(cluster: Mapping[str, Any], name: str) -> bool:
    """Tell whether there is a leader and this member leads or streams."""
    if leader_of(cluster) is None:
        return False
    mine = next((member for member in cluster["members"] if member["name"] == name), {})
    return mine.get("state") in (("running",) if mine.get("role") in LEADER_ROLES else ("streaming",))


def synchronous(config: Mapping[str, Any]) -> bool:
    """Tell whether commits wait for a standby by the dynamic configuration; Patroni ignores the setting in a standby cluster."""
    return bool(config.get("synchronous_mode")) and not config.get("standby_cluster")


def describe(cluster: Mapping[str, Any]) -> str:
    """Return one line that says what each member does."""
    members = [f"{member.get('name')}: {member.get('role')}, {member.get('state')}" for member in cluster.get("members", [])]
    return "; ".join(members) or "no member has joined"


def pending_restart(cluster: Mapping[str, Any]) -> dict[str, Any]:
    """Return the members that need a restart of PostgreSQL, with the settings that ask for it."""
    return {
        str(member["name"]): member.get("pending_restart_reason") or {}
        for member in cluster.get("members", [])
        if member.get("pending_restart")
    }


def info(cluster: Mapping[str, Any]) -> dict[str, Any]:
    """Return the cluster as data."""
    members = []
    for member in cluster.get("members", []):
        lag = member.get("lag", member.get("replay_lag"))
        members.append(
            {
                "name": member["name"],
                "role": "leader" if member["role"] in LEADER_ROLES else member["role"],
                "state": member.get("state", "unknown"),
                "host": member.get("host"),
                "port": member.get("port"),
                "timeline": member.get("timeline"),
                "lag_bytes": lag if isinstance(lag, int) else None,
                "synchronous": member["role"] in ("sync_standby", "quorum_standby"),
                "tags": member.get("tags", {}),
            }
        )
    return {
        "leader": leader_of(cluster),
        "members": members,
        "paused": bool(cluster.get("pause", False)),
        "pending_restart": pending_restart(cluster),
        "scope": cluster.get("scope"),
    }


def patch(current: Any, wanted: Mapping[str, Any]) -> dict[str, Any]:
    """Return what to send so that `current` holds everything in `wanted`; None removes a key. Empty when nothing differs."""
    current = current if isinstance(current, Mapping) else {}
    found: dict[str, Any] = {}
    for key, value in wanted.items():
        if isinstance(value, Mapping):
            inner = patch(current.get(key), value)
            if inner:
                found[key] = inner
        elif value is None:
            if key in current:
                found[key] = None
        elif key not in current or current[key] != value or isinstance(current[key], bool) != isinstance(value, bool):
            found[key] = value
    return found


def pick(current: Any, shape: Mapping[str, Any]) -> dict[str, Any]:
    """Return the part of `current` that a patch touches, for a diff."""
    current = current if isinstance(current, Mapping) else {}
    return {key: pick(current.get(key), value) if isinstance(value, Mapping) else current.get(key) for key, value in shape.items()}
