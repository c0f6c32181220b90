# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What pgBackRest says about backups, as data, and which one serves a point."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.uptier.platform.plugins.module_utils.postgresql.backup_info import (
    TargetError,
    backup_for,
    moment,
    read,
    refuse_unusable,
)
from ansible_collections.uptier.platform.plugins.module_utils.postgresql.wal import lsn


def entry(label: str, start: int, timeline: int = 1, error: bool = False, **more: Any) -> dict[str, Any]:
    """Return a backup as pgBackRest 2.45 describes it; it lasts ten seconds and begins in the segment of its start."""
    segment = f"{timeline:08X}00000000{start:08X}"
    return {
        "archive": {"start": segment, "stop": segment},
        "backrest": {"format": 5, "version": "2.45"},
        "database": {"id": 1, "repo-key": 1},
        "error": error,
        "info": {"delta": 100, "repository": {"delta": 10, "size": 20}, "size": 1000},
        "label": label,
        "lsn": {"start": f"0/{start:X}000028", "stop": f"0/{start:X}000138"},
        "prior": None,
        "reference": None,
        "timestamp": {"start": start * 100, "stop": start * 100 + 10},
        "type": {"F": "full", "D": "diff", "I": "incr"}[label[-1]],
        **more,
    }


def info(*backups: dict[str, Any], code: int = 0, message: str = "ok") -> list[dict[str, Any]]:
    archive = {
        "database": {"id": 1, "repo-key": 1},
        "id": "15-1",
        "max": "000000020000000000000009",
        "min": "000000010000000000000001",
    }
    return [
        {
            "name": "main",
            "archive": [archive],
            "backup": list(backups),
            "cipher": "aes-256-cbc",
            "db": [{"id": 1, "repo-key": 1, "system-id": 7, "version": "15"}],
            "repo": [{"cipher": "aes-256-cbc", "key": 1, "status": {"code": code, "message": message}}],
            "status": {"code": code, "lock": {"backup": {"held": False}}, "message": message},
        }
    ]


THREE = info(entry("B-F_C-D", 5, prior="B-F", reference=["B-F"]), entry("B-F", 3), entry("C-F", 8, timeline=2, error=True))


def test_backups_come_oldest_first_with_all_that_pgbackrest_knows() -> None:
    seen = read(THREE, "main").as_data()
    assert [backup["label"] for backup in seen["backups"]] == ["B-F", "B-F_C-D", "C-F"]
    assert seen["backups"][1] == {
        "label": "B-F_C-D",
        "type": "diff",
        "repository": 1,
        "archive_id": "15-1",
        "started": 500,
        "stopped": 510,
        "seconds": 10,
        "size_bytes": 1000,
        "stored_bytes": 10,
        "lsn_start": "0/5000028",
        "lsn_stop": "0/5000138",
        "wal_start": "000000010000000000000005",
        "wal_stop": "000000010000000000000005",
        "timeline": 1,
        "prior": "B-F",
        "references": ["B-F"],
        "damaged": False,
    }
    # The newest backup holds damaged pages.
    assert seen["newest"] == "B-F_C-D"
    assert seen["earliest"] == 310
    assert seen["archives"] == [
        {"archive_id": "15-1", "repository": 1, "oldest": "000000010000000000000001", "newest": "000000020000000000000009"}
    ]
    assert seen["repositories"] == [{"number": 1, "code": 0, "message": "ok", "cipher": "aes-256-cbc"}]


def test_a_stanza_that_is_not_there_is_data_too() -> None:
    seen = read([], "main").as_data()
    assert (seen["status"]["code"], seen["backups"], seen["newest"], seen["earliest"]) == (1, [], None, None)


@pytest.mark.parametrize(
    ("kind", "target", "label"),
    [
        ("latest", "", "B-F_C-D"),
        ("immediate", "", "B-F_C-D"),
        ("immediate", "B-F", "B-F"),
        ("label", "C-F", "C-F"),
        ("time", 509, "B-F"),
        ("time", "510", "B-F_C-D"),
        ("time", "1970-01-01 01:08:30+01:00", "B-F_C-D"),
        ("time", 10000, "B-F_C-D"),
        ("lsn", "0/5000137", "B-F"),
        ("lsn", "0/5000138", "B-F_C-D"),
    ],
)
def test_the_newest_backup_before_a_point_serves_it(kind: str, target: str | float, label: str) -> None:
    assert backup_for(read(THREE, "main").backups, kind, target).label == label


@pytest.mark.parametrize(
    ("kind", "target", "words"),
    [
        ("time", 309, "B-F, ended at 310"),
        ("time", "yesterday", "yesterday is no moment"),
        ("time", "2026-11-20 23:00:00", "with its zone"),
        ("lsn", "0/1", "B-F, ended at 0/3000138"),
        ("lsn", "here", "here is no position"),
        ("label", "X-F", "There are: B-F, B-F_C-D, C-F"),
        ("soon", "", "not soon"),
    ],
)
def test_a_point_that_no_backup_serves_is_refused(kind: str, target: str | float, words: str) -> None:
    with pytest.raises(TargetError, match=words) as caught:
        backup_for(read(THREE, "main").backups, kind, target)
    assert caught.value.reason == "no_such_point"


@pytest.mark.parametrize(
    ("code", "message", "reason"),
    [
        (99, "[CryptoError] unable to flush\nHINT: is the key right?", "wrong_key"),
        (99, "[FormatError] invalid \udc81", "wrong_key"),
        (99, "[PathOpenError] Permission denied", "repository"),
        (1, "missing stanza path", "no_stanza"),
        (3, "missing stanza data", "no_stanza"),
        (2, "no valid backups", "no_backup"),
    ],
)
def test_a_repository_that_cannot_be_used_has_its_reason(code: int, message: str, reason: str) -> None:
    with pytest.raises(TargetError) as caught:
        refuse_unusable(read(info(code=code, message=message), "main"))
    assert caught.value.reason == reason
    assert "main" in str(caught.value)


def test_a_missing_key_is_not_a_wrong_one() -> None:
    found = info(code=99, message="[FormatError] unable to load info file 'x': FormatError: key/value found outside of section: Salted__")
    found[0]["repo"][0]["cipher"] = "none"
    with pytest.raises(TargetError, match="no key is configured") as caught:
        refuse_unusable(read(found, "main"))
    assert caught.value.reason == "missing_key"
    assert "Salted__" not in str(caught.value)


def test_only_the_named_repository_counts() -> None:
    found = info()
    found[0]["repo"].append({"cipher": "none", "key": 2, "status": {"code": 1, "message": "missing"}})
    refuse_unusable(read(found, "main"), 1)
    with pytest.raises(TargetError):
        refuse_unusable(read(found, "main"), 2)


@pytest.mark.parametrize(
    ("message", "reason", "advice"),
    [
        ("[HostConnectError] unable to connect to 's3.lab.test:443'", "unreachable", "pgbackrest_second_repository"),
        ("[ProtocolError] HTTP request failed with 404 (Not Found): *** Path/Query ***: GET /b/", "no_bucket", "create it"),
        ("[ProtocolError] HTTP request failed with 403 (Forbidden): *** Path/Query ***: GET /b/", "bucket_denied", "key_secret"),
        (
            "[ServiceError] host [3c8a] and configured fingerprint (repo-sftp-host-fingerprint) [0115] do not match.",
            "host_key",
            "ssh_host_ecdsa_key.pub",
        ),
        ("[PathOpenError] unable to list file info for path '/b': [13] Permission denied", "repository", "permissions"),
    ],
)
def test_a_second_repository_has_reasons_of_its_own(message: str, reason: str, advice: str) -> None:
    """It is no server of pgBackRest's, and not the platform's."""
    found = info()
    found[0]["repo"].append({"cipher": "none", "key": 2, "status": {"code": 99, "message": message}})
    with pytest.raises(TargetError, match="Repository 2 of main cannot be used") as caught:
        refuse_unusable(read(found, "main"), 2)
    assert caught.value.reason == reason
    assert advice in str(caught.value)
    assert "pgBackRest port" not in str(caught.value)
    assert "***" not in str(caught.value)


def test_positions_and_moments_are_numbers() -> None:
    assert lsn("1/10") == (1 << 32) + 16
    assert moment("12.5") == 12.5
    assert moment("1970-01-01T00:00:10Z") == 10
