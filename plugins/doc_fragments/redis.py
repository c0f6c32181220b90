# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Options that every module which talks to Redis shares."""

from __future__ import annotations


class ModuleDocFragment:
    """Documentation of redis_common_argument_spec()."""

    DOCUMENTATION = r"""
options:
  username:
    description: ACL user to log in as. It needs all commands.
    type: str
    default: admin
  password:
    description: Password of O(username).
    type: str
    required: true
  tls_ca:
    description: File with the certificate authority that signed the nodes' certificates. Name and chain are verified.
    type: path
    default: /etc/uptier/pki/ca.crt
  tls_cert:
    description: Client certificate to show.
    type: path
    default: /etc/uptier/pki/host.crt
  tls_key:
    description: Key of O(tls_cert).
    type: path
    default: /etc/uptier/pki/host.key
  connect_timeout:
    description: Seconds to wait for one node to connect or to answer.
    type: float
    default: 3
"""

    SHAPE = r"""
options:
  nodes:
    description:
      - Every Redis process that the cluster consists of, masters and replicas alike. Which of them leads is
        not declared; the cluster decides that.
    type: list
    elements: dict
    required: true
    suboptions:
      name:
        description: Host on which the process runs. A replica is never put on its master's host.
        type: str
        required: true
      address:
        description: IP address on which it listens.
        type: str
        required: true
      port:
        description: Port of the TLS listener; the cluster bus is 10000 above.
        type: int
        default: 6379
      zone:
        description: Failure zone of the host. Where there is a choice a replica is put into another zone than its master.
        type: str
        default: ""
  masters:
    description: Number of nodes that hold slots.
    type: int
    required: true
  replicas_per_master:
    description: Number of replicas of each master. O(nodes) must have O(masters) times one more than this entries.
    type: int
    default: 0
"""
