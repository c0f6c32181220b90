# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""etcd through its HTTP interface: what is asked of it, and the members of a cluster."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping
from typing import Any

from ansible.module_utils.urls import open_url
from ansible_collections.uptier.platform.plugins.module_utils.etcd.members import EtcdError, own, url_of

PATIENCE = 3  # seconds for one answer


class NoAnswer(OSError):
    """etcd gave no answer that can be used; `code` is the HTTP status with which it refused, if it did."""

    def __init__(self, text: str, code: int | None = None) -> None:
        super().__init__(text)
        self.code = code


def ask(given: Mapping[str, Any], url: str, path: str, body: Any = None, timeout: int = PATIENCE) -> dict[str, Any]:
    """Return what one member answers to a POST of `body`, or to a GET without one; `given` has ca, cert and key."""
    try:
        answer = open_url(
            f"{url.rstrip('/')}{path}",
            data=json.dumps(body).encode() if body is not None else None,
            method="GET" if body is None else "POST",
            timeout=timeout,
            ca_path=given["ca"],
            client_cert=given["cert"],
            client_key=given["key"],
            use_proxy=False,
        )
        # A stream (keepalive) answers with a line for each result.
        found: dict[str, Any] = json.loads(answer.read().decode().splitlines()[0])
        return found
    except (OSError, ValueError, IndexError) as error:
        said = error.read().decode(errors="replace")[:200] if hasattr(error, "read") else ""
        raise NoAnswer(f"{url}: {said or error}", getattr(error, "code", None)) from error


def ask_any(given: Mapping[str, Any], urls: Iterable[str], path: str, body: Any, timeout: int = PATIENCE) -> dict[str, Any]:
    """Return the first answer, the members being asked in order; NoAnswer with the words of all when none gives one."""
    said = []
    for url in urls:
        try:
            return ask(given, url, path, body, timeout)
        except NoAnswer as error:
            said.append(str(error))
    raise NoAnswer("; ".join(said) or "no endpoint is given")


class Cluster:
    """The members of the cluster to which a host belongs, or is to belong."""

    def __init__(self, module: Any) -> None:
        self.module = module
        self.parameters = module.params

    def url(self) -> str:
        """Return where this host's member answers clients."""
        return url_of(own(self.parameters["name"], self.parameters["members"]), self.parameters["client_port"])

    def others(self) -> list[str]:
        port = self.parameters["client_port"]
        return [url_of(member, port) for member in self.parameters["members"] if member["name"] != self.parameters["name"]]

    def members(self) -> list[dict[str, Any]] | None:
        """Return the member list, or None where nobody answers. A member without a quorum is an error."""
        for url in self.others():
            try:
                # A busy member that is taken for absent would have this host form a cluster of its own.
                found: list[dict[str, Any]] = ask(self.parameters, url, "/v3/cluster/member/list", {}, timeout=10)["members"]
                return found
            except KeyError:
                continue
            except NoAnswer as error:
                if error.code:
                    raise EtcdError(
                        "no_quorum",
                        f"etcd at {url} runs but cannot serve (HTTP {error.code}): the cluster has no quorum. Start its other members first.",
                    ) from error
        return None

    def change(self, path: str, body: Any) -> Any:
        """Change the membership through any member; the cluster refuses for some seconds after the change before."""
        seen = ""
        for dummy in range(15):
            try:
                return ask_any(self.parameters, self.others(), path, body, timeout=10)
            except NoAnswer as error:
                seen = str(error)
            time.sleep(2)
        raise EtcdError(
            "refused", f"The cluster did not accept {path.rsplit('/', 1)[-1]} of a member: {seen}. Check that all its members are running."
        )

    def wait(self, url: str) -> None:
        deadline = time.monotonic() + self.parameters["timeout"]
        seen = ""
        while time.monotonic() < deadline:
            try:
                seen = str(ask(self.parameters, url, "/health"))
                if "true" in seen.lower():
                    return
            except NoAnswer as error:
                seen = str(error)
            time.sleep(1)
        raise EtcdError(
            "not_serving",
            f"etcd on {self.parameters['name']} does not serve after {self.parameters['timeout']} s: {seen}. "
            f"Look at `journalctl -u {self.parameters['unit']}`; a quorum of the members must be running.",
        )

    def systemctl(self, verb: str) -> None:
        code, out, err = self.module.run_command(["systemctl", verb, self.parameters["unit"]])
        if code:
            raise EtcdError("start_failed", f"systemctl {verb} {self.parameters['unit']} ended with {code}: {(err or out).strip()}")
