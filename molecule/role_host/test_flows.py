# SPDX-License-Identifier: GPL-3.0-or-later
"""Open is what the table of flows says, from whom it says, and nothing else."""

from __future__ import annotations

import subprocess

import pytest
from harness.platform import wait

LISTEN = "setsid python3 -m http.server --bind 0.0.0.0 {port} >/dev/null 2>&1 &"
PROBE = "import socket; socket.create_connection(({address!r}, {port}), {seconds})"


@pytest.fixture(name="listening", scope="module")
def listeners(lab):
    app = lab.host("new")
    listen(app, 8443, 9100, 8085)
    yield lab.addresses["new"]
    app.run("pkill -f http.server")


def listen(host, *ports):
    """Have something answer on these ports before this returns."""
    for port in ports:
        host.run(LISTEN.format(port=port))
    for port in ports:
        wait(f"something that listens on {port}", lambda port=port: host.run(f"ss -Hltn 'sport = :{port}'").stdout, 120)


def reaches(lab, source, address, port, seconds=30):
    """Tell whether a connection is accepted within some seconds; what is closed says nothing, so ask shortly where that is expected."""
    return lab.host(source).run(f'python3 -c "{PROBE.format(address=address, port=port, seconds=seconds)}"').rc == 0


@pytest.mark.parametrize(
    ("source", "port", "open_"),
    [
        ("old", 8443, True),
        ("watch", 8443, False),
        ("watch", 9100, True),
        ("old", 9100, False),
        ("old", 8085, False),
        ("watch", 8085, False),
        ("old", 22, False),
    ],
)
def test_flow(lab, listening, source, port, open_):
    assert reaches(lab, source, listening, port, 30 if open_ else 2) is open_


def test_loopback_is_free(lab, listening):
    assert reaches(lab, "new", "127.0.0.1", 8085)


def test_the_controller_comes_in(lab, listening):
    with subprocess.Popen(["ssh-keyscan", "-T", "60", listening], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as scan:
        assert b"ssh-ed25519" in scan.communicate(timeout=120)[0]


def test_hosts_answer_each_other_and_reach_out(lab, listening):
    # Asked on the host without the role base, whose own file does not have the name.
    assert lab.host("watch").run("getent hosts new").rc == 0, "the container engine's own rules are gone"
    assert lab.host("new").run("apt-get update -qq").rc == 0


def test_only_our_table_drops(host):
    rules = host.run("nft list ruleset").stdout
    assert rules.count("policy drop") == 2
    assert "table inet platform" in rules


def test_nothing_is_pending(host):
    assert host.run("systemctl list-timers --all --no-legend").stdout.count("platform-firewall-rollback") == 0
    assert host.service("platform-firewall").is_enabled


@pytest.mark.parametrize("command", ["start", "reload"])
def test_rules_after_debians_unit_has_flushed_them(lab, command):
    """Its own file flushes all tables, and with them the names that the container engine gives; here it takes away ours alone."""
    app = lab.host("new")
    app.run("printf 'table inet platform {}\\ndelete table inet platform\\n' > /etc/nftables.conf")
    assert app.run(f"systemctl {command} nftables").rc == 0
    assert app.run("nft list table inet platform").stdout.count("policy drop") == 2


def test_rules_after_a_restart(lab, restarted):
    assert restarted.service("platform-firewall").is_running
    listen(restarted, 8085, 8443)
    assert reaches(lab, "old", lab.addresses["new"], 8443)
    assert not reaches(lab, "old", lab.addresses["new"], 8085, 2)
