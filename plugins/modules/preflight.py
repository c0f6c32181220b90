#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

# Documentation of an action plugin; it runs on the controller only, so there is no supports_check_mode here.

from __future__ import annotations

DOCUMENTATION = r"""
module: preflight
short_description: List all that is wrong with an inventory, at once
version_added: 0.1.0
description:
  - Looks at groups, variables, addresses, secrets and capacity of the whole inventory, and at what M(uptier.platform.probe_host)
    found on each host (registered as C(__platform_probe)).
  - Fails with one message that lists every problem, each with what was seen and how it is put right. Touches nothing.
  - Run it once (C(run_once)).
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
- name: Preflight | List all that is wrong
  uptier.platform.preflight:
  run_once: true
"""

RETURN = r"""
problems:
  description: Number of problems; the message has them all.
  returned: always
  type: int
  sample: 0
reason:
  description: Machine-readable cause of a failure.
  returned: on failure
  type: str
  sample: preflight_failed
"""
