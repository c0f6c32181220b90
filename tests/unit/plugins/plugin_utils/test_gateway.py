# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Sites of the gateway."""

from __future__ import annotations

import pytest
from ansible_collections.uptier.platform.plugins.plugin_utils import gateway
from ansible_collections.uptier.platform.plugins.plugin_utils.application import completed

APPLICATION = {
    "name": "sample",
    "domains": ["demo.test", "www.demo.test"],
    "services": [
        {"name": "web", "kind": "web", "port": 3000, "path": "/", "websocket": True},
        {"name": "api", "kind": "web", "port": 3100, "path": "/api/"},
        {"name": "worker", "kind": "worker"},
    ],
}


def complete(applications=(APPLICATION,), settings=(), **more):
    return gateway.complete_sites(gateway.sites_of(completed(applications), **more), settings)


def location(site, path):
    return next(entry for entry in site["locations"] if entry["path"] == path)


def test_a_site_for_each_web_application():
    sites = complete([APPLICATION, {"name": "jobs", "domains": [], "services": [{"kind": "worker"}]}])
    assert [site["name"] for site in sites] == ["sample"]
    assert sites[0]["domains"] == ["demo.test", "www.demo.test"]
    assert sites[0]["certificate"] == "sample"
    assert location(sites[0], "/")["websocket"] is True
    assert location(sites[0], "/api/")["websocket"] is False


def test_a_root_location_is_always_there():
    api = {"name": "api", "domains": ["api.test"], "services": [{"kind": "web", "path": "/v1/"}]}
    assert location(complete([api])[0], "/")["upstream"] == "app"


def test_names_and_paths_of_single_services_belong_to_the_site():
    admin = {"name": "admin", "domains": ["admin.test", "demo.test"], "websocket": False}  # kind and path have defaults
    site = complete([{**APPLICATION, "services": [*APPLICATION["services"], admin]}])[0]
    assert site["domains"] == ["demo.test", "www.demo.test", "admin.test"]
    assert location(site, "/")["websocket"] is True
    alone = {"name": "admin", "services": [admin, {"name": "worker", "kind": "worker", "domains": ["never.test"]}]}
    assert complete([alone])[0]["domains"] == ["admin.test", "demo.test"]


def test_static_and_login_paths():
    site = complete()[0]
    assert location(site, "/assets/")["cache_control"] == gateway.IMMUTABLE
    assert location(site, "/assets/")["rate_limits"] == []
    assert location(site, "/login")["rate_limits"] == ["general", "auth"]


def test_grafana_has_a_site_of_its_own():
    site = complete([], grafana_domain="grafana.demo.test")[0]
    assert (site["name"], site["upstream"], site["domains"]) == ("grafana", "grafana", ["grafana.demo.test"])
    assert gateway.sites_of([]) == []


def test_settings_are_laid_over_a_site():
    settings = [
        {
            "name": "sample",
            "client_max_body_mb": 100,
            "read_timeout": None,
            "locations": [{"path": "/", "read_timeout": 5}, {"path": "/reports/", "cache_seconds": 300, "websocket": None}],
        }
    ]
    site = complete(settings=settings)[0]
    assert site["read_timeout"] == gateway.SITE["read_timeout"]
    assert location(site, "/") | {"read_timeout": 5, "websocket": True, "client_max_body_mb": 100} == location(site, "/")
    assert location(site, "/reports/")["cache_seconds"] == 300
    assert location(site, "/reports/")["websocket"] is False


def test_defaults_are_not_shared_between_sites():
    complete()[0]["rate_limits"].append("other")
    assert complete()[0]["rate_limits"] == ["general"]


def test_certificates_are_merged_by_name():
    sites = [
        {"name": "one", "domains": ["one.test"], "certificate": "shared"},
        {"name": "two", "domains": ["two.test", "one.test"], "certificate": "shared"},
        {"name": "three", "domains": ["three.test"]},
    ]
    assert gateway.certificates_of(sites) == [
        {"name": "shared", "domains": ["one.test", "two.test"]},
        {"name": "three", "domains": ["three.test"]},
    ]


@pytest.mark.parametrize(
    ("sites", "settings", "message"),
    [
        ([{"name": "a", "domains": ["x.test"]}], [{"name": "b"}], "unknown site 'b': the sites are a"),
        ([{"name": "a", "domains": ["x.test"]}, {"name": "a", "domains": ["y.test"]}], [], "Two sites are called 'a'"),
        ([{"name": "a", "domains": ["x.test"]}, {"name": "b", "domains": ["x.test"]}], [], "x.test belongs to both a and b"),
        ([{"name": "A", "domains": ["x.test"]}], [], "becomes a file name"),
        ([{"name": "a", "domains": []}], [], "no domains"),
        ([{"name": "a", "domains": ["https://x.test"]}], [], "which has a scheme. Write the name alone: x.test"),
        ([{"name": "a", "domains": ["x.test"], "locations": [{"path": "/a"}, {"path": "/a"}]}], [], "stands there twice"),
        ([{"name": "a", "domains": ["x.test"], "locations": [{"path": "/; root /"}]}], [], "must start with /"),
    ],
)
def test_contradictions_are_refused(sites, settings, message):
    with pytest.raises(gateway.GatewayError, match=message):
        gateway.complete_sites(sites, settings)


def test_rates_have_a_floor():
    assert gateway.zone_rate(1000, 0.5) == "500r/m"
    assert gateway.zone_rate(1, 0.1) == "1r/m"


def test_two_files_for_each_site():
    files = gateway.site_files(complete(), "site.conf.j2")
    assert [entry["dest"] for entry in files] == [
        "/etc/nginx/snippets/uptier-headers-sample.conf",
        "/etc/nginx/sites-enabled/sample.conf",
    ]
    assert files[1]["vars"]["__nginx_site"]["name"] == "sample"
