# SPDX-License-Identifier: GPL-3.0-or-later
"""Open is what the table of flows says, from whom it says, and nothing else."""

from __future__ import annotations

import subprocess

import pytest

LISTEN = "setsid python3 -m http.server --bind 0.0.0.0 {port} >/dev/null 2>&1 &"
PROBE = "import socket; socket.create_connection(({address!r}, {port}), 2)"


@pytest.fixture(name="listening", scope="module")
def listeners(lab):
    app = lab.host("app1")
    for port in (8443, 9100, 8085):
        app.run(LISTEN.format(port=port))
    app.run("for n in 1 2 3 4 5 6 7 8 9 10; do ss -ltn | grep -q :8085 && break; sleep 0.3; done")
    yield lab.addresses["app1"]
    app.run("pkill -f http.server")


def reaches(lab, source, address, port):
    return lab.host(source).run(f'python3 -c "{PROBE.format(address=address, port=port)}"').rc == 0


@pytest.mark.parametrize(
    ("source", "port", "open_"),
    [
        ("gw1", 8443, True),
        ("mon1", 8443, False),
        ("mon1", 9100, True),
        ("gw1", 9100, False),
        ("gw1", 8085, False),
        ("mon1", 8085, False),
        ("gw1", 22, False),
    ],
)
def test_flow(lab, listening, source, port, open_):
    assert reaches(lab, source, listening, port) is open_


def test_loopback_is_free(lab, listening):
    assert reaches(lab, "app1", "127.0.0.1", 8085)


def test_the_controller_comes_in(lab, listening):
    with subprocess.Popen(["ssh-keyscan", "-T", "3", listening], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as scan:
        assert b"ssh-ed25519" in scan.communicate(timeout=20)[0]


def test_hosts_answer_each_other_and_reach_out(lab, listening):
    assert lab.host("gw1").run("getent hosts app1").rc == 0, "the container engine's own rules are gone"
    assert lab.host("app1").run("apt-get update -qq").rc == 0


def test_only_our_table_drops(host):
    rules = host.run("nft list ruleset").stdout
    assert rules.count("policy drop") == 2
    assert "table inet platform" in rules


def test_nothing_is_pending(host):
    assert host.run("systemctl list-timers --all --no-legend").stdout.count("platform-firewall-rollback") == 0
    assert host.service("platform-firewall").is_enabled


def test_rules_after_a_restart(lab):
    subprocess.run(["docker", "restart", "-t", "5", lab.container("app1")], check=True, capture_output=True)
    host = lab.host("app1")
    # Until systemd itself is there, asking it to wait fails at once.
    host.run("for n in $(seq 60); do systemctl is-system-running --wait | grep -qE 'running|degraded' && break; sleep 0.5; done")
    assert host.service("platform-firewall").is_running
    host.run(LISTEN.format(port=8085))
    host.run(LISTEN.format(port=8443))
    host.run("for n in 1 2 3 4 5 6 7 8 9 10; do ss -ltn | grep -q :8443 && break; sleep 0.3; done")
    assert reaches(lab, "gw1", lab.addresses["app1"], 8443)
    assert not reaches(lab, "gw1", lab.addresses["app1"], 8085)
