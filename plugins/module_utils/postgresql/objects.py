# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Plan for roles, databases and privileges of a PostgreSQL cluster.

The planner compares what the catalogues say (`Server`, `Inside`) with what is wanted and returns statements; it opens
no connection. Privileges that somebody else granted besides are left alone, except those of PUBLIC on the databases.

Who acts need not be a superuser: at a provider it may create roles and databases, and becomes a member of those that own
databases. What only a superuser may do is refused there, and passwords that are stored cannot be seen.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.uptier.platform.plugins.module_utils.postgresql import scram
from ansible_collections.uptier.platform.plugins.module_utils.postgresql.errors import PostgresqlError
from ansible_collections.uptier.platform.plugins.module_utils.postgresql.sql import identifier, literal

# What each kind of user may do with the objects of a database's owner: object type of the catalogue -> privileges.
GRANTS = {
    "readwrite": {"r": ("SELECT", "INSERT", "UPDATE", "DELETE"), "S": ("USAGE", "SELECT", "UPDATE")},
    "readonly": {"r": ("SELECT",), "S": ("SELECT",)},
}
PLURAL = {"r": "TABLES", "S": "SEQUENCES"}
ATTRIBUTES = {
    "login": "LOGIN",
    "superuser": "SUPERUSER",
    "replication": "REPLICATION",
    "createdb": "CREATEDB",
    "createrole": "CREATEROLE",
}
# What nobody but a superuser may give or take.
SUPERUSERS = ("superuser", "replication")
DATABASE_GRANTS = {"owner": ("CONNECT", "CREATE", "TEMPORARY"), "readwrite": ("CONNECT", "TEMPORARY"), "readonly": ("CONNECT",)}

# Who acts: whether as a superuser, and on which release.
SELF_QUERY = """
SELECT json_build_object('user', current_user, 'superuser', current_setting('is_superuser') = 'on',
  'release', current_setting('server_version_num')::int / 10000, 'standby', pg_is_in_recovery());
"""
SERVER_QUERY = """
SELECT json_build_object(
  'roles', (SELECT coalesce(json_object_agg(a.rolname, json_build_object(
      'login', a.rolcanlogin, 'superuser', a.rolsuper, 'replication', a.rolreplication, 'createdb', a.rolcreatedb,
      'createrole', a.rolcreaterole, 'limit', a.rolconnlimit, 'password', %(password)s, 'ours', %(ours)s,
      'settings', (SELECT coalesce(json_agg(c), '[]') FROM pg_db_role_setting s, unnest(s.setconfig) c
                   WHERE s.setrole = a.oid AND s.setdatabase = 0),
      'member_of', (SELECT coalesce(json_agg(g.rolname), '[]') FROM pg_auth_members m JOIN pg_roles g ON g.oid = m.roleid
                    WHERE m.member = a.oid))), '{}') FROM %(roles)s a),
  'databases', (SELECT json_object_agg(d.datname, json_build_object(
      'owner', pg_get_userbyid(d.datdba),
      'acl', (SELECT coalesce(json_agg(json_build_array(coalesce(g.rolname, 'PUBLIC'), x.privilege_type)), '[]')
              FROM aclexplode(coalesce(d.datacl, acldefault('d', d.datdba))) x LEFT JOIN pg_roles g ON g.oid = x.grantee)))
    FROM pg_database d));
"""
INSIDE_QUERY = """
SELECT json_build_object(
  'extensions', (SELECT coalesce(json_agg(extname), '[]') FROM pg_extension),
  'schema_owner', (SELECT pg_get_userbyid(nspowner) FROM pg_namespace WHERE nspname = 'public'),
  'schema_acl', (SELECT coalesce(json_agg(json_build_array(coalesce(g.rolname, 'PUBLIC'), x.privilege_type)), '[]')
     FROM pg_namespace n, aclexplode(coalesce(n.nspacl, acldefault('n', n.nspowner))) x LEFT JOIN pg_roles g ON g.oid = x.grantee
     WHERE n.nspname = 'public'),
  'default_acl', (SELECT coalesce(json_agg(json_build_array(d.defaclobjtype, g.rolname, x.privilege_type)), '[]')
     FROM pg_default_acl d JOIN pg_namespace n ON n.oid = d.defaclnamespace AND n.nspname = 'public',
          aclexplode(d.defaclacl) x JOIN pg_roles g ON g.oid = x.grantee
     WHERE pg_get_userbyid(d.defaclrole) = %(owner)s),
  'objects', (WITH o AS (
       SELECT CASE WHEN c.relkind = 'S' THEN 'S' ELSE 'r' END kind, c.oid, c.relacl acl, c.relowner owner FROM pg_class c
       WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S')
         AND pg_get_userbyid(c.relowner) = %(owner)s)
     SELECT coalesce(json_agg(json_build_array(t.kind, t.name, t.privilege, t.number)), '[]') FROM (
       SELECT kind, '' AS name, '' AS privilege, count(*) AS number FROM o GROUP BY kind
       UNION ALL
       SELECT o.kind, g.rolname, x.privilege_type, count(*) FROM o, aclexplode(o.acl) x JOIN pg_roles g ON g.oid = x.grantee
       GROUP BY 1, 2, 3) t));
"""


class ObjectsError(PostgresqlError):
    """Something is declared that only a superuser can have; the message says what, and why not."""

    def __init__(self, message: str) -> None:
        super().__init__("not_a_superuser", message)


class LeftOutError(PostgresqlError):
    """A password would change at the server under hosts that do not hear of it in this run; the message names both."""

    def __init__(self, users: Sequence[str], hosts: Sequence[str]) -> None:
        super().__init__(
            "hosts_left_out",
            f"The passwords of {', '.join(users)} are other ones at the server than in the vault, and {', '.join(hosts)}, where they are in "
            "use, take no part in this run: they could not log in any longer. No password was changed. Run the tier's playbook for all "
            "hosts, without --limit; take a host that is gone out of the inventory.",
        )


@dataclass(frozen=True)
class Actor:
    """Who acts. From release 16 on, a membership says what it is good for."""

    user: str = "postgres"
    superuser: bool = True
    release: int = 15

    @property
    def query(self) -> str:
        """Return the question about roles and databases; passwords are for superusers only."""
        if self.superuser:
            return SERVER_QUERY % {"roles": "pg_authid", "password": "a.rolpassword", "ours": "true"}
        use = "pg_has_role(a.oid, 'USAGE') AND pg_has_role(a.oid, '%s')" % ("SET" if self.release >= 16 else "MEMBER")
        return SERVER_QUERY % {"roles": "pg_roles", "password": "NULL", "ours": use}


SUPERUSER = Actor()


@dataclass(frozen=True)
class Statement:
    """One statement, and how it is shown where it holds a verifier."""

    sql: str
    shown: str = ""

    def __str__(self) -> str:
        return self.shown or self.sql


@dataclass
class Inside:
    """What stands in one database."""

    extensions: set[str] = field(default_factory=lambda: {"plpgsql"})
    schema_owner: str = "pg_database_owner"
    schema_acl: set[tuple[str, str]] = field(default_factory=lambda: {("PUBLIC", "USAGE")})
    default_acl: set[tuple[str, str, str]] = field(default_factory=set)
    totals: dict[str, int] = field(default_factory=dict)
    granted: dict[tuple[str, str, str], int] = field(default_factory=dict)

    @classmethod
    def read(cls, data: Mapping[str, Any]) -> Inside:
        counts = [tuple(row) for row in data["objects"]]
        return cls(
            set(data["extensions"]),
            data["schema_owner"],
            {tuple(row) for row in data["schema_acl"]},
            {tuple(row) for row in data["default_acl"]},
            {kind: number for kind, name, dummy, number in counts if not name},
            {(kind, name, privilege): number for kind, name, privilege, number in counts if name},
        )


def database_roles(databases: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the roles that databases imply: they may log in and nothing else; readers cannot write whatever they are granted."""
    found: dict[str, dict[str, Any]] = {}
    for database in databases:
        for name in [database["owner"], *database["readwrite"], *database["readonly"]]:
            found.setdefault(name, {"name": name})
        for name in database["readonly"]:
            found[name]["settings"] = {"default_transaction_read_only": "on"}
    return list(found.values())


def plan_roles(
    wanted: Sequence[Mapping[str, Any]],
    passwords: Mapping[str, str],
    seen: Mapping[str, Mapping[str, Any]],
    actor: Actor = SUPERUSER,
    accepted: Collection[str] = (),
) -> list[Statement]:
    """Return the statements that make the roles as wanted. `accepted` are those that are known to have their password."""
    statements = []
    for role in wanted:
        name, now = role["name"], seen.get(role["name"])
        if now is None:
            statements.append(Statement(f"CREATE ROLE {identifier(name)} {attributes(role, None, actor)}"))
            now = {"settings": [], "member_of": [], "password": None}
        elif attributes(role, now, actor):
            statements.append(Statement(f"ALTER ROLE {identifier(name)} {attributes(role, now, actor)}"))
        password = passwords.get(name)
        if password and name not in accepted and not scram.matches(password, now["password"]):
            head = f"ALTER ROLE {identifier(name)} PASSWORD "
            statements.append(Statement(head + literal(scram.verifier(password)), head + "'(not shown)'"))
        settings = dict(entry.split("=", 1) for entry in now["settings"])
        for key, value in sorted((role.get("settings") or {}).items()):
            if settings.get(key) != str(value):
                statements.append(Statement(f"ALTER ROLE {identifier(name)} SET {identifier(key)} = {literal(value)}"))
        for group in role.get("member_of") or []:
            if group not in now["member_of"]:
                statements.append(Statement(f"GRANT {identifier(group)} TO {identifier(name)}"))
    return statements


def refuse_left_out(
    wanted: Sequence[Mapping[str, Any]],
    passwords: Mapping[str, str],
    seen: Mapping[str, Mapping[str, Any]],
    elsewhere: Mapping[str, Sequence[str]],
    actor: Actor = SUPERUSER,
    accepted: Collection[str] = (),
) -> None:
    """Raise where a password that is in use would change and hosts that log in with it (`elsewhere`, by role) would not learn it.

    A role that there is not yet, or that nobody can log in as, may have its first password.
    """
    users, hosts = [], []
    for name in dict.fromkeys(role["name"] for role in wanted):
        password, now = passwords.get(name), seen.get(name)
        if not password or not now or not elsewhere.get(name) or name in accepted:
            continue
        # Who is no superuser sees no passwords; that it was not accepted is all that is known then.
        if not scram.matches(password, now["password"]) and (now["password"] or not actor.superuser):
            users.append(name)
            hosts += elsewhere[name]
    if users:
        raise LeftOutError(users, list(dict.fromkeys(hosts)))


def attributes(role: Mapping[str, Any], now: Mapping[str, Any] | None, actor: Actor = SUPERUSER) -> str:
    """Return the attributes that differ, or all of them for a role that is to be created."""
    words = []
    for key, word in ATTRIBUTES.items():
        value = role.get(key, key == "login")
        if key in SUPERUSERS and not actor.superuser:
            # Only a superuser may even say the word; a new role has neither.
            if value != (now or {key: False})[key]:
                shall = "should be" if value else "is, but should not be,"
                raise ObjectsError(f"The role {role['name']} {shall} {word}. {actor.user} is not a superuser and cannot change that.")
        elif now is None or now[key] != value:
            words.append(word if value else f"NO{word}")
    limit = role.get("connection_limit", -1)
    if (now or {"limit": -1})["limit"] != limit:
        words.append(f"CONNECTION LIMIT {limit}")
    return " ".join(words)


def plan_memberships(wanted: Sequence[Mapping[str, Any]], seen: Mapping[str, Mapping[str, Any]], actor: Actor) -> list[Statement]:
    """Return the statements that let the actor act for the owners of databases, which a superuser may anyway."""
    owners = dict.fromkeys(database["owner"] for database in wanted)
    needed = [name for name in owners if not actor.superuser and name != actor.user and not seen.get(name, {}).get("ours")]
    options = " WITH INHERIT TRUE, SET TRUE" if actor.release >= 16 else ""
    return [Statement(f"GRANT {identifier(name)} TO {identifier(actor.user)}{options}") for name in needed]


def plan_databases(wanted: Sequence[Mapping[str, Any]], seen: Mapping[str, Mapping[str, Any]]) -> list[Statement]:
    """Return the statements that create the databases; each must run outside a transaction."""
    return [
        Statement(f"CREATE DATABASE {identifier(database['name'])} OWNER {identifier(database['owner'])}")
        for database in wanted
        if database["name"] not in seen
    ]


def plan_access(
    wanted: Sequence[Mapping[str, Any]], maintenance: Mapping[str, Sequence[str]], seen: Mapping[str, Mapping[str, Any]]
) -> list[Statement]:
    """Return the statements that say who may connect. `maintenance` are databases of the system and who may use them."""
    statements = []
    for database in wanted:
        now = seen.get(database["name"], {"owner": database["owner"], "acl": [["PUBLIC", "CONNECT"], ["PUBLIC", "TEMPORARY"]]})
        if now["owner"] != database["owner"]:
            statements.append(Statement(f"ALTER DATABASE {identifier(database['name'])} OWNER TO {identifier(database['owner'])}"))
        grants = {name: DATABASE_GRANTS[kind] for kind in ("readonly", "readwrite") for name in database[kind]}
        grants[database["owner"]] = DATABASE_GRANTS["owner"]
        grants.update(dict.fromkeys(database.get("connect") or [], ("CONNECT",)))
        statements += access(database["name"], grants, now["acl"])
    for name, users in maintenance.items():
        if name in seen:
            statements += access(name, dict.fromkeys(users, ("CONNECT",)), seen[name]["acl"])
    return statements


def access(database: str, grants: Mapping[str, Sequence[str]], acl: Sequence[Sequence[str]]) -> list[Statement]:
    present = {tuple(row) for row in acl}
    statements = []
    if any(name == "PUBLIC" for name, dummy in present):
        statements.append(Statement(f"REVOKE ALL ON DATABASE {identifier(database)} FROM PUBLIC"))
    for name, privileges in grants.items():
        missing = [privilege for privilege in privileges if (name, privilege) not in present]
        if missing:
            statements.append(Statement(f"GRANT {', '.join(missing)} ON DATABASE {identifier(database)} TO {identifier(name)}"))
    return statements


def plan_inside(database: Mapping[str, Any], now: Inside) -> list[Statement]:
    """Return the statements that run in one database: extensions, its schema, privileges on what is there and what will be."""
    owner = database["owner"]
    statements = [
        Statement(f"CREATE EXTENSION IF NOT EXISTS {identifier(name)}") for name in database["extensions"] if name not in now.extensions
    ]
    acl = now.schema_acl
    # pg_database_owner stands for whoever owns the database.
    if now.schema_owner not in (owner, "pg_database_owner"):
        statements.append(Statement(f"ALTER SCHEMA public OWNER TO {identifier(owner)}"))
    if any(name == "PUBLIC" for name, dummy in acl):
        statements.append(Statement("REVOKE ALL ON SCHEMA public FROM PUBLIC"))
    for kind in ("readwrite", "readonly"):
        for name in database[kind]:
            if (name, "USAGE") not in acl:
                statements.append(Statement(f"GRANT USAGE ON SCHEMA public TO {identifier(name)}"))
            for code, privileges in GRANTS[kind].items():
                statements += objects(owner, name, code, privileges, now)
    return statements


def objects(owner: str, name: str, code: str, privileges: Sequence[str], now: Inside) -> list[Statement]:
    statements = []
    future = [privilege for privilege in privileges if (code, name, privilege) not in now.default_acl]
    if future:
        statements.append(
            Statement(
                f"ALTER DEFAULT PRIVILEGES FOR ROLE {identifier(owner)} IN SCHEMA public "
                f"GRANT {', '.join(future)} ON {PLURAL[code]} TO {identifier(name)}"
            )
        )
    total = now.totals.get(code, 0)
    present = [privilege for privilege in privileges if now.granted.get((code, name, privilege), 0) < total]
    if total and present:
        statements.append(Statement(f"GRANT {', '.join(present)} ON ALL {PLURAL[code]} IN SCHEMA public TO {identifier(name)}"))
    return statements
