# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.uptier.platform.plugins.plugin_utils import application as module
from ansible_collections.uptier.platform.plugins.plugin_utils import application_check as check
from hypothesis import given
from hypothesis import strategies as st


def web(**more: Any) -> dict[str, Any]:
    return {"name": "web", "kind": "web", "command": "node x", "port": 3000, "instances": 2, "health": "/up", "path": "/", **more}


def sample(*services: dict[str, Any], **more: Any) -> list[module.Application]:
    return module.completed(written(*services, **more))


def written(*services: dict[str, Any], **more: Any) -> list[dict[str, Any]]:
    return [{"name": "sample", "domains": ["demo.test"], "database": True, "services": list(services or (web(),)), **more}]


def test_what_is_left_out_is_filled_in() -> None:
    application = module.completed([{"name": "shop", "services": [{"name": "web", "command": "run", "port": "3000", "domains": None}]}])[0]
    assert application == {
        "name": "shop", "domains": [], "database": False, "cache": False, "version": "", "release": "", "migrate": "", "env": {},
        "services": [
            {
                "name": "web", "kind": "web", "command": "run", "port": 3000, "instances": 1, "spare_instances": 1, "database_connections": 20,
                    "health": "",
                "path": "/", "domains": [], "websocket": False, "metrics": "", "env": {}, "limits": {"memory_mb": 0, "cpu_percent": 0},
                "schedule": "", "timeout": 3600,
            }
        ],
    }  # fmt: skip


def test_a_service_that_is_routed_has_the_domains_of_its_application() -> None:
    own = web(name="admin", domains=["Admin.Test"], path="/", port=4000)
    services = sample(web(), own, {"name": "worker", "kind": "worker", "command": "w"})[0]["services"]
    assert [service["domains"] for service in services] == [["demo.test"], ["admin.test"], []]


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 70000) | st.floats(allow_nan=False) | st.text(max_size=12) | st.dates(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


def entries(fields: dict[str, module.Field], **nested: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    """Return entries with some of the keys: values that a user means, and any others."""
    usual = {
        "str": st.sampled_from(["shop", "/", "/api", "web", "worker", "1.0"]),
        "int": st.integers(0, 40000),
        "bool": st.booleans() | st.sampled_from(["yes", "off"]),
        "list": st.lists(st.sampled_from(["shop.test", "*.Shop.test.", "m\u00fcller.test", "http://x"]), max_size=3),
        "dict": st.dictionaries(st.text(max_size=5), st.text(max_size=5), max_size=2),
    }
    optional = {name: nested.get(name, usual[field.type]) | ANYTHING for name, field in fields.items()}
    return st.fixed_dictionaries({}, optional=optional)


LISTS = st.lists(
    entries(module.APPLICATION, services=st.lists(entries(module.SERVICE, limits=entries(module.LIMITS)) | ANYTHING, max_size=3))
    | ANYTHING,
    max_size=3,
)


@given(LISTS | ANYTHING)
def test_completing_what_is_complete_changes_nothing(given_: Any) -> None:
    once = module.completed(given_)
    assert module.completed(once) == once
    for application in once:
        assert set(application) == set(module.APPLICATION)
        assert all(set(service) == set(module.SERVICE) for service in application["services"])


@given(LISTS | ANYTHING)
def test_whatever_was_written_is_judged_and_nothing_breaks(given_: Any) -> None:
    """Not one check may end in a traceback, and what has no problem can be derived from."""
    found = check.problems(given_)
    completed = module.completed(given_)
    check.release_problems(given_, {})
    check.secret_environment_problems(given_, given_)
    module.routes(completed)
    module.route_rules(module.routes(completed))
    if not found:
        assert check.problems(completed) == []


def test_ports_count_from_the_base_and_one_is_kept_for_a_release() -> None:
    service = module.services(sample())[0]
    assert service["instances"] == [3000, 3001]
    assert service["spare"] == 3002
    assert service["unit"] == "sample-web"


def test_a_worker_without_a_port_is_numbered() -> None:
    worker = {"name": "worker", "kind": "worker", "command": "node w", "instances": 2}
    service = module.services(sample(worker))[0]
    assert service["instances"] == [1, 2]
    assert service["spare"] == 0


def test_the_most_specific_path_comes_first_and_no_domain_last() -> None:
    other = module.completed([{"name": "any", "services": [web(port=5000)]}])
    found = module.routes(other + sample(web(), web(name="api", port=4000, path="/api/v1"), web(name="b", port=4100, path="/api")))
    assert [route["backend"] for route in found] == ["sample-api", "sample-b", "sample-web", "any-web"]


def test_a_name_goes_before_a_wildcard_whatever_their_paths() -> None:
    applications = sample(
        web(),
        web(name="tenants", port=4000, path="/", domains=["*.demo.test", "tenants.test"]),
        web(name="api", port=4100, path="/api", domains=["*.demo.test"]),
        web(name="deep", port=4200, path="/", domains=["*.eu.demo.test"]),
    ) + module.completed([{"name": "any", "services": [web(port=5000)]}])
    rules = module.route_rules(module.routes(applications))
    assert [(rule["backend"], rule["path"], rule["names"], rule["below"]) for rule in rules] == [
        ("sample-tenants", "", ["tenants.test"], []),
        ("sample-web", "", ["demo.test"], []),
        ("sample-deep", "", [], [".eu.demo.test"]),
        ("sample-api", "/api", [], [".demo.test"]),
        ("sample-tenants", "", [], [".demo.test"]),
        ("any-web", "", [], []),
    ]


def test_workers_have_no_route_and_metrics_have_one_path_an_instance() -> None:
    worker = {"name": "worker", "kind": "worker", "command": "w", "port": 3900, "metrics": "/metrics"}
    applications = sample(web(metrics="/m"), worker)
    assert len(module.routes(applications)) == 1
    assert [(entry["route"], entry["port"], entry["path"]) for entry in module.metric_paths(applications)] == [
        ("/metrics/sample-web/0", 3000, "/m"),
        ("/metrics/sample-web/1", 3001, "/m"),
        ("/metrics/sample-worker/0", 3900, "/metrics"),
    ]


def test_pools_of_all_hosts_fit_one_server() -> None:
    applications = sample() + module.completed([{"name": "other", "database": True}, {"name": "none"}])
    found = module.pools(applications, hosts=3, budget=100)
    assert sum(pool["size"] for pool in found) * 3 <= 100
    assert [(pool["name"], pool["database"], pool["user"]) for pool in found][:2] == [
        ("sample", "sample", "sample"),
        ("sample_ro", "sample", "sample_ro"),
    ]


def test_a_budget_that_is_too_small_says_what_is_the_least() -> None:
    with pytest.raises(module.ApplicationError, match="at least 12 are needed"):
        module.pools(sample() + module.completed([{"name": "other", "database": True}]), hosts=3, budget=8)


def test_without_a_database_there_is_no_pool() -> None:
    assert module.pools(module.completed([{"name": "x"}]), 3, 1) == []


def test_memory_is_shared_and_the_spare_instance_counts() -> None:
    worker = {"name": "worker", "kind": "worker", "command": "w", "limits": {"memory_mb": 100}}
    found = module.units(sample(web(), worker), memory_mb=2000, share=0.5)
    assert [(service["service"], service["memory_mb"]) for service in found] == [("web", 300), ("worker", 100)]
    found = module.units(sample(web(spare_instances=2), worker), memory_mb=2000, share=0.5)
    assert [(module.ports(service), service["memory_mb"]) for service in found][0] == ([3000, 3001, 3002, 3003], 225)


def test_too_little_memory_is_refused() -> None:
    with pytest.raises(module.ApplicationError, match="leave 33 MiB for each of 3 processes"):
        module.units(sample(), memory_mb=1000, share=0.1)


def test_files_are_an_environment_an_application_and_a_unit_a_service() -> None:
    applications = sample(migrate="m", release="r") + module.completed(
        [{"name": "plain", "release": "r"}, {"name": "rows", "database": True}]
    )
    found = module.files(applications, module.units(applications, 4000, 0.5))
    assert [(entry["dest"], entry.get("mode")) for entry in found] == [
        ("/etc/uptier/apps/sample.env", "0640"),
        ("/etc/uptier/apps/sample.migrate.env", "0600"),
        ("/etc/uptier/apps/plain.env", "0640"),
        ("/etc/systemd/system/sample-web@.service", None),
    ]
    assert all(entry["secret"] for entry in found if entry["dest"].endswith(".env"))


def test_the_services_of_one_application_are_handed_to_the_release() -> None:
    applications = sample() + module.completed([{"name": "other", "services": [web(port=5000, path="/o")]}])
    assert module.release_services(module.services(applications), "other") == [
        {
            "unit": "other-web", "kind": "web", "instances": [5000, 5001], "spare": 5002, "spares": 1, "port": 5000, "health": "/up",
                "backend": "other-web",
        }
    ]  # fmt: skip


JOB = {"name": "tidy", "kind": "cron", "command": "w", "schedule": "daily"}


def test_a_job_has_no_instance_and_one_process() -> None:
    given = [
        {"name": "shop", "version": "1", "release": "r", "services": [JOB, {"name": "web", "command": "w", "port": 3000, "health": "/up"}]}
    ]
    found = module.completed(given)
    job, web = module.units(found, 1000, 0.9)
    assert (job["instances"], job["schedule"], job["timeout"]) == ([], "daily", 3600)
    assert job["memory_mb"] == web["memory_mb"] == 300  # its own, that of the instance and of the one that starts with a release
    assert [module.processes(service) for service in found[0]["services"]] == [1, 2]
    assert [service["unit"] for service in module.release_services([job, web], "shop")] == ["shop-web"]
    assert module.jobs(found, "shop") == ["shop-tidy"]
    assert module.jobs(found, "shops") == []
    assert [timer["name"] for timer in module.timers(found)] == ["shop-tidy.timer"]
    assert module.timers(module.completed([{"name": "shop", "services": [JOB]}])) == [], "nothing of it is on a host"


@pytest.mark.parametrize(("cache", "hosts", "unclaimed"), [(False, 1, []), (False, 2, ["shop-tidy"]), (True, 2, [])])
def test_several_hosts_have_to_agree_on_who_runs_a_job(cache: bool, hosts: int, unclaimed: list[str]) -> None:
    assert module.unclaimed(module.completed([{"name": "shop", "cache": cache, "services": [JOB]}]), hosts) == unclaimed
