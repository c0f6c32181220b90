# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Controller half of config_files: renders the templates and sends all contents in one call."""

from __future__ import annotations

import base64
import json
import os
import zlib
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleActionFail, AnsibleError
from ansible.plugins.action import ActionBase
from ansible.plugins.loader import lookup_loader
from ansible_collections.uptier.platform.plugins.plugin_utils.programs import COLLECTIONS, ProgramError, library

MODULE = "uptier.platform.config_files"


class Scope(dict[str, Any]):
    """Variables of which a copy shares the values.

    The lookup of templates makes a deep copy of all variables of the host, for each file anew, and adds a few to it. It changes none, and
    what a template is given of a list or a dictionary is a copy anyway. The deep one took 60 to 90 ms of processor for each file.
    """

    def __deepcopy__(self, dummy: dict[int, Any]) -> dict[str, Any]:
        return dict(self)


class ActionModule(ActionBase):
    """Render `src` of each file with the task's variables; contents travel in one no_log argument."""

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        super().run(tmp, task_vars)
        variables = task_vars or {}
        arguments = dict(self._task.args)
        contents: dict[str, str] = {}
        files = []
        named: set[str] = set()
        for number, given in enumerate(self._installed(arguments)):
            item = dict(given)
            where = item.get("dest", f"files[{number}]")
            source, content = item.pop("src", None), item.pop("content", None)
            extra = item.pop("vars", None) or {}
            if source and content is not None:
                raise AnsibleActionFail(f"{where}: src and content are mutually exclusive; give one.")
            if item.get("state") == "absent":
                source = content = None  # a template need not make sense without what it is for
            if source:
                contents[where] = self._render(source, where, variables, extra)
            elif content is not None:
                if isinstance(content, (dict, list)):
                    raise AnsibleActionFail(f"{where}: content is not text. Add a filter, as to_nice_json or to_nice_yaml.")
                contents[where] = str(content)
            elif item.get("state", "file") == "file":
                raise AnsibleActionFail(f"{where}: a file needs src (a template) or content.")
            if where in named:
                raise AnsibleActionFail(f"{where}: listed twice in files; list each path once.")
            named.add(where)
            files.append(item)
        arguments["files"] = files
        packed = zlib.compress(json.dumps(contents).encode(), 6)
        arguments["payload"] = base64.b64encode(packed).decode()
        return self._execute_module(module_name=MODULE, module_args=arguments, task_vars=variables)

    def _installed(self, arguments: dict[str, Any]) -> list[dict[str, Any]]:
        """Give the files, a program with the modules that it imports; what lies among these and is none of them is purged."""
        files: list[dict[str, Any]] = []
        purge: set[str] = set()
        for given in arguments.get("files") or []:
            item = dict(given)
            program = item.pop("program", None)
            files.append(item)
            if not program:
                continue
            where = item.get("dest", program)
            if {"src", "content", "vars"} & item.keys():
                raise AnsibleActionFail(f"{where}: program excludes src, content and vars; it is installed as it is.")
            source = Path(self._find_needle("files", program))
            try:
                beside = library(source)
            except ProgramError as error:
                raise AnsibleActionFail(f"{where}: {error}") from error
            folder = os.path.dirname(where)
            if item.get("state", "file") == "file":
                item["content"] = source.read_text(encoding="utf-8")
                files += [{"dest": f"{folder}/{name}", "content": text} for name, text in beside.items()]
            elif beside:
                files.append({"dest": f"{folder}/{COLLECTIONS}", "state": item["state"]})
            purge |= {f"{os.path.dirname(f'{folder}/{name}')}/*" for name in beside}
        if purge:
            arguments["purge"] = [*(arguments.get("purge") or []), *sorted(purge)]
        return files

    def _render(self, source: str, where: str, variables: dict[str, Any], extra: dict[str, Any]) -> str:
        lookup = lookup_loader.get("ansible.builtin.template", loader=self._loader, templar=self._templar)
        scope = Scope(variables)
        scope["ansible_search_path"] = self._task.get_search_path()
        try:
            return str(lookup.run([source], variables=scope, template_vars=extra)[0])
        except AnsibleError as error:
            raise AnsibleActionFail(f"{where}: template {source} could not be rendered: {error}") from error
