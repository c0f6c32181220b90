# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The plan of plugins/modules/pg_objects.py."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.uptier.platform.plugins.module_utils.postgresql import scram
from ansible_collections.uptier.platform.plugins.module_utils.postgresql.objects import (
    Actor,
    Inside,
    LeftOutError,
    ObjectsError,
    attributes,
    database_roles,
    plan_access,
    plan_databases,
    plan_inside,
    plan_memberships,
    plan_roles,
    refuse_left_out,
)
from ansible_collections.uptier.platform.plugins.module_utils.postgresql.sql import identifier, literal
from ansible_collections.uptier.platform.plugins.plugin_utils.application import completed
from ansible_collections.uptier.platform.plugins.plugin_utils.databases import database_users, databases

ADMIN = Actor("admin", superuser=False, release=17)
SHOP: dict[str, Any] = {"name": "shop", "owner": "shop_owner", "readwrite": ["shop"], "readonly": ["shop_ro"], "extensions": ["pg_trgm"]}


def role(**changes: Any) -> dict[str, Any]:
    plain = {"login": True, "superuser": False, "replication": False, "createdb": False, "createrole": False, "limit": -1}
    return {**plain, "password": None, "settings": [], "member_of": [], **changes}


def texts(statements: list[Any]) -> list[str]:
    return [statement.sql for statement in statements]


def complete() -> Inside:
    granted = [("r", "shop", name) for name in ("SELECT", "INSERT", "UPDATE", "DELETE")] + [("r", "shop_ro", "SELECT")]
    granted += [("S", "shop", name) for name in ("USAGE", "SELECT", "UPDATE")] + [("S", "shop_ro", "SELECT")]
    return Inside(
        extensions={"plpgsql", "pg_trgm"},
        schema_acl={("pg_database_owner", "USAGE"), ("shop", "USAGE"), ("shop_ro", "USAGE")},
        default_acl=set(granted),
        totals={"r": 3, "S": 1},
        granted={entry: 3 if entry[0] == "r" else 1 for entry in granted},
    )


def test_applications_imply_a_database_and_three_users() -> None:
    found = databases(completed([{"name": "shop", "database": True}, {"name": "site"}]))
    assert [entry["name"] for entry in found] == ["shop"]
    assert database_users(found) == ["shop_owner", "shop", "shop_ro"]


def test_readers_cannot_write_whatever_they_are_granted() -> None:
    roles = {entry["name"]: entry for entry in database_roles([SHOP])}
    assert roles["shop_ro"]["settings"] == {"default_transaction_read_only": "on"}
    assert "settings" not in roles["shop"]


def test_a_new_role_gets_no_rights_and_a_verifier() -> None:
    created, password = plan_roles([{"name": "shop"}], {"shop": "s3cret"}, {})
    assert created.sql == 'CREATE ROLE "shop" LOGIN NOSUPERUSER NOREPLICATION NOCREATEDB NOCREATEROLE'
    assert "s3cret" not in password.sql
    assert scram.matches("s3cret", password.sql.split("'")[1])
    assert str(password) == "ALTER ROLE \"shop\" PASSWORD '(not shown)'"


def test_a_role_as_wanted_needs_nothing() -> None:
    seen = {"shop": role(password=scram.verifier("s3cret"), settings=["search_path=a=b"], member_of=["pg_monitor"])}
    wanted = [{"name": "shop", "settings": {"search_path": "a=b"}, "member_of": ["pg_monitor"]}]
    assert plan_roles(wanted, {"shop": "s3cret"}, seen) == []


def test_only_what_differs_is_altered() -> None:
    seen = {"shop": role(superuser=True, limit=5)}
    assert texts(plan_roles([{"name": "shop"}], {}, seen)) == ['ALTER ROLE "shop" NOSUPERUSER CONNECTION LIMIT -1']


def test_who_is_no_superuser_does_not_say_what_only_a_superuser_may() -> None:
    assert attributes({"name": "shop"}, None, ADMIN) == "LOGIN NOCREATEDB NOCREATEROLE"
    assert attributes({"name": "shop"}, role(limit=5), ADMIN) == "CONNECTION LIMIT -1"


@pytest.mark.parametrize(
    ("wanted", "now", "words"),
    [
        ({"name": "r", "replication": True}, None, "The role r should be REPLICATION. admin is not a superuser"),
        ({"name": "r", "superuser": True}, role(), "should be SUPERUSER"),
        ({"name": "r"}, role(superuser=True), "is, but should not be, SUPERUSER"),
    ],
)
def test_what_only_a_superuser_may_is_refused(wanted: dict[str, Any], now: dict[str, Any] | None, words: str) -> None:
    with pytest.raises(ObjectsError, match=words):
        attributes(wanted, now, ADMIN)


def test_a_password_that_is_known_to_be_right_is_left_alone() -> None:
    seen = {"shop": role(), "shop_ro": role()}
    plan = plan_roles([{"name": "shop"}, {"name": "shop_ro"}], {"shop": "s3cret", "shop_ro": "t3cret"}, seen, ADMIN, ["shop"])
    assert [str(statement) for statement in plan] == ["ALTER ROLE \"shop_ro\" PASSWORD '(not shown)'"]


def test_who_is_no_superuser_becomes_a_member_of_the_owners() -> None:
    assert texts(plan_memberships([SHOP, SHOP], {}, ADMIN)) == ['GRANT "shop_owner" TO "admin" WITH INHERIT TRUE, SET TRUE']
    before = Actor("admin", superuser=False, release=15)
    assert texts(plan_memberships([SHOP], {"shop_owner": {"ours": False}}, before)) == ['GRANT "shop_owner" TO "admin"']
    assert plan_memberships([SHOP], {"shop_owner": {"ours": True}}, ADMIN) == []
    assert plan_memberships([{**SHOP, "owner": "admin"}], {}, ADMIN) == []
    assert plan_memberships([SHOP], {}, Actor()) == []


def test_only_a_superuser_asks_for_passwords() -> None:
    assert "pg_authid" in Actor().query
    assert "pg_authid" not in ADMIN.query
    assert "rolpassword" not in ADMIN.query
    assert "'SET'" in ADMIN.query
    assert "'SET'" not in Actor("admin", False, 15).query


def test_a_database_is_created_once() -> None:
    assert texts(plan_databases([SHOP], {})) == ['CREATE DATABASE "shop" OWNER "shop_owner"']
    assert plan_databases([SHOP], {"shop": {}}) == []


def test_public_loses_its_access_and_the_rest_stays() -> None:
    acl = [["PUBLIC", "CONNECT"], ["shop_owner", "CONNECT"], ["shop_owner", "CREATE"], ["shop_owner", "TEMPORARY"]]
    acl += [["shop_ro", "CONNECT"], ["someone", "CONNECT"]]
    plan = plan_access([SHOP], {}, {"shop": {"owner": "shop_owner", "acl": acl}})
    assert texts(plan) == ['REVOKE ALL ON DATABASE "shop" FROM PUBLIC', 'GRANT CONNECT, TEMPORARY ON DATABASE "shop" TO "shop"']


def test_a_foreign_owner_is_corrected() -> None:
    plan = plan_access([SHOP], {}, {"shop": {"owner": "postgres", "acl": []}})
    assert texts(plan)[0] == 'ALTER DATABASE "shop" OWNER TO "shop_owner"'


def test_databases_of_the_system_are_closed() -> None:
    plan = plan_access([], {"postgres": ["monitor"], "gone": []}, {"postgres": {"owner": "postgres", "acl": [["PUBLIC", "CONNECT"]]}})
    assert texts(plan) == ['REVOKE ALL ON DATABASE "postgres" FROM PUBLIC', 'GRANT CONNECT ON DATABASE "postgres" TO "monitor"']


def test_a_complete_database_needs_nothing() -> None:
    assert plan_inside(SHOP, complete()) == []


def test_a_fresh_database_gets_extensions_schema_and_default_privileges() -> None:
    plan = texts(plan_inside(SHOP, Inside()))
    assert plan[0] == 'CREATE EXTENSION IF NOT EXISTS "pg_trgm"'
    assert "REVOKE ALL ON SCHEMA public FROM PUBLIC" in plan
    assert any("GRANT SELECT ON TABLES" in text and '"shop_ro"' in text for text in plan)
    assert not any("ON ALL TABLES" in text for text in plan)


def test_a_table_that_one_user_lacks_is_granted() -> None:
    now = complete()
    now.granted["r", "shop_ro", "SELECT"] = 2
    assert texts(plan_inside(SHOP, now)) == ['GRANT SELECT ON ALL TABLES IN SCHEMA public TO "shop_ro"']


def test_the_catalogues_are_read() -> None:
    data = {
        "extensions": ["plpgsql"],
        "schema_owner": "pg_database_owner",
        "schema_acl": [["PUBLIC", "USAGE"]],
        "default_acl": [["r", "shop", "SELECT"]],
        "objects": [["r", "", "", 2], ["r", "shop", "SELECT", 1]],
    }
    now = Inside.read(data)
    assert now.totals == {"r": 2}
    assert now.granted == {("r", "shop", "SELECT"): 1}
    assert now.default_acl == {("r", "shop", "SELECT")}


def test_names_and_values_are_quoted() -> None:
    assert identifier('a"b') == '"a""b"'
    assert identifier("a.b", "C") == '"a.b"."C"'
    assert literal("a'b") == "'a''b'"
    assert literal("a\\'b") == "E'a\\\\''b'"


ROLES = database_roles([SHOP])
NEW = dict.fromkeys(("shop", "shop_ro", "shop_owner"), "a-new-password-0123")
AWAY = dict.fromkeys(NEW, ["app1", "app2"])


def test_a_password_in_use_is_not_changed_under_hosts_that_do_not_hear_of_it() -> None:
    former, same = role(password=scram.verifier("a-former-one-0123")), role(password=scram.verifier(NEW["shop"]))
    seen = {"shop": former, "shop_ro": former, "shop_owner": same}
    with pytest.raises(LeftOutError) as caught:
        refuse_left_out(ROLES, NEW, seen, AWAY)
    assert str(caught.value).startswith(
        "The passwords of shop, shop_ro are other ones at the server than in the vault, and app1, app2, where they are in use, take no part"
    )
    assert caught.value.reason == "hosts_left_out"
    refuse_left_out(ROLES, NEW, seen, {})
    refuse_left_out(ROLES, NEW, seen, dict.fromkeys(NEW, []))
    refuse_left_out(ROLES, NEW, dict.fromkeys(NEW, same), AWAY)


def test_a_first_password_is_given_whoever_takes_part() -> None:
    refuse_left_out(ROLES, NEW, {}, AWAY)
    refuse_left_out(ROLES, NEW, dict.fromkeys(NEW, role()), AWAY)


def test_who_is_no_superuser_goes_by_what_was_accepted() -> None:
    seen = dict.fromkeys(NEW, role())
    refuse_left_out(ROLES, NEW, seen, AWAY, ADMIN, accepted=list(NEW))
    with pytest.raises(LeftOutError, match="The passwords of shop_ro are"):
        refuse_left_out(ROLES, NEW, seen, AWAY, ADMIN, accepted=["shop", "shop_owner"])
