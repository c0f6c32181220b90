# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The parts of platform_exporter.py that need no daemon; role_monitoring tests the others."""

from __future__ import annotations

import json
import os
import subprocess
import threading
import time
from pathlib import Path

import pytest

STATUS = "Active connections: 3 \nserver accepts handled requests\n 10 9 31 \nReading: 0 Writing: 1 Waiting: 2 \n"
TRIE = "Main:\n  +-- 0.0.0.0/0 3 0 5\n     |-- 10.0.0.11\n        /32 host LOCAL\n     |-- 10.0.0.0\n        /24 link UNICAST\n"


@pytest.fixture(scope="module")
def exporter(load_program):
    return load_program("roles/exporters/files/platform_exporter.py")


def test_text_keeps_samples_of_a_name_together_and_escapes(exporter):
    metrics = exporter.Metrics()
    metrics.add("a_total", "counter", "A.", 1, {"x": 'say "hi"\n'})
    metrics.add("b", "gauge", "B.", 0.5)
    metrics.add("a_total", "counter", "A.", 2, {"x": "y"})
    assert metrics.text() == (
        '# HELP a_total A.\n# TYPE a_total counter\na_total{x="say \\"hi\\"\\n"} 1\na_total{x="y"} 2\n# HELP b B.\n# TYPE b gauge\nb 0.5\n'
    )


def test_large_numbers_are_exact(exporter):
    metrics = exporter.Metrics()
    metrics.add("t", "gauge", "T.", 1802993468)
    assert metrics.text().splitlines()[-1] == "t 1802993468"


def test_stub_status(exporter):
    page = exporter.parse_stub_status(STATUS)
    assert page == {"active": 3, "accepted": 10, "handled": 9, "requests": 31, "reading": 0, "writing": 1, "waiting": 2}


def test_local_addresses(exporter):
    assert exporter.local_addresses(TRIE) == {"10.0.0.11"}


@pytest.fixture
def log(exporter, tmp_path):
    fields = {"host": "host", "status": "status", "seconds": "seconds"}
    return exporter.AccessLog({"path": str(tmp_path / "access.log"), "fields": fields, "hosts": ["demo.test"]})


def counted(exporter, log):
    metrics = exporter.Metrics()
    log.collect(metrics)
    return metrics.text()


def test_access_log_counts_and_bounds_what_clients_can_make_it_remember(exporter, log):
    for host, status, seconds in (("Demo.Test", 200, 0.003), ("demo.test", 502, 3.0), ("evil.example", 404, 0.1)):
        log.count(json.dumps({"host": host, "status": status, "seconds": seconds}))
    log.count("no json")
    log.count(json.dumps({"host": "demo.test"}))
    text = counted(exporter, log)
    assert 'gateway_http_requests_total{vhost="demo.test",status="200"} 1' in text
    assert 'gateway_http_requests_total{vhost="other",status="404"} 1' in text
    assert "evil" not in text
    assert 'gateway_http_request_duration_seconds_bucket{vhost="demo.test",le="0.005"} 1' in text
    assert 'gateway_http_request_duration_seconds_bucket{vhost="demo.test",le="5"} 2' in text
    assert 'gateway_http_request_duration_seconds_count{vhost="demo.test"} 2' in text
    assert "gateway_log_lines_unread_total 2" in text


def test_names_below_a_wildcard_are_counted_under_it(exporter, tmp_path):
    fields = {"host": "host", "status": "status", "seconds": "seconds"}
    hosts = ["*.demo.test", "*.eu.demo.test", "a.demo.test"]
    log = exporter.AccessLog({"path": str(tmp_path / "access.log"), "fields": fields, "hosts": hosts})
    for host in ("a.demo.test", "b.demo.test", "c.b.demo.test", "x.eu.demo.test", "demo.test"):
        log.count(json.dumps({"host": host, "status": 200, "seconds": 0.1}))
    text = counted(exporter, log)
    for host, number in (("a.demo.test", 1), ("*.demo.test", 2), ("*.eu.demo.test", 1), ("other", 1)):
        assert f'gateway_http_requests_total{{vhost="{host}",status="200"}} {number}' in text


def test_access_log_reads_what_comes_after_a_rename_too(exporter, log, tmp_path, monkeypatch):
    monkeypatch.setattr(exporter, "SECONDS", 0.5)
    path = tmp_path / "access.log"
    line = json.dumps({"host": "demo.test", "status": 200, "seconds": 0.1}) + "\n"
    path.write_text(line, encoding="utf-8")
    threading.Thread(target=log._follow, daemon=True).start()
    end = time.monotonic() + 60
    while str(path) not in {os.path.realpath(entry) for entry in Path("/proc/self/fd").iterdir()}:
        assert time.monotonic() < end, "nobody reads the file"
        time.sleep(0.1)
    time.sleep(0.5)  # from its end
    stream = path.open("a", encoding="utf-8")
    path.rename(tmp_path / "access.log.1")
    stream.write(line)
    stream.close()
    path.write_text(line, encoding="utf-8")
    end = time.monotonic() + 60
    while 'vhost="demo.test",status="200"} 2' not in counted(exporter, log):
        assert time.monotonic() < end, counted(exporter, log)
        time.sleep(0.1)


def test_a_console_that_is_not_there_is_down(exporter, capsys):
    metrics = exporter.Metrics()
    exporter.PgBouncer({"socket": "/nowhere/.s.PGSQL.6432", "user": "pgbouncer"}).collect(metrics)
    assert "pgbouncer_up 0" in metrics.text()
    assert "No PgBouncer answers at /nowhere/.s.PGSQL.6432: No such file or directory." in capsys.readouterr().err


def test_pgbackrest_any_is_the_newest_of_all_kinds(exporter):
    def backup(kind, stop, error=False, repo=1):
        return {
            "type": kind,
            "database": {"id": 1, "repo-key": repo},
            "timestamp": {"start": stop - 10, "stop": stop},
            "info": {"size": 5, "repository": {"delta": 3}},
            "error": error,
        }

    metrics = exporter.Metrics()
    stanza = {
        "name": "main",
        "status": {"code": 0, "lock": {"backup": {"held": True}}},
        "repo": [{"key": 1, "status": {"code": 0}}],
        "backup": [backup("incr", 300), backup("full", 100), backup("full", 50, repo=2)],
        "archive": [
            {"id": "15-1", "database": {"id": 1, "repo-key": 1}, "max": "000000030000000200000004"},
            {"id": "15-1", "database": {"id": 1, "repo-key": 2}, "max": "0000000200000001000000FF"},
            {"id": "13-1", "database": {"id": 2, "repo-key": 2}, "max": None},
        ],
    }
    exporter.PgBackRest.render(metrics, [stanza])
    text = metrics.text()
    assert 'pgbackrest_backup_last_timestamp_seconds{stanza="main",type="any"} 300' in text
    assert 'pgbackrest_backup_last_timestamp_seconds{stanza="main",type="full"} 100' in text
    assert 'pgbackrest_repo_status{stanza="main",repo="1"} 0' in text
    assert 'pgbackrest_backup_running{stanza="main"} 1' in text
    assert 'pgbackrest_repo_backups{stanza="main",repo="1"} 2' in text
    assert 'pgbackrest_repo_stored_bytes{stanza="main",repo="1"} 6' in text
    assert 'pgbackrest_repo_last_backup_timestamp_seconds{stanza="main",repo="2"} 50' in text
    assert 'pgbackrest_repo_archive_segment{stanza="main",repo="1"} 516' in text
    assert 'pgbackrest_repo_archive_segment{stanza="main",repo="2"} 511' in text


def test_timers_and_room_of_backups_are_told_without_pgbackrest(exporter, tmp_path, monkeypatch):
    (tmp_path / "conf").write_text(
        f"[global]\nrepo1-path={tmp_path}\nrepo2-type=s3\nrepo2-path=/x\nrepo3-path=/nowhere\n", encoding="utf-8"
    )
    (tmp_path / "pgbackrest-backup@full.timer").write_text("[Timer]\nOnCalendar=Sun *-*-* 01:00:00 UTC\n", encoding="utf-8")
    (tmp_path / "pgbackrest-backup@incr.timer").write_text("[Timer]\nOnActiveSec=infinity\n", encoding="utf-8")
    (tmp_path / "pgbackrest-verify.timer").write_text("[Timer]\nOnActiveSec=1h\nOnCalendar=Wed\n", encoding="utf-8")
    stamp = tmp_path / "stamp-pgbackrest-backup@full.timer"
    stamp.touch()
    os.utime(stamp, (1700000000, 1700000000))
    asked = []

    def run(argv, user=None):
        if argv[0] != "systemctl":
            raise OSError("no pgbackrest here")
        asked.extend(word for word in argv if word.endswith(".timer"))
        return "Id=pgbackrest-backup@full.timer\nActiveState=active\n\nId=pgbackrest-verify.timer\nActiveState=inactive\n"

    monkeypatch.setattr(exporter, "run", run)
    metrics = exporter.Metrics()
    exporter.PgBackRest({"user": "postgres", "config": str(tmp_path / "conf"), "timers": str(tmp_path), "stamps": str(tmp_path)}).collect(
        metrics
    )
    text = metrics.text()
    assert asked == ["pgbackrest-backup@full.timer", "pgbackrest-verify.timer"]
    assert 'pgbackrest_timer_active{timer="pgbackrest-backup@full.timer"} 1' in text
    assert 'pgbackrest_timer_active{timer="pgbackrest-verify.timer"} 0' in text
    assert text.count("pgbackrest_timer_last_trigger_timestamp_seconds{") == 1
    assert 'pgbackrest_timer_last_trigger_timestamp_seconds{timer="pgbackrest-backup@full.timer"} 1700000000' in text
    assert 'pgbackrest_repo_free_bytes{repo="1"}' in text
    assert text.count("pgbackrest_repo_size_bytes{") == 1
    assert "pgbackrest_up 0" in text


@pytest.mark.parametrize("here", [True, False])
def test_a_second_repository_that_is_away_keeps_its_stanzas_name(exporter, tmp_path, monkeypatch, here):
    """And what brings WAL there is told on the host that does."""
    (tmp_path / "conf").write_text(f"[global]\nrepo1-path={tmp_path}\nrepo2-{'type=s3' if here else 'host=backup1'}\n", encoding="utf-8")
    notes = tmp_path / "main.done"
    notes.touch()
    os.utime(notes, (1700000000, 1700000000))
    good = {"code": 0, "message": "ok"}
    answers = {
        "--repo=1": [{"name": "main", "status": good, "repo": [{"key": 1, "status": good}]}],
        "--repo=2": [
            {"name": "[invalid]", "status": {"code": 99, "message": "other"}, "repo": [{"key": 2, "status": {"message": "away"}}]}
        ],
    }

    def run(argv, user=None):
        return "inactive\n" if argv[0] == "systemctl" else json.dumps(answers[argv[2]])

    monkeypatch.setattr(exporter, "run", run)
    metrics = exporter.Metrics()
    places = dict.fromkeys(("timers", "stamps", "notes"), str(tmp_path))
    exporter.PgBackRest({"user": "postgres", "config": str(tmp_path / "conf"), **places}).collect(metrics)
    text = metrics.text()
    assert 'pgbackrest_repo_status{stanza="main",repo="1"} 0' in text
    assert 'pgbackrest_repo_status{stanza="main",repo="2"} 99' in text
    assert "invalid" not in text
    assert ("pgbackrest_second_running 0" in text) == here
    assert ('pgbackrest_second_progress_timestamp_seconds{stanza="main"} 1700000000' in text) == here


def test_pgbackrest_without_a_backup_says_so(exporter):
    metrics = exporter.Metrics()
    exporter.PgBackRest.render(metrics, [{"name": "main", "status": {"code": 2}}])
    assert 'pgbackrest_backups{stanza="main"} 0' in metrics.text()
    assert "last_timestamp" not in metrics.text()


@pytest.mark.parametrize(
    ("memory", "expected"),
    [
        (None, 0),
        ("last_answer 9990\nfailures 0\nlast_failure 9980\n", 0),
        ("failing_since 9400\nlast_failure 9985.5\nfailures 20\npromotion 5000\nwaited 0.2\n", 600),
        ("failing_since 9400\nlast_failure 9930\nfailures 20\n", 0),  # it has not asked since: it streams
    ],
)
def test_a_repository_that_fails_a_standby_counts_the_seconds(exporter, tmp_path, monkeypatch, memory, expected):
    monkeypatch.setattr(exporter.time, "time", lambda: 10000.0)
    if memory is not None:
        (tmp_path / "memory").write_text(memory, encoding="utf-8")
    metrics = exporter.Metrics()
    exporter.RestoredWal({"path": str(tmp_path / "memory")}).collect(metrics)
    assert f"postgresql_archive_failing_seconds {expected}\n" in metrics.text()


def test_a_broken_collector_leaves_the_others_alone(exporter):
    class Broken:
        def collect(self, metrics):
            raise RuntimeError("no")

    class Good:
        def collect(self, metrics):
            metrics.add("x", "gauge", "X.", 1)

    text = exporter.gather([Broken(), Good()])
    assert "\nx 1\n" in text
    assert 'platform_collector_success{collector="broken"} 0' in text
    assert 'platform_collector_success{collector="good"} 1' in text


def test_textfile_is_replaced_whole(exporter, tmp_path):
    output = tmp_path / "platform.prom"
    exporter.write({"output": str(output)}, [])
    assert output.stat().st_mode & 0o777 == 0o644
    assert list(tmp_path.iterdir()) == [output]


@pytest.mark.parametrize(
    ("answer", "sample"),
    [("chain input {\n\ttype filter hook input priority filter; policy drop;\n", 1), ("chain input {\n\tpolicy accept;\n", 0), (None, 0)],
)
def test_whether_the_firewall_is_loaded(exporter, monkeypatch, tmp_path, answer, sample):
    def run(argv):
        if answer is None:
            raise subprocess.CalledProcessError(1, argv, "", "Error: No such file or directory")
        return answer

    monkeypatch.setattr(exporter, "run", run)
    rules, metrics = tmp_path / "firewall.nft", exporter.Metrics()
    exporter.Firewall({"path": str(rules)}).collect(metrics)
    assert metrics.text().strip() == "", "a host without a firewall of the platform"
    rules.touch()
    exporter.Firewall({"path": str(rules)}).collect(metrics)
    assert metrics.text().splitlines()[-1] == f"platform_firewall_loaded {sample}"


def test_nftables_that_cannot_be_asked_is_no_answer(exporter, monkeypatch, tmp_path):
    def run(argv):
        raise subprocess.CalledProcessError(1, argv, "", "Error: Operation not permitted")

    monkeypatch.setattr(exporter, "run", run)
    with pytest.raises(subprocess.CalledProcessError):
        exporter.Firewall({"path": str(tmp_path)}).collect(exporter.Metrics())


def test_which_release_of_each_application_a_host_runs(exporter, tmp_path):
    for name, current in (("shop", "1.4+aaaaaaaa"), ("blog", "2")):
        folder = tmp_path / "apps" / name / "releases" / current
        folder.mkdir(parents=True)
        (tmp_path / "apps" / name / "current").symlink_to(f"releases/{current}")
    (tmp_path / "apps/shop/releases/1.4+aaaaaaaa/.release.json").write_text('{"version": "1.4"}', encoding="utf-8")
    (tmp_path / "apps" / "new").mkdir()  # unpacked, and not run yet
    (tmp_path / "state" / "shop").mkdir(parents=True)
    (tmp_path / "state/shop/unfinished.json").write_text("{}", encoding="utf-8")
    metrics = exporter.Metrics()
    exporter.Releases({"path": str(tmp_path / "apps"), "state": str(tmp_path / "state")}).collect(metrics)
    lines = [line for line in metrics.text().splitlines() if not line.startswith("#")]
    assert [line for line in lines if "timestamp" not in line] == [
        'application_release_info{application="blog",version="2",release="2"} 1',
        'application_release_info{application="shop",version="1.4",release="1.4+aaaaaaaa"} 1',
        'application_release_unfinished{application="blog"} 0',
        'application_release_unfinished{application="shop"} 1',
    ]
    since = next(float(line.split()[1]) for line in lines if line.startswith('application_release_timestamp_seconds{application="shop"}'))
    assert abs(since - (tmp_path / "apps/shop/current").lstat().st_mtime) < 1
