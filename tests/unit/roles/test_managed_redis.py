# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What follows from `platform_managed_redis`: the applications' environment, and playbooks that refuse."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.uptier.platform.plugins.filter.redis import managed_redis

ROOT = Path(__file__).resolve().parents[3]
RenderRole = Callable[[str, Sequence[str], Mapping[str, Any]], dict[str, str]]
PLAYBOOK = shutil.which("ansible-playbook") or str(Path(sys.executable).with_name("ansible-playbook"))
MANAGED = {"host": "cache.provider.example", "port": 25061, "ca": "/nowhere/ca.crt", "username": "shop-cache"}
VALUES = {
    "inventory_hostname": "app1",
    "platform_applications": [{"name": "shop", "cache": True, "version": "1", "release": "none"}],
    "vault_redis_user_passwords": {"shop": "own-password-of-shop"},
    "vault_app_secret_key": "0123456789abcdef",
}


@pytest.fixture
def environment(render_role: RenderRole) -> Callable[..., dict[str, str]]:
    """What an application with a cache is told of it."""

    def read(**changes: Any) -> dict[str, str]:
        application = {**VALUES["platform_applications"][0], "env": {}}
        (text,) = render_role("app", ["app.env.j2"], {**VALUES, "__app_application": application, **changes}).values()
        return told(text)

    return read


def told(text: str) -> dict[str, str]:
    lines = (line.partition("=") for line in text.splitlines() if line.startswith("REDIS_"))
    return {name: value.strip('"') for name, dummy, value in lines}


def test_what_was_left_out_is_filled_in() -> None:
    given = {"host": "cache.provider.example", "port": None, "username": ""}
    assert [managed_redis(given, key) for key in ("port", "username", "cluster", "tls", "ca_file", "nodes")] == [
        6379, "default", False, True, "/etc/ssl/certs/ca-certificates.crt", ["cache.provider.example:6379"],
    ]  # fmt: skip
    assert managed_redis(MANAGED, "ca_file") == "/etc/uptier/managed-redis/ca.crt"
    assert managed_redis({**MANAGED, "tls": False}, "ca_file") == ""
    assert managed_redis({}, "nodes") == ""
    # What is no such word is refused by the specification; a password is not sent in the clear because of it.
    assert managed_redis({**MANAGED, "tls": "fales"}, "tls") is True
    with pytest.raises(AnsibleFilterError, match="has no 'hots': it has ca, ca_file, cluster"):
        managed_redis(MANAGED, "hots")


UNENCRYPTED = {
    "REDIS_NODES": "cache:6379",
    "REDIS_HOST": "cache",
    "REDIS_PORT": "6379",
    "REDIS_CLUSTER": "1",
    "REDIS_USERNAME": "default",
    "REDIS_PASSWORD": "provider's \\\\ secret",
    "REDIS_PREFIX": "shop:",
}


@pytest.mark.parametrize(
    ("managed", "expected"),
    [
        (
            MANAGED,
            {
                "REDIS_NODES": "cache.provider.example:25061",
                "REDIS_HOST": "cache.provider.example",
                "REDIS_PORT": "25061",
                "REDIS_CLUSTER": "0",
                "REDIS_USERNAME": "shop-cache",
                "REDIS_PASSWORD": "provider's \\\\ secret",
                "REDIS_PREFIX": "shop:",
                "REDIS_TLS_CA": "/etc/uptier/managed-redis/ca.crt",
                "REDIS_TLS_MIN_VERSION": "TLSv1.2",
            },
        ),
        ({"host": "cache", "cluster": True, "tls": False}, UNENCRYPTED),
        ({"host": "cache", "port": "6379", "cluster": "yes", "tls": "false"}, UNENCRYPTED),
    ],
)
def test_applications_are_told_of_the_provider(
    environment: Callable[..., dict[str, str]], managed: dict[str, Any], expected: dict[str, str]
) -> None:
    assert environment(platform_managed_redis=managed, vault_redis_managed_password="provider's \\ secret") == expected


def test_without_a_provider_nothing_is_new(environment: Callable[..., dict[str, str]]) -> None:
    assert environment() == {
        "REDIS_NODES": "", "REDIS_USERNAME": "shop", "REDIS_PASSWORD": "own-password-of-shop", "REDIS_PREFIX": "shop:",
        "REDIS_TLS_CA": "/etc/uptier/pki/ca.crt",
    }  # fmt: skip


@pytest.mark.parametrize("name", ["restart", "failover", "scale", "upgrade"])
def test_operations_say_that_the_provider_does_them(tmp_path: Path, name: str) -> None:
    inventory = tmp_path / "hosts.yml"
    hosts = {"app1": {"ansible_host": "192.0.2.1"}}
    inventory.write_text(json.dumps({"all": {"vars": {"platform_managed_redis": MANAGED}, "children": {"app": {"hosts": hosts}}}}))
    done = subprocess.run(
        [PLAYBOOK, "-i", str(inventory), str(ROOT / "playbooks" / f"{name}_redis.yml")],
        capture_output=True, text=True, check=False, cwd=ROOT, timeout=120, env={**os.environ, "ANSIBLE_NOCOLOR": "1"},
    )  # fmt: skip
    assert done.returncode != 0
    assert "Redis is run by a provider (cache.provider.example)" in " ".join(done.stdout.split())
