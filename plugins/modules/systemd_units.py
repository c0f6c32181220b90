#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: systemd_units
short_description: Bring several systemd units to their wanted state in one call
version_added: 0.1.0
description:
  - Enables and starts (or disables and stops) any number of units in one call.
  - Restarts or reloads the running ones whose files are among O(pending), as M(uptier.platform.config_files) returns
    them. A unit that is started in the same call is not restarted on top.
  - A unit that ends right after its start is a failure, with the last lines of its journal.
options:
  units:
    description: The units, in the order in which they are started.
    type: list
    elements: dict
    required: true
    suboptions:
      name:
        description: Full name with suffix, for example C(prometheus.service).
        type: str
        required: true
      state:
        description: What the unit should do.
        type: str
        choices: [started, stopped]
        default: started
      enabled:
        description: Whether it starts with the host. When not given, V(true) for a started and V(false) for a stopped unit.
        type: bool
      restart_files:
        description: Globs of files that the daemon reads at its start only.
        type: list
        elements: str
        default: []
      reload_files:
        description: Globs of files that the daemon reads again on a reload.
        type: list
        elements: str
        default: []
  pending:
    description: Files that were written and not yet taken over by their daemons.
    type: list
    elements: str
    default: []
  settle:
    description: Seconds after which units that were started must still run.
    type: int
    default: 1
attributes:
  check_mode:
    description: Reports what would be done. A unit that does not exist yet counts as one to start.
    support: full
  diff_mode:
    description: Lists the steps.
    support: full
  platform:
    description: Target platforms.
    platforms: posix
    support: full
author:
  - The uptier.platform authors (@uptier)
"""

EXAMPLES = r"""
- name: Service | Run the exporters
  uptier.platform.systemd_units:
    units:
      - name: prometheus-node-exporter.service
        restart_files: [/etc/default/prometheus-node-exporter]
      - name: prometheus-nginx-exporter.service
        state: stopped
    pending: "{{ __exporters_config.pending }}"
"""

RETURN = r"""
steps:
  description: What was done, or would be done in check mode.
  returned: always
  type: list
  elements: str
  sample: [enable prometheus.service, start prometheus.service]
started:
  description: Units that were started, restarted or reloaded.
  returned: always
  type: list
  elements: str
  sample: [prometheus.service]
reason:
  description: Machine-readable cause of a failure.
  returned: on failure
  type: str
  sample: unit_missing
"""

import time

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.uptier.platform.plugins.module_utils.host.systemd import (
    PROPERTIES,
    Plan,
    State,
    Unit,
    parse_show,
    plan,
)


def wanted(module: AnsibleModule) -> list[Unit]:
    units = []
    for entry in module.params["units"]:
        started = entry["state"] == "started"
        units.append(
            Unit(
                name=entry["name"],
                started=started,
                enabled=started if entry["enabled"] is None else entry["enabled"],
                restart_files=tuple(entry["restart_files"]),
                reload_files=tuple(entry["reload_files"]),
            )
        )
    return units


def look(module: AnsibleModule, names: list[str]) -> dict[str, State]:
    if not names:
        return {}
    code, out, err = module.run_command(["systemctl", "show", "-p", ",".join(PROPERTIES), "--", *names])
    if code != 0:
        if module.check_mode:
            return {}
        module.fail_json(msg=f"systemctl show ended with {code}: {err.strip()}. Is systemd running here?", reason="no_systemd")
    return parse_show(out)


def journal(module: AnsibleModule, name: str) -> str:
    out = module.run_command(["journalctl", "--no-pager", "-o", "cat", "-n", "12", "-u", name])[1]
    return out.strip() or "its journal is empty"


def apply(module: AnsibleModule, todo: Plan) -> None:
    for verb, name in todo.steps:
        code, out, err = module.run_command(["systemctl", verb, "--", name])
        if code != 0:
            module.fail_json(
                msg=f"systemctl {verb} {name} ended with {code}: {(err or out).strip()}. Last lines of its journal: {journal(module, name)}",
                reason=f"{verb.replace('-', '_')}_failed",
            )


def check(module: AnsibleModule, names: list[str]) -> None:
    """A daemon that dies on its configuration does so at once: look again after a moment."""
    if not names:
        return
    time.sleep(module.params["settle"])
    for name, state in look(module, names).items():
        if name in names and not state.running and not (state.active == "inactive" and state.sub == "dead"):
            module.fail_json(
                msg=f"{name} did not stay up: it is {state.active} ({state.sub}). Last lines of its journal: {journal(module, name)}",
                reason="unit_died",
            )


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "units": {
                "type": "list",
                "elements": "dict",
                "required": True,
                "options": {
                    "name": {"type": "str", "required": True},
                    "state": {"type": "str", "choices": ["started", "stopped"], "default": "started"},
                    "enabled": {"type": "bool"},
                    "restart_files": {"type": "list", "elements": "str", "default": []},
                    "reload_files": {"type": "list", "elements": "str", "default": []},
                },
            },
            "pending": {"type": "list", "elements": "str", "default": []},
            "settle": {"type": "int", "default": 1},
        },
        supports_check_mode=True,
    )
    units = wanted(module)
    todo = plan(units, look(module, [unit.name for unit in units]), module.params["pending"])
    if todo.missing and not module.check_mode:
        names = ", ".join(todo.missing)
        module.fail_json(msg=f"No such unit on this host: {names}. Install the package that provides it first.", reason="unit_missing")
    started = todo.units("start", "restart", "reload-or-restart")
    steps = [f"{verb} {name}" for verb, name in todo.steps] + [f"start {name}" for name in todo.missing]
    if not module.check_mode:
        apply(module, todo)
        check(module, started)
    diff = {"prepared": "".join(f"{step}\n" for step in steps)}
    module.exit_json(changed=bool(steps), steps=steps, started=[*started, *todo.missing], diff=diff)


if __name__ == "__main__":
    main()
