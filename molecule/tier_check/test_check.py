# SPDX-License-Identifier: GPL-3.0-or-later
"""Check mode, the first thing that a careful user tries, ran to its end on bare hosts and left them bare."""

from __future__ import annotations

from testinfra.host import Host

# What the roles would have installed somewhere; systemd, Python and what Debian's installer brings are there before.
PRODUCTS = ["nginx", "haproxy", "keepalived", "pgbouncer", "postgresql-common", "pgbackrest", "redis-server", "etcd-server", "prometheus",
            "prometheus-node-exporter", "nftables", "fail2ban", "chrony", "nodejs"]  # fmt: skip


def test_nothing_was_installed(host: Host) -> None:
    found = host.check_output("dpkg-query -W -f='${Package} '").split()
    assert "systemd" in found
    assert sorted(set(found) & set(PRODUCTS)) == []


def test_nothing_was_written(host: Host) -> None:
    assert host.check_output("find /etc/uptier /var/lib/uptier /opt/uptier /usr/local/lib/uptier 2>/dev/null || true") == ""
    assert host.check_output("grep -rl 'Ansible' /etc --include='*.conf' --include='*.service' || true") == ""
    assert ".internal" not in host.check_output("cat /etc/hosts")


def test_nothing_runs(host: Host) -> None:
    listening = host.check_output("cat /proc/net/tcp").splitlines()[1:]
    # 0A is LISTEN; 0B00007F is the engine's own resolver.
    assert [line for line in listening if line.split()[3] == "0A" and "0B00007F" not in line] == []
