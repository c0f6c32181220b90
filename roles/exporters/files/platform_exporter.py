# SPDX-License-Identifier: GPL-3.0-or-later
"""Metrics of components that bring no exporter which speaks mutual TLS on every supported release.

platform_exporter.py serve CONFIG      answer /metrics over TLS 1.3 to clients with a certificate of the internal CA
platform_exporter.py textfile CONFIG   write one file for node_exporter's textfile collector

CONFIG is JSON: {"collectors": [{"kind": ..., ...}], and for serve "port" and "tls": {"ca", "cert", "key"},
for textfile "output"}. serve can also pass one path on to an exporter on loopback: "forward": {"path", "to", "targets"}. The standard
library is all it needs from the host.
"""

from __future__ import annotations

import json
import os
import ssl
import struct
import subprocess
import sys
import threading
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from ansible_collections.uptier.platform.plugins.module_utils.host.files import replace_file
from ansible_collections.uptier.platform.plugins.module_utils.postgresql.console import Console
from ansible_collections.uptier.platform.plugins.module_utils.postgresql.errors import PostgresqlError
from ansible_collections.uptier.platform.plugins.module_utils.postgresql.pgbackrest import (
    CONFIG,
    RepositoryError,
    attributed,
    info_options,
    local_path,
    merged,
    parse,
    read_config,
    repositories,
    unreadable,
)
from ansible_collections.uptier.platform.plugins.module_utils.postgresql.wal import SEGMENT_BYTES

SECONDS = 5.0
SEGMENTS = (1 << 32) // SEGMENT_BYTES  # of WAL, with the same first half of their name's number
BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)


class Metrics:
    """Collects samples and writes them in the text format, all samples of one name together."""

    def __init__(self) -> None:
        self._families: dict[str, tuple[str, str, list[str]]] = {}

    def add(self, name: str, kind: str, text: str, value: float, labels: dict[str, str] | None = None, suffix: str = "") -> None:
        samples = self._families.setdefault(name, (kind, text, []))[2]
        pairs = ",".join(f'{key}="{self._escape(value)}"' for key, value in (labels or {}).items())
        samples.append(f"{name}{suffix}{{{pairs}}} {value:.12g}" if pairs else f"{name}{suffix} {value:.12g}")

    @staticmethod
    def _escape(value: str) -> str:
        return str(value).replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")

    def text(self) -> str:
        lines: list[str] = []
        for name, (kind, text, samples) in self._families.items():
            lines += [f"# HELP {name} {text}", f"# TYPE {name} {kind}", *samples]
        return "\n".join(lines) + "\n"


# --- gateway -------------------------------------------------------------------------------------------------------


def parse_stub_status(text: str) -> dict[str, int]:
    """Read nginx's stub_status page."""
    numbers = [int(word) for word in text.split() if word.isdigit()]
    active, accepted, handled, requests, reading, writing, waiting = numbers
    return {
        "active": active,
        "accepted": accepted,
        "handled": handled,
        "requests": requests,
        "reading": reading,
        "writing": writing,
        "waiting": waiting,
    }


class Nginx:
    """stub_status under the names that NGINX's own exporter uses."""

    def __init__(self, options: dict[str, Any]) -> None:
        self._url = options["url"]

    def collect(self, metrics: Metrics) -> None:
        try:
            with urllib.request.urlopen(self._url, timeout=SECONDS) as answer:  # a loopback URL from our own configuration
                page = parse_stub_status(answer.read().decode())
        except (OSError, ValueError) as error:
            print(f"nginx: {self._url}: {error}", file=sys.stderr)
            metrics.add("nginx_up", "gauge", "Whether the status page answered.", 0)
            return
        metrics.add("nginx_up", "gauge", "Whether the status page answered.", 1)
        metrics.add("nginx_http_requests_total", "counter", "Requests.", page["requests"])
        metrics.add("nginx_connections_accepted", "counter", "Accepted connections.", page["accepted"])
        metrics.add("nginx_connections_handled", "counter", "Handled connections.", page["handled"])
        for state in ("active", "reading", "writing", "waiting"):
            metrics.add(f"nginx_connections_{state}", "gauge", f"Connections: {state}.", page[state])


class AccessLog:
    """Follows a JSON access log and counts requests by host and status, and their duration, as a client sees them."""

    def __init__(self, options: dict[str, Any]) -> None:
        self._path = Path(options["path"])
        self._fields = options["fields"]
        self._lock = threading.Lock()
        self._requests: dict[tuple[str, str], int] = {}
        self._durations: dict[str, list[float]] = {}  # host -> one counter per bucket, then count and sum
        self._unread = 0
        # Hosts come from the client: everything that is not ours is one label, or a scanner could fill the memory.
        self._hosts = frozenset(options["hosts"])
        # Names below a wildcard are many, and are counted under the wildcard; the longest one decides, as at the gateway.
        self._wildcards = sorted((domain for domain in self._hosts if domain.startswith("*.")), key=len, reverse=True)

    def start(self) -> None:
        threading.Thread(target=self._follow, daemon=True).start()

    def _follow(self) -> None:
        at_end = True
        while True:
            try:
                with self._path.open(encoding="utf-8", errors="replace") as stream:
                    if at_end:
                        stream.seek(0, os.SEEK_END)
                    self._read(stream)
            except OSError:
                time.sleep(SECONDS)
            at_end = False

    def _read(self, stream: Any) -> None:
        """Read until the file was rotated away and its writer has moved on to the new one."""
        opened = os.fstat(stream.fileno()).st_ino
        rest = ""
        rotated = 0.0
        while True:
            chunk = stream.read(1 << 20)
            if chunk:
                *lines, rest = (rest + chunk).split("\n")
                for line in lines:
                    self.count(line)
                rotated = 0.0
                continue
            try:
                now = self._path.stat()
                if now.st_ino == opened and now.st_size < stream.tell():
                    return
                gone = now.st_ino != opened
            except FileNotFoundError:
                gone = True
            # nginx goes on writing to the renamed file until it has been told to open the new one.
            if gone and rotated and time.monotonic() - rotated > SECONDS:
                return
            rotated = rotated or (time.monotonic() if gone else 0.0)
            time.sleep(1)

    def count(self, line: str) -> None:
        try:
            entry = json.loads(line)
            host, status = str(entry[self._fields["host"]]).lower(), str(entry[self._fields["status"]])
            seconds = float(entry[self._fields["seconds"]])
        except (ValueError, KeyError, TypeError):
            with self._lock:
                self._unread += 1
            return
        host = host if host in self._hosts else next((domain for domain in self._wildcards if host.endswith(domain[1:])), "other")
        with self._lock:
            self._requests[host, status] = self._requests.get((host, status), 0) + 1
            row = self._durations.setdefault(host, [0.0] * (len(BUCKETS) + 2))
            for number, bound in enumerate(BUCKETS):
                row[number] += seconds <= bound
            row[-2] += 1
            row[-1] += seconds

    def collect(self, metrics: Metrics) -> None:
        name = "gateway_http_request_duration_seconds"
        with self._lock:
            metrics.add("gateway_log_lines_unread_total", "counter", "Lines of the access log that could not be read.", self._unread)
            for (host, status), count in sorted(self._requests.items()):
                labels = {"vhost": host, "status": status}
                metrics.add("gateway_http_requests_total", "counter", "Requests by host and status.", count, labels)
            for host, row in sorted(self._durations.items()):
                for bound, count in zip(BUCKETS, row, strict=False):
                    labels = {"vhost": host, "le": f"{bound:g}"}
                    metrics.add(name, "histogram", "Time to answer a request.", count, labels, "_bucket")
                metrics.add(name, "histogram", "", row[-2], {"vhost": host, "le": "+Inf"}, "_bucket")
                metrics.add(name, "histogram", "", row[-1], {"vhost": host}, "_sum")
                metrics.add(name, "histogram", "", row[-2], {"vhost": host}, "_count")


def local_addresses(trie: str) -> set[str]:
    """Return the addresses that /proc/net/fib_trie calls local."""
    found, last = set(), ""
    for line in trie.splitlines():
        words = line.split()
        if words[:1] == ["|--"]:
            last = words[1]
        elif words[:3] == ["/32", "host", "LOCAL"]:
            found.add(last)
    return found


class Address:
    """Whether this host holds the shared address."""

    def __init__(self, options: dict[str, Any]) -> None:
        self._address = options["address"]

    def collect(self, metrics: Metrics) -> None:
        held = self._address in local_addresses(Path("/proc/net/fib_trie").read_text(encoding="ascii"))
        text = "Whether this host holds the shared address."
        metrics.add("keepalived_address_held", "gauge", text, held, {"address": self._address})


# --- PgBouncer -----------------------------------------------------------------------------------------------------


POOLS = {
    "cl_active": ("client_active_connections", "Clients that hold a server connection."),
    "cl_waiting": ("client_waiting_connections", "Clients that wait for a server connection."),
    "sv_active": ("server_active_connections", "Server connections in use."),
    "sv_idle": ("server_idle_connections", "Server connections that wait for a client."),
    "sv_used": ("server_used_connections", "Server connections to be checked before their next use."),
    "sv_login": ("server_login_connections", "Server connections that log in."),
}
STATS = {
    "total_xact_count": ("sql_transactions_pooled_total", "Transactions.", 1.0),
    "total_query_count": ("queries_pooled_total", "Queries.", 1.0),
    "total_received": ("received_bytes_total", "Bytes from clients.", 1.0),
    "total_sent": ("sent_bytes_total", "Bytes to clients.", 1.0),
    "total_xact_time": ("server_in_transaction_seconds_total", "Time spent in transactions.", 1e-6),
    "total_query_time": ("queries_duration_seconds_total", "Time spent in queries.", 1e-6),
    "total_wait_time": ("client_wait_seconds_total", "Time that clients waited for a server.", 1e-6),
}
DATABASES = {
    "pool_size": ("pool_size", "Server connections that a pool may hold."),
    "current_connections": ("current_connections", "Server connections of the database."),
    "paused": ("paused", "Whether the database is paused."),
    "disabled": ("disabled", "Whether the database is disabled."),
}
SETTINGS = {
    "max_client_conn": ("config_max_client_connections", "Clients that may connect."),
    "max_db_connections": ("config_max_database_connections", "Server connections that a database may have; 0 is no limit."),
    "default_pool_size": ("config_default_pool_size", "Server connections of a pool."),
}


class PgBouncer:
    """The console's tables under the names of the Prometheus community's exporter."""

    def __init__(self, options: dict[str, Any]) -> None:
        self._options = options

    def _console(self) -> Console:
        given = self._options
        password = Path(given["password_file"]).read_text(encoding="utf-8").removesuffix("\n") if given.get("password_file") else ""
        address = given.get("socket") or (given["host"], given["port"])
        return Console(address, given["user"], password, SECONDS, "platform_exporter")

    def collect(self, metrics: Metrics) -> None:
        try:
            with self._console() as session:
                tables = {name: session.show(name) for name in ("POOLS", "STATS", "DATABASES", "LISTS", "CONFIG")}
        except (OSError, PostgresqlError, ValueError, struct.error) as error:
            print(f"pgbouncer: {error}", file=sys.stderr)
            metrics.add("pgbouncer_up", "gauge", "Whether the console answered.", 0)
            return
        metrics.add("pgbouncer_up", "gauge", "Whether the console answered.", 1)
        self.render(metrics, tables)

    @staticmethod
    def render(metrics: Metrics, tables: dict[str, list[dict[str, str]]]) -> None:
        for row in tables["POOLS"]:
            labels = {"database": row["database"], "user": row["user"]}
            for column, (name, text) in POOLS.items():
                metrics.add(f"pgbouncer_pools_{name}", "gauge", text, float(row[column]), labels)
            longest = float(row["maxwait"]) + float(row["maxwait_us"]) / 1e6
            metrics.add("pgbouncer_pools_client_maxwait_seconds", "gauge", "How long the first client in line has waited.", longest, labels)
        for row in tables["STATS"]:
            for column, (name, text, factor) in STATS.items():
                metrics.add(f"pgbouncer_stats_{name}", "counter", text, float(row[column]) * factor, {"database": row["database"]})
        for row in tables["DATABASES"]:
            for column, (name, text) in DATABASES.items():
                metrics.add(f"pgbouncer_databases_{name}", "gauge", text, float(row[column] or 0), {"name": row["name"]})
        for row in tables["LISTS"]:
            if row["list"] in ("used_clients", "free_clients", "used_servers", "free_servers"):
                metrics.add(f"pgbouncer_{row['list']}", "gauge", f"Objects in the list {row['list']}.", float(row["items"]))
        for row in tables["CONFIG"]:
            if row["key"] in SETTINGS:
                name, text = SETTINGS[row["key"]]
                metrics.add(f"pgbouncer_{name}", "gauge", text, float(row["value"]))


# --- files for node_exporter ---------------------------------------------------------------------------------------


def run(argv: list[str], user: str | None = None) -> str:
    done = subprocess.run(
        argv, capture_output=True, text=True, check=True, timeout=60, user=user, group=user, extra_groups=[] if user else None
    )
    return done.stdout


class Certificates:
    """When certificates on this host end."""

    def __init__(self, options: dict[str, Any]) -> None:
        self._globs = options["globs"]

    def collect(self, metrics: Metrics) -> None:
        paths = sorted({path for pattern in self._globs for path in Path("/").glob(pattern.lstrip("/")) if path.is_file()})
        for path in paths:
            try:
                text = run(["openssl", "x509", "-noout", "-enddate", "-in", str(path)])
            except (OSError, subprocess.SubprocessError) as error:
                print(f"certificates: {path}: {error}", file=sys.stderr)
                continue
            ends = datetime.strptime(text.strip().removeprefix("notAfter="), "%b %d %H:%M:%S %Y %Z").replace(tzinfo=UTC)
            name = "platform_certificate_not_after_timestamp_seconds"
            metrics.add(name, "gauge", "When a certificate ends.", ends.timestamp(), {"path": str(path)})


class Host:
    """Failed units and a reboot that waits."""

    def __init__(self, options: dict[str, Any]) -> None:
        del options

    def collect(self, metrics: Metrics) -> None:
        out = run(["systemctl", "list-units", "--failed", "--plain", "--no-legend", "--no-pager"])
        failed = [line.split()[0] for line in out.splitlines() if line.split()]
        metrics.add("platform_failed_units", "gauge", "Units that systemd calls failed.", len(failed))
        for unit in sorted(failed):
            metrics.add("platform_failed_unit", "gauge", "A unit that systemd calls failed.", 1, {"unit": unit})
        waits = Path("/run/reboot-required").exists() or Path("/var/run/reboot-required").exists()
        metrics.add("platform_reboot_required", "gauge", "Whether an update waits for a reboot.", waits)


class Firewall:
    """Whether the platform's rules are in force. Where they were never written there is nothing to say."""

    def __init__(self, options: dict[str, Any]) -> None:
        self.path = Path(options["path"])

    def collect(self, metrics: Metrics) -> None:
        if not self.path.exists():
            return
        try:
            chain = run(["nft", "list", "chain", "inet", "platform", "input"])
        except subprocess.CalledProcessError as error:
            if "No such file or directory" not in error.stderr:
                raise
            chain = ""
        metrics.add(
            "platform_firewall_loaded", "gauge", "Whether the platform's table keeps out what no flow permits.", "policy drop" in chain
        )


class PgBackRest:
    """Backups and repositories as `pgbackrest info` knows them, the room that a repository on this host has, and the timers of it all."""

    def __init__(self, options: dict[str, Any]) -> None:
        self._user = options["user"]
        self._config = options.get("config", CONFIG)
        self._timers = Path(options.get("timers", "/etc/systemd/system"))
        self._stamps = Path(options.get("stamps", "/var/lib/systemd/timers"))
        self._notes = Path(options.get("notes", "/var/spool/pgbackrest/second"))

    def collect(self, metrics: Metrics) -> None:
        # First: they are what is left to be seen where pgBackRest does not answer.
        self._schedule(metrics)
        self._room(metrics)
        self._second(metrics)
        text = "Whether `pgbackrest info` answered."
        parts: list[list[dict[str, Any]]] = []
        for number in self._numbers():
            options = info_options(number) if number else []
            try:
                found = parse(run(["pgbackrest", "info", *options, "--output=json", "--log-level-console=off"], self._user))
                parts.append(attributed(found, parts[0], number) if parts else found)
            except (OSError, ValueError, subprocess.SubprocessError) as error:
                print(f"pgbackrest: {getattr(error, 'stderr', None) or error}", file=sys.stderr)
                if number < 2:
                    metrics.add("pgbackrest_up", "gauge", text, 0)
                    return
                parts.append([entry for stanza in parts[0] for entry in unreadable(stanza["name"], number, str(error))])
        metrics.add("pgbackrest_up", "gauge", text, 1)
        self.render(metrics, merged(parts))

    def _numbers(self) -> list[int]:
        """Return the numbers of the repositories where there are several, else 0."""
        try:
            found = sorted(repositories(read_config(self._config), ""))
        except RepositoryError:
            return [0]
        return found if len(found) > 1 else [0]

    def _schedule(self, metrics: Metrics) -> None:
        """Tell which timers of backups and proofs run. One without a calendar was switched off by its role."""
        names = sorted(path.name for path in self._timers.glob("pgbackrest-*.timer") if "\nOnCalendar=" in path.read_text(encoding="utf-8"))
        if not names:
            return
        blocks = run(["systemctl", "show", "--property=Id,ActiveState", *names]).strip().split("\n\n")
        for seen in (dict(line.partition("=")[::2] for line in block.splitlines()) for block in blocks):
            labels, active = {"timer": seen["Id"]}, seen["ActiveState"] == "active"
            metrics.add("pgbackrest_timer_active", "gauge", "Whether a timer of backups or proofs waits for its time.", active, labels)
        for name in names:
            stamp = self._stamps / f"stamp-{name}"
            if stamp.exists():
                text = "When a timer went off last, or was started first."
                metrics.add("pgbackrest_timer_last_trigger_timestamp_seconds", "gauge", text, stamp.stat().st_mtime, {"timer": name})

    def _room(self, metrics: Metrics) -> None:
        """Tell how much room there is where repositories of this host lie."""
        try:
            text = read_config(self._config)
        except RepositoryError as error:
            print(f"pgbackrest: {error}", file=sys.stderr)
            return
        for number in repositories(text, ""):
            path = local_path(text, "", number)
            if not path or not Path(path).is_dir():
                continue
            seen, labels = os.statvfs(path), {"repo": str(number)}
            size, free = seen.f_blocks * seen.f_frsize, seen.f_bavail * seen.f_frsize
            metrics.add("pgbackrest_repo_size_bytes", "gauge", "Size of the file system of a repository.", size, labels)
            metrics.add("pgbackrest_repo_free_bytes", "gauge", "What is free in it.", free, labels)

    def _second(self, metrics: Metrics) -> None:
        """Tell of what brings WAL into a second repository, on the host that does."""
        try:
            known = repositories(read_config(self._config), "")
        except RepositoryError:
            return
        if not any(number > 1 and "host" not in settings for number, settings in known.items()):
            return
        state = run(["systemctl", "show", "--property=ActiveState", "--value", "pgbackrest-second.service"]).strip()
        text = "Whether what brings WAL into the second repository runs."
        metrics.add("pgbackrest_second_running", "gauge", text, state == "active")
        for path in sorted(self._notes.glob("*.done")):
            text = "When WAL was last brought into the second repository, or none waited for it."
            metrics.add("pgbackrest_second_progress_timestamp_seconds", "gauge", text, path.stat().st_mtime, {"stanza": path.stem})

    @staticmethod
    def render(metrics: Metrics, stanzas: Iterable[dict[str, Any]]) -> None:
        for stanza in stanzas:
            labels = {"stanza": stanza["name"]}
            code = stanza["status"]["code"]
            metrics.add("pgbackrest_stanza_status", "gauge", "Status code of the stanza; 0 is good.", code, labels)
            for repo in stanza.get("repo", []):
                number = {**labels, "repo": str(repo["key"])}
                metrics.add("pgbackrest_repo_status", "gauge", "Status code of a repository; 0 is good.", repo["status"]["code"], number)
            held = bool(((stanza["status"].get("lock") or {}).get("backup") or {}).get("held"))
            metrics.add("pgbackrest_backup_running", "gauge", "Whether a backup or an expiry is at work.", held, labels)
            backups = sorted(stanza.get("backup", []), key=lambda item: item["timestamp"]["stop"])
            PgBackRest._repositories(metrics, labels, backups, stanza.get("archive", []))
            metrics.add("pgbackrest_backups", "gauge", "Backups in the repositories.", len(backups), labels)
            # A full backup serves wherever a smaller kind would, so "any" is the newest of all kinds.
            newest = {"any": backups[-1]} if backups else {}
            newest.update({item["type"]: item for item in backups})
            for kind, item in newest.items():
                kinds = {**labels, "type": kind}
                stop, start = item["timestamp"]["stop"], item["timestamp"]["start"]
                metrics.add("pgbackrest_backup_last_timestamp_seconds", "gauge", "When the last backup ended.", stop, kinds)
                metrics.add("pgbackrest_backup_last_duration_seconds", "gauge", "How long the last backup took.", stop - start, kinds)
                metrics.add("pgbackrest_backup_last_size_bytes", "gauge", "Size of the database in it.", item["info"]["size"], kinds)
                stored = item["info"]["repository"].get("delta", 0)
                metrics.add("pgbackrest_backup_last_stored_bytes", "gauge", "Bytes that it added to the repository.", stored, kinds)
                broken = bool(item.get("error"))
                metrics.add("pgbackrest_backup_last_error", "gauge", "Whether it holds pages with a wrong checksum.", broken, kinds)

    @staticmethod
    def _repositories(metrics: Metrics, labels: dict[str, str], backups: list[dict[str, Any]], archives: list[dict[str, Any]]) -> None:
        """Tell what each repository has.

        Args:
            metrics: where it goes.
            labels: of the stanza.
            backups: oldest first.
            archives: of WAL, one for each version of the cluster.
        """
        kept: dict[str, list[dict[str, Any]]] = {}
        for item in backups:
            kept.setdefault(str(item["database"].get("repo-key", 1)), []).append(item)
        for number, items in sorted(kept.items()):
            own = {**labels, "repo": number}
            stored = sum(item["info"]["repository"].get("delta", 0) for item in items)
            newest = items[-1]["timestamp"]["stop"]
            metrics.add("pgbackrest_repo_backups", "gauge", "Backups in a repository.", len(items), own)
            metrics.add("pgbackrest_repo_stored_bytes", "gauge", "Bytes of all its backups, without WAL.", stored, own)
            metrics.add("pgbackrest_repo_last_backup_timestamp_seconds", "gauge", "When its newest backup ended.", newest, own)
        segments: dict[str, int] = {}
        for item in archives:
            name = item.get("max") or ""
            if len(name) == 24:
                # Positions go on where timelines change; segments are taken to have PostgreSQL's own size.
                number, place = str(item["database"].get("repo-key", 1)), int(name[8:16], 16) * SEGMENTS + int(name[16:], 16)
                segments[number] = max(place, segments.get(number, 0))
        for number, place in sorted(segments.items()):
            text = "Number of the newest segment of WAL, counted from the cluster's beginning."
            metrics.add("pgbackrest_repo_archive_segment", "gauge", text, place, {**labels, "repo": number})


class RestoredWal:
    """Whether the repository gives this standby the WAL that it asks for, by the memory of its restore_command."""

    RECENT = 60.0  # a standby that lacks WAL asks more often

    def __init__(self, options: dict[str, Any]) -> None:
        self._path = Path(options["path"])

    def collect(self, metrics: Metrics) -> None:
        now, seen = time.time(), {}
        if self._path.exists():
            seen = {name: float(value) for name, value in (line.split() for line in self._path.read_text(encoding="utf-8").splitlines())}
        asks = now - seen.get("last_failure", 0) < self.RECENT
        since = seen.get("failing_since", now) if asks else now
        text = "How long a standby has asked the backup repository for WAL in vain; 0 while it does not ask, or gets it."
        metrics.add("postgresql_archive_failing_seconds", "gauge", text, max(0.0, now - since))


# --- applications --------------------------------------------------------------------------------------------------


class Releases:
    """Which release of each application this host runs, since when, and whether one is under way that has not ended on all hosts."""

    def __init__(self, options: dict[str, Any]) -> None:
        self._apps, self._state = Path(options["path"]), Path(options["state"])

    def collect(self, metrics: Metrics) -> None:
        for current in sorted(self._apps.glob("*/current")):
            name, release = current.parent.name, os.path.basename(os.readlink(current))
            try:
                version = json.loads((current / ".release.json").read_text(encoding="utf-8"))["version"]
            except (OSError, ValueError, KeyError):
                version = release
            labels = {"application": name, "version": version, "release": release}
            metrics.add("application_release_info", "gauge", "The release that a host runs.", 1, labels)
            text = "When a host got the release that it runs."
            metrics.add("application_release_timestamp_seconds", "gauge", text, current.lstat().st_mtime, {"application": name})
            text = "Whether a release has begun on this host and has not ended on all hosts."
            unfinished = (self._state / name / "unfinished.json").exists()
            metrics.add("application_release_unfinished", "gauge", text, unfinished, {"application": name})


# --- entry points --------------------------------------------------------------------------------------------------

KINDS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "nginx": Nginx,
    "access_log": AccessLog,
    "address": Address,
    "pgbouncer": PgBouncer,
    "certificates": Certificates,
    "host": Host,
    "firewall": Firewall,
    "pgbackrest": PgBackRest,
    "restored_wal": RestoredWal,
    "releases": Releases,
}


def gather(collectors: list[Any]) -> str:
    metrics = Metrics()
    for collector in collectors:
        begun = time.monotonic()
        labels = {"collector": type(collector).__name__.lower()}
        good = 1
        try:
            collector.collect(metrics)
        except Exception as error:  # one broken collector must not take the others' metrics away
            print(f"{labels['collector']}: {type(error).__name__}: {error}", file=sys.stderr)
            good = 0
        metrics.add("platform_collector_success", "gauge", "Whether a collector came to its end.", good, labels)
        metrics.add("platform_collector_seconds", "gauge", "How long a collector took.", time.monotonic() - begun, labels)
    return metrics.text()


class Server(ThreadingHTTPServer):
    """HTTPS with client certificates; reads a rotated certificate at the next connection, without a restart."""

    daemon_threads = True
    request_queue_size = 16

    def __init__(self, config: dict[str, Any], collectors: list[Any]) -> None:
        self._tls: dict[str, str] = config["tls"]
        self.forward: dict[str, Any] = config.get("forward") or {}
        self._loaded: tuple[float, ...] = ()
        self._context = self._load()
        self.collectors = collectors
        self.gathering = threading.Lock()
        super().__init__(("", config["port"]), Handler)

    def _stamps(self) -> tuple[float, ...]:
        return tuple(os.stat(path).st_mtime for path in self._tls.values())

    def _load(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.verify_mode = ssl.CERT_REQUIRED
        self._loaded = self._stamps()
        context.load_verify_locations(self._tls["ca"])
        context.load_cert_chain(self._tls["cert"], self._tls["key"])
        return context

    def get_request(self) -> tuple[Any, Any]:
        client, address = super().get_request()
        client.settimeout(SECONDS * 2)
        try:
            if self._loaded != self._stamps():
                self._context = self._load()
        except (OSError, ssl.SSLError) as error:  # half-way through a rotation: go on with what is loaded
            print(f"certificate not reloaded: {error}", file=sys.stderr)
        # The handshake belongs to the connection's own thread: a silent client keeps nobody waiting.
        return self._context.wrap_socket(client, server_side=True, do_handshake_on_connect=False), address

    def handle_error(self, request: Any, client_address: Any) -> None:
        print(f"{client_address[0]}: {sys.exc_info()[1]}", file=sys.stderr)


class Handler(BaseHTTPRequestHandler):
    server: Server
    server_version = "platform_exporter"
    sys_version = ""

    def do_GET(self) -> None:  # the name is http.server's
        path, _question_mark, query = self.path.partition("?")
        if path == "/metrics":
            with self.server.gathering:
                self._answer(200, gather(self.server.collectors).encode())
        elif path == self.server.forward.get("path"):
            self._pass_on(query)
        else:
            self.send_error(404)

    def _pass_on(self, query: str) -> None:
        """Ask the exporter on loopback, for targets that are ours only: it holds a password."""
        forward = self.server.forward
        targets = urllib.parse.parse_qs(query).get("target", [])
        if len(targets) != 1 or targets[0] not in forward["targets"]:
            self.send_error(403, "not a target of this host")
            return
        where = f"{forward['to']}{forward['path']}?{urllib.parse.urlencode({'target': targets[0]})}"
        try:
            with urllib.request.urlopen(where, timeout=SECONDS * 2) as answer:  # a loopback URL from our own configuration
                self._answer(answer.status, answer.read())
        except OSError as error:
            print(f"{where}: {error}", file=sys.stderr)
            self.send_error(502)

    def _answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Scrapes are not worth a line each."""


def serve(config: dict[str, Any], collectors: list[Any]) -> None:
    for collector in collectors:
        if hasattr(collector, "start"):
            collector.start()
    Server(config, collectors).serve_forever()


def write(config: dict[str, Any], collectors: list[Any]) -> None:
    replace_file(config["output"], gather(collectors), 0o644)


def main(argv: list[str]) -> int:
    if len(argv) != 3 or argv[1] not in ("serve", "textfile"):
        print(__doc__, file=sys.stderr)
        return 2
    config = json.loads(Path(argv[2]).read_text(encoding="utf-8"))
    collectors = [KINDS[options["kind"]](options) for options in config["collectors"]]
    (serve if argv[1] == "serve" else write)(config, collectors)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv))
