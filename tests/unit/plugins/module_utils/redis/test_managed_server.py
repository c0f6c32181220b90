# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A Redis that somebody else runs, on real servers: what is accepted, what is refused and why."""

from __future__ import annotations

import importlib
import socket
import ssl
import struct
import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from ansible_collections.uptier.platform.plugins.module_utils.redis.cluster import Node
from ansible_collections.uptier.platform.plugins.module_utils.redis.server import Managed, problems
from harness.redis import PASSWORD, Servers, dial

MODULE = "ansible_collections.uptier.platform.plugins.modules.redis_server_info"
ACCEPTED = {"version": "7.2.4", "cluster": False, "role": "master", "policy": "noeviction", "tls": "TLSv1.3"}


@pytest.fixture
def ask(run_module: Callable[..., dict[str, Any]]) -> Callable[..., dict[str, Any]]:
    def call(node: Node, **options: Any) -> dict[str, Any]:
        given = {"host": node.address, "port": node.port, "password": PASSWORD, "tls": False, "cluster": True, "timeout": 3, **options}
        answer = run_module(importlib.import_module(MODULE).main, given)
        assert PASSWORD not in str({key: value for key, value in answer.items() if key != "invocation"})
        return answer

    return call


def test_a_server_is_asked_and_refused_with_the_reason(servers: Servers, ask: Callable[..., dict[str, Any]]) -> None:
    node = servers.node("h0")
    good = ask(node)
    assert not good.get("failed"), good
    assert (good["changed"], good["cluster"], good["role"], good["tls"]) == (False, True, "master", None)
    assert good["version"][0].isdigit()
    label = f"{node.address}:{node.port}"
    assert ask(node, cluster=False)["problems"] == [
        f"{label} is a node of a cluster, and platform_managed_redis.cluster is false. Set it to true."
    ]
    assert (
        f"{label} does not accept the password of default. Put the one that the provider shows"
        in ask(node, password="not-this-one-at-all")["msg"]
    )
    assert f"{label} does not accept the password of nobody." in ask(node, username="nobody")["msg"]
    assert "or set tls: false where it offers no TLS." in ask(node, tls=True, timeout=1)["msg"]
    assert "cannot be read" in ask(node, tls=True, ca="<html>log in first</html>")["msg"]
    assert f"nothing listens on {node.address}:1. Correct host and port" in ask(replace(node, port=1))["msg"]


def test_a_provider_that_keeps_its_figures_to_itself_is_accepted(servers: Servers, ask: Callable[..., dict[str, Any]]) -> None:
    node = servers.node("h0")
    with dial(node.address, node.port) as connection:
        connection.call("ACL", "SETUSER", "shop", "on", f">{PASSWORD}", "~*", "+@all", "-info")
    seen = ask(node, username="shop")
    assert not seen.get("failed"), seen
    assert (seen["version"], seen["cluster"], seen["policy"]) == (None, None, None)


def test_a_user_that_may_not_even_ping_is_refused(servers: Servers, ask: Callable[..., dict[str, Any]]) -> None:
    node = servers.node("h0")
    with dial(node.address, node.port) as connection:
        connection.call("ACL", "SETUSER", "shop", "on", f">{PASSWORD}", "~*", "-@all")
    assert "refused shop: NOPERM" in ask(node, username="shop")["msg"]


@pytest.mark.parametrize(
    ("seen", "cluster", "words"),
    [
        ({}, False, []),
        ({"version": "5.0.7"}, False, ["runs Redis 5.0.7, and 6 is the oldest"]),
        ({"version": "255.255.255"}, False, []),
        ({"cluster": True}, True, []),
        ({"cluster": None}, True, []),
        ({}, True, ["is no cluster, and platform_managed_redis.cluster is true"]),
        ({"cluster": True}, False, ["is a node of a cluster"]),
        ({"role": "slave"}, False, ["is a replica, which takes no writes"]),
        ({"cluster": True, "role": "slave"}, True, []),
        ({"version": "4.0", "role": "slave"}, False, ["runs Redis 4.0", "is a replica"]),
    ],
)
def test_what_applications_could_not_use(seen: dict[str, Any], cluster: bool, words: list[str]) -> None:
    found = problems({**ACCEPTED, **seen}, "cache.provider.example:6379", cluster)
    assert len(found) == len(words)
    assert all(word in text for word, text in zip(words, found, strict=True))


def test_the_password_is_in_no_representation_of_an_error() -> None:
    server = Managed("127.0.0.1", 1, "default", PASSWORD, tls=False)
    with pytest.raises(Exception, match="nothing listens on 127.0.0.1:1") as caught:
        server.look()
    assert PASSWORD not in str(caught.value)


def test_authorities_are_judged_alike_by_all_versions_of_python() -> None:
    """Debian 13's asks for extensions that authorities of providers may not have; the name and the chain are verified all the same."""
    context = Managed("cache.provider.example", 6379, "default", PASSWORD).context()
    assert context is not None
    assert not context.verify_flags & ssl.VERIFY_X509_STRICT
    assert context.check_hostname
    assert context.verify_mode == ssl.CERT_REQUIRED


@pytest.mark.parametrize("reset", [True, False])
def test_a_server_that_wants_tls_ends_a_conversation_without(run_module: Callable[..., dict[str, Any]], reset: bool) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def refuse() -> None:
            connection, dummy = listener.accept()
            connection.recv(100)
            if reset:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            connection.close()

        server = threading.Thread(target=refuse)
        server.start()
        given = {"host": "127.0.0.1", "port": listener.getsockname()[1], "password": PASSWORD, "tls": False, "timeout": 5}
        answer = run_module(importlib.import_module(MODULE).main, given)
        server.join(10)
    assert "It ended the conversation, as a server does that wants TLS (tls: true) or has too many clients." in answer["msg"]
