# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Controller half of app_deploy: says which run asks, and knows whether another run of this controller is still alive."""

from __future__ import annotations

from typing import Any

from ansible.plugins.action import ActionBase
from ansible_collections.uptier.platform.plugins.plugin_utils.controller import holder, is_dead
from ansible_collections.uptier.platform.plugins.plugin_utils.tolerance import tolerated

MODULE = "uptier.platform.app_deploy"


class ActionModule(ActionBase):
    """Run the module; where a dead run of this controller holds the lock, take it over."""

    _supports_check_mode = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        super().run(tmp, task_vars)
        arguments = {**self._task.args, "holder": holder()}

        def ask() -> dict[str, Any]:
            try:
                result = self._execute_module(module_name=MODULE, module_args=arguments, task_vars=task_vars)
                if result.get("reason") == "locked" and is_dead(result["holder"]):
                    again = {**arguments, "dead": result["holder"]["id"]}
                    result = self._execute_module(module_name=MODULE, module_args=again, task_vars=task_vars)
                return result
            finally:
                self._remove_tmp_path(self._connection._shell.tmpdir)

        return tolerated(arguments, ask)
