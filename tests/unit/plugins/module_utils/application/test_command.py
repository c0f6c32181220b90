# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A command of a release: what it has of its service's unit, and what its output does not have."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from ansible_collections.uptier.platform.plugins.module_utils.application import command as module
from ansible_collections.uptier.platform.plugins.module_utils.application import command_apply
from ansible_collections.uptier.platform.plugins.module_utils.application.release_apply import ReleaseError, link
from ansible_collections.uptier.platform.plugins.plugin_utils import quoting
from hypothesis import given
from hypothesis import strategies as st

UNIT = """# Managed. User=nobody
[Unit]
Description=shop: web, instance %i
StartLimitIntervalSec=0

[Service]
Type=exec
User=shop
# Each instance has a link of its own.
WorkingDirectory=/apps/shop-web@%i
EnvironmentFile=/etc/shop.env
EnvironmentFile=-/apps/shop-web@%i/.release.env
Environment="RATE=5%% of \\"all\\""
Environment=PORT=%i
ExecStart=/apps/shop-web@%i/run --all
Restart=always
RestartSec=1
MemoryMax=100M
SystemCallFilter=@system-service
SystemCallFilter=~@privileged @resources
CapabilityBoundingSet=
SyslogIdentifier=shop-web

[Install]
WantedBy=multi-user.target
"""
TEXT = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=30)


def test_what_a_command_has_of_the_unit() -> None:
    assert module.properties(UNIT, "/apps/shop-web@%i", "/apps/releases/2") == [
        "User=shop",
        "EnvironmentFile=/etc/shop.env",
        "EnvironmentFile=-/apps/releases/2/.release.env",
        'Environment="RATE=5% of \\"all\\""',
        "MemoryMax=100M",
        "SystemCallFilter=@system-service",
        "SystemCallFilter=~@privileged @resources",
        "CapabilityBoundingSet=",
        "WorkingDirectory=/apps/releases/2",
    ]


@given(st.dictionaries(st.from_regex(r"[A-Za-z_][A-Za-z0-9_]*", fullmatch=True), TEXT, max_size=5))
def test_settings_are_read_as_the_role_writes_them(values: dict[str, str]) -> None:
    lines = ["# Managed", *(quoting.environment_line(name, value) for name, value in values.items())]
    assert module.settings("\n".join(lines) + "\n") == values


SECRET = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="*"), min_size=module.SHORTEST, max_size=12)


@given(st.lists(SECRET, min_size=1, max_size=3), st.data())
def test_no_secret_is_left_however_it_is_written(secrets: list[str], data: st.DataObject) -> None:
    ways = (lambda one: one, quote, lambda one: quote(one, safe=""), lambda one: json.dumps(one)[1:-1])
    parts = data.draw(st.lists(st.one_of(TEXT, *(st.sampled_from(secrets).map(way) for way in ways)), max_size=6))
    left = module.struck("".join(parts), secrets)
    assert not [way(one) for one in secrets for way in ways if way(one) in left]


@given(TEXT)
def test_what_is_no_secret_stays(text: str) -> None:
    assert module.struck(text, ["", "on", "a secret that is longer than the text"]) == text


def test_secrets_that_overlap_are_struck_whole() -> None:
    assert module.struck("<abcdefgh>", ["abcde", "cdefgh"]) == "<***>"


@pytest.mark.parametrize(
    ("status", "journal", "said"),
    [
        (0, "", "ended well"),
        (3, "x.service: Failed with result 'exit-code'.", "ended with status 3"),
        (3, "", "ended with status 3"),
        (1, "x.service: Failed with result 'timeout'.", "did not end within 9 s and was stopped; give it more with -e seconds="),
        (1, "x.service: Failed with result 'oom-kill'.", "took more memory than `limits.memory_mb` of its service allows and was killed"),
        (1, "x.service: Failed with result 'protocol'.", "ended with status 1 (protocol)"),
    ],
)
def test_how_it_ended(status: int, journal: str, said: str) -> None:
    assert module.ended(status, journal, 9) == said


class Machine:
    """A host whose systemd-run says what it was told to say."""

    def __init__(self, *answers: tuple[int, str, str]) -> None:
        self.answers, self.calls = list(answers), []

    def __call__(self, command: list[str], **options: Any) -> tuple[int, str, str]:
        # As Ansible's own would, it must not replace $NAME by what root has.
        assert command[0] == "journalctl" or options == {"expand_user_and_vars": False}
        self.calls.append(command)
        return self.answers.pop(0)


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return a function that makes a command on a host with a unit, an environment and, where one is named, a release."""

    def make(machine: Machine, release: str = "2") -> command_apply.Command:
        monkeypatch.setattr(command_apply, "UNITS", tmp_path)
        bare = command_apply.bare

        def here(run: Any, name: str) -> Any:
            host = bare(run, name)
            host.base, host.settings = tmp_path / "apps", tmp_path / "shop.env"
            return host

        monkeypatch.setattr(command_apply, "bare", here)
        (tmp_path / "shop-web@.service").write_text("[Service]\nUser=shop\n", encoding="utf-8")
        (tmp_path / "shop.env").write_text('DB_PASSWORD="hush-hush"\nPLAIN="as it is"\n', encoding="utf-8")
        if release:
            link(tmp_path / "apps" / "current", f"releases/{release}")
        return command_apply.Command(machine, "shop", "shop-web")

    return make


def test_it_runs_in_the_current_release_and_says_no_secret(made: Any, tmp_path: Path) -> None:
    machine = Machine((3, "hush-hush, as it is", "hush-hush!"), (0, "x: Failed with result 'exit-code'.", ""))
    assert made(machine).start("bin/clear 'all of it' $1", 60, ["DB_PASSWORD", "NOT_THERE"]) == {
        "status": 3,
        "ended": "ended with status 3",
        "stdout": "***, as it is",
        "stderr": "***!",
    }
    told = machine.calls[0]
    folder = tmp_path / "apps" / "releases" / "2"
    assert told[told.index("systemd-run") :][-3:] == [f"{folder}/bin/clear", "all of it", "$$1"]
    assert {"--property=User=shop", f"--property=WorkingDirectory={folder}", "--property=RuntimeMaxSec=60"} < set(told)


def test_without_a_release_nothing_runs(made: Any) -> None:
    with pytest.raises(ReleaseError, match="there is no release of it on this host"):
        made(Machine(), release="")


def test_of_a_long_output_the_end_is_shown() -> None:
    said = command_apply.shortened("x" * (command_apply.LONGEST + 5) + "end\udc80")
    assert said.startswith("(9 characters before this are left out)\nx")
    assert said.endswith("xend?")
