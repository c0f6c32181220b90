# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Sites of the gateway."""

from __future__ import annotations

import re

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
        ([{"name": "a", "domains": ["x.test"], "locations": [{"path": "/a"}, {"path": "/a"}]}], [], "is defined twice"),
        ([{"name": "a", "domains": ["x.test"], "locations": [{"path": "/; root /"}]}], [], "must start with /"),
    ],
)
def test_contradictions_are_refused(sites, settings, message):
    with pytest.raises(gateway.GatewayError, match=message):
        gateway.complete_sites(sites, settings)


def static(**more):
    return gateway.complete_sites([{"name": "docs", "domains": ["docs.test"], **more}])[0]


def test_a_site_with_an_archive_is_static():
    site = static(archive="docs.tar")
    assert site["root"] == "/srv/uptier/sites/docs/current"
    assert [entry["path"] for entry in site["locations"]] == ["/", "/assets/"], "nobody logs in at files"
    assert all(entry["static"] for entry in site["locations"])
    assert location(site, "/")["cache_control"] == "no-cache"
    assert location(site, "/assets/")["cache_control"] == gateway.IMMUTABLE
    assert gateway.static_sites([site, static(root="/srv/www")]) == [{"name": "docs", "archive": "docs.tar", "immutable": ["assets"]}]


def test_files_and_an_application_under_one_name():
    site = static(archive="docs.tar", locations=[{"path": "/", "static": True, "fallback": "/index.html"}, {"path": "/api/"}])
    assert (location(site, "/")["static"], location(site, "/api/")["static"]) == (True, False)
    assert location(site, "/api/")["upstream"] == "app"


def test_what_a_location_takes_from_its_site():
    site = static(
        methods=["GET"], api_keys="partners", waf="detect", locations=[{"path": "/"}, {"path": "/open/", "api_keys": "", "waf": "off"}]
    )
    assert (location(site, "/")["methods"], location(site, "/")["api_keys"], location(site, "/")["waf"]) == (["GET"], "partners", "detect")
    assert (location(site, "/open/")["api_keys"], location(site, "/open/")["waf"]) == ("", "off")


@pytest.mark.parametrize(("given", "mode"), [(False, "off"), ("", "block"), (None, "block"), ("detect", "detect")])
def test_a_mode_of_the_firewall_that_yaml_took_for_a_truth_value(given, mode):
    site = gateway.complete_sites([{"name": "a", "domains": ["a.test"], "waf": given}], [], "block")[0]
    assert (site["waf"], location(site, "/login")["waf"]) == (mode, mode)


def test_origins_match_what_they_say_and_nothing_beside():
    patterns = gateway.origin_patterns(["https://app.test", "https://*.demo.test"])
    assert patterns[0] == "https://app.test"
    matches = [
        re.search(patterns[1][1:], f"https://{name}")
        for name in ("a.demo.test", "a.b.demo.test", "demo.test", "a.demo.test.evil", "axdemo.test")
    ]
    assert [bool(match) for match in matches] == [True, True, False, False, False]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"cors": {"origins": []}}, "names no origins"),
        ({"cors": {"origins": ["app.test"]}}, "is no origin"),
        ({"cors": {"origins": ["*"], "credentials": True}}, "which browsers refuse"),
        ({"cors": {"origins": ["*"], "methods": ["get"]}}, "'get' in methods of cors"),
        ({"methods": ["get"], "locations": [{"path": "/"}]}, "Write it in capitals"),
        ({"locations": [{"path": "/", "static": True}]}, "neither archive nor root"),
        ({"archive": "a", "locations": [{"path": "/", "static": True, "websocket": True}]}, "do not speak websocket"),
        ({"api_keys": "a b", "locations": [{"path": "/"}]}, "no name of a set"),
    ],
)
def test_a_site_that_cannot_be_meant(given, message):
    with pytest.raises(gateway.GatewayError, match=message):
        static(**given)


def test_files_of_keys_say_nothing_of_them():
    key = "k" * 32
    files = gateway.api_key_files([{"name": "acme", "key": key, "sets": ["partners", "staff"]}], "/keys")
    # What `printf %s acme.kkkk... | sha1sum` says, which is what nginx computes.
    digest = "2028cdbd2e0147179d0bfb3ed9ed633de8529c6d"
    names = [entry["dest"] for entry in files if "state" not in entry]
    assert [name.rpartition("/")[0] for name in names] == ["/keys/partners", "/keys/staff"]
    assert {name.rpartition("/")[2] for name in names} == {digest}
    assert key not in str(files)
    assert {entry["mode"] for entry in files if entry.get("state") == "directory"} == {"0711"}, "nobody but root lists them"


@pytest.mark.parametrize(
    ("name", "key", "message"), [("A", "k" * 32, "must be lower-case"), ("a", "short", "32 characters"), ("a", "k/" * 16, "32 characters")]
)
def test_keys_that_are_none(name, key, message):
    with pytest.raises(gateway.GatewayError, match=message) as error:
        gateway.api_key_files([{"name": name, "key": key, "sets": ["x"]}], "/keys")
    assert key not in str(error.value)


def test_who_may_pass_is_there_before_the_door_is_closed():
    closed = gateway.maintenance_files("shop", "on", ["192.0.2.7"], "/m")
    assert [entry["dest"] for entry in closed] == ["/m/shop.pass", "/m/shop.pass/192.0.2.7", "/m/shop"]
    assert gateway.maintenance_files("shop", "off", ["192.0.2.7"], "/m")[0] == {"dest": "/m/shop", "state": "absent"}


def test_parts_of_a_limit_make_the_whole():
    assert gateway.zone_rate(1000, 1.0, 2) == "500r/m"
    assert gateway.zone_burst(5, 2) == 3
    for gateways in (1, 2, 3):
        whole = gateways * int(gateway.zone_rate(1000, 1.0, gateways).removesuffix("r/m"))
        assert abs(whole - 1000) <= 100, "the sum over all gateways is within a tenth"


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
