#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: file_restore
short_description: Restore files of a host from its backups
version_added: 0.1.0
description:
  - Restores paths of one backup into a directory that is empty or not there. What lies in its place on the host is not touched, so
    nothing is lost by looking; copy from there what you need.
  - Refuses before anything is written where there is no such backup, where the backup does not have a path, where the directory holds something,
    or where its file system has too little room.
  - It is idempotent by its directory. A directory that a complete restore of the same backup and paths made is left as it is.
options:
  settings:
    description: The file that the role C(restic) wrote on the host whose backups these are, with location and password of the repository.
    type: path
    default: /etc/uptier/restic.json
  settings_content:
    description:
      - In place of O(settings), its content as JSON, for backups of another host.
      - It is one text, since each value of a secret dictionary, host names and numbers among them, would be made illegible in what this module returns.
    type: str
  snapshot:
    description: The backup - V(latest), or the beginning of its number as C(restic_backup.py list) shows it.
    type: str
    default: latest
  before:
    description: In place of O(snapshot), a moment as ISO 8601. The newest backup that was made before it is taken.
    type: str
  paths:
    description: What to restore, with everything below it. Empty for the whole backup.
    type: list
    elements: path
    default: []
  directory:
    description: Where to. C(/etc/fstab) of the backup is at C(etc/fstab) below it.
    type: path
    required: true
attributes:
  check_mode:
    description: Says which backup would be restored and how large it is, and refuses for the same reasons.
    support: full
  diff_mode:
    description: Nothing is compared.
    support: none
  platform:
    description: Target platforms.
    platforms: posix
    support: full
seealso:
  - module: uptier.platform.redis_restore
author:
  - The uptier.platform authors (@uptier)
"""

EXAMPLES = r"""
- name: What was in /etc/nginx yesterday evening
  uptier.platform.file_restore:
    paths: [/etc/nginx]
    before: "2026-11-26T20:00:00+01:00"
    directory: /var/restore/nginx
"""

RETURN = r"""
snapshot:
  description: The backup that was restored.
  returned: success
  type: dict
  sample: {"id": "8f2c31d0", "time": "2026-11-26T18:20:03+00:00", "host": "app1"}
directory:
  description: Where it is.
  returned: success
  type: str
  sample: /var/restore/nginx
bytes:
  description: Size of what was restored (check mode - would be).
  returned: success
  type: int
  sample: 18211
files:
  description: How many files that are.
  returned: success
  type: int
  sample: 14
seconds:
  description: How long it took.
  returned: changed
  type: float
  sample: 1.2
reason:
  description: Machine-readable cause of a failure. C(no_settings), C(no_snapshot), C(no_path), C(not_empty), C(no_room), and what restic says -
    C(unreachable), C(wrong_password), C(locked), C(damaged), C(failed).
  returned: on failure
  type: str
  sample: no_path
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.uptier.platform.plugins.module_utils.host.restic import ResticError
from ansible_collections.uptier.platform.plugins.module_utils.host.restic_restore import Restore


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "settings": {"type": "path", "default": "/etc/uptier/restic.json"},
            "settings_content": {"type": "str", "no_log": True},
            "snapshot": {"type": "str", "default": "latest"},
            "before": {"type": "str"},
            "paths": {"type": "list", "elements": "path", "default": []},
            "directory": {"type": "path", "required": True},
        },
        supports_check_mode=True,
    )
    try:
        restore = Restore(module.params)
        module.no_log_values.update(restore.secrets)
        module.exit_json(**restore.run(module.check_mode))
    except ResticError as error:
        module.fail_json(msg=str(error), reason=error.reason)


if __name__ == "__main__":
    main()
