# SPDX-License-Identifier: GPL-3.0-or-later
"""The vault file: encrypted, private, completed and never weakened."""

from __future__ import annotations

from unittest.mock import MagicMock

import pytest
import yaml
from ansible.errors import AnsibleActionFail
from ansible.parsing.dataloader import DataLoader
from ansible.parsing.vault import VaultLib, VaultSecret, is_encrypted
from ansible.template import Templar, trust_as_template
from ansible_collections.uptier.platform.plugins.action.vault_file import ActionModule

APPLICATIONS = [{"name": "shop", "database": True, "cache": True}]


def run(tmp_path, check=False, applications=None):
    task = MagicMock(check_mode=check, async_val=False)
    task.args = {
        "path": str(tmp_path / "group_vars" / "all" / "vault.yml"),
        "password_file": str(tmp_path / ".vault_password"),
        "applications": APPLICATIONS if applications is None else applications,
    }
    return ActionModule(task, MagicMock(), MagicMock(check_mode=check), MagicMock(), MagicMock(), MagicMock()).run(None, {})


def content(tmp_path):
    password = (tmp_path / ".vault_password").read_bytes().strip()
    encrypted = (tmp_path / "group_vars" / "all" / "vault.yml").read_bytes()
    assert is_encrypted(encrypted)
    return yaml.safe_load(VaultLib([("default", VaultSecret(password))]).decrypt(encrypted))


def test_first_run_makes_password_and_secrets(tmp_path):
    result = run(tmp_path)
    assert result["changed"]
    assert "vault_postgresql_user_passwords.shop_owner" in result["made"]
    for path in (tmp_path / ".vault_password", tmp_path / "group_vars" / "all" / "vault.yml"):
        assert path.stat().st_mode & 0o777 == 0o600
    values = content(tmp_path)
    assert set(values["vault_redis_user_passwords"]) == {"shop"}
    assert all(str(value) not in str(result) for value in values.values())


def test_a_password_with_braces_stays_what_it_is(tmp_path):
    """It is tagged !unsafe, or Ansible would take it for a template."""
    path = tmp_path / "group_vars" / "all" / "vault.yml"
    path.parent.mkdir(parents=True)
    path.write_text(
        "vault_haproxy_stats_password: !unsafe 'it''s {{ not }} a {% template %} \\ é'\n"
        "vault_postgresql_user_passwords: {shop: !unsafe '{{0123456789abcdef'}\n",
        encoding="utf-8",
    )
    assert run(tmp_path)["changed"]
    found = VaultLib([("default", VaultSecret((tmp_path / ".vault_password").read_bytes().strip()))]).decrypt(path.read_bytes()).decode()
    loader = DataLoader()
    values = loader.load(found)
    templar = Templar(loader=loader, variables=dict(values))
    show = {name: templar.template(trust_as_template("{{ " + name + " }}")) for name in values}
    assert show["vault_haproxy_stats_password"] == "it's {{ not }} a {% template %} \\ é"
    assert show["vault_postgresql_user_passwords"]["shop"] == "{{0123456789abcdef"
    assert set(show["vault_postgresql_user_passwords"]) == {"shop", "shop_ro", "shop_owner"}
    assert not run(tmp_path)["changed"]


def test_second_run_changes_nothing(tmp_path):
    run(tmp_path)
    before = (tmp_path / "group_vars" / "all" / "vault.yml").read_bytes()
    assert not run(tmp_path)["changed"]
    assert (tmp_path / "group_vars" / "all" / "vault.yml").read_bytes() == before


def test_a_new_application_adds_its_users_only(tmp_path):
    run(tmp_path)
    before = content(tmp_path)
    result = run(tmp_path, applications=[*APPLICATIONS, {"name": "docs", "cache": True}])
    assert result["made"] == ["vault_redis_user_passwords.docs"]
    after = content(tmp_path)
    del after["vault_redis_user_passwords"]["docs"]
    assert after == before


def test_check_mode_writes_nothing(tmp_path):
    assert run(tmp_path, check=True)["changed"]
    assert list(tmp_path.iterdir()) == []


def test_a_plain_file_gets_encrypted(tmp_path):
    path = tmp_path / "group_vars" / "all" / "vault.yml"
    path.parent.mkdir(parents=True)
    path.write_text("vault_own: kept\n")
    assert run(tmp_path)["changed"]
    assert content(tmp_path)["vault_own"] == "kept"


def test_another_password(tmp_path):
    run(tmp_path)
    (tmp_path / ".vault_password").write_text("another\n")
    with pytest.raises(AnsibleActionFail, match=r"cannot be decrypted with the password in .*\. Was it made with another one\?"):
        run(tmp_path)


def test_a_lost_password(tmp_path):
    run(tmp_path)
    (tmp_path / ".vault_password").unlink()
    with pytest.raises(AnsibleActionFail, match=r"is encrypted and there is no password file .* Restore it"):
        run(tmp_path)
