# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Takes a cluster of Debian's kind over where it lies. Each step can be the last one of a run that was killed: the next run goes on."""

from __future__ import annotations

import json
import os
import pwd
import shutil
import time
from typing import Any

from ansible_collections.uptier.platform.plugins.module_utils.host.files import replace_file
from ansible_collections.uptier.platform.plugins.module_utils.postgresql import adopt
from ansible_collections.uptier.platform.plugins.module_utils.postgresql.deadline import Deadline
from ansible_collections.uptier.platform.plugins.module_utils.postgresql.errors import PostgresqlError

PATRONI = "patroni.service"


class Cluster:
    """The cluster `main` of one version on this host."""

    def __init__(self, module: Any, version: str, port: int) -> None:
        """`port` is where the server listens once it is the platform's."""
        self.module, self.version, self.port = module, version, port
        self.data = f"{adopt.HOME}{version}/main"
        self.config = f"/etc/postgresql/{version}/main"
        self.kept = f"{adopt.HOME}{version}/adopted"
        self.seen = f"{self.kept}/seen.json"

    @property
    def is_somebodys(self) -> bool:
        """Tell whether there is one that Debian's tools run. The step that makes it the platform's takes its configuration away."""
        return os.path.isdir(self.config) and os.path.exists(f"{self.data}/PG_VERSION")

    @property
    def waits_for_patroni(self) -> bool:
        """Tell whether an earlier run was killed when it had taken the cluster and not started Patroni.

        Another member that is started first would make an empty cluster of the same name.
        """
        if not os.path.isdir(f"{self.kept}/etc") or not os.path.exists(f"{self.data}/PG_VERSION"):
            return False
        return bool(self.module.run_command(["systemctl", "is-active", "--quiet", PATRONI])[0])

    def run(self, *command: str) -> str:
        code, out, err = self.module.run_command(list(command), cwd="/")
        if code:
            said = (err or out).strip() or "no output"
            raise PostgresqlError("adoption_failed", f"{' '.join(command)} ended with {code}: {said}")
        return str(out).strip()

    def port_now(self) -> int:
        """Return the port on which it runs now; 0 where it does not."""
        for line in self.run("pg_lsclusters", "--no-header").splitlines():
            version, name, port, state = line.split()[:4]
            if (version, name) == (self.version, "main"):
                return int(port) if state.startswith("online") else 0
        return 0

    def ask(self, question: str, port: int, database: str = "postgres") -> str:
        return self.run(
            *("runuser", "-u", "postgres", "--", "psql", "-XqAtw", "-v", "ON_ERROR_STOP=1"),
            *("-h", "/run/postgresql", "-p", str(port), "-d", database, "-c", question),
        )

    def examine(self, port: int, preload: list[str]) -> dict[str, Any]:
        """Return what the running server says of itself; refuse where something would be lost."""
        seen = json.loads(self.ask(adopt.QUESTION, port))
        missing = {name: json.loads(self.ask(adopt.MISSING, port, name)) for name in seen["databases"]}
        obstacles = adopt.obstacles(seen, self.version, self.data, preload, missing)
        if obstacles:
            raise PostgresqlError(
                "not_adoptable", f"The cluster {self.version}/main was not adopted, and runs as before. {' '.join(obstacles)}"
            )
        return seen

    def begun(self) -> dict[str, Any] | None:
        """Return what an earlier run saw before it stopped the server."""
        try:
            with open(self.seen, encoding="utf-8") as stream:
                return dict(json.load(stream))
        except (OSError, ValueError):
            return None

    def keep(self, seen: dict[str, Any]) -> None:
        """Copy its configuration aside, and put the file there that Patroni begins with."""
        owner = pwd.getpwnam("postgres")
        os.makedirs(self.kept, mode=0o700, exist_ok=True)
        os.chown(self.kept, owner.pw_uid, owner.pw_gid)
        for path, text in ((f"{self.data}/postgresql.conf", adopt.base_configuration(seen)), (self.seen, json.dumps(seen, indent=1))):
            replace_file(path, text, 0o600, owner.pw_uid, owner.pw_gid)

    def take(self, timeout: int) -> float:
        """Stop it, take its configuration away from Debian's tools, and have Patroni lead it. Returns the seconds without a server."""
        begun = time.monotonic()
        if self.port_now():
            self.run("pg_ctlcluster", self.version, "main", "stop", "--mode=fast", "--", f"--timeout={timeout}")
        # Before the move: what was enabled would look for it at the next boot.
        self.run("systemctl", "daemon-reload")
        place = f"{self.kept}/etc"
        if os.path.isdir(self.config):
            if os.path.isdir(place):
                shutil.rmtree(place)
            shutil.move(self.config, place)
        self.run("systemctl", "enable", "--now", PATRONI)
        deadline, last = Deadline(timeout), "no answer"
        while not deadline.passed:
            try:
                if self.ask("SELECT NOT pg_is_in_recovery()", self.port) == "t":
                    return time.monotonic() - begun
                last = "it does not take writes yet"
            except PostgresqlError as error:
                last = str(error)
            time.sleep(0.2)
        raise PostgresqlError(
            "no_leader",
            f"Patroni has started on {self.data}, and PostgreSQL took no writes within {timeout} s ({last}). Its data is untouched; "
            "`journalctl -u patroni` says why. The next run goes on here.",
        )
