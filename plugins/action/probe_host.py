# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Ask a host, in plain shell, whether the platform can be installed on it. Never fails: the answer lists the problems."""

from __future__ import annotations

import shlex
from typing import Any

from ansible.errors import AnsibleError
from ansible.plugins.action import ActionBase
from ansible_collections.uptier.platform.plugins.action.preflight import releases
from ansible_collections.uptier.platform.plugins.plugin_utils import preflight

MARK = "uptier-probe"
VERSION = 'import sys; print("%d.%d" % sys.version_info[:2])'
# Releases of applications that are unpacked, as APPLICATION/VERSION.
UNPACKED = "cd /opt/uptier/apps 2>/dev/null && ls -d */releases/* 2>/dev/null | sed s,/releases/,/, || true"


class ActionModule(ActionBase):
    """Two shell commands: who the host is, and whether we become root."""

    _requires_connection = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result = super().run(tmp, task_vars)
        given = str((task_vars or {}).get("ansible_python_interpreter", ""))
        interpreter = given if given.startswith("/") else "/usr/bin/python3"
        answer: dict[str, Any] = {"interpreter": interpreter, "become": bool(self._connection.become)}
        try:
            answer.update(self._ask(interpreter))
            if answer["become"] and not answer.get("error"):
                answer.update(self._become())
        except (AnsibleError, OSError) as error:
            answer["error"] = str(error)
        result.update(preflight.judge_probe(answer, releases()), changed=False)
        return result

    def _ask(self, interpreter: str) -> dict[str, Any]:
        script = (
            f"echo {MARK}; id -u; (. /etc/os-release && echo \"$ID|$VERSION_ID\") 2>/dev/null || echo '|'; "
            f"{shlex.quote(interpreter)} -c {shlex.quote(VERSION)} 2>/dev/null || echo; {UNPACKED}"
        )
        answer = self._low_level_execute_command(script, sudoable=False)
        lines = answer["stdout"].replace("\r", "").partition(MARK + "\n")[2].splitlines()
        if len(lines) < 2:
            return {"error": answer.get("stderr") or answer["stdout"] or f"the connection ended with {answer.get('rc')}"}
        return {"uid": lines[0], "os": lines[1], "python": lines[2] if len(lines) > 2 else "", "unpacked": lines[3:]}

    def _become(self) -> dict[str, Any]:
        try:
            answer = self._low_level_execute_command("id -u", sudoable=True)
        except AnsibleError as error:
            return {"become_uid": "", "become_error": str(error)}
        lines = answer["stdout"].replace("\r", "").splitlines()
        return {"become_uid": lines[-1].strip() if lines else "", "become_error": answer.get("stderr") or answer["stdout"]}
