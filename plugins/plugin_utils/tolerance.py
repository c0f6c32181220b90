# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Modules whose failure is a result: a procedure that has to bring hosts back must not lose a host on the way."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ansible.errors import AnsibleError
from ansible.module_utils.parsing.convert_bool import boolean


def tolerated(arguments: Mapping[str, Any], run: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Return what `run` returns; with the argument `tolerate`, a failure comes as `failure: {reason, said}` of a task that is ok.

    A host that cannot be reached fails as well: to Ansible it would be gone for the rest of the run, and the play with it
    where it is the only host of its batch.
    """
    if not boolean(arguments.get("tolerate", False), strict=False):
        return run()
    try:
        result = run()
    except AnsibleError as error:
        return {"changed": False, "failure": {"reason": "unreachable", "said": f"The host cannot be reached: {error}"}}
    if not result.get("failed") and not result.get("unreachable"):
        return result
    reason = "unreachable" if result.get("unreachable") else result.get("reason", "failed")
    kept = {key: value for key, value in result.items() if key not in ("failed", "unreachable", "msg", "exception")}
    return {**kept, "changed": bool(result.get("changed")), "failure": {"reason": reason, "said": str(result.get("msg", "no message"))}}
