# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Every alert is tested on both sides of its threshold, has a runbook and says what it saw."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from ansible_collections.uptier.platform.plugins.plugin_utils import alerts

ROOT = Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT / "tests"))

from harness import alerts as rules  # noqa: E402 - the path has to be set first

ALERTS = [(name, rule) for name, rule in rules.short_rules() if "alert" in rule]
IDS = [rule["alert"] for dummy, rule in ALERTS]


@pytest.fixture(scope="session")
def promtool() -> str:
    found = rules.find_promtool()
    if not found:
        pytest.skip("not verified here: promtool (Debian package prometheus) can neither be found nor fetched; role_monitoring does it")
    return found


def test_every_alert_behaves_as_its_case_says(promtool, tmp_path):
    files = rules.write_tests(tmp_path)
    done = subprocess.run([promtool, "test", "rules", *files], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, (done.stdout + done.stderr)[-6000:]


def test_dashboards_ask_what_prometheus_understands(promtool, tmp_path):
    (tmp_path / "rules.yml").write_text(rules.expressions_as_rules(), encoding="utf-8")
    done = subprocess.run([promtool, "check", "rules", "rules.yml"], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]


def test_every_alert_has_a_case():
    assert sorted(case["alert"] for case in rules.cases()) == sorted(IDS)


def test_names_are_unique():
    assert len(set(IDS)) == len(IDS)


@pytest.mark.parametrize(("name", "rule"), ALERTS, ids=IDS)
def test_alert_is_complete(name, rule):
    assert rule["severity"] in alerts.SEVERITIES
    assert rule["summary"]
    assert rule["severity"] == "none" or "$value" in rule["description"] or rule["alert"] == "ServerDown", "the description shows no value"
    page = ROOT / "docs" / "runbooks" / f"{name}.md"
    headings = re.findall(r"^#+ (\S+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    assert rule["alert"] in headings, f"docs/runbooks/{name}.md has no section {rule['alert']}"


def test_every_threshold_is_used():
    used = {name for dummy, rule in rules.short_rules() for name in alerts.THRESHOLD.findall(str(rule["expr"]))}
    assert used == set(rules.thresholds())


def test_a_condition_that_does_not_hold_takes_the_rule_away():
    document = {
        "groups": [
            {"name": "g", "rules": [{"alert": "A", "expr": "x", "when": "clock", "severity": "info", "summary": "", "description": ""}]}
        ]
    }
    assert alerts.expand(document, "p", {}) == {"groups": []}
    assert len(alerts.expand(document, "p", {}, ["clock"])["groups"]) == 1


def test_mistakes_are_named():
    rule = {"alert": "A", "expr": "x > @y@", "severity": "info", "summary": "", "description": ""}
    document = {"groups": [{"name": "g", "rules": [rule]}]}
    with pytest.raises(alerts.AlertError, match="p: A: no threshold 'y'"):
        alerts.expand(document, "p", {"z": 1})
    with pytest.raises(alerts.AlertError, match="prometheus_thresholds.y is 'much'"):
        alerts.expand(document, "p", {"y": "much"})
    rule["severity"] = "loud"
    with pytest.raises(alerts.AlertError, match="severity is 'loud'"):
        alerts.expand(document, "p", {"y": 1})


def test_runbook_link_leads_to_the_section():
    document = {
        "groups": [{"name": "g", "rules": [{"alert": "TooHot", "expr": "x", "severity": "info", "summary": "s", "description": "d"}]}]
    }
    rule = alerts.expand(document, "hosts", {}, runbooks="https://example.com/runbooks/")["groups"][0]["rules"][0]
    assert rule["annotations"]["runbook_url"] == "https://example.com/runbooks/hosts.md#toohot"
    assert rule["labels"] == {"severity": "info", "component": "hosts"}


def test_channels_without_what_their_kind_needs_are_named():
    needs = {"slack": ["url", "channel"], "webhook": ["url"]}
    channels = [{"name": "a", "kind": "slack", "url": "x"}, {"name": "b", "kind": "webhook", "url": "x"}]
    assert alerts.channels_lacking(channels, needs) == ["a (slack) lacks channel"]
