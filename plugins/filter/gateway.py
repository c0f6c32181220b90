# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Filters for the gateway: sites, certificates and files from the applications."""

from __future__ import annotations

from typing import Any

from ansible.errors import AnsibleFilterError
from ansible_collections.uptier.platform.plugins.plugin_utils import application, gateway


def gateway_sites(applications: list[dict[str, Any]], grafana_domain: str = "") -> list[dict[str, Any]]:
    """Return the sites of all applications that serve the web, and that of Grafana when it has a domain."""
    return gateway.sites_of(application.completed(applications), grafana_domain)


def complete_sites(sites: list[dict[str, Any]], settings: list[dict[str, Any]] | None = None, waf: Any = "off") -> list[dict[str, Any]]:
    """Return the sites with every key: what the user set, else the default of a site or a location."""
    try:
        return gateway.complete_sites(sites, settings or [], waf)
    except gateway.GatewayError as error:
        raise AnsibleFilterError(str(error)) from error


def api_key_files(keys: list[dict[str, Any]], directory: str) -> list[dict[str, Any]]:
    """Return the files that stand for API keys: one for each key and set, named by the sum of what a client sends."""
    try:
        return gateway.api_key_files(keys, directory)
    except gateway.GatewayError as error:
        raise AnsibleFilterError(str(error)) from error


class FilterModule:
    """Filters of uptier.platform for the gateway."""

    def filters(self) -> dict[str, Any]:
        return {
            "gateway_sites": gateway_sites,
            "gateway_certificates": gateway.certificates_of,
            "complete_sites": complete_sites,
            "site_files": gateway.site_files,
            "static_sites": gateway.static_sites,
            "origin_patterns": gateway.origin_patterns,
            "api_key_files": api_key_files,
            "maintenance_files": gateway.maintenance_files,
            "zone_rate": gateway.zone_rate,
            "zone_burst": gateway.zone_burst,
        }
