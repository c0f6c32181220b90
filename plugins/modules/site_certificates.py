#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: site_certificates
short_description: Keep a certificate for each public site at a fixed path
version_added: 0.1.0
description:
  - Keeps C(DIRECTORY/SITE/fullchain.pem) and C(privkey.pem) for any number of sites in one call. A certificate and its
    key change together; the pair before is kept.
  - With O(provider=selfsigned) the internal authority on the controller issues them, and again when less than a third
    of their life is left or the names differ.
  - With O(provider=provided) they are taken from the controller after a check that the key fits, that all names of the
    site are covered, and that the certificate is valid now.
  - With O(provider=acme) the internal authority only issues a first certificate where there is none, so that the
    gateway can start. What an ACME client has put in place is left alone.
options:
  state:
    description:
      - V(present) keeps the certificates.
      - V(loaded) lets the running O(service) load what it has not loaded yet. Use it as a handler. A service that does
        not run is left alone, it reads the new pairs when it starts.
    type: str
    choices: [present, loaded]
    default: present
  service:
    description: Unit that serves the certificates, with O(state=loaded).
    type: str
    default: nginx
  directory:
    description: Directory on the host.
    type: path
    default: /etc/uptier/tls
  provider:
    description: Where certificates come from.
    type: str
    choices: [selfsigned, provided, acme]
    default: selfsigned
  sites:
    description: The sites.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: Name of the site and of its directory.
        type: str
        required: true
      domains:
        description: Names that its certificate covers.
        type: list
        elements: str
        required: true
      certificate:
        description: File on the controller with certificate and intermediates, with O(provider=provided).
        type: path
      key:
        description: File on the controller with the private key; may be encrypted with ansible-vault.
        type: path
  lifetime_days:
    description: Life of certificates issued by the internal authority, in days.
    type: int
    default: 90
  authority_directory:
    description: Directory on the controller with C(ca.key) and C(ca.crt), as in M(uptier.platform.host_certificate).
    type: path
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
    description: Says which certificates would be written and why. Makes no authority.
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
- name: Configure | A certificate for each site
  uptier.platform.site_certificates:
    sites:
      - {name: shop, domains: [shop.example.com, www.shop.example.com]}
    authority_directory: "{{ inventory_dir }}/pki"
  notify: Acme certificates

- name: Acme | Let the gateway load the certificates
  uptier.platform.site_certificates:
    state: loaded
  listen: Acme certificates
"""

RETURN = r"""
changes:
  description: What was written, or would be, with the reason.
  returned: always
  type: list
  elements: str
  sample: ["shop: it lacks www.shop.example.com"]
pending:
  description: Sites whose pair the gateway has not loaded yet, also from an earlier run that was cut short.
  returned: always
  type: list
  elements: str
  sample: [shop]
reason:
  description: Machine-readable cause of a failure.
  returned: on failure
  type: str
  sample: certificate_unusable
"""

import base64
import json

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.uptier.platform.plugins.module_utils.host import certificate_store as store

SITE = {
    "name": {"type": "str", "required": True},
    "domains": {"type": "list", "elements": "str", "required": True},
    "certificate": {"type": "path"},
    "key": {"type": "path", "no_log": False},
}


def load(module: AnsibleModule) -> None:
    """Let the service load its certificates. A reload that fails leaves the service with what it has."""
    waiting = store.pending()
    if waiting and not module.check_mode:
        service = module.params["service"]
        code, out, err = module.run_command(["systemctl", "try-reload-or-restart", service])
        if code:
            # A unit that is not installed yet has nothing to load.
            known = module.run_command(["systemctl", "cat", service])[0] == 0
            if known:
                module.fail_json(
                    msg=f"{service} could not load the certificates of {', '.join(waiting)} and still serves the previous ones: {(err or out).strip()}",
                    reason="reload_failed",
                )
        store.clear()
    # Loading is the other half of a change that was reported when the pairs were written.
    module.exit_json(changed=False, changes=[], pending=[])


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "state": {"type": "str", "choices": ["present", "loaded"], "default": "present"},
            "service": {"type": "str", "default": "nginx"},
            "directory": {"type": "path", "default": "/etc/uptier/tls"},
            "provider": {"type": "str", "choices": ["selfsigned", "provided", "acme"], "default": "selfsigned"},
            "sites": {"type": "list", "elements": "dict", "default": [], "options": SITE},
            "lifetime_days": {"type": "int", "default": 90},
            "authority_directory": {"type": "path"},
            "authority_name": {"type": "str", "default": "uptier.platform internal authority"},
            "authority_lifetime_days": {"type": "int", "default": 3650},
            "payload": {"type": "str", "no_log": True},
        },
        supports_check_mode=True,
    )
    if module.params["state"] == "loaded":
        load(module)
    parameters = {key: value for key, value in module.params.items() if key != "payload"}
    directory = parameters["directory"]
    if module.params["payload"] is None or module.check_mode:
        found = {site["name"]: store.look(directory, site["name"]) for site in parameters["sites"]}
        module.exit_json(changed=False, found=found, pending=store.pending(), parameters=parameters)
    for site, pair in json.loads(base64.b64decode(module.params["payload"])).items():
        try:
            store.install(directory, site, pair["chain"], pair["key"], pair["source"])
        except ValueError as error:
            module.fail_json(msg=f"{error}. Its pair is unchanged.", reason="key_mismatch")
        except OSError as error:
            module.fail_json(msg=f"{site}: {error.filename or directory}: {error.strerror}. Its pair is unchanged.", reason="write_failed")
    module.exit_json(changed=True, pending=store.pending())


if __name__ == "__main__":
    main()
