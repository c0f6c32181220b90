#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

# Documentation of an action plugin; nothing of it runs on the host but two shell commands, so there is no supports_check_mode here.

from __future__ import annotations

DOCUMENTATION = r"""
module: probe_host
short_description: Ask a host whether the platform can be installed on it
version_added: 0.1.0
description:
  - Connects, asks for the Debian release and Python, and becomes root, in plain shell, so that it also works where Python is missing.
  - Never fails and never marks a host unreachable. What is wrong is returned as data, for M(uptier.platform.preflight).
options:
  look:
    description:
      - Look as root also at what the host has that the platform did not put there. It only reads.
      - On a host that the platform has converged these are a few questions for files.
    type: bool
    default: false
attributes:
  check_mode:
    description: Changes nothing in either mode.
    support: full
  diff_mode:
    description: Has nothing to show.
    support: none
  platform:
    description: Target platforms.
    platforms: posix
    support: full
author:
  - The uptier.platform authors (@uptier)
"""

EXAMPLES = r"""
- name: Preflight | Ask every host who it is
  uptier.platform.probe_host:
    look: true
  register: __platform_probe
"""

RETURN = r"""
release:
  description: Version of the system.
  returned: when the host answers
  type: str
  sample: "13"
python:
  description: Version of Python.
  returned: when there is one
  type: str
  sample: "3.13"
login:
  description: User with whom Ansible logs in before it becomes root, and the address from which it comes as the host sees it.
  returned: when the host answers
  type: dict
  sample: {user: deploy, from: 192.0.2.7}
unpacked:
  description: Releases of applications that are unpacked on the host, as APPLICATION/VERSION.
  returned: always
  type: list
  elements: str
  sample: [shop/1.4.0]
found:
  description:
    - What is there that the platform did not put there, for M(uptier.platform.preflight) to judge. PostgreSQL's clusters, data of Redis, settings,
      data and units of the programs that the host will get, who listens, firewalls, container engines, and users of the same names.
  returned: always
  type: dict
  sample: {platform: true, ours: [PostgreSQL], claims: [postgresql], parts: {}, clusters: [], redis: []}
problems:
  description: What prevents it, as it was seen, and how to fix it.
  returned: always
  type: list
  elements: dict
  sample: [{seen: does not answer, fix: "Check its address, that it runs, and that the network lets SSH through."}]
"""
