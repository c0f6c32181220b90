# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""PgBouncer's console, by a stand-in that speaks as it does; the scenario of the exporters has a real one."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from ansible_collections.uptier.platform.plugins.module_utils.postgresql.console import Console
from ansible_collections.uptier.platform.plugins.module_utils.postgresql.session import SessionError, SqlError


def message(kind: bytes, body: bytes = b"") -> bytes:
    return kind + struct.pack("!i", len(body) + 4) + body


def named(*names: str) -> bytes:
    return message(b"T", struct.pack("!h", len(names)) + b"".join(name.encode() + bytes(19) for name in names))


def row(*values: str | None) -> bytes:
    parts = [struct.pack("!i", -1) if value is None else struct.pack("!i", len(value)) + value.encode() for value in values]
    return message(b"D", struct.pack("!h", len(values)) + b"".join(parts))


READY = message(b"Z", b"I")
WELCOME = message(b"R", struct.pack("!i", 0)) + message(b"S", b"server_version\x001.24.0\x00") + READY


@pytest.fixture
def console(tmp_path: Path) -> Iterator[Callable[..., str]]:
    """Start a console that gives these answers, one to each thing that it hears; return its address."""
    listener = socket.socket(socket.AF_UNIX)
    path = str(tmp_path / "console")

    def start(*answers: bytes) -> str:
        def serve() -> None:
            client, dummy = listener.accept()
            with client:
                for answer in answers:
                    heard.append(client.recv(65536))
                    client.sendall(answer)
                client.recv(65536)

        listener.bind(path)
        listener.listen()
        threading.Thread(target=serve, daemon=True).start()
        return path

    heard: list[bytes] = []
    start.heard = heard  # type: ignore[attr-defined]
    with listener:
        yield start


def test_rows_have_the_names_of_their_columns(console: Callable[..., str]) -> None:
    pools = named("database", "cl_active", "note") + row("shop", "3", None) + row("shop_ro", "0", "x") + message(b"C", b"SHOW\0") + READY
    with Console(console(WELCOME, pools), "pgbouncer") as session:
        assert session.show("POOLS") == [
            {"database": "shop", "cl_active": "3", "note": ""},
            {"database": "shop_ro", "cl_active": "0", "note": "x"},
        ]
    assert console.heard[1] == message(b"Q", b"SHOW POOLS\0")  # type: ignore[attr-defined]


def test_a_password_is_given_to_nobody_in_clear_text(console: Callable[..., str]) -> None:
    address = console(message(b"R", struct.pack("!i", 3)))
    with pytest.raises(SessionError, match="asks for a password in clear text, not for SCRAM") as caught:
        Console(address, "stats", "secret")
    assert caught.value.reason == "no_scram"
    assert b"secret" not in b"".join(console.heard)  # type: ignore[attr-defined]


def test_what_the_console_refuses(console: Callable[..., str]) -> None:
    refused = message(b"E", b"SERROR\0C42501\0Madmin access needed\0\0") + READY
    with Console(console(WELCOME, refused), "stats") as session, pytest.raises(SqlError, match="admin access needed"):
        session.show("CONFIG")


def test_a_console_that_says_nothing_more(console: Callable[..., str]) -> None:
    with Console(console(WELCOME), "pgbouncer", seconds=0.2) as session, pytest.raises(SessionError) as caught:
        session.show("POOLS")
    assert caught.value.reason in ("no_answer", "connection_lost")


def test_no_console() -> None:
    with pytest.raises(SessionError, match="No PgBouncer answers at 127.0.0.1:1"):
        Console(("127.0.0.1", 1), "pgbouncer")
