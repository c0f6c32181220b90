# SPDX-License-Identifier: GPL-3.0-or-later
"""Releases by name while the load of side_effect.yml goes on: one that fails on the second host, and one that is killed; and commands of a release.

The tests follow each other: what one leaves is what the next begins with, 1.0.0 first and 1.0.1 at the end.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
HOSTS = ("app12", "app13")
LIMIT = 300  # seconds until a state that is waited for has to be there, whatever else the machine does
STATE = "/var/lib/uptier/apps/sample"


def start(lab, name: str, *options: str) -> subprocess.Popen[str]:
    plain = {"ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "ANSIBLE_FORCE_COLOR": "0", "ANSIBLE_NOCOLOR": "1"}
    inventories = [os.environ["MOLECULE_INVENTORY_FILE"], str(ROOT / ".cache/labs" / lab.name / "inventory.yml")]
    command = ["ansible-playbook", *(f"-i{path}" for path in inventories), str(ROOT / "playbooks" / name)]
    return subprocess.Popen(
        [*command, "-e", "application=sample", *options],
        cwd=ROOT, env={**os.environ, **plain}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
    )  # fmt: skip


def playbook(lab, name: str, *options: str) -> tuple[int, str]:
    """Run a playbook on the application; return its exit status and all that it said, in one line."""
    process = start(lab, name, *options)
    said, dummy = process.communicate()
    return process.returncode, " ".join(said.split())


def kill(process: subprocess.Popen[str]) -> None:
    """Kill a run and its workers, each of which is the head of a process group."""
    found = subprocess.run(["ps", "-o", "pid=", "--ppid", str(process.pid)], capture_output=True, text=True, check=False)
    for head in (process.pid, *map(int, found.stdout.split())):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(head, signal.SIGKILL)
    process.wait()


def states(lab) -> dict[str, tuple[str, list[str]]]:
    """Return of each host the current release, and what its instances run."""
    look = "cd /opt/uptier/apps/sample; basename $(readlink current); for one in instances/*; do basename $(readlink $one); done"
    found = {}
    for name in HOSTS:
        now, *instances = lab.host(name).check_output(look).split()
        found[name] = (now, instances)
    return found


def record(lab, name: str) -> list[tuple[str, str]]:
    """Return version and result of the releases that a host remembers."""
    entries = json.loads(lab.host(name).file(f"{STATE}/history.json").content_string)
    return [(entry.get("version", ""), entry["result"]) for entry in entries]


def servers(lab, name: str) -> dict[str, tuple[str, str]]:
    """Return state and weight of each server of the application at the router of a host; of one that gets no requests, HAProxy 2.6
    shows the weight that it had last."""
    look = (
        "import csv, socket; s = socket.socket(socket.AF_UNIX); s.connect('/run/haproxy/admin.sock'); s.sendall(b'show stat\\n'); "
        "rows = csv.DictReader(s.makefile().read().lstrip('# ').splitlines()); "
        "print(*(' '.join((r['svname'], r['status'].split()[0], r['weight'])) for r in rows if r['pxname'] == 'sample-web'), sep='\\n')"
    )
    rows = [line.split() for line in lab.host(name).check_output(f'python3 -c "{look}"').splitlines()]
    return {server: (status, weight if status == "UP" else "") for server, status, weight in rows if server != "BACKEND"}


# What a canary says of each part of the requests: the part, and how many came to the new and to the old release.
COMPARED = re.compile(r"(\d+) % for the new release: (\d+) requests, 0 errors, \d+ ms; the old release: (\d+) requests")
BEFORE = {name: ("1.0.0", ["1.0.0", "1.0.0"]) for name in HOSTS}

# As an instance is: its user, environment and sandbox, in which the release is not to be written. It has no port.
LOOK = """node -e 'const e = process.env; let sealed = "no"; try { require("fs").writeFileSync("x", "") } catch (error) { sealed = error.code };
const price = e.PRICE.slice(0, 14) + /[$].HOME/.test(e.PRICE);
console.log([e.APP_HOST, e.APP_VERSION, process.getuid() > 0, price, typeof e.PORT, sealed, `<${e.PARTNER_KEY}>`].join())'"""


def run(lab, command: str, *options: str) -> tuple[int, str]:
    return playbook(lab, "run_command.yml", "-e", json.dumps({"command": " ".join(command.split())}), *options)


def test_it_runs_as_an_instance_does_and_says_no_secret(lab) -> None:
    status, said = run(lab, LOOK)
    assert status == 0, said
    assert "app12,1.0.0,true,costs $5, 100%true,undefined,EROFS,<***>" in said, said
    assert "The command ended well on app12, as sample-web in release 1.0.0." in said


def test_its_status_decides_and_its_host_is_the_one_that_is_named(lab) -> None:
    status, said = run(lab, "sh -c 'echo it is $APP_HOST >&2; exit 7'", "-e", "host=app13")
    assert status != 0
    assert "it is app13" in said
    assert "The command ended with status 7 on app13, as sample-web in release 1.0.0." in said


def test_words_that_ansible_drops_are_missed(lab) -> None:
    """Of this command Ansible hands on the first word only."""
    status, said = playbook(lab, "run_command.yml", "-e", "command=touch /run/never --reference=x")
    assert status != 0
    assert "Only `touch` of the command has arrived." in said


def test_a_release_that_fails_on_the_second_host_leaves_none_behind(lab) -> None:
    status, said = playbook(lab, "deploy.yml", "-e", "version=1.0.2")
    assert status != 0
    assert "sample 1.0.2 failed on app13. Every host is back on 1.0.0." in said
    assert "did not become healthy on sample-web@3002" in said
    assert "FEATURE_Y is not set" in said
    # The first host had it, and gave it back: the release is there, and nothing runs it.
    assert lab.host("app12").check_output("cat /opt/uptier/apps/sample/releases/1.0.2/.release.env") == 'APP_VERSION="1.0.2"'
    assert states(lab) == BEFORE
    for name in HOSTS:
        assert record(lab, name)[-1] == ("1.0.2", "failed")
        assert not lab.host(name).file(f"{STATE}/unfinished.json").exists
    assert not lab.host("app12").file(f"{STATE}/deploy.lock.json").exists


# On the second host: takes the host's lock as soon as the router there has drained the old instances, and keeps it.
HOLDING = f"""
import csv, fcntl, socket, time
while True:
    ask = socket.socket(socket.AF_UNIX)
    ask.connect("/run/haproxy/admin.sock")
    ask.sendall(b"show stat\\n")
    rows = csv.DictReader(ask.makefile().read().lstrip("# ").splitlines())
    if any(row["pxname"] == "sample-web" and row["status"].startswith("DRAIN") for row in rows):
        break
    time.sleep(0.5)
lock = open("{STATE}/lock", "w")
fcntl.flock(lock, fcntl.LOCK_EX)
open("/run/held", "w").close()
time.sleep(900)
"""


def test_a_release_that_is_killed_after_it_got_all_requests_is_completed_by_another_run(lab) -> None:
    """On the second host, somebody keeps it from replacing what the release would go back to, so that it cannot end before it is killed.

    Its lock is taken over at once, since the run on this controller is known to be dead. What it has left waiting on the second
    host comes too late, or is waited for.
    """
    lab.host("app13").check_output(f"systemd-run --quiet --collect --unit=holds python3 -c '{HOLDING}'")
    process = start(lab, "deploy.yml", "-e", "version=1.0.1", "-e", "strategy=blue_green")
    assert process.stdout is not None
    end = time.monotonic() + LIMIT
    while not lab.host("app13").file("/run/held").exists:
        assert process.poll() is None, process.stdout.read()
        assert time.monotonic() < end, "the release does not get the requests of the second host"
        time.sleep(0.5)
    # Whoever comes meanwhile is told who is at work, and touches nothing.
    status, said = playbook(lab, "deploy.yml", "-e", "version=1.0.2")
    assert status != 0
    assert re.search(rf"sample is being released by \S+ on \S+ \(process {process.pid}\) since .*: .*1\.0\.1", said), said
    assert "1.0.2" not in str(states(lab))
    assert process.poll() is None
    kill(process)
    # Four instances: the release gets all requests, and the old one is there to take them back.
    assert states(lab)["app13"] == ("1.0.0", ["1.0.0", "1.0.0", "1.0.1", "1.0.1"])
    assert {name: status for name, (status, dummy) in servers(lab, "app13").items()} == {
        "i3000": "DRAIN", "i3001": "DRAIN", "i3002": "UP", "i3003": "UP",
    }  # fmt: skip
    assert lab.host("app12").file(f"{STATE}/deploy.lock.json").exists
    lab.host("app13").check_output("systemctl stop holds")
    # The client asks each router ten times a second at most; how fast the instances of a busy machine are says nothing.
    canary = {"app_canary_shares": [25, 50], "app_canary_requests": 20, "app_canary_seconds": 1, "app_canary_slower": 1000}
    status, said = playbook(lab, "deploy.yml", "-e", "version=1.0.1", "-e", "strategy=canary", "-e", json.dumps(canary))
    assert status == 0, said
    assert "sample 1.0.1 runs on app12, app13; before: 1.0.0." in said
    shares = [tuple(map(int, found)) for found in COMPARED.findall(said)]
    assert [share for share, *dummy in shares] == [25, 50], said
    assert all(new >= 20 and old >= 20 for dummy, new, old in shares), said
    assert states(lab) == {name: ("1.0.1", ["1.0.1", "1.0.1"]) for name in HOSTS}
    assert [result for dummy, result in record(lab, "app12")[-2:]] == ["interrupted", "succeeded"]
    assert not lab.host("app12").file(f"{STATE}/deploy.lock.json").exists
    for name in HOSTS:
        assert servers(lab, name) == {"i3000": ("UP", "1"), "i3001": ("UP", "1"), "i3002": ("MAINT", ""), "i3003": ("MAINT", "")}


def test_a_release_that_is_healthy_and_fails_is_turned_back_as_a_canary(lab) -> None:
    """It answers one path with errors, which costs those who ask for it the part of the requests that a canary gets."""
    client = lab.host("peer1")
    client.check_output(
        f"systemd-run --quiet --collect --unit=faults python3 /usr/local/lib/load.py faults /api/fault {' '.join(lab.addresses[name] for name in HOSTS)}"
    )
    before = states(lab)
    canary = {"app_canary_shares": [25], "app_canary_requests": 40, "app_canary_seconds": 1, "app_canary_slower": 1000}
    status, said = playbook(lab, "deploy.yml", "-e", "version=1.0.3", "-e", "strategy=canary", "-e", json.dumps(canary))
    assert status != 0
    assert re.search(r"sample 1\.0\.3 was turned back as a canary on \S+\. Every host is back on 1\.0\.1\.", said), said
    assert re.search(r"\d+ of \d+ requests failed, with the old release 0 of \d+", said), said
    assert states(lab) == before
    for name in HOSTS:
        assert record(lab, name)[-1] == ("1.0.3", "failed")
        assert servers(lab, name) == {"i3000": ("UP", "1"), "i3001": ("UP", "1"), "i3002": ("MAINT", ""), "i3003": ("MAINT", "")}
    seen = ended(lab, "faults")
    print(f"measured: a canary that fails on one path: {seen}")
    assert set(seen) == {"status 404", "status 500"}
    assert seen["status 500"] <= 0.25 * sum(seen.values())


def ended(lab, name: str) -> dict[str, int]:
    """End a load; return what came, and how often."""
    client = lab.host("peer1")
    client.check_output(f"touch /run/{name}.stop")
    end = time.monotonic() + LIMIT
    while not client.file(f"/run/{name}.json").exists:
        assert time.monotonic() < end, "the load does not end"
        time.sleep(0.5)
    return json.loads(client.check_output(f"cat /run/{name}.json"))


def test_no_request_failed(lab) -> None:
    """The load began before the first release and has met all of them."""
    seen = ended(lab, "load")
    assert set(seen) <= {"1.0.0", "1.0.1", "1.0.2", "1.0.3"}, seen
    assert min(seen["1.0.0"], seen["1.0.1"]) > 10, seen
