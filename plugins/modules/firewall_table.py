#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: firewall_table
short_description: Load the platform's nftables table without locking anybody out
version_added: 0.1.0
description:
  - Owns the table C(inet platform) with default drop on input and forward, and no other table.
  - New rules are checked (C(nft -c)), then loaded in one transaction. Before that a timer is armed on the host that puts the
    previous rules back. The controller then makes a new connection; only when that works are the rules confirmed, the
    timer stopped, and the rules written to O(path), from where they are loaded at boot.
  - A run that is killed in between leaves the previous rules, also after a reboot.
  - Rules changed by hand in our table count as a difference.
options:
  rules:
    description: What the host accepts; made by the filter C(uptier.platform.firewall_rules).
    type: list
    elements: dict
    required: true
    suboptions:
      name:
        description: Name of the flow; becomes the rule's comment.
        type: str
        required: true
      protocol:
        description: Protocol.
        type: str
        choices: [tcp, udp, icmp, vrrp]
        required: true
      ports:
        description: Ports on this host.
        type: list
        elements: int
        default: []
      sources:
        description: Addresses and networks, or V(any), or V(admin).
        type: list
        elements: str
        required: true
  admin:
    description: Addresses and networks of administrators.
    type: list
    elements: str
    default: []
  admit_controller:
    description: Count the address from which this connection comes, as the host sees it, among the administrators.
    type: bool
    default: true
  forward:
    description: Interfaces of containers (C(*) at the end allowed) that may open connections through this host.
    type: list
    elements: str
    default: []
  log:
    description: Log what is dropped, ten lines a minute at most.
    type: bool
    default: true
  rollback_seconds:
    description: Seconds after which unconfirmed rules are taken back.
    type: int
    default: 60
  path:
    description: File that holds the confirmed rules.
    type: path
    default: /etc/uptier/firewall.nft
  phase:
    description: Step of the exchange. Filled in by the action plugin; do not set it.
    type: str
    choices: [look, compare, try, confirm]
    default: look
  text:
    description: Rendered rules. Filled in by the action plugin; do not set it.
    type: str
    default: ""
attributes:
  check_mode:
    description: Compares and checks, loads nothing.
    support: full
  diff_mode:
    description: Shows the rules as a unified diff.
    support: full
  platform:
    description: Target platforms.
    platforms: posix
    support: full
author:
  - The uptier.platform authors (@uptier)
"""

EXAMPLES = r"""
- name: Service | Load the rules
  uptier.platform.firewall_table:
    rules: "{{ [] | uptier.platform.firewall_rules(inventory_hostname, groups, hostvars) }}"
    admin: [192.0.2.0/24]
"""

RETURN = r"""
controller:
  description: Address of the controller as the host sees it; empty where the connection is no SSH connection.
  returned: always
  type: str
  sample: 192.0.2.7
drift:
  description: Whether the loaded rules are not those that were confirmed last.
  returned: always
  type: bool
reason:
  description: Machine-readable cause of a failure.
  returned: on failure
  type: str
  sample: rolled_back
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.uptier.platform.plugins.module_utils.host.firewall_apply import Host, HostError, controller_address


def main() -> None:
    rule = {
        "name": {"type": "str", "required": True},
        "protocol": {"type": "str", "required": True, "choices": ["tcp", "udp", "icmp", "vrrp"]},
        "ports": {"type": "list", "elements": "int", "default": []},
        "sources": {"type": "list", "elements": "str", "required": True},
    }
    module = AnsibleModule(
        argument_spec={
            "rules": {"type": "list", "elements": "dict", "required": True, "options": rule},
            "admin": {"type": "list", "elements": "str", "default": []},
            "admit_controller": {"type": "bool", "default": True},
            "forward": {"type": "list", "elements": "str", "default": []},
            "log": {"type": "bool", "default": True},
            "rollback_seconds": {"type": "int", "default": 60},
            "path": {"type": "path", "default": "/etc/uptier/firewall.nft"},
            "phase": {"type": "str", "choices": ["look", "compare", "try", "confirm"], "default": "look"},
            "text": {"type": "str", "default": ""},
        },
        supports_check_mode=True,
    )
    given = module.params
    keys = ("rules", "admin", "admit_controller", "forward", "log", "rollback_seconds")
    host = Host(module)
    try:
        if given["phase"] == "compare":
            result = host.compare(given["text"], given["path"])
        elif given["phase"] == "try" and not module.check_mode:
            result = host.attempt(given["text"], given["rollback_seconds"])
        elif given["phase"] == "confirm" and not module.check_mode:
            result = host.confirm(given["path"])
        else:
            result = {"changed": False, "controller": controller_address(), "parameters": {key: given[key] for key in keys}}
    except HostError as error:
        module.fail_json(msg=str(error), reason=error.reason)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
