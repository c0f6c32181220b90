#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: patroni_config
short_description: Dynamic configuration of a Patroni cluster
version_added: 0.1.0
description:
  - Compares the cluster's dynamic configuration with O(config) and sends what differs in one PATCH.
  - Keys that O(config) does not name are left alone; a key with the value null is removed.
  - Waits first until the cluster has a leader and O(member) serves.
  - Never restarts PostgreSQL. Members that need a restart are named in a warning and in RV(pending_restart).
options:
  config:
    description: Wanted configuration, nested as Patroni keeps it. The keys are Patroni's own.
    type: dict
    required: true
extends_documentation_fragment: [uptier.platform.patroni, uptier.platform.patroni.login]
attributes:
  check_mode:
    description: Compares and reports the same patch without sending it.
    support: full
  diff_mode:
    description: Shows the keys that differ, before and after.
    support: full
  platform:
    description: Target platforms.
    platforms: posix
    support: full
author:
  - The uptier.platform authors (@uptier)
"""

EXAMPLES = r"""
- name: Service | Settings of the cluster
  uptier.platform.patroni_config:
    url: https://10.0.0.31:8008
    ca: /etc/uptier/pki/ca.crt
    cert: /etc/uptier/pki/host.crt
    key: /etc/uptier/pki/host.key
    username: patroni
    password: "{{ vault_patroni_api_password }}"
    member: db1
    config:
      ttl: 20
      synchronous_mode: true
      postgresql: {parameters: {max_connections: 200}}
"""

RETURN = r"""
patch:
  description: What was sent, or would be in check mode.
  returned: success
  type: dict
  sample: {ttl: 20}
leader:
  description: Member that leads.
  returned: success
  type: str
  sample: db1
pending_restart:
  description: Members that need a restart of PostgreSQL, with the settings that ask for it.
  returned: success
  type: dict
  sample: {db2: {max_connections: {old_value: "100", new_value: "200"}}}
reason:
  description: Machine-readable cause of a failure.
  returned: on failure
  type: str
  sample: not_serving
"""

import json
import time
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.uptier.platform.plugins.module_utils.postgresql.deadline import Deadline
from ansible_collections.uptier.platform.plugins.module_utils.postgresql.patroni import info, patch, pick
from ansible_collections.uptier.platform.plugins.module_utils.postgresql.patroni_client import (
    CONNECTION_SPEC,
    Client,
    PatroniError,
    wait_until_serving,
)

ATTEMPTS = 5


def text(value: Any) -> str:
    return json.dumps(value, indent=2, sort_keys=True) + "\n"


def apply(client: Client, wanted: dict[str, Any], check_mode: bool) -> tuple[dict[str, Any], dict[str, Any]]:
    """Send what differs; return it with what was there. Members that run this at the same time agree by looking again."""
    for attempt in range(1, ATTEMPTS + 1):
        current = client.call("/config")
        difference = patch(current, wanted)
        if not difference or check_mode:
            return current, difference
        try:
            left = patch(client.call("/config", "PATCH", difference), wanted)
        except PatroniError as error:
            if error.reason != "conflict" or attempt == ATTEMPTS:
                raise
            time.sleep(attempt)
            continue
        if left:
            raise PatroniError("not_taken", f"Patroni did not take {json.dumps(left)}; see its log for why.")
        return current, difference
    return {}, {}


def look(client: Client, config: dict[str, Any], settings_sent: bool) -> dict[str, Any]:
    """Return the cluster; after settings were sent, once every member had its look at them (or one asks for a restart)."""
    deadline = Deadline(2 * int(config.get("loop_wait", 10)) if settings_sent else 0)
    while True:
        seen = info(client.call("/cluster"))
        if seen["pending_restart"] or deadline.passed:
            return seen
        time.sleep(1)


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            **CONNECTION_SPEC,
            "config": {"type": "dict", "required": True},
            "member": {"type": "str"},
            "timeout": {"type": "int", "default": 300},
        },
        supports_check_mode=True,
    )
    wanted = module.params["config"]
    client = Client(module.params)
    try:
        wait_until_serving(client, module.params["member"], module.params["timeout"])
        current, difference = apply(client, wanted, module.check_mode)
        seen = look(client, current, "postgresql" in difference and not module.check_mode)
    except PatroniError as error:
        module.fail_json(msg=str(error), reason=error.reason)
    for name, settings in seen["pending_restart"].items():
        module.warn(
            f"{name}: PostgreSQL must be restarted before {', '.join(sorted(settings)) or 'its settings'} take effect. "
            "Nothing was restarted: playbooks/restart_postgresql.yml does it, standbys first, the leader after a switchover."
        )
    module.exit_json(
        changed=bool(difference),
        patch=difference,
        leader=seen["leader"],
        pending_restart=seen["pending_restart"],
        diff={"before": text(pick(current, difference)), "after": text(difference)} if difference else {},
    )


if __name__ == "__main__":
    main()
