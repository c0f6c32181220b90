# SPDX-License-Identifier: GPL-3.0-or-later
"""The platform with a third database host, from test_members.py, in which it joins, to test_shrink.py, in which it leaves."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import pytest
import yaml
from harness import engine
from harness.platform import ROOT, Platform

NEW = "db3"
PASSWORDS = ["vault_postgresql_user_passwords", "vault_redis_user_passwords"]


@pytest.fixture(scope="session")
def wider(platform: Platform) -> Iterator[Platform]:
    """The platform with one line more in its inventory and a bare host for it. The applications have other passwords from now on."""
    known = platform.hostvars["app1"]
    changed = {kind: {name: f"{value}-2" for name, value in known[kind].items()} for kind in PASSWORDS}
    # Read after vault.yml, which stays as it is.
    (platform.inventory / "group_vars" / "all" / "vault_changed.yml").write_text(yaml.safe_dump(changed), encoding="utf-8")
    platform.declare(NEW, {"lab_number": 33, "lab_release": 12}, "postgresql")
    lab = [sys.executable, str(ROOT / "scripts" / "lab.py"), "up", f"--name={platform.lab}", f"--net={platform.net}"]
    subprocess.run([*lab, f"--inventory={platform.inventory}"], check=True, stdout=subprocess.DEVNULL)
    yield platform
    engine.remove(platform.container(NEW))
    platform.undeclare(NEW)
