# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What every role makes of applications that leave out all that may be left out, and of one that leaves out nothing."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible.template import trust_as_template

ROOT = Path(__file__).resolve().parents[3]
WEB = {"name": "web", "command": "node x", "port": 3000, "health": "/up"}
CASES: dict[str, dict[str, Any]] = {
    "name alone": {"name": "shop"},
    "database alone": {"name": "shop", "database": True},
    "worker": {"name": "shop", "version": "1", "release": "r", "services": [{"name": "worker", "kind": "worker", "command": "w"}]},
    "web": {"name": "shop", "version": "1", "release": "r", "services": [WEB]},
    "stores without a migration": {"name": "shop", "database": True, "cache": True, "version": "1", "release": "r", "services": [WEB]},
    "wildcard": {"name": "shop", "version": "1", "release": "r", "domains": ["*.Müller.test", "shop.test"], "services": [WEB]},
    "job": {
        "name": "shop",
        "version": "1",
        "release": "r",
        "services": [{"name": "tidy", "kind": "cron", "command": "w", "schedule": "daily"}],
    },
    "shared job": {
        "name": "shop",
        "cache": True,
        "version": "1",
        "release": "r",
        "services": [
            WEB,
            {
                "name": "tidy",
                "kind": "cron",
                "command": "bin/tidy --all",
                "schedule": "Mon..Fri *-*-* 03:00:00 Europe/Berlin",
                "timeout": 90,
                "env": {"PRICE": "costs $5"},
                "limits": {"memory_mb": 300, "cpu_percent": 50},
            },
        ],
    },
    "everything": {
        "name": "shop",
        "domains": ["shop.test"],
        "database": "yes",
        "cache": "yes",
        "version": 1,
        "release": "r",
        "migrate": "node migrate.js",
        "env": {"LEVEL": "info"},
        "services": [
            {**WEB, "instances": "2", "path": "/api", "websocket": True, "metrics": "/metrics", "env": {"PRICE": "costs $5, 100% net"}},
            {**WEB, "name": "admin", "port": 4000, "domains": ["admin.test"], "limits": {"memory_mb": 300, "cpu_percent": 50}},
        ],
    },
}
# Values that a role derives, and what it renders from them: templates, or a list as config_files takes it.
ROLES: dict[str, tuple[list[str], list[str], str]] = {
    "acme": (["acme_sites"], [], ""),
    "exporters": (["exporters_nginx_hosts"], [], ""),
    "prometheus": (["prometheus_jobs"], [], ""),
    "postgresql": (["postgresql_databases"], [], ""),
    "postgresql_managed": (["postgresql_managed_databases"], [], ""),
    "redis": (["redis_users"], ["users.acl.j2"], ""),
    "pgbouncer": (["pgbouncer_databases"], ["pgbouncer.ini.j2"], ""),
    "haproxy": (["haproxy_routes", "haproxy_metric_paths"], ["haproxy.cfg.j2"], ""),
    "nginx": ([], [], "{{ __nginx_sites | uptier.platform.site_files(nginx_site_template) }}"),
    "app": (["__app_units", "__app_released"], [], "{{ __app_applications | uptier.platform.app_files(__app_units) }}"),
}
SECRET = "a-Secret-of-the-tests"
VALUES: dict[str, Any] = {
    "platform_address": "192.0.2.1",
    "platform_memory_mb": 4096,
    "ansible_facts": {"distribution_major_version": "13", "default_ipv6": {}},
    "vault_postgresql_user_passwords": {"shop": SECRET + "1", "shop_ro": SECRET + "2", "shop_owner": SECRET + "3"},
    "vault_redis_user_passwords": {"shop": SECRET + "4"},
    "vault_app_secret_key": SECRET,
    **{f"vault_redis_{name}_password": SECRET for name in ("admin", "replication", "monitor")},
    "vault_pgbouncer_admin_password": SECRET,
    "vault_haproxy_stats_password": "x#Tr0ub4dor",
    "inventory_dir": "/nowhere",
}


# One task for each case: a value or a file each, looked up where the role would look it up.
EVERYTHING = """{% set all = namespace(values={}, files=[], texts={}) %}
{% for role, (names, templates, files) in made.items() %}
{% for name in names %}{% set all.values = all.values | combine({name: lookup('ansible.builtin.vars', name)}) %}{% endfor %}
{% for template in templates %}{% set all.files = all.files + [{'role': role, 'src': template, 'dest': template[:-3]}] %}{% endfor %}
{% if files %}
{% for file in lookup('ansible.builtin.vars', files) %}
{% set all.files = all.files + [file | combine({'role': role})] %}
{% endfor %}
{% endif %}
{% endfor %}
{% for file in all.files %}
{% set text = lookup('ansible.builtin.template', 'roles/' ~ file.role ~ '/templates/' ~ file.src, template_vars=file.vars | default({})) %}
{% set all.texts = all.texts | combine({file.dest | basename: text}) %}
{% endfor %}
{{ {'values': all.values, 'texts': all.texts} | to_json }}
"""


@pytest.fixture(scope="module")
def rendered(rendering: Any, variable_files: Callable[..., list[Path]]) -> dict[str, Any]:
    """What all roles make of each case."""
    lists = {f"files_of_{role}": trust_as_template(files) for role, (dummy, dummy, files) in ROLES.items() if files}
    made = {role: [names, templates, f"files_of_{role}" if files else ""] for role, (names, templates, files) in ROLES.items()}
    all_roles = rendering(VALUES)
    return {
        case: json.loads(
            all_roles.show(EVERYTHING, variable_files(*ROLES), variables={"platform_applications": [application], "made": made, **lists})
        )
        for case, application in CASES.items()
    }


@pytest.mark.parametrize("case", CASES)
def test_optional_means_optional(rendered: dict[str, Any], case: str) -> None:
    values, texts, application = rendered[case]["values"], rendered[case]["texts"], CASES[case]
    routed = [service for service in application.get("services", []) if service.get("kind", "web") == "web"]
    named = bool(application.get("domains")) and bool(routed)
    assert bool(values["acme_sites"]) == named
    assert ("shop.conf" in texts) == named
    assert len(values["haproxy_routes"]) == len(routed)
    assert bool(values["postgresql_databases"]) == bool(application.get("database"))
    assert values["postgresql_managed_databases"] == values["postgresql_databases"]
    assert bool(values["redis_users"]) == bool(application.get("cache"))
    assert [pool["name"] for pool in values["pgbouncer_databases"]] == (["shop", "shop_ro"] if application.get("database") else [])
    assert ("shop.env" in texts) == ("release" in application)
    assert ("shop.migrate.env" in texts) == ("migrate" in application)
    jobs = {f"shop-{service['name']}" for service in application.get("services", []) if service.get("kind") == "cron"}
    units = {f"shop-{service['name']}@.service" for service in application.get("services", []) if service.get("kind") != "cron"}
    assert {name for name in texts if name.endswith("@.service")} == units
    assert {name for name in texts if name.endswith(".timer")} == {f"{job}.timer" for job in jobs}
    assert {f"{job}.service" for job in jobs} <= set(texts)
    assert {"haproxy.cfg", "pgbouncer.ini", "users.acl"} <= set(texts)


def test_a_wildcard_leads_to_the_same_service_at_gateway_and_router(rendered: dict[str, Any]) -> None:
    values, texts = rendered["wildcard"]["values"], rendered["wildcard"]["texts"]
    assert "server_name *.xn--mller-kva.test shop.test;" in texts["shop.conf"]
    assert (
        "    acl host_1 req.hdr(host),field(1,:),lower -m str shop.test\n"
        "    use_backend shop-web if host_1\n"
        "    acl host_2 req.hdr(host),field(1,:),lower -m end .xn--mller-kva.test\n"
        "    use_backend shop-web if host_2\n"
    ) in texts["haproxy.cfg"]
    assert " hdr Host uptier-probe.xn--mller-kva.test " in texts["haproxy.cfg"]
    assert values["acme_sites"] == [{"name": "shop", "domains": ["*.xn--mller-kva.test", "shop.test"]}]


def test_a_job_is_started_by_its_timer_and_ends(rendered: dict[str, Any]) -> None:
    texts = rendered["shared job"]["texts"]
    unit, timer = texts["shop-tidy.service"], texts["shop-tidy.timer"]
    claim = "/usr/bin/python3 -E /usr/local/lib/uptier/run-once/run_once.py"
    for line in (
        "Type=oneshot",
        "WorkingDirectory=/opt/uptier/apps/shop/current",
        "EnvironmentFile=/etc/uptier/apps/shop.env",
        "ExecStart=/opt/uptier/apps/shop/current/bin/tidy --all",
        f'ExecCondition={claim} claim shop-tidy 120 "Mon..Fri *-*-* 03:00:00 Europe/Berlin"',
        f"ExecStopPost={claim} release shop-tidy",
        "TimeoutStartSec=90",
        "MemoryMax=300M",
        "CPUQuota=50%",
        'Environment="PRICE=costs $5"',
    ):
        assert f"{line}\n" in unit
    # What sandboxes an instance sandboxes a job.
    kept = [
        line
        for line in texts["shop-web@.service"].split("OOMPolicy=")[1].splitlines()
        if "=" in line and not line.startswith(("Syslog", "WantedBy"))
    ]
    assert [line for line in kept if line not in unit] == []
    assert not [word for word in ("%i", "Restart=", "[Install]") if word in unit]
    assert "\nOnCalendar=Mon..Fri *-*-* 03:00:00 Europe/Berlin\n" in timer
    assert "\nPersistent=true\n" in timer
    assert "\nX-Application=shop\n" in timer
    assert "Condition" not in rendered["job"]["texts"]["shop-tidy.service"], "a host alone asks nobody"


def test_signs_that_mean_something_to_a_daemon_arrive(rendered: dict[str, Any]) -> None:
    texts = rendered["everything"]["texts"]
    assert 'Environment="PRICE=costs $5, 100%% net"\n' in texts["shop-web@.service"]
    assert "    user operator insecure-password 'x#Tr0ub4dor'\n" in texts["haproxy.cfg"]


def test_what_is_written_as_text_counts_as_what_it_means(rendered: dict[str, Any]) -> None:
    values = rendered["everything"]["values"]
    routes = {route["backend"]: route for route in values["haproxy_routes"]}
    assert (routes["shop-web"]["ports"], routes["shop-web"]["spare_port"]) == ([3000, 3001], 3002)
    assert routes["shop-admin"]["domains"] == ["admin.test"]
    assert values["__app_released"][0]["version"] == "1"


def test_what_is_struck_out_of_the_output_of_a_command(rendered: dict[str, Any]) -> None:
    known = yaml.safe_load((ROOT / "roles/app/vars/main.yml").read_text(encoding="utf-8"))["__app_secret_names"]
    lines = [line.partition("=") for line in rendered["everything"]["texts"]["shop.env"].splitlines() if not line.startswith("#")]
    secret = {name for name, dummy, value in lines if SECRET in value or re.search("KEY|PASSWORD|SECRET|TOKEN", name)}
    assert secret == set(known)
