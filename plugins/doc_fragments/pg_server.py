# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""How a PostgreSQL server elsewhere is reached."""

from __future__ import annotations


class ModuleDocFragment:
    """The option `server` of modules that work on a PostgreSQL server."""

    DOCUMENTATION = r"""
options:
  server:
    description:
      - A server elsewhere, for example a provider's. It is reached by TCP and TLS 1.2 or newer, its certificate is verified against
        authority and name, and the password is proved by SCRAM-SHA-256; one that asks for less is refused.
    type: dict
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
"""
