# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Open a websocket to demo.test on this host, send a word through it and print what comes back."""

from __future__ import annotations

import socket
import ssl

REQUEST = (
    "GET /socket HTTP/1.1\r\nHost: demo.test\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)

context = ssl.create_default_context(cafile="/root/authorities.pem")
with context.wrap_socket(socket.create_connection(("127.0.0.1", 443), 60), server_hostname="demo.test") as connection:
    connection.sendall(REQUEST.encode())
    head = b""
    while b"\r\n\r\n" not in head:
        head += connection.recv(1)
    print(head.decode().splitlines()[0])
    connection.sendall(b"echo-me")
    print(connection.recv(64).decode())
