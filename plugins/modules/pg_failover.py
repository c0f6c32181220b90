#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: pg_failover
short_description: Change the leader of a PostgreSQL cluster, or refuse with the reason
version_added: 0.1.0
description:
  - Asks every member (through Patroni) and etcd, and decides on what they have received, on which timeline they are and which
    of them commits waited for. Nothing is taken from the order of an inventory.
  - Refuses what would lose data or split the cluster, and returns every candidate with the reason why it may lead or not.
  - Ends when the new leader accepts writes and every other member that answers streams from it, not before.
  - Can be run again at any time. A run that was killed is finished by the next one; two runs at once exclude each other by a
    lock in etcd.
options:
  state:
    description:
      - V(switchover) moves the leadership away from a leader that runs. No write is lost.
      - V(failover) is for a leader that is gone; refused while one runs. Waits until its lease has run out. Where Patroni
        replaces the leader by itself, this only waits and reports.
      - V(promoted) makes a standby cluster, which follows a cluster elsewhere, accept writes.
    type: str
    choices: [switchover, failover, promoted]
    required: true
  leader:
    description:
      - Member that is to lead no longer. Where it does not lead, nothing is done.
      - A switchover needs this or O(candidate).
    type: str
  candidate:
    description: Member that is to lead. Without it the best one is taken.
    type: str
  members:
    description: Members and their REST interfaces.
    type: list
    elements: dict
    required: true
    suboptions:
      name:
        description: Name of the member.
        type: str
        required: true
      url:
        description: Address of its REST interface.
        type: str
        required: true
      host:
        description: Name or address of its PostgreSQL, for the write probe. The certificate is verified against it.
        type: str
      port:
        description: Port of its PostgreSQL.
        type: int
        default: 5432
  scope:
    description: Name of the cluster.
    type: str
    required: true
  namespace:
    description: Patroni's key in etcd above it.
    type: str
    default: /uptier/
  etcd:
    description: Client addresses of etcd's members.
    type: list
    elements: str
    required: true
  max_lag_bytes:
    description: Bytes that a candidate may lack. Without it, the cluster's C(maximum_lag_on_failover).
    type: int
  allow_data_loss:
    description: Promote although acknowledged writes may be lost.
    type: bool
    default: false
  timeout:
    description: Seconds until the new leader must accept writes.
    type: int
    default: 90
  rejoin_timeout:
    description: Seconds for which members that answer, the former leader among them, are waited for. Who is not back is reported.
    type: int
    default: 60
  at:
    description: Moment of a switchover, in seconds since 1970. Without it, at once.
    type: float
  probe:
    description:
      - User with which RV(outage_seconds) is measured, by writing to whichever member takes writes. Without it nothing is measured.
      - It needs to log in to O(probe.database) on every member from this host, and the role C(pg_checkpoint).
    type: dict
    suboptions:
      user:
        description: Its name.
        type: str
        required: true
      password:
        description: Its password.
        type: str
        required: true
      database:
        description: Database to log in to.
        type: str
        default: postgres
      psql:
        description: The client. Without it, the newest that Debian's packages installed.
        type: path
  drained:
    description:
      - Wait until the leader has no session from these hosts any more before it is asked to step down; for clients that were told to
        hold, such as poolers after C(PAUSE). Needs O(probe).
    type: dict
    suboptions:
      addresses:
        description: Addresses of those hosts.
        type: list
        elements: str
        required: true
      timeout:
        description: Seconds after which the switchover is refused.
        type: float
        default: 3
extends_documentation_fragment: [uptier.platform.patroni.login]
attributes:
  check_mode:
    description: Returns the same plan and refuses for the same reasons.
    support: full
  diff_mode:
    description: Shows leader and steps.
    support: full
  platform:
    description: Target platforms.
    platforms: posix
    support: full
notes:
  - Run it on one host that reaches the members' REST interface (8008), PostgreSQL (5432) and etcd (2379), such as any database host.
author:
  - The uptier.platform authors (@uptier)
"""

EXAMPLES = r"""
- name: Relieve db1 before its host is maintained
  uptier.platform.pg_failover:
    state: switchover
    leader: db1
    members: [{name: db1, url: "https://10.0.0.31:8008"}, {name: db2, url: "https://10.0.0.32:8008"}]
    etcd: ["https://10.0.0.21:2379", "https://10.0.0.22:2379", "https://10.0.0.23:2379"]
    scope: main
    ca: /etc/uptier/pki/ca.crt
    cert: /etc/uptier/pki/host.crt
    key: /etc/uptier/pki/host.key
    username: patroni
    password: "{{ vault_patroni_api_password }}"
"""

RETURN = r"""
old_leader:
  description: Member that led before, or held the lease.
  returned: success
  type: str
  sample: db1
leader:
  description: Member that leads now; in check mode, that would lead.
  returned: success
  type: str
  sample: db2
timeline:
  description: Timeline after the change.
  returned: success
  type: int
  sample: 2
candidates:
  description: Members that were considered, the best first, each with the reason why it may lead or not.
  returned: always
  type: list
  elements: dict
  sample: [{name: db2, eligible: true, reason: may lead, synchronous: true, received: 83886080, replayed: 83886080, timeline: 1, data_loss_bytes: 0}]
data_loss_bytes:
  description: Acknowledged bytes that may be lost, at most; 0 when none can be; null where it cannot be known.
  returned: success
  type: int
  sample: 0
outage_seconds:
  description: Longest time without an acknowledged write, as the probe saw it; null without a probe.
  returned: success
  type: float
  sample: 1.4
not_back:
  description: Members that do not stream from the new leader, with the reason.
  returned: success
  type: list
  elements: str
  sample: [db1 does not answer]
steps:
  description: What was done, or would be.
  returned: success
  type: list
  elements: str
  sample: [switch over from db1 to db2]
message:
  description: The result in a sentence.
  returned: success
  type: str
  sample: db2 leads on timeline 2; no write succeeded for 1.4 s
time:
  description: The host's clock at the end, in seconds since 1970.
  returned: success
  type: float
  sample: 1790000000.5
reason:
  description: Machine-readable cause of a refusal or failure.
  returned: on failure
  type: str
  sample: leader_healthy
"""

import datetime
import os
import socket

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.uptier.platform.plugins.module_utils.patroni import LOGIN_SPEC
from ansible_collections.uptier.platform.plugins.module_utils.pg_cluster_live import Busy
from ansible_collections.uptier.platform.plugins.module_utils.pg_failover import Refusal
from ansible_collections.uptier.platform.plugins.module_utils.pg_operation import Operation


def main() -> None:
    member = {
        "name": {"type": "str", "required": True},
        "url": {"type": "str", "required": True},
        "host": {"type": "str"},
        "port": {"type": "int", "default": 5432},
    }
    probe = {
        "user": {"type": "str", "required": True},
        "password": {"type": "str", "required": True, "no_log": True},
        "database": {"type": "str", "default": "postgres"},
        "psql": {"type": "path"},
    }
    drained = {
        "addresses": {"type": "list", "elements": "str", "required": True},
        "timeout": {"type": "float", "default": 3.0},
    }
    module = AnsibleModule(
        argument_spec={
            "state": {"type": "str", "choices": ["switchover", "failover", "promoted"], "required": True},
            "leader": {"type": "str"},
            "candidate": {"type": "str"},
            "members": {"type": "list", "elements": "dict", "required": True, "options": member},
            "scope": {"type": "str", "required": True},
            "namespace": {"type": "str", "default": "/uptier/"},
            "etcd": {"type": "list", "elements": "str", "required": True},
            **LOGIN_SPEC,
            "max_lag_bytes": {"type": "int"},
            "allow_data_loss": {"type": "bool", "default": False},
            "timeout": {"type": "int", "default": 90},
            "rejoin_timeout": {"type": "int", "default": 60},
            "at": {"type": "float"},
            "probe": {"type": "dict", "options": probe},
            "drained": {"type": "dict", "options": drained},
        },
        required_by={"drained": ["probe"]},
        supports_check_mode=True,
    )
    operation = Operation(module.params, module.check_mode)
    release = None
    try:
        if not module.check_mode:
            since = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
            who = {"what": module.params["state"], "process": os.getpid(), "host": socket.gethostname(), "since": since}
            try:
                release = operation.observer.etcd.lock(who)
            except OSError:
                release = None  # without a quorum there is no lock, and the plan refuses
        result = operation.run()
    except Busy as holder:
        module.fail_json(msg=f"Another operation is changing {module.params['scope']}: {holder}. Wait until it has ended.", reason="busy")
    except Refusal as refusal:
        module.fail_json(msg=str(refusal), reason=refusal.reason, candidates=refusal.candidates, steps=operation.steps)
    finally:
        if operation.probe:
            operation.probe.ended.set()
        if release:
            release()
    for warning in result.pop("warned"):
        module.warn(warning)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
