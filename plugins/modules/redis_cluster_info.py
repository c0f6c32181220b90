#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: redis_cluster_info
short_description: Nodes, slots, replicas and health of a Redis Cluster
version_added: 0.1.0
description:
  - Asks every declared node and returns who leads, who follows, which slots are covered and what is wrong. Changes nothing.
  - A cluster that is down or not formed yet is an answer, not a failure.
attributes:
  check_mode:
    description: Changes nothing, so check mode is the same.
    support: full
  diff_mode:
    description: Changes nothing.
    support: none
  platform:
    description: Target platforms.
    platforms: posix
    support: full
extends_documentation_fragment:
  - uptier.platform.redis
  - uptier.platform.redis.shape
seealso:
  - module: uptier.platform.redis_cluster
author:
  - The uptier.platform authors (@uptier)
"""

EXAMPLES = r"""
- name: Ask the cluster how it is
  uptier.platform.redis_cluster_info:
    nodes: "{{ redis_cluster_nodes }}"
    masters: 3
    replicas_per_master: 1
    password: "{{ vault_redis_admin_password }}"
  register: __cluster
  run_once: true
"""

RETURN = r"""
cluster:
  description: The cluster.
  returned: always
  type: dict
  contains:
    state:
      description: V(ok) when all nodes that are up serve and agree, V(fail) when not, V(absent) when no node can be asked.
      type: str
    nodes:
      description: The declared nodes with id, role, master, slots, link, keys, memory, clients and replication offset.
      type: list
      elements: dict
    slots_covered:
      description: Number of slots that have an owner, of 16384.
      type: int
    slots_missing:
      description: Ranges of slots without an owner.
      type: str
    masters:
      description: Number of nodes that hold slots.
      type: int
    replicas:
      description: Number of replicas, also such that are down.
      type: int
    foreign:
      description: Members of the cluster that are not declared.
      type: list
      elements: str
    faults:
      description: Why the cluster does not serve as it should.
      type: list
      elements: str
    warnings:
      description: What weakens a cluster that serves.
      type: list
      elements: str
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.uptier.platform.plugins.module_utils.redis.cluster_apply import (
    Cluster,
    dialler,
    redis_common_argument_spec,
    redis_shape_argument_spec,
    shape_of,
    summary,
)


def main() -> None:
    module = AnsibleModule(argument_spec={**redis_common_argument_spec(), **redis_shape_argument_spec()}, supports_check_mode=True)
    shape = shape_of(module.params)
    views = Cluster(shape, dialler(module.params)).look()
    module.exit_json(changed=False, cluster=summary(shape, views))


if __name__ == "__main__":
    main()
