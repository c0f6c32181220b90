# SPDX-License-Identifier: GPL-3.0-or-later
"""One restart for all tests of what is still so afterwards."""

from __future__ import annotations

import pytest


@pytest.fixture(scope="session")
def restarted(lab):
    """Restart the newer host and return it."""
    lab.restart("new")
    host = lab.host("new")
    # Until systemd itself is there, asking it to wait fails at once.
    host.run("for n in $(seq 60); do systemctl is-system-running --wait | grep -qE 'running|degraded' && break; sleep 0.5; done")
    return host
