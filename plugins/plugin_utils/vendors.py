# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What comes from a vendor's repository: where from, in which version, and what is said when it does not come. Pure functions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


class VendorError(ValueError):
    """Unknown vendor, package or key; the message lists what there is."""


def repository(vendors: Mapping[str, Any], vendor: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return a vendor's repository {url, suite, component, key, fingerprints} with what the user put in its place.

    `key` becomes an address or an absolute path: a name alone is a file below the url.
    """
    if vendor not in vendors:
        raise VendorError(f"unknown vendor {vendor!r}: roles/platform/vars/vendors.yml has {', '.join(vendors)}")
    own = vendors[vendor]["repository"]
    strange = sorted(set(given) - set(own))
    if strange:
        raise VendorError(f"the repository has no {', '.join(strange)}: it takes {', '.join(own)}")
    whole = {**own, **{name: value for name, value in given.items() if value}}
    whole["url"] = str(whole["url"]).rstrip("/")
    if "://" not in whole["key"] and not whole["key"].startswith("/"):
        whole["key"] = f"{whole['url']}/{whole['key']}"
    return whole


def tested(vendors: Mapping[str, Any], package: str) -> str:
    """Return the version of a package that the configuration of its role was written for."""
    known = {name: version for vendor in vendors.values() for name, version in vendor["tested"].items()}
    if package not in known:
        raise VendorError(f"{package} comes from no vendor: roles/platform/vars/vendors.yml has {', '.join(known)}")
    return known[package]


def wish(package: str, version: str) -> str:
    return f"{package} {version}" if version else package


def explain(repository: str, why: str, wishes: Sequence[str]) -> str:
    """Return what a repository did not give, and why."""
    reason = why.removeprefix(f"{repository}/").rstrip(".")
    return f"{'; '.join(wishes)} could not be installed from {repository} ({reason})."


def ways_on(withheld: Sequence[Mapping[str, Any]]) -> str:
    """Return what the user can do: a mirror, files, or without; the variables are those of the packages that are missing."""
    mirrors, sources, offs = (
        list(dict.fromkeys(names))
        for names in (
            [f"platform_{one['vendor']}_repository" for one in withheld],
            [f"{one['package']}_source" for one in withheld],
            [str(one["switch"]) for one in withheld],
        )
    )
    files = " and ".join(f"{name.removesuffix('_source')}_file with its _checksum" for name in sources[:1])
    return (
        f"Name a mirror of yours ({', '.join(mirrors)}: {{url: ...}}); or give a file on the controller ({', '.join(sources)}: package, "
        f"and {files}{' alike' if len(sources) > 1 else ''}); or do without ({', '.join(offs)}: false)."
    )


def report(results: Mapping[str, Sequence[Mapping[str, Any]]]) -> str:
    """Return one text for all that repositories withheld from all hosts; empty where they gave everything.

    Args:
        results: By host, what vendor_package returned there; a result without `withheld` counts as given.
    """
    hosts_of: dict[tuple[str, str], dict[str, list[str]]] = {}
    missing: dict[str, Mapping[str, Any]] = {}
    for host, found in results.items():
        for withheld in filter(None, (result.get("withheld") for result in found)):
            missing[withheld["package"]] = withheld
            same = hosts_of.setdefault((withheld["repository"], withheld["why"]), {})
            same.setdefault(wish(withheld["package"], withheld["version"]), []).append(host)
    if not missing:
        return ""
    lines = [
        explain(repository, why, [f"{wished} on {', '.join(hosts)}" for wished, hosts in wishes.items()])
        for (repository, why), wishes in hosts_of.items()
    ]
    return "\n".join([*lines, "The rest of the run was not held up by that.", ways_on(list(missing.values()))])
