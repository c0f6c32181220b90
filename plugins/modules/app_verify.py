#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: app_verify
short_description: Ask an application on the way on which its users come
version_added: 0.1.0
description:
  - Runs on a gateway. Asks routers as nginx does, and nginx as users do, until each question has been answered well several
    times in a row.
  - Needs nothing but Python on the host.
options:
  questions:
    description: What is asked, as P(uptier.platform.app_questions#filter) returns it.
    type: list
    elements: dict
    required: true
    suboptions:
      through:
        description: What is asked, for messages.
        type: str
        required: true
      address:
        description: Where it listens.
        type: str
        required: true
      port:
        description: Its port.
        type: int
        required: true
      server_name:
        description: Name in the TLS handshake.
        type: str
        required: true
      mutual:
        description: Whether the other side is verified by O(ca) and asks for a certificate.
        type: bool
        default: true
      domain:
        description: Name in the request.
        type: str
        required: true
      path:
        description: Path in the request.
        type: str
        required: true
      worst:
        description: The highest status that is a good answer.
        type: int
        default: 200
  good:
    description: Good answers in a row that each question needs.
    type: int
    default: 3
  timeout:
    description: How long all questions may take together, in seconds.
    type: int
    default: 60
  ca:
    description: Certificate authority of the routers.
    type: path
    default: /etc/uptier/pki/ca.crt
  cert:
    description: Certificate of this host.
    type: path
    default: /etc/uptier/pki/host.crt
  key:
    description: Key of this host.
    type: path
    default: /etc/uptier/pki/host.key
  tolerate:
    description: Return what fails, or that the host cannot be reached, in RV(failure) and go on.
    type: bool
    default: false
attributes:
  check_mode:
    description: Asks nothing, since what is to be verified is not there.
    support: full
  diff_mode:
    description: Changes nothing.
    support: none
  platform:
    description: Target platforms.
    platforms: posix
    support: full
author:
  - The uptier.platform authors (@uptier)
"""

EXAMPLES = r"""
- name: Ask the application through the router of app1
  uptier.platform.app_verify:
    questions:
      - through: the router of app1
        address: 10.0.0.21
        port: 8443
        server_name: app1.internal
        domain: shop.example.org
        path: /api/health
"""

RETURN = r"""
asked:
  description: What was asked.
  returned: success
  type: list
  elements: str
  sample: [https://shop.example.org/api/health through the router of app1]
failure:
  description: What failed, with O(tolerate). It has V(reason) and V(said).
  returned: O(tolerate) and something failed
  type: dict
reason:
  description: Machine-readable cause of a failure, V(bad_answer).
  returned: on failure
  type: str
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.uptier.platform.plugins.module_utils.application.verify_apply import VerifyError, verify

QUESTION = {
    "through": {"type": "str", "required": True},
    "address": {"type": "str", "required": True},
    "port": {"type": "int", "required": True},
    "server_name": {"type": "str", "required": True},
    "mutual": {"type": "bool", "default": True},
    "domain": {"type": "str", "required": True},
    "path": {"type": "str", "required": True},
    "worst": {"type": "int", "default": 200},
}


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "questions": {"type": "list", "elements": "dict", "required": True, "options": QUESTION},
            "good": {"type": "int", "default": 3},
            "timeout": {"type": "int", "default": 60},
            "ca": {"type": "path", "default": "/etc/uptier/pki/ca.crt"},
            "cert": {"type": "path", "default": "/etc/uptier/pki/host.crt"},
            "key": {"type": "path", "default": "/etc/uptier/pki/host.key"},
            "tolerate": {"type": "bool", "default": False},
        },
        supports_check_mode=True,
    )
    given = module.params
    if module.check_mode:
        module.exit_json(changed=False, asked=[])
    try:
        module.exit_json(changed=False, asked=verify(given["questions"], given, given["good"], given["timeout"]))
    except VerifyError as error:
        module.fail_json(msg=str(error), reason="bad_answer")


if __name__ == "__main__":
    main()
