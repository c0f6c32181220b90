#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: pgbackrest_stanza
short_description: Have a pgBackRest stanza, a working archive and a first backup
version_added: 0.1.0
description:
  - Run it on the host of the repository. It makes the stanza where it is missing, proves that WAL arrives and takes the first
    full backup where there is none, in each repository. Where there are usable backups it only reads.
  - A second repository that cannot be used is told by a warning, and keeps nobody from the first one.
  - Deletes nothing and never upgrades a stanza to another cluster.
options:
  stanza:
    description: Name of the stanza.
    type: str
    required: true
  first_backup:
    description: Take a full backup when there is none.
    type: bool
    default: true
  user:
    description: Operating system's user as whom pgBackRest runs.
    type: str
    default: postgres
  timeout:
    description: Seconds to wait for another pgBackRest command that holds the lock.
    type: int
    default: 120
attributes:
  check_mode:
    description: Reads the repository and reports the same steps.
    support: full
  diff_mode:
    description: Shows the steps.
    support: full
  platform:
    description: Target platforms.
    platforms: posix
    support: full
author:
  - The uptier.platform authors (@uptier)
"""

EXAMPLES = r"""
- name: Service | Have a stanza, a working archive and a first backup
  uptier.platform.pgbackrest_stanza:
    stanza: main
"""

RETURN = r"""
steps:
  description: Commands that were run, or would be in check mode.
  returned: success
  type: list
  elements: str
  sample: [stanza-create, check, backup --type=full]
backups:
  description: Labels of the backups that were there before.
  returned: success
  type: list
  elements: str
  sample: [20261120-230000F]
reason:
  description: Machine-readable cause of a failure.
  returned: on failure
  type: str
  sample: wrong_key
"""

import time
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.uptier.platform.plugins.module_utils.postgresql.deadline import Deadline
from ansible_collections.uptier.platform.plugins.module_utils.postgresql.pgbackrest import (
    LOCKED,
    RepositoryError,
    explain,
    info_options,
    merged,
    out_of_reach,
    parse,
    plan,
    read_config,
    repositories,
    stanza_of,
    unreadable,
)


def run(module: AnsibleModule, command: str, *arguments: str) -> str:
    """Run pgBackRest; wait for a command that holds the lock (a timer's backup), a bounded time."""
    deadline = Deadline(module.params["timeout"])
    argv = ["runuser", "-u", module.params["user"], "--", "pgbackrest", f"--stanza={module.params['stanza']}", *arguments, command]
    while True:
        code, out, err = module.run_command(argv, cwd="/")
        if code == 0:
            return out
        if code != LOCKED or deadline.passed:
            raise explain(command, code, f"{out}\n{err}")
        time.sleep(5)


def read(module: AnsibleModule) -> list[dict[str, Any]]:
    """Ask each repository by itself; one beside the first that does not answer counts as out of reach."""
    try:
        numbers = sorted(repositories(read_config(), module.params["stanza"]))
    except RepositoryError:
        numbers = []  # pgBackRest says it better
    parts = []
    for number in numbers if len(numbers) > 1 else [0]:
        try:
            options = info_options(number) if number else []
            parts.append(parse(run(module, "info", *options, "--output=json", "--log-level-console=error")))
        except RepositoryError as error:
            if number < 2:
                raise
            parts.append(unreadable(module.params["stanza"], number, str(error)))
    return merged(parts)


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "stanza": {"type": "str", "required": True},
            "first_backup": {"type": "bool", "default": True},
            "user": {"type": "str", "default": "postgres"},
            "timeout": {"type": "int", "default": 120},
        },
        supports_check_mode=True,
    )
    parameters = module.params
    try:
        info = read(module)
        steps = plan(info, parameters["stanza"], parameters["first_backup"])
        if not module.check_mode:
            for step in steps:
                run(module, *step.split())
    except RepositoryError as error:
        module.fail_json(msg=str(error), reason=error.reason)
    for number, text in out_of_reach(info, parameters["stanza"]).items():
        module.warn(f"Repository {number} of {parameters['stanza']} cannot be used now, and gets neither WAL nor backups: {text}")
    backups = [entry["label"] for entry in stanza_of(info, parameters["stanza"]).get("backup", [])]
    diff = {"before": "", "after": "".join(f"pgbackrest {step}\n" for step in steps)}
    module.exit_json(changed=bool(steps), steps=steps, backups=backups, diff=diff)


if __name__ == "__main__":
    main()
