# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Whether a PostgreSQL server that somebody else runs can be used: its release, and what we may do there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

# The oldest release that the planner of indexes knows (NULLS NOT DISTINCT); PostgreSQL maintains none that is older.
LEAST_RELEASE = 15
# Works on old servers too, so that they can be named.
QUERY = """
SELECT json_build_object('user', current_user, 'superuser', current_setting('is_superuser') = 'on',
  'release', current_setting('server_version_num')::int / 10000, 'version', current_setting('server_version'),
  'standby', pg_is_in_recovery(), 'createdb', rolcreatedb, 'createrole', rolcreaterole,
  'connections', current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int
    - coalesce(current_setting('reserved_connections', true)::int, 0),
  'grants', (SELECT coalesce(json_agg(g.rolname), '[]') FROM pg_roles g WHERE pg_has_role(g.oid, 'MEMBER WITH ADMIN OPTION')))
FROM pg_roles WHERE rolname = current_user
"""
ATTRIBUTES = ("createdb", "createrole")


def problems_of(
    seen: Mapping[str, Any],
    where: str,
    needs: Sequence[str] = (),
    grants: Sequence[str] = (),
    connections: int = 0,
    reads_only: bool = False,
) -> list[str]:
    """Return all that is wrong with a server, each with what was seen and what to do."""
    problems = []
    if seen["release"] < LEAST_RELEASE:
        text = f"{where} runs PostgreSQL {seen['version']}; {LEAST_RELEASE} is the oldest that is supported. Upgrade it at the provider."
        problems.append(text)
    if reads_only:
        return problems
    if seen["standby"]:
        problems.append(f"{where} is a read replica, which takes no writes. Give the primary as the host, the replica as replica_host.")
    lacks = [name for name in needs if not seen[name] and not seen["superuser"]]
    if lacks:
        words = " and ".join(name.upper() for name in lacks)
        text = f"The user {seen['user']} of {where} lacks {words}. Have an administrator there run: ALTER ROLE {seen['user']} "
        problems.append(f"{text}{' '.join(name.upper() for name in lacks)}.")
    # Before release 16, who may create roles may grant every one that is not a superuser's.
    free = seen["superuser"] or (seen["release"] < 16 and seen["createrole"])
    withheld = [name for name in grants if not free and name not in seen["grants"]]
    if withheld:
        names = ", ".join(withheld)
        text = f"The user {seen['user']} of {where} cannot grant {names}. Have an administrator there run: GRANT {names} TO {seen['user']} "
        problems.append(f"{text}WITH ADMIN OPTION.")
    if seen["connections"] < connections:
        text = f"{where} accepts {seen['connections']} connections, and up to {connections} may be needed"
        problems.append(f"{text}. Lower pgbouncer_connection_budget, or choose a larger server at the provider.")
    return problems
