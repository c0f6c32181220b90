# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Runs on a test host, after the text of module_utils/redis/resp.py: a small client that follows the cluster."""
# ruff: noqa: F821

# Tls, Connection and their errors stand in front of this text when it runs.
# pylint: disable=undefined-variable
import itertools
import json
import sys
import threading
import time

CONTEXT = Tls("/etc/uptier/pki/ca.crt").context()


class Client:
    """Follows one key: asks any node who has its slot, writes there, asks again after an error."""

    def __init__(self, seeds, user, password):
        self.seeds, self.user, self.password = [tuple(seed) for seed in seeds], user, password

    def connect(self, seed, timeout=0.5):
        return Connection(*seed, CONTEXT, self.user, self.password, timeout)

    def owner(self, key, number=0):
        for turn in range(len(self.seeds)):
            try:
                with self.connect(self.seeds[(turn + number) % len(self.seeds)]) as connection:
                    slot = connection.call("CLUSTER", "KEYSLOT", key)
                    for first, last, master, *dummy in connection.call("CLUSTER", "SLOTS"):
                        if first <= slot <= last:
                            return master[0], master[1]
            except (Unreachable, RespError):
                continue
        return self.seeds[0]

    def call(self, key, *words):
        with self.connect(self.owner(key), 3) as connection:
            return connection.call(*words)

    def write(self, connection, key, value):
        """Write as a client of a cluster does: for a slot that is on its way, the owner says whom to ask."""
        try:
            connection.call("SET", key, value)
        except RespError as error:
            if error.code != "ASK":
                raise
            address, dummy, port = str(error).split()[2].rpartition(":")
            with self.connect((address, int(port))) as other:
                other.call("ASKING")
                other.call("SET", key, value)

    def watch(self, key, seconds, seen):
        connection, errors, moments, number = None, {}, [], 0
        start = time.monotonic()
        while time.monotonic() - start < seconds:
            try:
                connection = connection or self.connect(self.owner(key, number := number + 1))
                self.write(connection, key, len(moments))
                moments.append(time.monotonic() - start)
            except (Unreachable, RespError) as error:
                errors[str(error)[:60]] = errors.get(str(error)[:60], 0) + 1
                connection = connection and connection.close()
            time.sleep(0.03)
        seen[key] = {"moments": moments, "end": time.monotonic() - start, "errors": errors}


job = json.loads(sys.argv[1])
client = Client(job["seeds"], job["user"], job["password"])
if "watch" in job:
    result = {}
    threads = [threading.Thread(target=client.watch, args=(key, job["seconds"], result)) for key in job["watch"]]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
else:
    result = []
    places = client.seeds if job.get("everywhere") else [job.get("at")]
    for words, at in itertools.product(job["calls"], places):
        try:
            if at:
                with client.connect(tuple(at), 3) as connection:
                    result.append(connection.call(*words))
            else:
                result.append(client.call(words[1], *words))
        except RespError as error:
            result.append(f"ERROR {error}")
        except Unreachable as error:
            result.append(f"UNREACHABLE {error.reason}")
print(json.dumps(result))
