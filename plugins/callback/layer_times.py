# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Seconds per layer and task results per host."""

from __future__ import annotations

DOCUMENTATION = r"""
name: layer_times
type: aggregate
short_description: Shows how long each layer of the platform took
version_added: 0.1.0
description:
  - Adds up the time of the plays of each file below C(playbooks/layers) and shows the sums at the end of the run.
  - Counts the task results of each host, since they, not what the tasks do, make up most of the time of a run that changes nothing.
author:
  - The uptier.platform authors (@uptier)
requirements:
  - enable in configuration
options:
  report:
    description: A file to which the same figures are written as JSON. Nothing is written without it.
    type: path
    env:
      - name: UPTIER_RUN_REPORT
"""

import json
import time
from pathlib import Path
from typing import Any

from ansible.plugins.callback import CallbackBase


def layer_of(path: str, name: str) -> str:
    """Return the layer of a play: the name of its file below layers/, else its playbook's, else the play's own."""
    file = Path(path.rpartition(":")[0] or path) if path else None
    return file.stem if file is not None and file.suffix in (".yml", ".yaml") else name


class CallbackModule(CallbackBase):
    """Measure plays by the file that they stand in."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "uptier.platform.layer_times"
    CALLBACK_NEEDS_ENABLED = True

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Start with no layer."""
        super().__init__(*args, **kwargs)
        self.seconds: dict[str, float] = {}
        self.layer: str | None = None
        self.since = time.monotonic()

    def _close(self) -> None:
        now = time.monotonic()
        if self.layer is not None:
            self.seconds[self.layer] = self.seconds.get(self.layer, 0.0) + now - self.since
        self.since = now

    def v2_playbook_on_play_start(self, play: Any) -> None:
        """Note the layer that starts now."""
        self._close()
        self.layer = layer_of(play.get_path() or "", play.get_name())

    def v2_playbook_on_stats(self, stats: Any) -> None:
        """Show the sums and write the report."""
        self._close()
        hosts = {}
        for host in sorted(stats.processed):
            summary = stats.summarize(host)
            hosts[host] = {**summary, "results": summary["ok"] + summary["skipped"] + summary["failures"]}
        layers = {name: round(seconds, 1) for name, seconds in self.seconds.items()}
        if len(layers) > 1:
            self._display.banner("SECONDS PER LAYER")
            for name, seconds in layers.items():
                self._display.display(f"{name:<24}{seconds:8.1f}")
            most = max(hosts, key=lambda host: hosts[host]["results"], default=None)
            if most is not None:
                self._display.display(f"\ntask results per host: at most {hosts[most]['results']} ({most})")
        report = self.get_option("report")
        if report:
            content = {"layers": layers, "seconds": round(sum(layers.values()), 1), "hosts": hosts}
            Path(report).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
