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
        functions = {
            "app_environment_line": quoting.environment_line,
            "quote_grafana": quoting.grafana,
            "quote_grafana_literal": quoting.grafana_literal,
            "quote_haproxy": quoting.haproxy,
            "quote_haproxy_format": quoting.haproxy_format,
            "quote_keepalived": quoting.keepalived,
            "quote_libpq": quoting.libpq,
            "quote_nginx": quoting.nginx,
            "quote_nginx_path": quoting.nginx_path,
            "quote_pgbackrest": quoting.pgbackrest,
            "quote_pgbouncer_parameter": quoting.pgbouncer_parameter,
            "quote_pgbouncer_setting": quoting.pgbouncer_setting,
            "quote_redis_acl": quoting.redis_acl,
            "quote_redis_setting": quoting.redis_setting,
            "quote_yaml": quoting.yaml_value,
            "systemd_command": quoting.systemd_command,
            "systemd_environment": quoting.systemd_environment,
        }
        return {name: readable(function) for name, function in functions.items()}
