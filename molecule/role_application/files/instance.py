# SPDX-License-Identifier: GPL-3.0-or-later
"""Stands in for an instance: says who it is; /up is 503 while /run/draining-PORT is there, /die ends it without an answer once."""

import http.server
import os
import sys

PORT = int(sys.argv[1])


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        if self.path == "/die" and not os.path.exists("/run/died"):
            open("/run/died", "w").close()
            self.close_connection = True
            self.connection.close()
            return
        status = 503 if self.path == "/up" and os.path.exists(f"/run/draining-{PORT}") else 200
        body = f"{PORT} {self.path}".encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments):
        pass


class Server(http.server.ThreadingHTTPServer):
    request_queue_size = 128  # whoever gets no processor for a moment turns nobody away


Server(("127.0.0.1", PORT), Handler).serve_forever()
