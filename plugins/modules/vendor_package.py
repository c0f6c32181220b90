#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: vendor_package
short_description: Install what Debian does not have, from its vendor's repository or from a file
version_added: 0.1.0
description:
  - Installs one program from its vendor's apt repository, from a Debian package or from an archive of binaries. Packages and
    archives lie on the controller and are compared with their checksum.
  - Of the repository's key file only those keys are trusted whose fingerprints are given. The key is fetched again whenever
    something has to be installed, since vendors prolong their keys.
  - Also tells apt to stay within O(version), so that an upgrade of the host does not go beyond it. What is installed and newer
    is kept, with a warning, because going back may cost data.
  - What the repository does not give is not a failure of the host where O(unavailable) is V(later). The result then says so in
    RV(withheld), and nothing was changed.
options:
  package:
    description: Name of the package.
    type: str
    required: true
  version:
    description: Version as apt takes it, also with wildcards. Empty means the newest, and what is installed is kept.
    type: str
    default: ''
  vendor:
    description: Vendor whose repository it comes from, as roles/platform/vars/vendors.yml names it.
    type: str
    required: true
  source:
    description: Where it comes from.
    type: str
    choices: [repository, package, archive]
    default: repository
  repository:
    description: What differs from the vendor's own repository, for example a mirror.
    type: dict
    default: {}
    suboptions:
      url:
        description: Address of the repository.
        type: str
      suite:
        description: Suite.
        type: str
      component:
        description: Component.
        type: str
      key:
        description: The file of keys. An address, a name below O(repository.url), or an absolute path on the controller.
        type: str
      fingerprints:
        description: Fingerprints of the keys that are trusted.
        type: list
        elements: str
      key_content:
        description: Set by the action plugin. The file of keys in base64, where it lies on the controller.
        type: str
  file:
    description: Package or archive on the controller.
    type: path
    default: ''
  checksum:
    description: SHA-256 of that file.
    type: str
    default: ''
  archive:
    description: How an archive is unpacked. Needed where O(source) is V(archive).
    type: dict
    suboptions:
      directory:
        description: Where it is unpacked.
        type: path
        required: true
      binary:
        description: A file that is there once it is unpacked.
        type: path
        required: true
      options:
        description: Further options of tar.
        type: list
        elements: str
        default: []
      home:
        description: Home of the user that the program runs as, which has the name of the package.
        type: path
        required: true
  unavailable:
    description: Whether a repository that does not give the package ends the run of the host, or is left to a later task.
    type: str
    choices: [stop, later]
    default: stop
  switch:
    description: Variable that leaves the program out when it is V(false), for the message.
    type: str
    required: true
  keyring:
    description: Set by the action plugin. Where the trusted keys are kept on the host.
    type: path
  sources:
    description: Set by the action plugin. Where the repository is named to apt.
    type: path
  preferences:
    description: Set by the action plugin. Where apt is told to stay within O(version).
    type: path
  copy:
    description: Set by the action plugin. Where the package lies on the host.
    type: path
attributes:
  check_mode:
    description: Asks no repository; says what would be installed.
    support: full
  diff_mode:
    description: Shows the files that name the repository to apt.
    support: full
  platform:
    description: Target platforms.
    platforms: debian
    support: full
seealso:
  - module: uptier.platform.packages
author:
  - The uptier.platform authors (@uptier)
"""

EXAMPLES = r"""
- name: Install | Loki
  uptier.platform.vendor_package:
    package: loki
    version: 3.7.*
    vendor: grafana
    repository: {url: "https://mirror.example.com/grafana"}
    switch: platform_logs_enabled
  register: __loki_install
"""

RETURN = r"""
installed:
  description: Version of the package that was found; empty where there was none.
  returned: when the source is a repository or a package
  type: str
  sample: 3.7.8
withheld:
  description: What the repository did not give, and why. Empty when nothing was withheld.
  returned: success
  type: dict
  sample:
    package: loki
    version: 3.7.*
    vendor: grafana
    repository: https://apt.grafana.com
    why: Connection refused
    switch: platform_logs_enabled
reason:
  description: Machine-readable cause of a failure.
  returned: on failure
  type: str
  sample: repository_unavailable
"""

import base64
import http.client
import os
import tempfile
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.urls import open_url
from ansible_collections.uptier.platform.plugins.module_utils.host.apt_vendor import (
    KeyFileError,
    keys_of,
    least,
    matches,
    preferences,
    sources,
    trusted,
)

# Seconds to wait for the key; a repository that is slower than this gives no packages in good time either.
PATIENCE = 15


def read(path: str) -> bytes | None:
    try:
        with open(path, "rb") as handle:
            return handle.read()
    except OSError:
        return None


def write(module: AnsibleModule, path: str, content: bytes) -> None:
    os.makedirs(os.path.dirname(path), mode=0o755, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(dir=module.tmpdir)
    with os.fdopen(descriptor, "wb") as handle:
        handle.write(content)
    os.chmod(temporary, 0o644)
    module.atomic_move(temporary, path)


def installed_version(module: AnsibleModule, package: str) -> str:
    """Return the version of a package; empty where it is not installed."""
    code, out, dummy = module.run_command(["dpkg-query", "-W", "-f", "${db:Status-Status} ${Version}", package])
    status, dummy, version = out.strip().partition(" ")
    return version if code == 0 and status == "installed" else ""


def newer(module: AnsibleModule, installed: str, version: str) -> bool:
    """Tell whether what is installed is beyond what is wanted."""
    return module.run_command(["dpkg", "--compare-versions", installed, "gt", least(version)])[0] == 0


def fetch(url: str) -> bytes:
    """Return a key file.

    Raises:
        KeyFileError: it could not be had.
    """
    try:
        with open_url(url, timeout=PATIENCE) as answer:
            return answer.read()
    except (OSError, ValueError, http.client.HTTPException) as error:
        cause = getattr(error, "reason", None) or error
        raise KeyFileError(getattr(cause, "strerror", None) or str(cause)) from None


def keyring(module: AnsibleModule, wanted: bool) -> bytes:
    """Return the keyring: the one on the host while nothing has to be installed and it holds what is trusted, else a new one.

    Raises:
        KeyFileError: no trusted key could be had.
    """
    repository = module.params["repository"]
    prints, there = repository["fingerprints"], read(module.params["keyring"])
    try:
        kept = trusted(there, prints) if there else b""
    except KeyFileError:
        kept = b""
    if repository["key_content"]:
        return trusted(base64.b64decode(repository["key_content"]), prints)
    if kept and not wanted:
        return kept
    try:
        data = fetch(repository["key"])
    except KeyFileError:
        if kept:
            return kept
        raise
    return trusted(data, prints)


def name_repository(module: AnsibleModule, result: dict[str, Any], wanted: bool) -> None:
    """Write key, source and pin. Nothing is written where there is no key, since apt would complain about the source in every role."""
    parameters, repository = module.params, module.params["repository"]
    files = {
        parameters["sources"]: sources(repository["url"], repository["suite"], repository["component"], parameters["keyring"]).encode(),
        parameters["preferences"]: preferences(parameters["package"], parameters["version"]).encode() if parameters["version"] else b"",
    }
    there = read(parameters["keyring"])
    if module.check_mode:
        files[parameters["keyring"]] = there or b"new"
    else:
        try:
            files = {parameters["keyring"]: keyring(module, wanted), **files}
        except KeyFileError as error:
            result["why"] = f"{repository['key']}: {error}"
            return
    for path, content in files.items():
        before = read(path)
        if (before or b"") == content:
            continue
        result["changed"] = True
        if path != parameters["keyring"]:
            result["diff"].append({"before": (before or b"").decode(errors="replace"), "after": content.decode(), "before_header": path})
        else:
            names = [", ".join(keys_of(data)) if data and data != b"new" else "" for data in (before, content)]
            result["diff"].append({"before": f"{names[0]}\n", "after": f"{names[1] or 'the trusted key'}\n", "before_header": path})
        if not module.check_mode and content:
            write(module, path, content)
        elif not module.check_mode:
            os.unlink(path)


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "package": {"type": "str", "required": True},
            "version": {"type": "str", "default": ""},
            "vendor": {"type": "str", "required": True},
            "source": {"type": "str", "choices": ["repository", "package", "archive"], "default": "repository"},
            "repository": {
                "type": "dict",
                "default": {},
                "options": {
                    "url": {"type": "str"},
                    "suite": {"type": "str"},
                    "component": {"type": "str"},
                    "key": {"type": "str", "no_log": False},
                    "key_content": {"type": "str", "no_log": False},
                    "fingerprints": {"type": "list", "elements": "str"},
                },
            },
            "file": {"type": "path", "default": ""},
            "checksum": {"type": "str", "default": ""},
            "archive": {
                "type": "dict",
                "options": {
                    "directory": {"type": "path", "required": True},
                    "binary": {"type": "path", "required": True},
                    "options": {"type": "list", "elements": "str", "default": []},
                    "home": {"type": "path", "required": True},
                },
            },
            "unavailable": {"type": "str", "choices": ["stop", "later"], "default": "stop"},
            "switch": {"type": "str", "required": True},
            "keyring": {"type": "path", "no_log": False},
            "sources": {"type": "path"},
            "preferences": {"type": "path"},
            "copy": {"type": "path"},
        },
        required_if=[("source", "archive", ["archive"])],
        supports_check_mode=True,
    )
    parameters = module.params
    result: dict[str, Any] = {"changed": False, "diff": [], "why": "", "beyond": False}
    if parameters["source"] == "archive":
        result["missing"] = not os.path.exists(parameters["archive"]["binary"])
        module.exit_json(**result)
    found = result["installed"] = installed_version(module, parameters["package"])
    if parameters["source"] == "package":
        seen = module.sha256(parameters["copy"]) if os.path.exists(parameters["copy"]) else ""
        result["missing"] = not found or seen != parameters["checksum"]
        module.exit_json(**result)
    fits = bool(found) and matches(found, parameters["version"])
    result["beyond"] = bool(found) and not fits and newer(module, found, parameters["version"])
    result["missing"] = not fits and not result["beyond"]
    name_repository(module, result, result["missing"])
    module.exit_json(**result)


if __name__ == "__main__":
    main()
