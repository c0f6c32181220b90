# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What a verification leaves behind: a report that cannot be changed unseen, and figures."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.uptier.platform.plugins.module_utils.postgresql import backup_report as report
from ansible_collections.uptier.platform.plugins.module_utils.postgresql import backup_verify_apply as apply
from ansible_collections.uptier.platform.plugins.module_utils.postgresql.backup_check import bad, good
from ansible_collections.uptier.platform.plugins.module_utils.postgresql.pgbackrest import RepositoryError

PROOF = {
    "backup": "A-F",
    "point": "A-F to latest",
    "rto_seconds": 12.5,
    "rpo_seconds": 40.0,
    "restored_bytes": 1000,
    "unproven_since": 960.0,
}


def result(*checks: Any, ended: float = 1020.0, **proof: Any) -> dict[str, Any]:
    return report.result("main", 1, "restore", "mon1", 1000.0, ended, checks or [good("wal", "no gap")], {**PROOF, **proof})


def metrics(text: str) -> dict[str, float]:
    return {line.rsplit(" ", 1)[0]: float(line.rsplit(" ", 1)[1]) for line in text.splitlines() if not line.startswith("#")}


def test_the_first_failed_check_gives_the_reason() -> None:
    found = result(good("a", "x"), bad("b", "wal_missing", "gone"), bad("c", "recovery_short", "short"))
    assert (found["ok"], found["reason"]) == (False, "wal_missing")
    assert report.summary(found) == "b: gone; c: short"
    assert "12 s, 40 s would have been lost" in report.summary(result())


def test_figures_have_the_names_that_alerts_ask_for() -> None:
    seen = metrics(report.as_metrics(result(), []))
    assert seen['backup_verify_success{stanza="main",repo="1"}'] == 1
    assert seen['backup_verify_timestamp_seconds{stanza="main",repo="1"}'] == 1020
    assert seen['backup_verify_rto_seconds{stanza="main",repo="1"}'] == 12.5
    assert seen['backup_verify_rpo_seconds{stanza="main",repo="1"}'] == 40
    assert seen['backup_verify_unproven_since_timestamp_seconds{stanza="main",repo="1"}'] == 960
    assert seen['backup_verify_check_success{stanza="main",repo="1",check="wal"}'] == 1
    assert 'backup_verify_rto_median_seconds{stanza="main",repo="1"}' not in seen
    assert 'backup_verify_rto_target_seconds{stanza="main",repo="1"}' not in seen
    seen = metrics(report.as_metrics(result(targets={"rto": 3600, "rpo": 300}), []))
    assert seen['backup_verify_rto_target_seconds{stanza="main",repo="1"}'] == 3600
    assert seen['backup_verify_rpo_target_seconds{stanza="main",repo="1"}'] == 300


def test_a_failure_keeps_the_figures_of_the_last_proof() -> None:
    failed = result(bad("wal", "wal_missing", "gone"), ended=3000.0, rto_seconds=99.0, unproven_since=9999.0)
    seen = metrics(report.as_metrics(failed, [result(rto_seconds=value) for value in (100, 1, 2, 3, 4, 5, 6)]))
    assert seen['backup_verify_success{stanza="main",repo="1"}'] == 0
    assert seen['backup_verify_last_success_timestamp_seconds{stanza="main",repo="1"}'] == 1020
    assert seen['backup_verify_rto_seconds{stanza="main",repo="1"}'] == 6
    # Of the five before it: 1 to 5.
    assert seen['backup_verify_rto_median_seconds{stanza="main",repo="1"}'] == 3
    assert seen['backup_verify_unproven_since_timestamp_seconds{stanza="main",repo="1"}'] == 960


def test_the_page_shows_what_a_repository_says_as_text() -> None:
    page = report.as_html(result(bad("probe <b>", "probe_differs", "<script>")))
    assert "FAILED (probe_differs)" in page
    assert "<script>" not in page
    assert "&lt;script&gt;" in page


@pytest.fixture
def authority(tmp_path: Path) -> dict[str, str]:
    """Make an authority and a host's certificate of it."""

    def openssl(*words: str) -> None:
        subprocess.run(["openssl", *words], check=True, capture_output=True, cwd=tmp_path)

    curve = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
    openssl("req", "-x509", *curve, "-keyout", "ca.key", "-out", "ca.crt", "-subj", "/CN=authority", "-days", "2")
    openssl("req", *curve, "-keyout", "host.key", "-out", "host.csr", "-subj", "/CN=mon1")
    openssl("x509", "-req", "-in", "host.csr", "-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial", "-out", "host.crt", "-days", "1")
    openssl("req", "-x509", *curve, "-keyout", "other.key", "-out", "other.crt", "-subj", "/CN=other", "-days", "2")
    return {
        name: str(tmp_path / file) for name, file in (("ca", "ca.crt"), ("cert", "host.crt"), ("key", "host.key"), ("other", "other.crt"))
    }


def test_a_changed_report_is_detected(tmp_path: Path, authority: dict[str, str]) -> None:
    given = {"reports": str(tmp_path / "reports"), "cert": authority["cert"], "key": authority["key"]}
    path = Path(apply.write_report(given, result(bad("wal", "wal_missing", "gone"))))
    page = path.with_suffix(".html")
    for file in (path, page):
        apply.check_report(str(file), authority["ca"])
    with pytest.raises(RepositoryError):
        apply.check_report(str(path), authority["other"])
    path.write_text(path.read_text(encoding="utf-8").replace('"ok": false', '"ok": true'), encoding="utf-8")
    with pytest.raises(RepositoryError) as caught:
        apply.check_report(str(path), authority["ca"])
    assert caught.value.reason == "changed"
    page.with_name(f"{page.name}.p7s").unlink()
    with pytest.raises(RepositoryError):
        apply.check_report(str(page), authority["ca"])


def test_the_oldest_reports_are_forgotten_with_their_pages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(apply, "KEPT_REPORTS", 2)
    given = {"reports": str(tmp_path), "cert": "", "key": ""}
    for begun in (1.0, 2.0, 3.0):
        apply.write_report(given, {**result(), "begun": begun})
    assert [item["begun"] for item in apply.earlier(str(tmp_path), "main")] == [2.0, 3.0]
    assert len(list(tmp_path.glob("*"))) == 4


def test_an_earlier_report_that_cannot_be_read_is_passed_over(tmp_path: Path) -> None:
    (tmp_path / "main-1.json").write_text("{", encoding="utf-8")
    (tmp_path / "main-2.json").write_text(json.dumps({"ok": True}), encoding="utf-8")
    (tmp_path / "mainly-3.json").write_text(json.dumps({"ok": False}), encoding="utf-8")
    assert apply.earlier(str(tmp_path), "main") == [{"ok": True}]
