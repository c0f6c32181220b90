# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Names that are taken before any application comes: by the platform, by Debian and by the daemons. Pure data and one function.

An application's name becomes a system user and its group, the first part of its units' names, a database with the users
NAME, NAME_owner and NAME_ro, a user of the cache, a pool and a site of the gateway. Whoever adds a user, a unit or a
site to the platform adds its name here; a test compares.
"""

from __future__ import annotations

import re

# Users of the cache that the platform makes.
CACHE_USERS = ("default", "admin", "replica", "monitor")

_PLATFORM = "a user or a service of the platform"
_DEBIAN = "a user, a group or a unit of Debian"
_POSTGRESQL = "a user or a database of PostgreSQL"
_OWNERS: tuple[tuple[str, str], ...] = (
    (
        _PLATFORM,
        """
        alertmanager alloy certbot etcd grafana haproxy keepalived keepalived_script loki nginx patroni pgbackrest pgbouncer platform
        platform_admin platform_stats prometheus redis restic file-backup uptier
        """,
    ),
    (
        _POSTGRESQL,
        """
        postgres template0 template1 postgresql replicator rewind rewinder monitor public none user current_user session_user
        current_role
        """,
    ),
    ("a user of the cache", " ".join(CACHE_USERS)),
    (
        _DEBIAN,
        """
        root daemon bin sys sync games man lp mail news uucp proxy backup list irc nobody nogroup adm tty disk kmem dialout fax voice
        cdrom floppy tape sudo audio dip operator src shadow utmp video sasl plugdev staff users input render kvm sgx crontab netdev
        messagebus polkitd sshd systemd docker container serial apt dpkg exim4 fwupd lvm2 podman sysstat unattended
        """,
    ),
)
NAMES: dict[str, str] = {name: owner for owner, names in reversed(_OWNERS) for name in names.split()}
PREFIXES: dict[str, str] = {"pg_": "what PostgreSQL keeps for itself", "systemd_": _DEBIAN}


def owner_of(name: str) -> str | None:
    """Return to whom a name belongs that no application may have; None for a free one."""
    for prefix, owner in PREFIXES.items():
        if name.startswith(prefix):
            return owner
    return NAMES.get(re.sub(r"_(owner|ro)$", "", name)) if name not in NAMES else NAMES[name]
