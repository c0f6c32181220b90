# SPDX-License-Identifier: GPL-3.0-or-later
"""Everything is watched: targets answer, rules find their series, and an alert reaches somebody."""

from __future__ import annotations

import json
import re
import shlex
import time
from collections.abc import Iterator
from typing import Any

import pytest
from harness.platform import ROOT, Platform, wait

OWN = "curl -sS --max-time 10 --cacert /etc/uptier/pki/ca.crt --cert /etc/uptier/pki/host.crt --key /etc/uptier/pki/host.key"
# Components of which every host of a group has a target.
EXPECTED = {
    "node": "all",
    "gateway": "gateway",
    "haproxy": "app",
    "pgbouncer": "app",
    "etcd": "etcd",
    "patroni": "postgresql",
    "postgres": "postgresql",
    "redis": "redis",
    "prometheus": "monitoring",
    "alertmanager": "monitoring",
}
# Series that come with what they count, and not before.
EVENTS = {
    "aide_changed_files",
    "auth_failures_total",
    "break_glass_logins_total",
    "platform_failed_unit",
    # recorded from answers with an error
    "job:http_error_ratio:rate5m",
    "job:http_error_ratio:rate30m",
    "job:http_error_ratio:rate1h",
    "job:http_error_ratio:rate6h",
    # partitions that are declared
    "pg_partitions_default_rows",
    "pg_partitions_interval_seconds",
    "pg_partitions_last_success_timestamp_seconds",
    "pg_partitions_premake",
    "pg_partitions_until_timestamp_seconds",
    # a second monitoring host
    "alertmanager_cluster_members",
    # a verified backup
    "backup_verify_check_success",
    "backup_verify_rpo_seconds",
    "backup_verify_rpo_target_seconds",
    "backup_verify_rto_median_seconds",
    "backup_verify_rto_seconds",
    "backup_verify_rto_target_seconds",
    "backup_verify_success",
    "backup_verify_timestamp_seconds",
    "backup_verify_unproven_since_timestamp_seconds",
    # a second repository
    "pgbackrest_second_progress_timestamp_seconds",
    "pgbackrest_second_running",
    # backups of files that were looked after once
    "file_backup_newest_timestamp_seconds",
    "file_backup_verify_success",
    "file_backup_verify_timestamp_seconds",
    # what an application says of its own business; the sample application has none of these
    "app_logins_total",
    "app_transactions_total",
    "campaign_budget_remaining",
    "payments_failed_total",
    "pending_tasks",
    "signal_accuracy_ratio",
    "signal_generation_seconds_bucket",
    "user_complaints_total",
}
WORD = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")
NO_SERIES = re.compile(r'"[^"]*"|\{[^}]*\}|\[[^\]]*\]|\b(?:by|without|on|ignoring|group_left|group_right)\s*\([^)]*\)|\b\d[\w.]*')
FUNCTION = re.compile(r"[\w:]+\s*(?=\()")
OPERATORS = {"and", "or", "unless", "bool", "offset", "group_left", "group_right", "inf", "nan"}


@pytest.fixture(scope="module")
def monitor(platform: Platform) -> str:
    return platform.group("monitoring")[0]


def ask(platform: Platform, monitor: str, path: str) -> Any:
    url = f"https://{monitor}.internal:{platform.port(monitor, 'prometheus')}/api/v1/{path}"
    return json.loads(platform.output(monitor, f"{OWN} {shlex.quote(url)}"))["data"]


def series(expression: str) -> Iterator[str]:
    """The metric names of an expression."""
    for word in WORD.findall(FUNCTION.sub(" ", NO_SERIES.sub(" ", expression))):
        if word.lower() not in OPERATORS:
            yield word


def test_every_target_of_every_host_is_up(platform: Platform, monitor: str) -> None:
    def down() -> list[str]:
        targets = ask(platform, monitor, "targets?state=active")["activeTargets"]
        return [f"{target['scrapeUrl']}: {target['lastError']}" for target in targets if target["health"] != "up"]

    wait("every target up", lambda: not down() or None, 60)
    assert down() == []
    targets = ask(platform, monitor, "targets?state=active")["activeTargets"]
    print(f"measured: {len(targets)} targets up in {len({target['scrapePool'] for target in targets})} jobs")
    found = {(target["labels"]["job"], target["labels"]["instance"].split(":")[0]) for target in targets}
    lacking = {
        (job, host)
        for job, group in EXPECTED.items()
        for host in (platform.hosts if group == "all" else platform.group(group))
        if (job, host) not in found
    }
    assert lacking == set(), f"there are {sorted(found)}"


def test_every_rule_finds_its_series(platform: Platform, monitor: str) -> None:
    rules = [rule for group in ask(platform, monitor, "rules")["groups"] for rule in group["rules"]]
    assert [rule["name"] for rule in rules if rule["health"] == "err"] == []
    unknown: dict[str, list[str]] = {}

    def all_known() -> bool:
        known = {*ask(platform, monitor, "label/__name__/values"), *EVENTS, "ALERTS"}
        unknown.clear()
        unknown.update({rule["name"]: sorted(missing) for rule in rules if (missing := set(series(rule["query"])) - known)})
        return not unknown

    # Some come from timers that look every few minutes.
    end = time.monotonic() + 240
    while not all_known() and time.monotonic() < end:
        time.sleep(5)
    assert unknown == {}
    print(f"measured: {len(rules)} rules, every series of theirs is there")


def test_nothing_critical_is_firing(platform: Platform, monitor: str) -> None:
    """Warnings may: all hosts of the test share a few processors, and say so."""
    alerts = ask(platform, monitor, "alerts")["alerts"]
    firing = [alert["labels"] for alert in alerts if alert["state"] == "firing"]
    print(f"warnings: {sorted({labels['alertname'] for labels in firing if labels['severity'] != 'critical'})}")
    assert [labels for labels in firing if labels["severity"] == "critical" and labels["alertname"] != "Watchdog"] == []


def test_an_alert_reaches_the_webhook(platform: Platform, monitor: str) -> None:
    platform.write(monitor, "/run/receiver.py", (ROOT / "tests/probes/receiver.py").read_text())
    platform.run(monitor, "rm -f /run/received.jsonl; systemd-run --quiet --unit test-receiver python3 /run/receiver.py")
    try:
        platform.run(monitor, "amtool alert add TestAlert severity=warning instance=x component=test --annotation=summary=test")
        wait(
            "the notification",
            lambda: "TestAlert" in platform.output(monitor, "cat /run/received.jsonl 2>/dev/null || true"),
            120,
        )
    finally:
        platform.run(monitor, "systemctl stop test-receiver; rm -f /run/receiver.py /run/received.jsonl")
