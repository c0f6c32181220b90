# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""RESP, the protocol of Redis, over a stdlib socket with TLS. Nothing but the standard library."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

INCOMPLETE = object()


class RespError(Exception):
    """Redis answered with an error; `code` is its first word (NOAUTH, WRONGPASS, MOVED, ERR, ...)."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.code = message.split(" ", 1)[0]


class Unreachable(Exception):
    """No conversation was possible; `reason` is refused, timeout, tls, closed or network."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


@dataclass(frozen=True)
class Tls:
    """What a client trusts and shows. Without `cert` it shows no certificate."""

    ca: str
    cert: str = ""
    key: str = ""

    def context(self) -> ssl.SSLContext:
        """Verify the server's certificate and its name; speak TLS 1.3 only."""
        try:
            context = ssl.create_default_context(ssl.Purpose.SERVER_AUTH, cafile=self.ca)
            context.minimum_version = ssl.TLSVersion.TLSv1_3
            if self.cert:
                context.load_cert_chain(self.cert, self.key or None)
        except (OSError, ssl.SSLError) as error:
            raise Unreachable("tls", f"the TLS files {self.ca}, {self.cert}, {self.key} cannot be used: {error}") from error
        return context


def encode(*arguments: str | bytes | int) -> bytes:
    """Return one command as Redis reads it: an array of bulk strings."""
    parts = [b"*%d\r\n" % len(arguments)]
    for argument in arguments:
        data = argument if isinstance(argument, bytes) else str(argument).encode("utf-8", "surrogateescape")
        parts.append(b"$%d\r\n%s\r\n" % (len(data), data))
    return b"".join(parts)


def parse_info(text: str) -> dict[str, str]:
    """Read the answer of INFO and CLUSTER INFO."""
    pairs = (line.partition(":") for line in text.splitlines() if ":" in line and not line.startswith("#"))
    return {name: value.strip() for name, dummy, value in pairs}


class Parser:
    """Takes bytes in whatever pieces they come, gives whole replies."""

    def __init__(self) -> None:
        self.buffer = b""

    def feed(self, data: bytes) -> None:
        self.buffer += data

    def take(self) -> Any:
        """Return the next whole reply, or INCOMPLETE. An error reply is returned as a RespError, not raised."""
        value, end = self._read(0)
        if value is not INCOMPLETE:
            self.buffer = self.buffer[end:]
        return value

    def _read(self, start: int) -> tuple[Any, int]:
        stop = self.buffer.find(b"\r\n", start)
        if stop < 0:
            return INCOMPLETE, start
        kind, rest, after = self.buffer[start : start + 1], self.buffer[start + 1 : stop], stop + 2
        if kind == b"+":
            return rest.decode("utf-8", "surrogateescape"), after
        if kind == b"-":
            return RespError(rest.decode("utf-8", "surrogateescape")), after
        if kind == b":":
            return int(rest), after
        if kind == b"$":
            return self._bulk(int(rest), after)
        if kind == b"*":
            return self._array(int(rest), after)
        raise Unreachable("protocol", f"the answer is not RESP: it begins with {self.buffer[start : start + 16]!r}")

    def _bulk(self, length: int, start: int) -> tuple[Any, int]:
        if length < 0:
            return None, start
        if len(self.buffer) < start + length + 2:
            return INCOMPLETE, start
        return self.buffer[start : start + length].decode("utf-8", "surrogateescape"), start + length + 2

    def _array(self, length: int, start: int) -> tuple[Any, int]:
        if length < 0:
            return None, start
        items = []
        for dummy in range(length):
            item, start = self._read(start)
            if item is INCOMPLETE:
                return INCOMPLETE, start
            items.append(item)
        return items, start


class Connection:
    """One authenticated connection. Use it as a context manager. An address that begins with a slash is a socket's path."""

    def __init__(
        self,
        address: str,
        port: int,
        context: ssl.SSLContext | None = None,
        username: str = "",
        password: str = "",
        timeout: float = 5.0,
    ) -> None:
        self.endpoint = address if address.startswith("/") else f"{address}:{port}"
        self.parser = Parser()
        plain = None
        try:
            if address.startswith("/"):
                plain = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
                plain.settimeout(timeout)
                plain.connect(address)
            else:
                plain = socket.create_connection((address, port), timeout)
                plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.socket = context.wrap_socket(plain, server_hostname=address) if context else plain
        except OSError as error:
            if plain is not None:
                plain.close()
            raise self._unreachable(error) from error
        try:
            if password:
                self.call("AUTH", *([username] if username else []), password)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Connection:
        return self

    def __exit__(self, *dummy: object) -> None:
        self.close()

    def close(self) -> None:
        self.socket.close()

    def call(self, *arguments: str | bytes | int) -> Any:
        """Send one command and return its reply; an error reply is raised as RespError."""
        (reply,) = self.pipeline([arguments])
        if isinstance(reply, RespError):
            raise reply
        return reply

    def pipeline(self, commands: Sequence[Sequence[str | bytes | int]]) -> list[Any]:
        """Send commands at once and return their replies in order; an error reply is returned as a RespError, not raised."""
        replies: list[Any] = []
        try:
            self.socket.sendall(b"".join(encode(*command) for command in commands))
            while len(replies) < len(commands):
                while (reply := self.parser.take()) is INCOMPLETE:
                    data = self.socket.recv(65536)
                    if not data:
                        raise Unreachable("closed", f"{self.endpoint} closed the connection")
                    self.parser.feed(data)
                replies.append(reply)
        except OSError as error:
            raise self._unreachable(error) from error
        return replies

    def patience(self, seconds: float) -> None:
        """Wait so long for the next replies, where that is longer than now."""
        self.socket.settimeout(max(seconds, self.socket.gettimeout() or 0.0))

    def _unreachable(self, error: OSError) -> Unreachable:
        if isinstance(error, ssl.SSLCertVerificationError):
            return Unreachable("tls", f"{self.endpoint} shows a certificate that is not accepted: {error.verify_message}")
        if isinstance(error, ssl.SSLError):
            return Unreachable("tls", f"{self.endpoint} does not speak TLS as expected: {error.reason or error}")
        if isinstance(error, (TimeoutError, socket.timeout)):
            return Unreachable("timeout", f"{self.endpoint} did not answer in time")
        if isinstance(error, ConnectionRefusedError):
            return Unreachable("refused", f"nothing listens on {self.endpoint}")
        return Unreachable("network", f"{self.endpoint}: {error.strerror or error}")
