# SPDX-License-Identifier: GPL-3.0-or-later
"""What a fresh Debian leaves open is closed, and who may come in still can."""

from __future__ import annotations

import pytest
from harness.platform import wait

testinfra_hosts = ["old", "new"]
# Who is banned in the middle of a login would wait for ever.
SSH = "timeout 60 ssh -i /home/visitor/.ssh/id_ed25519 -o BatchMode=yes -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o ConnectTimeout=50"
BAN = "fail2ban-client set sshd"


@pytest.fixture(scope="module", autouse=True)
def admitted(lab):
    """Both servers know the client's key, and count none of its attempts outside of the test that is about that."""
    key = lab.host("watch").file("/home/visitor/.ssh/id_ed25519.pub").content_string
    for server in map(lab.host, testinfra_hosts):
        for user, home in (("visitor", "/home/visitor"), ("root", "/root")):
            keys = f"{home}/.ssh/authorized_keys"
            server.check_output(f"install -d -m 0700 -o {user} {home}/.ssh && echo '{key.strip()}' >> {keys} && chown {user} {keys}")
        wait("fail2ban", lambda server=server: server.run(f"{BAN} addignoreip {lab.addresses['watch']}").rc == 0, 60)


@pytest.fixture(scope="module", params=[("watch", "new"), ("watch", "old")], ids=lambda pair: f"{pair[0]}-to-{pair[1]}")
def pair(request, lab):
    """A client, a server, the addresses of the server and of the client."""
    client, server = (lab.host(name) for name in request.param)
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

    def knocks_and_is_banned():
        client.run(f"timeout 15 {SSH} -o PreferredAuthentications=none nobody-here@{address} true")
        return source in server.run("nft list table inet f2b-table").stdout

    server.check_output(f"{BAN} delignoreip {source}")
    try:
        # fail2ban makes its rule with the first ban, a moment after it has counted it.
        wait("the ban", knocks_and_is_banned, 120)
        assert source in server.run("fail2ban-client status sshd").stdout
        assert client.run(f"{SSH} visitor@{address} true").rc == 255
    finally:
        # What it reads of the attempts from now on does not count, and would have banned once more after the release.
        server.check_output(f"{BAN} addignoreip {source}")

    def comes_in_again():
        server.run(f"{BAN} unbanip {source}")
        return client.run(f"{SSH} visitor@{address} true").rc == 0

    wait("a login after the ban was lifted", comes_in_again, 120)
