# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What app_command does on a host."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from ansible_collections.uptier.platform.plugins.module_utils.application.command import ended, properties, settings, struck
from ansible_collections.uptier.platform.plugins.module_utils.application.deploy_apply import bare
from ansible_collections.uptier.platform.plugins.module_utils.application.release import argv
from ansible_collections.uptier.platform.plugins.module_utils.application.release_apply import UNITS, ReleaseError, Run, read

# Of each stream, in characters: what comes last says most.
LONGEST = 200_000


class Command:
    """A command of the release that this host was brought to."""

    def __init__(self, run: Run, application: str, unit: str) -> None:
        """Look at the release and the unit.

        Raises:
            ReleaseError: one of them is not there.
        """
        self.run, self.host, self.unit = run, bare(run, application), unit
        self.release = self.host.current()
        self.text = read(UNITS / f"{unit}@.service")
        if not self.release or not self.text:
            lacking = "no release of it" if not self.release else f"no unit {unit}@.service"
            raise ReleaseError("no_release", f"{application}: there is {lacking} on this host. Run deploy.yml, or the tier, first.")

    def start(self, command: str, seconds: int, withheld: Sequence[str]) -> dict[str, Any]:
        """Run it to its end; `withheld` are the variables whose values are struck out of what it says."""
        folder = str(self.host.base / "releases" / self.release)
        instance = f"{self.host.instance_link(self.unit, 0)}".replace("@0", "@%i")
        name = f"uptier-command-{self.host.name}-{os.getpid()}"
        told = [*properties(self.text, instance, folder), f"RuntimeMaxSec={seconds}", f"SyslogIdentifier={name}"]
        words = ["--quiet", "--wait", "--pipe", "--collect", "--service-type=exec", f"--unit={name}"]
        # What the module reads is not the command's; it finds an end of input. Variables are those of the application, not of this process.
        status, out, err = self.run(
            [
                "sh",
                "-c",
                'exec "$@" </dev/null',
                "sh",
                "systemd-run",
                *words,
                *(f"--property={one}" for one in told),
                *argv(command, folder),
            ],
            expand_user_and_vars=False,
        )
        journal = self.run(["journalctl", "--no-pager", "--output=cat", "--lines=50", f"--unit={name}.service"])[1] if status else ""
        known = settings(read(self.host.settings))
        secrets = [known[key] for key in withheld if key in known]
        return {
            "status": status,
            "ended": ended(status, journal, seconds),
            "stdout": shortened(struck(out, secrets)),
            "stderr": shortened(struck(err, secrets)),
        }


def shortened(text: str) -> str:
    """Return the end of a text, in characters that can travel."""
    text = text.encode("utf-8", "replace").decode("utf-8")
    left_out = len(text) - LONGEST
    return text if left_out <= 0 else f"({left_out} characters before this are left out)\n{text[-LONGEST:]}"
