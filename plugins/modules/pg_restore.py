#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: pg_restore
short_description: One host's part in restoring a PostgreSQL cluster under Patroni from its pgBackRest repository
version_added: 0.1.0
description:
  - Used by C(playbooks/restore_postgresql.yml), which has all members reach one goal before any goes for the next.
  - What is to be done is written down in etcd before anything is touched. A run that was cut off goes on where it was when it is
    started again with the same target.
  - Deletes no data. The data directory of each member is renamed and stays.
  - Holds the same lock as M(uptier.platform.pg_failover).
extends_documentation_fragment: [uptier.platform.patroni.login]
options:
  state:
    description:
      - V(looked) says what is there and changes nothing.
      - V(agreed) decides from which backup and along which timeline, refuses what would end badly, and writes the decision down.
      - V(reached) takes this host to O(goal).
      - V(announced) has the new history of the leader that serves in the repository at once, which the others wait for.
      - V(finished) ends the restore.
    type: str
    choices: [looked, agreed, reached, announced, finished]
    required: true
  goal:
    description:
      - V(stopped) stops Patroni and PostgreSQL, and keeps them from being started.
      - V(aside) renames the old data directory and those of tablespaces.
      - V(ready) copies and recovers, on the leader alone.
      - V(serving) starts Patroni.
    type: str
    choices: [stopped, aside, ready, serving]
  member:
    description: This host's name in the cluster.
    type: str
    required: true
  leader:
    description: The member to be restored from the repository; without it, the one that led last.
    type: str
  members:
    description: What V(looked) returned on each member, for V(agreed).
    type: list
    elements: dict
    default: []
  kind:
    description: V(latest) is the end of the archive, V(label) the end of a backup.
    type: str
    choices: [latest, time, lsn, label]
    default: latest
  value:
    description: The moment with its zone, the position, or the label.
    type: str
    default: ""
  timeline:
    description: History to follow; without it, the newest.
    type: int
  repository:
    description: Number of the repository, where there are several.
    type: int
    default: 1
  confirm:
    description: The cluster's name once more. Without it V(agreed) says what would be done, and fails.
    type: str
    default: ""
  unarchived:
    description: Go on although the end of the log cannot be brought to the repository.
    type: bool
    default: false
  run:
    description: What V(agreed) returned, by which the lock knows the run.
    type: str
    default: ""
  stanza:
    description: Name of the backups.
    type: str
    default: main
  user:
    description: Operating system's user to whom the data belongs.
    type: str
    default: postgres
  scope:
    description: Name of the cluster.
    type: str
    required: true
  namespace:
    description: Where Patroni keeps it in etcd.
    type: str
    default: /uptier/
  etcd:
    description: Addresses of etcd's members.
    type: list
    elements: str
    required: true
  timeout:
    description: Seconds that copying and recovery may take, each. Afterwards they go on, and the next run waits for them.
    type: int
    default: 14400
attributes:
  check_mode:
    description: Decides and refuses alike, and says which steps would follow.
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
- name: What is there
  uptier.platform.pg_restore:
    state: looked
    member: db1
    scope: main
    etcd: [https://10.0.0.21:2379]
    ca: /etc/uptier/pki/ca.crt
    cert: /etc/uptier/pki/host.crt
    key: /etc/uptier/pki/host.key
  register: looked

- name: Decide
  uptier.platform.pg_restore:
    state: agreed
    member: db1
    members: ["{{ looked.found }}"]
    kind: time
    value: "2026-11-26 15:04:05+00:00"
    confirm: main
    scope: main
    etcd: [https://10.0.0.21:2379]
    ca: /etc/uptier/pki/ca.crt
    cert: /etc/uptier/pki/host.crt
    key: /etc/uptier/pki/host.key
"""

RETURN = r"""
found:
  description: What is there on this host.
  returned: when O(state=looked)
  type: dict
  sample: {name: db1, free_bytes: 21474836480, problems: [], waiting: 0, timeline: 3, led: true, leads: true}
leader:
  description: The member that is restored from the repository.
  returned: when O(state=agreed)
  type: str
  sample: db1
label:
  description: The backup that is taken.
  returned: when O(state=agreed)
  type: str
  sample: 20261126-010000F
resumed:
  description: Whether an earlier run goes on.
  returned: when O(state=agreed)
  type: bool
  sample: false
since:
  description: When this restore was begun, by this run or an earlier one.
  returned: when O(state=agreed)
  type: str
  sample: 2026-11-26 17:30:00 UTC
aside:
  description: Where the old data of this host is kept.
  returned: when O(state=agreed) or O(state=reached)
  type: str
  sample: /var/lib/postgresql/15/restored-aside-20261126T173000Z
run:
  description: By what the lock knows the run.
  returned: when O(state=agreed)
  type: str
  sample: 0b4f6b9e5a4f4a5d8a7f0c1d2e3f4a5b
steps:
  description: What was done, or would be.
  returned: when O(state=reached)
  type: list
  elements: str
  sample: [block, stop_patroni]
seconds:
  description: How long each of them took.
  returned: when O(state=reached)
  type: dict
  sample: {stop_patroni: 1.5}
notes:
  description: What somebody should know of it.
  returned: when O(state=reached)
  type: list
  elements: str
  sample: [timeline 5]
message:
  description: The decision in a sentence.
  returned: when O(state=agreed)
  type: str
  sample: 2026-11-26 15:04:05 UTC, from the backup 20261126-010000F of 2026-11-26 01:00:12 UTC, along timeline 3
reason:
  description: Machine-readable cause of a refusal or failure.
  returned: on failure
  type: str
  sample: no_such_point
"""

import dataclasses
import datetime
import os
import socket
import time
import uuid
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.uptier.platform.plugins.module_utils.etcd.client import NoAnswer
from ansible_collections.uptier.platform.plugins.module_utils.postgresql.errors import Busy, OperationError, PostgresqlError
from ansible_collections.uptier.platform.plugins.module_utils.postgresql.patroni_client import LOGIN_SPEC
from ansible_collections.uptier.platform.plugins.module_utils.postgresql.restore_apply import Member
from ansible_collections.uptier.platform.plugins.module_utils.postgresql.restore_plan import (
    GOALS,
    KINDS,
    Record,
    Request,
    agree,
    digest,
    leader_of,
    refuse_other_members,
    refuse_unconfirmed,
    refuse_unfit,
    steps_to,
)
from ansible_collections.uptier.platform.plugins.module_utils.postgresql.restore_store import RestoreStore


class Task:
    """One call of the module."""

    def __init__(self, module: AnsibleModule) -> None:
        self.module, self.given = module, module.params
        self.store = RestoreStore(self.given)
        given = self.given
        self.member = Member(module.run_command, given["stanza"], given["user"], self.store, given["timeout"], given["unarchived"])

    def holder(self) -> dict[str, Any]:
        since = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
        return {"what": "restore", "process": os.getpid(), "host": socket.gethostname(), "since": since}

    def looked(self) -> dict[str, Any]:
        seen = self.member.look(self.store.record())
        timeline, led = self.member.history()
        found = {
            "name": self.given["member"],
            "seen": dataclasses.asdict(seen),
            "free_bytes": self.member.free_bytes(),
            "problems": [] if seen.aside else self.member.problems(),
            "waiting": len(self.member.waiting()) if seen.patroni else 0,
            "timeline": timeline,
            "led": led,
            "leads": led and (seen.patroni or seen.server),
        }
        return {"changed": False, "found": found}

    def agreed(self) -> dict[str, Any]:
        given, run = self.given, uuid.uuid4().hex
        leave = None if self.module.check_mode else self.store.hold(run, self.holder())
        try:
            record, earlier, choice = self._decide()
            if not self.module.check_mode:
                refuse_unconfirmed(given["confirm"], given["scope"], choice, record.leader)
                self.store.begin(record)
        except PostgresqlError:
            if leave:
                leave()
                self.store.let_go(run)
            raise
        if leave:
            leave()
        return {
            "changed": True,
            "leader": record.leader,
            "label": record.choice.label,
            "resumed": earlier is not None,
            "since": record.since,
            "aside": str(self.member.aside(record)),
            "run": run,
            "message": record.choice.message,
        }

    def _decide(self) -> tuple[Record, Record | None, Any]:
        given = self.given
        request = Request(given["kind"], given["value"], given["timeline"], given["repository"])
        earlier = self.store.record()
        leader = leader_of(given["members"], given["leader"], earlier)
        refuse_other_members(self.store.running_members(), [member["name"] for member in given["members"]])
        choice = earlier.choice if earlier and earlier.request == request else self.member.choose(request)
        refuse_unfit(choice, request, given["members"], leader, given["unarchived"])
        return agree(earlier, request, choice, leader, time.time()), earlier, choice

    def record(self) -> Record:
        found = self.store.record()
        if found is None:
            raise OperationError("not_agreed", "etcd has no restore under way. Run the whole playbook.")
        return found

    def reached(self) -> dict[str, Any]:
        given = self.given
        record = self.record()
        leads = record.leader == given["member"]
        if self.module.check_mode:
            steps = steps_to(self.member.look(record), given["goal"], leads, digest(record.choice))
        else:
            leave = self.store.hold(given["run"], self.holder())
            try:
                steps = self.member.reach(given["goal"], record, leads)
            finally:
                leave()
        aside = str(self.member.aside(record))
        return {"changed": bool(steps), "steps": steps, "seconds": self.member.seconds, "notes": self.member.notes, "aside": aside}

    def announced(self) -> dict[str, Any]:
        if not self.module.check_mode:
            self.member.announce()
        return {"changed": False}

    def finished(self) -> dict[str, Any]:
        there = self.store.record() is not None
        if there and not self.module.check_mode:
            self.store.end()
        if not self.module.check_mode:
            self.store.let_go(self.given["run"])
        return {"changed": there}


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "state": {"type": "str", "choices": ["looked", "agreed", "reached", "announced", "finished"], "required": True},
            "goal": {"type": "str", "choices": list(GOALS)},
            "member": {"type": "str", "required": True},
            "leader": {"type": "str"},
            "members": {"type": "list", "elements": "dict", "default": []},
            "kind": {"type": "str", "choices": list(KINDS), "default": "latest"},
            "value": {"type": "str", "default": ""},
            "timeline": {"type": "int"},
            "repository": {"type": "int", "default": 1},
            "confirm": {"type": "str", "default": ""},
            "unarchived": {"type": "bool", "default": False},
            "run": {"type": "str", "default": ""},
            "stanza": {"type": "str", "default": "main"},
            "user": {"type": "str", "default": "postgres"},
            "scope": {"type": "str", "required": True},
            "namespace": {"type": "str", "default": "/uptier/"},
            "etcd": {"type": "list", "elements": "str", "required": True},
            **LOGIN_SPEC,
            "timeout": {"type": "int", "default": 14400},
        },
        required_if=[
            ("state", "agreed", ["members"]),
            ("state", "reached", ["goal"]),
            *(("kind", kind, ["value"]) for kind in KINDS if kind != "latest"),
        ],
        supports_check_mode=True,
    )
    try:
        task = Task(module)
        result = getattr(task, module.params["state"])()
    except Busy as holder:
        module.fail_json(msg=f"Another operation is changing {module.params['scope']}: {holder}. Wait until it has ended.", reason="busy")
    except PostgresqlError as error:
        module.fail_json(msg=str(error), reason=error.reason)
    except NoAnswer as error:
        module.fail_json(
            msg=f"etcd does not answer, and nothing is restored without it: {error}. Bring back a quorum of its members first.",
            reason="no_quorum",
        )
    except OSError as error:
        module.fail_json(msg=f"{error}. It is safe to run this again.", reason="file")
    module.exit_json(**result)


if __name__ == "__main__":
    main()
