# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Say which page of the inventory is no YAML, before Ansible stops at it."""

from __future__ import annotations

DOCUMENTATION = r"""
name: check_pages
type: aggregate
short_description: Names file, line and column of pages that are not valid YAML
version_added: 0.1.0
description:
  - Ansible stops at the first file in C(group_vars) or C(host_vars) that is not YAML, with a message that names neither file nor line.
  - Reads these files before the first play, and lists every one that cannot be read, with the line, its column and what to change.
  - Shows nothing where all can be read. Files in Ansible Vault's format are left alone.
author:
  - The uptier.platform authors (@uptier)
requirements:
  - enable in configuration
"""

from typing import Any

from ansible import context
from ansible.plugins.callback import CallbackBase
from ansible_collections.uptier.platform.plugins.plugin_utils.pages import unreadable


class CallbackModule(CallbackBase):
    """List what is wrong; that the run ends there is Ansible's own doing."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "uptier.platform.check_pages"
    CALLBACK_NEEDS_ENABLED = True

    def v2_playbook_on_start(self, playbook: Any) -> None:
        """Read the pages beside all inventories of this run."""
        for problem in unreadable(context.CLIARGS.get("inventory") or ()):
            self._display.error(str(problem), wrap_text=False)
