# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Do once a run what each task of each host would do for itself."""

from __future__ import annotations

DOCUMENTATION = r"""
name: prepare_workers
type: aggregate
short_description: Makes the processes cheaper that run tasks
version_added: 0.1.0
description:
  - Ansible runs each task of each host in a process of its own (a worker), a copy of the one that began the run, and keeps nothing of what
    a worker loads or finds. What is there before the first task is there in each of them.
  - The collection's filters and the tables that they read are loaded. In a worker that takes 0.15 seconds of processor, and to find one of
    them again takes a millisecond for each filter that a task uses.
  - A worker's collector of garbage leaves alone what the worker was copied with. To look at it means to copy all of it, and none of it is
    garbage as long as the worker lives.
  - Shows nothing.
author:
  - The uptier.platform authors (@uptier)
requirements:
  - enable in configuration
"""

import gc
import os
import pkgutil
from collections.abc import Iterator
from importlib import import_module
from typing import Any

from ansible.plugins.callback import CallbackBase
from ansible.plugins.loader import filter_loader
from ansible_collections.uptier.platform.plugins.plugin_utils.data import FOLDER, read

COLLECTION = "uptier.platform"


class CallbackModule(CallbackBase):
    """Prepare the process of which the others are copies."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "uptier.platform.prepare_workers"
    CALLBACK_NEEDS_ENABLED = True

    def v2_playbook_on_start(self, playbook: Any) -> None:
        """Load the filters, let them be found at once, and read the tables."""
        for name in names():
            wrapper = filter_loader.get(name)
            # Where Ansible looks first. It looks through every file of a collection's filters otherwise, for each name anew in each worker.
            known = getattr(filter_loader, "_cached_non_collection_wrappers", None)
            if isinstance(known, dict):
                known.setdefault(name, wrapper)
        for path in FOLDER.glob("*.yml"):
            read(path.name)
        os.register_at_fork(after_in_child=gc.freeze)


def names() -> Iterator[str]:
    """Yield the full name of each filter of the collection."""
    package = import_module(f"ansible_collections.{COLLECTION}.plugins.filter")
    for module in pkgutil.iter_modules(package.__path__):
        plugins = import_module(f"{package.__name__}.{module.name}").FilterModule().filters()
        yield from (f"{COLLECTION}.{name}" for name in plugins)
