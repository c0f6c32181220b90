#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: redis_restore
short_description: Write the keys of a snapshot of Redis into a Redis Cluster of any shape
version_added: 0.1.0
description:
  - Has a server read the snapshot, in a transient unit without a network, and writes its keys with their times to live into the running cluster, each
    to the master that serves its slot. So the cluster may have another number of masters than the one of which the snapshot was taken.
  - Keys that are there are kept as they are, unless O(replace) says otherwise. Nothing is ever removed.
  - Refuses before anything is written where the snapshot is damaged, or where this host has not enough memory for a second server.
  - Functions (C(FUNCTION LOAD)) are not part of it.
options:
  snapshot:
    description: File with the snapshot, as C(BGSAVE) writes it.
    type: path
    required: true
  replace:
    description: Write keys over those of the same name.
    type: bool
    default: false
  nodes:
    description: Nodes of the cluster, of which one that answers is asked who serves what.
    type: list
    elements: dict
    required: true
    suboptions:
      name:
        description: Host.
        type: str
        required: true
      address:
        description: IP address on which it listens.
        type: str
        required: true
      port:
        description: Port of the TLS listener.
        type: int
        default: 6379
      zone:
        description: Its zone.
        type: str
        default: ""
attributes:
  check_mode:
    description: Reads the snapshot and writes nothing.
    details: Says how many keys it holds. The cluster is not asked, so those that would be kept are not told.
    support: partial
  diff_mode:
    description: Nothing is compared.
    support: none
  platform:
    description: Target platforms.
    platforms: posix
    support: full
extends_documentation_fragment:
  - uptier.platform.redis
seealso:
  - module: uptier.platform.file_restore
author:
  - The uptier.platform authors (@uptier)
"""

EXAMPLES = r"""
- name: Sessions as they were at noon, where none of the same name has begun since
  uptier.platform.redis_restore:
    snapshot: /var/restore/redis/var/lib/redis/snapshots/6379.rdb
    nodes: "{{ redis_cluster_nodes }}"
    password: "{{ vault_redis_admin_password }}"
"""

RETURN = r"""
total:
  description: Keys in the snapshot.
  returned: success
  type: int
  sample: 50000
written:
  description: Keys that were written.
  returned: success
  type: int
  sample: 49990
kept:
  description: Keys that were there and stayed as they are. After an interruption, those of the first run are among them.
  returned: success
  type: int
  sample: 10
expired:
  description: Keys whose time had come.
  returned: success
  type: int
  sample: 0
seconds:
  description: How long the writing took.
  returned: success
  type: float
  sample: 2.1
reason:
  description: Machine-readable cause of a failure. C(damaged), C(no_memory), C(not_read), C(no_cluster), C(not_written), C(refused).
  returned: on failure
  type: str
  sample: damaged
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.uptier.platform.plugins.module_utils.redis.cluster_apply import (
    dialler,
    redis_common_argument_spec,
    redis_shape_argument_spec,
)
from ansible_collections.uptier.platform.plugins.module_utils.redis.resp import Unreachable
from ansible_collections.uptier.platform.plugins.module_utils.redis.snapshot import SnapshotError
from ansible_collections.uptier.platform.plugins.module_utils.redis.snapshot_restore import restore


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "snapshot": {"type": "path", "required": True},
            "replace": {"type": "bool", "default": False},
            "nodes": redis_shape_argument_spec()["nodes"],
            **redis_common_argument_spec(),
        },
        supports_check_mode=True,
    )
    given = module.params
    nodes = [(entry["address"], entry["port"]) for entry in given["nodes"]]
    try:
        counted, result = restore(given["snapshot"], nodes, dialler(given), given["replace"], module.check_mode)
    except SnapshotError as error:
        module.fail_json(msg=str(error), reason=error.reason)
    except Unreachable as error:
        module.fail_json(msg=f"No conversation was possible: {error}. Run it again.", reason="not_read")
    module.exit_json(
        changed=result.written > 0 or (module.check_mode and counted.keys > 0),
        total=counted.keys,
        written=result.written,
        kept=result.kept,
        expired=result.expired,
        seconds=round(result.seconds, 2),
    )


if __name__ == "__main__":
    main()
