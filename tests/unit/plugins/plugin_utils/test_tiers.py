# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.uptier.platform.plugins.plugin_utils.ports import default_flows
from ansible_collections.uptier.platform.plugins.plugin_utils.tiers import TierError, tier_value

VARS = Path(__file__).resolve().parents[4] / "roles" / "platform" / "vars"
PROFILES = yaml.safe_load((VARS / "tiers.yml").read_text(encoding="utf-8"))["platform_tiers"]
FLOWS = default_flows()
GROUPS = {"gateway", "app", "postgresql", "etcd", "redis", "monitoring", "backup"}


def test_a_value_of_a_tier() -> None:
    assert tier_value({"small": {"hosts": 1}, "large": {"hosts": 8}}, "large", "hosts") == 8


def test_an_unknown_tier_lists_the_known_ones() -> None:
    with pytest.raises(TierError, match="Unknown tier 'grwoth': use one of startup, growth, enterprise"):
        tier_value(PROFILES, "grwoth", "users_min")


def test_an_unknown_value_lists_the_known_ones() -> None:
    with pytest.raises(TierError, match="no value 'user_min'.*users_min"):
        tier_value(PROFILES, "growth", "user_min")


def test_all_tiers_answer_the_same_questions() -> None:
    assert PROFILES["startup"].keys() == PROFILES["growth"].keys() == PROFILES["enterprise"].keys()


def test_the_user_ranges_join() -> None:
    """Whoever outgrows a tier already fits the next one."""
    assert PROFILES["growth"]["users_min"] < PROFILES["startup"]["users_max"]
    assert PROFILES["enterprise"]["users_min"] < PROFILES["growth"]["users_max"]


@pytest.mark.parametrize("tier", PROFILES)
def test_no_minimum_is_above_its_maximum(tier: str) -> None:
    profile = PROFILES[tier]
    for key in (key for key in profile if key.endswith("_min")):
        assert profile[key] <= profile.get(key.replace("_min", "_max"), profile[key]), key


def test_a_startup_host_is_not_promised_twice() -> None:
    shares = {key: value for key, value in PROFILES["startup"].items() if key.endswith("_memory_share")}
    assert sum(shares.values()) < 0.95, shares


@pytest.mark.parametrize("flow", FLOWS, ids=lambda flow: flow["name"])
def test_a_flow_is_whole(flow: dict[str, Any]) -> None:
    assert set(flow) == {"name", "from", "to", "protocol", "ports", "tls", "why"}
    assert flow["from"] in GROUPS | {"all", "admin", "any"}
    assert flow["to"] in GROUPS | {"all"}
    assert flow["protocol"] in {"tcp", "udp", "icmp", "vrrp"}
    assert flow["tls"] in {"tls", "mutual", "ssh", "none"}
    assert all(isinstance(port, int) and 0 < port < 65536 for port in flow["ports"])
    assert bool(flow["ports"]) == (flow["protocol"] in {"tcp", "udp"})
    assert flow["why"]


def test_a_flow_is_named_once() -> None:
    counted = Counter(flow["name"] for flow in FLOWS)
    assert [name for name, count in counted.items() if count > 1] == []


def test_only_the_gateway_is_open_to_the_world() -> None:
    assert {flow["to"] for flow in FLOWS if flow["from"] == "any"} == {"gateway"}
