#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: pg_cluster_info
short_description: Who leads a PostgreSQL cluster and how its members are
version_added: 0.1.0
description:
  - Asks Patroni and returns leader, members with state, timeline and lag, and what waits for a restart. Changes nothing.
  - Can wait until the cluster has a leader and a member serves.
  - Asks every member itself too, and names those that call themselves running although the leader does not stream to them, whose
    history may differ.
extends_documentation_fragment: [uptier.platform.patroni, uptier.platform.patroni.login]
attributes:
  check_mode:
    description: Changes nothing in any mode.
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
- name: Ask who leads
  uptier.platform.pg_cluster_info:
    url: https://10.0.0.31:8008
    ca: /etc/uptier/pki/ca.crt
    cert: /etc/uptier/pki/host.crt
    key: /etc/uptier/pki/host.key
    timeout: 0
  register: database
"""

RETURN = r"""
leader:
  description: Member that leads and runs; null where there is none.
  returned: success
  type: str
  sample: db1
members:
  description: Members as Patroni sees them.
  returned: success
  type: list
  elements: dict
  sample: [{name: db2, role: sync_standby, state: streaming, host: 10.0.0.32, port: 5432, timeline: 1, lag_bytes: 0, synchronous: true, tags: {}}]
paused:
  description: Automatic failover is switched off.
  returned: success
  type: bool
  sample: false
pending_restart:
  description: Members that need a restart of PostgreSQL, with the settings that ask for it.
  returned: success
  type: dict
  sample: {}
scope:
  description: Name of the cluster.
  returned: success
  type: str
  sample: main
diverged:
  description: Members that say they run and that the leader does not stream to. Rebuild them with playbooks/reinit_postgresql_member.yml.
  returned: success
  type: list
  elements: str
  sample: []
dangers:
  description: What is wrong or risky, in sentences; also given as warnings.
  returned: success
  type: list
  elements: str
  sample: ["db2 is on timeline 3, the cluster on 4."]
silent:
  description: Members whose Patroni does not answer, with the reason.
  returned: success
  type: dict
  sample: {}
reason:
  description: Machine-readable cause of a failure.
  returned: on failure
  type: str
  sample: not_reachable
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.uptier.platform.plugins.module_utils.postgresql.patroni import info
from ansible_collections.uptier.platform.plugins.module_utils.postgresql.patroni_client import (
    CONNECTION_SPEC,
    Client,
    PatroniError,
    ask_all,
    wait_until_serving,
)
from ansible_collections.uptier.platform.plugins.module_utils.postgresql.picture import view


def main() -> None:
    module = AnsibleModule(
        argument_spec={**CONNECTION_SPEC, "member": {"type": "str"}, "timeout": {"type": "int", "default": 300}},
        supports_check_mode=True,
    )
    try:
        cluster = wait_until_serving(Client(module.params), module.params["member"], module.params["timeout"])
    except PatroniError as error:
        module.fail_json(msg=str(error), reason=error.reason)
    seen = info(cluster)
    urls = {member["name"]: member["api_url"].rsplit("/", 1)[0] for member in cluster.get("members", []) if member.get("api_url")}
    picture = view(str(seen["scope"]), ask_all(module.params, urls), {"lease": seen["leader"], "paused": seen["paused"]})
    dangers = picture.dangers()
    for danger in dangers:
        module.warn(danger)
    module.exit_json(
        changed=False,
        diverged=picture.not_streaming(),
        dangers=dangers,
        silent={member.name: member.error for member in picture.members if member.error},
        **seen,
    )


if __name__ == "__main__":
    main()
