# SPDX-License-Identifier: GPL-3.0-or-later
"""From flows to the rules of one host."""

from __future__ import annotations

import ipaddress
import re

import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.uptier.platform.plugins.filter.firewall import firewall_rules
from ansible_collections.uptier.platform.plugins.plugin_utils import firewall as f
from hypothesis import given
from hypothesis import strategies as st

GROUPS = {"all": ["gw1", "app1", "db1"], "gateway": ["gw1"], "app": ["app1"], "postgresql": ["db1"]}
HOSTVARS = {"gw1": {"ansible_host": "10.0.0.1"}, "app1": {"ansible_host": "10.0.0.11"}, "db1": {"ansible_host": "10.0.0.21"}}


def flow(**changes):
    return {"name": "app", "from": "gateway", "to": "app", "protocol": "tcp", "ports": [8443], "why": "test", **changes}


def rules(host, *flows):
    return f.rules_of(flows, host, GROUPS, HOSTVARS)


def test_a_flow_opens_its_ports_for_its_sources_on_its_targets():
    assert rules("app1", flow()) == [{"name": "app", "protocol": "tcp", "ports": [8443], "sources": ["10.0.0.1"]}]
    assert rules("db1", flow()) == []


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("all", ["10.0.0.1", "10.0.0.21"]),
        ("any", ["any"]),
        ("admin", ["admin"]),
        ("192.0.2.7/24", ["192.0.2.0/24"]),
        ("192.0.2.7", ["192.0.2.7/32"]),
    ],
)
def test_sources(source, expected):
    assert rules("app1", flow(**{"from": source}))[0]["sources"] == expected


def test_the_variables_of_a_host_are_asked_for_once():
    asked = []

    class Asked(dict):
        def __getitem__(self, host):
            asked.append(host)
            return super().__getitem__(host)

    f.rules_of([flow(**{"from": "all", "name": str(number)}) for number in range(3)], "app1", GROUPS, Asked(HOSTVARS))
    assert sorted(asked) == ["db1", "gw1"]


def test_a_host_needs_no_rule_for_itself():
    assert rules("app1", flow(**{"from": "app"})) == []


def test_a_group_without_hosts_opens_nothing():
    assert rules("app1", flow(**{"from": "monitoring"})) == []


def test_a_removed_flow_vanishes():
    with_flow = f.render(rules("app1", flow(), flow(name="other", ports=[9999])), [])
    assert "9999" in with_flow
    assert "9999" not in f.render(rules("app1", flow()), [])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"ports": []}, "Flow app: no ports. Name at least one; a flow without any would open all of them."),
        ({"protocol": "gre"}, "Flow app: protocol is 'gre'. Use one of tcp, udp, icmp, vrrp."),
    ],
)
def test_a_flow_that_cannot_be_a_rule(changes, message):
    with pytest.raises(f.FirewallError, match=f"^{re.escape(message)}$"):
        rules("app1", flow(**changes))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"from": "aap"},
            "Flow app goes from 'aap', which is not a group of the inventory. Use one of any, all, admin, app, gateway, postgresql,",
        ),
        ({"to": "db1"}, "Flow app goes to 'db1', which is not a group of the inventory. Use one of all, app, gateway, postgresql."),
        ({"ports": [70000]}, "Flow app has the port 70000. Use numbers from 1 to 65535."),
    ],
)
def test_a_flow_of_the_user_that_matches_nobody_is_refused(changes, message):
    with pytest.raises(AnsibleFilterError, match=f"^{re.escape(message)}"):
        firewall_rules([flow(**changes)], "db1", GROUPS, HOSTVARS)


def test_all_wrong_flows_are_named_at_once():
    with pytest.raises(f.FirewallError, match=r"^Flow app goes from 'x'.* Flow other goes to 'y'"):
        f.refuse([flow(**{"from": "x"}), flow(name="other", to="y")], GROUPS)


def test_ports_may_be_written_as_text():
    extra = [flow(name="extra", ports=["9999", 9998])]
    assert firewall_rules(extra, "app1", GROUPS, HOSTVARS)[-1]["ports"] == [9998, 9999]


def test_admin_addresses_and_families():
    text = f.render(rules("app1", flow(name="ssh", **{"from": "admin"}, ports=[22])), ["192.0.2.0/25", "192.0.2.128/25", "2001:db8::/32"])
    assert 'ip saddr { 192.0.2.0/24 } tcp dport { 22 } accept comment "ssh"' in text
    assert 'ip6 saddr { 2001:db8::/32 } tcp dport { 22 } accept comment "ssh"' in text


def test_without_administrators_ssh_is_closed():
    assert "ssh" not in f.render(rules("app1", flow(name="ssh", **{"from": "admin"}, ports=[22])), [])


def test_a_wrong_admin_address_is_named():
    message = "Flow ssh: 'office' is neither an IP address nor a network. Write 192.0.2.7 or 192.0.2.0/24."
    with pytest.raises(f.FirewallError, match=f"^{re.escape(message)}$"):
        f.render(rules("app1", flow(name="ssh", **{"from": "admin"})), ["office"])


def test_icmp_and_vrrp():
    text = f.render(rules("app1", flow(name="icmp", protocol="icmp", ports=[]), flow(name="vrrp", protocol="vrrp", ports=[])), [])
    assert 'ip saddr { 10.0.0.1 } meta l4proto 1 accept comment "icmp"' in text
    assert 'ip saddr { 10.0.0.1 } meta l4proto 112 accept comment "vrrp"' in text


def test_only_our_table_and_default_drop():
    text = f.render([], [])
    assert text.startswith("table inet platform {}\ndelete table inet platform\ntable inet platform {\n")
    assert "flush" not in text
    assert text.count("policy drop;") == 2
    assert len(re.findall(r"^table", text, re.M)) == 2


def test_containers_may_reach_out_only_where_named():
    assert "from containers" not in f.render([], [])
    assert 'iifname "podman*" accept comment "from containers"' in f.render([], [], ["podman*"])


def test_logging_can_be_off():
    assert "log prefix" in f.render([], [])
    assert "log prefix" not in f.render([], [], log=False)


networks = st.builds(
    lambda address, prefix: str(ipaddress.ip_network((address, prefix), strict=False)),
    st.integers(min_value=0, max_value=2**32 - 1),
    st.integers(min_value=8, max_value=32),
)


@given(st.lists(networks, min_size=1, max_size=20))
def test_joined_networks_cover_exactly_the_given_ones(given_networks):
    """nftables refuses a set whose members overlap; joining must neither open nor close an address."""
    (match,) = f.matches(given_networks, "test")
    joined = [ipaddress.ip_network(item) for item in re.search(r"\{ (.*) \}", match).group(1).split(", ")]
    assert all(not a.overlaps(b) for number, a in enumerate(joined) for b in joined[number + 1 :])
    originals = [ipaddress.ip_network(item) for item in given_networks]
    assert all(any(item.subnet_of(wide) for wide in joined) for item in originals)
    size = sum(item.num_addresses for item in ipaddress.collapse_addresses(originals))
    assert sum(item.num_addresses for item in joined) == size
