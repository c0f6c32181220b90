# SPDX-License-Identifier: GPL-3.0-or-later
"""Ports are open exactly where the flow table says, and what is open speaks TLS."""

from __future__ import annotations

import json
import subprocess
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import yaml
from harness.platform import PORTS, ROOT, Platform
from harness.web import User

TABLES = yaml.safe_load((ROOT / "roles/platform/vars/flows.yml").read_text())
FLOWS = [flow for flow in TABLES["platform_flows"] if flow.get("ports")]
# Redis has two processes on each host here.
PROCESSES = 2
GROUPS = ("gateway", "app", "postgresql", "etcd", "redis", "monitoring", "backup")
# Ports that no flow names, and that a careless default would open.
EXTRA = (25, 111, 3001, 5433, 8080)

PROBE = """
import json, socket, sys
from concurrent.futures import ThreadPoolExecutor
targets = json.load(sys.stdin)
def reach(target):
    try:
        socket.create_connection(tuple(target), timeout=1.5).close()
        return "open"
    except ConnectionRefusedError:
        return "refused"
    except OSError:
        return "dropped"
with ThreadPoolExecutor(64) as pool:
    print(json.dumps(list(pool.map(reach, targets))))
"""


def groups_of(platform: Platform, host: str) -> set[str]:
    return {name for name in GROUPS if host in platform.group(name)}


def numbers(platform: Platform, host: str, name: str) -> set[int]:
    """The ports that one row of the table means on a host."""
    first = platform.port(host, name)
    return set(range(first, first + (PROCESSES if PORTS[name].get("processes") else 1)))


def opened(platform: Platform, flow: dict[str, Any], target: str) -> set[int]:
    return {port for name in flow["ports"] for port in numbers(platform, target, name)}


def allowed(platform: Platform, source: str, target: str, port: int) -> bool:
    def covers(side: str, host: str) -> bool:
        return side in ("all", "any") or side in groups_of(platform, host)

    return any(covers(flow["from"], source) and covers(flow["to"], target) and port in opened(platform, flow, target) for flow in FLOWS)


def listening(platform: Platform, host: str) -> set[int]:
    """TCP ports that accept connections from other hosts."""
    lines = platform.output(host, "ss -Hltn").splitlines()
    local = [line.split()[3].rsplit(":", 1) for line in lines]
    return {int(port) for address, port in local if not address.startswith(("127.", "[::1]"))}


def test_every_port_is_open_exactly_where_the_table_says(platform: Platform) -> None:
    # Where things listen, those on loopback too, and where they would if nobody had moved them.
    known = {port for host in platform.hosts for name in PORTS for port in numbers(platform, host, name)}
    ports = sorted(known | {port["port"] for port in PORTS.values() if "port" in port} | set(EXTRA))
    open_on = {host: listening(platform, host) for host in platform.hosts}
    addresses = {host: platform.address(host) for host in platform.hosts}

    def scan(source: str) -> list[str]:
        targets = [(target, port) for target in platform.hosts if target != source for port in ports]
        done = platform_scan(platform, source, [(addresses[target], port) for target, port in targets])
        wrong = []
        for (target, port), state in zip(targets, done, strict=True):
            permitted = allowed(platform, source, target, port)
            expected = {"open"} if permitted and port in open_on[target] else {"refused"} if permitted else {"dropped"}
            if state not in expected:
                wrong.append(f"{source} -> {target}:{port} is {state}, expected {expected.pop()}")
        return wrong

    with ThreadPoolExecutor(2) as pool:
        wrong = [line for lines in pool.map(scan, platform.hosts) for line in lines]
    assert wrong == []


def platform_scan(platform: Platform, source: str, targets: list[tuple[str, int]]) -> list[str]:
    done = subprocess.run(
        ["docker", "exec", "-i", platform.container(source), "python3", "-c", PROBE],
        input=json.dumps(targets),
        capture_output=True,
        text=True,
        timeout=180,
        check=True,
    )
    return json.loads(done.stdout)


def test_what_listens_is_in_the_table(platform: Platform) -> None:
    unknown = []
    for host in platform.hosts:
        here = [flow for flow in FLOWS if flow["to"] in groups_of(platform, host) | {"all"}]
        known = {port for flow in here for port in opened(platform, flow, host)}
        unknown += [f"{host}:{port}" for port in sorted(listening(platform, host) - known)]
    assert unknown == []


def test_what_was_moved_listens_where_it_was_put(platform: Platform) -> None:
    """The inventory of this scenario moves some ports of each kind; every other test runs over them."""
    moved = [
        (host, name)
        for name, port in PORTS.items()
        for host in platform.hosts
        if "variable" in port and (groups_of(platform, host) | {"all"}) & set(port["groups"]) and platform.port(host, name) != port["port"]
    ]
    assert len({name for dummy, name in moved}) >= 3
    for host, name in moved:
        there = {int(line.split()[3].rsplit(":", 1)[1]) for line in platform.output(host, "ss -Hltn").splitlines()}
        assert platform.port(host, name) in there, f"{host}: {name}"
        assert PORTS[name]["port"] not in there, f"{host}: {name}"


def test_nothing_but_port_80_speaks_clear_text(platform: Platform) -> None:
    # PostgreSQL negotiates TLS inside its own protocol: asserted by pg_hba below.
    refused = []
    for host in platform.hosts:
        clear = {platform.port(host, name) for name in ("http", "ssh", "postgresql")}
        for port in sorted(listening(platform, host) - clear):
            source = next((name for name in platform.hosts if name != host and allowed(platform, name, host, port)), None)
            if source is None:
                continue
            done = platform.run(
                source,
                f"timeout 5 openssl s_client -servername demo.test -connect {platform.address(host)}:{port} </dev/null 2>&1 | grep -a 'New, '",
                check=False,
            )
            if "TLSv1.3" not in done.stdout:
                refused.append(f"{source} -> {host}:{port}: {done.stdout[-200:]}")
    assert refused == []
    leader = platform.leader()
    assert leader
    assert (
        platform.sql(leader, "select count(*) from pg_hba_file_rules where type in ('host', 'hostnossl') and auth_method <> 'reject'")
        == "0"
    )


def test_gateway_refuses_old_tls(platform: Platform, user: User) -> None:
    done = platform.run(
        "mon1", f"timeout 5 openssl s_client -connect {user.address}:443 -servername demo.test -tls1_1 </dev/null 2>&1", check=False
    )
    assert "Cipher is (NONE)" in done.stdout or "no protocols available" in done.stdout or "alert" in done.stdout
