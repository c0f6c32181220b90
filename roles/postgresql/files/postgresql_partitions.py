# SPDX-License-Identifier: GPL-3.0-or-later
"""Partitions ahead and retention between two runs of Ansible, by the same planner.

postgresql_partitions.py CONFIG [--check] [--now DATE]

CONFIG is JSON: {"server": {"directory", "port", "user", "lock_timeout", ...}, "partitions": [{"database", "table", "interval", ...}],
"metrics": path of a file for node_exporter}. For a server elsewhere also "remote": {"host", "port", "ca": path of the authority,
"owners": who owns which database, "passwords": those of the owners}; the owner of a database looks after its partitions.

The member that leads acts; a member that follows only looks, so that the metrics of all say the same. Ends with 1 when something could
not be done.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ansible_collections.uptier.platform.plugins.module_utils.host.files import replace_file
from ansible_collections.uptier.platform.plugins.module_utils.postgresql.remote import Remote
from ansible_collections.uptier.platform.plugins.module_utils.postgresql.schema import PartitionSpec, parse_now
from ansible_collections.uptier.platform.plugins.module_utils.postgresql.schema_apply import Outcome, Settings, State, bring_about, leads
from ansible_collections.uptier.platform.plugins.module_utils.postgresql.session import Session, SessionError, SqlError

TEXTS = {
    "pg_partitions_run_success": "Whether the last look after partitions came to its end without a problem.",
    "pg_partitions_run_problems": "What the last run could not do.",
    "pg_partitions_last_run_timestamp_seconds": "When the last run ended.",
    "pg_partitions_last_success_timestamp_seconds": "When the last run without a problem ended.",
    "pg_partitions_ahead": "Whole intervals after the current one for which there are partitions.",
    "pg_partitions_premake": "Intervals for which there should be partitions.",
    "pg_partitions_until_timestamp_seconds": "How far partitions reach from now on without a gap.",
    "pg_partitions_interval_seconds": "Time that one partition holds.",
    "pg_partitions_total": "Partitions of the table.",
    "pg_partitions_default_rows": "Rows in the default partition, counted up to 10000.",
}
SUCCESS = "pg_partitions_last_success_timestamp_seconds"
SERIES = re.compile(r"^([a-z_]+)(\{.*\})? (\S+)$", re.MULTILINE)


def quote(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def figures(states: Iterable[State]) -> dict[tuple[str, str], float]:
    """Return the samples of all tables by name and labels."""
    found: dict[tuple[str, str], float] = {}
    for state in states:
        spec = state.spec
        labels = f'{{database="{quote(spec.database)}",table="{quote(f"{spec.schema}.{spec.table}")}"}}'
        for name, value in (
            ("ahead", state.ahead),
            ("premake", spec.premake),
            ("until_timestamp_seconds", state.until),
            ("interval_seconds", state.seconds),
            ("total", state.total),
            ("default_rows", state.default_rows),
        ):
            found[f"pg_partitions_{name}", labels] = value
    return found


def render(samples: dict[tuple[str, str], float]) -> str:
    lines = []
    for name, text in TEXTS.items():
        found = [f"{name}{labels} {value:.12g}" for (other, labels), value in samples.items() if other == name]
        lines += [f"# HELP {name} {text}", f"# TYPE {name} gauge", *found] if found else []
    return "\n".join(lines) + "\n"


def write(path: Path, tables: dict[tuple[str, str], float] | None, problems: int) -> None:
    """Write beside the file and rename; what the server could not be asked for stays as it was."""
    if not path.parent.is_dir():  # no node_exporter here
        return
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    before = {(name, labels): float(value) for name, labels, value in SERIES.findall(text)}
    now = time.time()
    samples = {
        ("pg_partitions_run_success", ""): float(not problems),
        ("pg_partitions_run_problems", ""): problems,
        ("pg_partitions_last_run_timestamp_seconds", ""): now,
        (SUCCESS, ""): before.get((SUCCESS, ""), 0) if problems else now,
        **({key: value for key, value in before.items() if key[1]} if tables is None else tables),
    }
    replace_file(path, render(samples), 0o644)


def settings_of(config: dict[str, Any]) -> Settings:
    """Return how the server is reached: through its socket, or over the network as the owner of each database."""
    settings, remote = Settings(**config["server"]), config.get("remote")
    if remote and config["partitions"]:
        authority = Path(remote["ca"]).read_text(encoding="utf-8")

        def connect(database: str, name: str) -> Session:
            owner = remote["owners"][database]
            return Remote(remote["host"], owner, remote["passwords"][owner], remote["port"], ca=authority).session(database, name)

        settings.connect, settings.database = connect, config["partitions"][0]["database"]
    return settings


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description="Partitions ahead and retention, as the configuration declares them.")
    parser.add_argument("config", type=Path)
    parser.add_argument("--check", action="store_true", help="say what would be done")
    parser.add_argument("--now", default="", metavar="DATE", help="count from this date or moment instead of the present")
    given = parser.parse_args(arguments)
    config = json.loads(given.config.read_text(encoding="utf-8"))
    states: list[State] | None = []
    try:
        settings, now = settings_of(config), parse_now(given.now)
        wanted = [PartitionSpec.read(entry) for entry in config["partitions"]]
        leader = bool(wanted) and leads(settings)  # nothing declared: a server that is down is no concern of ours
        outcome = bring_about(settings, now, given.check or not leader, partitions=wanted, states=states)
    except (SessionError, SqlError, OSError, ValueError) as error:
        outcome, leader, states = Outcome(problems=[(getattr(error, "reason", "failed"), str(error))]), True, None
    for step in outcome.steps if leader else ():
        print(("would: " if given.check else "done: ") + step)
    for notice in outcome.notices:
        print(f"notice: {notice}")
    for reason, text in outcome.problems:
        print(f"{reason}: {text}", file=sys.stderr)
    if not given.check:
        write(Path(config["metrics"]), None if states is None else figures(states), len(outcome.problems))
    return 1 if outcome.problems else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
