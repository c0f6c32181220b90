# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Controller half of app_release: sends the archive, and only to a host that asks for it."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

from ansible.plugins.action import ActionBase

MODULE = "uptier.platform.app_release"


def checksum(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as source:
        for block in iter(lambda: source.read(1 << 20), b""):
            digest.update(block)
    return digest.hexdigest()


class ActionModule(ActionBase):
    """Run the module; where it lacks the release, transfer the archive and run it again."""

    _supports_check_mode = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        super().run(tmp, task_vars)
        variables = task_vars or {}
        arguments = dict(self._task.args)
        archive = self._local(arguments.get("archive"))
        arguments["checksum"] = checksum(archive) if archive else ""
        try:
            result = self._execute_module(module_name=MODULE, module_args=arguments, task_vars=variables)
            if archive and result.pop("need_archive", False):
                folder = self._connection._shell.tmpdir or self._make_tmp_path()
                arguments["upload"] = self._connection._shell.join_path(folder, "release.tar")
                self._transfer_file(str(archive), arguments["upload"])
                result = self._execute_module(module_name=MODULE, module_args=arguments, task_vars=variables)
            return result
        finally:
            self._remove_tmp_path(self._connection._shell.tmpdir)

    def _local(self, name: Any) -> Path | None:
        """Find the archive: absolute, or relative to where Ansible was started."""
        if not name:
            return None
        path = Path(os.path.expanduser(str(name)))
        return path if path.is_file() else None
