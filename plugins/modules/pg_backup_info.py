#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: pg_backup_info
short_description: Backups and archive of a pgBackRest repository as data
version_added: 0.1.0
description:
  - Asks pgBackRest and returns backups, the archive and the state of each repository. With O(target) it also says which backup
    serves a point in time. Changes nothing.
  - Runs on the host of the repository, or on a database host, which asks the repository's host.
options:
  stanza:
    description: Name of the stanza.
    type: str
    required: true
  target:
    description: Kind of point for which a backup is looked for; nothing is looked for without it.
    type: str
    choices: [latest, label, time, lsn, immediate]
  target_value:
    description:
      - The label, the position (C(0/3000028)) or the moment. A moment is seconds since the epoch, or a time with its zone, as
        C(2026-11-20 23:00:00+00:00).
      - Not needed for V(latest); for V(immediate) it is a label, and empty means the newest backup.
    type: str
    default: ""
  user:
    description: Operating system's user as whom pgBackRest runs.
    type: str
    default: postgres
attributes:
  check_mode:
    description: Changes nothing in any mode.
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
- name: Ask for the backups
  uptier.platform.pg_backup_info:
    stanza: main
  register: backups

- name: Ask which backup serves a moment
  uptier.platform.pg_backup_info:
    stanza: main
    target: time
    target_value: "2026-11-20 23:00:00+00:00"
  register: found
"""

RETURN = r"""
stanza:
  description: The stanza that was asked for.
  returned: success
  type: str
  sample: main
status:
  description: pgBackRest's code (0 good, 1 no stanza, 2 no backup, 3 data lacking) and message.
  returned: success
  type: dict
  sample: {code: 0, message: ok}
repositories:
  description: Code, message and cipher of each repository.
  returned: success
  type: list
  elements: dict
  sample: [{number: 1, code: 0, message: ok, cipher: aes-256-cbc}]
backups:
  description: Backups, oldest first. Moments are seconds since the epoch.
  returned: success
  type: list
  elements: dict
  sample:
    - label: 20261120-230000F
      type: full
      repository: 1
      archive_id: 17-1
      started: 1795215600
      stopped: 1795215660
      seconds: 60
      size_bytes: 31457280
      stored_bytes: 4194304
      lsn_start: 0/3000028
      lsn_stop: 0/3000138
      wal_start: "000000010000000000000003"
      wal_stop: "000000010000000000000003"
      timeline: 1
      prior: ""
      references: []
      damaged: false
archives:
  description: Oldest and newest segment of each version of the cluster in each repository.
  returned: success
  type: list
  elements: dict
  sample: [{archive_id: 17-1, repository: 1, oldest: "000000010000000000000001", newest: "00000001000000000000000A"}]
newest:
  description: Label of the newest backup without damaged pages; null where there is none.
  returned: success
  type: str
  sample: 20261120-230000F
earliest:
  description: First moment that can be restored, the end of the oldest sound backup, in seconds since the epoch; null where there is none.
  returned: success
  type: int
  sample: 1795215660
locked:
  description: A backup or an expiry runs at this moment.
  returned: success
  type: bool
  sample: false
backup:
  description: The backup that serves O(target), as in RV(backups).
  returned: with O(target)
  type: dict
reason:
  description: Machine-readable cause of a failure, such as V(wrong_key), V(no_stanza), V(no_backup), V(no_such_point) or V(repository).
  returned: on failure
  type: str
  sample: wrong_key
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.uptier.platform.plugins.module_utils.postgresql.backup_apply import PgBackRest
from ansible_collections.uptier.platform.plugins.module_utils.postgresql.backup_info import TYPES, backup_for, refuse_unusable
from ansible_collections.uptier.platform.plugins.module_utils.postgresql.errors import PostgresqlError


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "stanza": {"type": "str", "required": True},
            "target": {"type": "str", "choices": list(TYPES)},
            "target_value": {"type": "str", "default": ""},
            "user": {"type": "str", "default": "postgres"},
        },
        required_if=[("target", kind, ["target_value"]) for kind in ("label", "time", "lsn")],
        supports_check_mode=True,
    )
    parameters = module.params
    more = {}
    try:
        found = PgBackRest(parameters["stanza"], parameters["user"]).info()
        if parameters["target"]:
            refuse_unusable(found)
            more["backup"] = backup_for(found.backups, parameters["target"], parameters["target_value"]).as_data()
    except PostgresqlError as error:
        module.fail_json(msg=str(error), reason=error.reason)
    module.exit_json(changed=False, **found.as_data(), **more)


if __name__ == "__main__":
    main()
