# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Alert rules and dashboards as files that promtool can test, and a promtool to do it with.

promtool comes with Debian's package prometheus. Where the machine has none the package is fetched and unpacked into
.cache, without being installed; where that cannot be done either, tests say so and scenario role_monitoring, whose
hosts have it, does the same work.
"""

from __future__ import annotations

import importlib.util
import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from .servers import fetched

ROOT = Path(__file__).resolve().parents[2]
RULES = ROOT / "roles" / "prometheus" / "files" / "rules"
DASHBOARDS = ROOT / "roles" / "grafana" / "files" / "dashboards"
CASES = ROOT / "tests" / "unit" / "alerts" / "cases.yml"
CONDITIONS = ("clock", "patroni", "synchronous", "redis_replicas")


def _planner() -> Any:
    """Load the planner from its file: in a scenario's tests the collection is not on the path."""
    spec = importlib.util.spec_from_file_location("uptier_alerts", ROOT / "plugins" / "plugin_utils" / "alerts.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def thresholds() -> dict[str, Any]:
    values = yaml.safe_load((ROOT / "roles" / "prometheus" / "vars" / "main.yml").read_text(encoding="utf-8"))
    return values["__prometheus_default_thresholds"]


def short_rules() -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield every rule of every set with the set's name, as it stands in the role."""
    for path in sorted(RULES.glob("*.yml")):
        for group in yaml.safe_load(path.read_text(encoding="utf-8"))["groups"]:
            for rule in group["rules"]:
                yield path.stem, rule


def cases() -> list[dict[str, Any]]:
    """Read the cases with every scalar as text: to YAML, 0x40 is the number 64."""
    return yaml.load(CASES.read_text(encoding="utf-8"), Loader=yaml.BaseLoader)


def write_tests(folder: Path) -> list[str]:
    """Write rules (without their texts, which promtool would compare) and a test of each case; return the names of the test files.

    promtool evaluates all rules of a file at every step of every test, so each case has a file of its own: the alert, and what it reads
    of recorded series. One file a set took five times as long.
    """
    expand = _planner().expand
    groups: list[dict[str, Any]] = []
    for path in sorted(RULES.glob("*.yml")):
        document = expand(yaml.safe_load(path.read_text(encoding="utf-8")), path.stem, thresholds(), CONDITIONS)
        groups += document["groups"]
    for rule in (rule for group in groups for rule in group["rules"]):
        rule.pop("annotations", None)
    labels = {rule["alert"]: rule["labels"] for group in groups for rule in group["rules"] if "alert" in rule}
    names = []
    for case in cases():
        name, interval = case["alert"], case.get("interval", "15s")
        rules = {"groups": _needed(groups, name)}
        (folder / f"{name}.yml").write_text(yaml.safe_dump(rules, sort_keys=False, width=1000), encoding="utf-8")
        content = {"rule_files": [f"{name}.yml"], "evaluation_interval": interval, "tests": list(_tests(case, labels))}
        names.append(f"test-{name}.yml")
        (folder / names[-1]).write_text(yaml.safe_dump(content, sort_keys=False, width=1000), encoding="utf-8")
    return names


def _needed(groups: list[dict[str, Any]], alert: str) -> list[dict[str, Any]]:
    """Return the groups with nothing in them but an alert and the recorded series that it reads, directly or through others."""
    recorded = {rule["record"]: rule["expr"] for group in groups for rule in group["rules"] if "record" in rule}
    expressions = [rule["expr"] for group in groups for rule in group["rules"] if rule.get("alert") == alert]
    wanted: set[str] = set()
    while expressions:
        text = expressions.pop()
        read = {name for name in recorded if name in text} - wanted
        wanted |= read
        expressions += [recorded[name] for name in read]
    few = [
        {**group, "rules": [rule for rule in group["rules"] if rule.get("alert") == alert or rule.get("record") in wanted]}
        for group in groups
    ]
    return [group for group in few if group["rules"]]


def _tests(case: dict[str, Any], labels: dict[str, dict[str, str]]) -> Iterator[dict[str, Any]]:
    name = case["alert"]
    interval = case.get("interval", "15s")
    expected = [{"exp_labels": {**labels[name], **own}} for own in case["labels"]]
    times = [{"eval_time": case["silent"], "alertname": name, "exp_alerts": []}] if "silent" in case else []
    times.append({"eval_time": case["fires"], "alertname": name, "exp_alerts": expected})
    yield {"interval": interval, "input_series": _series(case["series"]), "alert_rule_test": times}
    if "quiet" in case:
        never = [{"eval_time": case["fires"], "alertname": name, "exp_alerts": []}]
        yield {"interval": interval, "input_series": _series(case["quiet"]), "alert_rule_test": never}


def _series(given: dict[str, str]) -> list[dict[str, str]]:
    return [{"series": series, "values": str(values)} for series, values in given.items()]


def dashboard_expressions() -> Iterator[tuple[str, str]]:
    """Yield where it stands and what is asked, for every PromQL expression of every dashboard, with its variables filled in."""
    for path in sorted(DASHBOARDS.glob("*.json")):
        board = json.loads(path.read_text(encoding="utf-8"))
        for panel in board["panels"]:
            for target in panel.get("targets", []):
                if target["datasource"]["type"] == "prometheus":
                    yield f"{path.stem}: {panel['title']}", _filled(target["expr"])
        for note in board["annotations"]["list"]:
            yield f"{path.stem}: {note['name']}", _filled(note["expr"])


def _filled(expression: str) -> str:
    return re.sub(r"\$(instance|application)", ".*", expression.replace("$__rate_interval", "5m"))


def expressions_as_rules() -> str:
    """Return the dashboards' expressions as recording rules, which promtool can parse."""
    rules = [{"record": f"dashboards:expression{number}", "expr": text} for number, (dummy, text) in enumerate(dashboard_expressions())]
    return yaml.safe_dump({"groups": [{"name": "dashboards", "rules": rules}]}, width=1000)


def find_promtool() -> str | None:
    """Return a promtool: that of the machine, else the one in .cache, fetched when it is not there."""
    found = shutil.which("promtool")
    if found:
        return found
    for package in ("promtool", "prometheus"):  # Debian 13 has a package of its own, Debian 12 has not
        folder = fetched(package, [package])
        if folder and (folder / "usr" / "bin" / "promtool").is_file():
            return str(folder / "usr" / "bin" / "promtool")
    return None
