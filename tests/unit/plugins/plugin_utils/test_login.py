# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether Ansible gets in once SSH is hardened, by how it got in now."""

from __future__ import annotations

import pytest
from ansible_collections.uptier.platform.plugins.plugin_utils import login
from ansible_collections.uptier.platform.plugins.plugin_utils.topology import is_jump

GROUPS = {"all": ["gw1", "db1", "mon1"], "gateway": ["gw1"], "postgresql": ["db1"], "monitoring": ["mon1"]}
ADDRESSES = {
    "gw1": {"ansible_host": "203.0.113.1", "platform_address": "10.0.0.1"},
    "db1": {"ansible_host": "10.0.0.2"},
    "mon1": {"ansible_host": "10.0.0.3"},
}


def said(user="deploy", source="10.0.0.1", own="198.51.100.9", **variables):
    """Return what is wrong where the database host was reached so; variables by host."""
    hostvars = {host: {**given, **variables.get(host, {})} for host, given in ADDRESSES.items()}
    probes = {
        "db1": {"login": {"user": user, "from": source}},
        **{host: {"login": {"user": "deploy", "from": own}} for host in ("gw1", "mon1")},
    }
    return [str(problem) for problem in login.problems(probes, GROUPS, hostvars)]


def test_a_user_through_a_gateway():
    assert said() == []


def test_root_whom_only_the_ssh_configuration_names():
    assert said("root") == [
        "host db1 is reached as root, who could not log in any more once SSH is hardened. Log in as a user with sudo (ansible_user, or User in "
        "~/.ssh/config) and set ansible_become: true; or set hardening_ssh_root_login: true."
    ]
    assert said("root", db1={"hardening_ssh_root_login": "yes"}) == []
    assert said("root", source="") == [], "a container, entered without SSH"
    assert said("root", db1={"hardening_ssh": False}) == []


def test_a_user_who_is_not_permitted():
    assert said(db1={"hardening_ssh_users": ["ops"]}) == [
        "host db1 is reached as deploy, who is not in hardening_ssh_users (ops) and could not log in any more. Name deploy there too, or log in "
        "as one of them."
    ]
    assert said(db1={"hardening_ssh_users": ["ops", "deploy"]}) == []


def test_a_bastion_that_no_variable_names():
    refused = [
        "host db1 is reached through mon1, whose SSH server would pass on no connection once it is hardened. Set hardening_ssh_jump: true for mon1."
    ]
    assert said(source="10.0.0.3") == refused
    assert said(source="10.0.0.3", mon1={"hardening_ssh_jump": True}) == []
    assert said(source="10.0.0.3", db1={"ansible_ssh_common_args": "-o ProxyJump=mon1"}) == []
    assert said(gw1={"hardening_ssh_jump": False}) != []
    assert said(source="10.0.0.3", own="10.0.0.3") == [], "Ansible runs on that host"
    assert said(source="10.0.0.3", own="") == [], "likewise, without SSH to itself"


@pytest.mark.parametrize(
    "given",
    [
        "-o ProxyJump=deploy@mon1",
        "-oProxyJump=deploy@10.0.0.3:2222",
        "-J 203.0.113.1,deploy@[10.0.0.3]:22 -o Compression=yes",
        "-Jmon1",
        "-o 'ProxyJump mon1'",
        '-o ProxyCommand="ssh -q -W %h:%p deploy@mon1"',
        "-o ServerAliveInterval=15 -o ProxyCommand='ssh -W %h:%p -p 2222 10.0.0.3'",
    ],
)
def test_jumps_in_the_arguments(given):
    hostvars = {**ADDRESSES, "db1": {"ansible_host": "10.0.0.2", "ansible_ssh_common_args": given}}
    assert is_jump("mon1", hostvars)
    assert not is_jump("db1", hostvars)


@pytest.mark.parametrize("given", ["", None, "-o ServerAliveInterval=15", "-o ProxyJump=mon10", "-i mon1 -o ControlMaster=auto"])
def test_no_jumps(given):
    assert not is_jump("mon1", {**ADDRESSES, "db1": {"ansible_ssh_extra_args": given}})
