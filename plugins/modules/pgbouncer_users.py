#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: pgbouncer_users
short_description: Keep the users of a host's pools, and change their passwords while clients go on
version_added: 0.1.0
description:
  - Writes PgBouncer's file of users, readable for PgBouncer only, and has PgBouncer read it. No connection is closed by that.
  - Beside it, in C(hba.conf), it writes who may open what. The users of a database may open those of O(databases) that lead to it, and
    O(others) the console.
  - Each user stands there twice, under its own name and under one that goes with its password
    (P(uptier.platform.pool_user#filter)). Under the second one clients get in with the former password and with the new one.
  - A password that the server does not have yet is not shown to it by V(present); RV(to_change) names its user. Then V(followed) on all
    hosts waits, V(altered) on one of them has the server take the new password, by the role itself with the former one, and each host
    shows the new one from that moment on. Meanwhile each pool keeps a connection open, so that it refuses no client.
  - Each step can be repeated, and be the last one; whoever comes next goes on from there.
options:
  state:
    description:
      - V(present) writes the file as far as that interrupts nobody.
      - V(followed) shows the server the new passwords as soon as it takes them, for at most O(timeout).
      - V(altered) changes them at the server, where it has those that the file holds.
      - V(retired) lets nobody in any longer who shows a former password.
      - V(reread) writes nothing and has PgBouncer read all its files, where it runs. Each pool keeps a connection until it has logged in anew.
    type: str
    choices: [present, followed, altered, retired, reread]
    default: present
  create:
    description: Write the file where there is none, and also where the server takes neither password. Only with V(present).
    type: bool
    default: true
  path:
    description: The file.
    type: path
    default: /etc/pgbouncer/userlist.txt
  group:
    description: System group as which PgBouncer runs.
    type: str
    default: postgres
  users:
    description: Passwords of the users of the database, by name.
    type: dict
    default: {}
  others:
    description: Passwords of those who may use PgBouncer's console, by name.
    type: dict
    default: {}
  databases:
    description: The pools.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: Name of the pool.
        type: str
        required: true
      database:
        description: Database that it leads to.
        type: str
        required: true
      user:
        description: User as which it logs in.
        type: str
        required: true
      read_only:
        description: Whether it leads to O(replicas).
        type: bool
        default: false
      size:
        description: Connections that it may have.
        type: int
        default: 2
  leader:
    description: Where the server takes writes. Not needed with V(retired) and V(reread).
    type: dict
    default: {host: "", port: 5432}
    suboptions:
      host:
        description: Name of the server, as its certificate has it.
        type: str
        required: true
      port:
        description: Its port.
        type: int
        required: true
  replicas:
    description: Where the server is read from. Without it, where it takes writes.
    type: dict
    suboptions:
      host:
        description: Name of the server, as its certificate has it.
        type: str
        required: true
      port:
        description: Its port.
        type: int
        required: true
  listen:
    description: Where PgBouncer listens.
    type: dict
    required: true
    suboptions:
      host:
        description: Its address.
        type: str
        default: 127.0.0.1
      port:
        description: Its port.
        type: int
        required: true
  socket:
    description: Directory of PgBouncer's socket.
    type: path
    default: /run/postgresql
  user:
    description: System user as which PgBouncer runs, who may use its console.
    type: str
    default: postgres
  ca:
    description: File with the authority that the server is verified against.
    type: path
    default: /etc/uptier/pki/ca.crt
  timeout:
    description: Seconds for which V(followed) waits.
    type: int
    default: 90
attributes:
  check_mode:
    description: Says what would be written and whose passwords would be changed.
    support: full
  diff_mode:
    description: There is nothing to show but passwords.
    support: none
  platform:
    description: Target platforms.
    platforms: posix
    support: full
seealso:
  - module: uptier.platform.pg_objects
author:
  - The uptier.platform authors (@uptier)
"""

EXAMPLES = r"""
- name: Users of the pools
  uptier.platform.pgbouncer_users:
    users: "{{ vault_postgresql_user_passwords }}"
    others: {platform_admin: "{{ vault_pgbouncer_admin_password }}"}
    databases:
      - {name: shop, database: shop, user: shop, size: 20}
    leader: {host: postgres-cluster.internal, port: 5000}
    listen: {port: 6432}
  register: pools
"""

RETURN = r"""
to_change:
  description: Users whose new password has to be taken by the server first.
  returned: with O(state=present)
  type: list
  elements: str
  sample: [shop]
done:
  description: Users whose password was changed at the server, or is shown to it from now on.
  returned: with O(state=altered) and O(state=followed)
  type: list
  elements: str
  sample: [shop]
reason:
  description: Machine-readable cause of a failure.
  returned: on failure
  type: str
  sample: reload_failed
"""

import grp
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.uptier.platform.plugins.module_utils.postgresql.errors import PostgresqlError
from ansible_collections.uptier.platform.plugins.module_utils.postgresql.pool_users_apply import Database, Pools
from ansible_collections.uptier.platform.plugins.module_utils.postgresql.psql import newest_psql

UNIT = "pgbouncer.service"


def reloaded(module: AnsibleModule) -> None:
    """Have PgBouncer read the file, where it runs."""
    if module.run_command(["systemctl", "is-active", "--quiet", UNIT])[0]:
        return
    # Not by a signal, which says nothing about when it is followed: what comes next relies on it.
    port = str(module.params["listen"]["port"])
    console = [newest_psql(), "-X", "-h", module.params["socket"], "-p", port, "-U", "pgbouncer", "-d", "pgbouncer", "-c", "RELOAD"]
    code, out, err = module.run_command(["runuser", "-u", module.params["user"], "--", *console], cwd="/")
    if code:
        text = f"PgBouncer does not reread its files: {(err or out).strip().rstrip('.')}. See: journalctl -u pgbouncer -n 50"
        raise PostgresqlError("reload_failed", text)


def place(given: dict[str, Any]) -> tuple[str, int]:
    return given["host"], given["port"]


def pools(module: AnsibleModule) -> Pools:
    given = module.params
    try:
        with open(given["ca"], encoding="utf-8") as handle:
            authority = handle.read()
    except OSError:
        authority = ""  # there before PgBouncer ever connects
    try:
        gid = grp.getgrnam(given["group"]).gr_gid
    except KeyError:
        gid = -1  # the package makes it; check mode comes before
    return Pools(
        given["path"],
        {name: str(word) for name, word in given["users"].items()},
        {name: str(word) for name, word in given["others"].items()},
        [Database(**one) for one in given["databases"]],
        place(given["leader"]),
        place(given["replicas"] or given["leader"]),
        place(given["listen"]),
        authority,
        lambda: reloaded(module),
        gid=gid,
        check=module.check_mode,
    )


def act(module: AnsibleModule, found: Pools) -> dict[str, Any]:
    state = module.params["state"]
    if state == "present":
        changed, waiting = found.present(module.params["create"])
        return {"changed": changed, "to_change": waiting}
    if state == "retired":
        return {"changed": found.retire()}
    if module.check_mode:
        return {"changed": True, "done": []}
    if state == "reread":
        found.reread()
        return {"changed": True}
    done = found.alter() if state == "altered" else found.follow(module.params["timeout"])
    return {"changed": bool(done), "done": done}


def main() -> None:
    server = {"host": {"type": "str", "required": True}, "port": {"type": "int", "required": True}}
    module = AnsibleModule(
        argument_spec={
            "state": {"type": "str", "choices": ["present", "followed", "altered", "retired", "reread"], "default": "present"},
            "create": {"type": "bool", "default": True},
            "path": {"type": "path", "default": "/etc/pgbouncer/userlist.txt"},
            "group": {"type": "str", "default": "postgres"},
            "users": {"type": "dict", "default": {}, "no_log": True},
            "others": {"type": "dict", "default": {}, "no_log": True},
            "databases": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": {
                    "name": {"type": "str", "required": True},
                    "database": {"type": "str", "required": True},
                    "user": {"type": "str", "required": True},
                    "read_only": {"type": "bool", "default": False},
                    "size": {"type": "int", "default": 2},
                },
            },
            "leader": {"type": "dict", "default": {"host": "", "port": 5432}, "options": server},
            "replicas": {"type": "dict", "options": server},
            "listen": {
                "type": "dict",
                "required": True,
                "options": {"host": {"type": "str", "default": "127.0.0.1"}, "port": {"type": "int", "required": True}},
            },
            "socket": {"type": "path", "default": "/run/postgresql"},
            "user": {"type": "str", "default": "postgres"},
            "ca": {"type": "path", "default": "/etc/uptier/pki/ca.crt"},
            "timeout": {"type": "int", "default": 90},
        },
        supports_check_mode=True,
    )
    try:
        module.exit_json(**act(module, pools(module)))
    except PostgresqlError as error:
        module.fail_json(msg=str(error), reason=error.reason)


if __name__ == "__main__":
    main()
