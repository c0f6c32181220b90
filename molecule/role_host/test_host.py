# SPDX-License-Identifier: GPL-3.0-or-later
"""Names resolve and survive whatever rewrites /etc/hosts; time, journal and updates are as they should be."""

from __future__ import annotations

import time

testinfra_hosts = ["old", "new"]


def resolve(host, name):
    return host.run(f"getent ahostsv4 {name}").stdout.split(maxsplit=1)[0:1]


def resolves_again(host, name, expected):
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if resolve(host, name) == expected:
            return True
        time.sleep(0.3)
    return False


def test_names_after_a_restart(lab, restarted):
    assert resolves_again(restarted, "old.internal", [lab.addresses["old"]])
    assert restarted.run("grep -c old.internal /etc/hosts").stdout.strip() == "1"


def test_internal_names(lab):
    old, new = lab.host("old"), lab.host("new")
    for host in (old, new):
        assert resolve(host, "old.internal") == [lab.addresses["old"]]
        assert resolve(host, "redis-1.internal") == [lab.addresses["new"]]
    assert resolve(old, "postgres-cluster.internal") == [lab.addresses["old"]]
    assert resolve(new, "postgres-cluster.internal") == ["127.0.0.1"]


def test_a_rewritten_file_gets_its_names_back(host):
    host.run("printf '127.0.0.1 localhost\\n192.0.2.9 mine.example.org\\n' > /etc/hosts")
    assert resolves_again(
        host, "old.internal", resolve(host, "old.internal") or [host.run("grep old.internal /etc/uptier/hosts").stdout.split()[0]]
    )
    assert resolve(host, "mine.example.org") == ["192.0.2.9"]


def test_time_zone(host):
    assert host.run("date +%Z").stdout.strip() in ("CET", "CEST")


def test_the_journal_is_kept(host):
    host.run("logger -t uptier-test kept")
    host.run("journalctl --sync")
    assert "kept" in host.run("journalctl -D /var/log/journal -t uptier-test -o cat").stdout


def test_updates_are_security_only_and_leave_daemons_alone(host):
    settings = host.run("apt-config dump").stdout
    assert 'APT::Periodic::Unattended-Upgrade "1";' in settings
    patterns = [line for line in settings.splitlines() if line.startswith("Unattended-Upgrade::Origins-Pattern::")]
    assert len(patterns) == 1
    assert "Debian-Security" in patterns[0]
    assert 'Unattended-Upgrade::Package-Blacklist:: "postgresql";' in settings
    assert host.run("unattended-upgrade --dry-run").rc == 0


def test_the_machine_keeps_its_kernel_settings(host):
    assert "vm.swappiness = 10" in host.file("/etc/sysctl.d/80-platform.conf").content_string
    assert not host.package("chrony").is_installed


def test_nothing_failed(host):
    assert host.run("systemctl --failed --no-legend --plain").stdout == ""
