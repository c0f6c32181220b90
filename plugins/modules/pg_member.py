#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: pg_member
short_description: Restart or rebuild one member of a PostgreSQL cluster
version_added: 0.1.0
description:
  - Works on the member whose Patroni O(url) is, and ends when it leads or streams again.
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
    description: Restart only where a setting waits for it. A leader is left alone then.
    type: bool
    default: true
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

import time

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.uptier.platform.plugins.module_utils.patroni import CONNECTION_SPEC, Client, PatroniError, info
from ansible_collections.uptier.platform.plugins.module_utils.pg_member import Refusal, plan, well


def rebuilt(client: Client, member: str, timeout: int) -> None:
    """Wait until the member left its old data (it stops streaming), then until it streams again."""
    deadline = time.monotonic() + timeout
    left = False
    seen: dict = {}
    while time.monotonic() < deadline:
        try:
            seen = next((entry for entry in info(client.call("/cluster"))["members"] if entry["name"] == member), {})
        except PatroniError:
            seen = {}  # a member that is being rebuilt may not answer for a moment
        left = left or seen.get("state") not in ("streaming", "running")
        if left and seen.get("state") == "streaming":
            return
        time.sleep(1)
    raise PatroniError(
        "not_serving",
        f"{member} does not stream {timeout} s after its rebuild began (it is {seen.get('state', 'silent')}). Look at `journalctl -u patroni` "
        "there. The copy may simply need longer: run this again with a longer timeout.",
    )


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            **CONNECTION_SPEC,
            "state": {"type": "str", "choices": ["restarted", "reinitialized"], "required": True},
            "member": {"type": "str"},
            "pending_only": {"type": "bool", "default": True},
            "timeout": {"type": "int", "default": 300},
        },
        supports_check_mode=True,
    )
    given = module.params
    client = Client(given)
    try:
        cluster = info(client.call("/cluster"))
        todo = plan(cluster, given["member"], given["state"], given["pending_only"])
        if todo.action and not module.check_mode:
            if todo.action == "restart":
                client.call("/restart", "POST", {}, timeout=given["timeout"])
                well(client, given["member"], given["timeout"])
            else:
                client.call("/reinitialize", "POST", {"force": True})
                rebuilt(client, given["member"], given["timeout"])
    except (PatroniError, Refusal) as error:
        module.fail_json(msg=str(error), reason=error.reason)
    module.exit_json(changed=bool(todo.action), role=todo.role, message=todo.message)


if __name__ == "__main__":
    main()
