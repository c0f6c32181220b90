# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Ansible's own messages are on the page for people whose run stopped as Ansible words them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from ansible.cli.inventory import InventoryCLI
from ansible.release import __version__

ROOT = Path(__file__).resolve().parents[3]
PAGE = (ROOT / "docs/how-to/when-a-run-stops.md").read_text(encoding="utf-8")
BIN = Path(sys.executable).parent
PLATFORM = "group_vars/all/platform.yml"
pytestmark = pytest.mark.skipif(not __version__.startswith("2.19."), reason="the page quotes ansible-core 2.19")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return an inventory with a vault file, and its password beside it."""
    inventory = tmp_path_factory.mktemp("whole") / "inventories" / "prod"
    shutil.copytree(ROOT / "inventories/prod", inventory, ignore=shutil.ignore_patterns("vault.yml", ".vault*", "pki"))
    vault, password = inventory / "group_vars/all/vault.yml", inventory / ".vault_password"
    vault.write_text("vault_x: y\n", encoding="utf-8")
    password.write_text("right\n", encoding="utf-8")
    subprocess.run([BIN / "ansible-vault", "encrypt", "--vault-password-file", password, vault], check=True, capture_output=True)
    return inventory


def listed(folder: Path, *words: str) -> tuple[str, str]:
    """Return what ansible-inventory prints in a folder, and what it complains about. A child of this process asks, which has imported Ansible already."""
    output, errors = folder / "output", folder / "errors"
    child = os.fork()
    if child == 0:
        try:
            os.chdir(folder)
            for number, name in ((1, output), (2, errors)):
                os.dup2(os.open(name, os.O_WRONLY | os.O_CREAT), number)
            sys.stdout, sys.stderr = os.fdopen(1, "w"), os.fdopen(2, "w", buffering=1)
            InventoryCLI.cli_executor(["ansible-inventory", "-i", "inventories/prod", *words])
        finally:
            sys.stdout.flush()
            os._exit(0)
    os.waitpid(child, 0)
    return output.read_text(encoding="utf-8"), errors.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("name", "text", "password"),
    [
        ("", "", None),
        ("wrong", "wrong\n", "wrong"),
        ("", "", ".vault_password2"),
        ("group_vars/all/vault.yml", "$ANSIBLE_VAULT;1.1;AES256\n", ".vault_password"),
        (PLATFORM, "platform_applications:\n\t- name: shop\n", ".vault_password"),
        (PLATFORM, "[all]\nplatform_domain=shop.example.org\n", ".vault_password"),
        (PLATFORM, "platform_domain=shop.example.org\n", ".vault_password"),
        (PLATFORM, "platform_domain: shop: example.org\n", ".vault_password"),
        (PLATFORM, "platform_domain: {{ domain }}\n", ".vault_password"),
        (PLATFORM, "platform_applications:\n  - name: shop\n   domains: [a]\n", ".vault_password"),
        (PLATFORM, "platform_domain: a\nplatform_domain: b\n", ".vault_password"),
        ("provider-ca.crt", "-----BEGIN CERTIFICATE-----\nabc\n-----END CERTIFICATE-----\n", ".vault_password"),
        ("hosts.yml", "all:\n\tchildren:\n", ".vault_password"),
    ],
    ids=[
        "no password",
        "wrong password",
        "no password file",
        "cut-off vault",
        "tab",
        "INI with a section",
        "INI without a section",
        "colon",
        "braces",
        "indent",
        "twice",
        "certificate next to hosts.yml",
        "no inventory",
    ],
)
def test_message_is_on_the_page(whole: Path, tmp_path: Path, name: str, text: str, password: str | None) -> None:
    inventory = tmp_path / "inventories" / "prod"
    shutil.copytree(whole, inventory)
    if name:
        (inventory / name).write_text(text, encoding="utf-8")
    vault = [f"--vault-password-file=inventories/prod/{password}"] if password else []
    dummy, errors = listed(tmp_path, "--list", *vault)
    said = [
        line.replace(f"{tmp_path}/", "").replace("password2", "password")
        for line in errors.splitlines()
        if line.startswith(("[ERROR]", "[WARNING]"))
    ]
    assert any(line in PAGE for line in said), f"docs/how-to/when-a-run-stops.md has none of {said}"


def test_files_next_to_the_inventory_have_a_place(whole: Path, tmp_path: Path) -> None:
    """What the page says: files/ is not read as an inventory."""
    inventory = tmp_path / "inventories" / "prod"
    shutil.copytree(whole, inventory)
    (inventory / "files").mkdir()
    (inventory / "files" / "provider-ca.crt").write_text("-----BEGIN CERTIFICATE-----\n", encoding="utf-8")
    output, errors = listed(tmp_path, "--graph")
    assert "db1" in output
    assert errors == ""
