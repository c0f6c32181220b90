# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""With --limit nothing changes on one member that the others would go on with: the roles' own tasks, files and templates on this machine."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from ansible_collections.uptier.platform.plugins.filter.topology import differences

ROLES = Path(__file__).resolve().parents[3] / "roles"
PLAYBOOK = shutil.which("ansible-playbook") or str(Path(sys.executable).with_name("ansible-playbook"))
HASHES = ["a" * 64, "b" * 64]
KEEPALIVED = {
    "keepalived_members": [{"name": "gw1", "address": "10.0.0.1"}, {"name": "gw2", "address": "10.0.0.2"}],
    "keepalived_address": "10.0.0.1", "keepalived_virtual_address": "10.0.0.9/24", "keepalived_interface": "eth0", "keepalived_password": "p#ss wrd",
    "keepalived_priority": 200, "keepalived_check_port": 1, "keepalived_vrrp_version": 2, "keepalived_advert_interval": 1,
    "keepalived_router_id": 51, "keepalived_check_interval": 1, "keepalived_check_fall": 2, "keepalived_check_rise": 2,
}  # fmt: skip


def test_what_two_texts_say_differently() -> None:
    patterns = {"one": "^one (.*)$", "users": r"^user (\S+) .*?#([0-9a-f]+)"}
    now = f"one 1\nuser a on #{HASHES[0]} +@all\nuser b on #{HASHES[0]}"
    assert differences("", now, patterns) == []
    assert differences(now, now.replace("+@all", "-@all"), patterns) == []
    assert differences(now, f"{now}\nuser c on #{HASHES[0]}", patterns) == []
    assert differences(now, now.replace("one 1", "one 2"), patterns) == ["one"]
    assert differences(now, now.partition("\n")[2], patterns) == ["one"]
    assert differences(now, now.replace(HASHES[0], HASHES[1]), patterns) == ["users (a, b)"]
    assert differences(now, now.partition("\nuser b")[0], patterns) == []


def run(tmp_path: Path, limit: str, variables: dict[str, Any]) -> subprocess.CompletedProcess[str]:
    """Run the first tasks of keepalived's configure.yml, up to those that write, on the gateway gw1."""
    role = tmp_path / "roles" / "keepalived"
    if not role.exists():
        shutil.copytree(ROLES / "keepalived", role)
        tasks = (role / "tasks" / "configure.yml").read_text(encoding="utf-8")
        head, written, dummy = tasks.partition("- name: Configure | Configuration, check script and unit")
        assert written
        (role / "tasks" / "configure.yml").write_text(head, encoding="utf-8")
    place = {"__keepalived_config_file": str(tmp_path / "keepalived.conf")}
    write = {"ansible.builtin.template": {"src": str(role / "templates" / "keepalived.conf.j2"), "dest": place["__keepalived_config_file"]}}
    play = [{
        "hosts": "gw1", "gather_facts": False, "connection": "local",
        "tasks": [
            {"ansible.builtin.include_role": {"name": "keepalived", "tasks_from": "configure.yml"}},
            {**write, "vars": {"__keepalived_script_user": "a", "__keepalived_check_script": "b"}},
        ],
    }]  # fmt: skip
    (tmp_path / "play.yml").write_text(json.dumps(play), encoding="utf-8")
    (tmp_path / "given.json").write_text(json.dumps({**KEEPALIVED, **place, **variables}), encoding="utf-8")
    return subprocess.run(
        [PLAYBOOK, "-i", "gw1,gw2,", *(["--limit", limit] if limit else []), "-e", f"@{tmp_path}/given.json", str(tmp_path / "play.yml")],
        capture_output=True, text=True, check=False, cwd=tmp_path,
        env={**os.environ, "ANSIBLE_NOCOLOR": "1", "ANSIBLE_PYTHON_INTERPRETER": sys.executable,
             "ANSIBLE_ROLES_PATH": str(tmp_path / "roles"), "ANSIBLE_COLLECTIONS_PATH": str(ROLES.parent / ".cache" / "collections")},
    )  # fmt: skip


def test_gateways_change_together(tmp_path: Path) -> None:
    first = run(tmp_path, "gw1", {})
    assert first.returncode == 0, first.stdout + first.stderr
    # What each has for itself may change.
    assert run(tmp_path, "gw1", {"keepalived_priority": 100}).returncode == 0
    change = {"keepalived_router_id": 52, "keepalived_advert_interval": 2, "keepalived_virtual_address": "10.0.0.10/24"}
    for changed in ({"keepalived_password": "p#ss wr2", **change}, {"keepalived_vrrp_version": 3}):
        refused = run(tmp_path, "gw1", changed)
        said = " ".join(refused.stdout.split())
        assert refused.returncode == 2, said
        names = [*changed, *([] if "keepalived_password" in changed else ["keepalived_password"])]
        assert f"keepalived on gw1: {', '.join(names)} would change, and gw2, where the former value is in use, take no part" in said
        assert "p#ss" not in said
    assert run(tmp_path, "", change).returncode == 0
