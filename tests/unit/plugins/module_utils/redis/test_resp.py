# SPDX-License-Identifier: GPL-3.0-or-later
"""RESP: what is sent, what is read in whatever pieces it comes, and what a failed conversation is called."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from ansible_collections.uptier.platform.plugins.module_utils.redis.resp import (
    INCOMPLETE,
    Connection,
    Parser,
    RespError,
    Tls,
    Unreachable,
    encode,
)
from hypothesis import given
from hypothesis import strategies as st


def test_encode_counts_bytes_not_characters() -> None:
    assert encode("SET", "schlüssel", 7) == b"*3\r\n$3\r\nSET\r\n$10\r\nschl\xc3\xbcssel\r\n$1\r\n7\r\n"
    assert encode("SET", b"\x00\r\n") == b"*2\r\n$3\r\nSET\r\n$3\r\n\x00\r\n\r\n"


def wire(value: object) -> bytes:
    if value is None:
        return b"$-1\r\n"
    if isinstance(value, int):
        return b":%d\r\n" % value
    if isinstance(value, list):
        return b"*%d\r\n" % len(value) + b"".join(wire(item) for item in value)
    data = str(value).encode()
    return b"$%d\r\n%s\r\n" % (len(data), data)


VALUES = st.recursive(
    st.none() | st.integers(-(2**63), 2**63 - 1) | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=5),
)


@given(st.lists(VALUES, min_size=1, max_size=4), st.integers(1, 7))
def test_replies_are_read_in_any_pieces(values: list[object], size: int) -> None:
    parser, data, found = Parser(), b"".join(wire(value) for value in values), []
    for start in range(0, len(data), size):
        parser.feed(data[start : start + size])
        while (reply := parser.take()) is not INCOMPLETE:
            found.append(reply)
    assert found == values
    assert parser.buffer == b""


def test_an_error_reply_knows_its_code() -> None:
    parser = Parser()
    parser.feed(b"-WRONGPASS invalid username-password pair\r\n+OK\r\n*-1\r\n")
    error = parser.take()
    assert isinstance(error, RespError)
    assert error.code == "WRONGPASS"
    assert [parser.take(), parser.take()] == ["OK", None]


def test_what_is_not_resp_is_named() -> None:
    parser = Parser()
    parser.feed(b"HTTP/1.1 400 Bad Request\r\n")
    with pytest.raises(Unreachable, match="not RESP") as caught:
        parser.take()
    assert caught.value.reason == "protocol"


@contextmanager
def server(answer: Callable[[socket.socket], None]) -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            connection, dummy = listener.accept()
            with connection:
                answer(connection)

        thread = threading.Thread(target=serve)
        thread.start()
        yield listener.getsockname()[1]
        thread.join(5)


def test_login_and_command() -> None:
    seen = []

    def answer(connection: socket.socket) -> None:
        for reply in (b"+OK\r\n", b"+PONG\r\n"):
            seen.append(connection.recv(1000))
            connection.sendall(reply)

    with server(answer) as port, Connection("127.0.0.1", port, username="admin", password="secret") as connection:
        assert connection.call("PING") == "PONG"
    assert seen == [encode("AUTH", "admin", "secret"), encode("PING")]


def test_a_refused_login_is_an_error_reply() -> None:
    def answer(connection: socket.socket) -> None:
        connection.recv(1000)
        connection.sendall(b"-WRONGPASS no\r\n")

    with server(answer) as port, pytest.raises(RespError):
        Connection("127.0.0.1", port, password="wrong")


def test_a_peer_that_hangs_up_is_unreachable() -> None:
    with server(lambda connection: None) as port, Connection("127.0.0.1", port) as connection, pytest.raises(Unreachable) as caught:
        connection.call("PING")
    assert caught.value.reason in ("closed", "network")


def test_a_silent_peer_is_a_timeout() -> None:
    done = threading.Event()
    with server(lambda connection: done.wait(5)) as port:
        with Connection("127.0.0.1", port, timeout=0.05) as connection, pytest.raises(Unreachable) as caught:
            connection.call("PING")
        done.set()
    assert caught.value.reason == "timeout"


def test_nobody_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(Unreachable, match="nothing listens") as caught:
        Connection("127.0.0.1", port)
    assert caught.value.reason == "refused"


def test_missing_tls_files_are_named() -> None:
    with pytest.raises(Unreachable, match="/nowhere/ca.crt") as caught:
        Tls("/nowhere/ca.crt").context()
    assert caught.value.reason == "tls"
