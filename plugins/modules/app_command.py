#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: app_command
short_description: Run a command of an application's release once
version_added: 0.1.0
description:
  - Runs a command in the current release of an application, with the user, environment, limits and sandbox of one of its services.
  - The command runs beside the instances, under systemd. It is not one of them and has no port.
options:
  application:
    description: Name of the application.
    type: str
    required: true
  unit:
    description: Name of the service's template unit without C(@.service).
    type: str
    required: true
  command:
    description:
      - The command. Its words are those of a shell; C($NAME) and C(${NAME}) come from the environment. A program whose path is
        relative is a file of the release.
    type: str
    required: true
  seconds:
    description: How long it may take, in seconds; then it is stopped.
    type: int
    default: 3600
  withheld:
    description: Variables of the application's environment whose values are struck out of the output, before it leaves the host.
    type: list
    elements: str
    default: []
attributes:
  check_mode:
    description: Says what would run, and runs nothing.
    support: full
  diff_mode:
    description: There is nothing to compare.
    support: none
  platform:
    description: Target platforms.
    platforms: posix
    support: full
author:
  - The uptier.platform authors (@uptier)
"""

EXAMPLES = r"""
- name: Clear what the application keeps in the cache
  uptier.platform.app_command:
    application: shop
    unit: shop-worker
    command: node dist/clear.js --all
    withheld: [DB_PASSWORD]
"""

RETURN = r"""
release:
  description: The release that it ran in.
  returned: success
  type: str
  sample: 1.4.2
status:
  description: Exit status of the command. The module does not fail when it is not 0.
  returned: success, not in check mode
  type: int
ended:
  description: How it ended, for people.
  returned: success, not in check mode
  type: str
  sample: ended with status 3
stdout:
  description: The end of what it wrote to its standard output, without secrets.
  returned: success, not in check mode
  type: str
stderr:
  description: The same of its standard error.
  returned: success, not in check mode
  type: str
reason:
  description: Machine-readable cause of a failure, V(no_release).
  returned: on failure
  type: str
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.uptier.platform.plugins.module_utils.application.command_apply import Command
from ansible_collections.uptier.platform.plugins.module_utils.application.release_apply import ReleaseError


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "application": {"type": "str", "required": True},
            "unit": {"type": "str", "required": True},
            "command": {"type": "str", "required": True},
            "seconds": {"type": "int", "default": 3600},
            "withheld": {"type": "list", "elements": "str", "default": []},
        },
        supports_check_mode=True,
    )
    given = module.params
    try:
        command = Command(module.run_command, given["application"], given["unit"])
    except ReleaseError as error:
        module.fail_json(msg=str(error), reason=error.reason)
    told = {} if module.check_mode else command.start(given["command"], given["seconds"], given["withheld"])
    module.exit_json(changed=True, release=command.release, **told)


if __name__ == "__main__":
    main()
