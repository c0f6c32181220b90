#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

# Documentation of an action plugin; it asks dpkg in plain shell and hands the rest to ansible.builtin.apt.

from __future__ import annotations

DOCUMENTATION = r"""
module: packages
short_description: Install Debian packages, and cost nothing where they are installed
version_added: 0.1.0
description:
  - Asks C(dpkg-query) which of the packages are missing, and runs M(ansible.builtin.apt) for those only.
    Where nothing is missing, neither Python nor apt is started on the host.
  - Packages are installed without recommended ones and without starting their services; the lock of dpkg is waited for.
  - Package lists are updated before an installation only, where there are none or they are old.
  - Does not upgrade what is installed, unless a version is given and the installed one is another.
options:
  name:
    description: Package names, also C(name=version); the version may hold wildcards.
    type: list
    elements: str
    default: []
  ahead_of_groups:
    description:
      - Inventory groups of the host. What the roles of this collection's layers install on hosts of these groups is installed along, in
        one run of apt; those roles then find it there.
      - Where that fails, O(name) alone is installed, and the role that cannot have a package says so.
    type: list
    elements: str
    default: []
  lists_valid_seconds:
    description: Age in seconds up to which package lists are used as they are.
    type: int
    default: 3600
attributes:
  check_mode:
    description: Reports what would be installed, also on a host that has no package lists yet.
    support: full
  diff_mode:
    description: Lists the packages.
    support: full
  platform:
    description: Target platforms.
    platforms: debian
    support: full
seealso:
  - module: ansible.builtin.apt
author:
  - The uptier.platform authors (@uptier)
"""

EXAMPLES = r"""
- name: Install | HAProxy
  uptier.platform.packages:
    name: [haproxy]
  register: __haproxy_install
"""

RETURN = r"""
missing:
  description: The entries that the host lacked.
  returned: always
  type: list
  elements: str
  sample: [haproxy]
"""
