# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Ask a host, in plain shell, whether the platform can be installed on it, and what it has that is not ours.

Never fails: the answer lists the problems.
"""

from __future__ import annotations

import base64
import json
import shlex
import zlib
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleError
from ansible.plugins.action import ActionBase
from ansible_collections.uptier.platform.plugins.action.preflight import releases
from ansible_collections.uptier.platform.plugins.module_utils.host import found as program
from ansible_collections.uptier.platform.plugins.plugin_utils import found, preflight
from ansible_collections.uptier.platform.plugins.plugin_utils.application import completed

MARK = "uptier-probe"
VERSION = 'import sys; print("%d.%d" % sys.version_info[:2])'
# Who we are there, and from where we come as the host sees it.
LOGIN = 'echo "$(id -u) $(id -un) ${SSH_CONNECTION%% *}"'
# Releases of applications that are unpacked, as APPLICATION/VERSION.
UNPACKED = "cd /opt/uptier/apps 2>/dev/null && ls -d */releases/* 2>/dev/null | sed s,/releases/,/, || true"
APPLICATIONS = "platform_applications"
OPTIONS = {"look": {"type": "bool", "default": False}}


@cache
def packed() -> str:
    """Return the program that looks at a host, as an argument of Python's -c."""
    text = base64.b64encode(zlib.compress(Path(program.__file__).read_bytes(), 9)).decode()
    return f"import base64, zlib; exec(zlib.decompress(base64.b64decode('{text}')).decode())"


class ActionModule(ActionBase):
    """Two shell commands: who the host is; and whether we become root, with what root sees."""

    _requires_connection = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result = super().run(tmp, task_vars)
        variables = task_vars or {}
        look = self.validate_argument_spec(OPTIONS)[1]["look"]
        given = str(variables.get("ansible_python_interpreter", ""))
        interpreter = given if given.startswith("/") else "/usr/bin/python3"
        answer: dict[str, Any] = {"interpreter": interpreter, "become": bool(self._connection.become)}
        try:
            answer.update(self._ask(interpreter))
            if (answer["become"] or look) and not answer.get("error"):
                answer.update(self._as_root(interpreter, self._question(variables) if look and answer["python"] else None))
        except (AnsibleError, OSError) as error:
            answer["error"] = str(error)
        result.update(preflight.judge_probe(answer, releases()), found=answer.get("found") or {}, changed=False)
        return result

    def _question(self, variables: Mapping[str, Any]) -> dict[str, Any]:
        zone = self._value(variables, "base_timezone") or self._value(variables, "platform_timezone") or "UTC"
        applications = completed(self._value(variables, APPLICATIONS) or [])
        return found.question(variables.get("group_names") or (), applications, str(zone))

    def _value(self, variables: Mapping[str, Any], name: str) -> Any:
        try:
            return self._templar.template(variables.get(name))
        except AnsibleError:  # preflight says it
            return None

    def _ask(self, interpreter: str) -> dict[str, Any]:
        script = (
            f"echo {MARK}; {LOGIN}; (. /etc/os-release && echo \"$ID|$VERSION_ID\") 2>/dev/null || echo '|'; "
            f"{shlex.quote(interpreter)} -c {shlex.quote(VERSION)} 2>/dev/null || echo; {UNPACKED}"
        )
        answer = self._low_level_execute_command(script, sudoable=False)
        lines = answer["stdout"].replace("\r", "").partition(MARK + "\n")[2].splitlines()
        if len(lines) < 2:
            return {"error": answer.get("stderr") or answer["stdout"] or f"the connection ended with {answer.get('rc')}"}
        login = [*lines[0].split(), "", ""]
        return {
            "uid": login[0],
            "user": login[1],
            "from": login[2],
            "os": lines[1],
            "python": lines[2] if len(lines) > 2 else "",
            "unpacked": lines[3:],
        }

    def _as_root(self, interpreter: str, question: dict[str, Any] | None) -> dict[str, Any]:
        script = "id -u"
        if question is not None:
            # What it finds is for root to see. Its own failure is none of the host's.
            run = [interpreter, "-I", "-S", "-c", packed(), json.dumps(question)]
            script = f"id -u; if [ $(id -u) = 0 ]; then {shlex.join(run)}; fi"
        try:
            answer = self._low_level_execute_command(script, sudoable=True)
        except AnsibleError as error:
            return {"become_uid": "", "become_error": str(error)}
        lines = answer["stdout"].replace("\r", "").splitlines()
        seen = lines.pop() if lines and lines[-1].startswith("{") else "{}"
        return {
            "become_uid": lines[-1].strip() if lines else "",
            "become_error": answer.get("stderr") or answer["stdout"],
            "found": json.loads(seen),
            "look_error": answer.get("stderr", "") if question is not None and seen == "{}" else "",
        }
