# SPDX-License-Identifier: GPL-3.0-or-later
"""Stands in for a database server: port 5432 says its name while /run/postmaster is there, Patroni's port says /run/role."""

import http.server
import os
import socket
import ssl
import threading
import time

for name, text in (("role", "replica" if socket.gethostname().endswith("2") else "primary"), ("postmaster", "")):
    with open(f"/run/{name}", "w", encoding="ascii") as target:
        target.write(text)


class Patroni(http.server.BaseHTTPRequestHandler):
    def do_OPTIONS(self):
        with open("/run/role", encoding="ascii") as source:
            role = source.read()
        self.send_response(200 if self.path.split("?")[0] == f"/{role}" else 503)
        self.end_headers()

    def log_message(self, *arguments):
        pass


class Server(http.server.ThreadingHTTPServer):
    def finish_request(self, request, client_address):
        request.settimeout(5)
        super().finish_request(context.wrap_socket(request, server_side=True), client_address)

    def handle_error(self, request, client_address):
        pass


context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain("/etc/uptier/pki/host.crt", "/etc/uptier/pki/host.key")
context.load_verify_locations("/etc/uptier/pki/ca.crt")
context.verify_mode = ssl.CERT_REQUIRED
threading.Thread(target=Server(("0.0.0.0", 8008), Patroni).serve_forever, daemon=True).start()


def serve(connection):
    with connection:
        connection.sendall(socket.gethostname().encode() + b"\n")
        while os.path.exists("/run/postmaster"):
            time.sleep(0.1)


listener = None
while True:
    alive = os.path.exists("/run/postmaster")
    if alive and listener is None:
        listener = socket.create_server(("0.0.0.0", 5432), reuse_port=True)
        listener.settimeout(0.1)
    if not alive and listener is not None:
        listener.close()
        listener = None
    if listener is None:
        time.sleep(0.1)
        continue
    try:
        accepted, dummy = listener.accept()
    except TimeoutError:
        continue
    threading.Thread(target=serve, args=(accepted,), daemon=True).start()
