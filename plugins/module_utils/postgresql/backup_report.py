# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What a verification has found, for people (HTML), programs (JSON) and node_exporter. Pure functions.

A result is a dictionary; `pg_backup_verify` describes its keys.
"""

from __future__ import annotations

import html
import json
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from ansible_collections.uptier.platform.plugins.module_utils.postgresql.backup_check import Check, span
from ansible_collections.uptier.platform.plugins.module_utils.postgresql.backup_info import sql_moment

VERSION = 1
REMEMBERED = 5  # proofs whose RTO the next one is held against


def result(
    stanza: str, repository: int, level: str, host: str, begun: float, ended: float, checks: Sequence[Check], proof: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the result of a verification; it is good where every check is, and its reason is that of the first which is not."""
    failed = [check for check in checks if not check.ok]
    return {
        "version": VERSION,
        "stanza": stanza,
        "repository": repository,
        "level": level,
        "host": host,
        "begun": round(begun, 3),
        "ended": round(ended, 3),
        "ok": not failed,
        "reason": failed[0].reason if failed else "",
        "checks": [check.as_data() for check in checks],
        "backup": proof.get("backup"),
        "point": proof.get("point"),
        "rto_seconds": proof.get("rto_seconds"),
        "rpo_seconds": proof.get("rpo_seconds"),
        "targets": proof.get("targets", {}),
        "restored_bytes": proof.get("restored_bytes"),
        "unproven_since": proof.get("unproven_since"),
        "phases": proof.get("phases", {}),
    }


def summary(found: Mapping[str, Any]) -> str:
    """Return what a person wants to know first."""
    failed = [check for check in found["checks"] if not check["ok"]]
    if failed:
        return "; ".join(f"{check['name']}: {check['seen']}" for check in failed)
    second = f", repository {found['repository']}," if found["repository"] > 1 else ""
    text = f"{found['stanza']}{second} is good at the level {found['level']}"
    if found["rto_seconds"] is None:
        return f"{text}; {found['point']} would be restored." if found["point"] else f"{text}."
    lost = f", {span(found['rpo_seconds'])} would have been lost" if found["rpo_seconds"] is not None else ""
    return f"{text}: {found['point']} was restored and served after {span(found['rto_seconds'])}{lost}."


def as_json(found: Mapping[str, Any]) -> str:
    return json.dumps(found, indent=2, sort_keys=True) + "\n"


def as_html(found: Mapping[str, Any]) -> str:
    """Return a page that needs nothing beside it."""

    def cell(value: Any) -> str:
        return html.escape("" if value is None else str(value))

    facts = {
        "Result": "good" if found["ok"] else f"FAILED ({found['reason']})",
        "Stanza": found["stanza"],
        "Level": found["level"],
        "Host": found["host"],
        "Begun": sql_moment(found["begun"]),
        "Ended": sql_moment(found["ended"]),
        "Backup": found["point"] or found["backup"],
        "Seconds until it served (RTO)": found["rto_seconds"],
        "Target of that": found["targets"].get("rto"),
        "Seconds that would have been lost (RPO)": found["rpo_seconds"],
        "Target of that too": found["targets"].get("rpo"),
        "Restored bytes": found["restored_bytes"],
        "Not proven since": sql_moment(found["unproven_since"]) if found["unproven_since"] else None,
    }
    rows = "".join(f"<tr><th>{cell(name)}</th><td>{cell(value)}</td></tr>\n" for name, value in facts.items())
    checks = "".join(
        f'<tr class="{"good" if check["ok"] else "bad"}"><td>{cell(check["name"])}</td><td>{"good" if check["ok"] else cell(check["reason"])}</td>'
        f"<td>{cell(check['seen'])}</td><td>{check['seconds']:.1f}</td></tr>\n"
        for check in found["checks"]
    )
    return f"""<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>Backup of {cell(found["stanza"])}: {"good" if found["ok"] else "FAILED"}</title>
<style>body{{font:15px sans-serif;margin:2em;max-width:70em}}table{{border-collapse:collapse;margin:1em 0}}
td,th{{border:1px solid #bbb;padding:.3em .6em;text-align:left;vertical-align:top}}.bad{{background:#fdd}}.good{{background:#efe}}</style></head>
<body><h1>Backup of {cell(found["stanza"])}</h1>
<p>{cell(summary(found))}</p>
<table>
{rows}</table>
<table><tr><th>Check</th><th>Result</th><th>Seen</th><th>Seconds</th></tr>
{checks}</table>
</body></html>
"""


def label(value: str) -> str:
    return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")


def as_metrics(found: Mapping[str, Any], before: Sequence[Mapping[str, Any]]) -> str:
    """Return the file for node_exporter.

    What a proof measures (RTO, RPO) is that of the last proof that restored something; so is the moment since which nothing is proven.

    Args:
        found: the result.
        before: earlier results of the same stanza, oldest first.
    """
    proofs = [item for item in (*before, found) if item.get("rto_seconds") is not None and item["ok"]]
    last = proofs[-1] if proofs else {}
    earlier = [float(item["rto_seconds"]) for item in proofs[:-1]][-REMEMBERED:]
    succeeded = [item["ended"] for item in (*before, found) if item["ok"]]
    unproven = [item["unproven_since"] for item in proofs if item.get("unproven_since") is not None]
    values: list[tuple[str, str, float | None]] = [
        ("backup_verify_success", "Whether the last verification found all good.", float(found["ok"])),
        ("backup_verify_timestamp_seconds", "When the last verification ended.", found["ended"]),
        (
            "backup_verify_last_success_timestamp_seconds",
            "When the last one that found all good ended.",
            succeeded[-1] if succeeded else None,
        ),
        ("backup_verify_duration_seconds", "How long the last verification took.", found["ended"] - found["begun"]),
        ("backup_verify_rto_seconds", "Until the restored server served, at the last proof.", last.get("rto_seconds")),
        (
            "backup_verify_rto_median_seconds",
            "Median of that over the five proofs before.",
            statistics.median(earlier) if earlier else None,
        ),
        ("backup_verify_rpo_seconds", "Age of the last heartbeat in the restored data.", last.get("rpo_seconds")),
        ("backup_verify_rto_target_seconds", "Until it should serve, at most.", found["targets"].get("rto")),
        ("backup_verify_rpo_target_seconds", "What may be lost, at most.", found["targets"].get("rpo")),
        ("backup_verify_restored_bytes", "Size of the restored database.", last.get("restored_bytes")),
        ("backup_verify_unproven_since_timestamp_seconds", "Oldest moment that no proof has reached.", max(unproven) if unproven else None),
    ]
    lines, labels = [], f'stanza="{label(found["stanza"])}",repo="{found["repository"]}"'
    for name, text, value in values:
        if value is not None:
            lines += [f"# HELP {name} {text}", f"# TYPE {name} gauge", f"{name}{{{labels}}} {float(value):.12g}"]
    name = "backup_verify_check_success"
    lines += [f"# HELP {name} Whether one check of the last verification was good.", f"# TYPE {name} gauge"]
    lines += [f'{name}{{{labels},check="{label(check["name"])}"}} {int(check["ok"])}' for check in found["checks"]]
    return "\n".join(lines) + "\n"
