# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Controller half of host_certificate: keeps the authority, decides and issues; the module reads and writes on the host."""

from __future__ import annotations

import base64
import datetime
import json
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleError
from ansible.module_utils.parsing.convert_bool import boolean
from ansible.plugins.action import ActionBase
from ansible_collections.uptier.platform.plugins.module_utils.host.files import locked, replace_file
from ansible_collections.uptier.platform.plugins.plugin_utils import certificates

MODULE = "uptier.platform.host_certificate"


class ActionModule(ActionBase):
    """Look at the host, compare, issue when needed, write."""

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        super().run(tmp, task_vars)
        variables = task_vars or {}
        arguments = {key: value for key, value in self._task.args.items() if key != "payload"}
        seen = self._execute_module(module_name=MODULE, module_args=arguments, task_vars=variables)
        if seen.get("failed") or seen.get("skipped") or "found" not in seen:
            return seen
        parameters = seen["parameters"]
        folder = Path(parameters["authority_directory"])
        try:
            return self._converge(seen["found"], parameters, folder, arguments, variables)
        except certificates.CertificateError as error:
            return {"failed": True, "reason": error.reason, "msg": str(error)}
        except (OSError, AnsibleError) as error:
            return {
                "failed": True,
                "reason": "authority_unreadable",
                "msg": f"The internal authority in {folder} cannot be used on the controller: {error}",
            }

    def _converge(
        self, found: dict[str, Any], parameters: dict[str, Any], folder: Path, arguments: dict[str, Any], variables: dict[str, Any]
    ) -> dict[str, Any]:
        certificates.require_library()
        now = datetime.datetime.now(datetime.UTC)
        check = boolean(self._task.check_mode)
        authority = self._authority(folder, parameters, now, create=not check)
        names = [str(name) for name in parameters["names"]]
        why = certificates.defects(found["certificate"], names, authority, now)
        if not why and found["complaint"]:
            why = [found["complaint"]]
        trust = authority.trust if authority else None
        changes = [f"certificate: {reason}" for reason in why]
        if trust is None or found["trust"] != trust:
            changes.append("trust: ca.crt differs")
        changes += [f"ownership: {path}" for path in found["ownership"]]
        result: dict[str, Any] = {"changed": bool(changes), "changes": changes, "issued": bool(why), "names": names}
        result["diff"] = {"prepared": "".join(f"{change}\n" for change in changes)}
        if not changes or check or authority is None:
            return result
        payload = {"trust": trust, "certificate": None, "key": None}
        if why:
            payload["key"], payload["certificate"] = certificates.issue(authority, names, parameters["lifetime_days"], now)
        packed = base64.b64encode(json.dumps(payload).encode()).decode()
        written = self._execute_module(module_name=MODULE, module_args={**arguments, "payload": packed}, task_vars=variables)
        return written if written.get("failed") else result

    def _authority(self, folder: Path, parameters: dict[str, Any], now: datetime.datetime, create: bool) -> certificates.Authority | None:
        """Read the authority, or make it once: hosts are handled in parallel, a file lock lets one of them do it."""
        key, certificate = folder / "ca.key", folder / "ca.crt"
        if not (key.exists() and certificate.exists()):
            if not create:
                return None
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            with locked(folder / ".lock"):
                if key.exists() != certificate.exists() and certificate.exists():
                    raise certificates.CertificateError(
                        "authority_incomplete",
                        f"{folder} contains ca.crt but no ca.key. Restore ca.key from a backup; to start over with a new authority, move ca.crt away.",
                    )
                if not certificate.exists():
                    texts = certificates.create_authority(parameters["authority_name"], parameters["authority_lifetime_days"], now)
                    # A key without its certificate is an authority never used: the next run replaces it.
                    replace_file(key, texts[0], 0o600)
                    replace_file(certificate, texts[1], 0o644)
        # The loader decrypts, so the key may be kept under ansible-vault.
        text = self._loader.get_text_file_contents(str(key))
        return certificates.read_authority(text, certificate.read_text(encoding="utf-8"), str(folder))
