# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Filters over platform_applications: routes, metrics, pools and units derive from one description."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

from ansible.errors import AnsibleFilterError
from ansible_collections.uptier.platform.plugins.plugin_utils import application


def readable(function: Callable[..., Any]) -> Callable[..., Any]:
    """Turn the error of the pure function into one that Ansible shows without a traceback."""

    @wraps(function)
    def wrapper(*arguments: Any, **options: Any) -> Any:
        try:
            return function(*arguments, **options)
        except application.ApplicationError as error:
            raise AnsibleFilterError(str(error)) from error

    return wrapper


class FilterModule:
    """Filters of uptier.platform over applications."""

    def filters(self) -> dict[str, Any]:
        return {
            "app_environment_line": readable(application.environment_line),
            "app_files": readable(application.files),
            "app_metric_paths": readable(application.metric_paths),
            "app_pools": readable(application.pools),
            "app_release_services": readable(application.release_services),
            "app_routes": readable(application.routes),
            "app_units": readable(application.units),
        }
