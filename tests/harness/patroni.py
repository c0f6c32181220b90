# SPDX-License-Identifier: GPL-3.0-or-later
"""Patroni's REST interface as one asks it on a database host."""

from __future__ import annotations

import json
from typing import Any

from .platform import Platform

# As a host of the platform asks another one.
CURL = "curl -s -m 3 --cacert /etc/uptier/pki/ca.crt --cert /etc/uptier/pki/host.crt --key /etc/uptier/pki/host.key"


def change(platform: Platform, host: str, settings: dict[str, Any]) -> None:
    """Change the dynamic configuration; the password goes through a file, not through the process list."""
    password = platform.hostvars[host]["vault_patroni_api_password"].replace("\\", "\\\\").replace('"', '\\"')
    login = f'user = "patroni:{password}"'
    platform.write(host, "/run/uptier-login", login)
    url = f"https://{host}.internal:{platform.port(host, 'patroni')}/config"
    line = f"{CURL} -f -K /run/uptier-login -X PATCH {url} -d '{json.dumps(settings)}'; s=$?; rm /run/uptier-login; exit $s"
    platform.run(host, line)
