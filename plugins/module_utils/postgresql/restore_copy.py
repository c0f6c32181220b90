# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A copy of the database as its backups held it at a point in time, for looking. Pure functions.

It is no member of anything: settings of its own, a socket that only its user reaches, no archive, no network but to the repository.
"""

from __future__ import annotations

from ansible_collections.uptier.platform.plugins.module_utils.postgresql.backup_sandbox import (
    HIDDEN,
    apart,
    as_properties,
    control_settings,
    private_server,
    settings_file,
)
from ansible_collections.uptier.platform.plugins.module_utils.postgresql.errors import Refusal
from ansible_collections.uptier.platform.plugins.module_utils.postgresql.restore_plan import Choice, needed_bytes

MARKER = ".uptier-copy"  # in its directory: what it is a copy of, once all files are there
COPY, SERVER = "uptier-copy-files.service", "uptier-copy.service"


def server_settings(directory: str, control: str, memory_mb: int) -> str:
    """Return postgresql.conf of the copy; that of the backup is not read. What pgBackRest wrote for the recovery comes after it.

    Args:
        directory: of the copy.
        control: what pg_controldata says of the data.
        memory_mb: that the server may use.
    """
    return settings_file({**private_server(directory, memory_mb), "cluster_name": "copy", **control_settings(control)})


def limits(directory: str, memory_mb: int) -> list[str]:
    """Return the properties of its units; production on the same host cannot be seen."""
    return as_properties({**apart(directory, memory_mb), "InaccessiblePaths": " ".join(f"-{path}" for path in HIDDEN)})


def refuse_small(choice: Choice, free_bytes: int, directory: str) -> None:
    """Refuse where there is no room for the files.

    Raises:
        Refusal: no_space.
    """
    wanted = needed_bytes(choice)
    if free_bytes < wanted:
        raise Refusal(
            "no_space",
            f"{directory} has {free_bytes >> 20} MiB free, and {choice.label} needs {wanted >> 20} MiB. Make room, or name another directory.",
        )
