# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Every mistake in platform_applications, by the message that a user reads."""

from __future__ import annotations

import datetime
import io
import tarfile
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.uptier.platform.plugins.action import preflight as action
from ansible_collections.uptier.platform.plugins.plugin_utils import application as model
from ansible_collections.uptier.platform.plugins.plugin_utils import application_check as module

WEB = {"name": "web", "command": "node x", "port": 3000, "health": "/up"}
PREFIX = "Write the prefix under which users reach it, from its slash, for example path: /api."
LETTERS = "Write letters, digits, - and dots, for example shop.example.org, or *.example.org for all names below it."
SHOP = "platform_applications[0] shop"


def shop(*services: Any, **more: Any) -> dict[str, Any]:
    return {"name": "shop", "services": list(services), **more}


def web(**more: Any) -> dict[str, Any]:
    return {**WEB, **more}


def job(**more: Any) -> dict[str, Any]:
    return {"name": "nightly", "kind": "cron", "command": "node x", "schedule": "daily", **more}


def said(*applications: Any) -> list[str]:
    return [str(problem) for problem in module.problems(list(applications))]


@pytest.mark.parametrize(
    "applications",
    [
        [],
        [{"name": "shop"}],
        [shop(web())],
        [shop(web(instances="2", port="3000", websocket="yes", limits={"memory_mb": 512}), version=2, domains="shop.test, www.shop.test")],
        [
            shop(
                version=datetime.date(2026, 11, 26), domains=["Müller.test", "*.shop.test", "shop.test."], env={"PRICE": "costs $5", "N": 1}
            )
        ],
        [shop({"name": "worker", "kind": "worker", "command": "w", "instances": 3}, migrate="node -e 'x'")],
        [shop(web(path="/api"), web(name="site", port=4000)), {"name": "blog", "domains": ["blog.test"]}],
        [shop(web(health="/ready?full=1&deep", metrics="/metrics"))],
        [shop(web(), job(), job(name="tidy", schedule="Mon *-*-* 03:00", timeout="90", instances=1, limits={"memory_mb": 100}))],
    ],
)
def test_what_is_right_has_no_problem(applications: list[Any]) -> None:
    assert module.problems(applications) == []


@pytest.mark.parametrize(
    ("change", "key", "seen_and_fix"),
    [
        ({"instances": "max"}, "instances", "is 'max', which is not a whole number. Write digits alone, for example instances: 2."),
        ({"instances": "2 (per host)"}, "instances", "is '2 (per host)', which is not a whole number. Write digits alone, for example instances: 2."),
        ({"instances": True}, "instances", "is the truth value true, which is not a whole number. Write digits alone, for example instances: 2."),
        ({"instances": 1.5}, "instances", "is the number 1.5, which is not a whole number. Write digits alone, for example instances: 2."),
        ({"instances": 0}, "instances", "is 0. Write 1 or more, on each application host; to stop a service, remove it."),
        (
            {"instances": 2, "spare_instances": 3},
            "spare_instances",
            "is 3. Write 1, or up to as many as `instances`: so many start with a release beside the others.",
        ),
        ({"port": 80}, "port", "is 80. Use 1024 to 65535; users reach 443, at the gateway."),
        ({"port": 70000}, "port", "is 70000. Use 1024 to 65535; users reach 443, at the gateway."),
        (
            {"port": 65535},
            "port",
            "is 65535, and its instances take the ports up to 65536, the last of them for a release. Use 65534 or less: 65535 is the last port.",
        ),
        ({"port": None}, "port", "is missing, and a service of kind web is asked on one. Give it the port of its first instance, for example port: 4000."),
        ({"port": [3000]}, "port", "is a list, which is not a whole number. Write digits alone, for example port: 2."),
        (
            {"health": None},
            "health",
            "is missing, so nobody could tell which of its instances can serve, or a good release from a bad one. "
            "Give the path that answers 200 when an instance can serve, for example health: /api/health.",
        ),
        (
            {"health": "api/health"},
            "health",
            "is 'api/health', which does not begin with a slash. Write the path alone, from its slash, for example health: /api/health.",
        ),
        (
            {"health": "/a b"},
            "health",
            "is '/a b', which holds what no path in a request has. Write the path alone, from its slash, for example health: /api/health.",
        ),
        ({"path": "api"}, "path", "is 'api', which does not begin with a slash. " + PREFIX),
        ({"path": "/a;b {"}, "path", "is '/a;b {', which holds what no path in a request has. " + PREFIX),
        (
            {"metrics": "metrics"},
            "metrics",
            "is 'metrics', which does not begin with a slash. "
            "Write the path alone, from its slash, for example metrics: /metrics.",
        ),
        ({"kind": "wrker"}, "kind", "is 'wrker', which is not a valid value. Did you mean worker? Use one of web, worker, cron."),
        ({"kind": "batch"}, "kind", "is 'batch', which is not a valid value. Use one of web, worker, cron."),
        ({"command": ""}, "command", "is missing. Every entry has one; it is what the unit starts, for example command: node dist/server.js."),
        ({"command": True}, "command", 'is the truth value true, which is not text. Quote it: command: "...".'),
        ({"command": "a\nb"}, "command", "has more than one line, or a control character. Write one line, or put the lines into a script of the release."),
        ({"command": "sh -c 'a"}, "command", 'is "sh -c \'a", with a quote that does not end. Close it.'),
        (
            {"databse_connections": 1},
            "databse_connections",
            f"is set, and nothing reads it. Did you mean database_connections? Known there: {', '.join(model.SERVICE)}.",
        ),
        ({"database_connections": -1}, "database_connections", "is -1. Write what each process opens at most, 0 for none."),
        ({"websocket": "maybe"}, "websocket", "is 'maybe', which is not true or false. Write websocket: true or websocket: false."),
        ({"domains": ["https://shop.test/x"]}, "domains", "is 'https://shop.test/x', which has a scheme. Write the name alone: shop.test."),
        ({"limits": {"memory_mb": 3}}, "limits: memory_mb", "is 3. Use 64 or more, or leave it out."),
        ({"limits": {"memory_mb": "512M"}}, "limits: memory_mb", "is '512M', which is not a whole number. Write digits alone, for example memory_mb: 2."),
        ({"limits": {"memory": 512}}, "limits: memory", "is set, and nothing reads it. Did you mean memory_mb? Known there: memory_mb, cpu_percent."),
        ({"limits": 512}, "limits", "is the number 512, which is not a dictionary. Write it as a dictionary, {KEY: value}."),
        ({"env": {"A-B": 1}}, " env.A-B", "is not a name for an environment variable. Use letters, digits and _, no digit first."),
        ({"env": {"A": "x\x07"}}, " env.A", "holds a control character, with which systemd drops the line. Encode it, in base64 for example."),
        ({"env": {"A": [1]}}, " env.A", "is a list, and a variable holds one text. Write it as one text; | to_json makes one."),
    ],
)  # fmt: skip
def test_a_wrong_value_of_a_service_is_said(change: dict[str, Any], key: str, seen_and_fix: str) -> None:
    separator = ":" if key.startswith(" ") else ": "
    assert said(shop(web(**change))) == [f"{SHOP}, service web{separator}{key} {seen_and_fix}"]


@pytest.mark.parametrize(
    ("name", "better"),
    [("Web", " Write web."), ("my web", " Write my-web."), ("web_1", " Write web-1."), ("1", "")],
)
def test_a_name_of_a_service_that_is_no_unit(name: str, better: str) -> None:
    fix = f"Use lower-case letters, digits and -, a letter first, 31 at most: it becomes the name of a unit.{better}"
    assert said(shop(web(name=name))) == [f"{SHOP}, service {name}: name is {name!r}. {fix}"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"version": 1.10}, ': version is the number 1.1: YAML reads 1.10 as 1.1. Quote it as it was meant: version: "1.1" or "1.10".'),
        ({"version": "v 1"}, ": version is 'v 1', and a directory gets this name. Use letters, digits, dot, _ and -, a letter or a digit first."),
        ({"databse": True}, f": databse is set, and nothing reads it. Did you mean database? Known there: {', '.join(model.APPLICATION)}."),
        ({"database": "maybe"}, ": database is 'maybe', which is not true or false. Write database: true or database: false."),
        ({"domains": ["http://shop.test"]}, ": domains is 'http://shop.test', which has a scheme. Write the name alone: shop.test."),
        ({"domains": ["shop.test:443"]}, ": domains is 'shop.test:443', which has a port. Write the name alone: shop.test."),
        ({"domains": ["shop.test/x"]}, ": domains is 'shop.test/x', which has a path. Write the name alone: shop.test. A service has a key path."),
        (
            {"domains": ["straße.test"]},
            ": domains is 'straße.test', which two standards turn into different names. Write it as it is registered, in punycode (xn--...).",
        ),
        ({"domains": ["a_b.test"]}, ": domains is 'a_b.test', which is not a domain name. " + LETTERS),
        ({"domains": ["www.*.test"]}, ": domains is 'www.*.test', which is not a domain name. " + LETTERS),
        ({"domains": [True]}, ": domains is the truth value true, which is not a domain name. " + LETTERS),
        ({"migrate": "a\nb"}, ": migrate has more than one line, or a control character. Write one line, or put the lines into a script of the release."),
        ({"env": {"1A": "x"}}, ": env.1A is not a name for an environment variable. Use letters, digits and _, no digit first."),
        ({"services": "web"}, ", services[0] is 'web', which is not a dictionary. Write its keys below the dash, name first."),
        ({"services": {"web": {}}}, ": services is a dictionary, which is not a list. Write it as a list, [one, two]."),
    ],
)  # fmt: skip
def test_a_wrong_value_of_an_application_is_said(change: dict[str, Any], message: str) -> None:
    assert said({"name": "shop", **change}) == [SHOP + message]


@pytest.mark.parametrize(
    ("name", "owner"),
    [
        ("postgres", "a user or a database of PostgreSQL"),
        ("monitor", "a user or a database of PostgreSQL"),
        ("replicator", "a user or a database of PostgreSQL"),
        ("rewind", "a user or a database of PostgreSQL"),
        ("template1", "a user or a database of PostgreSQL"),
        ("pg_x", "what PostgreSQL keeps for itself"),
        ("grafana", "a user or a service of the platform"),
        ("platform_admin", "a user or a service of the platform"),
        ("patroni", "a user or a service of the platform"),
        ("redis", "a user or a service of the platform"),
        ("admin", "a user of the cache"),
        ("replica", "a user of the cache"),
        ("backup", "a user, a group or a unit of Debian"),
        ("mail", "a user, a group or a unit of Debian"),
        ("root", "a user, a group or a unit of Debian"),
    ],
)
def test_a_name_that_is_taken(name: str, owner: str) -> None:
    example = f"{name.removeprefix('pg_')}_app"
    fix = f"Its name becomes a system user, units, a database and their users; choose another, for example {example}."
    assert said({"name": name}) == [f"platform_applications[0] {name}: name is {name}, which is {owner}. {fix}"]
    assert said({"name": example}) == []


@pytest.mark.parametrize(
    ("name", "better"),
    [("my-app", " Write my_app."), ("My App", " Write my_app."), ("1st", ""), ("x" * 40, f" Write {'x' * 31}."), ("größe", " Write gr_e.")],
)
def test_a_name_that_some_component_cannot_have(name: str, better: str) -> None:
    fix = "Use lower-case letters, digits and _, a letter first, 31 at most: it becomes a system user, a database and a unit."
    assert said({"name": name}) == [f"platform_applications[0] {name}: name is {name!r}. {fix}{better}"]


def test_an_application_named_like_a_user_of_another() -> None:
    assert said({"name": "shop"}, {"name": "shop_ro"}, {"name": "shop_owner"}) == [
        f"platform_applications[{number}] shop_{end}: name is shop_{end}, which is a database user of the application shop. "
        "Choose another: shop has the users shop_owner and shop_ro, and the pool shop_ro."
        for number, end in ((1, "ro"), (2, "owner"))
    ]


def test_what_is_no_list_or_no_dictionary() -> None:
    assert [str(problem) for problem in module.problems("shop")] == [
        "platform_applications is 'shop', which is not a list. Write one entry for each application, each with a dash."
    ]
    assert said("shop", {}) == [
        "platform_applications[0] is 'shop', which is not a dictionary. Write its keys below the dash, name first.",
        "platform_applications[1]: name is missing. Every entry has one; for example name: shop.",
    ]


def test_two_of_one_name() -> None:
    assert said(shop(web(), web(port=4000, path="/b"))) == [f"{SHOP}, service web: name is used by 2 services. Give each its own."]
    assert said({"name": "shop"}, {"name": "blog"}, {"name": "shop"}) == [
        "platform_applications[0] and platform_applications[2]: name is shop in 2 entries. Give each its own, or make them one."
    ]


def test_two_on_one_port_also_the_spare_one() -> None:
    assert said(shop(web(instances=2), web(name="api", port=3002, path="/api"))) == [
        f"{SHOP}, service api: port is 3002, and its instances take 3002 to 3003, the last of them for the instance that starts with a "
        "release: 3002 belongs to shop, service web. Give one of them another port."
    ]
    worker = {"name": "worker", "kind": "worker", "command": "w", "port": 3003}
    assert said(shop(web(instances=2), worker)) == []
    assert "3003 belongs to shop, service web" in said(shop(web(instances=2, spare_instances=2), worker))[0]


def test_two_on_one_domain() -> None:
    blog = {"name": "blog", "domains": ["shop.test"], "services": [web(port=4000, path="/blog")]}
    assert said(shop(web(), domains=["Shop.Test"]), blog) == [
        "platform_applications[1] blog: domains has shop.test, which shop has too. Give it to one of them; services of one application may "
        "share a domain by their paths."
    ]
    assert said(shop(web(), web(name="b", port=4000), domains=["shop.test"])) == [
        f"{SHOP}, service b: path is /, and shop.test/ leads to shop, service web already. Give one of them another path, or domains of its own."
    ]
    assert said(shop(web()), {"name": "blog", "services": [web(port=4000)]}) == [
        "platform_applications[1] blog, service web: path is /, and any domain with / leads to shop, service web already. Give one of them "
        "another path, or domains of its own."
    ]


def test_everything_is_said_at_once() -> None:
    found = said(
        shop(web(instances="max", health="up", port=22), web(name="B", command=None, path="/b"), version=1.5), {"name": "postgres"}
    )
    assert len(found) == 7
    assert [text.partition(" is ")[0] for text in found] == [
        f"{SHOP}: version",
        f"{SHOP}, service web: instances",
        f"{SHOP}, service web: port",
        f"{SHOP}, service web: health",
        f"{SHOP}, service B: command",
        f"{SHOP}, service B: name",
        "platform_applications[1] postgres: name",
    ]


# -- releases --------------------------------------------------------------------------------------------------------


def release(**more: Any) -> list[dict[str, Any]]:
    command = more.pop("command", "node dist/server.js")
    return [{**shop(web(command=command)), "version": "1", "release": "build/shop.tar", **more}]


def of_release(given: list[dict[str, Any]], archives: dict[str, Any]) -> list[str]:
    return [str(problem) for problem in module.release_problems(given, archives)]


def test_a_release_that_is_not_named() -> None:
    assert of_release([shop(web())], {}) == [
        f'{SHOP}: version is missing. Name the version of the release, for example version: "1.4.0".',
        f"{SHOP}: release is missing, and the application has services. Name its archive on the controller, for example "
        "release: build/shop-1.4.0.tar.gz.",
    ]
    assert of_release([{"name": "rows", "database": True}], {}) == []
    assert of_release(["x", {"name": "shop", "services": [WEB], "version": 1.5, "release": [1]}], {}) == [], (
        "what is there is judged elsewhere"
    )


def test_a_release_that_is_not_there() -> None:
    assert of_release(release(), {"build/shop.tar": None}) == [
        f"{SHOP}: release is build/shop.tar, and there is no such file on the controller. Build it, or correct the path; a relative one "
        "begins where ansible-playbook was started. Not every host has this version."
    ]
    assert of_release(release(), {}) == [], "every host has it"


def test_a_release_that_is_no_archive() -> None:
    assert of_release(release(), {"build/shop.tar": "not a gzip file"}) == [
        f"{SHOP}: release is build/shop.tar, which is not a tar archive (not a gzip file). Build it again."
    ]


@pytest.mark.parametrize(
    "command",
    [
        "node dist/server.js",
        "node dist/server",
        "node dist",
        "./dist/server.js",
        "node -r dotenv/config x.js",
        "python3 -m shop",
        "/usr/bin/x",
        "npm start",
    ],
)
def test_a_command_whose_file_is_there_or_cannot_be_told(command: str) -> None:
    assert of_release(release(command=command, migrate=command), {"build/shop.tar": ["dist", "dist/server.js"]}) == []


def test_a_release_without_the_command_or_the_migration() -> None:
    given = release(command="node dist/sever.js", migrate="bin/migrate up")
    fix = "Correct the command, or put the file into the archive, whose paths begin at its top (tar -C dist .)."
    assert of_release(given, {"build/shop.tar": ["dist/server.js"]}) == [
        f"{SHOP}: migrate starts bin/migrate, which is not in build/shop.tar. {fix}",
        f"{SHOP}, service web: command starts dist/sever.js, which is not in build/shop.tar. Did you mean dist/server.js? {fix}",
    ]


def test_archives_are_read_where_a_host_lacks_the_version(tmp_path: Path) -> None:
    path = tmp_path / "shop.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        archive.addfile(tarfile.TarInfo("./dist/server.js"), io.BytesIO())
    application = model.completed(release(release=str(path)))
    lacking, having = {action.PROBE: {"unpacked": []}}, {action.PROBE: {"unpacked": ["shop/1"]}}
    assert action.archives(application, {"a": having, "b": lacking}, ["a", "b"]) == {str(path): ["dist/server.js"]}
    assert action.archives(application, {"a": having}, ["a"]) == {}
    path.write_bytes(path.read_bytes()[:20])
    assert isinstance(action.inside(path), str)
    assert action.inside(tmp_path / "none.tar") is None


# -- secrets ---------------------------------------------------------------------------------------------------------


def test_a_secret_environment_of_no_application() -> None:
    secret = {"shpo": {"KEY": "s3cret"}, "shop": {"A-B": "s3cret", "OK": "s3cret"}}
    found = [str(problem) for problem in module.secret_environment_problems([{"name": "shop"}], secret)]
    assert found == [
        "variable app_secret_env.shpo belongs to no application. Did you mean shop? The applications are shop.",
        "variable app_secret_env.shop: env.A-B is not a name for an environment variable. Use letters, digits and _, no digit first.",
    ]
    assert "s3cret" not in " ".join(found)
    assert module.secret_environment_problems([], {}) == []


@pytest.mark.parametrize(
    ("service", "key", "seen_and_fix"),
    [
        (
            job(schedule=""),
            "schedule",
            "is missing, and a service of kind cron is started by it. Write when it runs as systemd does, for example "
            'schedule: "*-*-* 03:00:00"; systemd-analyze calendar shows when that is.',
        ),
        (
            job(schedule="0 */6 * * *"),
            "schedule",
            "is '0 */6 * * *', which is cron's way to write it. Write it as systemd does: \"*-*-* 00/6:00:00\".",
        ),
        (
            job(schedule="every day"),
            "schedule",
            "is 'every day', which is no time for a timer. Write it as systemd does, for example "
            '"Mon..Sat *-*-* 01:00:00 UTC"; systemd-analyze calendar shows when that is.',
        ),
        (job(timeout=0), "timeout", "is 0. Write the seconds after which it is ended, 1 to 86400."),
        (job(timeout=86401), "timeout", "is 86401. Write the seconds after which it is ended, 1 to 86400."),
    ],
)
def test_a_job(service: dict[str, Any], key: str, seen_and_fix: str) -> None:
    assert said(shop(service)) == [f"{SHOP}, service nightly: {key} {seen_and_fix}"]


@pytest.mark.parametrize(
    ("service", "seen_and_fix"),
    [
        (job(port=4000), "nightly has port, which means nothing to a service of kind cron. Remove it, or correct the kind."),
        (
            job(instances=2, health="/up", domains=["a.test"], websocket="yes"),
            "nightly has instances, health, domains, websocket, which mean nothing to a service of kind cron. Remove them, or correct the kind.",
        ),
        (web(schedule="daily"), "web has schedule, which means nothing to a service of kind web. Remove it, or correct the kind."),
        (
            {"name": "w", "kind": "worker", "command": "w", "timeout": 60},
            "w has timeout, which means nothing to a service of kind worker. Remove it, or correct the kind.",
        ),
    ],
)
def test_a_key_that_means_nothing_to_a_kind(service: dict[str, Any], seen_and_fix: str) -> None:
    assert said(shop(service)) == [f"{SHOP}, service {seen_and_fix}"]
