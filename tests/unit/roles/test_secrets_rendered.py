# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Secrets as users choose them, in the file of every daemon that is given one, read back from there."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[3]
# What shells, INI files, YAML, systemd, libpq and Jinja take for something; a text of digits; and one that looks like a number.
WORDS = ['it\'s "a" $HOME ${x}y #1; 50% \\n {b} `c` é€😀 end', "x#Tr0ub4dor: !word & *star", "0123456789012345", "1e10_000000000000"]
# Redis and Patroni's interface take less.
ASCII = ['it\'s"a"$HOME${x}y#1;50%\\n{b}`c`end', "x#Tr0ub4dor:!word&*star", "0123456789012345", "-starts-with-a-dash"]
BASE: dict[str, Any] = {
    "platform_address": "192.0.2.1",
    "platform_memory_mb": 4096,
    "platform_cpus": 2,
    "platform_domain": "shop.test",
    "ansible_facts": {"distribution_major_version": "13", "default_ipv6": {}},
}


def environment(text: str) -> dict[str, str]:
    """What a file for systemd says: within double quotes a backslash makes a quote, itself, ` and $ mean themselves."""
    found = re.findall(r'^(\w+)="((?:[^"\\]|\\.)*)"$', text, re.MULTILINE)
    return {name: re.sub(r'\\(["\\`$])', r"\1", value) for name, value in found}


@pytest.mark.parametrize("word", ASCII)
def test_redis_exporter(render_role: Callable[..., dict[str, str]], word: str) -> None:
    text = render_role("exporters", ["redis.j2"], {**BASE, "vault_redis_monitor_password": word})["redis"]
    assert environment(text)["REDIS_PASSWORD"] == word


@pytest.mark.parametrize("word", WORDS)
def test_postgres_exporter(render_role: Callable[..., dict[str, str]], word: str) -> None:
    values = {**BASE, "vault_postgresql_monitor_password": word, "exporters_postgres_user": "it's me"}
    found = environment(render_role("exporters", ["postgres.j2"], values)["postgres"])
    assert found["PGPASSWORD"] == word
    assert "user='it\\'s me' host=" in found["DATA_SOURCE_NAME"]


@pytest.mark.parametrize("word", WORDS)
def test_alertmanager_and_prometheus(render_role: Callable[..., dict[str, str]], word: str) -> None:
    channels = [
        {"name": "hook", "kind": "webhook", "url": "https://alerts.test/", "bearer_token": word, "severities": ["critical"]},
        {"name": "pager", "kind": "pagerduty", "key": word, "severities": ["critical"]},
    ]
    mail = {f"alertmanager_smtp_{key}": word for key in ("username", "password")}
    values = {**BASE, **mail, "alertmanager_smtp_smarthost": "mail.test:587", "alertmanager_channels": channels}
    written = render_role("alertmanager", ["alertmanager.yml.j2"], values)["alertmanager.yml"]
    found = yaml.safe_load(written)
    assert (found["global"]["smtp_auth_username"], found["global"]["smtp_auth_password"]) == (word, word)
    hook, pager = found["receivers"][1:]
    assert hook["webhook_configs"][0]["http_config"]["authorization"]["credentials"] == word
    assert pager["pagerduty_configs"][0]["routing_key"] == word
    assert "\\ud8" not in written, "half a character, which Alertmanager refuses"
    there = [{"url": "https://metrics.test/", "username": word, "password": word}, {"url": "https://metrics.test/", "bearer_token": word}]
    found = yaml.safe_load(render_role("prometheus", ["prometheus.yml.j2"], {**BASE, "prometheus_remote_write": there})["prometheus.yml"])
    assert found["remote_write"][0]["basic_auth"] == {"username": word, "password": word}
    assert found["remote_write"][1]["authorization"]["credentials"] == word


@pytest.mark.parametrize("word", WORDS)
def test_patroni(render_role: Callable[..., dict[str, str]], word: str) -> None:
    names = ("superuser", "replication", "rewind", "monitor")
    values = {f"vault_postgresql_{name}_password": word for name in names} | {"vault_patroni_api_password": ASCII[0]}
    found = yaml.safe_load(render_role("postgresql", ["patroni.yml.j2"], {**BASE, **values})["patroni.yml"])
    assert {key: login["password"] for key, login in found["postgresql"]["authentication"].items()} == dict.fromkeys(names[:3], word)
    assert found["restapi"]["authentication"]["password"] == ASCII[0]


def test_grafana_and_pgbackrest(render_role: Callable[..., dict[str, str]]) -> None:
    word = 'it\'s "a" $HOME #1; 50% \\n {b} é€😀 end'
    settings = [{"section": "smtp", "name": "password", "value": "p#ss;word"}, {"section": "smtp", "name": "enabled", "value": True}]
    values = {**BASE, "vault_grafana_admin_password": word, "vault_grafana_secret_key": word, "grafana_settings": settings}
    lines = render_role("grafana", ["grafana.ini.j2"], values)["grafana.ini"].splitlines()
    assert f'admin_password = """{word}"""' in lines
    assert 'password = """p#ss;word"""' in lines
    assert "enabled = true" in lines
    repository = {
        "vault_pgbackrest_cipher_pass": word,
        "__pgbackrest_is_repository": True,
        "__pgbackrest_remote": False,
        "pgbackrest_database_members": [],
    }
    lines = render_role("pgbackrest", ["pgbackrest.conf.j2"], {**BASE, **repository})["pgbackrest.conf"].splitlines()
    assert f"repo1-cipher-pass={word}" in lines


SECRET = re.compile(r"(?<![\w.])\w*(?:password|passphrase|cipher_pass|secret_key|bearer_token)\w*(?!\w)|\bchannel\.key\b")
QUOTED = re.compile(
    r"\| uptier\.platform\.(?:quote_\w+|redis_rules|pool_user|app_environment_line)\b|\| hash\(|\| (?:length|bool)\b|to_nice_json"
)


def test_every_secret_goes_through_the_quoting_of_its_format() -> None:
    """Also one that somebody adds tomorrow."""
    bare = []
    for path in sorted((ROOT / "roles").glob("*/templates/*.j2")):
        for written in re.findall(r"\{\{(.*?)\}\}", path.read_text(encoding="utf-8"), re.DOTALL):
            if SECRET.search(re.sub(r"'[^']*'", "", written)) and not QUOTED.search(written) and "app_environment_line(" not in written:
                bare.append(f"{path.relative_to(ROOT)}: {' '.join(written.split())}")
    assert bare == []
