# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Controller half of vendor_package: looks at given files, and lets apt, copy and unarchive do what the host lacks."""

from __future__ import annotations

import base64
import fnmatch
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase
from ansible_collections.uptier.platform.plugins.plugin_utils import archives, vendors

MODULE = "uptier.platform.vendor_package"
DATA = Path(__file__).resolve().parents[2] / "roles" / "platform" / "vars" / "vendors.yml"


def catalogue() -> dict[str, Any]:
    return yaml.safe_load(DATA.read_text(encoding="utf-8"))["platform_vendors"]


class ActionModule(ActionBase):
    """Look once, and install only what is missing."""

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        super().run(tmp, task_vars)
        variables = task_vars or {}
        arguments = self._arguments()
        result = self._execute_module(module_name=MODULE, module_args=arguments, task_vars=variables)
        if result.get("failed"):
            return result
        why, beyond, missing = result.pop("why"), result.pop("beyond"), result.pop("missing")
        result["warnings"] = [*(result.get("warnings") or []), *self._warnings(arguments, result, beyond)]
        if missing and not why:
            done: dict[str, Any] = {}
            if not self._task.check_mode:
                done = getattr(self, f"_from_{arguments['source']}")(arguments, result, variables)
                result["warnings"] += done.get("warnings") or []
            if not done.get("failed"):
                result["changed"] = True
            elif arguments["source"] == "repository":
                why = str(done.get("msg") or "apt gave no reason")
            else:
                return done
        return self._judge(arguments, result, why)

    def _arguments(self) -> dict[str, Any]:
        """Return the task's arguments with the vendor's repository and the paths on the host filled in."""
        arguments = {"version": "", "source": "repository", "unavailable": "stop", **self._task.args}
        vendor, package = str(arguments.get("vendor")), str(arguments.get("package"))
        try:
            repository = vendors.repository(catalogue(), vendor, arguments.get("repository") or {})
        except vendors.VendorError as error:
            raise AnsibleActionFail(f"{package}: {error}.") from None
        if arguments["source"] != "repository":
            self._compare(package, str(arguments.get("file") or ""), str(arguments.get("checksum") or ""))
        elif repository["key"].startswith("/"):
            key = Path(repository["key"])
            if not key.is_file():
                raise AnsibleActionFail(f"{package}: the key {key} is not a file on the controller.")
            repository["key_content"] = base64.b64encode(key.read_bytes()).decode()
        return {
            **arguments,
            "repository": repository,
            "keyring": f"/etc/apt/keyrings/uptier-{vendor}.gpg",
            # One file for all that comes from a vendor, or apt would read its lists several times.
            "sources": f"/etc/apt/sources.list.d/uptier-{vendor}.sources",
            "preferences": f"/etc/apt/preferences.d/uptier-{package}.pref",
            "copy": f"/var/cache/uptier/{package}.deb",
        }

    def _compare(self, package: str, file: str, checksum: str) -> None:
        """Fail unless the file on the controller is the one that was meant."""
        if not Path(file).is_file():
            raise AnsibleActionFail(f"{package}: {file or 'file, which is empty,'} is not a file on the controller.")
        seen = archives.checksum(Path(file))
        if seen != checksum:
            raise AnsibleActionFail(f"{package}: the SHA-256 of {file} is {seen}, and {checksum or 'nothing'} was given as its checksum.")

    def _warnings(self, arguments: Mapping[str, Any], result: Mapping[str, Any], beyond: bool) -> list[str]:
        """Return what a user should know of versions. The text is the same for all hosts, so that Ansible shows it once."""
        if arguments["source"] != "repository":
            return []
        package, version, tested = arguments["package"], arguments["version"], vendors.tested(catalogue(), arguments["package"])
        if beyond:
            return [
                f"{package} {result['installed']} is installed, which is beyond {version}; it is kept, since going back may cost data. "
                f"Its configuration was written for {tested}."
            ]
        if not fnmatch.fnmatchcase(version, tested):
            return [
                f"{package}_version is {version or 'empty, so the newest is installed'}; its configuration was written for {tested}. "
                "Read the vendor's notes on what changed."
            ]
        return []

    def _judge(self, arguments: Mapping[str, Any], result: dict[str, Any], why: str) -> dict[str, Any]:
        """Return the result: nothing withheld, something that is left to a later task, or a failure."""
        if not why:
            return {**result, "withheld": {}}
        withheld = {
            "package": arguments["package"],
            "version": arguments["version"],
            "vendor": arguments["vendor"],
            "repository": arguments["repository"]["url"],
            "why": " ".join(why.split()),
            "switch": arguments["switch"],
        }
        result["withheld"] = withheld
        if arguments["unavailable"] == "stop":
            wished = vendors.wish(withheld["package"], withheld["version"])
            text = vendors.explain(withheld["repository"], withheld["why"], [wished])
            result.update(failed=True, reason="repository_unavailable", msg=f"{text} {vendors.ways_on([withheld])}")
        return result

    def _from_repository(self, arguments: Mapping[str, Any], result: Mapping[str, Any], variables: dict[str, Any]) -> dict[str, Any]:
        wanted = arguments["package"] + (f"={arguments['version']}" if arguments["version"] else "")
        options = {"name": [wanted], "lists_valid_seconds": 0 if result["changed"] else 3600}
        return self._action("uptier.platform.packages", options, variables)

    def _from_package(self, arguments: Mapping[str, Any], result: Mapping[str, Any], variables: dict[str, Any]) -> dict[str, Any]:
        folder = {"path": str(Path(arguments["copy"]).parent), "state": "directory", "mode": "0755"}
        return self._all(
            lambda: self._module("ansible.builtin.file", folder, variables),
            lambda: self._action("ansible.builtin.copy", {"src": arguments["file"], "dest": arguments["copy"], "mode": "0644"}, variables),
            lambda: self._module(
                "ansible.builtin.apt",
                {"deb": arguments["copy"], "policy_rc_d": 101, "install_recommends": False, "lock_timeout": 300},
                variables,
            ),
        )

    def _from_archive(self, arguments: Mapping[str, Any], result: Mapping[str, Any], variables: dict[str, Any]) -> dict[str, Any]:
        archive, zipped = arguments["archive"], str(arguments["file"]).endswith(".zip")
        user = {"name": arguments["package"], "system": True, "home": archive["home"], "shell": "/usr/sbin/nologin"}
        unpack = {"src": arguments["file"], "dest": archive["directory"], "owner": "root", "group": "root"}
        if archive.get("options") and not zipped:
            unpack["extra_opts"] = archive["options"]
        steps = [
            lambda: self._module("ansible.builtin.user", user, variables),
            lambda: self._module("ansible.builtin.file", {"path": archive["directory"], "state": "directory", "mode": "0755"}, variables),
            lambda: self._action("ansible.builtin.unarchive", unpack, variables),
        ]
        if zipped:
            steps.insert(0, lambda: self._action("uptier.platform.packages", {"name": ["unzip"]}, variables))
        return self._all(*steps)

    def _all(self, *steps: Any) -> dict[str, Any]:
        """Take the steps in their order; return the first that fails, else the last."""
        done: dict[str, Any] = {}
        for step in steps:
            done = step()
            if done.get("failed"):
                break
        return done

    def _module(self, name: str, arguments: dict[str, Any], variables: dict[str, Any]) -> dict[str, Any]:
        return self._execute_module(module_name=name, module_args=arguments, task_vars=variables)

    def _action(self, name: str, arguments: dict[str, Any], variables: dict[str, Any]) -> dict[str, Any]:
        """Run another module that has a half on the controller."""
        task = self._task.copy()
        task.args = arguments
        action = self._shared_loader_obj.action_loader.get(
            name,
            task=task,
            connection=self._connection,
            play_context=self._play_context,
            loader=self._loader,
            templar=self._templar,
            shared_loader_obj=self._shared_loader_obj,
        )
        return action.run(task_vars=variables)
