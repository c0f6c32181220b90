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
  - Speaks to the server through its local socket as the operating system's user O(user), with statements on standard input.
    Passwords become SCRAM verifiers before they reach SQL, so that no clear password is seen by the server, its log or
    the list of processes; a stored verifier of the same password is recognised and left alone.
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
  maintenance:
    description: Databases of the system that PUBLIC must not use. The keys are their names, the values lists of roles that may connect.
    type: dict
    default: {}
  extensions:
    description: Extensions to have in the database C(postgres).
    type: list
    elements: str
    default: []
  psql:
    description: Path of psql.
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
  sample: sql_failed
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.uptier.platform.plugins.module_utils.pg_objects import (
    INSIDE_QUERY,
    SERVER_QUERY,
    Inside,
    database_roles,
    plan_access,
    plan_databases,
    plan_inside,
    plan_roles,
)
from ansible_collections.uptier.platform.plugins.module_utils.psql import Server
from ansible_collections.uptier.platform.plugins.module_utils.sql import literal

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


def main():
    module = AnsibleModule(
        argument_spec={
            "databases": {"type": "list", "elements": "dict", "default": [], "options": DATABASE_OPTIONS},
            "roles": {"type": "list", "elements": "dict", "default": [], "options": ROLE_OPTIONS},
            "passwords": {"type": "dict", "default": {}, "no_log": True},
            "maintenance": {"type": "dict", "default": {}},
            "extensions": {"type": "list", "elements": "str", "default": []},
            "psql": {"type": "path", "default": "/usr/bin/psql"},
            "port": {"type": "int", "default": 5432},
            "user": {"type": "str", "default": "postgres"},
        },
        supports_check_mode=True,
    )
    parameters = module.params
    server = Server(module)
    if server.run("postgres", "SELECT pg_is_in_recovery()").strip() != "f":
        module.exit_json(changed=False, leads=False, statements=[], msg="This member follows; the leader acts.")
    databases = parameters["databases"]
    seen = server.read("postgres", SERVER_QUERY)
    roles = plan_roles(parameters["roles"] + database_roles(databases), parameters["passwords"], seen["roles"])
    created = plan_databases(databases, seen["databases"])
    access = plan_access(databases, parameters["maintenance"], seen["databases"])
    if not module.check_mode:
        server.apply("postgres", roles)
        server.apply("postgres", created, single=False)
        server.apply("postgres", access)
    statements = [*roles, *created, *access]
    system = {"name": "postgres", "owner": "pg_database_owner", "readwrite": [], "readonly": [], "extensions": parameters["extensions"]}
    for database in [system, *databases]:
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
    module.exit_json(changed=bool(shown), leads=True, statements=shown, diff=diff)


if __name__ == "__main__":
    main()
