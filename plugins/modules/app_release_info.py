#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: app_release_info
short_description: Tell which releases of applications a host has, and what its instances run
version_added: 0.1.0
description:
  - Reads what M(uptier.platform.app_release) and M(uptier.platform.app_deploy) have left on a host, and asks systemd for the
    instances. Changes nothing.
options:
  applications:
    description: Names of the applications.
    type: list
    elements: str
    required: true
  tolerate:
    description:
      - Return that the host cannot be reached, or what fails, in RV(failure) and go on. For those who can do without this host.
    type: bool
    default: false
attributes:
  check_mode:
    description: Reads the same.
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
- name: See what runs where
  uptier.platform.app_release_info:
    applications: [shop]
  register: seen
"""

RETURN = r"""
applications:
  description:
    - What there is, by application. RV(applications.current) is the release that the host was brought to, RV(applications.previous)
      the one before; RV(applications.origin) what it ran before a release that has not ended, null where none is under way.
  returned: success
  type: dict
  contains:
    current: {description: Directory of the current release., type: str}
    previous: {description: Directory of the release before., type: str}
    origin: {description: Release before one that has not ended., type: str}
    deployed: {description: What was released by name while the inventory said C(declared)., type: dict}
    releases: {description: "Releases that are kept, the oldest first: name, version, checksum and when it was unpacked.", type: list, elements: dict}
    instances: {description: "By unit and instance: active, enabled and release.", type: dict}
    migrated: {description: Releases whose migration was made from this host., type: list, elements: str}
    lock: {description: Who holds the lock of a release that is under way., type: dict}
    history: {description: "Releases that have ended, the newest last.", type: list, elements: dict}
failure:
  description: What failed, with O(tolerate). It has V(reason) and V(said).
  returned: O(tolerate) and something failed
  type: dict
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.uptier.platform.plugins.module_utils.application.deploy_apply import told


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "applications": {"type": "list", "elements": "str", "required": True},
            "tolerate": {"type": "bool", "default": False},
        },
        supports_check_mode=True,
    )
    module.exit_json(changed=False, applications={name: told(module.run_command, name) for name in module.params["applications"]})


if __name__ == "__main__":
    main()
