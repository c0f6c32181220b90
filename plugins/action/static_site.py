# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Controller half of static_site: tells which versions are wanted, and sends the archives that a host lacks."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from ansible.plugins.action import ActionBase
from ansible_collections.uptier.platform.plugins.plugin_utils.archives import checksum

MODULE = "uptier.platform.static_site"


class ActionModule(ActionBase):
    """Ask the host, send what it lacks, ask again."""

    _supports_check_mode = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        super().run(tmp, task_vars)
        arguments, variables = dict(self._task.args), task_vars or {}
        sites = [dict(site) for site in arguments.get("sites") or ()]
        try:
            for site in sites:
                path = Path(os.path.expanduser(str(site["archive"])))
                if not path.is_file():
                    msg = f"Site {site['name']}: there is no archive {path} on the controller (asked from {Path.cwd()}). Build it, or correct its path."
                    return {"failed": True, "reason": "no_archive", "msg": msg}
                site["archive"], site["checksum"] = str(path), checksum(path)
            arguments["sites"] = sites
            result = self._execute_module(module_name=MODULE, module_args=arguments, task_vars=variables)
            needed = result.get("needed") or ()
            if needed and not result.get("failed"):
                folder = self._connection._shell.tmpdir or self._make_tmp_path()
                for site in sites:
                    if site["name"] in needed:
                        site["upload"] = self._connection._shell.join_path(folder, f"{site['name']}.tar")
                        self._transfer_file(site["archive"], site["upload"])
                result = self._execute_module(module_name=MODULE, module_args=arguments, task_vars=variables)
            return result
        finally:
            self._remove_tmp_path(self._connection._shell.tmpdir)
