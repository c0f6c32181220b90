# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""PostgreSQL through psql on the local socket, statements on standard input."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from ansible_collections.uptier.platform.plugins.module_utils.postgresql.objects import Statement

# Verifiers are no passwords, yet they do not belong into a log either.
QUIET = "SET log_statement = 'none'; SET log_min_duration_statement = -1; SET log_min_error_statement = 'panic';\n"


class Server:
    """psql on the local socket."""

    def __init__(self, module: Any) -> None:
        self.module = module
        parameters = module.params
        self.command = ["runuser", "-u", parameters["user"], "--", parameters["psql"]]
        self.command += ["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-p", str(parameters["port"])]

    def run(self, database: str, sql: str, single: bool = False) -> str:
        command = [*self.command, "-d", database, *(["--single-transaction"] if single else []), "-f", "-"]
        code, out, err = self.module.run_command(command, data=sql, cwd="/")
        if code:
            self.module.fail_json(
                msg=f"PostgreSQL on this host refused, in the database {database}: {err.strip() or f'psql ended with {code}'}",
                reason="not_reachable" if code == 2 else "sql_failed",
            )
        return out

    def read(self, database: str, query: str) -> Any:
        return json.loads(self.run(database, QUIET + query))

    def apply(self, database: str, statements: Iterable[Statement], single: bool = True) -> None:
        text = "".join(f"{statement.sql};\n" for statement in statements)
        if text:
            self.run(database, QUIET + text, single)
