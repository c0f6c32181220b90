# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Controller half of app_release_info: a host that cannot be reached is an answer as well, for those who can do without it."""

from __future__ import annotations

from typing import Any

from ansible.plugins.action import ActionBase
from ansible_collections.uptier.platform.plugins.plugin_utils.tolerance import tolerated


class ActionModule(ActionBase):
    """Run the module."""

    _supports_check_mode = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        super().run(tmp, task_vars)
        arguments = dict(self._task.args)

        def look() -> dict[str, Any]:
            try:
                return self._execute_module(module_name="uptier.platform.app_release_info", module_args=arguments, task_vars=task_vars)
            finally:
                self._remove_tmp_path(self._connection._shell.tmpdir)

        return tolerated(arguments, look)
