#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: redis_cluster
short_description: Form a Redis Cluster of a declared shape, keep it complete and reshape it while it serves
version_added: 0.1.0
description:
  - Asks every declared node for its view, plans the steps from what is there to what is declared, carries them out and
    waits until all nodes agree, all slots are served and every replica follows its master.
  - Who leads is not declared. After a failover the roles are swapped and the module reports no change.
  - A replica is never put on its master's host, and into another zone than its master where there is a choice.
  - Continues a formation that was interrupted at any step. Replaces a node that came back empty (a host that was reinstalled).
  - Never forms over nodes that hold keys outside of this cluster's slots or that belong to another cluster.
  - Where another number of masters is declared, moves slots with their keys while clients read and write, the fewest that even
    out. Replicas stand at the new masters before the first key moves. Keys go in commands of a few milliseconds; very large ones
    go last, and are named in RV(moved).
  - Members that know each other at old addresses are told the declared ones, also where all have new ones.
  - A node that hangs, dies or fails over on the way interrupts the run only until the cluster has come to rest again, at most
    O(timeout); then it is planned anew, and a warning tells of it.
  - A run that was killed in the middle of a slot is continued with that slot by the next one, whoever leads on either side then.
  - Where both servers can move slots by themselves (Redis 8.4, Valkey 9) and the user as whom replicas follow may run
    C(CLUSTER SYNCSLOTS), they do it. This is not verified against real servers, and a warning says so.
  - Refuses before the first key moves what would not fit into the memory of a master, and moves nothing to or from a node that is down.
  - Run it once for a cluster, from any host that reaches all nodes. A host that is down is no error as long as the
    cluster is complete and serves; it is named in RV(warnings_cluster).
options:
  remove_members:
    description:
      - Let members of the cluster leave that are not declared. Their slots are moved to the others first, then all forget them and they
        forget all. Without this they are refused (C(foreign_member)).
    type: bool
    default: false
  rebalance_threshold:
    description:
      - From how many percent of an even share on the slots of a master are evened out, where the number of masters stays. 0 for never.
    type: float
    default: 2
  weights:
    description:
      - How large the part of a master is beside the others, from 0.1 to 10, by the label of a node (C(host:port)); 1 where none is
        given. It counts for the master and its replicas together, so that a failover does not move a slot.
    type: dict
    default: {}
  move_rate:
    description: Keys that are moved a second, at most. 0 for as many as go.
    type: int
    default: 0
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
moved:
  description: What was moved. RV(ignore:moved.longest_pause_ms) is how long a master was stopped at most by one command.
  returned: when slots were moved
  type: dict
  sample: {"slots": 10922, "keys": 48211, "bytes": 9123456, "seconds": 21.4, "longest_pause_ms": 6.1, "mechanism": "key by key", "big_keys": []}
warnings_cluster:
  description: What weakens the cluster though it serves - nodes that are down, missing replicas, too many masters on one host.
  returned: success
  type: list
  elements: str
reason:
  description:
    - Machine-readable cause of a failure. C(bad_shape), C(bad_weight), C(node_unreachable), C(access_denied), C(not_cluster_mode),
      C(node_not_empty), C(other_cluster), C(foreign_member), C(slots_lost), C(open_slots), C(reshape_needed),
      C(no_memory), C(no_anti_affinity), C(version_mix), C(step_failed), C(no_progress), C(timeout), C(not_healthy).
  returned: on failure
  type: str
  sample: node_not_empty
node:
  description: The node that the failure is about, where it is about one.
  returned: on failure
  type: str
  sample: app2:6379
"""

from typing import Any

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
from ansible_collections.uptier.platform.plugins.module_utils.redis.migrate import Mover, Progress


def moved(parts: list[Progress]) -> dict[str, Any]:
    """Return what was moved in one or several goes, for the result; nothing where nothing was."""
    if not parts:
        return {}
    return {
        "moved": {
            "slots": sum(part.slots for part in parts),
            "keys": sum(part.keys for part in parts),
            "bytes": sum(part.bytes for part in parts),
            "seconds": round(sum(part.seconds for part in parts), 1),
            "longest_pause_ms": round(max(part.slowest for part in parts) * 1000, 1),
            "mechanism": parts[0].mechanism,
            "big_keys": [key for part in parts for key in part.big],
        }
    }


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "remove_members": {"type": "bool", "default": False},
            "rebalance_threshold": {"type": "float", "default": 2},
            "weights": {"type": "dict", "default": {}},
            "move_rate": {"type": "int", "default": 0},
            "spread_masters": {"type": "bool", "default": False},
            "timeout": {"type": "float", "default": 60},
            **redis_common_argument_spec(),
            **redis_shape_argument_spec(),
        },
        supports_check_mode=True,
    )
    shape = shape_of(module.params)
    given = module.params
    dial = dialler(given)
    mover = Mover(dial, (given["username"], given["password"]), given["timeout"], given["move_rate"], module.log)
    try:
        weights = {str(label): float(weight) for label, weight in given["weights"].items()}
    except (TypeError, ValueError):
        module.fail_json(msg=f"weights are {given['weights']}: give each node a number, as {{app1:6379: 2}}.", reason="bad_weight", node="")
    cluster = Cluster(
        shape,
        dial,
        given["timeout"],
        weights=weights,
        spread=given["spread_masters"],
        threshold=given["rebalance_threshold"] / 100,
        remove=given["remove_members"],
        mover=mover,
    )
    try:
        views, steps = cluster.plan(check=module.check_mode)
        before, after = core.describe(cluster.shape, views), core.predict(cluster.shape, views, steps)
        if not module.check_mode:
            views = cluster.converge(steps)
    except core.Refusal as error:
        module.fail_json(msg=str(error), reason=error.reason, node=error.node)
    state = summary(shape, views)
    for part in cluster.moved:
        if part.mechanism != "key by key":
            module.warn(f"Slots were moved by the servers themselves ({part.mechanism}). Not verified here: no test has met such a server.")
    for interruption in cluster.interruptions:
        module.warn(interruption)
    for warning in state["warnings"] if not module.check_mode else []:
        module.warn(warning)
    module.exit_json(
        changed=bool(steps),
        steps=[step.as_dict() for step in steps],
        cluster=state,
        **moved(cluster.moved),
        warnings_cluster=state["warnings"],
        diff={"before": "".join(f"{k}: {v}\n" for k, v in before.items()), "after": "".join(f"{k}: {v}\n" for k, v in after.items())},
    )


if __name__ == "__main__":
    main()
