# SPDX-License-Identifier: GPL-3.0-or-later
"""What a Redis process runs with against what its files say."""

from __future__ import annotations

import pytest
from ansible_collections.uptier.platform.plugins.module_utils.redis.config import (
    acl_commands,
    differing,
    normal,
    older,
    outdated,
    parse_acl,
    parse_config,
    parse_program,
    show,
)

FILE = """\
# a comment
bind 10.0.0.11 127.0.0.1

Maxmemory 256mb
save 3600 1 300 100
masterauth "a b\\"c"
logfile ""
include /etc/redis/other.conf
client-output-buffer-limit normal 0 0 0 replica 256mb 64mb 60 pubsub 32mb 8mb 60
maxclients 10000
maxclients 20000
"""


def test_a_file_is_read_as_redis_reads_it() -> None:
    settings = parse_config(FILE)
    assert settings["maxmemory"] == "256mb"
    assert settings["masterauth"] == 'a b"c'
    assert settings["logfile"] == ""
    assert settings["maxclients"] == "20000"
    assert "include" not in settings


def test_spellings_of_one_value_are_equal() -> None:
    running = {
        "bind": "10.0.0.11 127.0.0.1",
        "maxmemory": "268435456",
        "save": "3600 1 300 100",
        "masterauth": "old",
        "logfile": "",
        "client-output-buffer-limit": "normal 0 0 0 slave 268435456 67108864 60 pubsub 33554432 8388608 60",
        "maxclients": "10000",
    }
    wanted = parse_config(FILE)
    assert differing(wanted, running) == {"masterauth": 'a b"c', "maxclients": "20000"}
    assert show(["maxclients", "masterauth"], wanted, running) == ["masterauth", "maxclients: 10000 -> 20000"]


@pytest.mark.parametrize(
    ("value", "same"), [("1k", "1000"), ("1KB", "1024"), ("2gb", "2147483648"), ("Yes", "yes"), ("slave 1", "replica 1")]
)
def test_normal(value: str, same: str) -> None:
    assert normal(value) == same


def test_settings_unknown_to_this_release_are_left_out() -> None:
    assert differing({"new-in-redis-9": "yes"}, {}) == {}


def test_users_are_replaced_one_by_one_and_strangers_removed() -> None:
    users = parse_acl("user default off -@all\nuser app on #ab ~app:* +@all\n\n")
    assert acl_commands(users, ["default", "app", "gone", "old"]) == [
        ["ACL", "SETUSER", "default", "reset", "off", "-@all"],
        ["ACL", "SETUSER", "app", "reset", "on", "#ab", "~app:*", "+@all"],
        ["ACL", "DELUSER", "gone", "old"],
    ]
    assert len(acl_commands(users, ["default", "app"])) == 2
    assert acl_commands({}, ["default"]) == []


def test_a_process_is_outdated_when_a_file_is_newer() -> None:
    assert outdated(100, [50, 102])
    assert not outdated(100, [50, 100.9])
    assert not outdated(100, [])


def test_what_an_installed_program_would_run_as() -> None:
    said = "Redis server v=7.0.15 sha=00000000:0 malloc=jemalloc-5.3.0 bits=64 build=435b2d61137a8d97"
    assert parse_program(said) == ("7.0.15", "435b2d61137a8d97")
    assert parse_program("") == ("", "")
    assert [older(one, "8.0.2") for one in ("7.0.15", "8.0.1", "8.0.10", "8.2.0", "")] == [True, False, False, False, False]
    assert older("8.9.0", "8.10.0")
