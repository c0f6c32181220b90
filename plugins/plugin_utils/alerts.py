# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Alert rules: from the short form of the files in roles/prometheus/files/rules to Prometheus' own. Pure functions.

The short form adds to Prometheus' rules: `severity`, `summary` and `description` beside the expression, `when` (the
name of a condition without which the rule is left out) and thresholds written as @name@ in expressions.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

THRESHOLD = re.compile(r"@([a-z][a-z0-9_]*)@")
SEVERITIES = ("critical", "warning", "info", "none")


class AlertError(ValueError):
    """A rule file or a threshold is wrong; the message names the rule and the fix."""


def fill(text: str, thresholds: Mapping[str, Any], where: str) -> str:
    """Put the thresholds in the place of @name@."""

    def value(match: re.Match[str]) -> str:
        name = match[1]
        if name not in thresholds:
            raise AlertError(f"{where}: no threshold {name!r}; there are {', '.join(sorted(thresholds))}.")
        number = thresholds[name]
        if isinstance(number, bool) or not isinstance(number, (int, float)):
            raise AlertError(f"prometheus_thresholds.{name} is {number!r}; it must be a number.")
        return str(number)

    return THRESHOLD.sub(value, text)


def expand(
    document: Mapping[str, Any],
    page: str,
    thresholds: Mapping[str, Any],
    conditions: Iterable[str] = (),
    runbooks: str = "",
) -> dict[str, Any]:
    """Return the groups as Prometheus reads them, without rules whose condition does not hold and without empty groups."""
    holds = set(conditions)
    groups = []
    for group in document["groups"]:
        rules = [_rule(rule, page, thresholds, runbooks) for rule in group["rules"] if rule.get("when") is None or rule["when"] in holds]
        if rules:
            groups.append({"name": group["name"], "rules": rules})
    return {"groups": groups}


def _rule(rule: Mapping[str, Any], page: str, thresholds: Mapping[str, Any], runbooks: str) -> dict[str, Any]:
    name = rule.get("alert") or rule.get("record") or "a rule without a name"
    result: dict[str, Any] = {key: rule[key] for key in ("record", "alert") if key in rule}
    result["expr"] = fill(str(rule["expr"]).strip(), thresholds, f"{page}: {name}")
    if "alert" not in rule:
        if rule.get("labels"):
            result["labels"] = dict(rule["labels"])
        return result
    if rule.get("severity") not in SEVERITIES:
        raise AlertError(f"{page}: {name}: severity is {rule.get('severity')!r}; use one of {', '.join(SEVERITIES)}.")
    if "for" in rule:
        result["for"] = str(rule["for"])
    result["labels"] = {"severity": rule["severity"], "component": page, **(rule.get("labels") or {})}
    result["annotations"] = {"summary": str(rule["summary"]), "description": str(rule["description"])}
    if runbooks:
        result["annotations"]["runbook_url"] = f"{runbooks.rstrip('/')}/{page}.md#{str(name).lower()}"
    return result


def channels_lacking(channels: Iterable[Mapping[str, Any]], needs: Mapping[str, Iterable[str]]) -> list[str]:
    """Return one sentence for each notification channel without a key that its kind cannot do without."""
    problems = []
    for channel in channels:
        missing = [key for key in needs.get(str(channel.get("kind")), []) if not channel.get(key)]
        if missing:
            problems.append(f"{channel.get('name')} ({channel.get('kind')}) lacks {' and '.join(missing)}")
    return problems
