#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: pg_copy
short_description: A copy of a database as its backups held it at a point in time, for looking
version_added: 0.1.0
description:
  - Restores from the pgBackRest repository into a directory of its own, and runs a server there that archives nothing, streams from
    nobody and listens on a socket that only its user reaches. Production is not touched.
  - The server runs until it is removed by V(absent), or until the host is restarted.
options:
  state:
    description: V(absent) stops the copy and removes its directory; it refuses a directory that is no copy.
    type: str
    choices: [present, absent]
    default: present
  directory:
    description: For the copy alone.
    type: path
    default: /var/lib/uptier/postgresql-copy
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
  stanza:
    description: Name of the backups.
    type: str
    default: main
  user:
    description: Operating system's user who runs it, and who may read the repository.
    type: str
    default: postgres
  memory_mb:
    description: Memory in MiB that the copy may use.
    type: int
    default: 1024
  timeout:
    description: Seconds that the recovery may take.
    type: int
    default: 14400
attributes:
  check_mode:
    description: Decides from which backup, and refuses alike.
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
- name: A copy of an hour ago
  uptier.platform.pg_copy:
    kind: time
    value: "2026-11-26 15:04:05+00:00"
"""

RETURN = r"""
message:
  description: What the copy is, in a sentence.
  returned: success
  type: str
  sample: 2026-11-26 15:04:05 UTC, from the backup 20261126-010000F of 2026-11-26 01:00:12 UTC, along timeline 3
socket:
  description: Directory of its socket.
  returned: success
  type: str
  sample: /var/lib/uptier/postgresql-copy/socket
seconds:
  description: How long each part took.
  returned: success
  type: dict
  sample: {copy: 12.5, recover: 3.0}
reason:
  description: Machine-readable cause of a refusal or failure.
  returned: on failure
  type: str
  sample: no_space
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.uptier.platform.plugins.module_utils.postgresql.errors import PostgresqlError
from ansible_collections.uptier.platform.plugins.module_utils.postgresql.restore_copy_apply import Copy
from ansible_collections.uptier.platform.plugins.module_utils.postgresql.restore_plan import KINDS, Request, digest


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            "directory": {"type": "path", "default": "/var/lib/uptier/postgresql-copy"},
            "kind": {"type": "str", "choices": list(KINDS), "default": "latest"},
            "value": {"type": "str", "default": ""},
            "timeline": {"type": "int"},
            "repository": {"type": "int", "default": 1},
            "stanza": {"type": "str", "default": "main"},
            "user": {"type": "str", "default": "postgres"},
            "memory_mb": {"type": "int", "default": 1024},
            "timeout": {"type": "int", "default": 14400},
        },
        required_if=[("kind", kind, ["value"]) for kind in KINDS if kind != "latest"],
        supports_check_mode=True,
    )
    given = module.params
    try:
        copy = Copy(module.run_command, given["directory"], given["stanza"], given["user"], given["memory_mb"], given["timeout"])
        if given["state"] == "absent":
            gone = copy.made_of() != "" if module.check_mode else copy.remove()
            module.exit_json(changed=gone, message="removed" if gone else "there is none", socket=copy.socket, seconds={})
        choice = copy.choose(Request(given["kind"], given["value"], given["timeline"], given["repository"]))
        there = copy.made_of() == digest(choice) and copy.serves()
        seconds = {} if there or module.check_mode else copy.make(choice)
    except PostgresqlError as error:
        module.fail_json(msg=str(error), reason=error.reason)
    except OSError as error:
        module.fail_json(msg=f"{error}. It is safe to run this again.", reason="file")
    module.exit_json(changed=not there, message=choice.message, socket=copy.socket, seconds=seconds)


if __name__ == "__main__":
    main()
