# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What a specification does not require may be left out of every entry of a list, in every template that reads the list."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.uptier.platform.plugins.plugin_utils import layers

ROOT = Path(__file__).resolve().parents[3]
LISTS = {
    name: option
    for name, option in layers.specifications().items()
    if option.get("type") == "list" and option.get("elements") == "dict" and option.get("options")
}
# Entries that the role derives, and whose words mean something to others.
DERIVED = ("alertmanager_channels", "keepalived_members", "prometheus_redis_nodes")
# Rendered once for each site, which a filter completes.
OF_A_SITE = ("headers.conf.j2", "site.conf.j2")
CASES = [
    (path.parent.parent.name, path.name, name)
    for path in sorted((ROOT / "roles").glob("*/templates/*.j2"))
    for name in LISTS
    if name not in DERIVED and path.name not in OF_A_SITE and name in path.read_text(encoding="utf-8")
]
WORDS = {"str": "word", "raw": "word", "path": "/x", "int": 5, "float": 0.5, "bool": True}
PASSWORD = "0123456789abcdef"
VALUES: dict[str, Any] = {
    "platform_address": "192.0.2.1",
    "platform_domain": "shop.test",
    "platform_memory_mb": 4096,
    "platform_cpus": 2,
    "platform_tier": "growth",
    "platform_virtual_address": "192.0.2.9/24",
    "ansible_facts": {"distribution_major_version": "13", "default_ipv6": {}, "processor_vcpus": 2, "memtotal_mb": 4096},
    "vault_keepalived_password": "12345678",
    "vault_patroni_api_password": PASSWORD,
    "vault_pgbackrest_cipher_pass": PASSWORD,
    "vault_pgbouncer_admin_password": PASSWORD,
    "vault_haproxy_stats_password": PASSWORD,
    **{f"vault_postgresql_{name}_password": PASSWORD for name in ("superuser", "replication", "rewind", "monitor")},
    **{f"vault_redis_{name}_password": PASSWORD for name in ("admin", "replication", "monitor")},
}


def least(option: dict[str, Any]) -> Any:
    """Return a value with no key that is not required."""
    if option.get("choices"):
        return option["choices"][0]
    kind = option.get("type", "str")
    if kind == "list":
        return [least({**option, "type": option.get("elements", "str")})]
    if kind == "dict":
        return {key: least(inner) for key, inner in (option.get("options") or {}).items() if inner.get("required")}
    return WORDS[kind]


def test_there_are_such_lists() -> None:
    assert {("pgbouncer", "pgbouncer.ini.j2", "pgbouncer_databases"), ("haproxy", "haproxy.cfg.j2", "haproxy_routes")} <= set(CASES)


@pytest.mark.parametrize(("role", "template", "name"), CASES)
def test_what_is_optional_may_be_left_out(render_role: Callable[..., dict[str, str]], role: str, template: str, name: str) -> None:
    assert render_role(role, [template], {**VALUES, name: least(LISTS[name])})[template.removesuffix(".j2")]
