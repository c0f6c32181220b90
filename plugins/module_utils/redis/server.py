# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A Redis server that somebody else runs: how it is reached, and whether applications can use it. Changes nothing there."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ansible_collections.uptier.platform.plugins.module_utils.redis.resp import Connection, RespError, Unreachable, parse_info

# Users by name (ACL) came with it.
OLDEST = 6
DENIED = ("NOPERM", "ERR")


@dataclass(frozen=True)
class Managed:
    """Where the server is and who logs in. `ca` is the text of an authority; empty: those that the system trusts."""

    host: str
    port: int
    username: str
    password: str
    tls: bool = True
    ca: str = ""
    timeout: float = 10.0

    @property
    def label(self) -> str:
        return f"{self.host}:{self.port}"

    def context(self) -> ssl.SSLContext | None:
        """Verify authority and name; a provider may have nothing newer than TLS 1.2."""
        if not self.tls:
            return None
        try:
            context = ssl.create_default_context(ssl.Purpose.SERVER_AUTH, cadata=self.ca or None)
        except ssl.SSLError as error:
            raise Unreachable("tls", f"the authority that was given for {self.label} cannot be read: {error}") from error
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        # Python 3.13 refuses authorities without extensions that older ones, and clients of applications, do without.
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT
        return context

    def look(self) -> dict[str, Any]:
        """Return what the server says of itself: version, whether it is a cluster, its role, its eviction policy, TLS; None for what it keeps.

        Raises:
            Unreachable: no conversation was possible.
            RespError: the login was refused.
        """
        with Connection(self.host, self.port, self.context(), self.username, self.password, self.timeout) as connection:
            connection.call("PING")
            try:
                info = parse_info(connection.call("INFO"))
            except RespError as error:
                if error.code not in DENIED:
                    raise
                info = {}
            return {
                "version": info.get("redis_version"),
                "cluster": {"1": True, "0": False}.get(info.get("cluster_enabled", "")),
                "role": info.get("role"),
                "policy": info.get("maxmemory_policy"),
                "tls": connection.socket.version() if isinstance(connection.socket, ssl.SSLSocket) else None,
            }


def failure(server: Managed, error: Exception) -> str:
    """Return why there was no conversation, and what to do; never the password."""
    if isinstance(error, RespError):
        if error.code in ("WRONGPASS", "NOAUTH", "ERR"):
            return (
                f"{server.label} does not accept the password of {server.username}. Put the one that the provider shows into the vault file as "
                "vault_redis_managed_password, and its user into platform_managed_redis.username."
            )
        return f"{server.label} refused {server.username}: {error}."
    reason = error.reason if isinstance(error, Unreachable) else ""
    if isinstance(error.__cause__, (ConnectionResetError, BrokenPipeError)):
        reason = "closed"
    advice = {
        "tls": "Give the provider's authority as platform_managed_redis.ca, or set tls: false where the provider offers none.",
        "closed": "It ended the conversation, as a server does that "
        + ("offers no TLS (tls: false)" if server.tls else "wants TLS (tls: true)")
        + " or has too many clients.",
        "refused": "Correct host and port, or have the provider permit the address of this host.",
        "timeout": "Nothing came back: have the provider permit the address of this host"
        + (", or set tls: false where it offers no TLS." if server.tls else "."),
    }.get(reason, "Correct platform_managed_redis.host and .port, and see that this host can resolve and reach it.")
    return f"{error}. {advice}"


def problems(seen: Mapping[str, Any], label: str, cluster: bool) -> list[str]:
    """Return why applications could not use a server that answered: one sentence and the mend, each."""
    found = []
    major = str(seen["version"] or "").partition(".")[0]
    if major.isdigit() and int(major) < OLDEST:
        found.append(
            f"{label} runs Redis {seen['version']}, and {OLDEST} is the oldest that knows users by name. Have the provider upgrade it."
        )
    if seen["cluster"] is True and not cluster:
        found.append(f"{label} is a node of a cluster, and platform_managed_redis.cluster is false. Set it to true.")
    if seen["cluster"] is False and cluster:
        found.append(f"{label} is no cluster, and platform_managed_redis.cluster is true. Set it to false.")
    if not cluster and seen["role"] in ("slave", "replica"):
        found.append(f"{label} is a replica, which takes no writes. Give the name of the primary.")
    return found
