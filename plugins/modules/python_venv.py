#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: python_venv
short_description: Have a Python application in a virtual environment of its own, pinned by hashes
version_added: 0.1.0
description:
  - Builds the environment beside the one in use and switches a link when it is complete and works, so that a run
    that is killed, or an index that cannot be reached, leaves the old one as it is.
  - Installs from a package index, or from a directory of wheels on the controller, which travels to the host only
    when there is something to build.
  - Builds again when the requirements change or the host got another version of Python.
options:
  path:
    description: Path of the environment; a link to its current generation below C(PATH.d).
    type: path
    required: true
  requirements:
    description: Requirements file on the controller, every entry with an exact version and a hash. Looked up like a role's file.
    type: str
    required: true
  wheels:
    description:
      - Directory of wheels on the controller with a C(requirements.txt) of their hashes, used instead of an index.
      - An empty string installs from the index that pip on the host is set up for.
    type: str
    default: ""
  verify:
    description: Command, relative to the environment's C(bin), that must succeed before the switch.
    type: str
    default: python --version
  python:
    description: Interpreter of the host.
    type: path
    default: /usr/bin/python3
  pinned:
    description: Content of the requirements file. Filled in by the action plugin; do not set it.
    type: str
  archive:
    description: Archive of the wheels on the host. Filled in by the action plugin; do not set it.
    type: path
attributes:
  check_mode:
    description: Tells whether the environment would be built.
    support: full
  diff_mode:
    description: Shows the generation before and after.
    support: full
  platform:
    description: Target platforms.
    platforms: posix
    support: full
author:
  - The uptier.platform authors (@uptier)
"""

EXAMPLES = r"""
- name: Install | Patroni in an environment of its own
  uptier.platform.python_venv:
    path: /opt/uptier/patroni
    requirements: patroni-requirements.txt
    wheels: "{{ postgresql_patroni_wheels }}"
    verify: patroni --version
"""

RETURN = r"""
generation:
  description: Directory of the environment in use.
  returned: success
  type: str
  sample: /opt/uptier/patroni.d/3f2a90c1d4e5
wanted_archive:
  description: The module needs the wheels to go on. Seen by the action plugin only.
  returned: when the wheels have not been sent
  type: bool
reason:
  description: Machine-readable cause of a failure.
  returned: on failure
  type: str
  sample: install_failed
"""

import os
import shutil
import tarfile

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.uptier.platform.plugins.module_utils.host.files import replace_link
from ansible_collections.uptier.platform.plugins.module_utils.host.python_venv import identity, outdated, unpinned

STAMP = ".complete"
# Prints where the pip is that `venv` would unpack and compile into each environment: beside ensurepip, or in a package of the system.
FIND_PIP = """
import ensurepip, glob, os, sysconfig
folders = [os.path.dirname(ensurepip.__file__) + "/_bundled", sysconfig.get_config_var("WHEEL_PKG_DIR"), "/usr/share/python-wheels"]
print(next((wheel for folder in folders if folder for wheel in sorted(glob.glob(folder + "/pip-*.whl"))), ""))
"""


def run(module: AnsibleModule, reason: str, what: str, command: list[str], hint: str) -> str:
    """Run a command; where it fails, fail with what it said and what to do."""
    code, out, err = module.run_command(command)
    if code:
        module.fail_json(msg=f"{what} failed ({code}): {(err or out).strip()[-2000:]}. {hint}", reason=reason)
    return out.strip()


def make(module: AnsibleModule, target: str) -> list[str]:
    """Make an empty environment; return how its pip is run.

    pip runs from its wheel where there is one: nothing that the application does not need is in the environment, which takes
    half the time to make and half the space.
    """
    python = module.params["python"]
    what, hint = f"Creating the environment {target}", "Install python3-venv on the host."
    wheel = run(module, "venv_failed", what, [python, "-c", FIND_PIP], hint)
    run(module, "venv_failed", what, [python, "-m", "venv", *(["--without-pip"] if wheel else []), target], hint)
    program = os.path.join(target, "bin", "python")
    return [program, f"{wheel}/pip"] if wheel else [program, "-m", "pip"]


def build(module: AnsibleModule, target: str) -> None:
    """Make the environment at its final place, where its scripts expect it; the stamp says that it is complete."""
    parameters = module.params
    shutil.rmtree(target, ignore_errors=True)
    os.makedirs(os.path.dirname(target), mode=0o755, exist_ok=True)
    pip = make(module, target)
    listing = os.path.join(target, "requirements.txt")
    with open(listing, "w", encoding="utf-8") as handle:
        handle.write(parameters["pinned"])
    command = [*pip, "install", "--require-hashes", "--no-deps", "--disable-pip-version-check"]
    hint = "The host needs a package index for pip, or a directory of wheels in `wheels`."
    if parameters["archive"]:
        wheels = os.path.join(module.tmpdir, "wheels")
        with tarfile.open(parameters["archive"]) as archive:
            archive.extractall(wheels, filter="data") if hasattr(tarfile, "data_filter") else archive.extractall(wheels)
        command += ["--no-index", "--find-links", wheels]
        hint = "Build the directory of wheels again; it must fit the host's Python and processor."
    run(module, "install_failed", "Installing the packages", [*command, "--requirement", listing], hint)
    verify = parameters["verify"].split()
    run(
        module,
        "verify_failed",
        "The new environment",
        [os.path.join(target, "bin", verify[0]), *verify[1:]],
        "The old one is still in use.",
    )
    with open(os.path.join(target, STAMP), "w", encoding="utf-8") as handle:
        handle.write(os.path.basename(target) + "\n")


def switch(link: str, target: str) -> None:
    """Let the path lead to the new environment, in one step."""
    if os.path.isdir(link) and not os.path.islink(link):
        shutil.rmtree(link)
    replace_link(link, target)


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "path": {"type": "path", "required": True},
            "requirements": {"type": "str", "required": True},
            "wheels": {"type": "str", "default": ""},
            "verify": {"type": "str", "default": "python --version"},
            "python": {"type": "path", "default": "/usr/bin/python3"},
            "pinned": {"type": "str"},
            "archive": {"type": "path"},
        },
        supports_check_mode=True,
    )
    parameters = module.params
    loose = unpinned(parameters["pinned"] or "")
    if loose:
        module.fail_json(
            msg=f"Not pinned with a version and a hash in {parameters['requirements']}: {', '.join(loose)}.", reason="unpinned"
        )
    version = run(module, "no_python", "Asking Python for its version", [parameters["python"], "--version"], "Install python3.")
    link, store = parameters["path"], f"{parameters['path']}.d"
    wanted = identity(parameters["pinned"], version)
    target = os.path.join(store, wanted)
    current = os.path.realpath(link) if os.path.islink(link) else ""
    complete = os.path.exists(os.path.join(target, STAMP))
    result = {"generation": target, "diff": {"before": f"{current}\n", "after": f"{target}\n"}}
    if complete and current == target:
        module.exit_json(changed=False, **result)
    if not module.check_mode:
        if not complete and parameters["wheels"] and not parameters["archive"]:
            module.exit_json(changed=False, wanted_archive=True, **result)
        if not complete:
            build(module, target)
        switch(link, target)
        for name in outdated(os.listdir(store), wanted, os.path.basename(current)):
            shutil.rmtree(os.path.join(store, name), ignore_errors=True)
    module.exit_json(changed=True, **result)


if __name__ == "__main__":
    main()
