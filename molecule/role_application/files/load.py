# SPDX-License-Identifier: GPL-3.0-or-later
"""load.py NAME PATH ADDRESS...: ask routers for a path ten times a second, as a gateway does, and write down what came in /run/NAME.json.

It ends when /run/NAME.stop is there, or after half an hour. After the stop it asks as often again as tests want to have seen the last
release, however slow the machine is.
"""

import collections
import http.client
import json
import os
import ssl
import sys
import time

LAST = 8
context = ssl.create_default_context(cafile="/etc/uptier/pki/ca.crt")
context.load_cert_chain("/etc/uptier/pki/host.crt", "/etc/uptier/pki/host.key")
name, path, *addresses = sys.argv[1:]
seen = collections.Counter()
connections = {}
end = time.monotonic() + 1800
left = LAST
while left and time.monotonic() < end:
    left -= os.path.exists(f"/run/{name}.stop")
    for address in addresses:
        try:
            if address not in connections:
                connections[address] = http.client.HTTPSConnection(address, 8443, timeout=30, context=context)
            connections[address].request("GET", path, headers={"Host": "demo.test"})
            answer = connections[address].getresponse()
            body = answer.read()
            seen[json.loads(body)["app"]["version"] if answer.status == 200 else f"status {answer.status}"] += 1
        except (OSError, http.client.HTTPException, ValueError) as error:
            seen[f"{type(error).__name__}: {error}"] += 1
            connections.pop(address).close()
    time.sleep(0.1)
with open(f"/run/{name}.new", "w", encoding="ascii") as target:
    json.dump(seen, target)
os.replace(f"/run/{name}.new", f"/run/{name}.json")
