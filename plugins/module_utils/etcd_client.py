# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The members of an etcd cluster through their HTTP interface."""

from __future__ import annotations

import json
import time
from typing import Any

from ansible.module_utils.urls import open_url
from ansible_collections.uptier.platform.plugins.module_utils.etcd_members import EtcdError, client_url


class Cluster:
    """The members' HTTP interface, asked in order until one answers."""

    def __init__(self, module: Any) -> None:
        self.module = module
        self.parameters = module.params

    def call(self, url: str, path: str, body: Any = None, timeout: int = 3) -> Any:
        answer = open_url(
            f"{url}{path}",
            data=json.dumps(body).encode() if body is not None else None,
            method="GET" if body is None else "POST",
            timeout=timeout,
            ca_path=self.parameters["ca"],
            client_cert=self.parameters["cert"],
            client_key=self.parameters["key"],
            use_proxy=False,
        )
        return json.loads(answer.read())

    def others(self) -> list[str]:
        return [client_url(member) for member in self.parameters["members"] if member["name"] != self.parameters["name"]]

    def members(self) -> list[dict[str, Any]] | None:
        """Return the member list, or None where nobody answers. A member without a quorum is an error."""
        for url in self.others():
            try:
                return self.call(url, "/v3/cluster/member/list", {})["members"]
            except (OSError, ValueError, KeyError) as error:
                if hasattr(error, "code"):
                    raise EtcdError(
                        "no_quorum",
                        f"etcd at {url} runs and cannot serve (HTTP {error.code}): the cluster has no quorum. Start its other members first.",
                    ) from error
        return None

    def change(self, path: str, body: Any) -> Any:
        """Change the membership through any member; the cluster refuses for some seconds after the change before."""
        seen = "nobody answered"
        for dummy in range(15):
            for url in self.others():
                try:
                    return self.call(url, path, body, timeout=10)
                except (OSError, ValueError) as error:
                    seen = f"{url}: {error}{': ' + error.read().decode() if hasattr(error, 'read') else ''}"
            time.sleep(2)
        raise EtcdError(
            "refused", f"The cluster did not accept {path.rsplit('/', 1)[-1]} of a member: {seen}. See that all its members run."
        )

    def wait(self, url: str) -> None:
        deadline = time.monotonic() + self.parameters["timeout"]
        seen = ""
        while time.monotonic() < deadline:
            try:
                seen = str(self.call(url, "/health"))
                if "true" in seen.lower():
                    return
            except (OSError, ValueError) as error:
                seen = str(error)
            time.sleep(1)
        raise EtcdError(
            "not_serving",
            f"etcd on {self.parameters['name']} does not serve after {self.parameters['timeout']} s: {seen}. "
            f"Look at `journalctl -u {self.parameters['unit']}`; a quorum of the members must run.",
        )

    def systemctl(self, verb: str) -> None:
        code, out, err = self.module.run_command(["systemctl", verb, self.parameters["unit"]])
        if code:
            raise EtcdError("start_failed", f"systemctl {verb} {self.parameters['unit']} ended with {code}: {(err or out).strip()}")
