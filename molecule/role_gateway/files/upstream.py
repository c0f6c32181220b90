# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""An application host as the gateway sees it: TLS 1.3, a client certificate is required.

A path that ends in /status/N answers N, an upgrade request is switched and echoed, all else tells what arrived.
"""

from __future__ import annotations

import base64
import hashlib
import json
import socket
import ssl
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

PKI = "/etc/uptier/pki"
GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        if self.headers.get("Upgrade", "").lower() == "websocket":
            self.websocket()
            return
        status = int(self.path.rpartition("/")[2]) if "/status/" in self.path else 200
        body = json.dumps({"host": socket.gethostname(), "path": self.path, "headers": {k.lower(): v for k, v in self.headers.items()}})
        self.answer(status, body.encode())

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.do_GET()

    def answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        if not self.path.startswith("/cached/"):
            self.send_header("Cache-Control", "no-cache")
        if self.path == "/own-policy":
            self.send_header("Content-Security-Policy", "default-src 'self'")
            self.send_header("X-Frame-Options", "DENY")
        self.end_headers()
        self.wfile.write(body)

    def websocket(self) -> None:
        accept = base64.b64encode(hashlib.sha1(self.headers["Sec-WebSocket-Key"].encode() + GUID).digest()).decode()
        self.send_response(101)
        for name, value in (("Upgrade", "websocket"), ("Connection", "Upgrade"), ("Sec-WebSocket-Accept", accept)):
            self.send_header(name, value)
        self.end_headers()
        self.close_connection = True
        self.connection.sendall(self.connection.recv(64))

    def log_message(self, *arguments: object) -> None:
        pass


class Server(ThreadingHTTPServer):
    request_queue_size = 128  # whoever gets no processor for a moment turns nobody away


def main() -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.load_cert_chain(f"{PKI}/host.crt", f"{PKI}/host.key")
    context.load_verify_locations(f"{PKI}/ca.crt")
    context.verify_mode = ssl.CERT_REQUIRED
    server = Server(("0.0.0.0", 8443), Handler)
    server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    server.serve_forever()


if __name__ == "__main__":
    main()
