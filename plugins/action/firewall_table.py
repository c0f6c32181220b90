# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Controller half of firewall_table: renders, has the host try the rules, and confirms them through a new connection."""

from __future__ import annotations

import time
from typing import Any

from ansible.errors import AnsibleConnectionFailure
from ansible.module_utils.parsing.convert_bool import boolean
from ansible.plugins.action import ActionBase
from ansible.plugins.connection import ConnectionBase
from ansible_collections.uptier.platform.plugins.plugin_utils import firewall

MODULE = "uptier.platform.firewall_table"
INTERNAL = ("phase", "text")
# Seconds in which the host is reached again after it has put the old rules back.
AFTER_ROLLBACK = 45


class ActionModule(ActionBase):
    """Look, try, confirm."""

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        super().run(tmp, task_vars)
        self.variables = task_vars or {}
        self.arguments = {key: value for key, value in self._task.args.items() if key not in INTERNAL}
        first = self._phase("look")
        if first.get("failed") or "parameters" not in first:
            return first
        parameters = first["parameters"]
        admin = [*parameters["admin"], *([first["controller"]] if parameters["admit_controller"] and first["controller"] else [])]
        try:
            text = firewall.render(parameters["rules"], admin, parameters["forward"], parameters["log"])
        except firewall.FirewallError as error:
            return {"failed": True, "reason": "invalid_rules", "msg": str(error)}
        seen = self._phase("compare", text)
        if seen.get("failed") or not seen["changed"] or boolean(self._task.check_mode):
            return seen
        tried = self._phase("try", text)
        if tried.get("failed"):
            return tried
        return self._confirm(seen, int(parameters["rollback_seconds"]))

    def _phase(self, phase: str, text: str = "") -> dict[str, Any]:
        arguments = {**self.arguments, "phase": phase, "text": text}
        return self._execute_module(module_name=MODULE, module_args=arguments, task_vars=self.variables)

    def _confirm(self, seen: dict[str, Any], seconds: int) -> dict[str, Any]:
        """Only a connection made after the load proves anything: an old one is let through as established."""
        start = time.monotonic()
        if type(self._connection).reset is not ConnectionBase.reset:
            self._connection.reset()
        last = ""
        while time.monotonic() - start < seconds + AFTER_ROLLBACK:
            try:
                answer = self._phase("confirm")
            except AnsibleConnectionFailure as error:
                last = str(error)
                time.sleep(1)
                continue
            if answer.get("unreachable"):
                last = str(answer.get("msg", ""))
                time.sleep(1)
                continue
            if answer.get("failed"):
                return answer
            if answer["confirmed"]:
                return seen
            return {
                "failed": True,
                "reason": "rolled_back",
                "msg": f"With the new rules no new connection from the controller got through within {seconds} s; the host has put the old "
                "rules back. Add the controller's address to platform_admin_addresses, or leave firewall_admit_controller at true.",
            }
        return {"failed": True, "reason": "unreachable", "msg": f"After loading the rules the host could not be reached again: {last}"}
