# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The shared address is always somewhere, and only in one place."""

from __future__ import annotations

import contextlib
import http.client
import statistics
import threading
import time

import pytest
from harness.gaps import longest_gap
from harness.platform import wait


class Watch(threading.Thread):
    """Asks for the address again and again until told to stop; notes when each answer came and from whom."""

    def __init__(self, address: str) -> None:
        super().__init__(daemon=True)
        self.address = address
        self.seen: list[tuple[float, str]] = []
        self.halt = threading.Event()
        self.start()

    def run(self) -> None:
        end = time.monotonic() + 600
        while not self.halt.is_set() and time.monotonic() < end:
            with contextlib.suppress(OSError, http.client.HTTPException):
                connection = http.client.HTTPConnection(self.address, 8088, timeout=0.5)
                try:
                    connection.request("GET", "/")
                    host = connection.getresponse().read().decode()
                    self.seen.append((time.monotonic(), host))
                finally:
                    connection.close()
            self.halt.wait(0.05)

    def hosts(self, last: int = 0) -> set[str]:
        """Who has answered; of the last so many answers only, where a number is given."""
        return {host for dummy, host in self.seen[-last:]}

    def finish(self) -> float:
        """End, and return the longest time without an answer, between the first and the last one, in seconds."""
        self.halt.set()
        self.join(30)
        moments = [moment for moment, dummy in self.seen]
        return longest_gap(moments, moments[0]) or 0.0 if moments else 0.0


@pytest.fixture(scope="module")
def address(lab):
    return lab.addresses["gw12"].rpartition(".")[0] + ".100"


def wait_for_holder(lab, address):
    def only():
        found = [name for name in lab.groups["gateway"] if f" {address}/" in lab.host(name).run("ip -4 -o addr").stdout]
        return found[0] if len(found) == 1 else None

    return wait(f"one host that holds {address}", only, 60)


def replaced(lab, address, fault, repair):
    """Inject a fault into the holder while somebody asks; return for how long nobody answered, and who holds the address instead."""
    holder = wait_for_holder(lab, address)
    (heir,) = (name for name in lab.groups["gateway"] if name != holder)
    watcher = Watch(address)
    try:
        wait(f"an answer of {holder}", lambda: holder in watcher.hosts(), 60)
        fault(holder)
        wait(f"answers of {heir} alone", lambda: len(watcher.seen) > 10 and watcher.hosts(10) == {heir}, 60)
    finally:
        gap = watcher.finish()
        repair(holder)
    return gap, heir


def judge(gaps, limit):
    """Hold the median to the limit. On a machine that does other work too, a single round that took longer is made twice again."""
    print(f"measured: longest gap {statistics.median(gaps):.2f} s, median of {len(gaps)}")
    assert statistics.median(gaps) < limit, gaps


def test_one_host_holds_the_address(lab, address):
    wait_for_holder(lab, address)


def test_killed_holder_is_replaced_within_five_seconds(lab, address):
    def start(name):
        lab.start(name)
        state = "systemctl is-system-running"
        wait(f"systemd on {name}", lambda: lab.host(name).run(state).stdout.strip() in ("running", "degraded"), 120)

    gaps, moved = [], []
    while not gaps or ((gaps[0] >= 5 or all(moved)) and len(gaps) < 3):
        gap, heir = replaced(lab, address, lab.kill, start)
        gaps.append(gap)
        # It comes back as the reserve: nothing moves again, unless the holder got no processor for seconds.
        time.sleep(5)
        moved.append(wait_for_holder(lab, address) != heir)
    judge(gaps, 5)
    assert not all(moved), "who came back took the address"


def test_holder_whose_gateway_hangs_gives_the_address_away(lab, address):
    def hang(name):
        lab.host(name).check_output("systemctl kill -s STOP nginx")

    def go_on(name):
        lab.host(name).check_output("systemctl kill -s CONT nginx")

    gaps = []
    while not gaps or (gaps[0] >= 8 and len(gaps) < 3):
        gaps.append(replaced(lab, address, hang, go_on)[0])
    judge(gaps, 8)


def test_configuration_is_for_root_only(lab):
    for name in lab.groups["gateway"]:
        assert lab.host(name).file("/etc/keepalived/keepalived.conf").mode == 0o600
        assert "M#l'c" not in lab.host(name).check_output("ps -eo args")


def test_a_reload_does_not_move_the_address(lab, address):
    seen = []
    for dummy in range(3):  # what comes of the reload comes each time; what comes of a busy machine does not
        holder = wait_for_holder(lab, address)
        watcher = Watch(address)
        wait(f"an answer of {holder}", lambda holder=holder, watcher=watcher: holder in watcher.hosts(), 60)
        lab.host(holder).check_output("systemctl reload keepalived")
        time.sleep(3)
        seen.append((watcher.finish(), watcher.hosts() - {holder}))
        if seen[-1][0] < 1 and not seen[-1][1]:
            return
    pytest.fail(f"longest gap in seconds, and who else answered: {seen}")
