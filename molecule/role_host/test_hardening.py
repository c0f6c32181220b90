# SPDX-License-Identifier: GPL-3.0-or-later
"""What a fresh Debian leaves open is closed, and who may come in still can."""

from __future__ import annotations

import time

import pytest

testinfra_hosts = ["old", "new"]
# Who is banned in the middle of a login would wait for ever.
SSH = "timeout 10 ssh -i /home/visitor/.ssh/id_ed25519 -o BatchMode=yes -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o ConnectTimeout=4"


@pytest.fixture(scope="module", params=[("watch", "new"), ("watch", "old")], ids=lambda pair: f"{pair[0]}-to-{pair[1]}")
def pair(request, lab):
    """A client, a server that knows the client's key, and the server's address."""
    client, server = (lab.host(name) for name in request.param)
    key = client.file("/home/visitor/.ssh/id_ed25519.pub").content_string
    for user, home in (("visitor", "/home/visitor"), ("root", "/root")):
        keys = f"{home}/.ssh/authorized_keys"
        server.run(f"install -d -m 0700 -o {user} {home}/.ssh && echo '{key.strip()}' >> {keys} && chown {user} {keys}")
    return client, server, lab.addresses[request.param[1]], lab.addresses[request.param[0]]


def test_services_run(host):
    for name in ("ssh", "fail2ban"):
        assert host.service(name).is_running
        assert host.service(name).is_enabled
    assert host.run("systemctl --failed --no-legend --plain").stdout == ""


def test_effective_ssh_settings(host):
    settings = host.run("/usr/sbin/sshd -T").stdout.lower().splitlines()
    for line in ("permitrootlogin no", "passwordauthentication no", "x11forwarding no", "maxauthtries 4"):
        assert line in settings


def test_rules_for_audit_and_kernel_are_written_and_not_applied(host):
    assert "identity" in host.file("/etc/audit/rules.d/90-platform.rules").content_string
    assert "have changed" in host.run("augenrules --check").stdout
    assert not host.service("auditd").is_running
    assert "kernel.kptr_restrict = 2" in host.file("/etc/sysctl.d/85-platform-hardening.conf").content_string


def test_sudo_still_works(host):
    assert host.run("visudo -c").rc == 0
    assert host.run("sudo -n id -u").stdout.strip() == "0"


def test_a_user_with_a_key_comes_in(pair):
    client, dummy, address, dummy2 = pair
    answer = client.run(f"{SSH} visitor@{address} id -un")
    assert answer.stdout.strip() == "visitor", answer.stderr


def test_only_a_gateway_passes_on_and_only_to_ssh(lab):
    def passed(name, port):
        return lab.host("watch").run(f"{SSH} -W 127.0.0.1:{port} visitor@{lab.addresses[name]} </dev/null")

    assert passed("old", 22).stdout.startswith("SSH-2.0-")
    assert "administratively prohibited" in passed("old", 25).stderr
    assert "administratively prohibited" in passed("new", 22).stderr


def test_root_does_not(pair):
    client, dummy, address, dummy2 = pair
    answer = client.run(f"{SSH} root@{address} id -un")
    assert answer.rc == 255
    assert "Permission denied" in answer.stderr


def test_who_knocks_too_often_is_banned(pair):
    client, server, address, source = pair
    for attempt in range(4):
        client.run(f"{SSH} -o PreferredAuthentications=none nobody-{attempt}@{address} true")
    # fail2ban makes its rule with the first ban, a moment after it has counted it.
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and source not in server.run("nft list table inet f2b-table").stdout:
        time.sleep(0.5)
    assert source in server.run("fail2ban-client status sshd").stdout
    assert source in server.run("nft list table inet f2b-table").stdout
    assert client.run(f"{SSH} visitor@{address} true").rc == 255
    # What it reads of the attempts after the release would ban once more, in the middle of the login.
    looks = [failures(server)]
    while time.monotonic() < deadline + 30 and looks[-3:] != [looks[-1]] * 3:
        time.sleep(1.5)
        looks.append(failures(server))
    server.run(f"fail2ban-client set sshd unbanip {source}")
    assert client.run(f"{SSH} visitor@{address} true").rc == 0


def failures(server):
    """How many failed attempts fail2ban has seen."""
    return server.run("fail2ban-client status sshd | sed -n 's/.*Total failed:[^0-9]*//p'").stdout.strip()
