# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A session with a server that does not do what servers do; test_schema_server.py and test_remote_server.py have real ones."""

from __future__ import annotations

import os
import pwd
import socket
from pathlib import Path

import pytest
from ansible_collections.uptier.platform.plugins.module_utils.postgresql.session import Session, SessionError

ME = pwd.getpwuid(os.geteuid()).pw_name


def test_a_server_that_takes_the_connection_and_says_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stopped process: the kernel goes on taking connections for it."""
    monkeypatch.setattr(Session, "login_seconds", 0.2)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / ".s.PGSQL.5432"))
        listener.listen(1)
        with pytest.raises(SessionError, match=r"takes the connection, but does not answer within 0\.2 s") as caught:
            Session("postgres", str(tmp_path), user=ME)
    assert caught.value.reason == "no_answer"


def test_no_server(tmp_path: Path) -> None:
    with pytest.raises(SessionError, match="No server answers at .*: No such file or directory") as caught:
        Session("postgres", str(tmp_path), user=ME)
    assert caught.value.reason == "not_reachable"
