#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: pg_objects
short_description: Roles, databases, privileges and extensions of a PostgreSQL cluster in one call
version_added: 0.1.0
description:
  - Brings roles with their passwords, databases with an owner and users that write or read, default privileges and
    extensions to the declared state.
  - May run on every member at once. Only the member that leads at this moment acts, as the server itself says; the others
    report that they follow and change nothing.
  - Speaks to the server through its local socket as the operating system's user O(user), with statements on standard input,
    or, with O(server), to one elsewhere over TLS, for which nothing has to be installed.
    Passwords become SCRAM verifiers before they reach SQL, so that no clear password is seen by the server, its log or
    the list of processes; a stored verifier of the same password is recognised and left alone.
  - With O(server) the user need not be a superuser. It needs C(CREATEROLE) and C(CREATEDB), becomes a member of the roles that own
    databases, and finds out whether a role has its password by logging in as that role.
  - Removes nothing but privileges of PUBLIC on the declared databases and their schema public.
options:
  databases:
    description: Databases with their users.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: Name of the database.
        type: str
        required: true
      owner:
        description: Role that owns the database and its objects; migrations use it.
        type: str
        required: true
      readwrite:
        description: Roles that read and write what the owner makes.
        type: list
        elements: str
        default: []
      readonly:
        description: Roles that read what the owner makes.
        type: list
        elements: str
        default: []
      connect:
        description: Further roles that may connect.
        type: list
        elements: str
        default: []
      extensions:
        description: Extensions to have in the database.
        type: list
        elements: str
        default: []
  roles:
    description: Further roles, for example for replication and monitoring.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: Name of the role.
        type: str
        required: true
      login:
        description: The role may log in.
        type: bool
        default: true
      superuser:
        description: The role is a superuser.
        type: bool
        default: false
      replication:
        description: The role may replicate.
        type: bool
        default: false
      createdb:
        description: The role may create databases.
        type: bool
        default: false
      createrole:
        description: The role may create roles.
        type: bool
        default: false
      connection_limit:
        description: Number of connections; V(-1) for no limit.
        type: int
        default: -1
      member_of:
        description: Roles whose member it is.
        type: list
        elements: str
        default: []
      settings:
        description: Settings of its sessions. The keys are PostgreSQL's own names.
        type: dict
        default: {}
  passwords:
    description: Passwords of roles. The keys are names of roles.
    type: dict
    default: {}
  elsewhere:
    description: Hosts that log in with the password of a role and would not learn of another one in this run. The keys are names of roles, the
      values lists of hosts. A password that such a role has already is not changed then; the module fails before it changes anything.
    type: dict
    default: {}
  maintenance:
    description: Databases of the system that PUBLIC must not use. The keys are their names, the values lists of roles that may connect.
    type: dict
    default: {}
  extensions:
    description: Extensions to have in the database C(postgres), or that of O(server).
    type: list
    elements: str
    default: []
  psql:
    description: Not used. The module speaks to the server itself; tasks that give it go on working.
    type: path
    default: /usr/bin/psql
  port:
    description: Port of the server.
    type: int
    default: 5432
  user:
    description: Operating system's user that the server takes for its superuser.
    type: str
    default: postgres
extends_documentation_fragment:
  - uptier.platform.pg_server
attributes:
  check_mode:
    description: Reads the same catalogues and reports the same statements.
    support: full
  diff_mode:
    description: Shows the statements, without verifiers.
    support: full
  platform:
    description: Target platforms.
    platforms: posix
    support: full
author:
  - The uptier.platform authors (@uptier)
"""

EXAMPLES = r"""
- name: Service | Databases and their users
  uptier.platform.pg_objects:
    databases:
      - {name: shop, owner: shop_owner, readwrite: [shop], readonly: [shop_ro], extensions: [pg_trgm]}
    roles:
      - {name: monitor, member_of: [pg_monitor]}
    passwords: "{{ vault_postgresql_user_passwords }}"
    maintenance: {postgres: [monitor]}

- name: The same at a provider
  uptier.platform.pg_objects:
    databases:
      - {name: shop, owner: shop_owner, readwrite: [shop], readonly: [shop_ro]}
    passwords: "{{ vault_postgresql_user_passwords }}"
    server:
      host: db.provider.example
      user: admin
      password: "{{ vault_postgresql_managed_password }}"
      ca: "{{ lookup('ansible.builtin.file', inventory_dir ~ '/provider-ca.crt') }}"
"""

RETURN = r"""
leads:
  description: This member leads and was the one to act.
  returned: success
  type: bool
  sample: true
statements:
  description: Statements that were run, or would be in check mode; without verifiers.
  returned: success
  type: list
  elements: str
  sample: ['CREATE DATABASE "shop" OWNER "shop_owner"']
reason:
  description: Machine-readable cause of a failure.
  returned: on failure
  type: str
  sample: hosts_left_out
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.uptier.platform.plugins.module_utils.postgresql.errors import PostgresqlError
from ansible_collections.uptier.platform.plugins.module_utils.postgresql.objects import (
    INSIDE_QUERY,
    SELF_QUERY,
    Actor,
    Inside,
    database_roles,
    plan_access,
    plan_databases,
    plan_inside,
    plan_memberships,
    plan_roles,
    refuse_left_out,
)
from ansible_collections.uptier.platform.plugins.module_utils.postgresql.objects_apply import Server
from ansible_collections.uptier.platform.plugins.module_utils.postgresql.remote import ARGUMENTS, Remote
from ansible_collections.uptier.platform.plugins.module_utils.postgresql.sql import literal

DATABASE_OPTIONS = {
    "name": {"type": "str", "required": True},
    "owner": {"type": "str", "required": True},
    **{key: {"type": "list", "elements": "str", "default": []} for key in ("readwrite", "readonly", "connect", "extensions")},
}
ROLE_OPTIONS = {
    "name": {"type": "str", "required": True},
    "login": {"type": "bool", "default": True},
    **{key: {"type": "bool", "default": False} for key in ("superuser", "replication", "createdb", "createrole")},
    "connection_limit": {"type": "int", "default": -1},
    "member_of": {"type": "list", "elements": "str", "default": []},
    "settings": {"type": "dict", "default": {}},
}


def bring_about(module: AnsibleModule) -> dict[str, Any]:
    """Bring everything to what is declared, or say in check mode what would be done."""
    parameters = module.params
    remote = Remote(**parameters["server"]) if parameters["server"] else None
    server = Server.remote(remote) if remote else Server.local(parameters["port"], parameters["user"])
    home = remote.database if remote else "postgres"
    myself = server.read(home, SELF_QUERY)
    standby = myself.pop("standby")
    actor = Actor(**myself)
    databases, passwords = parameters["databases"], parameters["passwords"]
    wanted = parameters["roles"] + database_roles(databases)
    if standby:
        # It has the leader's passwords, and would itself go on with a new one that the leader does not take.
        if any(parameters["elsewhere"].values()):
            refuse_left_out(wanted, passwords, server.read(home, actor.query)["roles"], parameters["elsewhere"], actor)
        return {"changed": False, "leads": False, "statements": [], "msg": "This member follows; the leader acts."}
    seen = server.read(home, actor.query)
    accepted = []
    if remote and not actor.superuser:
        known = dict.fromkeys(role["name"] for role in wanted if role["name"] in seen["roles"] and passwords.get(role["name"]))
        accepted = [name for name in known if remote.accepts(name, passwords[name])]
    refuse_left_out(wanted, passwords, seen["roles"], parameters["elsewhere"], actor, accepted)
    roles = plan_roles(wanted, passwords, seen["roles"], actor, accepted)
    roles += plan_memberships(databases, seen["roles"], actor)
    created = plan_databases(databases, seen["databases"])
    access = plan_access(databases, parameters["maintenance"], seen["databases"])
    if not module.check_mode:
        server.apply(home, roles)
        server.apply(home, created, single=False)
        server.apply(home, access)
    statements = [*roles, *created, *access]
    system = {"name": home, "owner": "pg_database_owner", "readwrite": [], "readonly": [], "extensions": parameters["extensions"]}
    for database in [system, *databases] if system["extensions"] else databases:
        fresh = database["name"] not in seen["databases"] and module.check_mode
        query = INSIDE_QUERY % {"owner": literal(database["owner"])}
        inside = Inside() if fresh else Inside.read(server.read(database["name"], query))
        steps = plan_inside(database, inside)
        if database is system:
            steps = [step for step in steps if step.sql.startswith("CREATE EXTENSION")]
        if not module.check_mode:
            server.apply(database["name"], steps)
        statements += steps
    shown = [str(statement) for statement in statements]
    diff = {"before": "", "after": "".join(f"{text};\n" for text in shown)}
    return {"changed": bool(shown), "leads": True, "statements": shown, "diff": diff}


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "databases": {"type": "list", "elements": "dict", "default": [], "options": DATABASE_OPTIONS},
            "roles": {"type": "list", "elements": "dict", "default": [], "options": ROLE_OPTIONS},
            "passwords": {"type": "dict", "default": {}, "no_log": True},
            "elsewhere": {"type": "dict", "default": {}},
            "maintenance": {"type": "dict", "default": {}},
            "extensions": {"type": "list", "elements": "str", "default": []},
            "psql": {"type": "path", "default": "/usr/bin/psql"},
            "port": {"type": "int", "default": 5432},
            "user": {"type": "str", "default": "postgres"},
            "server": ARGUMENTS,
        },
        supports_check_mode=True,
    )
    try:
        result = bring_about(module)
    except PostgresqlError as error:
        module.fail_json(msg=str(error), reason=error.reason)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
