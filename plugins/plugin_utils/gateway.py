# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What the gateway serves, derived from the applications. Pure functions.

A site is one server block: names, a certificate, an upstream and locations. Whoever describes a site says what
differs from SITE and LOCATION; complete_sites() returns sites in which every key is set.
"""

from __future__ import annotations

import hashlib
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
    "archive": "",  # on the controller; a static site is unpacked from it
    "root": "",  # a directory on the gateways that something else fills
    "not_found": "",
    "methods": [],
    "api_keys": "",
    "cors": {},
    "waf": "",
    "waf_without": [],
    "extra": "",
    "locations": [],
}
LOCATION: dict[str, Any] = {
    "exact": False,
    "websocket": False,
    "cache_seconds": 0,
    "cache_control": "",
    "static": False,
    "fallback": "",
    "extra": "",
}
CORS: dict[str, Any] = {
    "origins": [],
    "methods": ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"],
    "headers": ["Authorization", "Content-Type"],
    "expose": [],
    "credentials": False,
    "max_age": 600,
}
# A location takes these from its site unless it says otherwise.
INHERITED = ("upstream", "rate_limits", "client_max_body_mb", "allow", "intercept_errors", "read_timeout", "methods", "api_keys", "waf")
# Where archives of static sites are unpacked, by the name of the site (module static_site).
STATIC = "/srv/uptier/sites"
IMMUTABLE = "public, max-age=31536000, immutable"
NAME = re.compile(r"^[a-z][a-z0-9_-]*$")
METHOD = re.compile(r"^[A-Z]+$")
HEADER = re.compile(r"^[A-Za-z0-9-]+$")
# One label more may stand in the place of the star, or several.
ORIGIN = re.compile(r"^https?://(\*\.)?[a-z0-9.-]+(:[0-9]+)?$")


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


def complete_sites(
    sites: Sequence[Mapping[str, Any]], settings: Sequence[Mapping[str, Any]] = (), waf: Any = "off"
) -> list[dict[str, Any]]:
    """Lay `settings` (by name) over `sites`, fill in every default and refuse what contradicts itself.

    `waf` is the mode of the web application firewall for sites that say nothing.
    """
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
        merged["cors"] = {**plain(CORS), **_given(merged["cors"])} if merged["cors"] else {}
        if (merged["archive"] or merged["root"]) and not merged["locations"]:
            merged["locations"] = [{"path": "/", "static": True}]
        merged["waf"] = waf_mode(merged["waf"]) or waf_mode(waf)
        merged["locations"] = _locations(merged)
        # Only the module of static sites moves this link.
        merged["root"] = merged["root"] or (f"{STATIC}/{merged['name']}/current" if merged["archive"] else "")
        complete.append(merged)
    _check(complete)
    return complete


def waf_mode(given: Any) -> str:
    """Return a mode as it was meant: YAML makes a truth value of `off`."""
    return "off" if given is False else str(given or "")


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
        found[path]["waf"] = waf_mode(found[path]["waf"]) or site["waf"]
    static = found.get("/", {}).get("static", False)
    # Nobody logs in at files.
    for path in site["auth_paths"] if not static else ():
        limits = [*(limit for limit in site["rate_limits"] if limit != "auth"), "auth"]
        found.setdefault(path, {**LOCATION, **inherited, "path": path, "rate_limits": limits})
    for path in site["static_paths"]:
        found.setdefault(path, {**LOCATION, **inherited, "path": path, "rate_limits": [], "cache_control": IMMUTABLE, "static": static})
    for location in found.values():
        if location["static"]:  # files are read; who asks for one needs no key and no limit of its own unless it says so
            location["cache_control"] = location["cache_control"] or "no-cache"
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
        _check_cors(site)
        for location in site["locations"]:
            _check_location(name, site, location)
            if not location["path"].startswith("/") or re.search(r"[\s;{}\"']", location["path"]):
                raise GatewayError(
                    f"Site {name}: the path {location['path']!r} must start with / and hold no blanks, quotes, braces or semicolons."
                )


def _check_cors(site: Mapping[str, Any]) -> None:
    cors = site["cors"]
    if not cors:
        return
    if not cors["origins"]:
        raise GatewayError(f"Site {site['name']}: cors names no origins. Name those that may use it, for example https://app.example.org.")
    for origin in cors["origins"]:
        if origin != "*" and not ORIGIN.match(origin):
            raise GatewayError(
                f"Site {site['name']}: {origin!r} in cors is no origin. Write scheme and name alone, for example https://app.example.org, "
                "https://*.example.org for all names below it, or * for everybody."
            )
    if "*" in cors["origins"] and cors["credentials"]:
        raise GatewayError(f"Site {site['name']}: cors allows everybody with credentials, which browsers refuse. Name the origins.")
    for kind, pattern in (("methods", METHOD), ("headers", HEADER), ("expose", HEADER)):
        for word in cors[kind]:
            if not pattern.match(word):
                raise GatewayError(f"Site {site['name']}: {word!r} in {kind} of cors is none.")


def _check_location(name: str, site: Mapping[str, Any], location: Mapping[str, Any]) -> None:
    where = f"Site {name}, location {location['path']}"
    if location["static"] and not site["root"]:
        raise GatewayError(f"{where}: is static, and the site has neither archive nor root. Name one of them.")
    if location["static"] and location["websocket"]:
        raise GatewayError(f"{where}: files do not speak websocket. Leave static or websocket out.")
    for method in location["methods"]:
        if not METHOD.match(method):
            raise GatewayError(f"{where}: {method!r} in methods is none. Write it in capitals, for example GET.")
    if location["api_keys"] and not NAME.match(location["api_keys"]):
        raise GatewayError(f"{where}: api_keys is {location['api_keys']!r}, which is no name of a set of keys.")


def origin_patterns(origins: Sequence[str]) -> list[str]:
    """Return origins as a map of nginx reads them: as they are, or a regular expression where there is a star."""
    found = []
    for origin in origins:
        if "*" in origin:
            found.append("~^" + re.escape(origin).replace(r"\*", "[a-z0-9.-]+") + "$" if origin != "*" else "~.")
        else:
            found.append(origin)
    return found


def zone_rate(per_minute: float, factor: float, gateways: int = 1) -> str:
    """Return a rate as nginx writes it, a gateway's part of the sum; never below one request a minute."""
    return f"{max(1, round(float(per_minute) * float(factor) / max(1, int(gateways))))}r/m"


def zone_burst(burst: int, gateways: int = 1) -> int:
    """Return a gateway's part of a burst, rounded up: one request more is better than none."""
    return -(-int(burst) // max(1, int(gateways)))


def api_key_files(keys: Iterable[Mapping[str, Any]], directory: str) -> list[dict[str, Any]]:
    """Return the files that stand for API keys: one for each key and set, named by the SHA-1 sum of what a client sends.

    A key is checked at each request by asking whether its file is there, so that one that comes or goes needs no reload.
    The sum is no weakness: a key is long and random, and nobody finds another text with a given sum.
    """
    files: list[dict[str, Any]] = []
    folders: dict[str, None] = {}
    for key in keys:
        if not NAME.match(str(key["name"])):
            raise GatewayError(f"The name of an API key, {key['name']!r}, must be lower-case letters, digits, - and _, a letter first.")
        if not re.fullmatch(r"[A-Za-z0-9_-]{32,}", str(key["key"])):
            raise GatewayError(f"The API key {key['name']} must have 32 characters or more out of A-Z, a-z, 0-9, _ and -.")
        digest = hashlib.sha1(f"{key['name']}.{key['key']}".encode(), usedforsecurity=False).hexdigest()
        for name in key["sets"]:
            folder = f"{directory}/{name}"
            folders[folder] = None
            files.append({"dest": f"{folder}/{digest}", "content": f"{key['name']}\n", "mode": "0644"})
    # Workers may ask for a name; nobody but root lists them.
    return [{"dest": name, "state": "directory", "mode": "0711"} for name in (directory, *folders)] + files


def maintenance_files(site: str, state: str, allow: Iterable[str], directory: str) -> list[dict[str, Any]]:
    """Return the files that close a site or open it again; nginx asks for them at each request.

    Those who may pass come before the door is closed, so that they never see it closed.
    """
    flag, folder = f"{directory}/{site}", f"{directory}/{site}.pass"
    if state == "off":
        return [{"dest": flag, "state": "absent"}, {"dest": folder, "state": "directory"}]
    passes = [{"dest": f"{folder}/{address}", "content": ""} for address in allow]
    return [{"dest": folder, "state": "directory"}, *passes, {"dest": flag, "content": "Closed by playbooks/maintenance.yml\n"}]


def static_sites(sites: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the sites that are unpacked from an archive: name, archive, and the paths whose files outlive a version."""
    return [
        {"name": site["name"], "archive": site["archive"], "immutable": [path.strip("/") for path in site["static_paths"]]}
        for site in sites
        if site["archive"]
    ]


def site_files(sites: Iterable[Mapping[str, Any]], template: str, headers: str = "headers.conf.j2") -> list[dict[str, Any]]:
    """Return the files of all sites for config_files: a server block and the header snippet that all its locations include."""
    files = []
    for site in sites:
        variables = {"__nginx_site": dict(site)}
        files.append({"dest": f"/etc/nginx/snippets/uptier-headers-{site['name']}.conf", "src": headers, "vars": variables})
        files.append({"dest": f"/etc/nginx/sites-enabled/{site['name']}.conf", "src": template, "vars": variables})
    return files
