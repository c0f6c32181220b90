#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: static_site
short_description: Serve the files of static sites from archives
version_added: 0.1.0
description:
  - Unpacks the archive of each site into a directory of its own, named by the archive's checksum, and switches one link to it. A site
    is there whole or not at all; an archive that cannot be unpacked or has no C(index.html) changes nothing.
  - Immutable files (with a fingerprint in their names) of the versions that are kept go on being served, so that a browser that has
    an older page open finds what it names.
  - An archive is sent only to a host that lacks it. An earlier archive brings the earlier version back without unpacking it again.
options:
  sites:
    description: The sites.
    type: list
    elements: dict
    required: true
    suboptions:
      name:
        description: Name of the site; its directory below O(base).
        type: str
        required: true
      archive:
        description: Archive (tar) on the controller, with C(index.html) at its top.
        type: path
        required: true
      immutable:
        description: Directories of the site whose files never change, relative to its top.
        type: list
        elements: str
        default: []
      checksum:
        description: SHA-256 sum of the archive. Filled in by the action plugin.
        type: str
      upload:
        description: The archive on the host. Filled in by the action plugin.
        type: str
  base:
    description: Directory of all sites.
    type: path
    default: /srv/uptier/sites
  keep:
    description: How many versions of a site stay on the host.
    type: int
    default: 3
attributes:
  check_mode:
    description: Reports which sites would be switched.
    support: full
  diff_mode:
    description: Shows the version before and after.
    support: full
  platform:
    description: Target platforms.
    platforms: posix
    support: full
author:
  - The uptier.platform authors (@uptier)
"""

EXAMPLES = r"""
- name: Install | Static sites
  uptier.platform.static_site:
    sites:
      - {name: docs, archive: build/docs.tar.gz, immutable: [assets]}
"""

RETURN = r"""
changes:
  description: What was done, or would be done in check mode.
  returned: always
  type: list
  elements: str
  sample: ["docs: version 5d41402abc4b2a76"]
needed:
  description: Sites whose archive this host lacks. For the action plugin.
  returned: always
  type: list
  elements: str
reason:
  description: Why it failed, for programs.
  returned: failure
  type: str
  sample: no_index
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.uptier.platform.plugins.module_utils.host.static_site import Site, SiteError, version_of


def main() -> None:
    site_options = {
        "name": {"type": "str", "required": True},
        "archive": {"type": "path", "required": True},
        "immutable": {"type": "list", "elements": "str", "default": []},
        "checksum": {"type": "str"},
        "upload": {"type": "str"},
    }
    module = AnsibleModule(
        argument_spec={
            "sites": {"type": "list", "elements": "dict", "required": True, "options": site_options},
            "base": {"type": "path", "default": "/srv/uptier/sites"},
            "keep": {"type": "int", "default": 3},
        },
        supports_check_mode=True,
    )
    changes, needed = [], []
    before, after = [], []
    for given in module.params["sites"]:
        site = Site(module.params["base"], given["name"], module.run_command)
        version = version_of(given["checksum"] or "")
        served = site.served()
        if served == version:
            continue
        before.append(f"{given['name']}: {served or 'nothing'}\n")
        after.append(f"{given['name']}: {version}\n")
        changes.append(f"{given['name']}: version {version}")
        if module.check_mode:
            continue
        if not site.has(version) and not given["upload"]:
            needed.append(given["name"])
            continue
        try:
            if not site.has(version):
                site.unpack(given["upload"], version, given["immutable"])
            site.take_over(version)
            site.switch(version)
            site.prune(module.params["keep"])
        except SiteError as error:
            module.fail_json(msg=str(error), reason=error.reason)
    diff = {"before": "".join(before), "after": "".join(after)}
    module.exit_json(changed=bool(changes), changes=changes, needed=needed, diff=diff)


if __name__ == "__main__":
    main()
