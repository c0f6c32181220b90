# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Every log file that a role names has somebody who keeps it small. tier_startup asks a whole host the same."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
PLACE = re.compile(r"/var/log/[A-Za-z0-9_./-]+")
# Who rotates what is below a path: a file of ours, or the package that brings program and rotation.
OWNERS = {
    "/var/log/sudo.log": ROOT / "roles/hardening/templates/logrotate.j2",
    "/var/log/nginx": "nginx-common",
    "/var/log/pgbackrest": "pgbackrest",
    "/var/log/postgresql": "postgresql-common; and the platform's own server writes to the journal",
    "/var/log/letsencrypt": "certbot",
    "/var/log/grafana": "nobody: Grafana writes to the journal, and its directory stays empty",
    "/var/log/audit": "auditd itself",
    "/var/log/aide": "aide-common",
}


def test_every_log_file_is_rotated() -> None:
    named: dict[str, Path] = {}
    for folder in ("templates", "tasks", "vars", "defaults", "files", "handlers"):
        for path in ROOT.glob(f"roles/*/{folder}/**/*"):
            if path.is_file() and path.suffix != ".pyc":
                named.update(dict.fromkeys(PLACE.findall(path.read_text(encoding="utf-8")), path))
    assert len(named) > 5
    lost = {place: path for place, path in named.items() if not any(place == own or place.startswith(f"{own}/") for own in OWNERS)}
    assert lost == {}, "write a file for logrotate, or say here who rotates it"
    for place, owner in OWNERS.items():
        assert not isinstance(owner, Path) or re.search(rf"^{re.escape(place)} {{$", owner.read_text(encoding="utf-8"), re.MULTILINE)
