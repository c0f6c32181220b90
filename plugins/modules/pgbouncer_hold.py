#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: pgbouncer_hold
short_description: Hold the clients of a host's pools during a switchover
version_added: 0.1.0
description:
  - With V(armed) the host pauses its pools by itself at a given moment, and resumes them as soon as another member leads, or
    after O(limit), whatever happens to the caller. The router is pointed to the new leader first.
  - With V(finished) waits for that and returns how it went; fails where a pool is still paused.
  - With V(released) resumes at once.
options:
  state:
    description: What to do.
    type: str
    choices: [armed, finished, released]
    required: true
  at:
    description: Moment of the pause, in seconds since 1970. Needed with V(armed).
    type: float
  leader:
    description: Member that leads now. Needed with V(armed).
    type: str
  members:
    description: Members of the cluster and their REST interfaces. Needed with V(armed).
    type: list
    elements: dict
    suboptions:
      name:
        description: Name of the member, also of its server in the router.
        type: str
        required: true
      url:
        description: Address of its REST interface.
        type: str
        required: true
  drain:
    description: Seconds that running transactions get to end; afterwards the host gives up and resumes.
    type: float
    default: 3
  limit:
    description: Seconds after which the pools are resumed in any case.
    type: float
    default: 12
  timeout:
    description: Seconds to wait with V(finished).
    type: int
    default: 30
  port:
    description: Port of PgBouncer.
    type: int
    default: 6432
  socket:
    description: Directory of its socket.
    type: path
    default: /run/postgresql
  user:
    description: System user as which PgBouncer runs, who may use its console.
    type: str
    default: postgres
  router:
    description: Control socket of HAProxy.
    type: path
    default: /run/haproxy/admin.sock
  backend:
    description: HAProxy's section for the leader.
    type: str
    default: postgresql_leader
  ca:
    description: Authority of the members' certificates.
    type: path
    default: /etc/uptier/pki/ca.crt
  cert:
    description: Client certificate to show to them.
    type: path
    default: /etc/uptier/pki/host.crt
  key:
    description: Key of the client certificate.
    type: path
    default: /etc/uptier/pki/host.key
attributes:
  check_mode:
    description: Arms nothing.
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
- name: Hold the clients of this host in five seconds
  uptier.platform.pgbouncer_hold:
    state: armed
    at: "{{ __pg_plan.time + 5 }}"
    leader: db1
    members: [{name: db1, url: "https://10.0.0.31:8008"}, {name: db2, url: "https://10.0.0.32:8008"}]
"""

RETURN = r"""
result:
  description: V(switched), V(gave_up) where transactions did not end, V(timed_out) where nobody else led, or V(interrupted).
  returned: with O(state=finished)
  type: str
  sample: switched
paused_seconds:
  description: For how long clients were held.
  returned: with O(state=finished)
  type: float
  sample: 1.62
message:
  description: What was out of the ordinary.
  returned: with O(state=finished)
  type: str
  sample: ""
reason:
  description: Machine-readable cause of a failure.
  returned: on failure
  type: str
  sample: too_late
"""

import json
import time
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.uptier.platform.plugins.module_utils.host.files import replace_file
from ansible_collections.uptier.platform.plugins.module_utils.postgresql.deadline import Deadline
from ansible_collections.uptier.platform.plugins.module_utils.postgresql.psql import newest_psql

UNIT = "pgbouncer-hold.service"
REQUEST = Path("/run/uptier/pgbouncer_hold.json")
REPORT = Path("/run/uptier/pgbouncer_hold_report.json")
PASSED_ON = ("at", "leader", "members", "drain", "limit", "port", "socket", "user", "router", "backend", "ca", "cert", "key")
MARGIN = 0.3


def systemctl(module: AnsibleModule, *words: str) -> None:
    code, out, err = module.run_command(["systemctl", *words, UNIT])
    if code:
        module.fail_json(
            msg=f"systemctl {' '.join(words)} {UNIT} ended with {code}: {(err or out).strip().rstrip('.')}. Run the tier's playbook, which installs it.",
            reason="unit_failed",
        )


def running(module: AnsibleModule) -> bool:
    state = module.run_command(["systemctl", "is-active", UNIT])[1].strip()
    return state in ("active", "activating", "deactivating")


def arm(module: AnsibleModule) -> None:
    if module.check_mode:
        return
    if running(module):
        module.fail_json(msg=f"{UNIT} runs already: another switchover is under way on this host. Wait until it has ended.", reason="busy")
    late = time.time() + MARGIN - module.params["at"]
    if late > 0:
        module.fail_json(
            msg=f"This host got the order {late:.1f} s too late for the agreed pause. Nothing was paused. Run it again, with a "
            "longer lead (pg_switchover_lead_seconds), and check that the hosts' clocks agree.",
            reason="too_late",
        )
    REQUEST.parent.mkdir(parents=True, exist_ok=True)
    passed = {name: module.params[name] for name in PASSED_ON}
    replace_file(REQUEST, json.dumps({**passed, "psql": newest_psql()}), 0o644)
    REPORT.unlink(missing_ok=True)
    systemctl(module, "start", "--no-block")


def paused(module: AnsibleModule) -> list[str]:
    """Return the databases that PgBouncer holds paused now."""
    given = module.params
    command = ["runuser", "-u", given["user"], "--", newest_psql(), "-X", "--csv", "-h", given["socket"], "-p", str(given["port"])]
    code, out, err = module.run_command([*command, "-U", "pgbouncer", "-d", "pgbouncer", "-c", "SHOW DATABASES"], cwd="/")
    if code:
        module.fail_json(msg=f"PgBouncer's console does not answer: {err.strip()}. Look at `journalctl -u pgbouncer`.", reason="no_console")
    rows = [line.split(",") for line in out.splitlines()]
    at = rows[0].index("paused")
    return [row[0] for row in rows[1:] if row[at] == "1"]


def finish(module: AnsibleModule) -> dict:
    deadline = Deadline(module.params["timeout"])
    while running(module):
        if deadline.passed:
            systemctl(module, "stop")
        time.sleep(0.1)
    left = paused(module)
    if left:
        module.fail_json(
            msg=f"Still paused: {', '.join(left)}. Resume by hand: runuser -u {module.params['user']} -- psql -h {module.params['socket']} "
            f"-p {module.params['port']} -U pgbouncer pgbouncer -c RESUME",
            reason="still_paused",
        )
    if not REPORT.exists():
        return {"result": "interrupted", "paused_seconds": 0.0, "message": "it left no report"}
    said = json.loads(REPORT.read_text(encoding="utf-8"))
    return {"result": said["state"], "paused_seconds": round(said.get("paused_seconds", 0.0), 2), "message": said.get("message", "")}


def main() -> None:
    member = {"name": {"type": "str", "required": True}, "url": {"type": "str", "required": True}}
    module = AnsibleModule(
        argument_spec={
            "state": {"type": "str", "choices": ["armed", "finished", "released"], "required": True},
            "at": {"type": "float"},
            "leader": {"type": "str"},
            "members": {"type": "list", "elements": "dict", "options": member},
            "drain": {"type": "float", "default": 3.0},
            "limit": {"type": "float", "default": 12.0},
            "timeout": {"type": "int", "default": 30},
            "port": {"type": "int", "default": 6432},
            "socket": {"type": "path", "default": "/run/postgresql"},
            "user": {"type": "str", "default": "postgres"},
            "router": {"type": "path", "default": "/run/haproxy/admin.sock"},
            "backend": {"type": "str", "default": "postgresql_leader"},
            "ca": {"type": "path", "default": "/etc/uptier/pki/ca.crt"},
            "cert": {"type": "path", "default": "/etc/uptier/pki/host.crt"},
            "key": {"type": "path", "default": "/etc/uptier/pki/host.key", "no_log": False},
        },
        required_if=[("state", "armed", ("at", "leader", "members"))],
        supports_check_mode=True,
    )
    state = module.params["state"]
    if state == "armed":
        arm(module)
        module.exit_json(changed=True)
    if module.check_mode:
        module.exit_json(changed=False)
    if state == "released":
        systemctl(module, "stop")
    result = finish(module)
    module.exit_json(changed=False, **result)


if __name__ == "__main__":
    main()
