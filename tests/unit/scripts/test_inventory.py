# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Labs get secrets as users choose them, of every kind, within what the product promises to take."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.uptier.platform.plugins.plugin_utils import quoting, redis_layout, secrets

ROOT = Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT / "scripts"))
import inventory  # noqa: E402

DECLARED = yaml.safe_load((ROOT / "roles/platform/vars/secrets.yml").read_text(encoding="utf-8"))["platform_secrets"]
APPLICATIONS = [{"name": "shop", "database": True, "cache": True, "services": []}]


@pytest.fixture(scope="module")
def chosen() -> dict[str, Any]:
    made = secrets.complete({}, secrets.wanted(DECLARED, APPLICATIONS))[0]
    return {name: inventory.as_chosen(name, value) for name, value in made.items()}


def test_every_secret_has_signs_that_formats_trip_over(chosen: dict[str, Any]) -> None:
    texts = [text for value in chosen.values() for text in (value.values() if isinstance(value, dict) else [value])]
    assert len(texts) == len(secrets.wanted(DECLARED, APPLICATIONS))
    for text in texts:
        assert set("#$") <= set(text)
        assert len(text) == 8 or set("'\"\\;%{}`&") <= set(text) | {"`"}
    assert len(set(texts)) == len(texts)


def test_preflight_and_the_daemons_files_take_them(chosen: dict[str, Any]) -> None:
    assert [secret.label for secret in secrets.wanted(DECLARED, APPLICATIONS) if secrets.defect(secret, chosen)] == []
    assert len(chosen["vault_keepalived_password"]) == 8
    quoting.keepalived(chosen["vault_keepalived_password"])
    quoting.pgbackrest(chosen["vault_pgbackrest_cipher_pass"])
    for name in ("vault_grafana_admin_password", "vault_grafana_secret_key"):
        quoting.grafana_literal(chosen[name])
    redis = {name: value for name, value in chosen.items() if name.startswith("vault_redis_") and isinstance(value, str)}
    accounts = [{"name": "shop", "password": chosen["vault_redis_user_passwords"]["shop"]}]
    assert redis_layout.problems([{"name": "a"}], 1, 0, "a", 64, accounts, redis) == []
    assert " " not in "".join(redis.values())
    assert chosen["vault_patroni_api_password"].isascii()
