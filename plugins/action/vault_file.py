# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Write the secrets that the platform needs into a vault file. All of it happens in this process: no secret in an argv."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import yaml
from ansible.errors import AnsibleActionFail, AnsibleError
from ansible.module_utils.parsing.convert_bool import boolean
from ansible.parsing.vault import VaultLib, VaultSecret, is_encrypted
from ansible.plugins.action import ActionBase
from ansible_collections.uptier.platform.plugins.module_utils.host.files import replace_file
from ansible_collections.uptier.platform.plugins.plugin_utils import secrets
from ansible_collections.uptier.platform.plugins.plugin_utils.application import completed

DATA = Path(__file__).resolve().parents[2] / "roles" / "platform" / "vars" / "secrets.yml"
HEADER = "---\n# Secrets of the platform. playbooks/create_secrets.yml adds what is missing and keeps what is here.\n"


class Unsafe(str):
    """A text that Ansible does not take for a template, though it may look like one: a password with braces."""


class Loader(yaml.SafeLoader):
    """As Ansible reads a page of variables; what it would replace is kept."""


class Dumper(yaml.SafeDumper):
    """Writes what `Loader` read."""


Loader.add_constructor("!unsafe", lambda loader, node: Unsafe(loader.construct_scalar(node)))
Dumper.add_representer(Unsafe, lambda dumper, text: dumper.represent_scalar("!unsafe", str(text), style='"'))


def write_private(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_file(path, text, 0o600)


class ActionModule(ActionBase):
    """Read, complete, encrypt, write."""

    _requires_connection = False
    TRANSFERS_FILES = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result = super().run(tmp, task_vars)
        dummy, given = self.validate_argument_spec(
            {
                "path": {"type": "path", "required": True},
                "password_file": {"type": "path", "required": True},
                "applications": {"type": "list", "elements": "dict", "default": []},
            }
        )
        path, password_file = Path(given["path"]), Path(given["password_file"])
        check = boolean(self._task.check_mode)
        password = self._password(password_file, path)
        present, encrypted = self._present(path, password_file, password)
        declared = yaml.safe_load(DATA.read_text(encoding="utf-8"))["platform_secrets"]
        values, made = secrets.complete(present, secrets.wanted(declared, completed(given["applications"])))
        new_password = password is None
        changed = bool(made) or not encrypted or new_password
        result.update(changed=changed, made=made, path=str(path), password_file=str(password_file))
        result["diff"] = {"prepared": "".join(f"{label}: made\n" for label in made)}
        if changed and not check:
            if password is None:
                password = secrets.make(48).encode()
                write_private(password_file, password.decode() + "\n")
            text = HEADER + yaml.dump(values, Dumper=Dumper, sort_keys=True, default_flow_style=False)
            vault = VaultLib([("default", VaultSecret(password))])
            write_private(path, vault.encrypt(text).decode())
        return result

    def _password(self, password_file: Path, path: Path) -> bytes | None:
        """Return the vault password; None when it has to be made."""
        if password_file.exists():
            if os.access(password_file, os.X_OK):
                raise AnsibleActionFail(f"{password_file} is a program. Give a file that holds the vault password.")
            password = password_file.read_bytes().strip()
            if not password:
                raise AnsibleActionFail(f"{password_file} is empty. Write the vault password into it, or remove it to have one made.")
            return password
        if path.exists() and is_encrypted(path.read_bytes()):
            raise AnsibleActionFail(
                f"{path} is encrypted and there is no password file {password_file}. "
                "Restore it, or name another with -e create_secrets_vault_password_file=FILE."
            )
        return None

    def _present(self, path: Path, password_file: Path, password: bytes | None) -> tuple[dict[str, Any], bool]:
        """Return what the vault file holds, and whether it is encrypted."""
        if not path.exists():
            return {}, False
        content = path.read_bytes()
        encrypted = is_encrypted(content)
        try:
            if encrypted:
                content = VaultLib([("default", VaultSecret(password or b""))]).decrypt(content)
            present = yaml.load(content, Loader=Loader) or {}
        except AnsibleError as error:
            raise AnsibleActionFail(
                f"{path} cannot be decrypted with the password in {password_file}. Was it made with another one?"
            ) from error
        except yaml.YAMLError as error:
            raise AnsibleActionFail(
                f"{path} is not plain YAML (values encrypted one by one are not supported). Encrypt the file as a whole."
            ) from error
        if not isinstance(present, dict):
            raise AnsibleActionFail(f"{path} contains no dictionary of variables.")
        return present, encrypted
