# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""deploy.yml as Ansible runs it, on three hosts whose modules only write down what they were told.

One run, since each costs seconds: the second host is gone when its turn has come. Hosts are brought back by plays that come
after, which a host that had failed in Ansible's eyes would not see.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[3]
PLAYBOOK = shutil.which("ansible-playbook") or str(Path(sys.executable).with_name("ansible-playbook"))
FAKED = ("app_release", "app_release_info", "app_deploy", "app_verify", "config_files")
# What stands in for each of them: it remembers what a host runs in a file, and fails where it is told to.
STANDIN = """
import json, os
from pathlib import Path
from ansible.errors import AnsibleConnectionFailure
from ansible.plugins.action import ActionBase
from ansible_collections.uptier.platform.plugins.plugin_utils.tolerance import tolerated

class ActionModule(ActionBase):
    _supports_check_mode = True

    def run(self, tmp=None, task_vars=None):
        super().run(tmp, task_vars)
        given, name = dict(self._task.args), self._task.action.rpartition(".")[2]
        host = task_vars["inventory_hostname"]
        if name == "app_release":
            given.setdefault("state", "switched")
        with open(os.environ["STANDIN_LOG"], "a") as log:
            log.write(json.dumps([host, name, given.get("state", ""), given.get("version", "")]) + "\\\\n")
        return tolerated(given, lambda: self.act(name, host, given))

    def act(self, name, host, given):
        path = Path(os.environ["STANDIN_LOG"]).with_name(f"{host}.json")
        current = json.loads(path.read_text()) if path.exists() else "1"
        if name == "app_release_info":
            releases = [{"name": one, "version": one, "checksum": ""} for one in ("1", "2", "3")]
            nothing = {"previous": "", "origin": None, "deployed": {}, "instances": {}, "migrated": [], "lock": None, "history": []}
            return {"changed": False, "applications": {"shop": {"current": current, "releases": releases, **nothing}}}
        if name == "app_release" and given["state"] == "switched":
            if host == "app2":
                raise AnsibleConnectionFailure("no route to app2")
            path.write_text(json.dumps(given["version"]))
            return {"changed": current != given["version"]}
        return {"changed": False}
""".replace("\\\\n", "\\n")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[subprocess.CompletedProcess[str], list[list[str]]]:
    """Return how the run has ended, and what each host was told, in order."""
    folder = tmp_path_factory.mktemp("deploy")
    copy = folder / "ansible_collections" / "uptier" / "platform"
    (copy / "plugins" / "action").mkdir(parents=True)
    for place, without in ((".", "plugins"), ("plugins", "action"), ("plugins/action", "")):
        for entry in (ROOT / place).iterdir():
            if entry.name != without and not entry.name.startswith("."):
                (copy / place / entry.name).symlink_to(entry)
    for name in FAKED:
        (copy / "plugins" / "action" / f"{name}.py").unlink(missing_ok=True)
        (copy / "plugins" / "action" / f"{name}.py").write_text(STANDIN, encoding="utf-8")
    service = {"name": "web", "command": "run", "port": 3000, "health": "/up"}
    shop = {"name": "shop", "domains": ["shop.test"], "version": "1", "release": "none-1.tar", "migrate": "migrate", "services": [service]}
    variables: dict[str, Any] = {
        "ansible_connection": "local", "ansible_python_interpreter": sys.executable, "platform_memory_mb": 4096, "app_memory_share": 0.5,
        "vault_app_secret_key": "a-key-of-this-test", "platform_applications": [shop],
    }  # fmt: skip
    hosts = {name: {"platform_address": f"192.0.2.{number}"} for number, name in enumerate(("app1", "app2", "app3", "gw1"), 1)}
    groups = {"app": {"hosts": {"app1": {}, "app2": {}, "app3": {}}}, "gateway": {"hosts": {"gw1": {}}}}
    (folder / "hosts.yml").write_text(yaml.safe_dump({"all": {"vars": variables, "hosts": hosts, "children": groups}}), encoding="utf-8")
    environment = {**os.environ, "ANSIBLE_COLLECTIONS_PATH": str(folder), "ANSIBLE_NOCOLOR": "1", "STANDIN_LOG": str(folder / "log")}
    done = subprocess.run(
        [PLAYBOOK, "-i", str(folder / "hosts.yml"), str(copy / "playbooks" / "deploy.yml"), "-e", "application=shop", "-e", "version=2"],
        env=environment, cwd=folder, capture_output=True, text=True, check=False, timeout=600,
    )  # fmt: skip
    log = folder / "log"
    told = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()] if log.exists() else []
    return done, told


def test_a_host_that_is_gone_in_its_turn_does_not_keep_the_others_on_the_new_release(run: tuple[Any, list[list[str]]]) -> None:
    done, told = run
    assert told, done.stdout + done.stderr
    steps = [entry for entry in told if entry[1] in ("app_deploy", "app_verify") or entry[2] == "switched"]
    assert steps[:5] == [
        ["app1", "app_deploy", "locked", ""],
        ["app1", "app_deploy", "renewed", ""],
        ["app1", "app_release", "switched", "2"],
        ["app2", "app_deploy", "renewed", ""],
        ["app2", "app_release", "switched", "2"],
    ]
    # No host after it is touched; all are told to go back, then what runs again is asked, and the end is written down everywhere.
    assert [sorted(steps[5:8]), steps[8], sorted(steps[9:])] == [
        [[host, "app_release", "switched", "1"] for host in ("app1", "app2", "app3")],
        ["gw1", "app_verify", "", ""],
        [[host, "app_deploy", "ended", "2"] for host in ("app1", "app2", "app3")],
    ]
    said = " ".join(done.stdout.split())
    assert "shop 2 failed on app2. NOT every host is back: app2 is not back on 1: The host cannot be reached: no route to app2" in said
    assert done.returncode == 2
