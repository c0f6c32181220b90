# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Install packages; a host that has them all is asked one question in plain shell, and apt is not started at all."""

from __future__ import annotations

from typing import Any

from ansible.errors import AnsibleActionFail, AnsibleError
from ansible.plugins.action import ActionBase
from ansible.template import trust_as_template
from ansible_collections.uptier.platform.plugins.plugin_utils import layers, packages

# What ansible.builtin.apt says when a source did not answer after all its tries.
UPDATE_FAILED = "Failed to update apt cache"
OPTIONS = {
    "name": {"type": "list", "elements": "str", "default": []},
    "ahead_of_groups": {"type": "list", "elements": "str", "default": []},
    "lists_valid_seconds": {"type": "int", "default": 3600},
}
# Their packages would make a cluster of their own: these roles write first what keeps them from it.
NOT_AHEAD = ("pgbackrest", "postgresql")


class ActionModule(ActionBase):
    """Ask dpkg; only for what is missing run ansible.builtin.apt."""

    _requires_connection = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result = super().run(tmp, task_vars)
        _validation, options = self.validate_argument_spec(OPTIONS)
        ahead = self._ahead(options["ahead_of_groups"], task_vars or {})
        wanted = [*options["name"], *(entry for entry in ahead if entry not in options["name"])]
        try:
            question = packages.question(wanted)
        except ValueError as error:
            raise AnsibleActionFail(str(error)) from None
        answer = self._low_level_execute_command(question)
        host = packages.answer(answer["stdout"])
        if not host.installed:
            seen = (answer.get("stderr") or answer["stdout"]).strip() or "nothing"
            raise AnsibleActionFail(
                f"dpkg-query listed no installed package; it said: {seen}. Is this a Debian host, and are we root on it?"
            )
        missing = packages.missing(wanted, host)
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
        if done.get("failed") and ahead:
            # What a role cannot have is said by that role, and keeps the host from nothing else.
            arguments["name"] = packages.missing(options["name"], host)
            if not arguments["name"]:
                return {**result, "changed": False, "missing": []}
            result["missing"] = arguments["name"]
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

    def _ahead(self, groups: list[str], variables: dict[str, Any]) -> list[str]:
        """Return what the roles of the layers install on hosts of these groups, in the order of the roles.

        Left out is what waits for a condition in its layer or for other files, and what cannot be rendered yet.
        """
        found: dict[str, None] = {}
        for role, where in layers.groups_of_roles(conditional=False).items() if groups else ():
            if role in NOT_AHEAD or not set(groups).intersection(where):
                continue
            defaults, internals = layers.own(role)
            name = next((name for name in (f"__{role}_packages", f"{role}_packages") if name in internals or name in defaults), "")
            if name:
                templar = self._templar.copy_with_new_env(available_variables={**defaults, **variables, **internals})
                try:
                    found.update(dict.fromkeys(templar.template(trust_as_template(f"{{{{ {name} }}}}"))))
                except (AnsibleError, TypeError):
                    continue
        return list(found)

    def _failed(self, done: dict[str, Any], *, lists: bool) -> bool:
        """Tell whether apt failed, in fetching its lists or behind that. Check mode fetches none, so another try would say the same."""
        return bool(done.get("failed")) and not self._task.check_mode and (UPDATE_FAILED in str(done.get("msg"))) == lists

    def _apt(self, arguments: dict[str, Any], task_vars: dict[str, Any] | None) -> dict[str, Any]:
        return self._execute_module(module_name="ansible.builtin.apt", module_args=arguments, task_vars=task_vars or {})
