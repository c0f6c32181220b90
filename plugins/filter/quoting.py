# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Filters that write a value into the file of a daemon."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

from ansible.errors import AnsibleFilterError
from ansible_collections.uptier.platform.plugins.plugin_utils import quoting


def readable(function: Callable[..., Any]) -> Callable[..., Any]:
    """Turn the error of the pure function into one that Ansible shows without a traceback."""

    @wraps(function)
    def wrapper(*arguments: Any, **options: Any) -> Any:
        try:
            return function(*arguments, **options)
        except quoting.QuotingError as error:
            raise AnsibleFilterError(str(error)) from error

    return wrapper


class FilterModule:
    """Filters of uptier.platform that quote."""

    def filters(self) -> dict[str, Any]:
        return {"app_environment_line": readable(quoting.environment_line)}
