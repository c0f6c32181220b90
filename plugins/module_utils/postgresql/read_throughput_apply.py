# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Several clients that read the same row again and again, and who answered them."""

from __future__ import annotations

import subprocess
import tempfile
import time
from collections import Counter
from contextlib import ExitStack
from typing import Any

from ansible_collections.uptier.platform.plugins.module_utils.postgresql.psql import Psql

READ = "SELECT coalesce(host(inet_server_addr()), 'local') FROM pg_class WHERE oid = 1259;"
CONNECT_SECONDS = 5  # a pooler may keep its clients waiting


def count(given: dict[str, Any], seconds: float) -> tuple[Counter[str], float, str]:
    """Read for so many seconds; return answers by server, the seconds that it took, and what the first unhappy client said."""
    psql = Psql([(given["host"], given["port"])], given, name="pg_read_throughput", connect_seconds=CONNECT_SECONDS)
    answers: Counter[str] = Counter()
    problem = ""
    with ExitStack() as stack:
        clients = []
        started = time.monotonic()
        for dummy in range(given["clients"]):
            out, err = (stack.enter_context(tempfile.TemporaryFile("w+")) for dummy in range(2))
            # psql asks the next question once it has the answer, and `yes` never runs out of questions.
            # AnsibleModule.run_command waits for one program; these run side by side.
            source = subprocess.Popen(["yes", READ], stdout=subprocess.PIPE)  # pylint: disable=ansible-bad-function
            stack.callback(source.kill)
            client = subprocess.Popen(  # pylint: disable=ansible-bad-function
                psql.command, stdin=source.stdout, stdout=out, stderr=err, env=psql.environment, cwd="/"
            )
            stack.callback(client.kill)
            clients.append((source, client, out, err))
        while time.monotonic() - started < seconds and all(client.poll() is None for source, client, out, err in clients):
            time.sleep(0.05)
        ended = [client.poll() for source, client, out, err in clients]
        taken = time.monotonic() - started
        for (source, client, out, err), status in zip(clients, ended, strict=True):
            for process in (source, client):
                process.kill()
                process.wait()
            out.seek(0)
            answers.update(line.strip() for line in out if line.endswith("\n"))
            if status is not None and not problem:
                err.seek(0)
                problem = err.read().strip() or f"psql ended with {status}"
    return answers, taken, problem
