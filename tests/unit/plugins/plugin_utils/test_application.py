# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.uptier.platform.plugins.plugin_utils import application as module


def web(**more: Any) -> dict[str, Any]:
    return {"name": "web", "kind": "web", "command": "node x", "port": 3000, "instances": 2, "health": "/up", "path": "/", **more}


def sample(*services: dict[str, Any], **more: Any) -> list[dict[str, Any]]:
    return [{"name": "sample", "domains": ["demo.test"], "database": True, "services": list(services or (web(),)), **more}]


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


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"health": ""}, "sample-web: a web service needs a health path"),
        ({"port": None}, "sample-web: a web service needs a port"),
        ({"kind": "webb"}, "kind is 'webb'; use web or worker"),
        ({"command": ""}, "sample-web: no command"),
        ({"instances": 0}, "instances is 0"),
        ({"port": 80}, "port is 80; use 1024 to 65000"),
        ({"path": "api"}, "path is 'api'; it begins with /"),
        ({"name": "Web"}, "a name has lower-case letters"),
    ],
)
def test_a_mistake_is_named(change: dict[str, Any], message: str) -> None:
    with pytest.raises(module.ApplicationError, match=message.replace("(", r"\(")):
        module.services(sample(web(**change)))


def test_all_mistakes_are_named_at_once() -> None:
    with pytest.raises(module.ApplicationError) as caught:
        module.services(sample(web(health=""), web(name="api", port=3002, command="", path="/api")))
    for text in ("health path", "no command", "port 3002 is used by sample-web and sample-api"):
        assert text in str(caught.value)


def test_two_services_on_one_path_are_refused() -> None:
    with pytest.raises(module.ApplicationError, match="demo.test/ leads to sample-web and sample-b"):
        module.services(sample(web(), web(name="b", port=4000)))


def test_two_applications_of_one_name_are_refused() -> None:
    with pytest.raises(module.ApplicationError, match="stands twice"):
        module.services(sample() + sample(web(port=4000, path="/b")))


def test_the_most_specific_path_comes_first_and_no_domain_last() -> None:
    other = [{"name": "any", "services": [web(port=5000)]}]
    found = module.routes(other + sample(web(), web(name="api", port=4000, path="/api/v1"), web(name="b", port=4100, path="/api")))
    assert [route["backend"] for route in found] == ["sample-api", "sample-b", "sample-web", "any-web"]


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
    applications = sample() + [{"name": "other", "database": True, "services": []}, {"name": "none", "services": []}]
    found = module.pools(applications, hosts=3, budget=100)
    assert sum(pool["size"] for pool in found) * 3 <= 100
    assert [(pool["name"], pool["database"], pool["user"]) for pool in found][:2] == [
        ("sample", "sample", "sample"),
        ("sample_ro", "sample", "sample_ro"),
    ]


def test_a_budget_that_is_too_small_says_what_is_the_least() -> None:
    with pytest.raises(module.ApplicationError, match="12 is the least"):
        module.pools(sample() + [{"name": "other", "database": True}], hosts=3, budget=8)


def test_without_a_database_there_is_no_pool() -> None:
    assert module.pools([{"name": "x"}], 3, 1) == []


def test_memory_is_shared_and_the_spare_instance_counts() -> None:
    worker = {"name": "worker", "kind": "worker", "command": "w", "limits": {"memory_mb": 100}}
    found = module.units(sample(web(), worker), memory_mb=2000, share=0.5)
    assert [(service["service"], service["memory_mb"]) for service in found] == [("web", 300), ("worker", 100)]


def test_too_little_memory_is_refused() -> None:
    with pytest.raises(module.ApplicationError, match="leave 33 MiB for each of 3 processes"):
        module.units(sample(), memory_mb=1000, share=0.1)


@pytest.mark.parametrize(
    ("value", "line"),
    [(True, 'K="true"'), (3, 'K="3"'), (None, 'K=""'), ('a"b$c`d\\e', 'K="a\\"b\\$c\\`d\\\\e"'), ("a b", 'K="a b"')],
)
def test_environment_lines_are_quoted(value: Any, line: str) -> None:
    assert module.environment_line("K", value) == line


def test_a_bad_environment_name_is_refused() -> None:
    with pytest.raises(module.ApplicationError, match="'A-B' is no name"):
        module.environment_line("A-B", 1)


def test_files_are_an_environment_an_application_and_a_unit_a_service() -> None:
    applications = sample(migrate="m") + [{"name": "plain", "services": []}]
    found = module.files(applications, module.units(applications, 4000, 0.5))
    assert [(entry["dest"], entry.get("mode")) for entry in found] == [
        ("/etc/uptier/apps/sample.env", "0640"),
        ("/etc/uptier/apps/sample.migrate.env", "0600"),
        ("/etc/uptier/apps/plain.env", "0640"),
        ("/etc/systemd/system/sample-web@.service", None),
    ]
    assert all(entry["secret"] for entry in found if entry["dest"].endswith(".env"))


def test_the_services_of_one_application_are_handed_to_the_release() -> None:
    applications = sample() + [{"name": "other", "services": [web(port=5000, path="/o")]}]
    assert [service["unit"] for service in module.release_services(module.services(applications), "other")] == ["other-web"]
