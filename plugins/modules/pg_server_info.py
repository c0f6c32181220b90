#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: pg_server_info
short_description: Whether a PostgreSQL server that somebody else runs can be used
version_added: 0.1.0
description:
  - Logs in to a server, for example a provider's, from the host on which it runs, and says which release it is and what the user
    may do there. Needs no client program.
  - Fails with all that is wrong at once, each with what was seen and what to do.
  - PostgreSQL 15 is the oldest release that is accepted.
options:
  server:
    description:
      - A server elsewhere, for example a provider's. It is reached by TCP and TLS 1.2 or newer, its certificate is verified against
        authority and name, and the password is proved by SCRAM-SHA-256; one that asks for less is refused.
    type: dict
    required: true
    suboptions:
      host:
        description: Name of the server, as in its certificate.
        type: str
        required: true
      port:
        description: Port of the server.
        type: int
        default: 5432
      user:
        description: User to log in as.
        type: str
        required: true
      password:
        description: Its password. It leaves this process as a proof only.
        type: str
        required: true
      database:
        description: Database to log in to for what concerns the whole server.
        type: str
        default: postgres
      ca:
        description: Certificate of the authority, as text in PEM form. Empty for the authorities that the host trusts.
        type: str
        default: ""
      connect_timeout:
        description: Seconds after which the server counts as not reachable.
        type: int
        default: 10
  replica_host:
    description: A second address that only reads; empty for none. It is logged in to with the same user, password and authority.
    type: str
    default: ""
  replica_port:
    description: Port of O(replica_host).
    type: int
    default: 5432
  needs:
    description: What the user has to be allowed.
    type: list
    elements: str
    choices: [createdb, createrole]
    default: []
  grants:
    description: Roles that the user has to be able to grant to others.
    type: list
    elements: str
    default: []
  connections:
    description: Connections that the server has to accept from users other than superusers.
    type: int
    default: 0
attributes:
  check_mode:
    description: Changes nothing in either mode.
    support: full
  diff_mode:
    description: Has nothing to show.
    support: none
  platform:
    description: Target platforms.
    platforms: posix
    support: full
author:
  - The uptier.platform authors (@uptier)
"""

EXAMPLES = r"""
- name: Preflight | The provider's server can be used
  uptier.platform.pg_server_info:
    server:
      host: db.provider.example
      user: admin
      password: "{{ vault_postgresql_managed_password }}"
    needs: [createdb, createrole]
"""

RETURN = r"""
release:
  description: Major release.
  returned: success
  type: int
  sample: 17
version:
  description: Release as the server says it.
  returned: success
  type: str
  sample: "17.5"
tls:
  description: Version of TLS that was spoken.
  returned: success
  type: str
  sample: TLSv1.3
superuser:
  description: Whether the user is a superuser.
  returned: success
  type: bool
connections:
  description: Connections that the server accepts from users other than superusers.
  returned: success
  type: int
  sample: 97
problems:
  description: All that is wrong.
  returned: on failure
  type: list
  elements: str
  sample: ["The user admin of db.provider.example:5432 lacks CREATEDB. Have an administrator there run: ALTER ROLE admin CREATEDB."]
reason:
  description: Machine-readable cause of a failure.
  returned: on failure
  type: str
  sample: not_usable
"""

from dataclasses import replace
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.uptier.platform.plugins.module_utils.postgresql.remote import ARGUMENTS, Remote
from ansible_collections.uptier.platform.plugins.module_utils.postgresql.server import ATTRIBUTES, QUERY, problems_of
from ansible_collections.uptier.platform.plugins.module_utils.postgresql.session import SessionError, SqlError


def look(remote: Remote) -> tuple[dict[str, Any], str, str]:
    """Return what a server says of itself and of us; without a login why there is none, as a sentence and as a reason."""
    try:
        with remote.session() as session:
            return {**session.data(QUERY), "tls": session.tls}, "", ""
    except SessionError as error:
        return {}, str(error), error.reason
    except SqlError as error:
        return {}, f"{remote.label} refused: {error}", "sql_failed"


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "server": {**ARGUMENTS, "required": True},
            "replica_host": {"type": "str", "default": ""},
            "replica_port": {"type": "int", "default": 5432},
            "needs": {"type": "list", "elements": "str", "choices": list(ATTRIBUTES), "default": []},
            "grants": {"type": "list", "elements": "str", "default": []},
            "connections": {"type": "int", "default": 0},
        },
        supports_check_mode=True,
    )
    given = module.params
    remote = Remote(**given["server"])
    replica = replace(remote, host=given["replica_host"], port=given["replica_port"])
    seen, problem, reason = look(remote)
    problems = [problem] if problem else problems_of(seen, remote.label, given["needs"], given["grants"], given["connections"])
    if replica.host and replica.label != remote.label:
        other, problem, dummy = look(replica)
        problems += [problem] if problem else problems_of(other, replica.label, reads_only=True)
    if problems:
        module.fail_json(msg=" ".join(problems), problems=problems, reason=reason or "not_usable")
    module.exit_json(changed=False, **{key: seen[key] for key in ("release", "version", "tls", "superuser", "connections")})


if __name__ == "__main__":
    main()
