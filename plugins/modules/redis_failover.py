#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: redis_failover
short_description: Have masters of a Redis Cluster hand over to their replicas, for maintenance
version_added: 0.1.0
description:
  - Graceful failovers, one at a time. A master holds its writes until its replica has them all, so no write is lost and clients
    wait for a fraction of a second.
  - Before each of them the whole cluster has to be well - every node answers and sees all slots served, every master has its
    replicas in sync. That is waited for, then refused (C(not_whole)). A master that died needs no module; its replica takes over by itself.
  - Of several replicas the one takes over whose host leads fewest masters.
  - Run it once for a cluster, from any host that reaches all nodes. Killed between two failovers, it is run again and does the rest.
options:
  relieve:
    description: Who shall lead nothing - hosts by name, or nodes as C(host:port).
    type: list
    elements: str
    default: []
  promote:
    description: Nodes, as C(host:port), that shall lead. Each takes over from the master that it follows.
    type: list
    elements: str
    default: []
  timeout:
    description: Seconds to wait for a cluster that is well, before each failover and after the last.
    type: float
    default: 60
attributes:
  check_mode:
    description: Returns the same plan, and refuses for the same reasons without waiting.
    support: full
  diff_mode:
    description: Shows the part that every node plays, before and after.
    support: full
  platform:
    description: Target platforms.
    platforms: posix
    support: full
extends_documentation_fragment:
  - uptier.platform.redis
  - uptier.platform.redis.shape
seealso:
  - module: uptier.platform.redis_cluster
  - module: uptier.platform.redis_reload
author:
  - The uptier.platform authors (@uptier)
"""

EXAMPLES = r"""
- name: Nothing leads on app1 while it is worked on
  uptier.platform.redis_failover:
    nodes: "{{ redis_cluster_nodes }}"
    masters: 3
    replicas_per_master: 1
    relieve: [app1]
    password: "{{ vault_redis_admin_password }}"
  register: __relieved
  run_once: true

- name: Back again
  uptier.platform.redis_failover:
    nodes: "{{ redis_cluster_nodes }}"
    masters: 3
    replicas_per_master: 1
    promote: "{{ __relieved.relieved }}"
    password: "{{ vault_redis_admin_password }}"
  run_once: true
"""

RETURN = r"""
steps:
  description: What was done (check mode - would be done), in order. Empty when nothing had to change.
  returned: success
  type: list
  elements: dict
  sample: [{"action": "failover", "node": "app2:6380", "target": "app1:6379", "slots": "", "text": "app2:6380 takes over from app1:6379"}]
relieved:
  description: Nodes that led before and do not any more. As O(promote) they bring the cluster back.
  returned: success
  type: list
  elements: str
  sample: ["app1:6379"]
cluster:
  description: The cluster as it is at the end, as M(uptier.platform.redis_cluster_info) returns it.
  returned: success
  type: dict
reason:
  description: Machine-readable cause of a failure. C(bad_shape), C(bad_target), C(not_whole), C(no_replica), C(step_failed), C(no_progress).
  returned: on failure
  type: str
  sample: not_whole
node:
  description: The node that the failure is about, where it is about one.
  returned: on failure
  type: str
  sample: app1:6379
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.uptier.platform.plugins.module_utils.redis import cluster as core
from ansible_collections.uptier.platform.plugins.module_utils.redis.cluster_apply import (
    Cluster,
    dialler,
    redis_common_argument_spec,
    redis_shape_argument_spec,
    shape_of,
    summary,
)


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "relieve": {"type": "list", "elements": "str", "default": []},
            "promote": {"type": "list", "elements": "str", "default": []},
            "timeout": {"type": "float", "default": 60},
            **redis_common_argument_spec(),
            **redis_shape_argument_spec(),
        },
        supports_check_mode=True,
    )
    given = module.params
    cluster = Cluster(shape_of(given), dialler(given), given["timeout"])
    try:
        before = cluster.look()
        views, steps = cluster.hand_over(given["relieve"], given["promote"], module.check_mode)
    except core.Refusal as error:
        module.fail_json(msg=str(error), reason=error.reason, node=error.node)
    for interruption in cluster.interruptions:
        module.warn(interruption)
    parts = core.describe(cluster.shape, before)
    after = core.predict(cluster.shape, views, steps) if module.check_mode else core.describe(cluster.shape, views)
    module.exit_json(
        changed=bool(steps),
        steps=[step.as_dict() for step in steps],
        relieved=sorted({step.target for step in steps} - {step.node for step in steps}),
        cluster=summary(cluster.shape, views),
        diff={"before": "".join(f"{k}: {v}\n" for k, v in parts.items()), "after": "".join(f"{k}: {v}\n" for k, v in after.items())},
    )


if __name__ == "__main__":
    main()
