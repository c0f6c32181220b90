#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: pg_read_throughput
short_description: Count the reads that PostgreSQL's servers answer through a pool
version_added: 0.1.0
description:
  - Lets several clients read one row by its key, again and again, and counts the answers by the server that gave them.
  - The row is one of the catalogue and always in memory, so this is the cost of the way there and back. An application's own
    queries cost more.
  - Writes nothing. It takes what processor time it gets, on this host and on the servers, for O(seconds).
options:
  database:
    description: Database, as the pooler names it.
    type: str
    required: true
  user:
    description: User to log in as.
    type: str
    required: true
  password:
    description: The user's password.
    type: str
    required: true
  host:
    description: Address of the pooler or server.
    type: str
    default: 127.0.0.1
  port:
    description: Its port.
    type: int
    default: 6432
  clients:
    description: Clients that read at the same time.
    type: int
    default: 8
  seconds:
    description: For how long.
    type: int
    default: 10
attributes:
  check_mode:
    description: Reads for one second only.
    support: full
  diff_mode:
    description: There is nothing to show.
    support: none
  platform:
    description: Target platforms.
    platforms: posix
    support: full
author:
  - The uptier.platform authors (@uptier)
"""

EXAMPLES = r"""
- name: Count the reads of the shop's read-only pool
  uptier.platform.pg_read_throughput:
    database: shop_ro
    user: shop_ro
    password: "{{ vault_postgresql_user_passwords.shop_ro }}"
  register: __reads
"""

RETURN = r"""
servers:
  description: Reads a second by address of the server that answered; V(local) where it is reached through a socket.
  returned: success
  type: dict
  sample: {"10.0.0.32": 2310.4}
reads_per_second:
  description: All of them together.
  returned: success
  type: float
  sample: 2310.4
reason:
  description: Machine-readable cause of a failure.
  returned: on failure
  type: str
  sample: refused
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.uptier.platform.plugins.module_utils.postgresql.read_throughput_apply import count


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "database": {"type": "str", "required": True},
            "user": {"type": "str", "required": True},
            "password": {"type": "str", "required": True, "no_log": True},
            "host": {"type": "str", "default": "127.0.0.1"},
            "port": {"type": "int", "default": 6432},
            "clients": {"type": "int", "default": 8},
            "seconds": {"type": "int", "default": 10},
        },
        supports_check_mode=True,
    )
    given = module.params
    for name in ("clients", "seconds"):
        if given[name] < 1:
            module.fail_json(msg=f"{name} is {given[name]}; it has to be 1 at least.", reason="bad_argument")
    try:
        answers, taken, problem = count(given, 1 if module.check_mode else given["seconds"])
    except FileNotFoundError as error:
        module.fail_json(msg=f"There is no {error.filename} on this host. Install Debian's package postgresql-client.", reason="no_client")
    where = f"{given['user']}@{given['host']}:{given['port']}/{given['database']}"
    if problem:
        module.fail_json(msg=f"A client of {where} was refused: {problem}", reason="refused")
    servers = {server: round(number / taken, 1) for server, number in sorted(answers.items())}
    module.exit_json(changed=False, servers=servers, reads_per_second=round(sum(answers.values()) / taken, 1))


if __name__ == "__main__":
    main()
