# SPDX-License-Identifier: GPL-3.0-or-later
"""Makes Ansible keep what it compiles and packs on the controller; see tests/harness/compiled.py. It is no part of the collection."""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path

from ansible import constants
from ansible._internal._templating import _jinja_bits
from ansible.plugins.callback import CallbackBase

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from harness import compiled

DOCUMENTATION = """
name: keep_compiled
type: aggregate
short_description: Keep what Ansible compiles and packs from one run to the next
description:
  - For tests alone, which find it by C(ANSIBLE_CALLBACK_PLUGINS).
"""


class CallbackModule(CallbackBase):
    """Ansible loads it before the first process that runs a task."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "keep_compiled"

    def v2_playbook_on_start(self, playbook: object) -> None:
        """Look for kept results from now on."""
        if not compiled.possible():
            return
        kept = compiled.folder(programs())
        compiled.templates(kept, _jinja_bits)
        compiled.modules(kept / "modules", Path(constants.DEFAULT_LOCAL_TMP))


def programs() -> list[Path]:
    """Return the collection's programs, and of each other collection the file that changes with its version."""
    places = [Path(place) for place in import_module("ansible_collections").__path__]
    own = import_module("ansible_collections.uptier.platform.plugins").__path__
    return [*map(Path, own), *(path for place in places for path in sorted(place.glob("*/*/MANIFEST.json")))]
