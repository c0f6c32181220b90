# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Targets over mutual TLS, rules that fire, alerts that arrive once, and what happens when half of it dies."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import time
from pathlib import Path

import pytest
from harness import alerts

CLIENT = "curl -sS --max-time 60 --cacert /etc/uptier/pki/ca.crt"
OWN = f"{CLIENT} --cert /etc/uptier/pki/host.crt --key /etc/uptier/pki/host.key"
PORTS = (9090, 9093, 9100)
HERE = Path(__file__).resolve().parent


def name(host):
    return host.check_output("hostname")


def ask(host, path, options=""):
    return json.loads(host.check_output(f"{OWN} {options} https://{name(host)}.internal:9090/api/v1/{path}"))["data"]


def until(check, seconds=180):
    """Return what `check` returns once it is true; fail with its last value."""
    end = time.monotonic() + seconds
    while not (value := check()):
        assert time.monotonic() < end, f"still {value!r} after {seconds} s"
        time.sleep(1)
    return value


def received(lab, path, alert, status="firing"):
    """Return the notifications of one alert by one channel, from the receivers of both hosts."""
    found = []
    for host in map(lab.host, lab.addresses):
        lines = host.run("cat /run/received.jsonl").stdout.splitlines()
        entries = [json.loads(line) for line in lines]
        found += [
            entry
            for entry in entries
            if entry["path"] == path and any(item["labels"]["alertname"] == alert for item in entry["alerts"] if item["status"] == status)
        ]
    return found


def test_a_vendor_who_does_not_answer_costs_nothing_else(lab):
    """Every role of the layer converges, nothing is left behind that would disturb apt, and the run fails once, with the ways on."""
    given = {
        **dict.fromkeys(("alloy_enabled", "loki_enabled", "grafana_enabled"), True),
        **dict.fromkeys(("grafana_admin_password", "grafana_secret_key"), "molecule-grafana-0123456789"),
        "platform_grafana_repository": {"url": "http://127.0.0.1:9"},
    }
    inventories = [os.environ["MOLECULE_INVENTORY_FILE"], str(HERE.parents[1] / ".cache" / "labs" / lab.name / "inventory.yml")]
    # One host: the other one has the threshold of side_effect.yml, which this run would take back.
    done = subprocess.run(
        [
            "ansible-playbook",
            *(f"-i{path}" for path in inventories),
            "--limit=mon12",
            str(HERE / "vendor_down.yml"),
            "-e",
            json.dumps(given),
        ],
        cwd=HERE.parents[1],
        env={**os.environ, "ANSIBLE_NOCOLOR": "1", "ANSIBLE_FORCE_COLOR": "0"},
        capture_output=True,
        text=True,
        check=False,
        timeout=900,
    )
    said = " ".join(done.stdout.split())
    assert done.returncode != 0
    assert done.stdout.count("FAILED!") == 1, done.stdout[-3000:]
    assert (
        "alloy 1.* on mon12; loki 3.7.* on mon12; grafana 13.* on mon12 could not be installed from http://127.0.0.1:9 "
        "(gpg-full.key: Connection refused)."
    ) in said
    (recap,) = re.findall(r"^mon12 +: ok=\d+ +changed=(\d+) +unreachable=(\d+) +failed=(\d+)", done.stdout, re.M)
    assert recap == ("0", "0", "1")
    assert lab.host("mon12").run("ls /etc/apt/sources.list.d /etc/apt/preferences.d /etc/apt/keyrings | grep uptier").rc == 1


def test_every_target_answers(host):
    def all_up():
        targets = ask(host, "targets?state=active")["activeTargets"]
        return targets if len(targets) == 6 and all(target["health"] == "up" for target in targets) else None

    targets = until(all_up)
    assert {target["scrapePool"] for target in targets} == {"node", "prometheus", "alertmanager"}
    assert all(target["scrapeUrl"].startswith("https://") for target in targets)
    node = next(target for target in targets if target["scrapePool"] == "node")
    assert node["labels"]["groups"] == ",monitoring,"


@pytest.mark.parametrize("port", PORTS)
def test_strangers_are_refused(host, port):
    url = f"https://{name(host)}.internal:{port}/metrics"
    host.check_output(
        "test -e /tmp/stranger.crt || openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 1"
        " -subj /CN=mon12.internal -keyout /tmp/stranger.key -out /tmp/stranger.crt 2>/dev/null"
    )
    assert host.run(f"{OWN} -o /dev/null {url}").rc == 0
    assert host.run(f"{CLIENT} -o /dev/null {url}").rc != 0, "answers without a client certificate"
    assert host.run(f"{CLIENT} --cert /tmp/stranger.crt --key /tmp/stranger.key -o /dev/null {url}").rc != 0, (
        "believes a foreign certificate"
    )
    assert host.run(f"{OWN} --tls-max 1.2 -o /dev/null {url}").rc != 0, "speaks TLS 1.2"
    assert "up" not in host.run(f"curl -s --max-time 60 http://{name(host)}.internal:{port}/metrics").stdout.split(), "speaks clear text"


def test_only_rules_of_what_is_there_are_loaded(host):
    groups = ask(host, "rules")["groups"]
    assert {"meta", "hosts", "security"} <= {group["name"] for group in groups}
    assert not {"postgresql", "redis", "etcd", "gateway"} & {group["name"] for group in groups}
    rules = [rule for group in groups for rule in group["rules"] if rule["type"] == "alerting"]
    assert all(rule["health"] in ("ok", "unknown") for rule in rules), [rule["name"] for rule in rules if rule["health"] == "err"]
    assert all(rule["annotations"]["runbook_url"].endswith(f"#{rule['name'].lower()}") for rule in rules)


def test_changed_threshold_is_in_force(lab):
    host = lab.host("mon13")
    rules = {rule["name"]: rule for group in ask(host, "rules")["groups"] for rule in group["rules"]}
    assert rules["MemoryHigh"]["query"].endswith("> 0.42")


def test_host_metrics_come_from_the_timer(host):
    def paths():
        series = ask(host, "query", "-G --data-urlencode 'query=platform_certificate_not_after_timestamp_seconds'")["result"]
        return {(item["metric"]["instance"], item["metric"]["path"]) for item in series}

    until(lambda: {("mon12", "/etc/uptier/pki/host.crt"), ("mon13", "/etc/uptier/pki/ca.crt")} <= paths())


def test_sign_of_life_arrives(lab):
    until(lambda: received(lab, "/deadman", "Watchdog"))
    assert not received(lab, "/chat", "Watchdog")
    assert not received(lab, "/pager", "Watchdog")


def test_alert_arrives_once_and_by_its_channel(lab):
    first, second = lab.host("mon12"), lab.host("mon13")
    for host in (first, second):  # as two Prometheus do
        host.check_output("amtool alert add TestPage severity=critical instance=x component=test --annotation=summary=test")
        host.check_output("amtool alert add TestTold severity=warning instance=x component=test --annotation=summary=test")
    until(lambda: received(lab, "/pager", "TestPage") and received(lab, "/chat", "TestTold"))
    time.sleep(5)
    assert len(received(lab, "/pager", "TestPage")) == 1, "the pair notified twice"
    assert not received(lab, "/chat", "TestPage")
    assert not received(lab, "/pager", "TestTold")


def test_causes_hide_their_consequences(lab):
    host = lab.host("mon12")
    host.check_output("amtool alert add ServerDown severity=critical family=host instance=gone component=test")
    host.check_output("amtool alert add MemoryHigh severity=warning family=memory instance=gone component=test")
    until(lambda: received(lab, "/pager", "ServerDown"))
    time.sleep(5)
    assert not received(lab, "/chat", "MemoryHigh")
    state = json.loads(host.check_output("amtool alert query -i -o json alertname=MemoryHigh instance=gone"))
    assert [alert["status"]["state"] for alert in state] == ["suppressed"]


def test_routes_are_as_documented(host):
    for severity, receiver in (("critical", "pager"), ("warning", "chat"), ("none", "nobody")):
        route = host.check_output(
            f"amtool config routes test --config.file=/etc/prometheus/alertmanager.yml severity={severity} alertname=X"
        )
        assert route.strip() == receiver


def test_a_dead_exporter_is_reported_by_the_rules_themselves(lab):
    host = lab.host("mon12")
    host.check_output("systemctl stop prometheus-node-exporter")
    try:
        until(
            lambda: (
                received(lab, "/pager", "ServerDown")
                and any("mon12" in json.dumps(entry) for entry in received(lab, "/pager", "ServerDown"))
            ),
            300,
        )
    finally:
        host.check_output("systemctl start prometheus-node-exporter")


def test_one_alertmanager_is_enough(lab):
    survivor, dead = lab.host("mon13"), lab.host("mon12")
    dead.check_output("systemctl stop prometheus-alertmanager")
    try:
        survivor.check_output("amtool alert add TestAlone severity=critical instance=y component=test")
        until(lambda: received(lab, "/pager", "TestAlone"))
    finally:
        dead.check_output("systemctl start prometheus-alertmanager")


def put(host, path, text):
    """Write a file on the host, in pieces that a command line can carry."""
    host.check_output(f"rm -f {path}")
    for start in range(0, len(text), 60000):
        host.check_output(f"printf %s {shlex.quote(text[start : start + 60000])} >> {path}")


def test_alerts_behave_in_the_newer_release(lab, tmp_path):
    """The unit tests run all cases with the promtool of the controller, which is the older one where that is Debian 12.

    Here every fourth is run by the newer one, and before a release all of them.
    """
    host = lab.host("mon13")
    names = alerts.write_tests(tmp_path)
    names = names if os.environ.get("UPTIER_FULL") else names[::4]
    script = ["set -e", "rm -rf /tmp/alerts", "mkdir /tmp/alerts", "cd /tmp/alerts"]
    for path in (tmp_path / name for test in names for name in (test, test.removeprefix("test-"))):
        script.append(f"cat > {path.name} <<'END-OF-FILE'\n{path.read_text(encoding='utf-8')}\nEND-OF-FILE")
    script.append(f"promtool test rules {' '.join(names)}")
    put(host, "/tmp/alerts.sh", "\n".join(script))
    host.check_output("sh /tmp/alerts.sh")


def test_dashboards_are_understood_by_prometheus_itself(host):
    """Every expression of every dashboard, asked for real: an error in it is an error of the answer."""
    wheres, texts = zip(*alerts.dashboard_expressions(), strict=True)
    url = f"https://{name(host)}.internal:9090/api/v1/query"
    entries = [
        f'url = "{url}"\ndata-urlencode = {json.dumps("query=" + text)}\noutput = /dev/null\nwrite-out = "%{{http_code}}\\n"'
        for text in texts
    ]
    tls = 'cacert = "/etc/uptier/pki/ca.crt"\ncert = "/etc/uptier/pki/host.crt"\nkey = "/etc/uptier/pki/host.key"\n'
    put(host, "/tmp/queries", "\nnext\n".join(tls + entry for entry in entries))
    codes = host.check_output("curl -sS -K /tmp/queries").splitlines()
    assert len(codes) == len(texts)
    assert [where for where, code in zip(wheres, codes, strict=True) if code != "200"] == []


def test_secrets_and_channels_are_not_for_everybody(host):
    file = host.file("/etc/prometheus/alertmanager.yml")
    assert (file.mode, file.user, file.group) == (0o640, "root", "prometheus")


def test_nothing_else_listens(host):
    lines = host.check_output("ss -Hltn").splitlines()
    ports = {line.split()[3].rpartition(":")[2] for line in lines if not line.split()[3].startswith(("127.", "[::1]"))}
    exporters = {"9100", "9113", "9121", "9127", "9187"}
    # nginx and Redis, which the scenario has installed; the other daemons listen on loopback. The bus of that Redis is 10000 above its
    # port without TLS, which is 0.
    asked = {"80", "6379", "10000"}
    assert ports == {"9090", "9093", "9094"} | exporters | asked
