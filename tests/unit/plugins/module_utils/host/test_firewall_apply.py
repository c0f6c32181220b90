# SPDX-License-Identifier: GPL-3.0-or-later
"""The host half: what counts as a difference, and in which order rules are tried and confirmed."""

from __future__ import annotations

import pytest
from ansible_collections.uptier.platform.plugins.module_utils.host import firewall_apply as m


class Module:
    """Stands for AnsibleModule; `table` is what nft lists, None when the table is not there."""

    def __init__(self, table=None, timer_active=False, check_mode=False):
        self.table, self.timer_active, self.check_mode = table, timer_active, check_mode
        self.tmpdir = "/tmp"
        self.calls = []

    def get_bin_path(self, name, opt_dirs=None):
        return f"/usr/sbin/{name}"

    def run_command(self, command):
        self.calls.append(" ".join(command))
        if "list" in command:
            return (0, self.table, "") if self.table else (1, "", "No such file")
        if "is-active" in command:
            return (0 if self.timer_active else 3, "", "")
        if "-f" in command and "-c" not in command and "systemd-run" not in command:
            self.table = f"loaded {command[-1]}"
        return 0, "", ""


@pytest.fixture(autouse=True)
def folders(tmp_path, monkeypatch):
    monkeypatch.setattr(m, "RUN", str(tmp_path / "run"))
    monkeypatch.setattr(m, "CONFIRMED", str(tmp_path / "confirmed"))


def test_no_change_when_file_and_table_are_as_confirmed(tmp_path):
    path = tmp_path / "rules"
    path.write_text("rules")
    (tmp_path / "confirmed").write_text("table")
    seen = m.Host(Module("table")).compare("rules", str(path))
    assert (seen["changed"], seen["drift"]) == (False, False)


@pytest.mark.parametrize(("table", "text"), [("table by hand", "rules"), (None, "rules"), ("table", "other rules")])
def test_a_change_in_the_table_or_in_the_rules_counts(tmp_path, table, text):
    path = tmp_path / "rules"
    path.write_text("rules")
    (tmp_path / "confirmed").write_text("table")
    assert m.Host(Module(table)).compare(text, str(path))["changed"]


def test_the_timer_is_armed_before_the_rules_are_loaded():
    module = Module("before")
    m.Host(module).attempt("rules", 60)
    armed = next(number for number, call in enumerate(module.calls) if call.startswith("systemd-run"))
    loaded = next(number for number, call in enumerate(module.calls) if call.endswith("candidate.nft"))
    assert armed < loaded
    assert "--on-active=60" in module.calls[armed]
    assert m.read(f"{m.RUN}/previous.nft") == "table inet platform {}\ndelete table inet platform\nbefore"


def test_rules_of_a_run_that_was_cut_short_are_taken_back_first():
    module = Module("unconfirmed", timer_active=True)
    m.Host(module).attempt("rules", 60)
    back = next(number for number, call in enumerate(module.calls) if call == f"/usr/sbin/nft -f {m.RUN}/previous.nft")
    assert module.calls[back + 1] == f"systemctl stop {m.TIMER}.timer"
    assert "unconfirmed" not in m.read(f"{m.RUN}/previous.nft")


def test_confirmed_rules_are_kept_for_the_next_boot(tmp_path):
    module = Module("before")
    host = m.Host(module)
    host.attempt("rules", 60)
    assert host.confirm(str(tmp_path / "rules")) == {"changed": True, "confirmed": True}
    assert (tmp_path / "rules").read_text() == "rules"


def test_rules_that_were_taken_back_are_not_confirmed(tmp_path):
    module = Module("before")
    host = m.Host(module)
    host.attempt("rules", 60)
    module.table = "before"
    assert host.confirm(str(tmp_path / "rules")) == {"changed": False, "confirmed": False}
    assert not (tmp_path / "rules").exists()


def test_the_address_of_the_controller_survives_sudo(monkeypatch):
    environments = {30: b"PATH=/bin\0", 20: b"SUDO_USER=op\0", 10: b"SSH_CONNECTION=192.0.2.7 50000 10.0.0.1 22\0"}
    parents = {30: b"30 (python3 (x)) S 20 1", 20: b"20 (sudo) S 10 1", 10: b"10 (sh) S 1 1"}

    class Stream:
        def __init__(self, content):
            self.content = content

        def __enter__(self):
            return self

        def __exit__(self, *dummy):
            return False

        def read(self):
            return self.content

    def fake_open(path, mode):
        dummy, dummy2, pid, name = path.split("/")
        return Stream((environments if name == "environ" else parents)[int(pid)])

    monkeypatch.setattr(m.os, "getpid", lambda: 30)
    monkeypatch.setattr(m, "open", fake_open, raising=False)
    assert m.controller_address() == "192.0.2.7"
    del environments[10]
    environments[10] = b""
    assert m.controller_address() == ""
