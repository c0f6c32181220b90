# SPDX-License-Identifier: GPL-3.0-or-later
"""What the hosts look like after releases that failed and some that did not; test_deploy.py, which comes before, makes the last ones."""

from __future__ import annotations

import json

from harness.platform import wait

testinfra_hosts = ["app"]
UNITS = ("sample-web@3000", "sample-web@3001")


def test_every_instance_runs_the_new_release(host) -> None:
    for port in (3000, 3001):
        answer = json.loads(
            host.check_output(
                f"python3 -c \"import urllib.request as u; print(u.urlopen('http://127.0.0.1:{port}/api/health').read().decode())\""
            )
        )
        assert answer["version"] == "1.0.1"
    assert host.check_output("readlink /opt/uptier/apps/sample/current") == "releases/1.0.1"


def test_the_spare_instance_is_gone(host) -> None:
    units = host.check_output("systemctl list-units 'sample-*' --state=active --plain --no-legend")
    assert sorted(line.split()[0].removesuffix(".service") for line in units.splitlines()) == list(UNITS)


def test_the_migration_ran_on_one_host_only(lab) -> None:
    there = [name for name in ("app12", "app13") if lab.host(name).file("/var/lib/uptier/apps/sample/migrated.json").exists]
    assert there == ["app12"]


def test_instances_run_as_their_own_user_in_a_sandbox(host) -> None:
    assert set(host.check_output("ps -o user= -C node").split()) == {"sample"}
    exposure = float(host.check_output("systemd-analyze security --no-pager sample-web@3000 | tail -1").split(":")[1].split()[0])
    assert exposure <= 4


def test_the_environment_is_for_the_application_only(host) -> None:
    file = host.file("/etc/uptier/apps/sample.env")
    assert (file.mode, file.user, file.group) == (0o640, "root", "sample")
    pid = host.check_output("systemctl show -P MainPID sample-web@3000")
    assert 'PARTNER_KEY=a"b$c' in host.check_output(f"tr '\\0' '\\n' </proc/{pid}/environ")
    assert 'PRICE=costs $5, 100% "net" \\ ${HOME} #; é' in host.check_output(f"tr '\\0' '\\n' </proc/{pid}/environ")
    assert 'a"b$c' not in host.check_output("ps -eo args")


def test_instances_listen_on_loopback_only(host) -> None:
    for port in (3000, 3001):
        assert host.check_output(f"ss -Hltn 'sport = :{port}'").split()[3] == f"127.0.0.1:{port}"


def test_a_process_that_dies_comes_back(host) -> None:
    before = host.check_output("systemctl show -P MainPID sample-web@3000")
    host.check_output("systemctl kill -s KILL sample-web@3000")
    probe = "python3 -c \"import urllib.request as u; u.urlopen('http://127.0.0.1:3000/api/health')\""

    def back() -> bool:
        return host.check_output("systemctl show -P MainPID sample-web@3000") not in (before, "0") and host.run(probe).rc == 0

    wait("the process that was killed", back, 120)


# Stops an instance and asks for its health until that is no longer well; prints what it was then, 0 without an answer.
STOPPING = """
import http.client, subprocess, time
ask = http.client.HTTPConnection("127.0.0.1", 3001, timeout=60)
def health():
    try:
        ask.request("GET", "/api/health")
        answer = ask.getresponse()
        answer.read()
        return answer.status
    except (OSError, http.client.HTTPException):
        ask.close()
        return 0
end = time.monotonic() + 120
while health() != 200 and time.monotonic() < end:
    time.sleep(0.3)
subprocess.run(["systemctl", "stop", "--no-block", "sample-web@3001"], check=True)
seen = 200
while seen == 200 and time.monotonic() < end:
    seen = health()
print(seen)
"""


def test_sigterm_says_so_in_health_and_ends_well(host) -> None:
    # It says so for two and a half seconds; who got no processor for so long has to look again.
    for dummy in range(4):
        said = host.check_output(f"python3 -c '{STOPPING}'").strip()
        wait("the end of the process", lambda: host.check_output("systemctl show -P ActiveState sample-web@3001") == "inactive", 120)
        assert host.check_output("systemctl show -P Result sample-web@3001") == "success"
        host.check_output("systemctl start sample-web@3001")
        if said != "0":
            break
    assert said == "503"
