# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Let one host run a job that several have. Started by the job's unit, with the application's environment.

run_once.py claim UNIT SECONDS SCHEDULE    before the job, which takes SECONDS at most: 0 lets it run here, 1 does not
run_once.py release UNIT                   after it

Ends with 255 where nobody can be asked: the unit fails, since a job that runs twice does more harm than one that is late.
"""

from __future__ import annotations

import os
import ssl
import subprocess
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

from ansible_collections.uptier.platform.plugins.module_utils.application.job import Claims, JobError, coming
from ansible_collections.uptier.platform.plugins.module_utils.redis.resp import Connection, Tls, Unreachable
from ansible_collections.uptier.platform.plugins.module_utils.redis.server import Managed

# For what is done before and after the job itself.
MARGIN = 60
SECONDS = 5.0
# A failover of the cache takes less; nobody may come back for a job that is due once a day.
PATIENCE = 20.0


def context(environment: Mapping[str, str]) -> ssl.SSLContext | None:
    """Return how connections are encrypted and verified: a provider's as the platform's own questions to it are; None for clear text."""
    ca = environment.get("REDIS_TLS_CA")
    if not ca:
        return None
    if environment.get("REDIS_TLS_MIN_VERSION"):
        return Managed("", 0, "", "", ca=Path(ca).read_text(encoding="utf-8")).context()
    return Tls(ca).context()


def claims(environment: Mapping[str, str]) -> Claims:
    """Return what speaks to the application's Redis, from the environment that its services have."""
    nodes = []
    for node in filter(None, environment.get("REDIS_NODES", "").split(",")):
        host, dummy, port = node.strip().rpartition(":")
        nodes.append((host, int(port)))

    def dial(host: str, port: int) -> Connection:
        return Connection(
            host, port, context(environment), environment.get("REDIS_USERNAME", ""), environment.get("REDIS_PASSWORD", ""), SECONDS
        )

    return Claims(nodes, dial, PATIENCE)


def schedule(text: str, environment: Mapping[str, str]) -> str:
    """Return what systemd says about a schedule; its zone is the host's, as for the timer, not the application's."""
    own = {name: value for name, value in environment.items() if name != "TZ"}
    command = ["systemd-analyze", "calendar", "--iterations=1", text]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30, env={**own, "LC_ALL": "C"})
    return done.stdout + done.stderr


def main() -> int:
    """Do what the arguments say; return the status for systemd."""
    word, unit, *more = sys.argv[1:]
    environment = os.environ
    key = f"{environment.get('REDIS_PREFIX', '')}cron:{unit}"
    holder = f"{environment.get('APP_HOST', 'unknown')} {environment.get('INVOCATION_ID', '')}"
    try:
        if word == "release":
            claims(environment).release(key, holder, datetime.now(UTC))
            return 0
        run = coming(schedule(more[1], environment), more[1])
        outcome = claims(environment).claim(key, run, int(more[0]) + MARGIN, holder, datetime.now(UTC))
    except (JobError, Unreachable, OSError, subprocess.TimeoutExpired) as error:
        print(f"{unit} {'is not run' if word == 'claim' else 'may be run again later than necessary'}: {error}", file=sys.stderr)
        return 255 if word == "claim" else 0
    if not outcome.runs:
        print(f"{unit} is not run here: {outcome.why}")
    return 0 if outcome.runs else 1


if __name__ == "__main__":
    sys.exit(main())
