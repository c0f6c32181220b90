#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: pg_member
short_description: Restart or rebuild one member of a PostgreSQL cluster
version_added: 0.1.0
description:
  - Works on the member whose Patroni O(url) is, and ends when it leads or streams again
    and, in synchronous mode, one of the standbys is the synchronous one.
  - Never restarts or rebuilds a leader that others could relieve; use M(uptier.platform.pg_failover) first.
  - Refuses while another member is not well, so that a rolling procedure stops at the first member that does not come back.
extends_documentation_fragment: [uptier.platform.patroni, uptier.platform.patroni.login]
options:
  state:
    description:
      - V(restarted) restarts PostgreSQL, not Patroni.
      - V(reinitialized) throws the member's data away and copies it anew from the repository or the leader.
    type: str
    choices: [restarted, reinitialized]
    required: true
  pending_only:
    description: Restart only where a setting or a newer minor release of its programs waits for it. A leader is left alone then.
    type: bool
    default: true
  programs:
    description: Directory on this host with the programs of each major release, as Debian has them.
    type: path
    default: /usr/lib/postgresql
attributes:
  check_mode:
    description: Reports what would be done.
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
- name: Restart this standby where a setting waits for it
  uptier.platform.pg_member:
    state: restarted
    member: db2
    url: https://10.0.0.32:8008
    ca: /etc/uptier/pki/ca.crt
    cert: /etc/uptier/pki/host.crt
    key: /etc/uptier/pki/host.key
    username: patroni
    password: "{{ vault_patroni_api_password }}"
"""

RETURN = r"""
role:
  description: Role of the member before, leader or another.
  returned: success
  type: str
  sample: sync_standby
pending:
  description: Whether a restart is still waited for, which is the case for a leader that has to be relieved first.
  returned: success
  type: bool
  sample: false
message:
  description: What was done, or why nothing was.
  returned: success
  type: str
  sample: db2 was restarted and streams
reason:
  description: Machine-readable cause of a refusal or failure.
  returned: on failure
  type: str
  sample: leads
"""

from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.uptier.platform.plugins.module_utils.postgresql.errors import PostgresqlError
from ansible_collections.uptier.platform.plugins.module_utils.postgresql.member import newer_program, plan
from ansible_collections.uptier.platform.plugins.module_utils.postgresql.patroni import info
from ansible_collections.uptier.platform.plugins.module_utils.postgresql.patroni_client import (
    CONNECTION_SPEC,
    Client,
    wait_until_rebuilt,
    wait_until_well,
)


def installed(module: AnsibleModule, running: int) -> str:
    """Return what the programs of the running server's major release say of their version; nothing where there are none."""
    program = Path(module.params["programs"], str(running // 10000), "bin", "postgres")
    return module.run_command([str(program), "--version"], check_rc=True)[1].strip() if program.exists() else ""


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            **CONNECTION_SPEC,
            "state": {"type": "str", "choices": ["restarted", "reinitialized"], "required": True},
            "member": {"type": "str"},
            "pending_only": {"type": "bool", "default": True},
            "programs": {"type": "path", "default": "/usr/lib/postgresql"},
            "timeout": {"type": "int", "default": 300},
        },
        supports_check_mode=True,
    )
    given = module.params
    client = Client(given)
    try:
        cluster = info(client.call("/cluster"))
        running = int(client.call("/patroni").get("server_version", 0))
        newer = newer_program(running, installed(module, running))
        if newer:
            cluster["pending_restart"].setdefault(given["member"], {})["program"] = newer
        todo = plan(cluster, given["member"], given["state"], given["pending_only"])
        if todo.action and not module.check_mode:
            if todo.action == "restart":
                client.call("/restart", "POST", {}, timeout=given["timeout"])
                wait_until_well(client, given["member"], given["timeout"])
            else:
                client.call("/reinitialize", "POST", {"force": True})
                wait_until_rebuilt(client, given["member"], given["timeout"])
    except PostgresqlError as error:
        module.fail_json(msg=str(error), reason=error.reason)
    pending = not todo.action and given["member"] in cluster["pending_restart"]
    module.exit_json(changed=bool(todo.action), role=todo.role, pending=pending, message=todo.message)


if __name__ == "__main__":
    main()
