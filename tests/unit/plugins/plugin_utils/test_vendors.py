# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Where a vendor's packages come from, and what a user reads when they do not come."""

from __future__ import annotations

import pytest
from ansible_collections.uptier.platform.plugins.action.vendor_package import catalogue
from ansible_collections.uptier.platform.plugins.plugin_utils import vendors

ALLOY = {
    "package": "alloy", "version": "1.*", "vendor": "grafana", "repository": "https://apt.example.com",
    "why": "https://apt.example.com/gpg.key: Connection refused", "switch": "platform_logs_enabled",
}  # fmt: skip
GRAFANA = {**ALLOY, "package": "grafana", "version": "13.*", "switch": "platform_grafana_enabled"}


def test_the_vendors_own_repository() -> None:
    found = vendors.repository(catalogue(), "grafana", {})
    assert found["key"] == "https://apt.grafana.com/gpg-full.key"
    assert [len(name) for name in found["fingerprints"]] == [40]


def test_a_mirror_has_the_key_below_itself_unless_it_is_said() -> None:
    assert vendors.repository(catalogue(), "grafana", {"url": "https://m.example.com/g/"})["key"] == "https://m.example.com/g/gpg-full.key"
    own = {"url": "https://m.example.com", "key": "/srv/keys/grafana.asc"}
    assert vendors.repository(catalogue(), "grafana", own)["key"] == "/srv/keys/grafana.asc"
    assert vendors.repository(catalogue(), "grafana", own)["fingerprints"] == catalogue()["grafana"]["repository"]["fingerprints"]


def test_a_misspelt_key_is_refused() -> None:
    with pytest.raises(vendors.VendorError, match="the repository has no uri: it takes url, suite, component, key, fingerprints"):
        vendors.repository(catalogue(), "grafana", {"uri": "https://m.example.com"})
    with pytest.raises(vendors.VendorError, match="unknown vendor 'grafna'"):
        vendors.repository(catalogue(), "grafna", {})


def test_every_tested_version_is_bounded() -> None:
    """The newest of the day would be installed otherwise."""
    assert {package: vendors.tested(catalogue(), package) for package in ("grafana", "loki", "alloy")} == catalogue()["grafana"]["tested"]
    assert all(version and not version.startswith("*") for version in catalogue()["grafana"]["tested"].values())
    with pytest.raises(vendors.VendorError, match="nginx comes from no vendor"):
        vendors.tested(catalogue(), "nginx")


def test_one_message_for_all_hosts() -> None:
    results = {
        "app1": [{"withheld": ALLOY}, {}],
        "app2": [{"withheld": ALLOY}, {}],
        "db1": [{"withheld": {}}, {}],
        "mon1": [{"withheld": ALLOY}, {"withheld": GRAFANA}],
    }
    assert vendors.report(results) == (
        "alloy 1.* on app1, app2, mon1; grafana 13.* on mon1 could not be installed from https://apt.example.com "
        "(gpg.key: Connection refused).\n"
        "The rest of the run was not held up by that.\n"
        "Name a mirror of yours (platform_grafana_repository: {url: ...}); or give a file on the controller (alloy_source, grafana_source: "
        "package, and alloy_file with its _checksum alike); or do without (platform_logs_enabled, platform_grafana_enabled: false)."
    )


def test_nothing_is_said_where_nothing_is_missing() -> None:
    assert vendors.report({"app1": [{"withheld": {}}, {}], "app2": [{"skipped": True}]}) == ""
