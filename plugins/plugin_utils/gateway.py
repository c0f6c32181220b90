# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What the gateway serves, derived from the applications. Pure functions.

A site is one server block: names, a certificate, an upstream and locations. Whoever describes a site says what
differs from SITE and LOCATION; complete_sites() returns sites in which every key is set.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ansible_collections.uptier.platform.plugins.plugin_utils import domains
from ansible_collections.uptier.platform.plugins.plugin_utils.application import Application, all_domains, plain, routed_services

SITE: dict[str, Any] = {
    "upstream": "app",
    "certificate": "",  # name of the certificate's directory; the site's name when empty
    "client_max_body_mb": 25,
    "rate_limits": ["general"],
    "static_paths": ["/assets/"],
    "auth_paths": ["/auth/", "/api/auth/", "/login"],
    "content_security_policy": "frame-ancestors 'self'",
    "allow": [],
    "intercept_errors": True,
    "read_timeout": 20,
    "maintenance": False,
    "extra": "",
    "locations": [],
}
LOCATION: dict[str, Any] = {
    "exact": False,
    "websocket": False,
    "cache_seconds": 0,
    "cache_control": "",
    "extra": "",
}
# A location takes these from its site unless it says otherwise.
INHERITED = ("upstream", "rate_limits", "client_max_body_mb", "allow", "intercept_errors", "read_timeout")
IMMUTABLE = "public, max-age=31536000, immutable"
NAME = re.compile(r"^[a-z][a-z0-9_-]*$")


class GatewayError(ValueError):
    """The sites contradict each other; the message names site, value and fix."""


def sites_of(applications: Iterable[Application], grafana_domain: str = "") -> list[dict[str, Any]]:
    """Return the sites of all applications that serve the web, and that of Grafana when it has a domain."""
    sites = []
    for application in applications:
        serving, names = routed_services(application), all_domains(application)
        if not serving or not names:
            continue
        paths: dict[str, bool] = {}
        for service in serving:
            paths[service["path"]] = paths.get(service["path"], False) or service["websocket"]
        paths.setdefault("/", False)
        locations = [{"path": path, "websocket": websocket} for path, websocket in paths.items()]
        sites.append({"name": application["name"], "domains": names, "locations": locations})
    if grafana_domain:
        sites.append(
            {
                "name": "grafana",
                "domains": [grafana_domain],
                "upstream": "grafana",
                "static_paths": [],
                "auth_paths": ["/login"],
                "intercept_errors": False,
                "locations": [{"path": "/", "websocket": True}],
            }
        )
    return sites


def certificates_of(sites: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the certificates that the sites need as {name, domains}, one for each certificate name."""
    wanted: dict[str, list[str]] = {}
    for site in sites:
        names = wanted.setdefault(str(site.get("certificate") or site["name"]), [])
        names += [str(domain) for domain in site["domains"] if str(domain) not in names]
    return [{"name": name, "domains": domains} for name, domains in wanted.items()]


def complete_sites(sites: Sequence[Mapping[str, Any]], settings: Sequence[Mapping[str, Any]] = ()) -> list[dict[str, Any]]:
    """Lay `settings` (by name) over `sites`, fill in every default and refuse what contradicts itself."""
    known = [str(site["name"]) for site in sites]
    for setting in settings:
        if setting["name"] not in known:
            raise GatewayError(f"Settings for the unknown site {setting['name']!r}: the sites are {', '.join(known) or 'none'}.")
    complete = []
    for site in sites:
        merged = plain(SITE)
        merged.update(plain(_given(site)))
        for setting in settings:
            if setting["name"] == site["name"]:
                merged = _overlay(merged, _given(setting))
        merged["name"] = str(merged["name"])
        merged["domains"] = _domains(merged)
        merged["certificate"] = merged["certificate"] or merged["name"]
        merged["locations"] = _locations(merged)
        complete.append(merged)
    _check(complete)
    return complete


def _given(entry: Mapping[str, Any]) -> dict[str, Any]:
    """Return the keys that carry a value; an option that was left out of a validated argument is None."""
    return {key: value for key, value in entry.items() if value is not None}


def _overlay(site: dict[str, Any], setting: Mapping[str, Any]) -> dict[str, Any]:
    result = {**site, **{key: plain(value) for key, value in setting.items() if key != "locations"}}
    by_path = {location["path"]: dict(location) for location in site["locations"]}
    for location in setting.get("locations", []):
        by_path[location["path"]] = {**by_path.get(location["path"], {}), **_given(location)}
    result["locations"] = list(by_path.values())
    return result


def _locations(site: Mapping[str, Any]) -> list[dict[str, Any]]:
    inherited = {key: site[key] for key in INHERITED}
    found: dict[str, dict[str, Any]] = {}
    for location in site["locations"]:
        path = str(location["path"])
        if path in found:
            raise GatewayError(f"Site {site['name']}: the location {path} is defined twice; keep one.")
        found[path] = {**LOCATION, **inherited, **_given(location), "path": path}
    for path in site["auth_paths"]:
        limits = [*(limit for limit in site["rate_limits"] if limit != "auth"), "auth"]
        found.setdefault(path, {**LOCATION, **inherited, "path": path, "rate_limits": limits})
    for path in site["static_paths"]:
        found.setdefault(path, {**LOCATION, **inherited, "path": path, "rate_limits": [], "cache_control": IMMUTABLE})
    return [found[path] for path in sorted(found)]


def _domains(site: Mapping[str, Any]) -> list[str]:
    """Return a site's domains as all components write them."""
    found = []
    for domain in site["domains"]:
        try:
            found.append(domains.normal(str(domain)))
        except domains.DomainError as error:
            raise GatewayError(f"Site {site['name']}: a domain {error}. {error.fix}") from error
    return found


def _check(sites: Sequence[Mapping[str, Any]]) -> None:
    names: set[str] = set()
    owners: dict[str, str] = {}
    for site in sites:
        name = site["name"]
        if not NAME.match(name):
            raise GatewayError(
                f"The site name {name!r} becomes a file name: use lower-case letters, digits, - and _, starting with a letter."
            )
        if name in names:
            raise GatewayError(f"Two sites are called {name!r}: rename one.")
        names.add(name)
        if not site["domains"]:
            raise GatewayError(f"Site {name}: no domains. Name at least one.")
        for domain in site["domains"]:
            if owners.setdefault(domain, name) != name:
                raise GatewayError(f"The domain {domain} belongs to both {owners[domain]} and {name}: give it to one site.")
        for location in site["locations"]:
            if not location["path"].startswith("/") or re.search(r"[\s;{}\"']", location["path"]):
                raise GatewayError(
                    f"Site {name}: the path {location['path']!r} must start with / and hold no blanks, quotes, braces or semicolons."
                )


def zone_rate(per_minute: float, factor: float) -> str:
    """Return a rate as nginx writes it, never below one request a minute."""
    return f"{max(1, round(float(per_minute) * float(factor)))}r/m"


def site_files(sites: Iterable[Mapping[str, Any]], template: str, headers: str = "headers.conf.j2") -> list[dict[str, Any]]:
    """Return the files of all sites for config_files: a server block and the header snippet that all its locations include."""
    files = []
    for site in sites:
        variables = {"__nginx_site": dict(site)}
        files.append({"dest": f"/etc/nginx/snippets/uptier-headers-{site['name']}.conf", "src": headers, "vars": variables})
        files.append({"dest": f"/etc/nginx/sites-enabled/{site['name']}.conf", "src": template, "vars": variables})
    return files
