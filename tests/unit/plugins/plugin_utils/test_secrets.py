# SPDX-License-Identifier: GPL-3.0-or-later
"""Which secrets are needed, and that none that is there is ever changed."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from ansible_collections.uptier.platform.plugins.plugin_utils import secrets as s
from ansible_collections.uptier.platform.plugins.plugin_utils.application import completed

DATA = Path(__file__).resolve().parents[4] / "roles" / "platform" / "vars"
DECLARED = yaml.safe_load((DATA / "secrets.yml").read_text(encoding="utf-8"))["platform_secrets"]
APPLICATIONS = completed([{"name": "shop", "database": True, "cache": True}, {"name": "docs", "database": False}])


def test_secrets_of_users_follow_from_applications():
    labels = [item.label for item in s.wanted(DECLARED, APPLICATIONS)]
    assert [label for label in labels if "." in label] == [
        "vault_postgresql_user_passwords.shop_owner",
        "vault_postgresql_user_passwords.shop",
        "vault_postgresql_user_passwords.shop_ro",
        "vault_redis_user_passwords.shop",
    ]
    assert len(labels) == len(set(labels))


def test_what_is_made_passes_the_check():
    made, labels = s.complete({}, s.wanted(DECLARED, APPLICATIONS))
    assert [s.defect(item, made) for item in s.wanted(DECLARED, APPLICATIONS)] == [None] * len(labels)
    assert len(made["vault_keepalived_password"]) == 8


def test_all_values_differ():
    made = s.complete({}, s.wanted(DECLARED, APPLICATIONS))[0]
    values = [item for value in made.values() for item in (value.values() if isinstance(value, dict) else [value])]
    assert len(values) == len(set(values))


def test_what_is_there_is_kept():
    present = {"vault_redis_admin_password": "weak", "vault_redis_user_passwords": {"old": "kept"}, "vault_own": 1}
    made, labels = s.complete(present, s.wanted(DECLARED, APPLICATIONS), maker=lambda length: "x" * length)
    assert made["vault_redis_admin_password"] == "weak"
    assert made["vault_redis_user_passwords"] == {"old": "kept", "shop": "x" * 32}
    assert made["vault_own"] == 1
    assert "vault_redis_admin_password" not in labels
    assert present["vault_redis_user_passwords"] == {"old": "kept"}


def test_a_second_run_makes_nothing():
    first = s.complete({}, s.wanted(DECLARED, APPLICATIONS))[0]
    assert s.complete(first, s.wanted(DECLARED, APPLICATIONS)) == (first, [])


@pytest.mark.parametrize(
    "value", ["changeme", "CHANGE_ME please", "secret", "password123", "<password>", "my-password", "aaaaaaaaaaaaaaaaaaaa", "TODO"]
)
def test_placeholders(value):
    assert s.defect(s.Secret("vault_x", None, "app", 32, 16), {"vault_x": value}) == "is a placeholder"


@pytest.mark.parametrize("value", [None, "", "   "])
def test_missing(value):
    assert s.defect(s.Secret("vault_x", None, "app", 32, 16), {"vault_x": value}) == "is missing"


@pytest.mark.parametrize("value", [1.5, True, ["x"], {"a": "b"}])
def test_what_is_no_text(value):
    assert s.defect(s.Secret("vault_x", None, "app", 32, 1), {"vault_x": value}) == "is no text but what YAML makes of it without quotes"


def test_digits_are_a_text():
    assert s.defect(s.Secret("vault_x", None, "app", 8, 8), {"vault_x": 48213907}) is None


def test_a_text_where_users_belong():
    assert s.defect(s.Secret("vault_x", "shop", "app", 32, 16), {"vault_x": "text"}) == "is not a dictionary of users and passwords"


def test_made_values_never_look_like_placeholders(monkeypatch):
    """By chance one in some 25,000 does; a platform whose own secrets were refused would be a poor start."""
    drawn = iter("xXx" + "a" * 29 + "todo" + "b" * 28 + "z" * 32 + "c0ffee" * 5 + "42")
    monkeypatch.setattr(s.secrets, "choice", lambda letters: next(drawn))
    value = s.make(32)
    assert value == "c0ffee" * 5 + "42"
    assert s.defect(s.Secret("vault_x", None, "app", 32, 16), {"vault_x": value}) is None
