# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The plan of plugins/modules/pgbackrest_stanza.py."""

from __future__ import annotations

import json
from typing import Any

import pytest
from ansible_collections.uptier.platform.plugins.module_utils.postgresql.pgbackrest import (
    RepositoryError,
    attributed,
    explain,
    local_path,
    parse,
    plan,
    repositories,
    sections,
    stanza_of,
)


def entry(code: int, message: str = "", repo: str = "") -> list[dict[str, Any]]:
    repos = [{"key": 1, "status": {"code": code, "message": repo}}] if repo else []
    return [{"name": "main", "status": {"code": code, "message": message}, "repo": repos, "backup": []}]


@pytest.mark.parametrize(
    ("info", "first_backup", "steps"),
    [
        ([], True, ["stanza-create", "check", "backup --type=full"]),
        (entry(1), True, ["stanza-create", "check", "backup --type=full"]),
        (entry(3), False, ["stanza-create", "check"]),
        (entry(2), True, ["check", "backup --type=full"]),
        (entry(2), False, []),
        (entry(0), True, []),
    ],
)
def test_steps(info: list[dict[str, Any]], first_backup: bool, steps: list[str]) -> None:
    assert plan(info, "main", first_backup) == steps


def test_another_stanza_does_not_count() -> None:
    assert stanza_of(entry(0), "other")["status"]["code"] == 1


def test_a_wrong_key_is_named() -> None:
    with pytest.raises(RepositoryError, match="vault_pgbackrest_cipher_pass") as caught:
        plan(entry(99, "other", "[CryptoError] unable to flush"), "main", True)
    assert caught.value.reason == "wrong_key"


def test_an_unknown_state_is_left_alone() -> None:
    with pytest.raises(RepositoryError, match="disk on fire") as caught:
        plan(entry(99, "other", "disk on fire"), "main", True)
    assert caught.value.reason == "repository"


def test_a_failure_says_what_was_seen_and_what_to_do() -> None:
    error = explain("check", 82, "P00 WARN: slow\nP00 ERROR: [082]: WAL segment was not archived\nHINT: check the archive_command")
    assert error.reason == "archive_timeout"
    assert "[082]" in str(error)
    assert "pg_stat_archiver" in str(error)
    assert "WARN" not in str(error)
    assert explain("check", 7, "").reason == "failed"
    assert explain("stanza-create", 39, "ERROR: [039]: HTTP request failed with 404 (Not Found):\n*** Path/Query ***").reason == "no_bucket"
    assert explain("stanza-create", 39, "ERROR: [039]: HTTP request failed with 403 (Forbidden):").reason == "bucket_denied"


def test_messages_with_line_breaks_and_stray_bytes_are_read() -> None:
    assert parse('[{"name": "main", "message": "a\nb"}]') == [{"name": "main", "message": "a\nb"}]
    assert parse('["a\udcffb"]') == ["a?b"]
    assert parse("") == []


def test_tries_that_failed_alike_are_told_once() -> None:
    said = "[HostConnectError] unable to connect\n    [HostConnectError] on 7 retries from 1-5ms: unable\n    [HostConnectError] on retry at 9ms: unable"
    (found,) = parse(json.dumps([{"name": "main", "status": {"code": 99, "message": "other"}, "repo": [{"status": {"message": said}}]}]))
    assert found["repo"] == [{"status": {"message": "[HostConnectError] unable to connect"}}]
    error = explain("backup", 49, f"P00  ERROR: [049]: {said}\nP00   INFO: aborted")
    assert "on retry" not in str(error)
    assert "on 7 retries" not in str(error)


def test_a_repository_that_does_not_say_which_stanzas_it_has() -> None:
    """Asked for all of them, pgBackRest makes up one."""
    lost = {"code": 99, "message": "no route to host"}
    part = [{"name": "[invalid]", "status": {"code": 99, "message": "other"}, "repo": [{"key": 2, "status": lost}]}]
    (found,) = attributed(part, entry(0), 2)
    assert (found["name"], found["status"], found["repo"][0]["key"], found["repo"][0]["status"]) == ("main", lost, 2, lost)
    assert attributed(entry(0), entry(0), 2) == entry(0)


CONFIG = """# comment = no
[global]
repo1-path = /srv/one
tls-server-auth=a=main
tls-server-auth=b=main
repo2-type=s3
repo2-path=/two
repo3-host=other
[global:archive-push]
repo1-path=/never
[main]
repo4-type=cifs
"""


def test_settings_are_read_once_and_alike() -> None:
    assert sections(CONFIG)["global"][:3] == [("repo1-path", "/srv/one"), ("tls-server-auth", "a=main"), ("tls-server-auth", "b=main")]
    assert repositories(CONFIG, "main") == {
        1: {"path": "/srv/one"},
        2: {"type": "s3", "path": "/two"},
        3: {"host": "other"},
        4: {"type": "cifs"},
    }
    assert [local_path(CONFIG, "main", number) for number in (1, 2, 3, 4)] == ["/srv/one", "", "", "/var/lib/pgbackrest"]
