# SPDX-License-Identifier: GPL-3.0-or-later
"""What may not be adopted, what is said to whom it was adopted from, and that a killed run goes on."""

from __future__ import annotations

import json

import pytest
from ansible_collections.uptier.platform.plugins.module_utils.postgresql import adopt, adopt_apply
from ansible_collections.uptier.platform.plugins.module_utils.postgresql.errors import PostgresqlError

DATA = "/var/lib/postgresql/17/main"
GOOD = {
    "version": 17,
    "data": DATA,
    "recovery": False,
    "slots": [],
    "receivers": [],
    "tablespaces": {},
    "preload": "pg_stat_statements",
    "prepared": 0,
    "checksums": "on",
    "archive_mode": "off",
    "databases": ["postgres"],
    "powerful": [],
    "settings": {"max_connections": "100", "datestyle": "iso, dmy", "lc_messages": "de_DE.UTF-8", "hba_file": "/etc/x", "ssl": "on"},
}


def obstacles(missing=(), **changes):
    return adopt.obstacles({**GOOD, **changes}, "17", DATA, ["pg_stat_statements"], dict(missing))


def test_an_ordinary_cluster():
    assert obstacles() == []
    assert obstacles(tablespaces={"fast": "/var/lib/postgresql/fast"}, preload="") == []


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"version": 15}, "It runs version 15, the platform 17: upgrade it first (pg_upgradecluster)."),
        (
            {"data": "/srv/pg"},
            "Its data is in /srv/pg, the platform's in /var/lib/postgresql/17/main: stop it, move the directory and set data_directory.",
        ),
        ({"recovery": True}, "It is a standby: adopt the server that takes writes."),
        ({"slots": ["s1"]}, "It has replication slots (s1), which Patroni would drop: drop them, and rebuild what reads from them."),
        ({"receivers": ["db2"]}, "Others stream from it (db2): stop them; standbys of the platform copy it anew."),
        (
            {"tablespaces": {"fast": "/mnt/fast"}},
            "Tablespaces are outside of /var/lib/postgresql/, where Patroni's unit may not write (fast in /mnt/fast): move their tables to pg_default.",
        ),
        (
            {"preload": "timescaledb, pg_stat_statements"},
            "It loads timescaledb at its start, and the platform would not: name them in postgresql_preload_libraries.",
        ),
        ({"prepared": 2}, "2 prepared transactions are open, and the platform permits none: commit them or roll them back."),
        ({"powerful": ["monitor"]}, "Roles that the platform has for itself are somebody's administrators (monitor): rename them."),
        ({"missing": {"shop": ["postgis"], "b": []}}, "Database shop uses extensions whose files are gone (postgis)."),
    ],
)
def test_what_would_lose_something(changes, said):
    assert obstacles(**changes) == [said]


def test_what_is_said_afterwards():
    first = "Its settings and pg_hba.conf are kept in /kept; clients that the platform does not know need postgresql_hba_rules."
    assert adopt.remarks(GOOD, "/kept") == [first]
    seen = {
        **GOOD,
        "checksums": "off",
        "archive_mode": "on",
        "settings": {**GOOD["settings"], "work_mem": "64MB", "max_connections": "300"},
    }
    assert adopt.remarks(seen, "/kept") == [
        first,
        "These settings of its own hold no more; what you still want goes into postgresql_parameters (max_connections: 300, work_mem: 64MB).",
        "Its data has no checksums: stop the cluster once and run pg_checksums --enable.",
        "Its WAL archive gets no more files; pgBackRest's does.",
    ]


def test_what_a_language_decides_stays():
    assert adopt.base_configuration(GOOD).splitlines()[1:] == ["datestyle = 'iso, dmy'", "lc_messages = 'de_DE.UTF-8'"]


class Host:
    """The commands of a host; `dies_at` is the one during which the run is killed."""

    def __init__(self, cluster):
        self.cluster, self.online, self.led, self.dies_at, self.calls = cluster, True, False, "", []

    def run_command(self, argv, cwd="/"):
        line = " ".join(argv)
        self.calls.append(line)
        if self.dies_at and self.dies_at in line:
            raise KeyboardInterrupt
        if argv[0] == "pg_lsclusters":
            return 0, f"17 main 5433 {'online' if self.online else 'down'} postgres {DATA} /log\n" if self.cluster.is_somebodys else "", ""
        if argv[0] == "pg_ctlcluster":
            self.online = False
        if "is-active" in line:
            return (0 if self.led else 3), "", ""
        if "enable --now patroni" in line:
            assert not self.online, "two servers on one directory"
            self.led = True
        if "pg_is_in_recovery()" in line and "json_build_object" not in line:
            return (0, "t\n", "") if self.led else (2, "", "no server")
        if "json_build_object" in line:
            return 0, json.dumps(GOOD), ""
        return 0, "[]", ""


@pytest.fixture
def cluster(tmp_path, monkeypatch):
    one = adopt_apply.Cluster(None, "17", 5432)
    one.data, one.config, one.kept = str(tmp_path / "data"), str(tmp_path / "etc"), str(tmp_path / "adopted")
    one.seen = f"{one.kept}/seen.json"
    for path, name in ((one.data, "PG_VERSION"), (one.config, "pg_hba.conf")):
        (tmp_path / path).mkdir()
        (tmp_path / path / name).write_text("17\n")
    one.module = Host(one)
    monkeypatch.setattr(adopt_apply.os, "chown", lambda *arguments: None)
    monkeypatch.setattr(adopt_apply.pwd, "getpwnam", lambda name: type("User", (), {"pw_uid": 0, "pw_gid": 0}))
    return one


def adopt_it(cluster):
    """Do what the module does."""
    if not cluster.is_somebodys:
        return cluster.take(5) if cluster.waits_for_patroni else None
    port = cluster.port_now()
    monkeyed = {**GOOD, "data": cluster.data}
    seen = monkeyed if port else cluster.begun()
    assert seen is not None
    cluster.keep(seen)
    return cluster.take(5)


def test_one_run(cluster, tmp_path):
    assert adopt_it(cluster) < 5
    assert cluster.module.led
    assert (tmp_path / "adopted/etc/pg_hba.conf").exists()
    assert "lc_messages" in (tmp_path / "data/postgresql.conf").read_text()
    assert adopt_it(cluster) is None, "the second run finds nothing to adopt"


@pytest.mark.parametrize("moment", ["pg_lsclusters", "stop", "daemon-reload", "enable --now"])
def test_a_run_that_is_killed(cluster, moment):
    cluster.module.dies_at = moment
    with pytest.raises(KeyboardInterrupt):
        adopt_it(cluster)
    cluster.module.dies_at = ""
    adopt_it(cluster)
    assert cluster.module.led
    assert not cluster.module.online
    assert adopt_it(cluster) is None


def test_a_refusal_stops_nothing(cluster):
    with pytest.raises(PostgresqlError) as refused:
        cluster.examine(5433, ["pg_stat_statements"])
    assert refused.value.reason == "not_adoptable", "its data is elsewhere here"
    assert not any("stop" in call for call in cluster.module.calls)
