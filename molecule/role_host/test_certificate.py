# SPDX-License-Identifier: GPL-3.0-or-later
"""A host's certificate works in both directions, and only for those who may have it."""

from __future__ import annotations

import time

import pytest

testinfra_hosts = ["old", "new"]
PKI = "/etc/uptier/pki"
# The firewall lets application hosts come in here, and nothing else listens.
PORT = 5432
SERVER = f"openssl s_server -accept {PORT} -cert {PKI}/host.crt -key {PKI}/host.key -CAfile {PKI}/ca.crt -Verify 1 -tls1_3 -www -quiet"
TRUST = f"-CAfile {PKI}/ca.crt -verify_return_error"


def test_files_are_private_where_they_hold_a_key(host):
    for name, mode, group in (
        ("ca.crt", 0o644, "root"),
        ("host.crt", 0o644, "root"),
        ("host.key", 0o640, "platform-pki"),
        ("host.pem", 0o640, "platform-pki"),
    ):
        file = host.file(f"{PKI}/{name}")
        assert (file.mode, file.user, file.group) == (mode, "root", group)


def test_no_key_of_the_authority_is_on_a_host(host):
    assert host.run("grep -rl 'CA:TRUE' /etc/uptier/pki").stdout == ""
    assert sorted(host.file(PKI).listdir()) == ["ca.crt", "host.crt", "host.key", "host.pem"]


@pytest.fixture(name="server", scope="module")
def running_server(lab):
    database = lab.host("old")
    database.run(f"setsid {SERVER} >/dev/null 2>&1 &")
    yield lab.addresses["old"]
    database.run("pkill -f 'openssl s_server'")


def talk(lab, server, options):
    command = f"timeout 60 openssl s_client -connect {server}:{PORT} -tls1_3 {options} </dev/null 2>&1"
    for dummy in range(60):
        answer = lab.host("new").run(command)
        if "onnection refused" not in answer.stdout:
            break
        time.sleep(1)
    return answer


@pytest.mark.parametrize(
    "name", ["old.internal", "old", "postgresql.internal", "postgres-cluster.internal", "localhost", "reports.internal"]
)
def test_both_sides_verify_each_other(lab, server, name):
    answer = talk(lab, server, f"{TRUST} -verify_hostname {name} -cert {PKI}/host.crt -key {PKI}/host.key")
    assert answer.rc == 0, answer.stdout
    assert "Verify return code: 0 (ok)" in answer.stdout


def test_the_address_is_verified_too(lab, server):
    assert talk(lab, server, f"{TRUST} -verify_ip {server} -cert {PKI}/host.crt -key {PKI}/host.key").rc == 0


def test_another_name_is_refused(lab, server):
    answer = talk(lab, server, f"{TRUST} -verify_hostname redis.internal -cert {PKI}/host.crt -key {PKI}/host.key")
    assert answer.rc != 0
    assert "hostname mismatch" in answer.stdout.lower()


def test_the_authority_is_one_for_all(lab):
    texts = {lab.host(name).file(f"{PKI}/ca.crt").content_string for name in ("old", "new")}
    assert len(texts) == 1
    assert texts.pop().count("BEGIN CERTIFICATE") == 1
