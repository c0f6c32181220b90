# SPDX-License-Identifier: GPL-3.0-or-later
"""What is still so after a host has been restarted."""

from __future__ import annotations

import subprocess

import pytest
from test_flows import listen, reaches
from test_host import resolves_again


@pytest.fixture(name="restarted", scope="module")
def restarted_host(lab):
    subprocess.run(["docker", "restart", "-t", "5", lab.container("new")], check=True, capture_output=True)
    host = lab.host("new")
    # Until systemd itself is there, asking it to wait fails at once.
    host.run("for n in $(seq 60); do systemctl is-system-running --wait | grep -qE 'running|degraded' && break; sleep 0.5; done")
    return host


def test_names(lab, restarted):
    assert resolves_again(restarted, "old.internal", [lab.addresses["old"]])
    assert restarted.run("grep -c old.internal /etc/hosts").stdout.strip() == "1"


def test_rules(lab, restarted):
    assert restarted.service("platform-firewall").is_running
    listen(restarted, 8085, 8443)
    assert reaches(lab, "old", lab.addresses["new"], 8443)
    assert not reaches(lab, "old", lab.addresses["new"], 8085)
