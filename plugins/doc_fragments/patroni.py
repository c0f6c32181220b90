# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations


class ModuleDocFragment:
    """Options of every module that speaks to Patroni."""

    DOCUMENTATION = r"""
options:
  url:
    description: Patroni's REST interface on any member.
    type: str
    required: true
  member:
    description: Name of the member to wait for. Without it, any running leader is enough.
    type: str
  timeout:
    description: Seconds to wait until the cluster has a leader and the member leads or streams. V(0) asks once and does not judge.
    type: int
    default: 300
"""

    LOGIN = r"""
options:
  ca:
    description: Authority of its certificate.
    type: path
  cert:
    description: Client certificate to show.
    type: path
  key:
    description: Key of the client certificate.
    type: path
  username:
    description: User for what changes something.
    type: str
  password:
    description: Password of that user.
    type: str
"""
