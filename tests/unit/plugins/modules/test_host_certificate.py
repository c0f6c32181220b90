# SPDX-License-Identifier: GPL-3.0-or-later
"""What the host half sees and writes."""

from __future__ import annotations

import datetime
import os

import pytest
from ansible_collections.uptier.platform.plugins.modules import host_certificate as m
from ansible_collections.uptier.platform.plugins.plugin_utils import certificates

NOW = datetime.datetime.now(datetime.UTC)
AUTHORITY = certificates.read_authority(*certificates.create_authority("test", 30, NOW), "/x")


@pytest.fixture(name="directory")
def written(tmp_path, monkeypatch):
    """A directory with a good pair. Ownership is not tested: unit tests do not run as root everywhere."""
    monkeypatch.setattr(os, "chown", lambda *arguments: None)
    monkeypatch.setattr(os, "fchown", lambda *arguments: None)
    monkeypatch.setattr(m, "owned", lambda *arguments: True)
    key, certificate = certificates.issue(AUTHORITY, ["db1"], 10, NOW)
    m.write(str(tmp_path), {"trust": AUTHORITY.trust, "certificate": certificate, "key": key}, 0)
    return tmp_path


def test_a_bare_host(tmp_path):
    assert m.look(str(tmp_path / "none"), None) == {"certificate": None, "trust": None, "complaint": None, "ownership": []}


def test_what_was_written_has_no_complaint(directory):
    seen = m.look(str(directory), 0)
    assert seen["complaint"] is None
    assert seen["trust"] == AUTHORITY.trust
    assert (directory / "host.pem").read_text() == (directory / "host.crt").read_text() + (directory / "host.key").read_text()
    assert {item.name: item.stat().st_mode & 0o777 for item in directory.iterdir()} == {
        "ca.crt": 0o644,
        "host.crt": 0o644,
        "host.key": 0o640,
        "host.pem": 0o640,
    }


def test_the_key_never_leaves_the_host(directory):
    assert "PRIVATE" not in str(m.look(str(directory), 0))


def test_a_key_of_another_certificate(directory):
    (directory / "host.key").write_text(certificates.issue(AUTHORITY, ["db1"], 10, NOW)[0])
    assert m.look(str(directory), 0)["complaint"] == "it does not match the key on the host"


def test_a_missing_key(directory):
    (directory / "host.key").unlink()
    assert m.look(str(directory), 0)["complaint"] == "its key is missing on the host"


def test_an_old_file_for_haproxy(directory):
    (directory / "host.pem").write_text("old")
    assert m.look(str(directory), 0)["complaint"] == "host.pem is not host.crt and host.key"
