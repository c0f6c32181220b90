# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The second repository of backups: what is refused, and what pgBackRest gets."""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path
from typing import Any

import jinja2
import pytest
import yaml
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar, trust_as_template
from ansible_collections.uptier.platform.plugins.module_utils.postgresql.pgbackrest import repositories as read_back
from ansible_collections.uptier.platform.plugins.plugin_utils import repositories
from hypothesis import given
from hypothesis import strategies as st

FIRST, KEY = "/var/lib/pgbackrest", "/etc/pgbackrest/key"
DIGEST = hashlib.sha256(b"a host key").digest()
S3 = {"type": "s3", "bucket": "b", "endpoint": "s3.example.test", "region": "eu-1", "key": "AK", "key_secret": "secret"}
SFTP = {"type": "sftp", "host": "box.example.test", "user": "backup", "private_key": "-----BEGIN", "fingerprint": DIGEST.hex()}
POSIX = {"type": "posix", "path": "/mnt/backups"}


def problems(second: dict[str, Any], version: str = "2.55") -> list[str]:
    return [str(problem) for problem in repositories.problems(second, FIRST, version)]


@pytest.mark.parametrize(
    "second",
    [
        {},
        S3,
        SFTP,
        POSIX,
        {**POSIX, "mount_required": False},
        {**{name: value for name, value in S3.items() if "key" not in name}, "key_type": "auto"},
        {**S3, "port": 9000, "uri_style": "path", "ca_file": "/etc/ssl/own.pem", "cipher_pass": "x" * 16, "full_retention_days": "90"},
        {**SFTP, "port": "2222", "fingerprint": "SHA256:" + base64.b64encode(DIGEST).decode().rstrip("=")},
    ],
)
def test_what_is_right_is_taken(second: dict[str, Any]) -> None:
    assert problems(second) == []


@pytest.mark.parametrize(
    ("second", "said"),
    [
        ({"type": "S3", "bucket": "b"}, "type is 'S3'. It is one of s3, sftp, posix"),
        ({"bucket": "b"}, "type is ''. It is one of s3, sftp, posix"),
        ({**S3, "bucket": ""}, "bucket is missing. A repository of the type s3 needs bucket, endpoint, region"),
        ({**S3, "key_secret": ""}, "key_secret is missing"),
        ({**S3, "buckets": "b"}, "buckets is no option of the type s3. Did you mean bucket?"),
        ({**S3, "host": "h"}, "host is no option of the type s3"),
        ({**S3, "key_type": "role"}, "key_type is 'role'"),
        ({**S3, "port": 0}, "port is 0"),
        ({**S3, "port": True}, "port is True"),
        ({**S3, "full_retention_days": 0}, "full_retention_days is 0"),
        ({**S3, "cipher_pass": "short"}, "cipher_pass has 5 characters"),
        ({**S3, "key_secret": "a\nrepo1-path=/etc"}, "key_secret begins or ends with a space or holds a control character"),
        ({**S3, "path": "backups"}, "path is 'backups'"),
        ({**S3, "path": "/a/../b"}, "path is '/a/../b'"),
        ({"type": "posix"}, "path is missing"),
        ({**POSIX, "mount_required": "sometimes"}, "mount_required is 'sometimes'. It is true or false."),
        ({**S3, "mount_required": True}, "mount_required is no option of the type s3"),
        ({"type": "posix", "path": FIRST}, "the first repository is in /var/lib/pgbackrest"),
        ({"type": "posix", "path": "/var/lib/pgbackrest/two"}, "One must not lie in the other"),
        ({"type": "posix", "path": "/var/lib"}, "One must not lie in the other"),
        ({**SFTP, "fingerprint": "MD5:00:11"}, "fingerprint is 'MD5:00:11'"),
        ({**SFTP, "fingerprint": "SHA256:AAAA"}, "fingerprint is 'SHA256:AAAA'"),
        ({**SFTP, "verify_level": "all"}, "verify_level is 'all'"),
    ],
)
def test_what_is_wrong_is_named(second: dict[str, Any], said: str) -> None:
    assert said in " ".join(problems(second))


def test_an_old_release_has_no_sftp() -> None:
    assert "the repository's host has pgBackRest 2.45" in " ".join(problems(SFTP, "2.45"))
    assert problems(S3, "2.45") == []


def test_a_secret_is_never_in_a_message() -> None:
    assert "hunter2" not in " ".join(problems({**S3, "key_secret": " hunter2", "cipher_pass": "hunter2", "key": "hunter2 "}))


def test_the_settings_are_those_that_pgbackrest_knows() -> None:
    assert repositories.settings({**S3, "port": 9000, "ca_file": "/ca", "uri_style": "path"}, "cipher", 7, KEY) == {
        "type": "s3", "path": "/pgbackrest", "s3-bucket": "b", "s3-endpoint": "s3.example.test", "s3-region": "eu-1", "s3-key": "AK",
        "s3-key-secret": "secret", "s3-uri-style": "path", "storage-port": "9000", "storage-ca-file": "/ca",
        "cipher-type": "aes-256-cbc", "cipher-pass": "cipher", "retention-full-type": "time", "retention-full": "7",
    }  # fmt: skip
    assert repositories.settings({**SFTP, "port": 2222, "cipher_pass": "another", "full_retention_days": 90}, "cipher", 7, KEY) == {
        "type": "sftp", "path": "/pgbackrest", "sftp-host": "box.example.test", "sftp-host-user": "backup", "sftp-host-port": "2222",
        "sftp-private-key-file": KEY, "sftp-host-key-check-type": "fingerprint", "sftp-host-key-hash-type": "sha256",
        "sftp-host-fingerprint": DIGEST.hex(), "cipher-type": "aes-256-cbc", "cipher-pass": "another", "retention-full-type": "time",
        "retention-full": "90",
    }  # fmt: skip


@given(st.dictionaries(st.sampled_from(["bucket", "endpoint", "region", "key", "key_secret", "path", "cipher_pass"]), st.text(max_size=40)))
def test_what_is_taken_reaches_pgbackrest_as_it_is(values: dict[str, str]) -> None:
    """Whatever a value holds: it is refused, or read back unchanged, and adds no setting of another name."""
    second = {**S3, **values}
    if problems(second):
        return
    wanted = repositories.settings(second, "the first key of all", 7, KEY)
    text = "[global]\n" + "".join(f"repo2-{name}={value}\n" for name, value in wanted.items())
    assert read_back(text, "main") == {2: wanted}


def test_a_private_key_is_written_as_it_is() -> None:
    """Ansible doubles backslashes in expressions: a line break that is written there ends up as two letters, and the key is none."""
    role = Path(__file__).resolve().parents[4] / "roles" / "pgbackrest"
    expression = yaml.safe_load((role / "vars" / "main.yml").read_text(encoding="utf-8"))["__pgbackrest_second_files"]
    key = "-----BEGIN OPENSSH PRIVATE KEY-----\nb3Bl\n-----END OPENSSH PRIVATE KEY-----"
    second = {"type": "sftp", "private_key": f"{key}\n"}
    known = {
        "__pgbackrest_second_config": "/etc/second.conf",
        "__pgbackrest_second": True,
        "__pgbackrest_second_here": second,
        "__pgbackrest_sftp_key": "/etc/key",
    }
    files = Templar(DataLoader(), known).template(trust_as_template(expression))
    (found,) = [file for file in files if file["dest"] == "/etc/key"]
    assert (found["mode"], found["secret"]) == ("0600", True)
    text = (role / "templates" / found["src"]).read_text(encoding="utf-8")
    assert jinja2.Template(text, keep_trailing_newline=True).render(pgbackrest_second_repository=second) == f"{key}\n"


@pytest.mark.parametrize("unit", ["pgbackrest", "pgbackrest-backup", "pgbackrest-second"])
def test_a_directory_that_is_lost_keeps_no_unit_from_its_start(unit: str) -> None:
    """Of a path without a dash that is not there, systemd starts nothing: the first repository would get no backups either."""
    role = Path(__file__).resolve().parents[4] / "roles" / "pgbackrest"
    text = (role / "templates" / f"{unit}.service.j2").read_text(encoding="utf-8")
    (line,) = [line for line in text.splitlines() if line.startswith("ReadWritePaths=")]
    writable = yaml.safe_load((role / "vars" / "main.yml").read_text(encoding="utf-8"))["__pgbackrest_second_writable"]
    for second, found in ({"type": "posix", "path": "/mnt/second"}, True), ({}, False):
        known: dict[str, Any] = {"pgbackrest_repository_path": "/first", "pgbackrest_second_repository": second}
        known["__pgbackrest_second_writable"] = jinja2.Template(writable).render(known)
        paths = jinja2.Template(line).render(known).partition("=")[2].split()
        assert ("-/mnt/second" in paths) is found
        assert [path for path in paths if path.startswith("-")] == [
            path for path in ("-/var/lib/postgresql", "-/mnt/second") if path in paths
        ]
