# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A cluster that was grown from one member: it kept its data, survives losses and speaks to nobody without a certificate."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path

from harness.platform import wait

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).resolve().parent
PKI = "/etc/uptier/pki"
# Molecule asks for colours, which would stand between the figures of the recap.
PLAIN = {"ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "ANSIBLE_FORCE_COLOR": "0", "ANSIBLE_NOCOLOR": "1"}
TLS = f"--cacert={PKI}/ca.crt --cert={PKI}/host.crt --key={PKI}/host.key"


def etcdctl(lab, name, words):
    return lab.host(name).run(f"ETCDCTL_API=3 etcdctl --endpoints=https://{lab.addresses[name]}:2379 {TLS} --command-timeout=30s {words}")


def members(lab, name="node1"):
    return {entry["name"] for entry in json.loads(etcdctl(lab, name, "member list -w json").stdout)["members"]}


def converge(lab):
    """Run the scenario's playbook once more; return host -> number of changes. That it changes nothing twice has been shown by then."""
    done = subprocess.run(
        ["ansible-playbook", "-i", str(ROOT / ".cache/labs" / lab.name / "inventory.yml"), str(HERE / "converge.yml")],
        cwd=ROOT, env={**os.environ, **PLAIN}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return {host: int(count) for host, count in re.findall(r"^(\w+)\s+: ok=\d+\s+changed=(\d+)", done.stdout, re.M)}


def test_it_grew_from_one_member_and_kept_its_data(lab):
    assert members(lab) == {"node1", "node2", "node3"}
    for name in lab.addresses:
        assert etcdctl(lab, name, "get kept --print-value-only").stdout.strip() == "from-one-member"


def test_only_tls_1_3_with_a_certificate_on_both_ports(host, lab):
    address = lab.addresses[host.backend.name.rpartition("-")[2]]
    certificate = f"-cert {PKI}/host.crt -key {PKI}/host.key"
    for port in (2379, 2380):
        command = f"echo | timeout 60 openssl s_client -CAfile {PKI}/ca.crt -verify_return_error -connect {address}:{port}"
        assert "TLSv1.3" in host.run(f"{command} -tls1_3 {certificate}").stdout
        assert "Cipher is (NONE)" in host.run(f"{command} -tls1_2 {certificate}").stdout
    bare = host.run(f"ETCDCTL_API=3 etcdctl --endpoints=https://{address}:2379 --cacert={PKI}/ca.crt --command-timeout=3s get kept")
    assert bare.rc != 0


def test_nothing_listens_elsewhere_or_in_clear_text(host):
    listening = host.run("ss -ltnH").stdout.split("\n")
    ports = {line.split()[3] for line in listening if line}
    assert not {entry for entry in ports if re.search(r"(0\.0\.0\.0|\*|127\.0\.0\.1):(2379|2380)$", entry)}


def test_a_member_dies_and_writes_go_on(lab):
    lab.kill("node2")
    try:
        wait("a write with two of three members", lambda: etcdctl(lab, "node1", "put alive yes").rc == 0, 120)
    finally:
        lab.start("node2")
    read = "get alive --print-value-only"
    wait("an answer of the member that came back", lambda: etcdctl(lab, "node2", read).stdout.strip() == "yes", 120)


def test_a_host_that_lost_its_data_is_a_member_again_after_a_run(lab):
    assert lab.host("node3").run("systemctl stop etcd && rm -rf /var/lib/etcd/default").rc == 0
    changes = converge(lab)
    assert changes["node3"] == 1
    assert changes["node1"] == changes["node2"] == 0
    assert members(lab) == {"node1", "node2", "node3"}
    assert etcdctl(lab, "node3", "get kept --print-value-only").stdout.strip() == "from-one-member"
