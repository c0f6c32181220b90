# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

import pytest
from ansible_collections.uptier.platform.plugins.plugin_utils.topology import TopologyError, address_of, members


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
