#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: pgbackrest_stanza
short_description: Have a pgBackRest stanza, a working archive and a first backup
version_added: 0.1.0
description:
  - Run it on the host of the repository. It makes the stanza where it is missing, proves that WAL arrives and takes the first
    full backup where there is none, in each repository. Where there are usable backups it only reads.
  - A second repository that cannot be used is told by a warning, and keeps nobody from the first one.
  - Where the repository was on another host before, its backups and its archive are fetched from there first, file by file as they are.
    WAL waits on the database host meanwhile, so that the archive goes on without a gap. A move that was interrupted is continued.
  - Deletes nothing and never upgrades a stanza to another cluster.
options:
  stanza:
    description: Name of the stanza.
    type: str
    required: true
  first_backup:
    description: Take a full backup when there is none.
    type: bool
    default: true
  former:
    description:
      - Hosts that may have had the repository, by the names in their certificates, and whose pgBackRest servers let this host in.
      - They are asked while this host has no stanza.
    type: list
    elements: str
    default: []
  port:
    description: Port of the pgBackRest servers.
    type: int
    default: 8432
  path:
    description: Directory of the repository, here and on former hosts.
    type: path
    default: /var/lib/pgbackrest
  ca:
    description: Authority that signs the certificates of both sides.
    type: path
    default: /etc/uptier/pki/ca.crt
  cert:
    description: Certificate of this host.
    type: path
    default: /etc/uptier/pki/host.crt
  key:
    description: Its key.
    type: path
    default: /etc/uptier/pki/host.key
  processes:
    description: Files that are fetched at the same time.
    type: int
    default: 2
  user:
    description: Operating system's user as whom pgBackRest runs.
    type: str
    default: postgres
  timeout:
    description: Seconds to wait for another pgBackRest command that holds the lock.
    type: int
    default: 120
attributes:
  check_mode:
    description: Reads the repository and reports the same steps.
    support: full
  diff_mode:
    description: Shows the steps.
    support: full
  platform:
    description: Target platforms.
    platforms: posix
    support: full
author:
  - The uptier.platform authors (@uptier)
"""

EXAMPLES = r"""
- name: Service | Have a stanza, a working archive and a first backup
  uptier.platform.pgbackrest_stanza:
    stanza: main
"""

RETURN = r"""
steps:
  description: Commands that were run, or would be in check mode.
  returned: success
  type: list
  elements: str
  sample: [stanza-create, check, backup --type=full]
backups:
  description: Labels of the backups that were there before.
  returned: success
  type: list
  elements: str
  sample: [20261120-230000F]
moved:
  description: Where the history came from, or would, and how many files and bytes that are; empty where there was nothing to move.
  returned: success
  type: dict
  sample: {host: one.internal, files: 1204, bytes: 731906048}
reason:
  description: Machine-readable cause of a failure.
  returned: on failure
  type: str
  sample: wrong_key
"""

import time
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.uptier.platform.plugins.module_utils.postgresql import history
from ansible_collections.uptier.platform.plugins.module_utils.postgresql.deadline import Deadline
from ansible_collections.uptier.platform.plugins.module_utils.postgresql.pgbackrest import (
    LOCKED,
    RepositoryError,
    explain,
    info_options,
    lacks_stanza,
    merged,
    out_of_reach,
    parse,
    plan,
    read_config,
    repositories,
    stanza_of,
    unreadable,
)

# Always with a backup at the new place: what was found may be left from a move long ago.
WITH_HISTORY = ["history", "stanza-create", "check", "backup --type=full"]


def run(module: AnsibleModule, command: str, *arguments: str) -> str:
    """Run pgBackRest; wait for a command that holds the lock (a timer's backup), a bounded time."""
    deadline = Deadline(module.params["timeout"])
    argv = ["runuser", "-u", module.params["user"], "--", "pgbackrest", f"--stanza={module.params['stanza']}", *arguments, command]
    while True:
        code, out, err = module.run_command(argv, cwd="/")
        if code == 0:
            return out
        if code != LOCKED or deadline.passed:
            raise explain(command, code, f"{out}\n{err}")
        time.sleep(5)


def read(module: AnsibleModule) -> list[dict[str, Any]]:
    """Ask each repository by itself; one beside the first that does not answer counts as out of reach."""
    try:
        numbers = sorted(repositories(read_config(), module.params["stanza"]))
    except RepositoryError:
        numbers = []  # pgBackRest says it better
    parts = []
    for number in numbers if len(numbers) > 1 else [0]:
        try:
            options = info_options(number) if number else []
            parts.append(parse(run(module, "info", *options, "--output=json", "--log-level-console=error")))
        except RepositoryError as error:
            if number < 2:
                raise
            parts.append(unreadable(module.params["stanza"], number, str(error)))
    return merged(parts)


def listing(module: AnsibleModule, place: history.Place, beginning: str = "") -> dict[str, int]:
    """Return the files of the stanza in a repository on another host, with their sizes."""
    stanza = module.params["stanza"]
    words = ["runuser", "-u", module.params["user"], "--", "pgbackrest", *place.options(stanza), "--recurse", "--output=json", "repo-ls"]
    code, out, err = module.run_command(words, cwd="/")
    if code:
        raise explain(f"repo-ls on {place.host}", code, f"{out}\n{err}")
    return {name: size for name, size in history.listed(out, stanza).items() if name.startswith(beginning)}


def former(module: AnsibleModule) -> tuple[history.Place, dict[str, int]] | None:
    """Return where the repository was before, with its files; None where nobody had one."""
    shared = {name: module.params[name] for name in ("port", "path", "ca", "cert", "key")}
    for host in module.params["former"]:
        place = history.Place(host=host, **shared)
        files = listing(module, place)
        if history.is_history(files, module.params["stanza"]):
            return place, files
    return None


def fetch(module: AnsibleModule, place: history.Place, there: dict[str, int], info: bool) -> None:
    """Fetch what is lacking here, and see that it has come."""
    stanza, path = module.params["stanza"], module.params["path"]
    names = history.lacking(there, history.present(path, there), info)
    line = history.fetch_command(place, stanza, path, module.params["processes"])
    words = ["runuser", "-u", module.params["user"], "--", "sh", "-c", line]
    code, out, err = module.run_command(words, data="\0".join(names), binary_data=True, cwd="/") if names else (0, "", "")
    if left := history.lacking(there, history.present(path, there), info):
        seen = f"{len(left)} of {len(there)} files are not here, among them {left[0]}"
        raise RepositoryError(
            "history",
            f"The history of the repository on {place.host} has not come whole: {seen}. pgBackRest ended with {code}: "
            f"{' '.join(f'{out} {err}'.split())[:300] or 'no output'}. The former repository is as it was; run this again to go on.",
        )


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "stanza": {"type": "str", "required": True},
            "first_backup": {"type": "bool", "default": True},
            "former": {"type": "list", "elements": "str", "default": []},
            "port": {"type": "int", "default": 8432},
            "path": {"type": "path", "default": "/var/lib/pgbackrest"},
            "ca": {"type": "path", "default": "/etc/uptier/pki/ca.crt"},
            "cert": {"type": "path", "default": "/etc/uptier/pki/host.crt"},
            "key": {"type": "path", "default": "/etc/uptier/pki/host.key", "no_log": False},
            "processes": {"type": "int", "default": 2},
            "user": {"type": "str", "default": "postgres"},
            "timeout": {"type": "int", "default": 120},
        },
        supports_check_mode=True,
    )
    parameters = module.params
    try:
        info = read(module)
        steps = plan(info, parameters["stanza"], parameters["first_backup"])
        marker = history.marker(parameters["path"], parameters["stanza"])
        before = former(module) if lacks_stanza(info, parameters["stanza"]) or marker.exists() else None
        steps = WITH_HISTORY if before else steps
        if not module.check_mode:
            for step in steps:
                if before and step == "history":
                    fetch(module, *before, info=False)
                    marker.touch()
                    fetch(module, *before, info=True)
                else:
                    run(module, *step.split())
                if before and step == "check":
                    # WAL has come here from the database's host, so nothing goes to the former place any more: this is its end.
                    fetch(module, before[0], listing(module, before[0], "archive/"), info=False)
            marker.unlink(missing_ok=True)
    except RepositoryError as error:
        module.fail_json(msg=str(error), reason=error.reason)
    for number, text in out_of_reach(info, parameters["stanza"]).items():
        module.warn(f"Repository {number} of {parameters['stanza']} cannot be used now, and gets neither WAL nor backups: {text}")
    backups = [entry["label"] for entry in stanza_of(info, parameters["stanza"]).get("backup", [])]
    diff = {"before": "", "after": "".join(f"pgbackrest {step}\n" for step in steps)}
    moved = {"host": before[0].host, "files": len(before[1]), "bytes": sum(before[1].values())} if before else {}
    module.exit_json(changed=bool(steps), steps=steps, backups=backups, moved=moved, diff=diff)


if __name__ == "__main__":
    main()
