# SPDX-License-Identifier: GPL-3.0-or-later
"""A user of the platform: HTTPS to one address under a given name, verified against the platform's authority."""

from __future__ import annotations

import http.client
import json
import socket
import ssl
import threading
import time
from pathlib import Path
from typing import Any

from .gaps import longest_gap


class Answer:
    def __init__(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.status, self.headers, self.body = status, headers, body

    def json(self) -> Any:
        return json.loads(self.body)


class _Connection(http.client.HTTPSConnection):
    """Connects to an address and verifies a name, as a client does whose resolver knows the name."""

    def __init__(self, address: str, name: str, context: ssl.SSLContext, timeout: float) -> None:
        super().__init__(name, 443, timeout=timeout, context=context)
        self._address, self._tls = address, context

    def connect(self) -> None:
        plain = socket.create_connection((self._address, 443), self.timeout)
        self.sock = self._tls.wrap_socket(plain, server_hostname=self.host)


class User:
    def __init__(self, address: str, name: str, authority: Path, timeout: float = 5) -> None:
        self.address, self.name, self.authority, self.timeout = address, name, authority, timeout
        self.context = ssl.create_default_context(cafile=str(authority))

    def request(self, method: str, path: str, body: Any = None) -> Answer:
        connection = _Connection(self.address, self.name, self.context, self.timeout)
        try:
            data = None if body is None else json.dumps(body)
            connection.request(method, path, data, {"Content-Type": "application/json"} if data else {})
            answer = connection.getresponse()
            return Answer(answer.status, {key.lower(): value for key, value in answer.getheaders()}, answer.read())
        finally:
            connection.close()

    def get(self, path: str) -> Answer:
        return self.request("GET", path)


class Watcher(threading.Thread):
    """GETs one path again and again until told to stop (and never longer than `limit` seconds)."""

    def __init__(self, user: User, path: str, pause: float = 0.05, limit: float = 180) -> None:
        super().__init__(daemon=True)
        self.user, self.path, self.pause, self.limit = user, path, pause, limit
        self.failures: list[str] = []
        self.count = 0
        self.longest_gap = 0.0
        self._halt = threading.Event()

    def run(self) -> None:
        start = time.monotonic()
        moments: list[float] = []
        while not self._halt.is_set() and time.monotonic() - start < self.limit:
            self.count += 1
            try:
                status = self.user.get(self.path).status
                if status != 200:
                    raise OSError(f"status {status}")
                moments.append(time.monotonic())
            except (OSError, http.client.HTTPException) as error:
                self.failures.append(f"{time.monotonic() - start:.2f} s: {type(error).__name__}: {error}")
            self._halt.wait(self.pause)
        self.longest_gap = longest_gap([*moments, time.monotonic()], start) or 0.0

    def finish(self) -> None:
        self._halt.set()
        self.join(30)
