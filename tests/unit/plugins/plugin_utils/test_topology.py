# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

import pytest
from ansible_collections.uptier.platform.plugins.filter.topology import all_or_localhost
from ansible_collections.uptier.platform.plugins.plugin_utils.topology import TopologyError, address_of, interface_of, members


@pytest.mark.parametrize(
    ("variables", "address"),
    [
        ({"ansible_host": "10.0.0.5"}, "10.0.0.5"),
        ({"ansible_host": "203.0.113.7", "platform_address": "10.0.0.5"}, "10.0.0.5"),
        ({"ansible_host": "some-container", "platform_address": "10.0.0.5"}, "10.0.0.5"),
        ({"ansible_host": "fd00::0005"}, "fd00::5"),
    ],
)
def test_the_internal_address_wins(variables: dict[str, str], address: str) -> None:
    assert address_of("db1", variables) == address


@pytest.mark.parametrize("variables", [{}, {"ansible_host": "db1.example.org"}, {"ansible_host": None}])
def test_a_host_without_address_is_named(variables: dict[str, str | None]) -> None:
    with pytest.raises(TopologyError, match=r"db1: no address\. Set ansible_host or platform_address"):
        address_of("db1", variables)


def test_a_wrong_address_is_shown() -> None:
    with pytest.raises(TopologyError, match=r"db1: platform_address is '10\.0\.0\.500'"):
        address_of("db1", {"platform_address": "10.0.0.500", "ansible_host": "10.0.0.5"})


def test_members_come_in_inventory_order_with_names_and_zones() -> None:
    hostvars = {"db2": {"ansible_host": "10.0.0.2", "zone": "b"}, "db1": {"ansible_host": "10.0.0.1"}}
    assert members(["db2", "db1"], hostvars) == [
        {"name": "db2", "address": "10.0.0.2", "fqdn": "db2.internal", "zone": "b"},
        {"name": "db1", "address": "10.0.0.1", "fqdn": "db1.internal", "zone": ""},
    ]
    assert members(["db1"], hostvars, "corp.example")[0]["fqdn"] == "db1.corp.example"


# As Ansible gathers them: the default route leads over the public interface.
FACTS = {
    "interfaces": ["lo", "ens3", "ens4.100", "bond0", "br-lan"],
    "default_ipv4": {"interface": "ens3", "address": "203.0.113.7", "alias": "ens3"},
    "lo": {"device": "lo", "ipv4": {"address": "127.0.0.1", "prefix": "8"}, "ipv6": [{"address": "::1", "prefix": "128"}]},
    "ens3": {"device": "ens3", "ipv4": {"address": "203.0.113.7"}, "ipv6": [{"address": "fe80::1", "scope": "link"}]},
    "ens4_100": {"device": "ens4.100", "ipv4": {"address": "10.0.0.11"}, "ipv4_secondaries": [{"address": "10.0.0.100"}]},
    "bond0": {"device": "bond0", "type": "bonding", "ipv4": {"address": "10.1.0.11"}},
    "br_lan": {"device": "br-lan", "type": "bridge", "ipv6": [{"address": "fd00::11"}]},
    "ens5": {"device": "ens5", "active": False},
    "eth_aliases": {"device": "dummy0", "ipv4": [{"address": "10.9.0.1"}]},
}


@pytest.mark.parametrize(
    ("address", "interface"),
    [
        ("203.0.113.7", "ens3"),
        ("10.0.0.11", "ens4.100"),
        ("10.0.0.100", "ens4.100"),
        ("10.1.0.11", "bond0"),
        ("fd00:0::11", "br-lan"),
        ("10.9.0.1", "dummy0"),
        ("10.0.0.12", ""),
    ],
)
def test_the_interface_that_has_an_address(address, interface):
    assert interface_of(FACTS, address) == interface
    assert interface_of({}, address) == ""


@pytest.mark.parametrize(("hosts", "pattern"), [(["db1"], "all"), ([], "localhost")])
def test_a_play_over_all_hosts_has_somebody_where_there_are_none(hosts, pattern):
    assert all_or_localhost({"all": hosts, "ungrouped": []}) == pattern
