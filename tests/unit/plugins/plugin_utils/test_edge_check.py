# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What preflight says of a gateway that depends on its hosts; test_mistakes.py has the rest."""

from __future__ import annotations

from typing import Any

from ansible_collections.uptier.platform.plugins.plugin_utils import edge_check

SITE = {"name": "shop", "domains": ["shop.test"], "locations": [{"path": "/"}]}


def said(values: dict[str, Any], releases: dict[str, Any] | None = None, keys: Any = ()) -> list[str]:
    given = {"nginx_sites": [SITE], **values}
    return [str(problem) for problem in edge_check.offered(given, [], keys, lambda path: True, releases or {})]


def test_a_firewall_is_refused_where_its_program_has_holes() -> None:
    (problem,) = said({"nginx_waf": "detect"}, {"gw1": "12", "gw2": "13"})
    assert problem == (
        "the web application firewall is wanted on gw1: Debian 12, whose ModSecurity (3.0.9) is older than the core rules ask for (3.0.10). "
        "Set nginx_waf (and waf of sites) to off, or use gateways with Debian 13."
    )
    assert said({"nginx_waf": "detect"}, {"gw1": "13", "gw2": None}) == []
    assert said({"nginx_waf": False}, {"gw1": "12"}) == []
    assert len(said({"nginx_site_settings": [{"name": "shop", "locations": [{"path": "/", "waf": "block"}]}]}, {"gw1": "12"})) == 1


def test_a_limit_that_counts_keys_where_nobody_shows_one() -> None:
    limits = [{"name": "partner", "key": "api_key", "per_minute": 60, "burst": 5}]
    locations = [{"path": "/", "rate_limits": ["partner"]}]
    values = {
        "nginx_rate_limits": limits,
        "nginx_site_settings": [{"name": "shop", "auth_paths": [], "static_paths": [], "locations": locations}],
    }
    (problem,) = said(values)
    assert "site shop, location /: rate_limits has partner, which counts API keys, and the location asks for none" in problem
    locations[0]["api_keys"] = "partners"
    assert said(values, keys=[{"name": "acme", "key": "k" * 32, "sets": ["partners"]}]) == []


def test_what_the_specification_says_is_not_said_again() -> None:
    assert said({"nginx_site_settings": [{"name": "shop", "cors": "everybody"}]}) == []
    assert said({}, keys=[{"name": "acme"}]) == []
