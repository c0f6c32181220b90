#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: redis_cluster
short_description: Form a Redis Cluster of a declared shape and keep it complete
version_added: 0.1.0
description:
  - Asks every declared node for its view, plans the steps from what is there to what is declared, carries them out and
    waits until all nodes agree, all slots are served and every replica follows its master.
  - Who leads is not declared. After a failover the roles are swapped and the module reports no change.
  - A replica is never put on its master's host, and into another zone than its master where there is a choice.
  - Continues a formation that was interrupted at any step. Replaces a node that came back empty (a host that was reinstalled).
  - Never forms over nodes that hold keys outside of this cluster's slots or that belong to another cluster.
  - Does not move slots that hold keys, so it refuses to change the number of masters of a cluster that is complete.
  - Run it once for a cluster, from any host that reaches all nodes. A host that is down is no error as long as the
    cluster is complete and serves; it is named in RV(warnings_cluster).
options:
  spread_masters:
    description:
      - Even out how many masters each host leads, after failovers have gathered them on few hosts. A host that leads most
        masters must not die, because the others could not vote. A replica takes over without a lost write.
      - Off by default, so that a run after a failover changes nothing.
    type: bool
    default: false
  timeout:
    description: Seconds to wait for the outcome of each kind of step, and for a healthy cluster at the end.
    type: float
    default: 60
attributes:
  check_mode:
    description: Plans exactly as in a real run. Nodes on which nothing listens yet are taken for new and empty ones.
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
  - module: uptier.platform.redis_cluster_info
  - module: uptier.platform.redis_reload
author:
  - The uptier.platform authors (@uptier)
"""

EXAMPLES = r"""
- name: Three masters and three replicas on three hosts
  uptier.platform.redis_cluster:
    nodes:
      - {name: app1, address: 10.0.0.11, port: 6379, zone: a}
      - {name: app2, address: 10.0.0.12, port: 6379, zone: b}
      - {name: app3, address: 10.0.0.13, port: 6379, zone: c}
      - {name: app1, address: 10.0.0.11, port: 6380, zone: a}
      - {name: app2, address: 10.0.0.12, port: 6380, zone: b}
      - {name: app3, address: 10.0.0.13, port: 6380, zone: c}
    masters: 3
    replicas_per_master: 1
    password: "{{ vault_redis_admin_password }}"
  run_once: true
"""

RETURN = r"""
steps:
  description: What was done (check mode - would be done), in order. Empty when nothing had to change.
  returned: success
  type: list
  elements: dict
  sample: [{"action": "replicate", "node": "app2:6380", "target": "app1:6379", "slots": "", "text": "app2:6380 becomes a replica of app1:6379"}]
cluster:
  description: The cluster as it is at the end, as M(uptier.platform.redis_cluster_info) returns it.
  returned: success
  type: dict
warnings_cluster:
  description: What weakens the cluster though it serves - nodes that are down, missing replicas, too many masters on one host.
  returned: success
  type: list
  elements: str
reason:
  description:
    - Machine-readable cause of a failure. C(bad_shape), C(node_unreachable), C(access_denied), C(not_cluster_mode),
      C(node_not_empty), C(other_cluster), C(foreign_member), C(slots_lost), C(open_slots), C(reshape_needed),
      C(no_anti_affinity), C(version_mix), C(step_failed), C(no_progress), C(timeout), C(not_healthy).
  returned: on failure
  type: str
  sample: node_not_empty
node:
  description: The node that the failure is about, where it is about one.
  returned: on failure
  type: str
  sample: app2:6379
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
            "spread_masters": {"type": "bool", "default": False},
            "timeout": {"type": "float", "default": 60},
            **redis_common_argument_spec(),
            **redis_shape_argument_spec(),
        },
        supports_check_mode=True,
    )
    shape = shape_of(module.params)
    cluster = Cluster(shape, dialler(module.params), module.params["timeout"], spread=module.params["spread_masters"])
    try:
        views, steps = cluster.plan(check=module.check_mode)
        before, after = core.describe(shape, views), core.predict(shape, views, steps)
        if not module.check_mode:
            views = cluster.converge(steps)
    except core.Refusal as error:
        module.fail_json(msg=str(error), reason=error.reason, node=error.node)
    state = summary(shape, views)
    for warning in state["warnings"] if not module.check_mode else []:
        module.warn(warning)
    module.exit_json(
        changed=bool(steps),
        steps=[step.as_dict() for step in steps],
        cluster=state,
        warnings_cluster=state["warnings"],
        diff={"before": "".join(f"{k}: {v}\n" for k, v in before.items()), "after": "".join(f"{k}: {v}\n" for k, v in after.items())},
    )


if __name__ == "__main__":
    main()
