#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: pg_schema
short_description: Indexes, partitions and scripts of PostgreSQL databases, while applications read and write
version_added: 0.1.0
description:
  - Builds indexes with C(CONCURRENTLY), outside a transaction. An invalid index that an interrupted build has left is
    removed and rebuilt. An index that differs from the declared one serves until its successor is complete; then their
    names are exchanged and the old one is dropped.
  - On a partitioned table, where PostgreSQL refuses C(CONCURRENTLY), an empty index of the table is made first, then the
    part of each partition concurrently, which is attached; with the last part the index becomes valid. A later run
    goes on where an earlier one was interrupted.
  - Whether an index is as declared is decided by PostgreSQL. The module has it describe the declared index, made on an
    empty copy of the table in a transaction that is taken back, and compares that with the description of the index that exists.
  - Makes partitions by time ahead, takes away those that have expired, or makes partitions by hash. A partition is made as an
    empty table and then attached, which keeps neither readers nor writers of the table waiting.
  - May run on every member at once. Only the member that leads at this moment acts, as the server itself says; the others
    report that they follow and change nothing. Of several runs at once, one acts in a database and the others wait for it.
  - A table or database that is not there (yet), and a plain table for which partitions are declared, are skipped with a
    notice. Other problems fail the task after everything else was done.
  - Speaks PostgreSQL's protocol through the local socket as the operating system's user O(user), or, with O(server), over TLS with a
    server elsewhere, where the user has to be a member of the tables' owners. What changes a table runs with
    the rights of the table's owner, who also owns what is made.
options:
  indexes:
    description: Indexes to have.
    type: list
    elements: dict
    default: []
    suboptions:
      database: &database
        description: Database in which the table is.
        type: str
        required: true
      schema: &schema
        description: Schema of the table, and so of its indexes and partitions.
        type: str
        default: public
      table: &table
        description: Name of the table as it is stored; case-sensitive.
        type: str
        required: true
      name:
        description: Name of the index.
        type: str
        required: true
      columns:
        description: Names of the columns. Required unless O(indexes[].expressions) is given or O(indexes[].state=absent).
        type: list
        elements: str
        default: []
      expressions:
        description:
          - Used in place of O(indexes[].columns) for anything that is more than a name. Elements as they stand in
            C(CREATE INDEX), for example C(lower(email)), C(created_at DESC), C((a + b)) or C(name gin_trgm_ops).
        type: list
        elements: str
        default: []
      method:
        description: Access method.
        type: str
        choices: [btree, hash, gin, gist, brin]
        default: btree
      unique:
        description: Whether values may occur once only. The key of a partitioned table must be among the columns then.
        type: bool
        default: false
      where:
        description: Condition of the rows that the index holds, as SQL. Empty for all.
        type: str
        default: ""
      include:
        description: Further columns that the index holds without being searched by them.
        type: list
        elements: str
        default: []
      state:
        description: Whether the index should exist.
        type: str
        choices: [present, absent]
        default: present
  partitions:
    description: Partitioned tables whose partitions are looked after. The tables themselves are made by migrations.
    type: list
    elements: dict
    default: []
    suboptions:
      database: *database
      schema: *schema
      table: *table
      interval:
        description:
          - Time that one partition holds. The table is partitioned by range of one column of type C(date), C(timestamp)
            or C(timestamptz). Boundaries are those of UTC; weeks begin on Monday.
          - Partitions are named C(TABLE_2025_10_31), C(TABLE_2025_w44), C(TABLE_2025_10) or C(TABLE_2025).
        type: str
        choices: [day, week, month, year]
      premake:
        description: Number of partitions to have after the current one.
        type: int
        default: 3
      retention:
        description: Number of intervals to keep before the current one; V(0) keeps all.
        type: int
        default: 0
      expire:
        description:
          - What becomes of a partition whose whole range is older. V(detach) leaves a table of its own, V(drop) deletes the rows.
        type: str
        choices: [detach, drop]
        default: detach
      default:
        description: Have a partition for rows that fit in no other. It is never removed.
        type: bool
        default: false
      modulus:
        description: Number of partitions of a table that is partitioned by hash, named C(TABLE_p0) and so on.
        type: int
  scripts:
    description: SQL that runs once in a database, and once more when it changes. Each in a transaction of its own.
    type: list
    elements: dict
    default: []
    suboptions:
      database:
        description: Database in which it runs.
        type: str
        required: true
      name:
        description: Name under which the database remembers that it ran, in the table C(uptier.scripts).
        type: str
        required: true
      sql:
        description:
          - The statements. It is shown nowhere. With O(server), where the user is not a superuser, the server may write them to its log.
        type: str
        required: true
      role:
        description: Role with whose rights it runs, and that owns what it makes. Empty for the superuser.
        type: str
        default: ""
  now:
    description: Date or moment from which partitions are counted, for tests; empty for the present.
    type: str
    default: ""
  lock_timeout:
    description:
      - Seconds for which a step waits for a strong lock before it steps back, so that no queue forms behind it.
      - Steps that keep nobody waiting (C(CONCURRENTLY)) wait for O(wait_timeout).
    type: float
    default: 2
  lock_retries:
    description: How many times such a step is tried again.
    type: int
    default: 10
  wait_timeout:
    description: Seconds to wait for old transactions, for a build by others and for another run.
    type: int
    default: 600
  socket:
    description: Directory of the server's socket.
    type: path
    default: /run/postgresql
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
    description:
      - Reads the same catalogues and reports the same steps. What a script would make is not foreseen.
    support: full
  diff_mode:
    description: Shows the steps.
    support: full
  platform:
    description: Target platforms.
    platforms: posix
    support: full
notes:
  - PostgreSQL 15 or newer is needed.
author:
  - The uptier.platform authors (@uptier)
"""

EXAMPLES = r"""
- name: Service | Indexes and partitions
  uptier.platform.pg_schema:
    indexes:
      - database: cards
        table: user_cards
        name: idx_user_cards_user_id
        columns: [user_id]
        where: is_refunded = false
      - {database: cards, table: users, name: idx_users_email, expressions: [lower(email)], unique: true}
    partitions:
      - {database: cards, table: transactions, interval: month, premake: 3, retention: 24, expire: detach}
      - {database: cards, table: wallets, modulus: 8}
"""

RETURN = r"""
leads:
  description: This member leads and was the one to act.
  returned: success
  type: bool
  sample: true
statements:
  description: Steps that were done, or would be in check mode. Statements of one transaction are in one entry.
  returned: always, once the server was reached
  type: list
  elements: str
  sample:
    - CREATE INDEX CONCURRENTLY "idx_user_cards_user_id" ON "public"."user_cards" USING btree ("user_id") WHERE is_refunded = false
notices:
  description: What was skipped and why, and default partitions that hold rows.
  returned: always, once the server was reached
  type: list
  elements: str
  sample: ["Skipped index idx_a of public.a in cards: there is no table public.a (yet)."]
problems:
  description: What could not be done, with a machine-readable cause each.
  returned: on failure
  type: list
  elements: dict
  contains:
    reason:
      description: Machine-readable cause.
      returned: always
      type: str
      sample: locked
    text:
      description: What was seen, where, and what to do.
      returned: always
      type: str
      sample: "index idx_a of public.a in cards: no lock after 11 attempts of 2 s each."
reason:
  description: Machine-readable cause of a failure, that of the first problem.
  returned: on failure
  type: str
  sample: locked
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.uptier.platform.plugins.module_utils.postgresql.remote import ARGUMENTS, Remote
from ansible_collections.uptier.platform.plugins.module_utils.postgresql.schema import IndexSpec, PartitionSpec, ScriptSpec, parse_now
from ansible_collections.uptier.platform.plugins.module_utils.postgresql.schema_apply import Settings, bring_about, leads
from ansible_collections.uptier.platform.plugins.module_utils.postgresql.session import SessionError, SqlError

PLACE = {
    "database": {"type": "str", "required": True},
    "schema": {"type": "str", "default": "public"},
    "table": {"type": "str", "required": True},
}
INDEX = {
    "name": {"type": "str", "required": True},
    **{key: {"type": "list", "elements": "str", "default": []} for key in ("columns", "expressions", "include")},
    "method": {"type": "str", "choices": ["btree", "hash", "gin", "gist", "brin"], "default": "btree"},
    "unique": {"type": "bool", "default": False},
    "where": {"type": "str", "default": ""},
    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
}
PARTITIONS = {
    "interval": {"type": "str", "choices": ["day", "week", "month", "year"]},
    "premake": {"type": "int", "default": 3},
    "retention": {"type": "int", "default": 0},
    "expire": {"type": "str", "choices": ["detach", "drop"], "default": "detach"},
    "default": {"type": "bool", "default": False},
    "modulus": {"type": "int"},
}
SCRIPT = {
    "database": {"type": "str", "required": True},
    "name": {"type": "str", "required": True},
    "sql": {"type": "str", "required": True, "no_log": True},
    "role": {"type": "str", "default": ""},
}


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "indexes": {"type": "list", "elements": "dict", "default": [], "options": {**PLACE, **INDEX}},
            "partitions": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": {**PLACE, **PARTITIONS},
                "required_one_of": [("interval", "modulus")],
                "mutually_exclusive": [("interval", "modulus")],
            },
            "scripts": {"type": "list", "elements": "dict", "default": [], "options": SCRIPT},
            "now": {"type": "str", "default": ""},
            "lock_timeout": {"type": "float", "default": 2},
            "lock_retries": {"type": "int", "default": 10},
            "wait_timeout": {"type": "int", "default": 600},
            "socket": {"type": "path", "default": "/run/postgresql"},
            "port": {"type": "int", "default": 5432},
            "user": {"type": "str", "default": "postgres"},
            "server": ARGUMENTS,
        },
        supports_check_mode=True,
    )
    given = module.params
    settings = Settings(
        given["socket"], given["port"], given["user"], given["lock_timeout"], given["lock_retries"], max(given["wait_timeout"], 1)
    )
    where = "on this host"
    if given["server"]:
        remote = Remote(**given["server"])
        settings.connect, settings.database = remote.session, remote.database
        where = f"at {remote.label}"
    try:
        scripts = [ScriptSpec.read(entry) for entry in given["scripts"]]
        indexes = [IndexSpec.read(entry) for entry in given["indexes"]]
        partitions = [PartitionSpec.read(entry) for entry in given["partitions"]]
        now = parse_now(given["now"])
    except ValueError as error:
        module.fail_json(msg=str(error), reason="bad_declaration")
    try:
        if not leads(settings):
            module.exit_json(changed=False, leads=False, statements=[], notices=[], msg="This member follows; the leader acts.")
        outcome = bring_about(settings, now, module.check_mode, scripts, indexes, partitions)
    except SessionError as error:
        module.fail_json(msg=f"PostgreSQL {where}: {error}", reason=error.reason)
    except SqlError as error:
        module.fail_json(msg=f"PostgreSQL {where} refused: {error}", reason="sql_failed")
    for notice in outcome.notices:
        module.warn(notice)
    diff = {"before": "", "after": "".join(f"{step};\n" for step in outcome.steps)}
    result = {"changed": bool(outcome.steps), "statements": outcome.steps, "notices": outcome.notices, "diff": diff}
    if outcome.problems:
        problems = [{"reason": reason, "text": text} for reason, text in outcome.problems]
        text = "\n".join(entry["text"] for entry in problems)
        module.fail_json(msg=f"Some changes failed: {text}", reason=problems[0]["reason"], problems=problems, **result)
    module.exit_json(leads=True, **result)


if __name__ == "__main__":
    main()
