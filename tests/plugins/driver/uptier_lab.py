# SPDX-License-Identifier: GPL-3.0-or-later
"""Molecule's Docker driver for hosts that scripts/lab.py made: their containers are named <lab>-<host>.

`scripts/bootstrap` puts this directory first on the path of the tools, so that Molecule finds this driver under the
name `docker` before the one that it derives from.
"""

from __future__ import annotations

from molecule_plugins.docker.driver import Docker


class LabDocker(Docker):
    """What differs from molecule-plugins' driver."""

    def login_options(self, instance_name: str) -> dict[str, str]:
        """Return the container of a host, for `molecule login`."""
        return {"instance": f"{self._config.provisioner.env['UPTIER_LAB']}-{instance_name}"}

    def ansible_connection_options(self, instance_name: str) -> dict[str, str]:
        """Say nothing: the inventory that scripts/lab.py wrote knows how its hosts are reached."""
        return {}
