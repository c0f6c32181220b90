# SPDX-License-Identifier: GPL-3.0-or-later
"""Write every notification as one line of JSON: when, by which path, which alerts."""

import json
import time
from http.server import BaseHTTPRequestHandler, HTTPServer


class Receiver(BaseHTTPRequestHandler):
    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with open("/run/received.jsonl", "a", encoding="utf-8") as stream:
            stream.write(json.dumps({"at": time.time(), "path": self.path, "status": body["status"], "alerts": body["alerts"]}) + "\n")
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_):
        pass


HTTPServer(("127.0.0.1", 9999), Receiver).serve_forever()
