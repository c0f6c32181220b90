#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: redis_server_info
short_description: Whether applications on this host can use a Redis that a provider runs
version_added: 0.1.0
description:
  - Connects from the host that it runs on, verifies the certificate by authority and name, logs in and reads what the server says of
    itself. Changes nothing.
  - Fails when applications could not use the server, with all reasons at once.
  - A provider may keep C(INFO) to itself; what it holds is not known then, and stops nothing.
attributes:
  check_mode:
    description: Changes nothing, so check mode is the same.
    support: full
  diff_mode:
    description: Changes nothing.
    support: none
  platform:
    description: Target platforms.
    platforms: posix
    support: full
options:
  host:
    description: Name of the server as in its certificate.
    type: str
    required: true
  port:
    description: Its port.
    type: int
    default: 6379
  username:
    description: User that the applications log in as.
    type: str
    default: default
  password:
    description: Password of O(username).
    type: str
    required: true
  tls:
    description: Whether the connection is encrypted and verified.
    type: bool
    default: true
  ca:
    description: Certificate authority that signed the server's certificate, as text in PEM format. Empty for those that the system trusts.
    type: str
    default: ""
  cluster:
    description: Whether the name leads to a Redis Cluster.
    type: bool
    default: false
  timeout:
    description: Seconds to wait for the connection and for each answer.
    type: float
    default: 10
seealso:
  - module: uptier.platform.redis_cluster_info
author:
  - The uptier.platform authors (@uptier)
"""

EXAMPLES = r"""
- name: See that the provider's cache can be used
  uptier.platform.redis_server_info:
    host: cache-shop.provider.example
    password: "{{ vault_redis_managed_password }}"
"""

RETURN = r"""
version:
  description: Release of the server; null where it does not say.
  returned: success
  type: str
  sample: "7.2.4"
cluster:
  description: Whether it is a node of a cluster; null where it does not say.
  returned: success
  type: bool
role:
  description: V(master) or V(slave); null where it does not say.
  returned: success
  type: str
  sample: master
policy:
  description: What it does when its memory is full; null where it does not say.
  returned: success
  type: str
  sample: allkeys-lru
tls:
  description: Version of TLS that was spoken; null without TLS.
  returned: success
  type: str
  sample: TLSv1.3
problems:
  description: All that is wrong.
  returned: on failure
  type: list
  elements: str
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.uptier.platform.plugins.module_utils.redis.resp import RespError, Unreachable
from ansible_collections.uptier.platform.plugins.module_utils.redis.server import Managed, failure, problems


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "host": {"type": "str", "required": True},
            "port": {"type": "int", "default": 6379},
            "username": {"type": "str", "default": "default"},
            "password": {"type": "str", "required": True, "no_log": True},
            "tls": {"type": "bool", "default": True},
            "ca": {"type": "str", "default": ""},
            "cluster": {"type": "bool", "default": False},
            "timeout": {"type": "float", "default": 10.0},
        },
        supports_check_mode=True,
    )
    given = {key: value for key, value in module.params.items() if key != "cluster"}
    server = Managed(**given)
    try:
        seen = server.look()
    except (Unreachable, RespError) as error:
        said = failure(server, error)
        module.fail_json(msg=said, problems=[said])
    found = problems(seen, server.label, module.params["cluster"])
    if found:
        module.fail_json(msg=" ".join(found), problems=found)
    module.exit_json(changed=False, **seen)


if __name__ == "__main__":
    main()
