# SPDX-License-Identifier: GPL-3.0-or-later
"""Where the router sends what, and what it does when something dies."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import pytest

testinfra_hosts = ["app"]
PEER = "/etc/uptier/pki"
SERVERS = {"i4000", "i4001", "i4100"}


@pytest.fixture(autouse=True)
def healthy(lab) -> Iterator[None]:
    """Put everything back after each test."""
    yield
    for name, role in (("peer1", "primary"), ("peer2", "replica")):
        lead(lab, name, role)
        lab.host(name).run("touch /run/postmaster")
    for name in ("app12", "app13"):
        lab.host(name).run("rm -f /run/draining-* /run/died")


def lead(lab, name: str, role: str) -> None:
    """Have the stand-in of a database server say that it has this role. The file is read all the time: it is never there by half."""
    lab.host(name).check_output(f"printf {role} >/run/role.next && mv /run/role.next /run/role")


def get(lab, client: str, host, path: str, name: str = "shop.test", port: int = 8443, cert: bool = True) -> tuple[str, str]:
    """Ask the router of `host` from another host, as a gateway does; return status and body."""
    address = lab.addresses[router_of(lab, host)]
    identity = f"--cert {PEER}/host.crt --key {PEER}/host.key" if cert else ""
    target = f"https://{router_of(lab, host)}.internal:{port}{path}"
    resolve = f"--resolve {router_of(lab, host)}.internal:{port}:{address}"
    out = (
        lab.host(client)
        .run(f"curl -s -m 30 --cacert {PEER}/ca.crt {identity} {resolve} -H 'Host: {name}' -w '\\n%{{http_code}}' {target}")
        .stdout
    )
    body, dummy, status = out.rpartition("\n")
    return status, body


def router_of(lab, host) -> str:
    return host.backend.name.removeprefix(f"{lab.name}-")


def test_a_wildcard_covers_every_name_below_and_no_other(lab, host) -> None:
    """As at the gateway; the name itself is another one."""
    eventually(lambda: up(host), SERVERS)
    below = [get(lab, "peer1", host, "/", name=f"{name}.xn--lden-loa.test")[0] for name in ("a", "a.b")]
    assert below == ["200", "200"]
    assert [get(lab, "peer1", host, "/", name=name)[0] for name in ("xn--lden-loa.test", "axn--lden-loa.test")] == ["404", "404"]


def test_the_password_of_the_statistics_is_the_one_that_was_chosen(lab, host) -> None:
    address, name = lab.addresses[router_of(lab, host)], f"{router_of(lab, host)}.internal:8404"
    identity = f"--cacert {PEER}/ca.crt --cert {PEER}/host.crt --key {PEER}/host.key --resolve {name}:{address}"
    for password, status in (('x#Tr0ub4dor $HOME it\'s "100%"', "200"), ("x", "401")):
        command = f"curl -s -o /dev/null -m 30 {identity} -u %s -w '%%{{http_code}}' https://{name}/stats"
        assert lab.host("peer1").check_output(command, f"operator:{password}") == status


def database(host, port: int) -> str:
    """Return which database server answers on a loopback port of the router."""
    code = f"import socket; print(socket.create_connection(('127.0.0.1', {port}), 10).makefile().readline().strip())"
    return host.run(f'python3 -c "{code}"').stdout.strip()


def eventually(question: Callable[[], object], answer: object, seconds: float = 60) -> None:
    end, seen = time.monotonic() + seconds, question()
    while seen != answer and time.monotonic() < end:
        time.sleep(0.3)
        seen = question()
    assert seen == answer


@pytest.fixture(scope="module", autouse=True)
def curl(lab) -> None:
    for name in ("peer1", "peer2"):
        assert lab.host(name).run("command -v curl || (apt-get update -q && apt-get install -qy --no-install-recommends curl)").rc == 0


def test_a_gateway_reaches_the_service_by_name_and_path(lab, host) -> None:
    assert get(lab, "peer1", host, "/x")[1] in ("4000 /x", "4001 /x")
    assert get(lab, "peer1", host, "/api/x") == ("200", "4100 /api/x")
    assert get(lab, "peer1", host, "/apiary")[1] in ("4000 /apiary", "4001 /apiary")
    assert get(lab, "peer1", host, "/x", name="other.test")[0] == "404"


def test_others_are_refused(lab, host) -> None:
    assert get(lab, "peer2", host, "/x")[0] == "403"
    assert get(lab, "peer1", host, "/x", cert=False)[0] == "000"
    assert get(lab, "peer2", host, "/metrics", port=8404)[0] == "403"


def test_only_tls_1_3(lab, host) -> None:
    address = lab.addresses[router_of(lab, host)]
    out = lab.host("peer1").run(f"curl -s -m 5 --tls-max 1.2 --cacert {PEER}/ca.crt https://{address}:8443/")
    assert out.rc != 0


def test_metrics_of_the_router_and_of_each_instance(lab, host) -> None:
    assert "haproxy_backend_http_responses_total" in get(lab, "peer1", host, "/metrics", port=8404)[1]
    assert get(lab, "peer1", host, "/metrics/shop-web/1", port=8404) == ("200", "4001 /metrics")
    assert get(lab, "peer1", host, "/stats", port=8404)[0] == "401"


def test_a_draining_instance_gets_nothing_new(lab, host) -> None:
    host.run("touch /run/draining-4000")
    eventually(lambda: {get(lab, "peer1", host, "/x")[1] for dummy in range(4)}, {"4001 /x"})


def test_an_instance_that_dies_costs_no_request(lab, host) -> None:
    eventually(lambda: up(host), SERVERS)
    host.check_output("systemctl kill -s KILL standin-4000")
    try:
        assert [get(lab, "peer1", host, "/x")[0] for dummy in range(8)] == ["200"] * 8
    finally:
        host.check_output("systemctl start standin-4000")


def test_a_get_without_an_answer_is_sent_again(lab, host) -> None:
    eventually(lambda: up(host), SERVERS)
    assert get(lab, "peer1", host, "/die")[0] == "200"


def test_writes_go_to_the_leader_and_reads_to_the_replica(lab, host) -> None:
    eventually(lambda: (database(host, 5000), database(host, 5001)), ("peer1", "peer2"))


def test_writes_follow_the_leader(lab, host) -> None:
    eventually(lambda: database(host, 5000), "peer1")
    lead(lab, "peer1", "replica")
    lead(lab, "peer2", "primary")
    eventually(lambda: (database(host, 5000), database(host, 5001)), ("peer2", "peer1"))


def test_a_leader_whose_postmaster_is_dead_gets_nothing(lab, host) -> None:
    """Patroni goes on saying that it leads."""
    eventually(lambda: database(host, 5000), "peer1")
    lab.host("peer1").run("rm /run/postmaster")
    eventually(lambda: state(host, "postgresql_leader", "peer1").startswith("DOWN"), True)
    time.sleep(3)
    assert state(host, "postgresql_leader", "peer1").startswith("DOWN")


def test_reads_fall_back_to_the_leader(lab, host) -> None:
    lab.host("peer2").run("rm /run/postmaster")
    eventually(lambda: database(host, 5001), "peer1")


def test_the_spare_instance_is_out_of_service(host) -> None:
    assert state(host, "shop-web", "i4002") == "MAINT"


def test_a_reload_keeps_what_is_known(lab, host) -> None:
    """A dead server is not taken for alive, a drained one stays drained, and the process that listens is not interrupted."""
    eventually(lambda: state(host, "postgresql_leader", "peer2").startswith("DOWN"), True)
    command(host, "set server shop-web/i4001 state drain")
    pid, worker = host.check_output("systemctl show -P MainPID haproxy"), worker_of(host)
    host.check_output("systemctl reload haproxy")
    try:
        eventually(lambda: worker_of(host) != worker, True)  # the one before answers until the new one is there
        assert state(host, "postgresql_leader", "peer2").startswith("DOWN")
        assert state(host, "shop-web", "i4001").startswith("DRAIN")
        assert host.check_output("systemctl show -P MainPID haproxy") == pid
    finally:
        command(host, "set server shop-web/i4001 state ready")


# Sends 400 requests on one connection and counts which instance has answered.
COUNTING = """
import collections, http.client, ssl, sys
context = ssl.create_default_context(cafile="/etc/uptier/pki/ca.crt")
context.load_cert_chain("/etc/uptier/pki/host.crt", "/etc/uptier/pki/host.key")
ask, seen = http.client.HTTPSConnection(sys.argv[1], 8443, timeout=60, context=context), collections.Counter()
for dummy in range(400):
    ask.request("GET", "/", headers={"Host": "shop.test"})
    seen[ask.getresponse().read().split()[0].decode()] += 1
print(seen["4000"], seen["4001"])
"""


def test_requests_are_split_by_weight(lab, host) -> None:
    """A canary relies on it, to within two points; both versions of HAProxy do it by turns."""
    command(host, "set server shop-web/i4000 weight 247")
    command(host, "set server shop-web/i4001 weight 13")
    try:
        answers = lab.host("peer1").check_output(f"python3 -c '{COUNTING}' {lab.addresses[router_of(lab, host)]}").split()
    finally:
        for name in ("i4000", "i4001"):
            command(host, f"set server shop-web/{name} weight 1")
    assert sum(map(int, answers)) == 400
    assert 12 <= int(answers[1]) <= 28


def command(host, text: str) -> str:
    code = (
        "import socket; s = socket.socket(socket.AF_UNIX); s.connect('/run/haproxy/admin.sock'); "
        f"s.sendall(b'{text}\\n'); print(b''.join(iter(lambda: s.recv(65536), b'')).decode())"
    )
    return host.check_output(f'python3 -c "{code}"')


def state(host, backend: str, server: str) -> str:
    rows = [line.split(",") for line in command(host, "show stat").splitlines()]
    return next(row[17] for row in rows if row[:2] == [backend, server])


def up(host) -> set[str]:
    """Which instances of the shop the router uses."""
    rows = [line.split(",") for line in command(host, "show stat").splitlines()]
    return {row[1] for row in rows if row[0] in ("shop-web", "shop-api") and row[1].startswith("i") and row[17] == "UP"}


def worker_of(host) -> str:
    """The process of the router that answers."""
    return next(line.split()[1] for line in command(host, "show info").splitlines() if line.startswith("Pid:"))
