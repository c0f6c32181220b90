#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: etcd_member
short_description: Bring a host into an etcd cluster that runs already
version_added: 0.1.0
description:
  - Acts on a host that has no etcd data while other members run. It announces the host to them, starts etcd there and
    waits until the member serves. A host that was a member and lost its data is removed first and announced anew.
  - Does nothing where the host has data, and nothing where nobody answers. In the latter case the cluster is still
    to be formed, by starting all members.
  - Run it with C(throttle) 1, so that one host joins after the other.
options:
  name:
    description: Name of this member, one of O(members).
    type: str
    required: true
  state:
    description:
      - V(present) joins where there is something to join.
      - V(restarted) restarts etcd on this host and waits until it serves.
    type: str
    choices: [present, restarted]
    default: present
  members:
    description: All members that the inventory declares.
    type: list
    elements: dict
    required: true
    suboptions:
      name:
        description: Name of the member.
        type: str
        required: true
      address:
        description: IP address of the member.
        type: str
        required: true
      fqdn:
        description: Internal name of the member. Not used.
        type: str
      zone:
        description: Zone of the member. Not used.
        type: str
  client_port:
    description: Port on which the members answer clients.
    type: int
    default: 2379
  peer_port:
    description: Port on which the members speak with each other.
    type: int
    default: 2380
  data_directory:
    description: Data directory of etcd on this host.
    type: path
    required: true
  environment_file:
    description: File read by the unit, in which a joining member finds the list of the cluster. Place it below /run.
    type: path
    required: true
  ca:
    description: Authority of the members' certificates.
    type: path
    required: true
  cert:
    description: Certificate to show.
    type: path
    required: true
  key:
    description: Its key.
    type: path
    required: true
  unit:
    description: Name of the systemd unit.
    type: str
    default: etcd
  timeout:
    description: Seconds to wait until the member serves.
    type: int
    default: 90
attributes:
  check_mode:
    description: Asks the members and reports the same plan.
    support: full
  diff_mode:
    description: Shows the list of members with which the host is started.
    support: full
  platform:
    description: Target platforms.
    platforms: posix
    support: full
author:
  - The uptier.platform authors (@uptier)
"""

EXAMPLES = r"""
- name: Service | Join the cluster where one runs already
  uptier.platform.etcd_member:
    name: app3
    members:
      - {name: app1, address: 10.0.0.21}
      - {name: app2, address: 10.0.0.22}
      - {name: app3, address: 10.0.0.23}
    data_directory: /var/lib/etcd/default
    environment_file: /run/uptier/etcd-join.env
    ca: /etc/uptier/pki/ca.crt
    cert: /etc/uptier/pki/host.crt
    key: /etc/uptier/pki/host.key
  throttle: 1
"""

RETURN = r"""
action:
  description: What was decided. keep, form, join, replace or restart.
  returned: success
  type: str
  sample: join
initial_cluster:
  description: Members with which the host was started.
  returned: success
  type: str
  sample: app1=https://10.0.0.21:2380,app3=https://10.0.0.23:2380
reason:
  description: Machine-readable cause of a failure.
  returned: on failure
  type: str
  sample: not_serving
"""

import os

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.uptier.platform.plugins.module_utils.etcd.client import Cluster
from ansible_collections.uptier.platform.plugins.module_utils.etcd.members import (
    CLIENT_PORT,
    PEER_PORT,
    EtcdError,
    Plan,
    environment,
    own,
    plan,
    url_of,
)


def join(cluster: Cluster, planned: Plan) -> None:
    """Make the running members expect this one, then start it."""
    for identity in planned.remove:
        cluster.change("/v3/cluster/member/remove", {"ID": identity})
    me = own(cluster.parameters["name"], cluster.parameters["members"])
    if planned.add:
        cluster.change("/v3/cluster/member/add", {"peerURLs": [url_of(me, cluster.parameters["peer_port"])]})
    path = cluster.parameters["environment_file"]
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w", encoding="utf-8") as handle:
        handle.write(environment(planned))
    cluster.systemctl("restart")
    cluster.wait(cluster.url())


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "name": {"type": "str", "required": True},
            "state": {"type": "str", "choices": ["present", "restarted"], "default": "present"},
            "members": {
                "type": "list",
                "elements": "dict",
                "required": True,
                "options": {
                    "name": {"type": "str", "required": True},
                    "address": {"type": "str", "required": True},
                    "fqdn": {"type": "str"},
                    "zone": {"type": "str"},
                },
            },
            "client_port": {"type": "int", "default": CLIENT_PORT},
            "peer_port": {"type": "int", "default": PEER_PORT},
            "data_directory": {"type": "path", "required": True},
            "environment_file": {"type": "path", "required": True},
            "ca": {"type": "path", "required": True},
            "cert": {"type": "path", "required": True},
            "key": {"type": "path", "required": True, "no_log": False},
            "unit": {"type": "str", "default": "etcd"},
            "timeout": {"type": "int", "default": 90},
        },
        supports_check_mode=True,
    )
    parameters = module.params
    cluster = Cluster(module)
    try:
        missing = [path for path in (parameters["ca"], parameters["cert"], parameters["key"]) if not os.path.exists(path)]
        if missing and module.check_mode:
            module.exit_json(changed=False, action="form", initial_cluster="")
        if missing:
            raise EtcdError("no_certificate", f"{', '.join(missing)} is missing on this host: apply the role pki first.")
        if parameters["state"] == "restarted":
            if not module.check_mode:
                cluster.systemctl("restart")
                cluster.wait(cluster.url())
            module.exit_json(changed=True, action="restart", initial_cluster="")
        has_data = os.path.isdir(os.path.join(parameters["data_directory"], "member", "wal"))
        planned = plan(
            parameters["name"], parameters["members"], has_data, None if has_data else cluster.members(), parameters["peer_port"]
        )
        changed = planned.action in ("join", "replace")
        if changed and not module.check_mode:
            join(cluster, planned)
    except EtcdError as error:
        module.fail_json(msg=str(error), reason=error.reason)
    module.exit_json(
        changed=changed,
        action=planned.action,
        initial_cluster=planned.initial_cluster,
        diff={"before": "", "after": environment(planned) if changed else ""},
    )


if __name__ == "__main__":
    main()
