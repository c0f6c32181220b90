# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Install packages; a host that has them all is asked one question in plain shell, and apt is not started at all."""

from __future__ import annotations

from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase
from ansible_collections.uptier.platform.plugins.plugin_utils import packages

# What ansible.builtin.apt says when a source did not answer after all its tries.
UPDATE_FAILED = "Failed to update apt cache"
OPTIONS = {
    "name": {"type": "list", "elements": "str", "required": True},
    "lists_valid_seconds": {"type": "int", "default": 3600},
}


class ActionModule(ActionBase):
    """Ask dpkg; only for what is missing run ansible.builtin.apt."""

    _requires_connection = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result = super().run(tmp, task_vars)
        _validation, options = self.validate_argument_spec(OPTIONS)
        try:
            question = packages.question(options["name"])
        except ValueError as error:
            raise AnsibleActionFail(str(error)) from None
        answer = self._low_level_execute_command(question)
        host = packages.answer(answer["stdout"])
        if not host.installed:
            seen = (answer.get("stderr") or answer["stdout"]).strip() or "nothing"
            raise AnsibleActionFail(
                f"dpkg-query named no installed package, it said: {seen}. Is this a Debian host, and are we root on it?"
            )
        missing = packages.missing(options["name"], host)
        result.update(changed=bool(missing), missing=missing)
        # In check mode nothing updates the lists; without them, or without its library, apt could not know a single package.
        blind = self._task.check_mode and not (host.has_lists and packages.APT in host.installed)
        if not missing or blind:
            if missing and self._task.diff:
                result["diff"] = {"prepared": "".join(f"install {entry}\n" for entry in missing)}
            return result
        arguments = {
            "name": missing,
            "update_cache": True,
            "cache_valid_time": options["lists_valid_seconds"] if host.has_lists else 0,
            "install_recommends": False,
            "policy_rc_d": 101,  # roles start their services themselves, once they are configured
            "lock_timeout": 300,  # unattended-upgrades may hold the lock
        }
        done = self._apt(arguments, task_vars)
        if self._failed(done, lists=False) and arguments["cache_valid_time"]:
            # Lists can be young and yet name versions that the archive dropped, or lack a repository that was added since.
            arguments["cache_valid_time"] = 0
            done = self._apt(arguments, task_vars)
        if self._failed(done, lists=True):
            # One source that does not answer must not keep a host from what the others have, whose lists were fetched.
            first = str(done["msg"]).rstrip(".")
            done = self._apt({**arguments, "update_cache": False, "cache_valid_time": 0}, task_vars)
            said = "Installed with those that are there" if not done.get("failed") else f"With those that are there: {done.get('msg')}"
            text = f"{first}. {said}. `apt-get update` on the host shows which source does not answer."
            done.update({"msg": text} if done.get("failed") else {"warnings": [*(done.get("warnings") or []), text]})
        return {**result, **done}

    def _failed(self, done: dict[str, Any], *, lists: bool) -> bool:
        """Tell whether apt failed, in fetching its lists or behind that. Check mode fetches none, so another try would say the same."""
        return bool(done.get("failed")) and not self._task.check_mode and (UPDATE_FAILED in str(done.get("msg"))) == lists

    def _apt(self, arguments: dict[str, Any], task_vars: dict[str, Any] | None) -> dict[str, Any]:
        return self._execute_module(module_name="ansible.builtin.apt", module_args=arguments, task_vars=task_vars or {})
