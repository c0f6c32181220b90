#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

# Documentation of an action plugin; it runs on the controller only, so there is no supports_check_mode here.

from __future__ import annotations

DOCUMENTATION = r"""
module: vault_file
short_description: Write strong secrets into a vault file
version_added: 0.1.0
description:
  - Adds every secret that the platform needs and the file does not have, keeps every other, and encrypts the file as a whole.
  - Runs on the controller, within Ansible's own process. No secret is passed to another program or shown.
options:
  path:
    description: The vault file.
    type: path
    required: true
  password_file:
    description: File with the vault password. Made, readable by its owner only, when neither it nor an encrypted vault file exists.
    type: path
    required: true
  applications:
    description: Applications, as in C(platform_applications). Passwords of their database and cache users follow from them.
    type: list
    elements: dict
    default: []
attributes:
  check_mode:
    description: Says what would be made.
    support: full
  diff_mode:
    description: Shows names, never values.
    support: full
  platform:
    description: Target platforms.
    platforms: posix
    support: full
author:
  - The uptier.platform authors (@uptier)
"""

EXAMPLES = r"""
- name: Make missing secrets
  uptier.platform.vault_file:
    path: "{{ inventory_dir }}/group_vars/all/vault.yml"
    password_file: "{{ inventory_dir }}/.vault_password"
    applications: "{{ platform_applications }}"
  run_once: true
"""

RETURN = r"""
made:
  description: Names of the secrets that were made.
  returned: always
  type: list
  elements: str
  sample: [vault_redis_admin_password, vault_postgresql_user_passwords.shop]
path:
  description: The vault file.
  returned: always
  type: str
password_file:
  description: The file with its password.
  returned: always
  type: str
"""
