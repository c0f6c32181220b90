# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Controller half of site_certificates: decides, issues or reads; the module looks and writes on the host."""

from __future__ import annotations

import base64
import datetime
import json
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleError
from ansible.module_utils.parsing.convert_bool import boolean
from ansible_collections.uptier.platform.plugins.action.host_certificate import ActionModule as HostCertificate
from ansible_collections.uptier.platform.plugins.plugin_utils import certificates, site_certificates

MODULE = "uptier.platform.site_certificates"


class ActionModule(HostCertificate):
    """Look at the host, compare, issue or read what is needed, write. The authority is that of host_certificate."""

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        variables = task_vars or {}
        arguments = {key: value for key, value in self._task.args.items() if key != "payload"}
        seen = self._execute_module(module_name=MODULE, module_args=arguments, task_vars=variables)
        # Without `found` there is nothing to decide: it failed, or it only told the service to load.
        if seen.get("failed") or seen.get("skipped") or "found" not in seen:
            return seen
        try:
            return self._keep(seen, arguments, variables)
        except certificates.CertificateError as error:
            return {"failed": True, "reason": error.reason, "msg": str(error)}
        except (OSError, AnsibleError) as error:
            return {"failed": True, "reason": "controller_file", "msg": f"A file on the controller cannot be used: {error}"}

    def _keep(self, seen: dict[str, Any], arguments: dict[str, Any], variables: dict[str, Any]) -> dict[str, Any]:
        certificates.require_library()
        now = datetime.datetime.now(datetime.UTC)
        parameters, check = seen["parameters"], boolean(self._task.check_mode)
        provider = parameters["provider"]
        authority = None
        if provider == "selfsigned" or (provider == "acme" and not all(pair["fits"] for pair in seen["found"].values())):
            authority = self._authority_for(parameters, now, create=not check)
        changes, payload = [], {}
        for site in parameters["sites"]:
            name = site["name"]
            chain, key = self._provided(site, now) if provider == "provided" else (None, None)
            why = site_certificates.reasons(provider, site["domains"], seen["found"][name], authority, chain, now)
            changes += [f"{name}: {reason}" for reason in why]
            if not why or check:
                continue
            if authority is not None:
                key, chain = certificates.issue(authority, site["domains"], parameters["lifetime_days"], now)
            payload[name] = {"chain": chain, "key": key, "source": "bootstrap" if provider == "acme" else provider}
        pending = seen["pending"]
        if payload:
            packed = base64.b64encode(json.dumps(payload).encode()).decode()
            written = self._execute_module(module_name=MODULE, module_args={**arguments, "payload": packed}, task_vars=variables)
            if written.get("failed"):
                return written
            pending = written["pending"]
        lines = changes + [f"{name}: not loaded by the gateway yet" for name in seen["pending"]]
        return {
            "changed": bool(lines),
            "changes": changes,
            "pending": pending,
            "diff": {"prepared": "".join(f"{line}\n" for line in lines)},
        }

    def _authority_for(self, parameters: dict[str, Any], now: datetime.datetime, create: bool) -> certificates.Authority | None:
        if not parameters["authority_directory"]:
            raise certificates.CertificateError(
                "authority_missing", "authority_directory is needed to issue a certificate: name the directory of the internal authority."
            )
        return self._authority(Path(parameters["authority_directory"]), parameters, now, create)

    def _provided(self, site: dict[str, Any], now: datetime.datetime) -> tuple[str, str]:
        if not site["certificate"] or not site["key"]:
            raise certificates.CertificateError(
                "certificate_missing", f"{site['name']}: provider is provided: certificate and key must both name a file."
            )
        # The loader decrypts, so the key may be kept under ansible-vault.
        chain, key = (str(self._loader.get_text_file_contents(self._find_needle("files", site[name]))) for name in ("certificate", "key"))
        site_certificates.check_provided(site["name"], chain, key, site["domains"], now)
        return chain, key
