#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: app_release
short_description: Bring the instances of an application on a host to a release
version_added: 0.1.0
description:
  - Unpacks a release that the controller has built, migrates the database once, and switches the instances one by one without
    a failed request.
  - The new release first proves itself in a spare instance beside the old ones; if it does not become healthy, no old instance
    has been touched and the module fails with the last lines of the log.
  - Each instance is drained at the router, restarted, and put back when it has answered its health path twice.
  - Every instance has a link of its own to its release, so that a crash or a reboot in the middle starts what it ran before.
    What has been done is recorded; a run that was killed is finished by the next one.
options:
  application:
    description: Name of the application, its system user and its directory under C(/opt/uptier/apps).
    type: str
    required: true
  version:
    description:
      - Version of the release. A version that comes again with other contents gets a directory with its checksum in the name,
        which is accepted here too.
      - A version that M(uptier.platform.app_deploy) has recorded stays where this one is what the inventory said at that time.
    type: str
    required: true
  declared:
    description: What the inventory says, where O(version) is another one on purpose. Then O(version) decides.
    type: str
    default: ""
  commit:
    description:
      - Whether the release has ended with this host. Without, the host remembers what it ran before until
        M(uptier.platform.app_deploy) ends the release of all hosts.
    type: bool
    default: true
  tolerate:
    description:
      - Return what fails, or that the host cannot be reached, in RV(failure) and go on. For a procedure that brings all hosts
        back afterwards, and fails itself.
    type: bool
    default: false
  state:
    description:
      - V(prepared) makes the system user and unpacks the release.
      - V(switched) migrates and switches.
      - V(stopped) drains and stops every instance. Each keeps its release.
      - V(migrated) migrates the database, and nothing else.
      - V(beside) starts the release in every spare instance and waits until all are healthy. No request comes to them.
      - V(shared) gives these O(share) percent of the requests, and compares both releases by the statistics of the router. A new
        release that is worse loses its requests at once, and the module fails.
      - V(shifted) gives them all requests. The old instances are drained and keep running.
    type: str
    choices: [prepared, switched, stopped, migrated, beside, shared, shifted]
    default: switched
  beside:
    description: Whether the release stands by in spare instances since O(state=beside), which need not prove itself once more.
    type: bool
    default: false
  share:
    description: Part of the requests that the release gets, in percent, with O(state=shared).
    type: int
    default: 5
  share_requests:
    description: Requests that either release must have had before they are compared; fewer errors than that count where they are many.
    type: int
    default: 200
  share_seconds:
    description: How long both are watched at least, in seconds.
    type: int
    default: 30
  share_patience:
    description: After this time RV(compared) is returned, whatever there was, in seconds.
    type: int
    default: 600
  share_errors:
    description: Points of a percentage by which the new release may fail more often than the old one.
    type: float
    default: 1.0
  share_slower:
    description: Times the mean response time of the old release, and 50 ms besides, that a request may take.
    type: float
    default: 2.0
  archive:
    description: The release on the controller, a tar archive. Sent only where it is not unpacked yet; may be missing when it is.
    type: path
  services:
    description: The services of the application.
    type: list
    elements: dict
    default: []
    suboptions:
      unit:
        description: Name of the template unit without C(@.service).
        type: str
        required: true
      kind:
        description: V(web) has a port and is drained at the router, V(worker) is neither.
        type: str
        choices: [web, worker]
        default: web
      instances:
        description: Instance numbers; for services with a port, their ports.
        type: list
        elements: int
        required: true
      spare:
        description: Instance that runs during a release only; V(0) for none.
        type: int
        default: 0
      spares:
        description: How many such instances there are, counted from O(services[].spare).
        type: int
        default: 1
      port:
        description: First port; V(0) for a service without one.
        type: int
        default: 0
      health:
        description: Path that answers 200 when an instance can serve.
        type: str
        default: ""
      backend:
        description: Name at the router; its servers are named C(iPORT).
        type: str
        default: ""
  jobs:
    description:
      - Units of the application's jobs, without C(.service), with which O(state=switched) ends. Timers and units of its other jobs are
        removed; what runs of them comes to its end. Without it, jobs are left alone.
    type: list
    elements: str
  migrate:
    description: Command that brings the database to the release, run as the application's user in the release. Empty for none.
    type: str
    default: ""
  migrate_timeout:
    description: How long it may take, in seconds.
    type: int
    default: 600
  host_header:
    description: Host name with which the health path is asked.
    type: str
    default: localhost
  keep:
    description: Releases to keep, besides those in use and the one before.
    type: int
    default: 5
  router_socket:
    description: Control socket of the router; a host without it has nothing to drain.
    type: path
    default: /run/haproxy/admin.sock
  drain_timeout:
    description: How long requests of an instance may go on before it is stopped, in seconds.
    type: int
    default: 15
  healthy_timeout:
    description: How long an instance may take to become healthy, in seconds.
    type: int
    default: 60
  settle:
    description: How long a worker without a health path must stay up, in seconds.
    type: int
    default: 2
  seconds:
    description: How long the release of all hosts may take, without O(commit). So long runs with O(commit) leave this host alone.
    type: int
    default: 0
  checksum: {description: Filled in by the action plugin; do not set it., type: str, default: ""}
  holder: {description: Filled in by the action plugin; do not set it., type: dict}
  dead: {description: Filled in by the action plugin; do not set it., type: str, default: ""}
  run: {description: Filled in by the action plugin; do not set it., type: str, default: ""}
  upload: {description: Filled in by the action plugin; do not set it., type: path}
attributes:
  check_mode:
    description: Returns the same plan; touches nothing.
    support: full
  diff_mode:
    description: Shows the release before and after, and the steps.
    support: full
  platform:
    description: Target platforms.
    platforms: posix
    support: full
author:
  - The uptier.platform authors (@uptier)
"""

EXAMPLES = r"""
- name: Unpack the release
  uptier.platform.app_release:
    application: shop
    version: 1.4.2
    state: prepared
    archive: build/shop-1.4.2.tar.gz

- name: Switch to it
  uptier.platform.app_release:
    application: shop
    version: 1.4.2
    services:
      - {unit: shop-web, instances: [3000, 3001], spare: 3002, port: 3000, health: /up, backend: shop-web}
      - {unit: shop-worker, kind: worker, instances: [1]}
    migrate: node dist/migrate.js
  throttle: 1
"""

RETURN = r"""
release:
  description: Directory of the release under C(/opt/uptier/apps/APPLICATION/releases).
  returned: success
  type: str
  sample: 1.4.2
previous:
  description: The release that was current before; empty for none.
  returned: success
  type: str
  sample: 1.4.1
pending:
  description: Whether instances or the database are still to be brought to the release.
  returned: success
  type: bool
steps:
  description: What was done, or would be in check mode.
  returned: always
  type: list
  elements: str
  sample: [try shop-web@3002.service, replace shop-web@3000.service]
compared:
  description: What the V(old) and the V(new) release did in the same time, with C(requests), C(errors), C(ms) and its C(blur).
  returned: O(state=shared)
  type: dict
failure:
  description: What failed, with O(tolerate). It has V(reason) and V(said).
  returned: O(tolerate) and something failed
  type: dict
holder:
  description: Who is at work on this host.
  returned: the reason is V(under_way)
  type: dict
reason:
  description:
    - Machine-readable cause of a failure, V(under_way), V(unhealthy), V(migration_failed), V(unit_failed), V(bad_archive), V(no_release),
      V(no_user), V(router_silent), V(router_refused), V(unknown_server), V(canary),
      V(bad_version), V(locked), V(host_error) where files cannot be written, V(superseded) by a later run, or V(unreachable) with O(tolerate).
  returned: on failure
  type: str
"""

import re
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.uptier.platform.plugins.module_utils.application.canary import Limits
from ansible_collections.uptier.platform.plugins.module_utils.application.release_apply import Host, ReleaseError

SERVICE = {
    "unit": {"type": "str", "required": True},
    "kind": {"type": "str", "choices": ["web", "worker"], "default": "web"},
    "instances": {"type": "list", "elements": "int", "required": True},
    "spare": {"type": "int", "default": 0},
    "spares": {"type": "int", "default": 1},
    "port": {"type": "int", "default": 0},
    "health": {"type": "str", "default": ""},
    "backend": {"type": "str", "default": ""},
}


def prepare(module: AnsibleModule, host: Host) -> dict[str, Any]:
    release, present = host.target()
    steps = [f"created user {host.name}"] if host.user_missing() else []
    if not present:
        if not module.params["checksum"]:
            raise ReleaseError(
                "no_release",
                f"{host.name} {module.params['version']} is neither on this host nor on the controller"
                f" (archive: {module.params['archive'] or 'not given'}). Build it, or name a version that is kept: "
                f"{', '.join(host.releases()) or 'none'}.",
            )
        if not module.check_mode and not module.params["upload"]:
            return {"changed": False, "release": release, "need_archive": True}
        steps.append(f"unpacked {release}")
    if not module.check_mode:
        host.keep_out()
        host.announce()
        if host.user_missing():
            host.make_user()
        if not present:
            host.unpack(module.params["upload"], release)
    pending = not present or host.plan(release).pending or host.unmigrated(release) or host.current() != release or bool(host.former_jobs())
    return {"changed": bool(steps), "release": release, "previous": host.current(), "pending": pending, "steps": steps}


def switch(module: AnsibleModule, host: Host) -> dict[str, Any]:
    if not module.check_mode:
        host.take_lock()
        host.keep_out()
    release, present = host.target()
    if not present and not module.check_mode:
        raise ReleaseError("no_release", f"{host.name} {release} is not on this host; use state: prepared first.")
    previous, migrate = host.current(), host.unmigrated(release)
    planned = host.plan(release)
    steps = [f"migrated to {release}"] if migrate else []
    steps += [str(step) for step in [*planned.steps, *host.undrained()]]
    steps += [f"current is {release}"] if previous != release else []
    steps += [f"remove {unit}.timer" for unit in host.former_jobs()]
    if not module.check_mode:
        host.begin()
        if migrate:
            host.migrate(release)
        # What is drained and stays as it is serves before a spare instance beside it goes.
        host.put_back(planned)
        host.apply(planned, release)
        host.put_back()
        host.finish(release)
        steps = host.done
    return {"changed": bool(steps), "release": release, "previous": previous, "pending": False, "steps": steps}


def stop(module: AnsibleModule, host: Host) -> dict[str, Any]:
    steps = [f"stop {unit}@{instance}.service" for unit, found in host.seen().items() for instance, state in found.items() if state.active]
    if steps and not module.check_mode:
        host.take_lock()
        host.begin()
        host.stop()
        steps = host.done
    current = host.current()
    return {"changed": bool(steps), "release": current, "previous": current, "pending": bool(current), "steps": steps}


def aside(module: AnsibleModule, host: Host) -> dict[str, Any]:
    """Do one of the things that leave every old instance running."""
    state, share = module.params["state"], module.params["share"]
    release = host.target()[0]
    planned, migrate, told = host.standing_by(release), state == "migrated" and host.unmigrated(release), {}
    steps = [f"migrated to {release}"] if migrate else [str(step) for step in planned.steps] if state == "beside" else []
    if not module.check_mode:
        host.take_lock()
        host.begin()
        if migrate:
            host.migrate(release)
        elif state == "beside":
            host.apply(planned, release)
        elif state == "shifted":
            host.shift(release)
        elif state == "shared":
            limits = Limits(module.params["share_requests"], module.params["share_errors"], module.params["share_slower"])
            host.weigh(release, share)
            old, new = host.compare(release, share, limits, module.params["share_seconds"], module.params["share_patience"])
            told = {"compared": {"old": vars(old), "new": vars(new)}}
        steps = host.done
    return {"changed": bool(steps), "release": release, "previous": host.current(), "pending": True, "steps": steps, **told}


STATES = {
    "prepared": prepare,
    "switched": switch,
    "stopped": stop,
    "migrated": aside,
    "beside": aside,
    "shared": aside,
    "shifted": aside,
}


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "application": {"type": "str", "required": True},
            "version": {"type": "str", "required": True},
            "state": {"type": "str", "choices": list(STATES), "default": "switched"},
            "beside": {"type": "bool", "default": False},
            "share": {"type": "int", "default": 5},
            "share_requests": {"type": "int", "default": 200},
            "share_seconds": {"type": "int", "default": 30},
            "share_patience": {"type": "int", "default": 600},
            "share_errors": {"type": "float", "default": 1.0},
            "share_slower": {"type": "float", "default": 2.0},
            "declared": {"type": "str", "default": ""},
            "commit": {"type": "bool", "default": True},
            "tolerate": {"type": "bool", "default": False},
            "archive": {"type": "path"},
            "services": {"type": "list", "elements": "dict", "default": [], "options": SERVICE},
            "jobs": {"type": "list", "elements": "str"},
            "migrate": {"type": "str", "default": ""},
            "migrate_timeout": {"type": "int", "default": 600},
            "host_header": {"type": "str", "default": "localhost"},
            "keep": {"type": "int", "default": 5},
            "router_socket": {"type": "path", "default": "/run/haproxy/admin.sock"},
            "drain_timeout": {"type": "int", "default": 15},
            "healthy_timeout": {"type": "int", "default": 60},
            "settle": {"type": "int", "default": 2},
            "seconds": {"type": "int", "default": 0},
            "checksum": {"type": "str", "default": ""},
            "holder": {"type": "dict"},
            "dead": {"type": "str", "default": ""},
            "run": {"type": "str", "default": ""},
            "upload": {"type": "path"},
        },
        supports_check_mode=True,
    )
    if not re.match(r"^[A-Za-z0-9][A-Za-z0-9._-]*(\+[0-9a-f]{8})?$", module.params["version"]):
        module.fail_json(msg=f"version is {module.params['version']!r}; use letters, digits, dot, _ and -.", reason="bad_version")
    host = Host(module.run_command, module.params)
    try:
        result = STATES[module.params["state"]](module, host)
    except ReleaseError as error:
        module.fail_json(msg=str(error), reason=error.reason, steps=host.done, **({"holder": error.holder} if error.holder else {}))
    except OSError as error:
        done = ", ".join(host.done) or "nothing"
        module.fail_json(msg=f"{host.name}: {error}. Is the disk full? Done before: {done}.", reason="host_error", steps=host.done)
    before = f"{result.get('previous') or 'no release'}\n"
    after = "".join(f"{line}\n" for line in [result["release"], *result.get("steps", [])]) if result["changed"] else before
    module.exit_json(diff={"before": before, "after": after}, **result)


if __name__ == "__main__":
    main()
