# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Controller half of app_release: sends the archive, and only to a host that asks for it; tells that a host cannot be reached.

Where a release of all hosts keeps this run out, and its holder was a run of this controller that is dead, it is not kept out.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from ansible.plugins.action import ActionBase
from ansible_collections.uptier.platform.plugins.plugin_utils.archives import checksum
from ansible_collections.uptier.platform.plugins.plugin_utils.controller import holder, is_dead
from ansible_collections.uptier.platform.plugins.plugin_utils.tolerance import tolerated

MODULE = "uptier.platform.app_release"


class ActionModule(ActionBase):
    """Run the module; where it lacks the release, transfer the archive and run it again."""

    _supports_check_mode = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        super().run(tmp, task_vars)
        arguments = dict(self._task.args)
        return tolerated(arguments, lambda: self._release(arguments, task_vars or {}))

    def _release(self, arguments: dict[str, Any], variables: dict[str, Any]) -> dict[str, Any]:
        archive = self._local(arguments.get("archive"))
        arguments |= {"checksum": checksum(archive) if archive else "", "run": holder()["id"], "holder": holder()}
        try:
            result = self._execute_module(module_name=MODULE, module_args=arguments, task_vars=variables)
            if result.get("reason") == "under_way" and is_dead(result["holder"]):
                arguments["dead"] = result["holder"]["id"]
                result = self._execute_module(module_name=MODULE, module_args=arguments, task_vars=variables)
            if archive and result.pop("need_archive", False):
                folder = self._connection._shell.tmpdir or self._make_tmp_path()
                arguments["upload"] = self._connection._shell.join_path(folder, "release.tar")
                self._transfer_file(str(archive), arguments["upload"])
                result = self._execute_module(module_name=MODULE, module_args=arguments, task_vars=variables)
            return result
        finally:
            self._remove_tmp_path(self._connection._shell.tmpdir)

    def _local(self, name: Any) -> Path | None:
        """Find the archive: absolute, or relative to where Ansible was started."""
        if not name:
            return None
        path = Path(os.path.expanduser(str(name)))
        return path if path.is_file() else None
