# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What is wrong with sites, limits, certificates, pools and channels that a user wrote by hand. Pure functions.

Names and types of keys are the specification's (specification.py); here is what several values say together.
"""

from __future__ import annotations

import ipaddress
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from ansible_collections.uptier.platform.plugins.plugin_utils import domains, gateway
from ansible_collections.uptier.platform.plugins.plugin_utils.problems import Problem, listed, nearest

YEAR_SECONDS = 31_536_000
WAF_NOT_ON = "12"  # the Debian release without a web application firewall
SITE_LISTS = ("nginx_sites", "nginx_extra_sites")
# What each kind of channel cannot do without is in roles/alertmanager/vars/main.yml.
Needs = Mapping[str, Sequence[str]]


def entries(given: Any) -> list[Mapping[str, Any]]:
    """Return the dictionaries of a list; what is none is said by the specification."""
    return [item for item in given if isinstance(item, Mapping)] if isinstance(given, (list, tuple)) else []


def whole(value: Any) -> int | None:
    try:
        return int(value)
    except (TypeError, ValueError):
        return None


def doubled(where: str, names: Iterable[Any]) -> Iterator[Problem]:
    for name, count in Counter(str(name) for name in names if name).items():
        if count > 1:
            yield Problem(where, f"has {name} {count} times", "Rename one of them, or make them one.")


# -- sites -----------------------------------------------------------------------------------------------------------


def sites(
    values: Mapping[str, Any], derived: Sequence[Mapping[str, Any]], upstreams: Mapping[str, Sequence[str] | None], limits: Sequence[str]
) -> list[Problem]:
    """Look at the sites of a gateway.

    `values` are the variables that were set, `derived` the sites that follow from the applications, `upstreams` the
    addresses by name (None: not known yet), `limits` the names of limits.
    """
    problems: list[Problem] = []
    placed: list[tuple[str, Mapping[str, Any]]] = [] if "nginx_sites" in values else [("the applications", site) for site in derived]
    for variable in SITE_LISTS:
        placed += [(f"variable {variable}[{number}]", site) for number, site in enumerate(entries(values.get(variable)))]
    names = [str(site.get("name")) for dummy, site in placed]
    settings = [(f"variable nginx_site_settings[{number}]", item) for number, item in enumerate(entries(values.get("nginx_site_settings")))]
    for where, setting in settings:
        name = str(setting.get("name"))
        if name not in names:
            fix = f"{nearest(name, names)}The sites are {listed(names) or 'none'}."
            problems.append(Problem(f"{where}: name", f"is {name}, and there is no such site", fix))
    owners: dict[str, tuple[str, str]] = {}
    for where, site in placed:
        name = str(site.get("name") or "")
        place = f"{where} {name}" if where.startswith("variable") else f"site {name} of {where}"
        if where.startswith("variable"):
            problems += _site(place, name, site, names)
        for domain in _readable(site.get("domains")):
            first, first_place = owners.setdefault(domain, (name, place))
            if first != name:
                problems.append(Problem(f"{place}: domains", f"has {domain}, which {first_place} has too", "Give it to one site."))
    for place, site in [(f"{where} {site.get('name')}", site) for where, site in placed if where.startswith("variable")] + [
        (f"{where} {setting.get('name')}", setting) for where, setting in settings
    ]:
        problems += _references(place, site, upstreams, limits, bool(whole(values.get("nginx_cache_max_mb"))))
    return problems


def _readable(given: Any) -> Iterator[str]:
    for domain in given if isinstance(given, (list, tuple)) else ():
        try:
            yield domains.normal(str(domain))
        except domains.DomainError:
            continue


def _site(place: str, name: str, site: Mapping[str, Any], names: Sequence[str]) -> Iterator[Problem]:
    if name and not gateway.NAME.match(name):
        fix = "Use lower-case letters, digits, - and _, a letter first: it becomes the name of a file."
        yield Problem(f"{place}: name", f"is {name!r}", fix)
    if names.count(name) > 1:
        yield Problem(f"{place}: name", f"is the name of {names.count(name)} sites", "Rename one of them.")
    if isinstance(site.get("domains"), (list, tuple)) and not site["domains"]:
        yield Problem(f"{place}: domains", "are none", "Name at least one.")
    for domain in site.get("domains") or () if isinstance(site.get("domains"), (list, tuple)) else ():
        try:
            domains.normal(str(domain))
        except domains.DomainError as error:
            yield Problem(f"{place}: domains", str(error), error.fix)


def misread(path: str) -> bool:
    """Tell whether nginx would take the path of a location for something else."""
    return not path.startswith("/") or any(sign in path for sign in " \t;{}\"'")


def _references(
    place: str, site: Mapping[str, Any], upstreams: Mapping[str, Sequence[str] | None], limits: Sequence[str], cached: bool
) -> Iterator[Problem]:
    """Look at what a site and its locations refer to."""
    places = [(place, site)]
    seen: set[str] = set()
    for location in entries(site.get("locations")):
        path = str(location.get("path") or "")
        places.append((f"{place}, location {path}", location))
        if path in seen:
            yield Problem(f"{place}, location {path}", "is defined twice", "Keep one.")
        seen.add(path)
        if path and misread(path):
            fix = "Write the path from its slash, without blanks, quotes, braces and semicolons, for example /api/."
            yield Problem(f"{place}, location {path}", "has a path that nginx would misread", fix)
    for where, entry in places:
        upstream = entry.get("upstream")
        if upstream and upstream not in upstreams:
            fix = f"{nearest(str(upstream), upstreams)}Those of nginx_upstreams are {listed(upstreams)}."
            yield Problem(f"{where}: upstream", f"is {upstream}, and there is none of that name", fix)
        elif upstream and upstreams[upstream] == []:
            yield Problem(
                f"{where}: upstream", f"is {upstream}, which has no hosts", "Add hosts to its group, or addresses to nginx_upstreams."
            )
        if (whole(entry.get("cache_seconds")) or 0) > 0 and not cached:
            fix = "Set nginx_cache_max_mb to the megabytes of disk that answers may take, or leave cache_seconds out."
            yield Problem(f"{where}: cache_seconds", f"is {entry['cache_seconds']}, and the gateways have no cache", fix)
        for limit in entry.get("rate_limits") or () if isinstance(entry.get("rate_limits"), (list, tuple)) else ():
            if limit not in limits:
                fix = f"{nearest(str(limit), limits)}Those of nginx_rate_limits are {listed(limits) or 'none'}."
                yield Problem(f"{where}: rate_limits", f"has {limit}, and there is no such limit", fix)
        for address in entry.get("allow") or () if isinstance(entry.get("allow"), (list, tuple)) else ():
            if not network(address):
                yield Problem(f"{where}: allow", f"has {address!r}, which is no address and no network", "Write 192.0.2.7 or 192.0.2.0/24.")


def network(text: Any) -> bool:
    try:
        ipaddress.ip_network(str(text), strict=False)
    except ValueError:
        return False
    return True


def limits(values: Mapping[str, Any]) -> list[Problem]:
    """Look at the limits and what else a gateway has been told about its clients."""
    problems = list(doubled("variable nginx_rate_limits", (limit.get("name") for limit in entries(values.get("nginx_rate_limits")))))
    for number, limit in enumerate(entries(values.get("nginx_rate_limits"))):
        place = f"variable nginx_rate_limits[{number}] {limit.get('name')}"
        for key, least in (("per_minute", 1), ("burst", 0)):
            count = whole(limit.get(key))
            if count is not None and count < least:
                problems.append(Problem(f"{place}: {key}", f"is {count}", f"Use {least} or more."))
    factor = values.get("nginx_rate_limit_factor")
    if isinstance(factor, (int, float)) and factor <= 0:
        problems.append(Problem("variable nginx_rate_limit_factor", f"is {factor}", "Use a number above 0; to have no limits, name none."))
    for name in ("nginx_trusted_proxies", "nginx_rate_limit_exempt"):
        for address in values.get(name) or () if isinstance(values.get(name), (list, tuple)) else ():
            if not network(address):
                fix = "Write 192.0.2.7 or 192.0.2.0/24."
                problems.append(Problem(f"variable {name}", f"has {address!r}, which is no address and no network", fix))
            elif ipaddress.ip_network(str(address), strict=False).prefixlen == 0:
                fix = "Name the networks of your proxies." if name == "nginx_trusted_proxies" else "Name networks of yours."
                problems.append(Problem(f"variable {name}", f"has {address}, which is everybody", fix))
    age = whole(values.get("nginx_hsts_max_age", 2 * YEAR_SECONDS)) or 0
    if values.get("nginx_hsts_preload") in (True, "true", "yes") and not (
        values.get("nginx_hsts_include_subdomains") in (True, "true", "yes") and age >= YEAR_SECONDS
    ):
        fix = f"Set nginx_hsts_include_subdomains: true and nginx_hsts_max_age to {YEAR_SECONDS} or more, or leave preload out."
        problems.append(Problem("variable nginx_hsts_preload", "is on without what browsers ask for to preload a domain", fix))
    return problems


def _legible(site: Mapping[str, Any]) -> dict[str, Any]:
    given = site.get("locations")
    return {"locations": [one for one in given if not misread(str(one.get("path")))]} if given and entries(given) == list(given) else {}


def offered(
    values: Mapping[str, Any],
    derived: Sequence[Mapping[str, Any]],
    keys: Any,
    exists: Callable[[str], bool],
    releases: Mapping[str, Any],
) -> list[Problem]:
    """Look at files, keys, browsers of other sites and the application firewall of sites that are right otherwise.

    `keys` are the API keys, `exists` says whether there is a file on the controller, `releases`
    is the Debian release of each gateway, as far as it is known.
    """
    given = [*([] if "nginx_sites" in values else derived), *(site for name in SITE_LISTS for site in entries(values.get(name)))]
    # What is wrong with domains is said where they were written, and with the path of a service too.
    given = [{**site, "domains": [f"site{number}.invalid"], **_legible(site)} for number, site in enumerate(given)]
    settings = [{key: value for key, value in entry.items() if key != "domains"} for entry in entries(values.get("nginx_site_settings"))]
    try:
        found = gateway.complete_sites(given, settings, values.get("nginx_waf", "off"))
        gateway.api_key_files(keys, "")
    except gateway.GatewayError as error:
        seen, dummy, fix = str(error).partition(". ")
        return [Problem("gateway:", seen.rstrip("."), fix or "Correct it.")]
    except (KeyError, TypeError, ValueError, AttributeError):
        return []  # a value of another type is said by the specification
    problems = []
    sets = {str(name) for key in keys for name in key["sets"]}
    kinds = {str(limit.get("name")): limit.get("key") for limit in entries(values.get("nginx_rate_limits"))}
    for site in found:
        place = f"site {site['name']}"
        if site["archive"] and not exists(str(site["archive"])):
            problems.append(
                Problem(f"{place}: archive", f"is {site['archive']}, and there is no such file here", "Build it, or correct its path.")
            )
        for location in site["locations"]:
            where = f"{place}, location {location['path']}"
            if location["api_keys"] and location["api_keys"] not in sets:
                seen = f"is {location['api_keys']}, of which there is no key, so that nobody would get in"
                fix = f"{nearest(location['api_keys'], sets)}Name the set in a key of nginx_api_keys (vault_nginx_api_keys in the vault file)."
                problems.append(Problem(f"{where}: api_keys", seen, fix))
            for limit in location["rate_limits"]:
                if kinds.get(limit) == "api_key" and not location["api_keys"]:
                    seen = f"has {limit}, which counts API keys, and the location asks for none"
                    problems.append(Problem(f"{where}: rate_limits", seen, "Set its api_keys, or count by address."))
    old = sorted(host for host, release in releases.items() if str(release) == WAF_NOT_ON)
    if old and any(location["waf"] != "off" for site in found for location in site["locations"]):
        seen = f"is wanted on {listed(old)}: Debian {WAF_NOT_ON}, whose ModSecurity (3.0.9) is older than the core rules ask for (3.0.10)"
        problems.append(
            Problem("the web application firewall", seen, "Set nginx_waf (and waf of sites) to off, or use gateways with Debian 13.")
        )
    if values.get("nginx_trusted_proxies_only") in (True, "true", "yes") and not values.get("nginx_trusted_proxies"):
        seen = "is on, and nginx_trusted_proxies names none, so that everybody would be refused"
        problems.append(Problem("variable nginx_trusted_proxies_only", seen, "Name the networks of your proxies, or leave it off."))
    return problems


def certificates(values: Mapping[str, Any], wanted: Sequence[str], files: Sequence[tuple[str, Mapping[str, Any]]]) -> list[Problem]:
    """Look at where public certificates come from.

    `wanted` are all domains of the gateway, `files` the sites that name their certificates, with the variable.
    """
    problems = list(doubled("variable acme_sites", (site.get("name") for dummy, site in files)))
    if values.get("acme_provider") == "provided":
        lacking = [f"{name}: {site.get('name')}" for name, site in files if not (site.get("certificate") and site.get("key"))]
        if "acme_sites" not in values and wanted:
            fix = "Set acme_sites: a list of {name, domains, certificate, key}, the last two files on the controller."
            problems.append(Problem("variable acme_provider", "is provided, and acme_sites does not say which files", fix))
        for where in lacking:
            fix = "Name a file on the controller for each, or take another acme_provider."
            problems.append(Problem(f"variable {where}", "has no certificate or no key, and acme_provider is provided", fix))
    if values.get("acme_provider") == "acme":
        if values.get("acme_agree_to_terms") not in (True, "true", "yes"):
            seen = "is acme, and acme_agree_to_terms does not say that you accept the server's terms of service"
            problems.append(Problem("variable acme_provider", seen, "Read them, then set acme_agree_to_terms: true."))
        email = values.get("acme_email")
        if email and not re.fullmatch(r"[^@\s]+@[^@\s]+\.[^@\s]+", str(email)):
            problems.append(Problem("variable acme_email", f"is {email}, which is no address", "Write it whole, or leave it out."))
        numbers = [name for name in wanted if network(name)]
        if numbers:
            seen = f"is acme, and {listed(numbers)} is an address, for which it gets no certificate"
            problems.append(Problem("variable acme_provider", seen, "Use the internal authority, or give the application a name."))
        stars = [name for name in wanted if name.startswith("*.")]
        if stars:
            seen = f"is acme, and {listed(stars)} can be proved by DNS only, which it does not do"
            problems.append(
                Problem("variable acme_provider", seen, "Use provided with a certificate of yours, or name the domains one by one.")
            )
    fraction = values.get("acme_renew_fraction")
    if isinstance(fraction, (int, float)) and not 0.05 < fraction < 0.9:
        problems.append(Problem("variable acme_renew_fraction", f"is {fraction}", "Use a number between 0.05 and 0.9."))
    hours = whole(values.get("acme_renew_interval_hours", 8))
    if hours is not None and not 1 <= hours <= 24:
        problems.append(Problem("variable acme_renew_interval_hours", f"is {hours}", "Use 1 to 24."))
    return problems


# -- pools and channels ----------------------------------------------------------------------------------------------


def pools(given: Any, hosts: int, budget: int, passwords: Mapping[str, Any] | None, administrator: Any) -> list[Problem]:
    """Look at pools that a user wrote; what follows from the applications fits by itself."""
    found = entries(given)
    problems = list(doubled("variable pgbouncer_databases", (pool.get("name") for pool in found)))
    for number, pool in enumerate(found):
        place, size = f"variable pgbouncer_databases[{number}] {pool.get('name')}", whole(pool.get("size"))
        if size is not None and size < 1:
            problems.append(Problem(f"{place}: size", f"is {size}, so nobody would ever get a connection", "Use 1 or more."))
        if pool.get("user") and pool["user"] == administrator:
            problems.append(Problem(f"{place}: user", f"is {administrator}, the pooler's administrator", "Give one of them another name."))
        elif pool.get("user") and passwords is not None and not passwords.get(pool["user"]):
            fix = "Put one into vault_postgresql_user_passwords in the vault file (ansible-vault edit)."
            problems.append(Problem(f"{place}: user", f"is {pool['user']}, who has no password", fix))
    total = hosts * sum(whole(pool.get("size")) or 0 for pool in found)
    if total > budget > 0:
        seen = f"takes {total} connections on {hosts} hosts, and pgbouncer_connection_budget is {budget}"
        problems.append(
            Problem("variable pgbouncer_databases", seen, "Make the pools smaller, or raise the budget and postgresql_max_connections.")
        )
    return problems


def objects(values: Mapping[str, Any], variables: Sequence[str], known: Sequence[str]) -> list[Problem]:
    """Find indexes, partitions and statements of a database that there is not; `known` are those that there will be."""
    problems = []
    for variable in variables:
        for number, entry in enumerate(entries(values.get(variable))):
            database = entry.get("database")
            place = f"variable {variable}[{number}] {entry.get('name') or entry.get('table') or ''}".rstrip()
            # A misspelt key is said by the specification.
            misspelt = any(key.startswith(("col", "exp")) for key in entry if key not in ("columns", "expressions"))
            wanted = variable.endswith("_indexes") and entry.get("state") != "absent" and not misspelt
            if wanted and bool(entry.get("columns")) == bool(entry.get("expressions")):
                seen = "has both columns and expressions" if entry.get("columns") else "has neither columns nor expressions"
                problems.append(Problem(place, seen, "Give it one of them, for example columns: [user_id]."))
            if isinstance(database, str) and database not in known:
                fix = f"{nearest(database, known)}The databases are {listed(known) or 'none'}."
                problems.append(Problem(f"{place}: database", f"is {database}, and there is no such database", fix))
    return problems


def channels(given: Any, smarthost: Any, needs: Needs) -> list[Problem]:
    """Look at the channels of alerts. No value is shown, since addresses of webhooks are secret."""
    found = entries(given)
    problems = []
    if smarthost and not re.fullmatch(r"\S+:[0-9]+", str(smarthost)):
        fix = "Write name and port, for example mail.example.org:587."
        problems.append(Problem("variable alertmanager_smtp_smarthost", f"is {smarthost}, without a port", fix))
    problems += list(doubled("variable alertmanager_channels", (channel.get("name") for channel in found)))
    for number, channel in enumerate(found):
        kind = str(channel.get("kind"))
        place = f"variable alertmanager_channels[{number}] {channel.get('name') or ''}".rstrip()
        missing = [key for key in needs.get(kind, ()) if not channel.get(key)]
        if missing:
            fix = f"Give it {' and '.join(missing)}; what is secret comes from the vault file."
            problems.append(Problem(place, f"is of the kind {kind} and lacks {' and '.join(missing)}", fix))
        url = channel.get("url")
        if isinstance(url, str) and url and not url.startswith(("http://", "https://")):
            problems.append(Problem(f"{place}: url", "is not an address that begins with https://", "Write it whole."))
        if kind == "email" and not smarthost:
            fix = "Set it to the mail server, for example mail.example.org:587."
            problems.append(Problem(place, "is of the kind email, and alertmanager_smtp_smarthost is not set", fix))
    return problems
