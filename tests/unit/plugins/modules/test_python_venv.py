# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""How python_venv makes an environment, and with which pip it fills it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ansible_collections.uptier.platform.plugins.modules import python_venv


class Host:
    """A host on which every command ends well, and Python says where its pip is."""

    def __init__(self, wheel: str) -> None:
        self.wheel = wheel
        self.params = {"python": "/usr/bin/python3"}
        self.ran: list[list[str]] = []

    def run_command(self, command: list[str]) -> tuple[int, str, str]:
        self.ran.append(command)
        return 0, f"{self.wheel}\n" if python_venv.FIND_PIP in command else "", ""


@pytest.mark.parametrize(
    ("wheel", "venv", "pip"),
    [
        ("/w/pip-23.0.1-py3-none-any.whl", ["--without-pip", "/opt/x"], ["/opt/x/bin/python", "/w/pip-23.0.1-py3-none-any.whl/pip"]),
        ("", ["/opt/x"], ["/opt/x/bin/python", "-m", "pip"]),
    ],
)
def test_pip_runs_from_its_wheel_where_there_is_one(wheel: str, venv: list[str], pip: list[str]) -> None:
    host: Any = Host(wheel)
    assert python_venv.make(host, "/opt/x") == pip
    assert host.ran[1:] == [["/usr/bin/python3", "-m", "venv", *venv]]


def test_the_wheel_that_python_names_is_a_pip_that_runs() -> None:
    wheel = subprocess.run([sys.executable, "-c", python_venv.FIND_PIP], capture_output=True, text=True, check=True).stdout.strip()
    if not wheel:
        pytest.skip(f"{sys.executable} has no ensurepip")
    said = subprocess.run([sys.executable, f"{wheel}/pip", "--version"], capture_output=True, text=True, check=True).stdout
    assert Path(wheel).name.split("-")[1] in said


def test_a_host_without_the_package_is_told_what_to_install() -> None:
    def fail_json(**said: str) -> None:
        raise SystemExit(f"{said['reason']}: {said['msg']}")

    host: Any = SimpleNamespace(
        params={"python": "/usr/bin/python3"},
        run_command=lambda command: (1, "", "ModuleNotFoundError: No module named 'ensurepip'"),
        fail_json=fail_json,
    )
    with pytest.raises(SystemExit, match=r"venv_failed: .*No module named 'ensurepip'\. Install python3-venv on the host\."):
        python_venv.make(host, "/opt/x")
