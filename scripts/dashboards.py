# SPDX-License-Identifier: GPL-3.0-or-later
"""Writes the Grafana dashboards of roles/grafana/files/dashboards from the short descriptions below.

Nobody reviews two thousand lines of JSON; a panel here is one line: title, unit, expressions. `--check` ends with 1
when what is on disk differs (tests/unit/roles/test_dashboards.py asks the same).
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parents[1] / "roles" / "grafana" / "files" / "dashboards"
PROMETHEUS = {"type": "prometheus", "uid": "prometheus"}
LOKI = {"type": "loki", "uid": "loki"}
GREEN, YELLOW, RED, BLUE = "green", "yellow", "red", "blue"
Target = tuple[str, str]
Steps = Sequence[tuple[float | None, str]]

# Ratios: the thresholds of the alerts, so that a panel turns yellow when somebody is told and red when somebody is called.
USAGE: Steps = ((None, GREEN), (0.8, YELLOW), (0.9, RED))
ANY_IS_BAD: Steps = [(None, GREEN), (1, RED)]
ANY_IS_ODD: Steps = [(None, GREEN), (1, YELLOW)]
ONE_IS_GOOD: Steps = [(None, RED), (1, GREEN)]
EXACTLY_ONE: Steps = [(None, RED), (1, GREEN), (2, RED)]
ERRORS: Steps = [(None, GREEN), (0.01, YELLOW), (0.05, RED)]
LATENCY: Steps = [(None, GREEN), (0.5, YELLOW), (1, RED)]
AGE_OF_BACKUP: Steps = [(None, GREEN), (26 * 3600, YELLOW), (30 * 3600, RED)]
AGE_OF_PROOF: Steps = [(None, GREEN), (8 * 86400, YELLOW), (15 * 86400, RED)]
OF_PROMISE: Steps = [(None, GREEN), (0.8, YELLOW), (1, RED)]
DAYS_LEFT: Steps = [(None, RED), (3, YELLOW), (14, GREEN)]
NEUTRAL: Steps = ((None, BLUE),)
UP = [{"type": "value", "options": {"0": {"text": "down", "color": RED}, "1": {"text": "up", "color": GREEN}}}]


def targets(expressions: Iterable[Target], source: dict[str, str], instant: bool) -> list[dict[str, Any]]:
    result = []
    for number, (expression, legend) in enumerate(expressions):
        target: dict[str, Any] = {"refId": chr(65 + number), "datasource": source, "expr": expression, "legendFormat": legend}
        if instant:
            target |= {"instant": True, "range": False}
        result.append(target)
    return result


def base(
    kind: str, title: str, width: int, height: int, expressions: Iterable[Target], text: str, source: dict[str, str], instant: bool
) -> dict[str, Any]:
    panel = {"type": kind, "title": title, "gridPos": {"w": width, "h": height}, "datasource": source}
    panel["targets"] = targets(expressions, source, instant)
    if text:
        panel["description"] = text
    return panel


def steps(levels: Steps) -> dict[str, Any]:
    return {"mode": "absolute", "steps": [{"value": value, "color": color} for value, color in levels]}


def stat(
    title: str,
    unit: str,
    expression: str,
    levels: Steps = NEUTRAL,
    *,
    width: int = 4,
    legend: str = "",
    text: str = "",
    decimals: int | None = None,
) -> dict[str, Any]:
    """One number, coloured by its threshold."""
    panel = base("stat", title, width, 4, [(expression, legend)], text, PROMETHEUS, True)
    defaults: dict[str, Any] = {"unit": unit, "thresholds": steps(levels), "noValue": "none"}
    if decimals is not None:
        defaults["decimals"] = decimals
    panel["fieldConfig"] = {"defaults": defaults, "overrides": []}
    spark = levels is NEUTRAL
    panel["options"] = {
        "colorMode": "value" if spark else "background",
        "graphMode": "none",
        "justifyMode": "center",
        "reduceOptions": {"calcs": ["lastNotNull"]},
        "textMode": "auto",
    }
    return panel


def graph(
    title: str,
    unit: str,
    *expressions: Target,
    width: int = 12,
    height: int = 8,
    stack: bool = False,
    levels: Steps | None = None,
    top: float | None = None,
    text: str = "",
) -> dict[str, Any]:
    """Lines over time; with levels the thresholds are drawn as well."""
    panel = base("timeseries", title, width, height, expressions, text, PROMETHEUS, False)
    custom: dict[str, Any] = {"lineWidth": 1, "fillOpacity": 30 if stack else 8, "showPoints": "never", "spanNulls": False}
    if stack:
        custom["stacking"] = {"mode": "normal", "group": "A"}
    defaults: dict[str, Any] = {"unit": unit, "min": 0, "custom": custom}
    if top is not None:
        defaults["max"] = top
    if levels:
        custom["thresholdsStyle"] = {"mode": "dashed"}
        defaults["thresholds"] = steps(levels)
    panel["fieldConfig"] = {"defaults": defaults, "overrides": []}
    panel["options"] = {
        "legend": {"displayMode": "table", "placement": "right" if width >= 16 else "bottom", "calcs": ["lastNotNull", "max"]},
        "tooltip": {"mode": "multi", "sort": "desc"},
    }
    return panel


def state(title: str, *expressions: Target, width: int = 24, height: int = 7, text: str = "") -> dict[str, Any]:
    """Up and down over time, one row a series."""
    panel = base("state-timeline", title, width, height, expressions, text, PROMETHEUS, False)
    panel["fieldConfig"] = {"defaults": {"mappings": UP, "custom": {"fillOpacity": 70, "lineWidth": 0}}, "overrides": []}
    panel["options"] = {"mergeValues": True, "showValue": "never", "legend": {"showLegend": False}, "rowHeight": 0.85}
    return panel


def bars(
    title: str,
    unit: str,
    expression: Target,
    levels: Steps = USAGE,
    *,
    width: int = 12,
    height: int = 8,
    top: float | None = 1,
    text: str = "",
) -> dict[str, Any]:
    """One bar for each series now."""
    panel = base("bargauge", title, width, height, [expression], text, PROMETHEUS, True)
    defaults: dict[str, Any] = {"unit": unit, "min": 0, "thresholds": steps(levels)}
    if top is not None:
        defaults["max"] = top
    panel["fieldConfig"] = {"defaults": defaults, "overrides": []}
    panel["options"] = {
        "orientation": "horizontal",
        "displayMode": "lcd",
        "reduceOptions": {"calcs": ["lastNotNull"]},
        "valueMode": "color",
    }
    return panel


def table(
    title: str, expression: str, columns: dict[str, str], *, unit: str = "short", width: int = 24, height: int = 8, text: str = ""
) -> dict[str, Any]:
    """The labels of the series as a table; `columns` names and orders those that are shown."""
    panel = base("table", title, width, height, [(expression, "")], text, PROMETHEUS, True)
    panel["targets"][0]["format"] = "table"
    panel["fieldConfig"] = {"defaults": {"unit": unit}, "overrides": []}
    panel["transformations"] = [
        {"id": "filterFieldsByName", "options": {"include": {"names": list(columns)}}},
        {"id": "organize", "options": {"indexByName": {name: number for number, name in enumerate(columns)}, "renameByName": columns}},
    ]
    return panel


def logs(title: str, expression: str, *, width: int = 24, height: int = 12) -> dict[str, Any]:
    panel = base("logs", title, width, height, [(expression, "")], "", LOKI, False)
    panel["options"] = {
        "showTime": True,
        "wrapLogMessage": True,
        "enableLogDetails": True,
        "sortOrder": "Descending",
        "dedupStrategy": "none",
    }
    return panel


def log_graph(title: str, expression: str, legend: str, *, width: int = 12) -> dict[str, Any]:
    panel = graph(title, "short", (expression, legend), width=width, stack=True)
    panel["datasource"] = LOKI
    panel["targets"] = targets([(expression, legend)], LOKI, False)
    return panel


def row(title: str) -> dict[str, Any]:
    return {"type": "row", "title": title, "collapsed": False, "panels": [], "gridPos": {"w": 24, "h": 1}}


def variable(name: str, query: str) -> dict[str, Any]:
    return {
        "name": name,
        "type": "query",
        "datasource": PROMETHEUS,
        "query": {"query": f"label_values({query}, {name})", "refId": name},
        "definition": f"label_values({query}, {name})",
        "includeAll": True,
        "multi": True,
        "allValue": ".*",
        "current": {"selected": True, "text": ["All"], "value": ["$__all"]},
        "refresh": 2,
        "sort": 1,
    }


def place(panels: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Give each panel its number and its place: from left to right, then the next line."""
    x = y = tallest = 0
    for number, panel in enumerate(panels, 1):
        position = panel["gridPos"]
        if x + position["w"] > 24:
            x, y, tallest = 0, y + tallest, 0
        position |= {"x": x, "y": y}
        x, tallest = x + position["w"], max(tallest, position["h"])
        panel["id"] = number
    return panels


def dashboard(
    uid: str, title: str, text: str, panels: list[dict[str, Any]], *variables: dict[str, Any], period: str = "6h"
) -> dict[str, Any]:
    fired = {
        "name": "Critical alerts",
        "datasource": PROMETHEUS,
        "enable": True,
        "iconColor": RED,
        "expr": 'ALERTS{alertstate="firing", severity="critical"}',
        "titleFormat": "{{alertname}}",
        "textFormat": "{{instance}}",
        "step": "60s",
    }
    releases = {
        "name": "Releases",
        "datasource": PROMETHEUS,
        "enable": True,
        "iconColor": BLUE,
        "expr": "count by (application, version) (app_info) unless count by (application, version) (app_info offset 5m)",
        "titleFormat": "release {{application}} {{version}}",
        "step": "60s",
    }
    links = [{"type": "dashboards", "title": "Platform", "tags": ["uptier"], "asDropdown": True, "includeVars": False, "keepTime": True}]
    return {
        "uid": f"uptier-{uid}",
        "title": title,
        "description": text,
        "tags": ["uptier"],
        "schemaVersion": 39,
        "version": 1,
        "editable": False,
        "graphTooltip": 1,
        "refresh": "30s",
        "time": {"from": f"now-{period}", "to": "now"},
        "timezone": "browser",
        "links": links,
        "annotations": {"list": [fired, releases]},
        "templating": {"list": list(variables)},
        "panels": place(panels),
    }


HOST = variable("instance", 'up{job="node"}')
ON = 'instance=~"$instance"'
DISKS = 'fstype!~"tmpfs|ramfs"'
RATE = "$__rate_interval"


def overview() -> dict[str, Any]:
    panels = [
        row("Do users get what they want?"),
        stat("Service", "short", "min(vhost:probe_success:max)", ONE_IS_GOOD, text="1: every domain answers through at least one gateway."),
        stat("Availability, 30 days", "percentunit", "min(sli:availability:ratio30d)", [(None, RED), (0.999, GREEN)], decimals=3),
        stat(
            "Error budget left",
            "percentunit",
            "min(sli:error_budget_left:ratio30d)",
            [(None, RED), (0.1, YELLOW), (0.5, GREEN)],
            decimals=0,
        ),
        stat("Requests a second", "reqps", "job:http_requests:rate5m", decimals=1),
        stat("Errors", "percentunit", "job:http_error_ratio:rate5m", ERRORS, decimals=2),
        stat("95 % answer within", "s", "job:http_latency_seconds:p95_5m", LATENCY, decimals=0),
        graph("Requests by status", "reqps", (f"sum by (status) (rate(gateway_http_requests_total[{RATE}]))", "{{status}}"), stack=True),
        graph(
            "Time to answer",
            "s",
            (f"histogram_quantile(0.5, sum by (le) (rate(gateway_http_request_duration_seconds_bucket[{RATE}])))", "half"),
            (f"histogram_quantile(0.95, sum by (le) (rate(gateway_http_request_duration_seconds_bucket[{RATE}])))", "95 %"),
            (f"histogram_quantile(0.99, sum by (le) (rate(gateway_http_request_duration_seconds_bucket[{RATE}])))", "99 %"),
            levels=LATENCY,
        ),
        row("Is everything there?"),
        stat("Hosts down", "short", 'count(up{job="node"} == 0) or vector(0)', ANY_IS_BAD),
        stat("Critical alerts", "short", 'count(ALERTS{alertstate="firing", severity="critical"}) or vector(0)', ANY_IS_BAD),
        stat("Warnings", "short", 'count(ALERTS{alertstate="firing", severity="warning"}) or vector(0)', ANY_IS_ODD),
        stat("Database leaders", "short", "sum(patroni_primary)", EXACTLY_ONE, text="Exactly one: none means no writes, two mean a split."),
        stat("Redis slots served", "short", "min(redis_cluster_slots_ok)", [(None, RED), (16384, GREEN)]),
        stat("Age of the backup", "s", 'time() - max(pgbackrest_backup_last_timestamp_seconds{type="any"})', AGE_OF_BACKUP),
        state("Every target", ('min by (job, instance) (up{job!~"probe-.*"})', "{{job}} {{instance}}"), height=12),
        table(
            "What fires",
            'ALERTS{alertstate="firing", severity!="none"}',
            {"severity": "Severity", "alertname": "Alert", "component": "Component", "instance": "Where"},
            height=7,
        ),
        row("Is there room?"),
        bars(
            "Processors",
            "percentunit",
            ("instance:node_cpu_busy:ratio5m", "{{instance}}"),
            [(None, GREEN), (0.7, YELLOW), (0.85, RED)],
            width=8,
        ),
        bars("Memory", "percentunit", ("instance:node_memory_used:ratio", "{{instance}}"), width=8),
        bars("Fullest disk", "percentunit", ("max by (instance) (instance:node_filesystem_used:ratio)", "{{instance}}"), width=8),
        bars("Database connections", "percentunit", ("pg:connections_used:ratio", "{{instance}}"), width=8),
        bars("Clients of PgBouncer", "percentunit", ("pgbouncer:clients_used:ratio", "{{instance}}"), width=8),
        bars(
            "Redis memory",
            "percentunit",
            ("redis:memory_used:ratio", "{{instance}}:{{port}}"),
            [(None, GREEN), (0.75, YELLOW), (0.9, RED)],
            width=8,
        ),
    ]
    return dashboard(
        "overview", "Platform overview", "Start here: do users get what they want, is everything there, is there room.", panels
    )


def hosts() -> dict[str, Any]:
    panels = [
        graph(
            "Processors busy",
            "percentunit",
            (f"instance:node_cpu_busy:ratio5m{{{ON}}}", "{{instance}}"),
            top=1,
            levels=[(None, GREEN), (0.7, YELLOW)],
        ),
        graph("Memory in use", "percentunit", (f"instance:node_memory_used:ratio{{{ON}}}", "{{instance}}"), top=1, levels=USAGE),
        graph(
            "Load for each processor",
            "short",
            (f'node_load5{{{ON}}} / on (instance) count by (instance) (node_cpu_seconds_total{{mode="idle", {ON}}})', "{{instance}}"),
        ),
        graph(
            "Tasks that wait (pressure)",
            "percentunit",
            (f"rate(node_pressure_cpu_waiting_seconds_total{{{ON}}}[{RATE}])", "{{instance}} processor"),
            (f"rate(node_pressure_memory_waiting_seconds_total{{{ON}}}[{RATE}])", "{{instance}} memory"),
            (f"rate(node_pressure_io_waiting_seconds_total{{{ON}}}[{RATE}])", "{{instance}} disk"),
        ),
        bars("File systems", "percentunit", (f"instance:node_filesystem_used:ratio{{{ON}}}", "{{instance}} {{mountpoint}}")),
        graph(
            "Full in",
            "s",
            (
                f"node_filesystem_avail_bytes{{{DISKS}, {ON}}} / (deriv(node_filesystem_avail_bytes{{{DISKS}, {ON}}}[6h]) < 0) * -1",
                "{{instance}} {{mountpoint}}",
            ),
            text="At the rate of the last six hours; empty: it does not fill.",
        ),
        graph("Disk read", "Bps", (f"sum by (instance) (rate(node_disk_read_bytes_total{{{ON}}}[{RATE}]))", "{{instance}}"), width=8),
        graph("Disk written", "Bps", (f"sum by (instance) (rate(node_disk_written_bytes_total{{{ON}}}[{RATE}]))", "{{instance}}"), width=8),
        graph("Disk busy", "percentunit", (f"instance:node_disk_busy:ratio5m{{{ON}}}", "{{instance}}"), width=8, top=1),
        graph("Network received", "Bps", (f"instance:node_network_receive_bytes:rate5m{{{ON}}}", "{{instance}}"), width=8),
        graph("Network sent", "Bps", (f"instance:node_network_transmit_bytes:rate5m{{{ON}}}", "{{instance}}"), width=8),
        graph(
            "TCP segments sent again",
            "percentunit",
            (f"rate(node_netstat_Tcp_RetransSegs{{{ON}}}[{RATE}]) / rate(node_netstat_Tcp_OutSegs{{{ON}}}[{RATE}])", "{{instance}}"),
            width=8,
        ),
        graph("Clock offset", "s", (f"abs(node_timex_offset_seconds{{{ON}}})", "{{instance}}"), width=8),
        graph(
            "Open files", "percentunit", (f"node_filefd_allocated{{{ON}}} / node_filefd_maximum{{{ON}}}", "{{instance}}"), width=8, top=1
        ),
        graph(
            "Connection table",
            "percentunit",
            (f"node_nf_conntrack_entries{{{ON}}} / node_nf_conntrack_entries_limit{{{ON}}}", "{{instance}}"),
            width=8,
            top=1,
        ),
        table("Failed units", f"platform_failed_unit{{{ON}}}", {"instance": "Host", "unit": "Unit"}, width=12, height=6),
        table(
            "Certificates, days left",
            f"sort((platform_certificate_not_after_timestamp_seconds{{{ON}}} - time()) / 86400)",
            {"instance": "Host", "path": "File", "Value": "Days"},
            width=12,
            height=6,
        ),
    ]
    return dashboard("hosts", "Hosts", "Processors, memory, disks, network, clocks and certificates of every host.", panels, HOST)


def gateway() -> dict[str, Any]:
    panels = [
        stat("Gateways up", "short", "sum(nginx_up)", ONE_IS_GOOD),
        stat("Hold the address", "short", "sum(keepalived_address_held)", EXACTLY_ONE),
        stat("Requests a second", "reqps", "job:http_requests:rate5m", decimals=1),
        stat("Errors", "percentunit", "job:http_error_ratio:rate5m", ERRORS, decimals=2),
        stat("95 % answer within", "s", "job:http_latency_seconds:p95_5m", LATENCY),
        stat(
            "Certificate, days left",
            "short",
            'min(probe_ssl_earliest_cert_expiry{job="probe-service"} - time()) / 86400',
            DAYS_LEFT,
            decimals=0,
        ),
        graph("Requests by domain", "reqps", (f"sum by (vhost) (rate(gateway_http_requests_total[{RATE}]))", "{{vhost}}"), stack=True),
        graph("Requests by status", "reqps", (f"sum by (status) (rate(gateway_http_requests_total[{RATE}]))", "{{status}}"), stack=True),
        graph("95 % answer within, by domain", "s", ("vhost:http_latency_seconds:p95_5m", "{{vhost}}"), levels=LATENCY),
        graph(
            "Errors by domain",
            "percentunit",
            (
                f'sum by (vhost) (rate(gateway_http_requests_total{{status=~"5.."}}[{RATE}])) / sum by (vhost) (rate(gateway_http_requests_total[{RATE}]))',
                "{{vhost}}",
            ),
            levels=ERRORS,
        ),
        graph("Requests by gateway", "reqps", ("instance:http_requests:rate5m", "{{instance}}")),
        graph(
            "Refused by the rate limit",
            "reqps",
            (f'sum by (vhost) (rate(gateway_http_requests_total{{status="429"}}[{RATE}]))', "{{vhost}}"),
        ),
        graph(
            "Connections",
            "short",
            ("nginx_connections_active", "{{instance}} active"),
            ("nginx_connections_waiting", "{{instance}} idle"),
            ("nginx_connections_writing", "{{instance}} answering"),
        ),
        graph(
            "Errors against the budget",
            "percentunit",
            ("job:http_error_ratio:rate1h", "one hour"),
            ("job:http_error_ratio:rate6h", "six hours"),
        ),
        state("Who holds the shared address", ("keepalived_address_held", "{{instance}}"), width=12),
        state("Probes through each door", ('probe_success{job="probe-service"}', "{{vhost}} by {{instance}}"), width=12),
    ]
    return dashboard("gateway", "Gateway", "What users see: requests, errors and latency at the edge.", panels)


def application() -> dict[str, Any]:
    chosen = variable("application", 'up{job="app"}')
    of = 'application=~"$application"'
    panels = [
        stat("Instances up", "short", f'sum(up{{job="app", {of}}})', ONE_IS_GOOD),
        stat(
            "Instances out of service",
            "short",
            'sum(haproxy_server_status{state="DOWN", proxy!~"postgresql_.*|metrics_.*"}) or vector(0)',
            ANY_IS_BAD,
        ),
        stat("Requests a second", "reqps", f'sum(rate(http_requests_total{{job="app", {of}}}[5m]))', decimals=1),
        stat("Tasks that wait", "short", f"sum(pending_tasks{{{of}}})", [(None, GREEN), (1000, RED)]),
        stat("Websockets", "short", f"sum(websocket_clients{{{of}}})"),
        stat("Releases that run", "short", f"count(count by (version) (app_info{{{of}}}))", [(None, GREEN), (2, YELLOW)]),
        graph("Requests by route", "reqps", (f"route:http_requests:rate5m{{{of}}}", "{{route}}"), stack=True),
        graph("Slowest routes: 95 % within", "s", (f"topk(10, route:http_latency_seconds:p95_5m{{{of}}})", "{{route}}"), levels=LATENCY),
        graph("Errors by route", "percentunit", (f"route:http_error_ratio:rate5m{{{of}}} > 0", "{{route}}"), levels=ERRORS),
        graph(
            "Answers by status (router)",
            "reqps",
            (f'sum by (code) (rate(haproxy_backend_http_responses_total{{proxy!~"metrics_.*|nowhere"}}[{RATE}]))', "{{code}}"),
            stack=True,
        ),
        graph(
            "Mean time to answer (router)",
            "s",
            ('haproxy_backend_response_time_average_seconds{proxy!~"postgresql_.*|metrics_.*|nowhere"}', "{{proxy}} {{instance}}"),
        ),
        graph(
            "Requests that wait for an instance",
            "short",
            ('sum by (instance, proxy) (haproxy_backend_current_queue{proxy!~"metrics_.*|nowhere"})', "{{proxy}} {{instance}}"),
        ),
        graph("Memory of an instance", "bytes", (f"process_resident_memory_bytes{{{of}}}", "{{service}} {{instance}}/{{index}}")),
        graph("Event loop lags by", "s", (f"nodejs_eventloop_lag_p99_seconds{{{of}}}", "{{service}} {{instance}}/{{index}}")),
        graph(
            "Processor of an instance",
            "percentunit",
            (f'rate(process_cpu_seconds_total{{job="app", {of}}}[{RATE}])', "{{service}} {{instance}}/{{index}}"),
        ),
        graph(
            "Connections to the database, by the router",
            "short",
            ('haproxy_backend_current_sessions{proxy=~"postgresql_.*"}', "{{proxy}} {{instance}}"),
        ),
        state("Instances", (f'up{{job="app", {of}}}', "{{service}} {{instance}}/{{index}}")),
    ]
    return dashboard("application", "Applications", "Routes, instances and the router beside them.", panels, chosen)


def postgresql() -> dict[str, Any]:
    panels = [
        stat("Leaders", "short", "sum(patroni_primary)", EXACTLY_ONE),
        stat("Standbys that stream", "short", "sum(pg_standby_streaming and on (instance) (pg_instance_in_recovery == 0))", ONE_IS_GOOD),
        stat("Synchronous standbys", "short", 'sum({__name__=~"patroni_(sync|quorum)_standby"})'),
        stat("Lag", "s", "max(pg_standby_lag_seconds)", [(None, GREEN), (10, YELLOW), (60, RED)], decimals=1),
        stat(
            "WAL waits for the archive",
            "short",
            "max(pg_archive_waiting and on (instance) (pg_instance_in_recovery == 0))",
            [(None, GREEN), (3, YELLOW), (10, RED)],
        ),
        stat("Timeline", "short", "max(patroni_postgres_timeline)"),
        state("Who leads", ("patroni_primary", "{{instance}}"), height=5),
        graph("Transactions", "ops", ("pg:transactions:rate5m", "{{instance}}")),
        graph("Connections", "percentunit", ("pg:connections_used:ratio", "{{instance}}"), top=1, levels=USAGE),
        graph("Lag of standbys", "s", ("pg_standby_lag_seconds", "{{standby}}"), ("pg_instance_replay_lag_seconds", "{{instance}} replay")),
        graph("Lag of standbys", "bytes", ("pg_standby_lag_bytes", "{{standby}} from {{instance}}")),
        graph("Read from memory", "percentunit", ("pg:cache_hit:ratio5m", "{{instance}}"), top=1),
        graph(
            "Rows",
            "ops",
            (f"sum by (instance) (rate(pg_stat_database_tup_fetched[{RATE}]))", "{{instance}} read"),
            (
                f"sum by (instance) (rate(pg_stat_database_tup_inserted[{RATE}]) + rate(pg_stat_database_tup_updated[{RATE}])"
                f" + rate(pg_stat_database_tup_deleted[{RATE}]))",
                "{{instance}} written",
            ),
        ),
        graph("Oldest open transaction", "s", ("pg_instance_longest_transaction_seconds", "{{instance}}")),
        graph("Clients idle in a transaction", "short", ("pg_instance_idle_in_transaction", "{{instance}}")),
        graph("Temporary files", "Bps", (f"sum by (instance) (rate(pg_stat_database_temp_bytes[{RATE}]))", "{{instance}}")),
        graph(
            "Deadlocks and rolled back",
            "ops",
            (f"sum by (instance) (rate(pg_stat_database_deadlocks[{RATE}]))", "{{instance}} deadlocks"),
            (f"sum by (instance) (rate(pg_stat_database_xact_rollback[{RATE}]))", "{{instance}} rolled back"),
        ),
        graph("Size of databases", "bytes", ("max by (datname) (pg_database_size_bytes)", "{{datname}}")),
        graph("WAL held back by slots", "bytes", ("pg_slot_retained_bytes", "{{slot_name}} on {{instance}}")),
        graph(
            "WAL archived",
            "ops",
            (f"rate(pg_archive_archived_total[{RATE}])", "{{instance}} archived"),
            (f"rate(pg_archive_failed_total[{RATE}])", "{{instance}} failed"),
        ),
        graph("Transactions since the oldest that is not frozen", "short", ("pg_instance_oldest_xid_age", "{{instance}}")),
    ]
    return dashboard("postgresql", "PostgreSQL", "Who leads, who follows how closely, and how busy they are.", panels)


def pgbouncer() -> dict[str, Any]:
    panels = [
        graph("Clients", "percentunit", ("pgbouncer:clients_used:ratio", "{{instance}}"), top=1, levels=USAGE),
        graph(
            "The first in line waits",
            "s",
            ("max by (instance, database) (pgbouncer_pools_client_maxwait_seconds)", "{{database}} {{instance}}"),
            levels=[(None, GREEN), (1, RED)],
        ),
        graph(
            "Clients with a connection",
            "short",
            ("sum by (instance, database) (pgbouncer_pools_client_active_connections)", "{{database}} {{instance}}"),
            stack=True,
        ),
        graph(
            "Clients that wait",
            "short",
            ("sum by (instance, database) (pgbouncer_pools_client_waiting_connections)", "{{database}} {{instance}}"),
            stack=True,
        ),
        graph(
            "Server connections in use",
            "short",
            ("sum by (instance, database) (pgbouncer_pools_server_active_connections)", "{{database}} {{instance}}"),
            stack=True,
        ),
        graph(
            "Server connections idle",
            "short",
            ("sum by (instance, database) (pgbouncer_pools_server_idle_connections)", "{{database}} {{instance}}"),
            stack=True,
        ),
        graph("Queries", "ops", (f"sum by (database) (rate(pgbouncer_stats_queries_pooled_total[{RATE}]))", "{{database}}"), stack=True),
        graph("Mean time of a query", "s", ("pgbouncer:query_seconds:mean5m", "{{database}} {{instance}}")),
        graph(
            "Time spent waiting for a server",
            "s",
            (f"sum by (instance, database) (rate(pgbouncer_stats_client_wait_seconds_total[{RATE}]))", "{{database}} {{instance}}"),
        ),
        graph(
            "Bytes",
            "Bps",
            (f"sum by (instance) (rate(pgbouncer_stats_received_bytes_total[{RATE}]))", "{{instance}} from clients"),
            (f"sum by (instance) (rate(pgbouncer_stats_sent_bytes_total[{RATE}]))", "{{instance}} to clients"),
        ),
        table(
            "Paused or disabled",
            "pgbouncer_databases_paused == 1 or pgbouncer_databases_disabled == 1",
            {"instance": "Host", "name": "Database"},
            height=5,
        ),
    ]
    return dashboard("pgbouncer", "PgBouncer", "The pools between applications and the database.", panels)


def redis() -> dict[str, Any]:
    each = "{{instance}}:{{port}}"
    panels = [
        stat("Nodes up", "short", "sum(redis_up)", ONE_IS_GOOD),
        stat("Slots served", "short", "min(redis_cluster_slots_ok)", [(None, RED), (16384, GREEN)]),
        stat("Masters", "short", 'count(redis_instance_info{role="master"})'),
        stat("Replicas detached", "short", "count(redis_master_link_up == 0) or vector(0)", ANY_IS_BAD),
        stat("Misses", "percentunit", "redis:miss:ratio5m", [(None, GREEN), (0.2, YELLOW)], decimals=1),
        stat("Keys", "short", 'sum(redis_db_keys and on (instance, port) redis_instance_info{role="master"})'),
        graph("Commands", "ops", ("redis:commands:rate5m", each)),
        graph("Memory", "percentunit", ("redis:memory_used:ratio", each), top=1, levels=[(None, GREEN), (0.75, YELLOW)]),
        graph(
            "Hits and misses",
            "ops",
            (f"sum(rate(redis_keyspace_hits_total[{RATE}]))", "hits"),
            (f"sum(rate(redis_keyspace_misses_total[{RATE}]))", "misses"),
            stack=True,
        ),
        graph("Clients", "short", ("redis_connected_clients", each)),
        graph(
            "Keys evicted and expired",
            "ops",
            (f"sum by (instance, port) (rate(redis_evicted_keys_total[{RATE}]))", f"evicted {each}"),
            (f"sum by (instance, port) (rate(redis_expired_keys_total[{RATE}]))", f"expired {each}"),
        ),
        graph(
            "Time of a command",
            "s",
            (
                f"sum by (cmd) (rate(redis_commands_duration_seconds_total[{RATE}])) / (sum by (cmd) (rate(redis_commands_total[{RATE}])) > 0)",
                "{{cmd}}",
            ),
        ),
        graph(
            "Network",
            "Bps",
            (f"sum by (instance, port) (rate(redis_net_output_bytes_total[{RATE}]))", f"out {each}"),
            (f"sum by (instance, port) (rate(redis_net_input_bytes_total[{RATE}]))", f"in {each}"),
        ),
        graph("Behind the master", "bytes", ("redis_connected_slave_lag_seconds", f"{each} to {{{{slave_ip}}}}:{{{{slave_port}}}}")),
        state("Nodes", ("redis_up", each), width=12),
        state("Links to masters", ("redis_master_link_up", each), width=12),
    ]
    panels[-3]["fieldConfig"]["defaults"]["unit"] = "s"
    return dashboard("redis", "Redis", "The cluster: slots, replicas, memory, hits.", panels)


def etcd() -> dict[str, Any]:
    panels = [
        stat("Members up", "short", 'sum(up{job="etcd"})', ONE_IS_GOOD),
        stat("See a leader", "short", "sum(etcd_server_has_leader)", ONE_IS_GOOD),
        stat(
            "Changes of leader, one day",
            "short",
            "max(increase(etcd_server_leader_changes_seen_total[1d]))",
            [(None, GREEN), (3, YELLOW)],
            decimals=0,
        ),
        stat("Store", "percentunit", "max(etcd_mvcc_db_total_size_in_bytes / etcd_server_quota_backend_bytes)", USAGE, decimals=1),
        state("Who leads", ("etcd_server_is_leader", "{{instance}}"), height=5),
        graph(
            "Disk: 99 % of writes within",
            "s",
            (
                f"histogram_quantile(0.99, sum by (instance, le) (rate(etcd_disk_wal_fsync_duration_seconds_bucket[{RATE}])))",
                "{{instance}}",
            ),
            levels=[(None, GREEN), (0.05, YELLOW), (0.5, RED)],
        ),
        graph(
            "Network: 99 % of messages within",
            "s",
            (
                f"histogram_quantile(0.99, sum by (instance, To, le) (rate(etcd_network_peer_round_trip_time_seconds_bucket[{RATE}])))",
                "{{instance}} to {{To}}",
            ),
        ),
        graph(
            "Proposals",
            "ops",
            (f"sum by (instance) (rate(etcd_server_proposals_committed_total[{RATE}]))", "{{instance}} committed"),
            (f"sum by (instance) (rate(etcd_server_proposals_failed_total[{RATE}]))", "{{instance}} failed"),
        ),
        graph(
            "Size of the store",
            "bytes",
            ("etcd_mvcc_db_total_size_in_bytes", "{{instance}}"),
            ("etcd_mvcc_db_total_size_in_use_in_bytes", "{{instance}} in use"),
        ),
    ]
    return dashboard("etcd", "etcd", "The memory of who leads the database.", panels)


def backup() -> dict[str, Any]:
    panels = [
        stat("Repository", "short", "max(pgbackrest_stanza_status)", ANY_IS_BAD, text="Status code of pgBackRest; 0 is good."),
        stat("Age of the last backup", "s", 'time() - max(pgbackrest_backup_last_timestamp_seconds{type="any"})', AGE_OF_BACKUP),
        stat(
            "Age of the last full backup",
            "s",
            'time() - max(pgbackrest_backup_last_timestamp_seconds{type="full"})',
            [(None, GREEN), (7 * 86400, YELLOW), (8 * 86400, RED)],
        ),
        stat(
            "WAL archived, age",
            "s",
            "time() - max(pg_archive_last_success_timestamp_seconds and on (instance) (pg_instance_in_recovery == 0))",
            [(None, GREEN), (300, YELLOW), (600, RED)],
        ),
        stat(
            "Last proof",
            "short",
            "min(backup_verify_success)",
            ONE_IS_GOOD,
            text="Whether the last restore test succeeded (playbooks/verify_backups.yml).",
        ),
        stat("Backups kept", "short", "sum(pgbackrest_backups)"),
        stat(
            "Age of the last proof",
            "s",
            "time() - max(backup_verify_timestamp_seconds)",
            [(None, GREEN), (7 * 86400, YELLOW), (8 * 86400, RED)],
        ),
        stat("Newest moment proved, age", "s", "time() - max(backup_verify_unproven_since_timestamp_seconds)", AGE_OF_PROOF),
        stat(
            "Time to restore, of what is promised",
            "percentunit",
            "max(backup_verify_rto_seconds / backup_verify_rto_target_seconds)",
            OF_PROMISE,
            text="By the last proof; red where a restore takes longer than pgbackrest_rto_seconds.",
        ),
        stat(
            "What would be lost, of what is promised",
            "percentunit",
            "max(backup_verify_rpo_seconds / backup_verify_rpo_target_seconds)",
            OF_PROMISE,
            text="By the last proof; red where more would be lost than pgbackrest_rpo_seconds.",
        ),
        stat("Timers that are stopped", "short", "count(pgbackrest_timer_active == 0) or vector(0)", ANY_IS_BAD),
        stat(
            "Days until the repository is full",
            "short",
            "min(backup:repository_full:days < 10000) or vector(10000)",
            DAYS_LEFT,
            decimals=0,
            text="At the rate of the last week; 10000 where it does not grow.",
        ),
        graph("How long a backup took", "s", ("pgbackrest_backup_last_duration_seconds", "{{stanza}} {{type}}")),
        graph(
            "Size",
            "bytes",
            ("pgbackrest_backup_last_size_bytes", "{{stanza}} {{type}} database"),
            ("pgbackrest_backup_last_stored_bytes", "{{stanza}} {{type}} stored"),
        ),
        graph(
            "Room of the repository",
            "bytes",
            ("pgbackrest_repo_free_bytes", "repository {{repo}} {{instance}} free"),
            ("pgbackrest_repo_stored_bytes", "repository {{repo}} {{stanza}} backups"),
        ),
        graph(
            "WAL that one repository lacks and another has",
            "short",
            (
                "max by (stanza) (pgbackrest_repo_archive_segment) - on (stanza) group_right () pgbackrest_repo_archive_segment",
                "repository {{repo}} {{stanza}}",
            ),
            levels=[(None, GREEN), (10, RED)],
        ),
        state(
            "Timers and repositories",
            ("pgbackrest_timer_active", "{{timer}}"),
            ("pgbackrest_repo_status == bool 0", "repository {{repo}} {{stanza}}"),
            ("pgbackrest_second_running", "WAL for the second repository"),
            width=12,
            height=8,
        ),
        state("Checks of the last proof", ("backup_verify_check_success", "{{check}}"), width=12, height=8),
        graph("WAL that waits for the archive", "short", ("pg_archive_waiting", "{{instance}}"), levels=[(None, GREEN), (10, RED)]),
        graph(
            "Proved: time to restore and what would be lost",
            "s",
            ("backup_verify_rto_seconds", "{{stanza}} to restore"),
            ("backup_verify_rpo_seconds", "{{stanza}} would be lost"),
        ),
        graph(
            "Since WAL came into the second repository, or none waited",
            "s",
            ("time() - pgbackrest_second_progress_timestamp_seconds", "{{stanza}}"),
            levels=[(None, GREEN), (900, RED)],
        ),
    ]
    return dashboard("backup", "Backups", "Is there one, how old is it, and was it proved.", panels, period="7d")


def monitoring() -> dict[str, Any]:
    panels = [
        stat("Targets down", "short", "count(up == 0) or vector(0)", ANY_IS_BAD),
        stat("Series", "short", "sum(prometheus_tsdb_head_series)"),
        stat("Samples a second", "ops", "sum(rate(prometheus_tsdb_head_samples_appended_total[5m]))", decimals=0),
        stat("Disk", "bytes", "sum(prometheus_tsdb_storage_blocks_bytes)"),
        stat("Alertmanagers in touch", "short", "min(prometheus_notifications_alertmanagers_discovered)", ONE_IS_GOOD),
        stat(
            "Notifications that failed, one day",
            "short",
            "sum(increase(alertmanager_notifications_failed_total[1d]))",
            ANY_IS_BAD,
            decimals=0,
        ),
        table("Targets that do not answer", "up == 0", {"job": "Job", "instance": "Where"}, width=12),
        table("What fires", 'ALERTS{alertstate="firing"}', {"severity": "Severity", "alertname": "Alert", "instance": "Where"}, width=12),
        graph("Series by job", "short", ("sum by (job) (scrape_samples_post_metric_relabeling)", "{{job}}"), stack=True),
        graph("Slowest scrapes", "s", ("topk(10, scrape_duration_seconds)", "{{job}} {{instance}}")),
        graph("Evaluation of rules", "s", ("prometheus_rule_group_last_duration_seconds", "{{rule_group}}")),
        graph(
            "Notifications",
            "ops",
            (f"sum by (integration) (rate(alertmanager_notifications_total[{RATE}]))", "{{integration}}"),
            (f"sum by (integration) (rate(alertmanager_notifications_failed_total[{RATE}]))", "{{integration}} failed"),
        ),
        graph("Memory", "bytes", ('process_resident_memory_bytes{job=~"prometheus|alertmanager|loki|grafana"}', "{{job}} {{instance}}")),
        graph("Collectors of the hosts", "s", ("platform_collector_seconds", "{{collector}} {{instance}}")),
    ]
    return dashboard("monitoring", "Monitoring", "Whether the monitoring itself works.", panels)


def log_panels() -> dict[str, Any]:
    panels = [
        log_graph("Lines by host", f'sum by (host) (count_over_time({{host=~".+"}}[{RATE}]))', "{{host}}"),
        log_graph(
            "Errors by unit", f'sum by (unit) (count_over_time({{job="journal", priority=~"emerg|alert|crit|err"}}[{RATE}]))', "{{unit}}"
        ),
        log_graph("Requests by class", f'sum by (class) (count_over_time({{job="nginx"}}[{RATE}]))', "{{class}}"),
        log_graph("Audit", f'sum by (host) (count_over_time({{audit="true"}}[{RATE}]))', "{{host}}"),
        logs("Errors", '{job="journal", priority=~"emerg|alert|crit|err"}'),
        logs("Requests that failed", '{job="nginx", class="5xx"}'),
        logs("Applications", '{unit=~"app-.*"}'),
    ]
    return dashboard("logs", "Logs", "Errors of every host, failed requests, applications.", panels, period="1h")


BUILDERS = {
    "overview": overview,
    "hosts": hosts,
    "gateway": gateway,
    "application": application,
    "postgresql": postgresql,
    "pgbouncer": pgbouncer,
    "redis": redis,
    "etcd": etcd,
    "backup": backup,
    "monitoring": monitoring,
    "logs": log_panels,
}


def render() -> dict[str, str]:
    """Return the text of every file by its name."""
    return {f"{name}.json": json.dumps(build(), indent=1, sort_keys=True) + "\n" for name, build in BUILDERS.items()}


def main() -> int:
    texts = render()
    if "--check" in sys.argv[1:]:
        differ = [
            name for name, text in texts.items() if not (FOLDER / name).is_file() or (FOLDER / name).read_text(encoding="utf-8") != text
        ]
        print("\n".join(f"{name} differs: run scripts/dashboards.py" for name in differ) or f"{len(texts)} dashboards are current")
        return 1 if differ else 0
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name, text in texts.items():
        (FOLDER / name).write_text(text, encoding="utf-8")
    print(f"{len(texts)} dashboards, {sum(len(json.loads(text)['panels']) for text in texts.values())} panels")
    return 0


if __name__ == "__main__":
    sys.exit(main())
