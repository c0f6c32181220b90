#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: config_files
short_description: Write a component's configuration files in one transaction
version_added: 0.1.0
description:
  - Renders any number of templates on the controller and writes them in one call on the host, so that
    a component costs one task however many files it has.
  - Each file can be validated before it is put in place (O(files[].validate)), and the whole bundle after
    (O(verify)); when the latter fails, every file is put back as it was and the module fails with the
    daemon's own message.
  - Remembers what has been written but not yet taken over by the daemon. A run that is killed between writing
    and restarting reports C(changed) again the next time, so no handler is lost. The handler says that
    the daemon has taken over by calling the module with O(state=applied).
  - Files that the daemon reads but another component writes (a certificate) can be watched with O(watch).
options:
  name:
    description: Name of the component; names its marker. Unique for the host.
    type: str
    required: true
  state:
    description:
      - V(present) writes the files.
      - V(applied) records that the daemon runs with what was written. Use it as the last step of a handler.
    type: str
    choices: [present, applied]
    default: present
  files:
    description: The files, directories and links, in the order in which they are made.
    type: list
    elements: dict
    default: []
    suboptions:
      dest:
        description: Absolute path on the host. Missing parent directories are made with mode 0755.
        type: path
        required: true
      src:
        description: Template, looked up like that of M(ansible.builtin.template). Excludes O(files[].content).
        type: str
      content:
        description: Content as given. Excludes O(files[].src).
        type: str
      program:
        description:
          - Python program of a role, looked up in its C(files). Excludes O(files[].src) and O(files[].content).
          - Installed as it is, with the modules of this collection's C(module_utils) that it imports, and those that these import,
            in a directory C(ansible_collections) beside it. What that directory holds besides is removed, so a program with such
            imports has a directory to itself.
          - Filled in by the action plugin.
        type: str
      vars:
        description: Additional variables for this template only.
        type: dict
      state:
        description: What the path should be.
        type: str
        choices: [file, directory, link, absent]
        default: file
      target:
        description: What a link points to.
        type: str
      owner:
        description: Owner.
        type: str
        default: root
      group:
        description: Group.
        type: str
        default: root
      mode:
        description:
          - Octal mode as a string. V(0644) for files and V(0755) for directories when not given.
          - V(0640) for files with O(files[].secret=true); such a file is refused with a mode that lets everyone read it.
        type: str
      secret:
        description: The content holds a secret; it is never shown in a diff.
        type: bool
        default: false
      keep:
        description: Make the file when it is missing and leave it alone afterwards.
        type: bool
        default: false
      validate:
        description: Command that checks the file before it is put in place; C(%s) stands for its temporary path.
        type: str
  purge:
    description: Globs owned by this component. What they match and O(files) does not name, nor anything inside it, is removed.
    type: list
    elements: str
    default: []
  verify:
    description:
      - Commands that check the configuration as a whole once all files are in place. When one fails,
        all files are restored.
      - Also run when an earlier run was cut short after writing. Not run in check mode, nor when nothing differs.
    type: list
    elements: str
    default: []
  watch:
    description: Files of other components that the daemon reads. A change of their content counts as a change here.
    type: list
    elements: path
    default: []
  payload:
    description: Rendered contents. Filled in by the action plugin; do not set it.
    type: str
attributes:
  check_mode:
    description: Reports what would be written. Owners, groups and checkers that do not exist yet are not an error.
    support: full
  diff_mode:
    description: Shows a unified diff of each file, except of secret ones.
    support: full
  platform:
    description: Target platforms.
    platforms: posix
    support: full
author:
  - The uptier.platform authors (@uptier)
"""

EXAMPLES = r"""
- name: Configure | Write configuration and unit
  uptier.platform.config_files:
    name: haproxy
    files:
      - src: haproxy.cfg.j2
        dest: /etc/haproxy/haproxy.cfg
        group: haproxy
        mode: "0640"
        secret: true
        validate: haproxy -c -f %s
      - src: override.conf.j2
        dest: /etc/systemd/system/haproxy.service.d/platform.conf
    watch: [/etc/uptier/pki/host.crt]
  register: __haproxy_config
  notify: Haproxy reload

- name: Haproxy | Record that the configuration is in use
  uptier.platform.config_files:
    name: haproxy
    state: applied
  listen: Haproxy reload
"""

RETURN = r"""
changed_files:
  description: Paths that differ (check mode) or were written in this run.
  returned: always
  type: list
  elements: str
  sample: [/etc/haproxy/haproxy.cfg]
pending:
  description: Paths written and not yet taken over by the daemon, also by an earlier run that was cut short. Decide on it between reload and restart.
  returned: always
  type: list
  elements: str
  sample: [/etc/haproxy/haproxy.cfg, /etc/uptier/pki/host.crt]
reason:
  description:
    - Machine-readable cause of a failure. One of C(validate_failed), C(verify_failed), C(checker_missing), C(write_failed),
      C(unknown_owner), C(bad_mode), C(secret_exposed), C(daemon_reload_failed).
  returned: on failure
  type: str
  sample: verify_failed
"""

import base64
import json
import zlib
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.uptier.platform.plugins.module_utils.host.config_files import (
    BundleError,
    Wanted,
    describe,
    plan,
    wanted_mode,
)
from ansible_collections.uptier.platform.plugins.module_utils.host.config_files_apply import Bundle, Host, look, stale

FILE_OPTIONS = {
    "dest": {"type": "path", "required": True},
    "src": {"type": "str"},
    "content": {"type": "str"},
    "program": {"type": "str"},
    "vars": {"type": "dict"},
    "state": {"type": "str", "choices": ["file", "directory", "link", "absent"], "default": "file"},
    "target": {"type": "str"},
    "owner": {"type": "str", "default": "root"},
    "group": {"type": "str", "default": "root"},
    "mode": {"type": "str"},
    "secret": {"type": "bool", "default": False, "no_log": False},
    "keep": {"type": "bool", "default": False},
    "validate": {"type": "str"},
}
ARGUMENTS = {
    "name": {"type": "str", "required": True},
    "state": {"type": "str", "choices": ["present", "applied"], "default": "present"},
    "files": {"type": "list", "elements": "dict", "default": [], "options": FILE_OPTIONS},
    "purge": {"type": "list", "elements": "str", "default": []},
    "verify": {"type": "list", "elements": "str", "default": []},
    "watch": {"type": "list", "elements": "path", "default": []},
    "payload": {"type": "str", "no_log": True},
}


def wanted_files(params: dict[str, Any]) -> list[Wanted]:
    """Turn the arguments into descriptions; rendered contents come packed from the controller."""
    packed = params["payload"]
    contents = json.loads(zlib.decompress(base64.b64decode(packed))) if packed else {}
    items = []
    for entry in params["files"]:
        items.append(
            Wanted(
                path=entry["dest"],
                state=entry["state"],
                content=contents.get(entry["dest"]),
                target=entry["target"],
                owner=entry["owner"],
                group=entry["group"],
                mode=wanted_mode(entry["dest"], entry["mode"], entry["state"], entry["secret"]),
                secret=entry["secret"],
                keep=entry["keep"],
            )
        )
    return items + stale(params["purge"], [item.path for item in items])


def present(bundle: Bundle, params: dict[str, Any]) -> dict[str, Any]:
    wanted = wanted_files(params)
    steps = plan(wanted, {item.path: look(item.path) for item in wanted})
    moved = bundle.moved()
    touched = [step.path for step in steps]
    pending = sorted({*bundle.left(), *touched, *moved})
    bundle.validate(steps, {entry["dest"]: entry["validate"] for entry in params["files"] if entry["validate"]})
    if pending and not bundle.host.check_mode:
        bundle.apply(steps, moved)
    diff = [describe(step) for step in steps]
    diff.extend({"prepared": f"{path} (changed by another component)\n"} for path in moved)
    return {"changed": bool(pending), "changed_files": touched, "pending": pending, "diff": diff}


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    params = module.params
    host = Host(module.run_command, module.get_bin_path, module.tmpdir, module.check_mode)
    bundle = Bundle(params["name"].replace("/", "_"), host, params["verify"], params["watch"])
    try:
        if params["state"] == "present":
            module.exit_json(**present(bundle, params))
        if not module.check_mode:
            bundle.applied()
    except BundleError as error:
        module.fail_json(msg=str(error), reason=error.reason)
    # Recording is bookkeeping: the change was reported when the files were written.
    module.exit_json(changed=False, changed_files=[], pending=[])


if __name__ == "__main__":
    main()
