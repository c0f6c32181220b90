# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Filters over platform_applications: routes, metrics, pools and units derive from one description."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

from ansible.errors import AnsibleFilterError
from ansible_collections.uptier.platform.plugins.module_utils.application.release import server_name
from ansible_collections.uptier.platform.plugins.plugin_utils import application, application_check, domains


def applications(given: list[dict[str, Any]], variable: str = application_check.VARIABLE) -> list[dict[str, Any]]:
    """Return the applications with every key; what is wrong with them is said, all of it at once."""
    problems = application_check.problems(given, variable)
    if problems:
        raise AnsibleFilterError(application_check.text_of(problems))
    return [dict(item) for item in application.completed(given)]


def readable(function: Callable[..., Any]) -> Callable[..., Any]:
    """Turn the error of the pure function into one that Ansible shows without a traceback."""

    @wraps(function)
    def wrapper(*arguments: Any, **options: Any) -> Any:
        try:
            return function(*arguments, **options)
        except application.ApplicationError as error:
            raise AnsibleFilterError(str(error)) from error

    return wrapper


def over_applications(function: Callable[..., Any]) -> Callable[..., Any]:
    """Complete the applications first, for whoever hands them on as they were written."""

    @wraps(function)
    def wrapper(given: Any, *arguments: Any, **options: Any) -> Any:
        return readable(function)(application.completed(given), *arguments, **options)

    return wrapper


class FilterModule:
    """Filters of uptier.platform over applications."""

    def filters(self) -> dict[str, Any]:
        return {
            "applications": applications,
            "app_files": over_applications(application.files),
            "app_metric_paths": over_applications(application.metric_paths),
            "app_host_header": application.host_header,
            "app_pools": over_applications(application.pools),
            "app_probe_name": domains.name_under,
            "app_release_services": readable(application.release_services),
            "app_route_rules": application.route_rules,
            "app_routes": over_applications(application.routes),
            "app_server_name": server_name,
            "app_units": over_applications(application.units),
        }
