# SPDX-License-Identifier: GPL-3.0-or-later
"""Stands in for a database server: port 5432 says its name while /run/postmaster is there, Patroni's port says /run/role.

Routers look at both ports every second for as long as the scenario lasts, so nothing here outlives its connection.
"""

import contextlib
import http.server
import os
import selectors
import socket
import ssl
import threading

NAME = socket.gethostname().encode() + b"\n"


class Patroni(http.server.BaseHTTPRequestHandler):
    def do_OPTIONS(self):
        with open("/run/role", encoding="ascii") as source:
            role = source.read()
        self.send_response(200 if self.path.split("?")[0] == f"/{role}" else 503)
        self.end_headers()

    def log_message(self, *arguments):
        pass


class Server(http.server.ThreadingHTTPServer):
    request_queue_size = 128

    def finish_request(self, request, client_address):
        request.settimeout(10)
        super().finish_request(context.wrap_socket(request, server_side=True), client_address)

    def handle_error(self, request, client_address):
        pass


class Postmaster:
    """Greets whoever connects, and keeps the connection until either side ends it: one thread for all of them."""

    def __init__(self):
        self.selector = selectors.DefaultSelector()
        self.listener = None

    def serve(self):
        while True:
            alive = os.path.exists("/run/postmaster")
            if alive and self.listener is None:
                self.listener = socket.create_server(("0.0.0.0", 5432), reuse_port=True, backlog=128)
                self.listener.setblocking(False)
                self.selector.register(self.listener, selectors.EVENT_READ)
            elif not alive and self.listener is not None:
                for key in list(self.selector.get_map().values()):
                    self.end(key.fileobj)
                self.listener = None
            for key, dummy in self.selector.select(0.2):
                if key.fileobj is self.listener:
                    self.greet()
                elif not self.spoken(key.fileobj):
                    self.end(key.fileobj)

    def greet(self):
        with contextlib.suppress(OSError):  # whoever has gone again
            connection, dummy = self.listener.accept()
            connection.setblocking(False)
            self.selector.register(connection, selectors.EVENT_READ)
            connection.sendall(NAME)

    @staticmethod
    def spoken(connection):
        """Tell whether the client said something, and did not end the connection."""
        try:
            return connection.recv(4096) != b""
        except OSError:
            return False

    def end(self, connection):
        self.selector.unregister(connection)
        connection.close()


def write(name, text):
    """Put a file down whole: it is read all the time."""
    with open(f"/run/{name}.new", "w", encoding="ascii") as target:
        target.write(text)
    os.replace(f"/run/{name}.new", f"/run/{name}")


if __name__ == "__main__":
    write("role", "replica" if socket.gethostname().endswith("2") else "primary")
    write("postmaster", "")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain("/etc/uptier/pki/host.crt", "/etc/uptier/pki/host.key")
    context.load_verify_locations("/etc/uptier/pki/ca.crt")
    context.verify_mode = ssl.CERT_REQUIRED
    threading.Thread(target=Server(("0.0.0.0", 8008), Patroni).serve_forever, daemon=True).start()
    Postmaster().serve()
