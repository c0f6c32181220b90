#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: host_certificate
short_description: Give a host its certificate of the internal authority
version_added: 0.1.0
description:
  - Keeps C(ca.crt), C(host.crt), C(host.key) and C(host.pem) (certificate and key) in a directory of the host.
  - The authority lives on the controller. It is made on first use; several hosts may ask at once.
  - A certificate is issued only when it is needed. It is kept while this authority issued it, it has exactly the wanted
    names, more than a third of its life is left, and it fits the key on the host.
  - The controller makes the key of a host together with its certificate, hands both over, and keeps no copy.
options:
  directory:
    description: Directory on the host.
    type: path
    default: /etc/uptier/pki
  group:
    description: Group whose members may read the key.
    type: str
    default: platform-pki
  names:
    description: DNS names and IP addresses of the host. The first is the common name.
    type: list
    elements: str
    required: true
  lifetime_days:
    description: Life of a certificate, in days.
    type: int
    default: 90
  authority_directory:
    description:
      - Directory on the controller with C(ca.key) (may be encrypted with ansible-vault) and C(ca.crt).
      - C(ca.crt) may hold several certificates, all of which the hosts trust; the one that fits the key signs.
    type: path
    required: true
  authority_name:
    description: Common name of an authority that the role creates.
    type: str
    default: uptier.platform internal authority
  authority_lifetime_days:
    description: Lifetime of an authority that the role creates, in days.
    type: int
    default: 3650
  payload:
    description: What to write. Filled in by the action plugin; do not set it.
    type: str
attributes:
  check_mode:
    description: Says whether and why a certificate would be issued. Makes no authority.
    support: full
  diff_mode:
    description: Shows the reasons; never a key.
    support: full
  platform:
    description: Target platforms.
    platforms: posix
    support: full
author:
  - The uptier.platform authors (@uptier)
"""

EXAMPLES = r"""
- name: Configure | Give the host its certificate
  uptier.platform.host_certificate:
    names: [db1.internal, db1, 10.0.0.21, localhost, 127.0.0.1]
    authority_directory: "{{ inventory_dir }}/pki"
"""

RETURN = r"""
changes:
  description: What differs, with the reason.
  returned: always
  type: list
  elements: str
  sample: ["certificate: less than a third of its lifetime is left (it expires on 2027-01-31)"]
issued:
  description: Whether a new certificate was issued, or would be in check mode.
  returned: always
  type: bool
names:
  description: Names in the certificate.
  returned: always
  type: list
  elements: str
reason:
  description: Machine-readable cause of a failure.
  returned: on failure
  type: str
  sample: authority_mismatch
"""

import base64
import grp
import json
import os
import ssl
import stat

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.uptier.platform.plugins.module_utils.host.files import replace_file

FILES = {"ca.crt": (0o644, False), "host.crt": (0o644, False), "host.key": (0o640, True), "host.pem": (0o640, True)}


def read(path: str) -> str | None:
    try:
        with open(path, encoding="utf-8") as stream:
            return stream.read()
    except (OSError, UnicodeDecodeError):
        return None


def look(directory: str, gid: int | None) -> dict:
    """Describe what the host has. The key is compared here and never sent."""
    texts = {name: read(os.path.join(directory, name)) for name in FILES}
    complaint = None
    if texts["host.crt"] and texts["host.key"]:
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(
                os.path.join(directory, "host.crt"), os.path.join(directory, "host.key")
            )
        except (ssl.SSLError, OSError):
            complaint = "it does not match the key on the host"
        if complaint is None and texts["host.pem"] != texts["host.crt"] + texts["host.key"]:
            complaint = "host.pem is not host.crt and host.key"
    elif texts["host.crt"]:
        complaint = "its key is missing on the host"
    wrong = [
        name
        for name, (mode, shared) in FILES.items()
        if texts[name] is not None and not owned(os.path.join(directory, name), mode, gid if shared else 0)
    ]
    return {"certificate": texts["host.crt"], "trust": texts["ca.crt"], "complaint": complaint, "ownership": wrong}


def owned(path: str, mode: int, gid: int | None) -> bool:
    info = os.stat(path)
    return stat.S_IMODE(info.st_mode) == mode and info.st_uid == 0 and info.st_gid == gid


def write(directory: str, payload: dict, gid: int) -> None:
    """Write trust first (nobody loses a peer), then key before certificate: cut short in between, the pair does not
    fit, and the next run issues again."""
    os.makedirs(directory, mode=0o755, exist_ok=True)
    texts = {"ca.crt": payload["trust"]}
    if payload["certificate"]:
        texts.update({"host.key": payload["key"], "host.pem": payload["certificate"] + payload["key"], "host.crt": payload["certificate"]})
    for name, text in texts.items():
        mode, shared = FILES[name]
        replace_file(os.path.join(directory, name), text, mode, 0, gid if shared else 0)
    for name, (mode, shared) in FILES.items():
        path = os.path.join(directory, name)
        os.chown(path, 0, gid if shared else 0)
        os.chmod(path, mode)


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "directory": {"type": "path", "default": "/etc/uptier/pki"},
            "group": {"type": "str", "default": "platform-pki"},
            "names": {"type": "list", "elements": "str", "required": True},
            "lifetime_days": {"type": "int", "default": 90},
            "authority_directory": {"type": "path", "required": True},
            "authority_name": {"type": "str", "default": "uptier.platform internal authority"},
            "authority_lifetime_days": {"type": "int", "default": 3650},
            "payload": {"type": "str", "no_log": True},
        },
        supports_check_mode=True,
    )
    parameters = {key: value for key, value in module.params.items() if key != "payload"}
    try:
        gid: int | None = grp.getgrnam(parameters["group"]).gr_gid
    except KeyError:
        gid = None
    if module.params["payload"] is None or module.check_mode:
        module.exit_json(changed=False, found=look(parameters["directory"], gid), parameters=parameters)
    if gid is None:
        module.fail_json(
            msg=f"There is no group {parameters['group']} on this host. Create it before the certificate.", reason="unknown_group"
        )
    try:
        write(parameters["directory"], json.loads(base64.b64decode(module.params["payload"])), gid)
    except OSError as error:
        module.fail_json(
            msg=f"{error.filename or parameters['directory']}: {error.strerror}. Run again; nothing half written is used.",
            reason="write_failed",
        )
    module.exit_json(changed=True)


if __name__ == "__main__":
    main()
