# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The role refuses a second repository in a directory for which nothing is mounted. /dev/shm is a file system of its own on every Linux."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROLE = Path(__file__).resolve().parents[3] / "roles" / "pgbackrest"
PLAYBOOK = shutil.which("ansible-playbook") or str(Path(sys.executable).with_name("ansible-playbook"))


@pytest.mark.parametrize(
    ("first", "second", "said"),
    [
        ("{tmp}/first", "{tmp}/second", "is on the file system of /. Mount there"),
        (
            "/dev/shm/uptier/first",
            "/dev/shm/uptier/second",
            "is on the file system of the first repository, /dev/shm/uptier/first. Mount there",
        ),
        ("{tmp}/first", "/dev/shm/uptier/second", ""),
    ],
)
def test_a_directory_for_which_nothing_is_mounted_is_refused(tmp_path: Path, first: str, second: str, said: str) -> None:
    play = [{
        "hosts": "localhost", "gather_facts": False, "connection": "local",
        "vars": {
            "pgbackrest_repository_path": first.format(tmp=tmp_path),
            "pgbackrest_second_repository": {"type": "posix", "path": second.format(tmp=tmp_path)},
        },
        "tasks": [{"ansible.builtin.include_tasks": str(ROLE / "tasks" / "mounted.yml")}],
    }]  # fmt: skip
    (tmp_path / "play.yml").write_text(json.dumps(play), encoding="utf-8")
    done = subprocess.run(
        [PLAYBOOK, "-i", "localhost,", "--check", str(tmp_path / "play.yml")],
        capture_output=True, text=True, check=False, cwd=tmp_path, env={**os.environ, "ANSIBLE_NOCOLOR": "1", "ANSIBLE_PYTHON_INTERPRETER": sys.executable},
    )  # fmt: skip
    assert done.returncode == (2 if said else 0), done.stdout + done.stderr
    assert said in done.stdout
