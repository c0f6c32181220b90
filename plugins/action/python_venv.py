# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Controller half of python_venv: reads the requirements and sends the wheels when the host asks for them."""

from __future__ import annotations

import tarfile
import tempfile
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleActionFail, AnsibleError
from ansible.plugins.action import ActionBase

MODULE = "uptier.platform.python_venv"


class ActionModule(ActionBase):
    """Run the module; where it lacks the wheels, send them in one archive and run it again."""

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        super().run(tmp, task_vars)
        variables = task_vars or {}
        arguments = dict(self._task.args)
        wheels = str(arguments.get("wheels") or "")
        source = Path(wheels) / "requirements.txt" if wheels else self._find(str(arguments.get("requirements")))
        if not source.is_file():
            raise AnsibleActionFail(
                f"{wheels}: no directory of wheels with a requirements.txt on the controller. Build it with "
                "scripts/build_patroni_wheels.py, or leave the variable empty to install from a package index."
            )
        arguments["pinned"] = source.read_text(encoding="utf-8")
        result = self._execute_module(module_name=MODULE, module_args=arguments, task_vars=variables)
        if not result.pop("wanted_archive", False):
            return result
        with tempfile.NamedTemporaryFile(suffix=".tar") as archive:
            with tarfile.open(archive.name, "w") as bundle:
                for path in sorted(Path(wheels).glob("*.whl")):
                    bundle.add(path, arcname=path.name)
            shell = self._connection._shell
            folder = self._make_tmp_path()
            remote = shell.join_path(folder, "wheels.tar")
            self._transfer_file(archive.name, remote)
            self._fixup_perms2((folder, remote))
            arguments["archive"] = remote
            try:
                return self._execute_module(module_name=MODULE, module_args=arguments, task_vars=variables)
            finally:
                self._remove_tmp_path(folder)

    def _find(self, name: str) -> Path:
        try:
            return Path(self._find_needle("files", name))
        except AnsibleError as error:
            raise AnsibleActionFail(f"requirements: {error}") from error
