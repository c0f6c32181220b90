# SPDX-License-Identifier: GPL-3.0-or-later
"""One host carries the whole platform, a second run changes nothing, and a reboot is survived."""

from __future__ import annotations

import http.client
import json
import time

from harness.platform import Platform, wait
from harness.web import User


def healthy(user: User) -> bool:
    try:
        status = user.get("/api/status").json()
    except (OSError, ValueError, http.client.HTTPException):
        return False
    return all(status.get(part, {}).get("ok") for part in ("write", "read", "cache"))


def opened(user: User) -> bool:
    try:
        return user.get("/").status == 200
    except (OSError, http.client.HTTPException):  # no answer within five seconds
        return False


def test_page_writes_reads_and_caches(user: User) -> None:
    wait("the page", lambda: opened(user), 120)
    wait("a page that writes, reads and caches", lambda: healthy(user), 120)


def test_one_master_holds_all_slots(platform: Platform) -> None:
    info = platform.redis("one", "cluster", "info")
    assert "cluster_state:ok" in info
    assert "cluster_slots_ok:16384" in info
    assert "cluster_size:1" in info


def test_backup_was_taken(platform: Platform) -> None:
    stanza = json.loads(platform.output("one", "runuser -u postgres -- pgbackrest info --output=json"))[0]
    assert stanza["status"]["code"] == 0, stanza["status"]
    assert stanza["backup"][0]["type"] == "full"


def test_the_backup_of_files_is_proven(platform: Platform) -> None:
    """One host is client and keeper; its repository is local."""
    platform.output("one", "systemctl start restic-keep@verify || { journalctl -u restic-keep@verify -n 30 --no-pager; exit 1; }")
    figures = platform.output("one", "cat /var/lib/prometheus/node-exporter/file_backup_repositories.prom")
    assert 'file_backup_verify_success{host="one"} 1' in figures
    assert 'file_backup_snapshots{host="one"} 1' in figures


def whole(platform: Platform) -> None:
    """See that no unit has failed for good: what a timer runs may have had too little of the processors, and is run again."""
    end = time.monotonic() + 180
    while failed := platform.failed_units("one"):
        assert time.monotonic() < end, failed
        time.sleep(2)


def test_no_unit_has_failed(platform: Platform) -> None:
    whole(platform)


def test_every_log_file_is_rotated(platform: Platform) -> None:
    """By logrotate; the journal, the list of last logins and apt's last plan keep to a size by themselves."""
    platform.run("one", "sudo -u postgres true && test -s /var/log/sudo.log")
    files = platform.output("one", "find /var/log -type f ! -path '/var/log/journal/*' ! -name lastlog ! -name eipp.log.xz").split()
    rotated = platform.output("one", "logrotate --debug /etc/logrotate.conf 2>&1 | sed -n 's/^considering log //p'").split()
    assert "/var/log/sudo.log" in rotated
    assert [name for name in files if not any(name == log or name.startswith(f"{log}.") for log in rotated)] == []


def test_second_run_changes_and_restarts_nothing(platform: Platform) -> None:
    before = platform.service_starts()["one"]
    run = platform.playbook()
    print(f"measured: no-change run: {run.seconds:.0f} s, task results {run.results()}")
    assert run.status == 0, run.output[-3000:]
    assert run.changed() == {}, run.changed_tasks()
    after = platform.service_starts()["one"]
    assert [name for name, start in before.items() if after.get(name) != start and not name.startswith("systemd-")] == []


def test_check_mode_reports_no_change(platform: Platform) -> None:
    run = platform.playbook(None, "--check", "--diff")
    assert run.status == 0, run.output[-3000:]
    assert run.changed() == {}, run.changed_tasks()


def test_everything_comes_back_after_a_power_cut(platform: Platform, user: User) -> None:
    patient = User(user.address, user.name, platform.inventory / "pki" / "ca.crt", timeout=60)
    assert patient.request("POST", "/api/notes", {"body": "before the power cut"}).status in (200, 201)
    platform.kill("one")
    platform.start("one")
    wait("the page after the power cut", lambda: healthy(user), 300, pause=1)
    assert "before the power cut" in patient.get("/api/notes").body.decode()
    whole(platform)
