# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Certificates from an ACME server, on two gateways of which the world sees one."""

from __future__ import annotations

import json

import pytest
from harness.platform import wait

testinfra_hosts = ["gateway"]

RENEW = "python3 -B /usr/local/lib/uptier/acme/renew_certificates.py"


def served(host, field="-serial", name="demo.test"):
    command = f"openssl s_client -connect 127.0.0.1:443 -servername {name} </dev/null 2>/dev/null | openssl x509 -noout {field}"
    return host.check_output(command)


def renew(host, **settings):
    """Run the renewal with other settings than those in place."""
    given = json.loads(host.check_output("cat /etc/uptier/acme.json"))
    text = json.dumps({**given, **settings})
    host.check_output(f"cat > /root/acme.json <<'END'\n{text}\nEND")
    return host.run(f"{RENEW} /root/acme.json")


def main_pid(host):
    return host.check_output("systemctl show -p MainPID --value nginx")


def test_certificate_comes_from_the_server_and_covers_all_names(host):
    assert "Pebble" in served(host, "-issuer")
    names = served(host, "-ext subjectAltName")
    assert "DNS:demo.test" in names
    assert "DNS:www.demo.test" in names


def test_browsers_would_trust_the_chain(host):
    host.check_output("curl -s --cacert /etc/uptier/pki/ca.crt https://ca.internal:15000/roots/0 > /root/root.pem")
    seen = host.run(
        "curl -s -o /dev/null -w '%{ssl_verify_result}' --cacert /root/root.pem --resolve demo.test:443:127.0.0.1 https://demo.test/"
    )
    assert (seen.rc, seen.stdout) == (0, "0")


def test_every_gateway_has_a_key_of_its_own(lab):
    keys = {lab.host(name).check_output("sha256sum < /etc/uptier/tls/sample/privkey.pem") for name in lab.groups["gateway"]}
    assert len(keys) == 2


def test_keys_are_for_root_only(host):
    listing = host.check_output("find /etc/uptier/tls/ -name privkey.pem -perm /077")
    assert listing == ""


def test_a_fresh_certificate_is_left_alone(host):
    before = served(host)
    result = host.run("systemctl start uptier-acme.service")
    assert result.rc == 0
    assert served(host) == before


def test_renewal_is_served_without_a_restart_and_keeps_the_pair_before(host):
    before, pid = served(host), main_pid(host)
    result = renew(host, renew_fraction=1.0)
    assert result.rc == 0, result.stderr
    # nginx hands over to its new workers a moment after the reload returns.
    wait("the new certificate", lambda: served(host) != before, 60)
    assert main_pid(host) == pid
    assert host.check_output("ls -d /etc/uptier/tls/.pairs/sample.* | wc -l") == "2"


def test_refused_pair_is_put_back(host):
    before, link = served(host), host.check_output("readlink /etc/uptier/tls/sample")
    result = renew(host, renew_fraction=1.0, check=["false"])
    assert result.rc == 1
    assert "the previous one was restored" in result.stderr
    assert host.check_output("readlink /etc/uptier/tls/sample") == link
    assert served(host) == before


def test_unreachable_server_changes_nothing(host):
    before = served(host)
    result = renew(host, renew_fraction=1.0, server="https://ca.internal:14999/dir")
    assert result.rc == 1
    assert served(host) == before


def test_only_our_timer_renews(host):
    assert host.check_output("systemctl is-active uptier-acme.timer") == "active"
    assert host.run("systemctl is-enabled certbot.timer").stdout.strip() == "masked"


@pytest.mark.parametrize("path", ["/.well-known/uptier-acme/x", "/.well-known/acme-challenge/x"])
def test_challenges_that_are_not_there_end_in_an_error(host, path):
    code = host.check_output(f"curl -s -o /dev/null -w '%{{http_code}}' -H 'Host: demo.test' http://127.0.0.1{path}")
    assert code in ("403", "404")
