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
  - With O(native), for streaming pairs without Patroni and etcd, asks the servers themselves. There the old primary is fenced
    before a standby is promoted.
  - Refuses what would lose data or split the cluster, and returns every candidate with the reason why it may lead or not.
  - Ends when the new leader accepts writes and every other member that answers streams from it, not before.
  - Can be run again at any time. A run that was killed is finished by the next one; two runs at once exclude each other by a
    lock in etcd, or by an advisory lock on the standbys of a pair.
options:
  state:
    description:
      - V(switchover) moves the leadership away from a leader that runs. No write is lost.
      - V(failover) is for a leader that is gone; refused while one runs. Waits until its lease has run out. Where Patroni
        replaces the leader by itself, this only waits and reports.
      - V(promoted) makes a standby cluster, which follows a cluster elsewhere, accept writes. Not with O(native).
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
        description: Address of its REST interface. Needed with O(etcd).
        type: str
      host:
        description:
          - Name or address of its PostgreSQL, for the write probe. The certificate is verified against it.
          - Needed with O(native). The server itself, no pooler and no address that moves.
        type: str
      port:
        description: Port of its PostgreSQL.
        type: int
        default: 5432
  scope:
    description: Name of the cluster. Needed with O(etcd); with O(native) it only stands in messages.
    type: str
  namespace:
    description: Patroni's key in etcd above it.
    type: str
    default: /uptier/
  etcd:
    description: Client addresses of etcd's members. Either this or O(native).
    type: list
    elements: str
  native:
    description:
      - The cluster is a streaming pair, or a primary with several standbys, without Patroni. This user asks every server.
      - It needs to log in over TCP on every server from this host, the roles C(pg_monitor) and C(pg_checkpoint), and EXECUTE on
        C(pg_promote(boolean, integer)) in O(native.database); or it is a superuser, as before PostgreSQL 15. What it lacks is named
        before anything is done. O(ca), O(cert) and O(key) apply.
      - Where no server leads, the standbys are asked for a checkpoint, also in check mode; how the log ends is known after that.
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
        description: Database to log in to. Runs exclude each other only when they use the same one.
        type: str
        default: postgres
      psql:
        description: The client. Without it, the newest that Debian's packages installed.
        type: path
  fencing:
    description: How it is made sure that the old primary takes no more writes. Needs O(native), and nobody is promoted without it.
    type: dict
    suboptions:
      command:
        description:
          - Program and arguments that stop the old primary for good, run here before a standby is promoted. No shell is involved.
          - When it ends with anything but 0, nothing is promoted; nor when the primary can still be reached afterwards.
          - For a switchover it has to stop PostgreSQL cleanly, such as C(systemctl stop) does, so that the standby gets everything.
          - It is run again by the run after one that was killed, so it has to succeed where all is stopped already.
          - It appears in messages. It must hold no secret.
        type: list
        elements: str
      timeout:
        description: Seconds that the command may take.
        type: int
        default: 60
      fenced:
        description:
          - The caller has made sure that the old primary is off and stays off. Enough for a failover.
          - A server that still answers, or that a standby still hears, is not believed to be fenced.
        type: bool
        default: false
  max_lag_bytes:
    description:
      - Bytes that a candidate may lack. Without it, the cluster's C(maximum_lag_on_failover), and 16 MiB with O(native).
    type: int
  allow_data_loss:
    description:
      - Promote although acknowledged writes may be lost.
      - With O(native), every V(failover) needs it, since nobody knows what a primary that is gone wrote last.
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
      - User with which RV(outage_seconds) is measured, by writing to whichever member takes writes. Without it nothing is measured,
        or with the user of O(native).
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
  - With O(native), run it on a host that reaches PostgreSQL on every server and that lives when the primary's dies. It needs a
    PostgreSQL client.
  - With O(native), RV(data_loss_bytes) is V(0) only where a standby's log ends with the record that a clean stop of its primary writes.
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

- name: Relieve the primary of a pair without Patroni
  uptier.platform.pg_failover:
    state: switchover
    leader: db1
    members: [{name: db1, host: 10.0.0.31}, {name: db2, host: 10.0.0.32}]
    native:
      user: failover
      password: "{{ vault_failover_password }}"
    fencing:
      command: [ssh, -o, BatchMode=yes, 10.0.0.31, systemctl, stop, postgresql]

- name: Promote the standby of a pair whose primary's host is dead
  uptier.platform.pg_failover:
    state: failover
    leader: db1
    members: [{name: db1, host: 10.0.0.31}, {name: db2, host: 10.0.0.32}]
    native:
      user: failover
      password: "{{ vault_failover_password }}"
    fencing:
      fenced: true  # its power supply was pulled
    allow_data_loss: true
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
  description:
    - Members that were considered, the best first, each with the reason why it may lead or not.
    - With O(native) without C(synchronous), and C(data_loss_bytes) is null where the loss cannot be known.
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
  description: Members that do not stream from the new leader, with the reason; with O(native) with what to do, too.
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

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.uptier.platform.plugins.module_utils.postgresql.errors import Busy, OperationError, Refusal
from ansible_collections.uptier.platform.plugins.module_utils.postgresql.failover_apply import Operation
from ansible_collections.uptier.platform.plugins.module_utils.postgresql.failover_native_apply import NativeDriver
from ansible_collections.uptier.platform.plugins.module_utils.postgresql.failover_patroni_apply import PatroniDriver
from ansible_collections.uptier.platform.plugins.module_utils.postgresql.patroni_client import LOGIN_SPEC

LOGIN = {
    "user": {"type": "str", "required": True},
    "password": {"type": "str", "required": True, "no_log": True},
    "database": {"type": "str", "default": "postgres"},
    "psql": {"type": "path"},
}


def main() -> None:
    member = {
        "name": {"type": "str", "required": True},
        "url": {"type": "str"},
        "host": {"type": "str"},
        "port": {"type": "int", "default": 5432},
    }
    drained = {
        "addresses": {"type": "list", "elements": "str", "required": True},
        "timeout": {"type": "float", "default": 3.0},
    }
    fencing = {
        "command": {"type": "list", "elements": "str"},
        "timeout": {"type": "int", "default": 60},
        "fenced": {"type": "bool", "default": False},
    }
    module = AnsibleModule(
        argument_spec={
            "state": {"type": "str", "choices": ["switchover", "failover", "promoted"], "required": True},
            "leader": {"type": "str"},
            "candidate": {"type": "str"},
            "members": {"type": "list", "elements": "dict", "required": True, "options": member},
            "scope": {"type": "str"},
            "namespace": {"type": "str", "default": "/uptier/"},
            "etcd": {"type": "list", "elements": "str"},
            "native": {"type": "dict", "options": LOGIN},
            "fencing": {"type": "dict", "options": fencing},
            **LOGIN_SPEC,
            "max_lag_bytes": {"type": "int"},
            "allow_data_loss": {"type": "bool", "default": False},
            "timeout": {"type": "int", "default": 90},
            "rejoin_timeout": {"type": "int", "default": 60},
            "at": {"type": "float"},
            "probe": {"type": "dict", "options": LOGIN},
            "drained": {"type": "dict", "options": drained},
        },
        mutually_exclusive=[["etcd", "native"]],
        required_one_of=[["etcd", "native"]],
        required_by={"drained": ["probe"], "etcd": ["scope"], "fencing": ["native"]},
        supports_check_mode=True,
    )
    given = module.params
    # What a member needs depends on an option beside the list, which a specification cannot say.
    needed = "host" if given["native"] else "url"
    lacking = [entry["name"] for entry in given["members"] if not entry[needed]]
    if lacking:
        module.fail_json(msg=f"members: {', '.join(lacking)} without {needed}, which is how it is asked.", reason="not_addressed")
    driver = NativeDriver(given) if given["native"] else PatroniDriver(given)
    operation = Operation(given, module.check_mode, driver)
    try:
        if not module.check_mode:
            operation.lock()
        result = operation.run()
    except Busy as holder:
        module.fail_json(
            msg=f"Another operation is changing {given['scope'] or 'the pair'}: {holder}. Wait until it has ended.", reason="busy"
        )
    except (Refusal, OperationError) as error:
        module.fail_json(msg=str(error), reason=error.reason, candidates=error.candidates, steps=operation.steps)
    finally:
        operation.close()
    for warning in result.pop("warned"):
        module.warn(warning)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
