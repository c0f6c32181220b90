# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The shared address is always somewhere, and only in one place."""

from __future__ import annotations

import json
import subprocess
import time

import pytest
from harness.gaps import longest_gap

# Asks for the address again and again; tells when each answer came and from whom.
WATCH = """
import json, sys, time, urllib.request
address, seconds, seen, start = sys.argv[1], float(sys.argv[2]), [], time.monotonic()
while time.monotonic() - start < seconds:
    try:
        with urllib.request.urlopen(f"http://{address}:8088/", timeout=0.5) as answer:
            seen.append([time.monotonic() - start, answer.read().decode()])
    except OSError:
        pass
    time.sleep(0.05)
print(json.dumps(seen))
"""


@pytest.fixture(scope="module")
def address(lab):
    return lab.addresses["gw12"].rpartition(".")[0] + ".100"


def holders(lab, address):
    found = []
    for name in lab.groups["gateway"]:
        seen = subprocess.run(
            ["docker", "exec", lab.container(name), "ip", "-4", "-o", "addr"], capture_output=True, text=True, check=False
        )
        if f" {address}/" in seen.stdout:
            found.append(name)
    return found


def wait_for_holder(lab, address, seconds=15):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        found = holders(lab, address)
        if len(found) == 1:
            return found[0]
        time.sleep(0.2)
    pytest.fail(f"{address} is held by {holders(lab, address)}")


def watch(lab, address, seconds):
    command = ["docker", "exec", lab.container("ca"), "python3", "-c", WATCH, address, str(seconds)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def gap(seen):
    """Return the longest time without an answer, between the first and the last one."""
    moments = [moment for moment, dummy in seen]
    return longest_gap(moments, moments[0])


def test_one_host_holds_the_address(lab, address):
    wait_for_holder(lab, address)


def test_killed_holder_is_replaced_within_five_seconds(lab, address):
    holder = wait_for_holder(lab, address)
    watcher = watch(lab, address, 10)
    time.sleep(1)
    lab.kill(holder)
    try:
        seen = json.loads(watcher.communicate(timeout=30)[0])
        heir = next(name for name in lab.groups["gateway"] if name != holder)
        assert {host for dummy, host in seen} == {holder, heir}
        print(f"measured: longest gap {gap(seen):.2f} s")
        assert gap(seen) < 5
    finally:
        lab.start(holder)
        subprocess.run(
            ["docker", "exec", lab.container(holder), "systemctl", "is-system-running", "--wait"], check=False, capture_output=True
        )
    # It comes back as the reserve: nothing moves again.
    time.sleep(5)
    assert wait_for_holder(lab, address) == heir


def test_holder_whose_gateway_hangs_gives_the_address_away(lab, address):
    holder = wait_for_holder(lab, address)
    watcher = watch(lab, address, 10)
    time.sleep(1)
    lab.host(holder).check_output("systemctl kill -s STOP nginx")
    try:
        seen = json.loads(watcher.communicate(timeout=30)[0])
        print(f"measured: longest gap {gap(seen):.2f} s")
        assert seen[-1][1] != holder
        assert gap(seen) < 8
    finally:
        lab.host(holder).check_output("systemctl kill -s CONT nginx")


def test_configuration_is_for_root_only(lab):
    for name in lab.groups["gateway"]:
        assert lab.host(name).file("/etc/keepalived/keepalived.conf").mode == 0o600
        assert "M#l'c" not in lab.host(name).check_output("ps -eo args")


def test_a_reload_does_not_move_the_address(lab, address):
    holder = wait_for_holder(lab, address)
    watcher = watch(lab, address, 3)
    time.sleep(0.5)
    lab.host(holder).check_output("systemctl reload keepalived")
    seen = json.loads(watcher.communicate(timeout=20)[0])
    assert {host for dummy, host in seen} == {holder}
    assert gap(seen) < 1
